"""Run the agent itself over held-out tracks and say what it found, what it missed and what it imagined.

The agent is run as anyone runs it, `python -m agent replay --json --scores`: gate, features, model and decision are
those of the device, and nothing of the training side can help it. It is asked about the windows that the gate keeps
from the model as well (`--gated-too`): the agent's decider on all of them says what the gate costs, without a second
run. What comes out is one `Judged` per track, plain numbers that are kept, pooled and compared.
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.decide import LabelRule
from agent.manifest import load_model
from model_export import heard
from model_export.errors import DataError
from model_export.operating import Axis, last_ones
from model_export.scoring import ALERTED, COLLAR_S, Raised, score
from model_export.tracks import TrueEvent, Truth, read_truth

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

NOTHING = "nothing"
"""What a window says that says no label."""
_COSTS = ("audio_s", "cpu_s", "wall_s")
"""What the agent's summary says of them."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said about one track."""

    alerts: tuple[Raised, ...]
    scores: Float64
    """Shape (n_windows, n_labels), one row a stride; NaN where the gate kept the window from the model."""

    @property
    def gated(self) -> Bool:
        """Return which windows the gate kept from the model, shape (n_windows,)."""
        gated: Bool = np.asarray(np.isnan(self.scores).all(axis=1))
        return gated


@dataclass(frozen=True, slots=True)
class Said:
    """What the agent said about one track: as the device that it is, and about every window."""

    heard: Heard
    all_scores: Float64
    """Shape (n_windows, n_labels), those of gated windows among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedEvent:
    """One event of a track and what became of it."""

    source: str
    recording: str
    onset_s: float
    delay_s: float | None
    """From its onset to the alert; None where it was missed."""
    delay_open_s: float | None
    """The same with the gate off."""
    best: float
    """Its best k-of-n score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FalseAlert:
    """An alert that belongs to nothing."""

    label: str
    at_s: float
    score: float
    source: str
    """The clip that was heard then, or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One track as one model heard it."""

    fold: int
    track: str
    role: str
    level: str
    duration_s: float
    windows: int
    gated: int
    inside: int
    """Windows that lie wholly within an event..."""
    inside_gated: int
    """...and were kept from the model."""
    events: tuple[JudgedEvent, ...]
    false: tuple[FalseAlert, ...]
    false_open: dict[str, int]
    """False alerts of each label with the gate off."""
    confusion: dict[str, dict[str, int]]
    """Truth -> said -> windows, with the gate off."""
    calibration: dict[str, list[list[float]]]
    """Label -> ten bins of score: [windows, sum of scores, windows where it is true]."""

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Judged":
        """Read what `asdict` wrote."""
        values = dict(document)
        values["events"] = tuple(JudgedEvent(**event) for event in document["events"])
        values["false"] = tuple(FalseAlert(**alert) for alert in document["false"])
        return cls(**values)


def read_truths(folder: Path) -> list[Truth]:
    """Return the truths of a folder of tracks; DataError if there are none."""
    truths = [read_truth(path) for path in sorted(folder.glob("*.json"))]
    if not truths:
        raise DataError(f"{folder}: holds no tracks; build them with `python -m model_export tracks`")
    return truths


def refuse_known(model: Path, truths: Sequence[Truth]) -> None:
    """Raise DataError if the model was trained on anything in these tracks."""
    manifest, _ = load_model(model)
    heard.refuse_known(manifest.metrics, {mark: name for truth in truths for mark, name in truth.marks.items()})


def listen(folder: Path, truths: Sequence[Truth], model: Path) -> tuple[dict[str, Said], dict[str, float]]:
    """Return what the agent says about each track, by its name and in their order, and what that cost in all.

    Args:
        folder: where the tracks' WAV files are.
        truths: which of them; each is heard as by a device that has just started.
        model: .tflite with its manifest beside it.

    Raises:
        DataError: the agent failed.
    """
    from tqdm import tqdm

    manifest, _ = load_model(model)
    paths = {str(folder / f"{truth.name}.wav"): truth.name for truth in truths}
    axis = Axis.of(manifest)
    total = sum(axis.windows(truth.duration_s) for truth in truths)
    with tqdm(total=total, desc="listening", unit="window", mininterval=1) as bar:
        said, cost = parse_replay(_replay(model, list(paths)), manifest.labels, bar.update)
    missing = [name for path, name in paths.items() if path not in said]
    if missing:
        raise DataError(f"{folder}: agent replay said nothing about {', '.join(missing)}")
    return {name: said[path] for path, name in paths.items()}, {key: float(cost[key]) for key in _COSTS}


def _replay(model: Path, tracks: Sequence[str]) -> Iterable[str]:
    """Yield the lines of `agent replay` as they come; DataError if it fails."""
    command = [sys.executable, "-m", "agent", "replay", "--json", "--scores", "--gated-too", "--model", str(model)]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        with subprocess.Popen([*command, *tracks], stdout=subprocess.PIPE, stderr=complaints, text=True) as agent:
            if agent.stdout is not None:
                yield from agent.stdout
        if agent.returncode != 0:
            complaints.seek(0)
            reason = complaints.read().strip().splitlines()[-1:] or ["it said nothing"]
            raise DataError(f"agent replay ended with {agent.returncode}: {reason[0]}")


