"""Run the agent itself over held-out tracks and say what it found, what it missed and what it imagined.

The agent is run as anyone runs it, `python -m agent replay --json --scores`: gate, features, model and decision are
those of the device, and nothing of the training side can help it.
"""

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model_export.errors import DataError
from model_export.scoring import ALERTED, Interval, Raised, Scored, per_hour, recall, score
from model_export.tracks import TrueEvent, Truth, read_truth

_WORST = 10


@dataclass(slots=True)
class Heard:
    """What the agent printed about one track."""

    alerts: list[Raised] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)
    """One per stride: end_s, scores, gated."""


@dataclass(frozen=True, slots=True)
class Result:
    """One track, heard and scored."""

    truth: Truth
    heard: Heard
    scored: Scored


def evaluate(folder: Path, model: Path, extra: Sequence[str] = ()) -> dict[str, Any]:
    """Return the whole evaluation as one JSON document.

    Args:
        folder: tracks and truths, as `tracks` wrote them.
        model: .tflite with its manifest beside it.
        extra: further arguments for `agent replay` (--no-gate, say).

    Raises:
        DataError: there are no tracks, or the agent failed.
    """
    truths = [read_truth(path) for path in sorted(folder.glob("*.json"))]
    if not truths:
        raise DataError(f"{folder}: holds no tracks; build them with `python -m model_export tracks`")
    heard, summary = replay([folder / f"{truth.name}.wav" for truth in truths], model, extra)
    results = [Result(truth, heard[truth.name], score(heard[truth.name].alerts, truth.events)) for truth in truths]
    return {
        "schema": 1,
        "model": model.name,
        "recall": [_recall_row(result) for result in results if result.truth.role in ALERTED],
        "false_alerts": _false_rows(results),
        "gate": _gate_rows(results),
        "replay": summary,
        "worst_false": _worst_false(results),
        "missed": _missed(results),
    }


def replay(tracks: Sequence[Path], model: Path, extra: Sequence[str] = ()) -> tuple[dict[str, Heard], dict[str, Any]]:
    """Return what the agent says about each track, by the track's name, and its summary line."""
    command = [sys.executable, "-m", "agent", "replay", "--json", "--scores", "--model", str(model)]
    command += [*extra, *map(str, tracks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise DataError(f"agent replay ended with {done.returncode}: {reason[0]}")
    return parse_replay(done.stdout.splitlines(), [track.stem for track in tracks])


def parse_replay(lines: Iterable[str], names: Sequence[str]) -> tuple[dict[str, Heard], dict[str, Any]]:
    """Return the alerts and windows of each named track, and the summary."""
    heard = {name: Heard() for name in names}
    summary: dict[str, Any] = {}
    for line in lines:
        said = json.loads(line)
        if said["kind"] == "summary":
            summary = {key: value for key, value in said.items() if key != "kind"}
            continue
        of = heard[Path(said["path"]).stem]
        if said["kind"] == "alert":
            raised = Raised(
                label=said["label"], raised_s=said["raised_s"], onset_s=said["onset_s"], score=said["score"]
            )
            of.alerts.append(raised)
        else:
            of.windows.append(said)
    return heard, summary


def _recall_row(result: Result) -> dict[str, Any]:
    delays = [delay for delay in result.scored.delays_s if delay is not None]
    found = [delay is not None for delay in result.scored.delays_s]
    row: dict[str, Any] = {
        "label": result.truth.role,
        "level": result.truth.level,
        "events": len(found),
        "recordings": len({event.recording for event in result.truth.events}),
        "recall": asdict(recall(found, [event.recording for event in result.truth.events])),
        "median_delay_s": float(np.median(delays)) if delays else None,
    }
    return row


def _false_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return false alerts per hour, on forest, on confusers, and between and on the events."""
    rows: list[dict[str, Any]] = []
    for role in ("background", "confusers", "engine", "chainsaw"):
        of = [result for result in results if result.truth.role == role]
        hours = sum(result.truth.duration_s for result in of) / 3_600
        for label in ALERTED:
            count = sum(alert.label == label for result in of for alert in result.scored.false)
            rows.append({"on": role, "label": label, "count": count, "hours": hours, **asdict(per_hour(count, hours))})
    return [row for row in rows if row["hours"] > 0]


def _gate_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the share of windows that the gate kept from the model: of forest, and of those inside events."""
    rows: list[dict[str, Any]] = []
    for result in results:
        windows = result.heard.windows
        inside = [window for window in windows if _inside(window["end_s"], result.truth.events)]
        chosen = inside if result.truth.events else windows
        if chosen:
            gated = sum(bool(window["gated"]) for window in chosen) / len(chosen)
            rows.append({"track": result.truth.name, "windows": len(chosen), "gated_share": gated})
    return rows


def _inside(end_s: float, events: Sequence[TrueEvent]) -> bool:
    """Say whether a window of 3 s lies within an event."""
    return any(event.onset_s + 3.0 <= end_s <= event.offset_s for event in events)


def _worst_false(results: Sequence[Result]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for result in results:
        for alert in result.scored.false:
            near = [event for event in result.truth.events if event.onset_s <= alert.raised_s <= event.offset_s + 4.5]
            rows.append(
                {
                    "track": result.truth.name,
                    "label": alert.label,
                    "at_s": alert.raised_s,
                    "score": alert.score,
                    "source": near[0].source if near else "",
                }
            )
    return sorted(rows, key=lambda row: -float(row["score"]))[: 4 * _WORST]


def _missed(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [
        {"track": result.truth.name, "onset_s": event.onset_s, "source": event.source, "best": _best(result, event)}
        for result in results
        if result.truth.role in ALERTED
        for event, delay in zip(result.truth.events, result.scored.delays_s, strict=True)
        if delay is None
    ]


def _best(result: Result, event: TrueEvent) -> float:
    """Return the second-best score of an event's label within it: what two of three would have needed."""
    scores = sorted(
        (
            window["scores"].get(event.label, 0.0)
            for window in result.heard.windows
            if event.onset_s <= window["end_s"] <= event.offset_s + 4.5
        ),
        reverse=True,
    )
    return float(scores[1]) if len(scores) > 1 else 0.0


def table(document: dict[str, Any]) -> str:
    """Return the evaluation as text for people."""
    lines = ["| sound | level | found | recall (95 % interval) | median delay |", "|---|---|---|---|---|"]
    order = {"chainsaw": 0, "engine": 1}
    for row in sorted(document["recall"], key=lambda row: (order[row["label"]], _level(row["level"]))):
        found = round(row["recall"]["value"] * row["events"])
        delay = "–" if row["median_delay_s"] is None else f"{row['median_delay_s']:.1f} s"
        of = f"{found} of {row['events']} (from {row['recordings']} recordings)"
        lines.append(f"| {row['label']} | {row['level']} | {of} | {_shown(row['recall'])} | {delay} |")
    lines += ["", "| on | alerts for | count | hours | per hour (95 % interval) |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['on']} | {row['label']} | {row['count']} | {row['hours']:.2f} | {_shown(row)} |"
        for row in document["false_alerts"]
    ]
    background = [row["gated_share"] for row in document["gate"] if row["track"] == "background"]
    if background:
        lines += ["", f"The gate kept {100 * background[0]:.0f} % of the forest's windows from the model."]
    return "\n".join(lines)


def _level(level: str) -> float:
    return math.inf if level == "far" else -float(level.split(maxsplit=1)[0])


def _shown(interval: dict[str, Any] | Interval) -> str:
    values = interval if isinstance(interval, dict) else asdict(interval)
    return f"{values['value']:.2f} ({values['low']:.2f} – {values['high']:.2f})"
