"""Two ways to judge: as tutorials do, clips drawn by chance, and honestly, every recording once a stranger.

Where one recording gave ten clips, chance puts some of them on either side, and the figure measures memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model_export.clips.pictures import Int, Pictures
from model_export.clips.recipe import SplitConfig
from model_export.errors import DataError

TUTORIAL, HONEST = "tutorial", "honest"


@dataclass(frozen=True, slots=True)
class Part:
    """One training and one judgement."""

    name: str
    """`tutorial`, `honest-1`."""
    train: Int
    """Clips that teach."""
    test: Int
    """Clips that judge."""


def tutorial(found: Pictures, config: SplitConfig, seed: int) -> Part:
    """Return the tutorial's split: a share of each class by chance, whatever recording a clip is of."""
    rng = np.random.default_rng([seed, 17])
    test: list[int] = []
    for label in np.unique(found.truth):
        own = rng.permutation(np.flatnonzero(found.truth == label))
        test += own[: max(1, round(config.share * len(own)))].tolist()
    return _part(TUTORIAL, sorted(test), found.n_clips)


def honest(found: Pictures, config: SplitConfig, folds: Mapping[str, str]) -> list[Part]:
    """Return the folds of the honest split.

    Args:
        found: the clips.
        config: how many folds, of what.
        folds: the data set's own fold of each clip, by name.

    Raises:
        DataError: the data set has no folds where they are asked for.
    """
    number = _own_folds(found, folds) if config.by == "fold" else recording_folds(found, config.folds)
    parts = [
        _part(f"{HONEST}-{fold}", np.flatnonzero(number == fold).tolist(), found.n_clips)
        for fold in sorted(set(number.tolist()))
    ]
    return [part for part in parts if len(part.test) and len(part.train)]


def recording_folds(found: Pictures, n_folds: int) -> Int:
    """Return the fold of each clip, from 1: recordings stay whole, and each fold gets its share of every class.

    The largest recordings are placed first, each where its classes are fewest so far.
    """
    n_labels = int(found.truth.max()) + 1
    counts: dict[str, np.ndarray] = {}
    for group, label in zip(found.groups, found.truth, strict=True):
        counts.setdefault(group, np.zeros(n_labels))[label] += 1
    share = np.bincount(found.truth, minlength=n_labels) / n_folds
    filled = np.zeros((n_folds, n_labels))
    fold_of: dict[str, int] = {}
    for group, count in sorted(counts.items(), key=lambda item: (-item[1].sum(), item[0])):
        over = ((filled + count) / np.maximum(share, 1e-9))[:, count > 0].max(axis=1)
        best = int(np.lexsort((filled.sum(axis=1), over))[0])
        filled[best] += count
        fold_of[group] = best + 1
    return np.array([fold_of[group] for group in found.groups], np.int64)


def _own_folds(found: Pictures, folds: Mapping[str, str]) -> Int:
    own = [folds.get(name, "") for name in found.names]
    without = [name for name, fold in zip(found.names, own, strict=True) if not fold.isdigit()]
    if without:
        raise DataError(f"{len(without)} clips have no fold, among them {without[0]}; set split.by: recording")
    return np.array([int(fold) for fold in own], np.int64)


def _part(name: str, test: Sequence[int], n_clips: int) -> Part:
    judging = np.array(test, np.int64)
    return Part(name, np.setdiff1d(np.arange(n_clips), judging).astype(np.int64), judging)
