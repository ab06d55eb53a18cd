"""Recordings through the same code as the microphone: what would this device have said?

The output is a contract (design): JSON objects, one a line, in order; tests and measurements read them.
"""

import json
import logging
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from agent.capture import AudioFile
from agent.decide import Detection
from agent.errors import AudioError
from agent.listen import Listener, Window
from agent.manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReplaySummary:
    """What a replay did and what it cost."""

    audio_s: float = 0.0
    """Seconds of audio heard."""
    windows: int = 0
    """Strides, gated ones included."""
    classified: int = 0
    """Windows that the model saw."""
    unreadable: int = 0
    """Files that could not be read; each is named on standard error."""


class Printer:
    """Writes the contract's lines, or sentences for people."""

    def __init__(self, out: TextIO, manifest: Manifest, *, as_json: bool, with_scores: bool) -> None:
        """Write to `out`."""
        self._out = out
        self._as_json = as_json
        self._with_scores = with_scores
        self._labels = manifest.labels
        self._rate = manifest.features.sample_rate
        self._table = [round(float(score), 4) for score in manifest.score_table()]

    def window(self, path: Path, window: Window) -> None:
        """Write one stride and the alerts that opened in it."""
        if self._with_scores:
            self._scores(path, window)
        for detection in window.detections:
            if detection.opens and detection.alert:
                self._alert(path, detection)

    def summary(self, summary: ReplaySummary, cpu_s: float, wall_s: float) -> None:
        """Write the last line."""
        peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
        fields: dict[str, object] = {
            "kind": "summary",
            "audio_s": round(summary.audio_s, 3),
            "cpu_s": round(cpu_s, 3),
            "wall_s": round(wall_s, 3),
            "windows": summary.windows,
            "classified": summary.classified,
            "peak_rss_mb": round(peak_rss_mb, 1),
        }
        if self._as_json:
            self._write(fields)
        else:
            self._say(
                f"{summary.audio_s:.1f} s of audio in {wall_s:.1f} s ({cpu_s:.2f} CPU-s): {summary.windows} windows, "
                f"{summary.classified} classified, {peak_rss_mb:.0f} MB"
            )

    def _scores(self, path: Path, window: Window) -> None:
        gated = window.outputs is None
        said = window.unheard if gated else window.outputs
        outputs = () if said is None else said.tolist()
        scores = {label: self._table[output + 128] for label, output in zip(self._labels, outputs, strict=False)}
        end_s = window.end / self._rate
        if self._as_json:
            self._write({"kind": "window", "path": str(path), "end_s": end_s, "scores": scores, "gated": gated})
        else:
            parts = [*(["gated out"] if gated else []), *(f"{label} {score:.2f}" for label, score in scores.items())]
            self._say(f"{end_s:8.1f} s  {'  '.join(parts)}  {path}")

    def _alert(self, path: Path, detection: Detection) -> None:
        onset_s, raised_s = detection.onset / self._rate, detection.raised / self._rate
        if self._as_json:
            line: dict[str, object] = {
                "kind": "alert",
                "path": str(path),
                "label": detection.label,
                "onset_s": onset_s,
                "raised_s": raised_s,
                "score": round(detection.score, 4),
            }
            self._write(line)
        else:
            self._say(f"{onset_s:8.1f} s  {detection.label} {detection.score:.2f}  {path}")

    def _write(self, line: dict[str, object]) -> None:
        self._say(json.dumps(line))

    def _say(self, text: str) -> None:
        self._out.write(text + "\n")


def heard(path: Path, listener: Listener) -> Iterator[Window]:
    """Yield every window of one recording; AudioError if it cannot be read."""
    source = AudioFile(path)
    try:
        for block in source.blocks():
            yield from listener.push(block)
    finally:
        source.close()


def replay(
    paths: Iterable[Path],
    new_listener: Callable[[], Listener],
    printer: Printer,
    keep: Callable[[Window], None],
    end: Callable[[Listener], None],
) -> ReplaySummary:
    """Play recordings in order, each as a device that has just started.

    Args:
        paths: audio files.
        new_listener: makes the stages afresh for each file.
        printer: where the lines go.
        keep: is given each window (to send its alerts, say).
        end: is given the listener when a file ends.

    Returns:
        What was heard; files that could not be read are counted, named on standard error and left out.
    """
    summary = ReplaySummary()
    for path in paths:
        listener = new_listener()
        rate = listener.manifest.features.sample_rate
        try:
            for window in heard(path, listener):
                summary.windows += 1
                summary.classified += window.outputs is not None
                printer.window(path, window)
                keep(window)
        except AudioError as error:
            summary.unreadable += 1
            log.error("%s", error)  # noqa: TRY400  # one line that names the file; the traceback tells a user nothing
        summary.audio_s += listener.heard / rate
        end(listener)
    return summary


def cpu_s() -> float:
    """Return CPU seconds of this process so far, start-up included."""
    return time.process_time()
