"""The path of a sound, in the order of the path: block -> gate -> features -> classify -> decide.

`run` and `replay` are this code with another source. Nothing here waits, sends or touches a disk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.capture import Block
from agent.classify import Classifier
from agent.decide import Decider, Detection
from agent.features import LogMelStream
from agent.gate import Gate, GateVerdict
from agent.hearing import level_dbfs
from agent.manifest import Manifest

Int8 = NDArray[np.int8]
Float32 = NDArray[np.float32]

HOLD_S = 12.0
"""How long the noise floor stays where it is behind a window that leaned to what is alerted..."""
HOLD_SCORE = 0.8
"""...with such a score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """One stride's window: what was heard, what the model said, what was decided."""

    start: int
    """Sample clock at which the window begins."""
    end: int
    """Sample clock at which it ends."""
    outputs: Int8 | None
    """The model's bytes, shape (n_labels,); None where the gate kept the window from it, or it was left out."""
    sampled: bool
    """True where the gate was closed and the window was classified to know what the gate costs."""
    frames: Float32 | None
    """Log-mel, shape (n_frames, n_mels); None where gated out."""
    level_dbfs: float
    """RMS level of the window's last stride."""
    detections: tuple[Detection, ...]
    """What the decider made of it."""
    passed_over: bool = False
    """True where the gate let it through and it was left out all the same: to save power, or to catch up."""
    unheard: Int8 | None = None
    """What the model says of a window that the gate kept from it, where that is asked; nothing follows from it."""


@dataclass(slots=True)
class Listener:
    """Blocks in, windows out, in order and each once."""

    manifest: Manifest
    classifier: Classifier
    decider: Decider
    gate: Gate | None
    """None: every window is classified."""
    _stream: LogMelStream
    _start: int = 0
    """Where the next window begins."""
    _gated: int = 0
    """Sample clock up to which the gate has heard."""
    _heard: int = 0
    """Sample clock behind the last block."""
    _began: bool = False
    thin: bool = False
    """Whether every second window is left out, because the listener is behind."""
    every: int = 1
    """The model hears one window in so many, to save power, for as long as nothing leans to an alert."""
    _leaned: int | None = None
    """Sample clock of the last window in which the model leaned to what is alerted."""
    _passed_over: int = 0
    """Windows left out on end."""
    asks_all: bool = False
    """Whether the model is asked about gated windows too, so that one pass tells what the gate costs."""
    _alerted: list[int] = field(init=False)
    """Places among the labels of those that are alerted."""
    _lean_byte: int = field(init=False)
    """Output from which on a window leans."""
    _hold: int = field(init=False)

    def __post_init__(self) -> None:
        """Turn scores into bytes and seconds into samples, once.

        The bound is none of the thresholds, so that a journal can be decided again under other rules and the gate
        would have heard the same.
        """
        manifest = self.manifest
        self._alerted = [idx for idx, label in enumerate(manifest.labels) if manifest.rules[label].alert]
        self._lean_byte = int(np.searchsorted(self.decider.scores, HOLD_SCORE)) - 128
        self._hold = round(HOLD_S * manifest.features.sample_rate)

    @classmethod
    def of(cls, manifest: Manifest, classifier: Classifier, gate: Gate | None, *, asks_all: bool = False) -> "Listener":
        """Put the stages together as the manifest says."""
        decider = Decider(
            labels=manifest.labels,
            rules=manifest.rules,
            scores=manifest.score_table(),
            stride=manifest.stride,
            sample_rate=manifest.features.sample_rate,
        )
        return cls(manifest, classifier, decider, gate, LogMelStream(manifest.features), asks_all=asks_all)

    def push(self, block: Block) -> Iterator[Window]:
        """Take one block and yield the windows that it completes.

        Raises:
            ModelError: the model fails; that window is lost, those behind it come with the next block.
        """
        if not self._began or block.start != self._heard:
            self._begin(block.start)
        self._heard = block.start + len(block.samples)
        self._stream.push(block.samples)
        window_samples, stride = self.manifest.features.window_samples, self.manifest.stride
        while self._start + window_samples <= self._heard:
            # first: a model that fails for days must not fill the memory
            self._stream.forget(min(self._start, self._gated))
            start, self._start = self._start, self._start + stride
            yield self._window(start, start + window_samples)

    @property
    def heard(self) -> int:
        """Return the sample clock behind the last block."""
        return self._heard

    @property
    def wanted(self) -> int:
        """Return the sample clock at which the next window ends: less sound than that gives none."""
        return self._start + self.manifest.features.window_samples

    def finish(self) -> tuple[Detection, ...]:
        """Close the events that are open when the audio ends."""
        return tuple(self.decider.finish(self._heard))

    def _begin(self, start: int) -> None:
        """Begin, or begin anew behind lost audio: a window never spans a gap."""
        self._began = True
        self._start = self._gated = start
        self._stream.reset(start)
        if self.gate is not None:
            self.gate.reset(start)

    def _verdict(self, start: int, end: int) -> GateVerdict:
        """Ask the gate, which hears no more than up to the window's end: block sizes must not matter."""
        gated, self._gated = self._gated, end
        if self.gate is None:
            return GateVerdict(passes=True)
        self.gate.hold(held=self._leaned is not None and end - self._leaned <= self._hold)
        self.gate.push(self._stream.samples(gated, end))
        return self.gate.verdict(start, end)

    def _lean(self, end: int, outputs: Int8) -> None:
        """Note a window that leans to what is alerted: a steady saw must not become the noise floor."""
        if any(outputs[idx] >= self._lean_byte for idx in self._alerted):
            self._leaned = end

    def _is_left_out(self) -> bool:
        """Say whether a window is kept from the model: the decision counts it as a miss, as it does a gated one.

        A listener that is behind leaves windows out whatever they hold. One that saves power leaves none out from the
        first window that leans to an alert on, so that k of n windows are still k of n.
        """
        saving = 1 if self.decider.leans else self.every
        self._passed_over += 1
        if self._passed_over < max(saving, 2 if self.thin else 1):
            return True
        self._passed_over = 0
        return False

    def _window(self, start: int, end: int) -> Window:
        verdict = self._verdict(start, end)
        frames = outputs = unheard = None
        left_out = self._is_left_out()
        if verdict.passes and not left_out:
            frames = self._stream.window(start)
            outputs = self.classifier.outputs(frames)
            self._lean(end, outputs)
        elif self.asks_all and not verdict.passes:
            unheard = self.classifier.outputs(self._stream.window(start))
        return Window(
            start=start,
            end=end,
            outputs=outputs,
            sampled=verdict.sampled,
            frames=frames,
            level_dbfs=level_dbfs(self._stream.samples(max(start, end - self.manifest.stride), end)),
            detections=tuple(self.decider.push(end, outputs)),
            passed_over=verdict.passes and left_out,
            unheard=unheard,
        )