def parse_replay(
    lines: Iterable[str], labels: Sequence[str], step: Callable[[], object] = lambda: None
) -> tuple[dict[str, Said], dict[str, Any]]:
    """Return what `replay --json --scores --gated-too` said of each recording, by its path, and its summary.

    Args:
        lines: its output.
        labels: the columns of the scores.
        step: called for each window.
    """
    alerts: dict[str, list[Raised]] = defaultdict(list)
    windows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    summary: dict[str, Any] = {}
    for line in lines:
        said = json.loads(line)
        if said["kind"] == "summary":
            summary = {key: value for key, value in said.items() if key != "kind"}
        elif said["kind"] == "alert":
            alerts[said["path"]].append(
                Raised(label=said["label"], raised_s=said["raised_s"], onset_s=said["onset_s"], score=said["score"])
            )
        else:
            windows[said["path"]].append(said)
            step()
    return {path: _together(alerts[path], of, labels) for path, of in windows.items()}, summary


def _together(alerts: Sequence[Raised], windows: Sequence[dict[str, Any]], labels: Sequence[str]) -> Said:
    """Return what the alerts and windows of one recording say together; there is at least one window."""
    scores = np.array([[window["scores"].get(label, np.nan) for label in labels] for window in windows], np.float64)
    gated = np.array([[window["gated"]] for window in windows])
    return Said(Heard(tuple(alerts), np.where(gated, np.nan, scores)), scores)


def decided(scores: Float64, rules: dict[str, LabelRule], axis: Axis) -> Heard:
    """Return what the agent's decider makes of scores, NaN being gated out: another threshold, another model."""
    gated: Bool = np.asarray(np.isnan(scores).all(axis=1))
    outputs = axis.to_bytes(scores)
    alerts: list[Raised] = []
    for label, raised_s in axis.raised(outputs, gated, rules):
        row = round((raised_s - axis.window_s) / axis.stride_s)
        recent = scores[max(0, row - rules[label].looks_at + 1) : row + 1, axis.labels.index(label)]
        alerts.append(Raised(label=label, raised_s=raised_s, onset_s=raised_s, score=float(np.nanmax(recent))))
    return Heard(tuple(alerts), scores)


def judge(fold: int, truth: Truth, gated: Heard, everything: Heard, rules: dict[str, LabelRule], axis: Axis) -> Judged:
    """Score one track.

    Args:
        fold: whose strangers are in it; 0 without folds.
        truth: what is in the track.
        gated: what the device said.
        everything: the same with the gate off.
        rules: the operating point, for the confusion matrix.
        axis: how to read the windows.
    """
    scored, scored_open = score(gated.alerts, truth.events), score(everything.alerts, truth.events)
    ends: Float64 = axis.window_s + axis.stride_s * np.arange(len(gated.scores), dtype=np.float64)
    inside = within(ends, truth.events, axis.window_s)
    events = tuple(
        JudgedEvent(
            source=event.source,
            recording=event.recording,
            onset_s=event.onset_s,
            delay_s=delay_s,
            delay_open_s=delay_open_s,
            best=_best(everything.scores, ends, event, rules, axis),
        )
        for event, delay_s, delay_open_s in zip(truth.events, scored.delays_s, scored_open.delays_s, strict=True)
        if event.label in ALERTED
    )
    return Judged(
        fold=fold,
        track=truth.name,
        role=truth.role,
        level=truth.level,
        duration_s=truth.duration_s,
        windows=len(ends),
        gated=int(gated.gated.sum()),
        inside=int(inside.sum()),
        inside_gated=int((inside & gated.gated).sum()),
        events=events,
        false=tuple(_false(alert, truth) for alert in scored.false),
        false_open={label: sum(alert.label == label for alert in scored_open.false) for label in ALERTED},
        confusion=_confusion(everything.scores, ends, truth, rules, axis),
        calibration=_calibration(everything.scores, ends, truth, axis),
    )


def _false(alert: Raised, truth: Truth) -> FalseAlert:
    near = [event for event in truth.events if event.onset_s <= alert.raised_s <= event.offset_s + COLLAR_S]
    return FalseAlert(
        label=alert.label,
        at_s=alert.raised_s,
        score=round(alert.score, 4),
        source=near[0].source if near else "",
    )


def within(ends_s: Float64, events: Sequence[TrueEvent], window_s: float) -> Bool:
    """Say which windows, by their ends, lie wholly within an event, shape (n_windows,)."""
    inside = np.zeros(len(ends_s), bool)
    for event in events:
        inside |= (ends_s - window_s >= event.onset_s - 1e-6) & (ends_s <= event.offset_s + 1e-6)
    return inside


