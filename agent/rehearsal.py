"""A synthesised saw through the agent's own reader and loop, and what each stage made of it; `drill` sends the rest.

Forest first, from which the gate learns its floor, then the saw, then forest again, so that the event closes.
"""

import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agent import synth
from agent.acoustics import rms_dbfs
from agent.alert import Alert
from agent.capture import SAMPLE_RATE, AudioSource, Block, Float32, Reader
from agent.classify import Classifier
from agent.errors import CaptureError
from agent.gate import Gate
from agent.hearing import SILENCE_DBFS, Hearing, level_dbfs
from agent.listen import Int8, Listener, Window
from agent.manifest import Manifest
from agent.meter import bar
from agent.report import Reporter

LABEL = "chainsaw"
BEFORE_S = 15.0
"""Forest before the saw: the gate learns its noise floor from it."""
AFTER_S = 9.0
"""Forest behind it, so that the event closes."""
_SNR_DB = 15.0
_SEED = 1142
_BLOCK = SAMPLE_RATE // 2
_SLOWEST_READ_S = 12.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What one stage made of the saw."""

    name: str
    good: bool
    text: str
    took_s: float
    """Seconds that this stage needed for all of the drill's sound; of `decision`: from the saw's onset, as heard."""
    cure: str = ""
    """What to do where it is not good."""


def scene() -> Float32:
    """Return forest with the drill's saw in it, shape (n_samples,), 16 kHz, always the same."""
    rng = np.random.Generator(np.random.PCG64(_SEED))
    saw = synth.drill_saw()
    forest = synth.forest(BEFORE_S + len(saw) / SAMPLE_RATE + AFTER_S, rng)
    start = round(BEFORE_S * SAMPLE_RATE)
    under = forest[start : start + len(saw)]
    gain_db = rms_dbfs(under) + _SNR_DB - rms_dbfs(saw)
    forest[start : start + len(saw)] += saw * np.float32(10.0 ** (gain_db / 20.0))
    loudest = float(np.abs(forest).max())
    return forest * np.float32(0.9 / loudest) if loudest > 0.9 else forest


class Synthesised:
    """The drill's scene as a source."""

    name = "synthesised forest with a saw"
    live = False

    def blocks(self) -> Iterator[Block]:
        """Yield the scene in blocks of half a second."""
        samples = scene()
        for start in range(0, len(samples), _BLOCK):
            yield Block(start=start, samples=samples[start : start + _BLOCK])

    def close(self) -> None:
        """Nothing is held."""


class Speaker:
    """Plays the saw aloud while the microphone listens."""

    def __init__(self, module: Any = None) -> None:  # noqa: ANN401  # sounddevice has no types
        """Find the loudspeaker; CaptureError if there is none."""
        try:
            self._module = module or importlib.import_module("sounddevice")
        except (ImportError, OSError) as error:
            raise CaptureError(f"--speaker: sounddevice cannot be used: {error}; install libportaudio2") from error

    def play(self) -> None:
        """Begin to play; returns at once."""
        saw = synth.drill_saw()
        loud = saw * np.float32(0.9 / max(float(np.abs(saw).max()), 1e-6))
        try:
            self._module.play(loud, SAMPLE_RATE)
        except self._module.PortAudioError as error:
            raise CaptureError(f"--speaker: cannot play: {error}") from error

    def stop(self) -> None:
        """Be quiet."""
        self._module.stop()


@dataclass(slots=True)
class Timed:
    """A classifier whose time is counted."""

    inner: Classifier
    took_s: float = 0.0
    count: int = 0

    def outputs(self, frames: Float32) -> Int8:
        """Return the inner one's answer."""
        began_s = time.perf_counter()
        answer = self.inner.outputs(frames)
        self.took_s += time.perf_counter() - began_s
        self.count += 1
        return answer


@dataclass(slots=True)
class Heard:
    """What came out of the loop."""

    windows: list[Window] = field(default_factory=list[Window])
    alerts: list[Alert] = field(default_factory=list[Alert])
    states: set[str] = field(default_factory=set[str])
    """Named states of the hearing that held."""
    sound_s: float = 0.0
    loudest_dbfs: float = SILENCE_DBFS
    waited_s: float = 0.0
    """For sound."""
    worked_s: float = 0.0
    """In gate, features, model and decision."""
    model_s: float = 0.0
    problem: str = ""
    """Why the sound ended early."""


