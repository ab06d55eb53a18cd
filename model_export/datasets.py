"""Recordings on disk, as clips with label, recording and licence.

The project's own layout is a folder with `manifest.csv` (path, dataset, class, target, recording, group, fold, seconds,
licence); `model_export.layouts` knows the others. What cannot be read is named, counted and left out; a label without a
single clip is an error that says what to do.
"""

import csv
import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from agent.features import Float32
from agent.resample import Resampler
from model_export.errors import DataError

log = logging.getLogger(__name__)

SAMPLE_RATE: Final = 16_000
TARGETS: Final = ("chainsaw", "engine", "storm", "background", "machine", "other")
"""What a clip can be for: three labels to learn, the sound of the place, and two kinds of confusers."""
NEEDED: Final = ("chainsaw", "engine", "background")
SOUND_SUFFIXES: Final = (".wav", ".ogg", ".flac", ".mp3", ".aif", ".aiff")
_COLUMNS: Final = ("path", "dataset", "class", "target", "group", "fold", "licence")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One file of sound and what is known about it."""

    path: Path
    name: str
    """Its path below the data folder: how reports and digests call it."""
    dataset: str
    kind: str
    """The data set's own class: `hand_saw`, `engine_idling`."""
    target: str
    """One of TARGETS."""
    group: str
    """Clips of one group come from one recording and must stay together."""
    fold: str
    """The data set's own fold, or nothing."""
    licence: str
    span_s: tuple[float, float] | None = None
    """Which stretch of the file it is, seconds; None: all of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A file that was left out, and why."""

    name: str
    reason: str


def read_clips(folder: Path) -> list[Clip]:
    """Return all clips of a data folder in any known layout (`model_export.layouts`), sorted by name.

    Raises:
        DataError: no layout fits, or a needed label is empty.
    """
    from model_export.layouts.read import read  # it reads manifests with what is below

    clips = list(read(folder).clips)
    for target in NEEDED:
        if not any(clip.target == target for clip in clips):
            raise DataError(f"{folder}: has no clip of {target}; add recordings as {folder}/{target}/*.wav")
    return sorted(clips, key=lambda clip: clip.name)


def from_manifest(manifest: Path) -> list[Clip]:
    """Return the clips that a `manifest.csv` names.

    Raises:
        DataError: it lacks a column, or a row is wrong.
    """
    with manifest.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{manifest}: lacks the column {missing[0]}; expected {', '.join(_COLUMNS)}")
        return [_clip_of_row(manifest, number, row) for number, row in enumerate(reader, 2)]


def _clip_of_row(manifest: Path, number: int, row: dict[str, str]) -> Clip:
    if row["target"] not in TARGETS:
        raise DataError(f"{manifest}:{number}: target is {row['target']!r}, expected one of {', '.join(TARGETS)}")
    if not row["path"] or not row["group"]:
        raise DataError(f"{manifest}:{number}: path or group is empty")
    return Clip(
        path=manifest.parent / row["path"],
        name=row["path"],
        dataset=row["dataset"],
        kind=row["class"],
        target=row["target"],
        group=row["group"],
        fold=row["fold"],
        licence=row["licence"],
    )


def read_sound(path: Path, span_s: tuple[float, float] | None = None) -> Float32:
    """Return a file's sound at 16 kHz, mono, shape (n_samples,).

    Args:
        path: WAV, FLAC, MP3 or Ogg of any rate and number of channels.
        span_s: of which stretch, seconds; None: all.

    Raises:
        DataError: the file is missing, is no sound, or is empty.
    """
    import soundfile

    try:
        with soundfile.SoundFile(str(path)) as file:
            rate = int(file.samplerate)
            begin, end = (0, -1) if span_s is None else (round(span_s[0] * rate), round(span_s[1] * rate))
            file.seek(min(begin, file.frames))
            samples = file.read(end - begin if span_s else -1, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"{path}: cannot be read as sound: {str(error).splitlines()[0]}") from error
    if not len(samples):
        raise DataError(f"{path}: is empty")
    mono: Float32 = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    if not np.isfinite(mono).all():
        raise DataError(f"{path}: holds samples that are no numbers")
    return mono if rate == SAMPLE_RATE else resampled(mono, rate)


def resampled(samples: Float32, rate: int) -> Float32:
    """Return sound of another rate at 16 kHz, by the agent's own filter."""
    resampler = Resampler(rate, SAMPLE_RATE)
    return np.concatenate([resampler.push(samples), resampler.flush()])


def digest_of(clips: Iterable[Clip]) -> str:
    """Return a short hash over names and sizes: equal digests mean the same recordings."""
    lines = sorted(f"{clip.name} {_size(clip.path)} {clip.group} {clip.target}" for clip in clips)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def licences(clips: Sequence[Clip]) -> dict[str, tuple[str, int]]:
    """Return per data set its licences in one line, and how many clips it has."""
    found: dict[str, list[str]] = {}
    for clip in clips:
        found.setdefault(clip.dataset, []).append(clip.licence)
    return {name: ("; ".join(sorted(set(texts))), len(texts)) for name, texts in sorted(found.items())}
