"""What a classifier is worth on clips that it did not learn from, with intervals over recordings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.features import Float32
from model_export.clips.pictures import Int, Pictures
from model_export.release import bootstrap
from model_export.scoring import Interval

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """The answers to some clips."""

    names: tuple[str, ...]
    groups: tuple[str, ...]
    truth: Int
    """Shape (n_clips,)."""
    scores: Float64
    """Shape (n_clips, n_labels): the mean of the softmax over a clip's windows."""

    @property
    def answers(self) -> Int:
        """Return the label with the highest score of each clip."""
        return self.scores.argmax(axis=1).astype(np.int64)


def softmax(logits: Float32) -> Float64:
    """Return scores of logits, same shape."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    scores: Float64 = shifted / shifted.sum(axis=-1, keepdims=True)
    return scores


def judge(found: Pictures, clips: Int, scores: Float64, windows: Int) -> Judged:
    """Return the answers to clips from the scores of their windows.

    Args:
        found: all clips.
        clips: which judge.
        scores: of the windows, shape (n_windows, n_labels).
        windows: which these are.
    """
    owner = found.clip[windows]
    means = np.stack([scores[owner == clip].mean(axis=0) for clip in clips])
    return Judged(
        tuple(found.names[clip] for clip in clips),
        tuple(found.groups[clip] for clip in clips),
        found.truth[clips],
        means,
    )


def together(parts: list[Judged]) -> Judged:
    """Return the answers of all folds as one."""
    return Judged(
        tuple(name for part in parts for name in part.names),
        tuple(group for part in parts for group in part.groups),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def accuracy(judged: Judged, seed: int = 1) -> Interval:
    """Return the share of clips that are named rightly, with its interval over recordings."""
    right = (judged.answers == judged.truth).astype(float)
    return _over_recordings(judged, right, np.ones(len(right)), seed)


def recall(judged: Judged, label: int, threshold: float | None = None, seed: int = 1) -> Interval:
    """Return the share of a class' clips that are named so: by the highest score, or by a threshold."""
    own = (judged.truth == label).astype(float)
    return _over_recordings(judged, own * _said(judged, label, threshold), own, seed)


def precision(judged: Judged, label: int, threshold: float | None = None, seed: int = 1) -> Interval:
    """Return the share of what is named so that is of the class."""
    said = _said(judged, label, threshold)
    return _over_recordings(judged, said * (judged.truth == label), said, seed)


def _said(judged: Judged, label: int, threshold: float | None) -> Float64:
    said = judged.answers == label if threshold is None else judged.scores[:, label] >= threshold
    return np.asarray(said, np.float64)


def _over_recordings(judged: Judged, gains: Float64, sizes: Float64, seed: int) -> Interval:
    pairs: dict[str, tuple[float, float]] = {}
    for group, gain, size in zip(judged.groups, gains, sizes, strict=True):
        old = pairs.get(group, (0.0, 0.0))
        pairs[group] = (old[0] + float(gain), old[1] + float(size))
    counted = [pair for pair in pairs.values() if pair[1] > 0]
    return bootstrap(counted, seed) if counted else Interval(value=0.0, low=0.0, high=1.0)


def confusion(judged: Judged, n_labels: int) -> Int:
    """Return how many clips of each class (rows) were named as each (columns), shape (n_labels, n_labels)."""
    counts = np.zeros((n_labels, n_labels), np.int64)
    np.add.at(counts, (judged.truth, judged.answers), 1)
    return counts


def roc(judged: Judged, label: int) -> tuple[Float64, Float64, float]:
    """Return false-positive rate, true-positive rate along the thresholds, and the area under them."""
    hits, false = _along(judged, label)
    tpr, fpr = hits / max(1.0, hits[-1]), false / max(1.0, false[-1])
    return fpr, tpr, float(np.trapezoid(tpr, fpr))


def precision_recall(judged: Judged, label: int) -> tuple[Float64, Float64, float]:
    """Return recall, precision along the thresholds, and the average precision."""
    hits, false = _along(judged, label)
    recalls = hits / max(1.0, hits[-1])
    precisions = np.where(hits + false > 0, hits / np.maximum(1.0, hits + false), 1.0)
    return recalls, precisions, float(np.sum(np.diff(recalls) * precisions[1:]))


def _along(judged: Judged, label: int) -> tuple[Float64, Float64]:
    """Return counts of true and of false clips at or above each score that occurs, from none to all."""
    scores = judged.scores[:, label]
    order = np.argsort(-scores, kind="stable")
    own = (judged.truth[order] == label).astype(np.float64)
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits, false = np.cumsum(own)[ends], np.cumsum(1 - own)[ends]
    return np.concatenate([[0.0], hits]), np.concatenate([[0.0], false])
