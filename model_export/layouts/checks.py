"""What would spoil a figure before any training: empty classes, classes of one fold, recordings on both sides."""

from collections.abc import Callable, Mapping, Sequence, Set

from model_export.datasets import Clip
from model_export.errors import DataError

FEWEST_RECORDINGS = 2


def classes(clips: Sequence[Clip], label_of: Callable[[Clip], str | None], labels: Sequence[str]) -> None:
    """Refuse what cannot be learnt.

    Raises:
        DataError: a class has no clip, or all its clips are of one recording, so that it cannot be a stranger.
    """
    for label in labels:
        own = [clip for clip in clips if label_of(clip) == label]
        if not own:
            kinds = sorted({clip.kind for clip in clips})
            raise DataError(
                f"the class {label} has no clip; add some, or take it out of the recipe's labels. There are: "
                f"{', '.join(kinds[:60])}"
            )
        groups = {clip.group for clip in own}
        if len(groups) < FEWEST_RECORDINGS:
            raise DataError(
                f"all {len(own)} clips of the class {label} are of one recording ({groups.pop()}): it can be learnt or "
                "tested, not both; add another recording"
            )


def one_fold(clips: Sequence[Clip], label_of: Callable[[Clip], str | None]) -> list[str]:
    """Return a warning that names the classes all of whose clips lie in one fold of the data set, if there are any."""
    folds: dict[str, set[str]] = {}
    for clip in clips:
        label = label_of(clip)
        if label is not None and clip.fold:
            folds.setdefault(label, set()).add(clip.fold)
    alone = [f"{label} ({next(iter(found))})" for label, found in sorted(folds.items()) if len(found) == 1]
    if not alone or len({fold for found in folds.values() for fold in found}) < 2:
        return []
    return [
        f"in one fold of the data set alone: {', '.join(alone)}. By its folds they are never learnt where they are "
        "tested; split by recording (split.by: recording), or get the other folds"
    ]


def straddling(groups: Mapping[str, str], test: Set[str]) -> list[str]:
    """Return the recordings that have clips on both sides of a split.

    Args:
        groups: recording of each clip, by the clip's name.
        test: names of the clips that judge.
    """
    judging = {group for name, group in groups.items() if name in test}
    return sorted(judging & {group for name, group in groups.items() if name not in test})
