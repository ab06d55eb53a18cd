"""Tracks judged one by one become the figures that people compare: pooled over folds, each with its interval."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from model_export.evaluation import NOTHING, Evaluation, Judged
from model_export.scoring import ALERTED, Interval, per_hour, recall

_WORST = 10
_ON = ("background", "confusers", "engine", "chainsaw")


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """Return all figures of an evaluation as one JSON document."""
    tracks = evaluation.tracks
    return {
        "recall": recall_rows(tracks),
        "false_alerts": false_rows(tracks),
        "gate": gate_rows(tracks),
        "confusion": confusion(tracks),
        "calibration": {label: calibration(tracks, label) for label in ALERTED},
        "worst_false": worst_false(tracks),
        "worst_missed": worst_missed(tracks),
        "speed": speed(evaluation),
    }


def recall_rows(tracks: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return recall by label and level, with the gate and without, and the delay."""
    rows: list[dict[str, Any]] = []
    for role, level in levels(tracks):
        events = [event for track in _of(tracks, role, level) for event in track.events]
        recordings = [event.recording for event in events]
        delays = [event.delay_s for event in events if event.delay_s is not None]
        rows.append(
            {
                "label": role,
                "level": level,
                "events": len(events),
                "recordings": len(set(recordings)),
                "recall": asdict(recall([event.delay_s is not None for event in events], recordings)),
                "recall_without_gate": asdict(recall([event.delay_open_s is not None for event in events], recordings)),
                "median_delay_s": float(np.median(delays)) if delays else None,
            }
        )
    return rows


def levels(tracks: Iterable[Judged]) -> list[tuple[str, str]]:
    """Return (label, level) of all tracks with events that should be found: from loud to faint, far last."""
    found = {(track.role, track.level) for track in tracks if track.role in ALERTED}
    return sorted(found, key=lambda pair: (ALERTED.index(pair[0]), loudness(pair[1])))


def loudness(level: str) -> float:
    """Return by what levels are sorted: from loud to faint, far last."""
    return math.inf if level == "far" else -float(level.split(maxsplit=1)[0])


def _of(tracks: Iterable[Judged], role: str, level: str) -> list[Judged]:
    return [track for track in tracks if track.role == role and track.level == level]


