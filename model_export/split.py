"""Which recording may teach, which may choose thresholds, and which only judges.

The unit is the group (one recording, all its clips, across data sets): a clip and its neighbour from the same recording
in two parts would measure memory. Every group belongs to one fold for ever: the one that a recipe names, the one that
its data set gives, else one by a stable hash of its name, so that new recordings move no old one. One fold judges and
the others teach; with no fold held out, everything teaches.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.errors import FieldError
from agent.fields import Fields
from model_export.datasets import Clip

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    """How recordings are shared out."""

    folds: int = 4
    """How many folds there are."""
    fold: int = 0
    """The fold that judges, from 1; 0: none, everything teaches."""
    fold_dataset: str = "esc50"
    """The data set whose own folds count."""
    fold_groups: Mapping[str, int] = field(default_factory=dict)
    """Groups whose fold is given: a few long recordings that chance would share out badly."""
    validation_share: float = 0.0
    """Share of the groups that teach nothing and choose thresholds instead; recordings of saws are too few to spare.

    A recipe that is cross-validated needs none: its thresholds come from the folds."""

    def __post_init__(self) -> None:
        """Refuse folds that are none."""
        if not 0 <= self.fold <= self.folds:
            raise FieldError("split.fold", f"is {self.fold}, expected 0 (none) to split.folds = {self.folds}")
        for group, number in self.fold_groups.items():
            if not 1 <= number <= self.folds:
                raise FieldError(f"split.fold_groups.{group}", f"is {number}, expected 1 to {self.folds}")

    @classmethod
    def parse(cls, fields: Fields) -> "SplitConfig":
        """Read a recipe's `split`; FieldError names what is wrong."""
        groups = fields.sub("fold_groups")
        config = cls(
            folds=fields.integer("folds", 2, 20),
            fold=fields.integer("fold", 0, 20) if fields.has("fold") else 0,
            fold_dataset=fields.text("fold_dataset", longest=60),
            fold_groups={group: groups.integer(group, 1, 20) for group in groups.all_keys()},
            validation_share=fields.number("validation_share", 0, 0.9),
        )
        fields.done()
        return config


def split(clips: Sequence[Clip], config: SplitConfig) -> dict[str, str]:
    """Return the part of each group: train, validation or test."""
    by_group: dict[str, list[Clip]] = {}
    for clip in clips:
        by_group.setdefault(clip.group, []).append(clip)
    return {group: _part(group, members, config) for group, members in by_group.items()}


def _part(group: str, members: Sequence[Clip], config: SplitConfig) -> str:
    if fold_of(group, members, config) == config.fold:
        return TEST
    has_saw = any(clip.target == "chainsaw" for clip in members)
    return VALIDATION if not has_saw and _chance(group, "validation") < config.validation_share else TRAIN


def fold_of(group: str, members: Sequence[Clip], config: SplitConfig) -> int:
    """Return the fold of a group, from 1."""
    if group in config.fold_groups:
        return config.fold_groups[group]
    own = [clip.fold for clip in members if clip.dataset == config.fold_dataset and clip.fold.isdigit()]
    if own and 1 <= int(own[0]) <= config.folds:
        return int(own[0])
    return int(_chance(group, "fold") * config.folds) + 1


def _chance(group: str, salt: str) -> float:
    """Return a number in [0, 1) that belongs to this name for ever."""
    return int.from_bytes(hashlib.sha256(f"{salt}:{group}".encode()).digest()[:8]) / 2**64


def part_of(clips: Sequence[Clip], parts: dict[str, str], part: str) -> list[Clip]:
    """Return the clips of one part."""
    return [clip for clip in clips if parts[clip.group] == part]
