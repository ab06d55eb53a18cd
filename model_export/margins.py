"""How far folds keep what they hear apart: recall by the false alerts that a threshold would bear on these very tracks.

Thresholds that are crossed say what a ranger may expect. These do not: they are chosen where they are judged. But they
compare networks whose crossed thresholds one odd recording decides, and name that recording.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_export.operating import Axis, peak_places, steady_logits
from model_export.summary import loudness
from model_export.tracks import TrueEvent, Truth

Float64 = NDArray[np.float64]

MOST_FALSE = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """One fold's tracks, and what its model said about every window of them."""

    number: int
    truths: Sequence[Truth]
    scores: Mapping[str, Float64]
    """By track, shape (n_windows, n_labels)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quiet:
    """A moment at which a label is false."""

    logit: float
    where: str
    """Fold, track, second, and the clips that are heard."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Margin:
    """What the lowest threshold finds that raises no more than so many false alerts."""

    false: int
    logit: float
    """The threshold, as the mean of logits."""
    recall: dict[str, float]
    """By level."""


def margins(label: str, folds: Sequence[Heard], of: int, axis: Axis) -> tuple[list[Margin], list[Quiet]]:
    """Return the margins of a label by the mean of its windows, and the loudest moments that must be quiet.

    Args:
        label: chainsaw or engine; a saw is false on engines too.
        folds: all that are pooled.
        of: how many windows the mean is taken over.
        axis: how scores are to be read.
    """
    quiet: list[Quiet] = []
    found: dict[str, list[float]] = {}
    idx = axis.labels.index(label)
    for fold in folds:
        for truth in fold.truths:
            means = steady_logits(axis.to_bytes(fold.scores[truth.name])[:, idx], of, axis)
            if label in must_be_quiet(truth)[1]:
                quiet += _quiet(fold.number, truth, means, axis)
            elif truth.role == label:
                found.setdefault(truth.level, []).extend(_best(means, event, axis) for event in truth.events)
    quiet.sort(key=lambda one: -one.logit)
    found = dict(sorted(found.items(), key=lambda item: loudness(item[0])))
    rows: list[Margin] = []
    for n_false, moment in enumerate(quiet[: MOST_FALSE + 1]):
        recall = {level: float(np.mean(np.array(best) > moment.logit)) for level, best in found.items()}
        rows.append(Margin(false=n_false, logit=moment.logit, recall=recall))
    return rows, quiet


def table(label: str, rows: Sequence[Margin], quiet: Sequence[Quiet]) -> str:
    """Return margins and the moments that make them, as Markdown."""
    levels = list(rows[0].recall) if rows else []
    lines = [f"| {label}: false alerts | mean of logits over | {' | '.join(levels)} | the next false alert |"]
    lines.append("|---" * (len(levels) + 3) + "|")
    for row, moment in zip(rows, quiet, strict=False):
        recalls = " | ".join(f"{row.recall[level]:.2f}" for level in levels)
        lines.append(f"| {row.false} | {row.logit:.2f} | {recalls} | {moment.where} |")
    return "\n".join(lines)


def must_be_quiet(truth: Truth) -> tuple[str, tuple[str, ...]]:
    """Return as what a track must be quiet (forest, confusers, engines), and for which labels; or nothing.

    Engines are heard at one level alone: at the others they are the same events.
    """
    if truth.role == "engine":
        return ("engines", ("chainsaw",)) if truth.level == "10 dB" else ("", ())
    role = {"background": "forest", "confusers": "confusers"}.get(truth.role, "")
    return role, ("chainsaw", "engine") if role else ()


def _quiet(number: int, truth: Truth, means: Float64, axis: Axis) -> list[Quiet]:
    ends = _ends(len(means), axis)
    moments: list[Quiet] = []
    for place in peak_places(means, axis):
        at_s = float(ends[place])
        clips = [event.source for event in truth.events if event.onset_s <= at_s <= event.offset_s + 12]
        where = f"fold {number}, {truth.name}, {at_s:.0f} s" + (f": {', '.join(clips)}" if clips else "")
        moments.append(Quiet(logit=float(means[place]), where=where))
    return moments


def _best(means: Float64, event: TrueEvent, axis: Axis) -> float:
    """Return the highest mean of windows that end within an event, or just behind it."""
    ends = _ends(len(means), axis)
    within = means[(ends >= event.onset_s) & (ends <= event.offset_s + axis.window_s)]
    return float(within.max(initial=-np.inf))


def _ends(n_windows: int, axis: Axis) -> Float64:
    return np.asarray(axis.window_s + axis.stride_s * np.arange(n_windows), np.float64)