def false_rows(tracks: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return false alerts per hour, on forest, on confusers, and between and on the events."""
    rows: list[dict[str, Any]] = []
    for role in _ON:
        of = [track for track in tracks if track.role == role]
        hours = sum(track.duration_s for track in of) / 3_600
        for label in ALERTED:
            count = sum(alert.label == label for track in of for alert in track.false)
            without = sum(track.false_open[label] for track in of)
            rows.append(
                {
                    "on": role,
                    "label": label,
                    "count": count,
                    "without_gate": without,
                    "hours": hours,
                    **asdict(per_hour(count, hours)),
                }
            )
    return [row for row in rows if row["hours"] > 0]


def gate_rows(tracks: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return the share of windows that the gate kept from the model: of forest, and of those within events."""
    rows: list[dict[str, Any]] = []
    forest = [track for track in tracks if track.role == "background"]
    if forest:
        rows.append(_gate_row("forest", "", sum(t.gated for t in forest), sum(t.windows for t in forest)))
    for role, level in levels(tracks):
        of = _of(tracks, role, level)
        rows.append(_gate_row(role, level, sum(t.inside_gated for t in of), sum(t.inside for t in of)))
    return rows


def _gate_row(on: str, level: str, gated: int, windows: int) -> dict[str, Any]:
    return {"on": on, "level": level, "windows": windows, "gated": gated, "share": gated / max(1, windows)}


def confusion(tracks: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """Return truth -> said -> windows, of events at 10 dB, confusers and forest."""
    total: dict[str, dict[str, int]] = {}
    for track in tracks:
        if track.role in ALERTED and track.level != "10 dB":
            continue
        for truth, row in track.confusion.items():
            into = total.setdefault(truth, dict.fromkeys((*ALERTED, NOTHING), 0))
            for said, count in row.items():
                into[said] += count
    return total


def calibration(tracks: Sequence[Judged], label: str) -> dict[str, Any]:
    """Return per tenth of score how many windows, their mean score and the share that is true; and the mean gap."""
    bins = np.zeros((10, 3))
    for track in tracks:
        if label in track.calibration:
            bins += np.array(track.calibration[label])
    filled = bins[:, 0] > 0
    gap = np.abs(bins[filled, 1] - bins[filled, 2]).sum() / max(1.0, bins[:, 0].sum())
    return {
        "bins": [
            {"windows": int(n), "mean_score": total / n if n else None, "true_share": true / n if n else None}
            for n, total, true in bins.tolist()
        ],
        "expected_calibration_error": float(gap),
    }


def worst_false(tracks: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return the false alerts with the highest scores, ten of each label."""
    rows = [{"fold": track.fold, "track": track.track, **asdict(alert)} for track in tracks for alert in track.false]
    return _ten_of_each(rows, lambda row: -float(row["score"]))


def worst_missed(tracks: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return the loudest events that were missed, the surest miss first, ten of each label, a recording once."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for track in sorted(tracks, key=lambda track: loudness(track.level) if track.level else 0):
        for event in sorted(track.events, key=lambda event: event.best):
            if event.delay_s is None and (track.role, event.recording) not in rows:
                row = {"fold": track.fold, "track": track.track, "label": track.role, "at_s": event.onset_s}
                row |= {"score": event.best, "source": event.source, "level": track.level}
                rows[track.role, event.recording] = row
    return _ten_of_each(list(rows.values()), lambda row: (loudness(row["level"]), row["score"]))


def _ten_of_each(rows: list[dict[str, Any]], key: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
    return [
        row for label in ALERTED for row in sorted((one for one in rows if one["label"] == label), key=key)[:_WORST]
    ]


def speed(evaluation: Evaluation) -> dict[str, float]:
    """Return how much faster than real time the whole evaluation ran on one core."""
    cost = evaluation.cost
    # evaluations that were kept before the agent told all in one run had a second one, with the gate off
    cpu_s = cost.get("cpu_s", 0.0) + cost.get("open_cpu_s", 0.0)
    audio_s = cost.get("audio_s", 0.0)
    return {"audio_h": audio_s / 3_600, "cpu_s": cpu_s, "times_real_time": audio_s / cpu_s if cpu_s else 0.0}


def table(summary: dict[str, Any]) -> str:
    """Return the figures as Markdown for people."""
    lines = [
        "| sound | level | found | recall (95 % interval) | without the gate | median delay |",
        "|---|---|---|---|---|---|",
    ]
    for row in summary["recall"]:
        found = round(row["recall"]["value"] * row["events"])
        delay = "–" if row["median_delay_s"] is None else f"{row['median_delay_s']:.1f} s"
        lines.append(
            f"| {row['label']} | {row['level']} | {found} of {row['events']} (from {row['recordings']} recordings) "
            f"| {shown(row['recall'])} | {row['recall_without_gate']['value']:.2f} | {delay} |"
        )
    lines += [
        "",
        "| alerts for | on | count | hours | per hour (95 % interval) | without the gate |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['label']} | {row['on']} | {row['count']} | {row['hours']:.2f} | {shown(row)} | {row['without_gate']} |"
        for row in summary["false_alerts"]
    ]
    lines += ["", "| the gate keeps from the model | of windows | share |", "|---|---|---|"]
    lines += [
        f"| {row['on']} {row['level']} | {row['gated']} of {row['windows']} | {100 * row['share']:.1f} % |"
        for row in summary["gate"]
    ]
    return "\n".join(lines)


def details(summary: dict[str, Any]) -> str:
    """Return confusion, calibration, and the worst ten, as Markdown."""
    said = (*ALERTED, NOTHING)
    lines = [f"| windows of | {' | '.join(f'say {name}' for name in said)} |", "|---" * (len(said) + 1) + "|"]
    for truth, row in summary["confusion"].items():
        total = max(1, sum(row.values()))
        cells = " | ".join(f"{row[name]} ({100 * row[name] / total:.1f} %)" for name in said)
        lines.append(f"| {truth} | {cells} |")
    lines += ["", "| label | " + " | ".join(f"{n / 10:.1f}–{(n + 1) / 10:.1f}" for n in range(10)) + " | mean gap |"]
    lines.append("|---" * 12 + "|")
    for label, found in summary["calibration"].items():
        cells = " | ".join("–" if one["true_share"] is None else f"{one['true_share']:.2f}" for one in found["bins"])
        lines.append(f"| {label} | {cells} | {found['expected_calibration_error']:.3f} |")
    for title, key in (("false alert", "worst_false"), ("miss", "worst_missed")):
        lines += ["", f"| {title}: label | score | fold, track | at | clip |", "|---|---|---|---|---|"]
        lines += [
            f"| {row['label']} | {row['score']:.2f} | {row['fold']}, {row['track']} | {row['at_s']:.1f} s "
            f"| {row['source'] or 'forest alone'} |"
            for row in summary[key]
        ]
    return "\n".join(lines)


def shown(interval: dict[str, Any] | Interval) -> str:
    """Return a figure with its interval as text."""
    values = interval if isinstance(interval, dict) else asdict(interval)
    return f"{values['value']:.2f} ({values['low']:.2f}–{values['high']:.2f})"


def side_by_side(evaluations: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Return several models on the same tracks as one Markdown table."""
    rows = evaluations[0][1]["recall"]
    head = [f"{row['label']} {row['level']}" for row in rows]
    lines = [f"| model | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for name, summary in evaluations:
        values = {(row["label"], row["level"]): row["recall"]["value"] for row in summary["recall"]}
        cells = " | ".join(f"{values.get((row['label'], row['level']), math.nan):.2f}" for row in rows)
        lines.append(f"| {name} | {cells} |")
    on = [(row["label"], row["on"]) for row in evaluations[0][1]["false_alerts"]]
    lines += ["", f"| false alerts per hour | {' | '.join(f'{label} on {role}' for label, role in on)} |"]
    lines.append("|---" * (len(on) + 1) + "|")
    for name, summary in evaluations:
        values = {(row["label"], row["on"]): row["value"] for row in summary["false_alerts"]}
        lines.append(f"| {name} | {' | '.join(f'{values.get(pair, math.nan):.2f}' for pair in on)} |")
    return "\n".join(lines)