def listen(
    source: AudioSource,
    manifest: Manifest,
    classifier: Classifier,
    gate: Gate | None,
    reporter: Reporter,
    *,
    at_saw: Callable[[], None] = lambda: None,
    show: Callable[[str], None] = lambda _: None,
) -> Heard:
    """Hear the scene through the agent's own reader and loop; stop when the event has closed or the time is over.

    Args:
        source: the synthesised scene, or a microphone.
        manifest: of the model.
        classifier: the model.
        gate: None: every window is classified.
        reporter: makes the alerts; flagged as a drill.
        at_saw: called once when the forest before the saw has been heard.
        show: is given a line about every block.
    """
    heard, hearing, timed = Heard(), Hearing(), Timed(classifier)
    listener = Listener.of(manifest, timed, gate)
    longest_s = BEFORE_S + synth.DRILL_SECONDS + AFTER_S
    reader = Reader(lambda: source, drop_oldest=source.live)
    reader.start()
    try:
        while heard.sound_s < longest_s:
            began_s = time.perf_counter()
            block = reader.get(_SLOWEST_READ_S)
            heard.waited_s += time.perf_counter() - began_s
            if block is None:
                if heard.sound_s == 0.0 or source.live:
                    heard.problem = str(reader.last_error or f"no sound came for {_SLOWEST_READ_S:.0f} s")
                break
            before_s, heard.sound_s = heard.sound_s, heard.sound_s + len(block.samples) / SAMPLE_RATE
            if before_s < BEFORE_S <= heard.sound_s:
                at_saw()
            _hear(heard, listener, hearing, block, reporter, show)
    finally:
        reader.close()
    heard.alerts += reporter.closings(listener.finish(), heard.loudest_dbfs)
    heard.model_s = timed.took_s
    return heard


def _hear(
    heard: Heard, listener: Listener, hearing: Hearing, block: Block, reporter: Reporter, show: Callable[[str], None]
) -> None:
    level = level_dbfs(block.samples)
    heard.loudest_dbfs = max(heard.loudest_dbfs, level)
    hearing.push(block)
    heard.states.update(hearing.states)
    show(f"  {heard.sound_s:5.1f} s {bar(level)} {level:4.0f} dBFS")
    began_s = time.perf_counter()
    for window in listener.push(block):
        heard.windows.append(window)
        heard.alerts += reporter.alerts(window)
    heard.worked_s += time.perf_counter() - began_s


def judge(heard: Heard, manifest: Manifest) -> list[Stage]:
    """Return what capture, gate, model and decision made of the saw; where no sound came there is no more to say."""
    if not heard.windows:
        return [_capture(heard)]
    return [_capture(heard), _gate(heard), _model(heard, manifest), _decision(heard, manifest)]


def _capture(heard: Heard) -> Stage:
    states = ", ".join(sorted(heard.states)).replace("_", " ")
    text = f"{heard.sound_s:.1f} s of sound, loudest {heard.loudest_dbfs:.0f} dBFS"
    return Stage(
        name="capture",
        good=not heard.problem and not heard.states and heard.sound_s > BEFORE_S,
        text=heard.problem or (f"{text}; {states}" if states else text),
        took_s=heard.waited_s,
        cure="`python -m agent doctor` looks at the microphone",
    )


def _with_saw(heard: Heard) -> list[Window]:
    """Return the windows that hold the saw and little else."""
    from_s, to_s = BEFORE_S, BEFORE_S + synth.DRILL_SECONDS
    return [
        window
        for window in heard.windows
        if window.start / SAMPLE_RATE >= from_s and window.end / SAMPLE_RATE <= to_s + 1.0
    ]


def _gate(heard: Heard) -> Stage:
    saw = _with_saw(heard)
    passed = sum(window.outputs is not None and not window.sampled for window in saw)
    return Stage(
        name="gate",
        good=passed > 0,
        text=f"{passed} of the saw's {len(saw)} windows passed",
        took_s=max(0.0, heard.worked_s - heard.model_s),
        cure="nothing stood out from the background: turn the loudspeaker up, or come nearer",
    )


def _model(heard: Heard, manifest: Manifest) -> Stage:
    table, idx = manifest.score_table(), manifest.labels.index(LABEL)
    scores = [float(table[int(window.outputs[idx]) + 128]) for window in heard.windows if window.outputs is not None]
    threshold = manifest.rules[LABEL].threshold
    hits = sum(score >= threshold for score in scores)
    best = max(scores, default=0.0)
    return Stage(
        name="model",
        good=hits > 0,
        text=f"{LABEL} {best:.4f} at best, {hits} of {len(scores)} windows at {threshold:g} or more",
        took_s=heard.model_s,
        cure="the model does not know this sound here; with --speaker: a phone's loudspeaker has no bass, try a larger",
    )


def _decision(heard: Heard, manifest: Manifest) -> Stage:
    opened = next((alert for alert in heard.alerts if alert.revision == 0 and alert.label == LABEL), None)
    rule = manifest.rules[LABEL]
    if opened is None:
        missing = f"no alert: {rule.hits} of {rule.of} windows at {rule.threshold:g} were needed"
        return Stage(name="decision", good=False, text=missing, took_s=0.0, cure="see what gate and model say")
    delay_s = opened.raised_s - opened.onset_s
    return Stage(
        name="decision", good=True, text=f"alert {delay_s:.1f} s after the onset that was heard", took_s=delay_s
    )
