"""What reading a folder yields, and what its file names say about the recordings behind them."""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model_export.datasets import SOUND_SUFFIXES, TARGETS, Clip
from model_export.errors import DataError

SUFFIXES: Final = (*SOUND_SUFFIXES, ".oga", ".opus")

_ESC50_NAME = re.compile(r"[1-5]-(\d+)-[A-Z]-\d+")
_URBAN_NAME = re.compile(r"(\d+)-\d+-\d+-\d+")
_XENO_CANTO_NAME = re.compile(r"(XC\d+)(?:-\d+)?")

TARGET_OF: Final[Mapping[str, str]] = {
    **dict.fromkeys(("rain", "thunderstorm"), "storm"),
    **dict.fromkeys(("engine", "engine_idling"), "engine"),
    **dict.fromkeys(
        (
            *("airplane", "car_horn", "hand_saw", "helicopter", "train", "vacuum_cleaner", "washing_machine"),
            *("air_conditioner", "drilling", "jackhammer"),
        ),
        "machine",
    ),
    **dict.fromkeys(
        (
            *("chirping_birds", "cow", "crackling_fire", "crickets", "crow", "frog", "hen", "insects", "pig"),
            *("pouring_water", "rooster", "sea_waves", "sheep", "water_drops", "wind"),
        ),
        "background",
    ),
}
"""Classes of ESC-50 and UrbanSound8K by what they are for here; what is not named and is no target is `other`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A folder that was read."""

    layout: str
    """Which layout it is: `esc50`, `raven`."""
    clips: tuple[Clip, ...]
    """Sorted by name."""
    recordings_known: bool
    """Whether it is known which clips are of one recording; without it no split is honest."""
    long: tuple[Path, ...] = ()
    """Long recordings without labels, to count calls in."""
    notes: tuple[str, ...] = ()
    """What the reader should know: rows that were left out, and why."""


def target_of(kind: str) -> str:
    """Return what a class is for."""
    return TARGET_OF.get(kind, kind if kind in TARGETS else "other")


def clip_of(
    folder: Path,
    path: Path,
    kind: str,
    *,
    dataset: str,
    group: str,
    fold: str = "",
    licence: str = "unknown",
    span_s: tuple[float, float] | None = None,
) -> Clip:
    """Return a clip; a stretch of a recording is named by its times, so that digests tell two stretches apart."""
    name = path.relative_to(folder).as_posix()
    return Clip(
        path=path,
        name=name if span_s is None else f"{name}#{span_s[0]:.3f}-{span_s[1]:.3f}",
        dataset=dataset,
        kind=kind,
        target=target_of(kind),
        group=group,
        fold=fold,
        licence=licence,
        span_s=span_s,
    )


def recording_of(stem: str) -> str | None:
    """Return the recording that a file name tells of, or None: ESC-50, UrbanSound8K and xeno-canto names do."""
    for pattern in (_ESC50_NAME, _URBAN_NAME):
        if match := pattern.fullmatch(stem):
            return f"fs{match[1]}"
    match = _XENO_CANTO_NAME.fullmatch(stem)
    return match[1] if match else None


def sounds_under(folder: Path) -> list[Path]:
    """Return every file of sound below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def rows_of(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a CSV file.

    Raises:
        DataError: it cannot be read, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: lacks the column {missing[0]}; expected {', '.join(columns)}")
            return [{key: value or "" for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
