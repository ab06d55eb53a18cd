"""`python -m agent watch`: what the device hears now, in a terminal: level, gate, scores, decision.

The agent's own reader and loop; nothing is kept and nothing is sent. On a terminal the picture is written over, else
it is one line a window.
"""

import argparse
import logging
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from agent.capture import SAMPLE_RATE, AudioFile, AudioSource, Paced, Reader, open_source
from agent.classify import load_classifier
from agent.config import AgentConfig, read_config
from agent.decide import LabelRule, Standing
from agent.errors import ConfigError
from agent.gate import Gate, webrtc_vad
from agent.hearing import SILENCE_DBFS, Hearing, level_dbfs
from agent.listen import Listener, Window
from agent.manifest import load_model
from agent.meter import bar

DONE, NO = 0, 1
_WAIT_S = 2.0
_WIDTH = 30
_FILE_BLOCK_S = 0.5


@dataclass(slots=True)
class View:
    """What there is to see; brought up to date with every block and window."""

    source: str
    model: str
    labels: tuple[str, ...]
    rules: dict[str, LabelRule]
    heard_s: float = 0.0
    level_dbfs: float = SILENCE_DBFS
    gate: str = "-"
    scores: dict[str, float] = field(default_factory=dict[str, float])
    """Of the last window; empty where the gate kept it from the model."""
    standings: dict[str, Standing] = field(default_factory=dict[str, Standing])
    since_s: dict[str, float] = field(default_factory=dict[str, float])
    """By label, of open events: when they began."""
    past: str = ""
    """The last event, in words."""
    states: tuple[str, ...] = ()

    def picture(self) -> list[str]:
        """Return the lines of the screen; always as many."""
        lines = [
            f"{self.source}   {_clock(self.heard_s)} heard   model {self.model}",
            f"{'level':<10}{bar(self.level_dbfs, _WIDTH)} {self.level_dbfs:5.0f} dBFS",
            f"{'gate':<10}{self.gate}",
        ]
        lines += [self._score(label) for label in self.labels]
        lines.append(f"{'decision':<10}{self.decision()}")
        lines.append(f"{'hearing':<10}{', '.join(self.states).replace('_', ' ') or 'well'}")
        return lines

    def line(self) -> str:
        """Return the window as one line."""
        scores = "  ".join(f"{label} {score:.4f}" for label, score in self.scores.items()) or "-"
        states = f"  [{', '.join(self.states)}]" if self.states else ""
        return (
            f"{_clock(self.heard_s)}  {self.level_dbfs:6.1f} dBFS  gate {self.gate:<8}  {scores}  {self.decision()}"
            f"{states}"
        )

    def decision(self) -> str:
        """Return what is decided now, or was last."""
        open_now = [f"{label} since {_clock(since_s)}" for label, since_s in self.since_s.items()]
        return "; ".join(open_now) or (f"quiet ({self.past})" if self.past else "quiet")

    def _score(self, label: str) -> str:
        rule, standing = self.rules[label], self.standings.get(label)
        if label not in self.scores:
            return f"{label:<10}[{' ' * _WIDTH}]"
        score = self.scores[label]
        drawn = list("#" * round(score * _WIDTH) + "-" * (_WIDTH - round(score * _WIDTH)))
        drawn[min(round(rule.threshold * _WIDTH), _WIDTH - 1)] = "|"
        hits = (
            f"  {standing.hits} of {rule.hits} hits"
            if standing is not None and standing.hits and not standing.is_open
            else ""
        )
        return f"{label:<10}[{''.join(drawn)}] {score:.4f}{hits}"


@dataclass(slots=True)
class Screen:
    """Where a view is written: over the last one on a terminal, line by line elsewhere."""

    out: TextIO
    _height: int = 0

    def block(self, view: View) -> None:
        """A block has come: the level moves."""
        if self.out.isatty():
            self._draw(view.picture())

    def window(self, view: View) -> None:
        """A window has come."""
        if self.out.isatty():
            self._draw(view.picture())
        else:
            self.out.write(view.line() + "\n")
            self.out.flush()

    def _draw(self, lines: list[str]) -> None:
        up = f"\x1b[{self._height}A" if self._height else ""
        self.out.write(up + "".join(f"\r\x1b[K{line}\n" for line in lines))
        self.out.flush()
        self._height = len(lines)


