"""Label files beside long recordings: Raven's selection tables, Audacity's label tracks, and the station's verdicts."""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from model_export.datasets import Clip
from model_export.errors import DataError
from model_export.layouts.found import Found, clip_of, rows_of, sounds_under

BACKGROUND = "background"
"""What lies between the labels of a recording that somebody went through."""

_BEGIN, _END = "Begin Time (s)", "End Time (s)"
_LABEL_COLUMNS = ("Annotation", "Label", "Species", "Common Name", "Species Code", "Class", "Type")
_LEAST_GAP_S = 3.0
_MARGIN_S = 0.5
_STATION = ("alert", "device", "class", "incident", "audio")
STATION_TABLE = "labels.csv"

Label = tuple[float, float, str]


def raven_tables(folder: Path) -> list[Path]:
    """Return the selection tables under a folder."""
    tables = {
        *folder.rglob("*.selections.txt"),
        *folder.rglob("*.Table.*.txt"),
        *folder.rglob("*.selection.table*.txt"),
    }
    return sorted(tables)


def raven(folder: Path) -> Found:
    """Read Raven's selection tables; each lies beside its recording, whose name it begins with."""
    notes: list[str] = []
    labelled: list[tuple[Path, Sequence[Label]]] = []
    for table in raven_tables(folder):
        sound = _beside(table, re.split(r"\.(?:Table|BirdNET|selections?)\b", table.name, maxsplit=1)[0])
        if sound is None:
            notes.append(f"{table.relative_to(folder)}: has no recording beside it")
        else:
            labelled.append((sound, raven_labels(table)))
    return _found("raven", folder, labelled, notes)


def raven_labels(table: Path) -> list[Label]:
    """Return (begin, end, label) of each selection, seconds; one selection in two views counts once.

    Raises:
        DataError: the table lacks a column, or a time is no time.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t")
            names = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read: {error}") from error
    column = next((name for name in _LABEL_COLUMNS if name in names), None)
    for needed in (_BEGIN, _END):
        if needed not in names:
            raise DataError(f"{table}: lacks the column {needed}; export it from Raven as a selection table")
    if column is None:
        raise DataError(f"{table}: has no column of labels; expected one of {', '.join(_LABEL_COLUMNS)}")
    found = {_label(table, number, row[_BEGIN], row[_END], row[column]) for number, row in enumerate(rows, 2)}
    return sorted(one for one in found if one[2])


def audacity_tables(folder: Path) -> list[Path]:
    """Return the text files under a folder that begin like a label track and lie beside a recording."""
    return [
        path
        for path in sorted(folder.rglob("*.txt"))
        if path not in raven_tables(folder) and _beside(path, path.stem) is not None and _is_track(path)
    ]


def audacity(folder: Path) -> Found:
    """Read Audacity's label tracks: `night.txt` beside `night.wav`; begin, end, label, parted by tabs."""
    labelled: list[tuple[Path, Sequence[Label]]] = []
    for table in audacity_tables(folder):
        sound = _beside(table, table.stem)
        assert sound is not None
        labelled.append((sound, audacity_labels(table)))
    return _found("audacity", folder, labelled, [])


