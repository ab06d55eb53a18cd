"""Which recording may teach, which may choose thresholds, and which only judges.

The unit is the group (one recording, all its clips, across data sets): a clip and its neighbour from the same recording
in two parts would measure memory. The rule is a stable hash of the group's name, so that new recordings
move no old one, save where a data set brings folds of its own.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from agent.fields import Fields
from model_export.datasets import Clip

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    """How recordings are shared out."""

    fold: str = "4"
    """ESC-50's fold that is kept for the test; empty: none."""
    fold_dataset: str = "esc50"
    """The data set whose folds count."""
    test_groups: tuple[str, ...] = ("zmix1", "zmix2", "zmix16")
    """Groups that are test whatever their hash."""
    train_groups: tuple[str, ...] = ("zmix3", "zmix4", "zmix6", "zmix10", "loop-forest")
    """Groups that are training whatever their hash."""
    validation_groups: tuple[str, ...] = ("zmix14",)
    """Groups that are validation whatever their hash."""
    test_share: float = 0.25
    """Share of the remaining groups for the test, data sets with folds apart."""
    validation_share: float = 0.12
    """Share of what then remains for choosing thresholds; recordings of saws are too few to spare."""

    @classmethod
    def parse(cls, fields: Fields) -> "SplitConfig":
        """Read a recipe's `split`; FieldError names what is wrong."""
        config = cls(
            fold=fields.text("fold", longest=20),
            fold_dataset=fields.text("fold_dataset", longest=60),
            test_groups=fields.texts("test_groups", longest=1000),
            train_groups=fields.texts("train_groups", longest=1000),
            validation_groups=fields.texts("validation_groups", longest=1000),
            test_share=fields.number("test_share", 0, 0.9),
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
    for part, named in (
        (TEST, config.test_groups),
        (TRAIN, config.train_groups),
        (VALIDATION, config.validation_groups),
    ):
        if group in named:
            return part
    folded = [clip for clip in members if clip.dataset == config.fold_dataset]
    if any(clip.fold == config.fold for clip in folded):
        return TEST
    if (not folded or not config.fold) and _chance(group, "test") < config.test_share:
        return TEST
    has_saw = any(clip.target == "chainsaw" for clip in members)
    return VALIDATION if not has_saw and _chance(group, "validation") < config.validation_share else TRAIN


def _chance(group: str, salt: str) -> float:
    """Return a number in [0, 1) that belongs to this name for ever."""
    return int.from_bytes(hashlib.sha256(f"{salt}:{group}".encode()).digest()[:8]) / 2**64


def part_of(clips: Sequence[Clip], parts: dict[str, str], part: str) -> list[Clip]:
    """Return the clips of one part."""
    return [clip for clip in clips if parts[clip.group] == part]
