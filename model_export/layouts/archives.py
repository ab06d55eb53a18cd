"""Data sets with a table beside the sound: ESC-50, UrbanSound8K, and a CSV of `ID,Class`."""

import csv
from pathlib import Path

from model_export.datasets import Clip
from model_export.errors import DataError
from model_export.layouts.found import SUFFIXES, Found, clip_of, recording_of, rows_of

_ESC50 = ("filename", "fold", "category", "src_file")
_URBAN = ("slice_file_name", "fsID", "fold", "class")


def is_esc50(folder: Path) -> bool:
    """Say whether this is ESC-50 as it is unpacked."""
    return (folder / "meta" / "esc50.csv").is_file()


def esc50(folder: Path) -> Found:
    """Read ESC-50: `meta/esc50.csv`, `audio/`; its folds keep recordings together."""
    rows = rows_of(folder / "meta" / "esc50.csv", _ESC50)
    clips = [
        clip_of(
            folder,
            folder / "audio" / row["filename"],
            row["category"],
            dataset="esc50",
            group=f"fs{row['src_file']}",
            fold=row["fold"],
            licence="CC BY-NC 3.0 (ESC-50)",
        )
        for row in rows
    ]
    return _sorted("esc50", clips)


def is_urbansound8k(folder: Path) -> bool:
    """Say whether this is UrbanSound8K as it is unpacked."""
    return (folder / "metadata" / "UrbanSound8K.csv").is_file()


def urbansound8k(folder: Path) -> Found:
    """Read UrbanSound8K: `metadata/UrbanSound8K.csv`, `audio/fold1` to `fold10`."""
    rows = rows_of(folder / "metadata" / "UrbanSound8K.csv", _URBAN)
    clips = [
        clip_of(
            folder,
            folder / "audio" / f"fold{row['fold']}" / row["slice_file_name"],
            row["class"],
            dataset="urbansound8k",
            group=f"fs{row['fsID']}",
            fold=row["fold"],
            licence="CC BY-NC 3.0 (UrbanSound8K)",
        )
        for row in rows
    ]
    return _sorted("urbansound8k", clips)


def table_of(folder: Path) -> Path | None:
    """Return the CSV of `ID,Class` in a folder, if there is one."""
    for path in sorted(folder.glob("*.csv")):
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                header = {name.strip().lower() for name in next(csv.reader(file), [])}
        except (OSError, UnicodeDecodeError, csv.Error):
            continue
        if header >= {"id", "class"}:
            return path
    return None


def id_class(folder: Path) -> Found:
    """Read a CSV of `ID,Class` and the folder whose files are named by the ID: Kaggle's urban-sound layout."""
    table = table_of(folder)
    if table is None:
        raise DataError(f"{folder}: has no CSV with the columns ID and Class")
    by_stem = {path.stem: path for path in sorted(_folder_of(table).rglob("*")) if path.suffix.lower() in SUFFIXES}
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = [{(key or "").strip().lower(): value for key, value in row.items()} for row in csv.DictReader(file)]
    clips: list[Clip] = []
    lost: list[str] = []
    for row in rows:
        stem, kind = (row["id"] or "").strip(), (row["class"] or "").strip()
        path = by_stem.get(Path(stem).stem if Path(stem).suffix.lower() in SUFFIXES else stem)
        if path is None or not kind:
            lost.append(stem or "a row without ID")
            continue
        clips.append(clip_of(folder, path, kind, dataset=folder.name, group=recording_of(stem) or f"id{stem}"))
    known = all(recording_of(clip.path.stem) for clip in clips)
    notes = (f"{len(lost)} rows of {table.name} have no file or no class, among them {lost[0]}",) if lost else ()
    return Found(layout="id-class", clips=_ordered(clips), recordings_known=known, notes=notes)


def _folder_of(table: Path) -> Path:
    """Return where the files of a table lie: the folder of its name, else all of its own folder."""
    for sub in sorted(path for path in table.parent.iterdir() if path.is_dir()):
        if sub.name.lower() == table.stem.lower():
            return sub
    return table.parent


def _sorted(layout: str, clips: list[Clip]) -> Found:
    return Found(layout=layout, clips=_ordered(clips), recordings_known=True)


def _ordered(clips: list[Clip]) -> tuple[Clip, ...]:
    return tuple(sorted(clips, key=lambda clip: clip.name))