def audacity_labels(table: Path) -> list[Label]:
    """Return (begin, end, label) of each line, seconds; lines of frequencies (they begin with a backslash) are passed.

    Raises:
        DataError: a line is none of a label track.
    """
    found: list[Label] = []
    for number, line in enumerate(table.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip() or line.startswith("\\"):
            continue
        parts = line.split("\t")
        if len(parts) < 2:
            raise DataError(f"{table}:{number}: is {line!r}, expected begin, end and label parted by tabs")
        found.append(_label(table, number, parts[0], parts[1], parts[2] if len(parts) > 2 else ""))
    return sorted(one for one in found if one[2])


def is_station(folder: Path) -> bool:
    """Say whether this is what the station's `export-labels` writes."""
    table = folder / STATION_TABLE
    if not table.is_file():
        return False
    with table.open(encoding="utf-8-sig") as file:
        header = file.readline().strip().split(",")
    return set(_STATION) <= set(header)


def station(folder: Path) -> Found:
    """Read the station's verdicts (docs/recipes.md): `labels.csv`, and the sound of each alert that brought some.

    Alerts without a verdict, and those that sent no sound, are left out and counted; the alerts of one incident are one
    recording.
    """
    rows = rows_of(folder / STATION_TABLE, _STATION)
    judged = [row for row in rows if row["class"]]
    heard = [row for row in judged if row["audio"]]
    clips = [
        clip_of(
            folder,
            folder / row["audio"],
            row["class"],
            dataset="station",
            group=f"incident-{row['incident'] or row['alert']}",
            licence=row.get("licence") or "own",
        )
        for row in heard
    ]
    notes = [f"{len(rows) - len(judged)} alerts have no verdict"] if len(judged) < len(rows) else []
    if len(heard) < len(judged):
        notes.append(
            f"{len(judged) - len(heard)} alerts were judged by picture alone: they sent no sound to learn from"
        )
    ordered = tuple(sorted(clips, key=lambda clip: clip.name))
    return Found(layout="station", clips=ordered, recordings_known=True, notes=tuple(notes))


def _is_track(path: Path) -> bool:
    try:
        first = path.read_text(encoding="utf-8-sig").split("\n", 1)[0].split("\t")
        return len(first) >= 2 and float(first[0]) <= float(first[1])
    except (OSError, UnicodeDecodeError, ValueError):
        return False


def _beside(table: Path, stem: str) -> Path | None:
    """Return the recording of this name in the folder of the table."""
    return next(
        (path for path in sounds_under(table.parent) if path.stem == stem and path.parent == table.parent), None
    )


def _label(table: Path, number: int, begin: str, end: str, text: str) -> Label:
    try:
        begin_s, end_s = float(begin), float(end)
    except ValueError as error:
        raise DataError(f"{table}:{number}: {begin!r} to {end!r} are no seconds") from error
    if not 0 <= begin_s <= end_s < float("inf"):
        raise DataError(f"{table}:{number}: {begin} to {end} is no stretch of a recording")
    return begin_s, end_s, (text or "").strip()


def _found(layout: str, folder: Path, labelled: Iterable[tuple[Path, Sequence[Label]]], notes: list[str]) -> Found:
    clips: list[Clip] = []
    for sound, found in labelled:
        group = sound.relative_to(folder).as_posix()
        length_s = _length_s(sound)
        if length_s is None:
            notes.append(f"{group}: cannot be read as sound; its {len(found)} labels are left out")
            continue
        spans = [*found, *((begin_s, end_s, BACKGROUND) for begin_s, end_s in gaps(found, length_s))]
        clips += [
            clip_of(folder, sound, kind, dataset=folder.name, group=group, span_s=(begin_s, max(end_s, begin_s + 0.1)))
            for begin_s, end_s, kind in spans
        ]
    ordered = tuple(sorted(clips, key=lambda clip: clip.name))
    return Found(layout=layout, clips=ordered, recordings_known=True, notes=tuple(notes))


def gaps(labels: Sequence[Label], length_s: float) -> list[tuple[float, float]]:
    """Return the stretches of three seconds and more that no label touches, half a second off each."""
    edges = sorted((begin_s - _MARGIN_S, end_s + _MARGIN_S) for begin_s, end_s, _ in labels)
    begins = [0.0, *np.maximum.accumulate([end_s for _, end_s in edges]).tolist()] if edges else [0.0]
    ends = [*(begin_s for begin_s, _ in edges), length_s]
    return [(begin_s, end_s) for begin_s, end_s in zip(begins, ends, strict=True) if end_s - begin_s >= _LEAST_GAP_S]


def _length_s(path: Path) -> float | None:
    import soundfile

    try:
        return float(soundfile.info(str(path)).duration)
    except (OSError, soundfile.SoundFileError):
        return None