def _best(scores: Float64, ends: Float64, event: TrueEvent, rules: dict[str, LabelRule], axis: Axis) -> float:
    """Return the best k-of-n score of an event's label: the threshold at which it would still be found."""
    rule = rules[event.label]
    near = (ends >= event.onset_s) & (ends <= event.offset_s + COLLAR_S)
    own = np.nan_to_num(scores[near, axis.labels.index(event.label)])
    kth = np.sort(last_ones(own, rule.of, 0.0), axis=1)[:, rule.of - rule.hits]
    return round(float(kth.max(initial=0.0)), 4)


def _confusion(
    scores: Float64, ends: Float64, truth: Truth, rules: dict[str, LabelRule], axis: Axis
) -> dict[str, dict[str, int]]:
    """Return truth -> said -> windows; a window that an event covers in part is not asked."""
    said = _said(scores, rules, axis)
    found: dict[str, dict[str, int]] = {}
    free = np.ones(len(ends), bool)
    for event in truth.events:
        touched = (ends > event.onset_s) & (ends - axis.window_s < event.offset_s)
        free &= ~touched
        inside = within(ends, [event], axis.window_s)
        _count(found, event.label if event.label in ALERTED else "confuser", said[inside])
    _count(found, "forest", said[free])
    return found


def _said(scores: Float64, rules: dict[str, LabelRule], axis: Axis) -> NDArray[np.str_]:
    """Return the label that each window says: the one furthest over its threshold, or nothing; shape (n_windows,)."""
    over = np.stack([scores[:, axis.labels.index(label)] - rules[label].threshold for label in ALERTED], axis=1)
    best = np.nan_to_num(over, nan=-1.0).argmax(axis=1)
    is_over = np.nan_to_num(over, nan=-1.0).max(axis=1) >= 0
    return np.where(is_over, np.array(ALERTED)[best], NOTHING)


def _count(found: dict[str, dict[str, int]], truth: str, said: NDArray[np.str_]) -> None:
    row = found.setdefault(truth, {})
    for name in (*ALERTED, NOTHING):
        row[name] = row.get(name, 0) + int((said == name).sum())


def _calibration(scores: Float64, ends: Float64, truth: Truth, axis: Axis) -> dict[str, list[list[float]]]:
    """Return per label ten bins of score, of windows that are wholly within an event or touch none."""
    found: dict[str, list[list[float]]] = {}
    for label in ALERTED:
        if label == "engine" and truth.role == "chainsaw":
            continue  # whether a saw is an engine is not asked
        own = [event for event in truth.events if event.label == label]
        is_true = within(ends, own, axis.window_s)
        touched = np.zeros(len(ends), bool)
        for event in own:
            touched |= (ends > event.onset_s) & (ends - axis.window_s < event.offset_s)
        column = scores[:, axis.labels.index(label)]
        asked = (is_true | ~touched) & np.isfinite(column)
        bins = np.minimum((column[asked] * 10).astype(int), 9)
        found[label] = [
            [
                int((bins == number).sum()),
                round(float(column[asked][bins == number].sum()), 3),
                int(is_true[asked][bins == number].sum()),
            ]
            for number in range(10)
        ]
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Every track, heard and scored by one model, or by one recipe's models over the folds."""

    name: str
    tracks: tuple[Judged, ...]
    cost: dict[str, float] = field(default_factory=dict)
    """Seconds of audio, CPU-seconds and seconds on the wall of the replays."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Rules, digests, versions: for people."""

    def to_json(self) -> str:
        """Return the text of the file in which it is kept: a line a track."""
        tracks = ",\n".join(json.dumps(asdict(track), ensure_ascii=False) for track in self.tracks)
        head = json.dumps({"schema": 2, "name": self.name, "cost": self.cost, "facts": self.facts}, ensure_ascii=False)
        return f'{head[:-1]}, "tracks": [\n{tracks}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> "Evaluation":
        """Read a kept evaluation; DataError says what is wrong."""
        try:
            document = json.loads(text)
            if document["schema"] != 2:
                raise DataError(f"this evaluation has schema {document['schema']}, expected 2; make it anew")
            return cls(
                name=document["name"],
                tracks=tuple(Judged.from_document(track) for track in document["tracks"]),
                cost=document["cost"],
                facts=document["facts"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"is no kept evaluation: {error!r}; make it anew") from error


def evaluate(folder: Path, model: Path, *, fold: int = 0) -> Evaluation:
    """Run the agent over a folder of tracks, and its decider over all windows as if there were no gate.

    Raises:
        DataError: there are no tracks, or the agent failed.
    """
    truths = read_truths(folder)
    manifest, _ = load_model(model)
    axis = Axis.of(manifest)
    said, cost = listen(folder, truths, model)
    rules = dict(manifest.rules)
    tracks = tuple(
        judge(fold, truth, one.heard, decided(one.all_scores, rules, axis), rules, axis)
        for truth, one in zip(truths, said.values(), strict=True)
    )
    facts = {"model": manifest.digest, "rules": {label: asdict(rule) for label, rule in rules.items() if rule.alert}}
    return Evaluation(name=manifest.name, tracks=tracks, cost=cost, facts=facts)