def watch(reader: Reader, listener: Listener, view: View, screen: Screen, *, longest_s: float, most: float) -> None:
    """Listen, and show what is heard, until the sound ends.

    Args:
        reader: started here, closed by the caller.
        listener: the stages.
        view: is kept up to date.
        screen: where it is shown.
        longest_s: seconds of sound after which to stop.
        most: windows after which to stop.
    """
    hearing, n_windows = Hearing(), 0
    reader.start()
    while view.heard_s < longest_s and n_windows < most and not reader.ended:
        block = reader.get(_WAIT_S)
        if block is None:
            view.states = ("no audio",)
            screen.block(view)
            continue
        view.heard_s += len(block.samples) / SAMPLE_RATE
        view.level_dbfs = level_dbfs(block.samples)
        hearing.push(block)
        view.states = hearing.states
        screen.block(view)
        for window in listener.push(block):
            see(view, listener, window)
            screen.window(view)
            n_windows += 1


def see(view: View, listener: Listener, window: Window) -> None:
    """Bring a view up to date with a window."""
    table, rate = listener.decider.scores, listener.manifest.features.sample_rate
    view.gate = ("sampled" if window.sampled else "open") if window.outputs is not None else "closed"
    outputs = () if window.outputs is None else window.outputs.tolist()
    view.scores = {label: float(table[output + 128]) for label, output in zip(view.labels, outputs, strict=False)}
    view.standings = {label: listener.decider.standing(label) for label in view.labels}
    for found in window.detections:
        if found.opens:
            view.since_s[found.label] = found.onset / rate
        else:
            view.since_s.pop(found.label, None)
            what = "alert" if found.alert else "no alert: never reported"
            view.past = f"{found.label} {found.score:.2f} at {_clock(found.onset / rate)}, {what}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def describe(parser: argparse.ArgumentParser) -> None:
    """Say what the command does and takes."""
    parser.description = (
        "Shows what the device hears now, through the agent's own reader, gate, model and decision. "
        "Nothing is kept and nothing is sent. The microphone must be free: stop a running agent first."
    )
    parser.epilog = "Example: python -m agent watch --config ipe-07.yaml, or: python -m agent watch night.wav --fast"
    parser.add_argument("path", nargs="?", type=Path, metavar="FILE", help="a recording, instead of the microphone")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the device's YAML file; without it, defaults")
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="N", help="stop after N seconds of sound")
    parser.add_argument("--once", action="store_true", help="stop after the first window")
    parser.add_argument("--fast", action="store_true", help="a recording as fast as it can be read")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Watch until the sound ends, the time is over, or Ctrl-C."""
    if options.fast and options.path is None:
        raise ConfigError("--fast: is for a recording; name a FILE")
    logging.getLogger("agent").setLevel(logging.ERROR)
    config = read_config(options.config) if options.config else AgentConfig()
    manifest, content = load_model(config.listen.model)
    vad = webrtc_vad(manifest.gate.vad_mode) if config.listen.vad else None
    listener = Listener.of(
        manifest, load_classifier(manifest, content), Gate(manifest.gate, vad) if config.listen.gate else None
    )
    source = _source(config, options.path, fast=options.fast)
    opened: Iterator[AudioSource] = iter((source,))
    reader = Reader(_again(opened, config, options.path), drop_oldest=source.live)
    view = View(
        source=source.name,
        model=f"{manifest.name} {manifest.digest}",
        labels=manifest.labels,
        rules=dict(manifest.rules),
    )
    try:
        most = 1 if options.once else math.inf
        watch(reader, listener, view, Screen(sys.stdout), longest_s=options.seconds, most=most)
    except KeyboardInterrupt:
        return DONE
    finally:
        reader.close()
    if reader.ended and reader.last_error is not None:
        raise reader.last_error
    return DONE if view.heard_s else NO


def _source(config: AgentConfig, path: Path | None, *, fast: bool) -> AudioSource:
    if path is None:
        return open_source(config.capture)
    recording = AudioFile(path, _FILE_BLOCK_S)
    return recording if fast else Paced(recording)


def _again(opened: Iterator[AudioSource], config: AgentConfig, path: Path | None) -> Callable[[], AudioSource]:
    """Return what opens the source: the one that is open already, then new ones."""
    return lambda: next(opened, None) or _source(config, path, fast=False)
