"""Which layout is this folder? The first that fits is read; a folder of several data sets is read one by one."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from model_export import datasets
from model_export.datasets import Clip
from model_export.errors import DataError
from model_export.layouts import archives, folders, labels
from model_export.layouts.found import Found, sounds_under

log = logging.getLogger(__name__)

_EXPECTED = (
    "expected manifest.csv; ESC-50 (meta/esc50.csv); UrbanSound8K (metadata/UrbanSound8K.csv); a CSV of ID,Class; "
    "positive and negative clips; Raven or Audacity labels beside recordings; the station's labels.csv; or one folder "
    "of sound a class"
)


def _manifest(folder: Path) -> Found:
    clips = datasets.from_manifest(folder / "manifest.csv")
    ordered = tuple(sorted(clips, key=lambda clip: clip.name))
    return Found(layout="manifest", clips=ordered, recordings_known=True)


LAYOUTS: Final[Mapping[str, tuple[Callable[[Path], bool], Callable[[Path], Found]]]] = {
    "manifest": (lambda folder: (folder / "manifest.csv").is_file(), _manifest),
    "esc50": (archives.is_esc50, archives.esc50),
    "urbansound8k": (archives.is_urbansound8k, archives.urbansound8k),
    "station": (labels.is_station, labels.station),
    "id-class": (lambda folder: archives.table_of(folder) is not None, archives.id_class),
    "calls": (lambda folder: folders.call_folders(folder) is not None, folders.calls),
    "raven": (lambda folder: bool(labels.raven_tables(folder)), labels.raven),
    "audacity": (lambda folder: bool(labels.audacity_tables(folder)), labels.audacity),
    "folders": (folders.is_label_folders, folders.label_folders),
}
"""In the order in which they are tried: from what is sure to what is loose."""


def read(folder: Path, layout: str | None = None) -> Found:
    """Return what a folder holds.

    Args:
        folder: as it was unpacked; one folder around it, and several data sets side by side, are looked into.
        layout: one of LAYOUTS where the first that fits is not the one that is meant.

    Raises:
        DataError: it is no folder, no layout fits, or nothing is in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; {_EXPECTED}")
    name = layout or layout_of(folder)
    subs = sorted(path for path in folder.iterdir() if path.is_dir())
    strict = [sub for sub in subs if layout_of(sub) not in (None, "folders")]
    if layout is None and strict and name in (None, "folders"):
        return _joined(folder, [read(sub) for sub in strict], strict)
    if name is None:
        raise DataError(f"{folder}: holds no layout that is known; {_EXPECTED}")
    found = LAYOUTS[name][1](folder)
    if not found.clips:
        said = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise DataError(f"{folder}: is read as {name} and holds no clip{said}; {_EXPECTED}")
    for note in found.notes:
        log.warning("%s: %s", folder, note)
    return found


def layout_of(folder: Path) -> str | None:
    """Return the name of the first layout that fits."""
    return next((name for name, (fits, _) in LAYOUTS.items() if fits(folder)), None)


def _joined(folder: Path, founds: list[Found], subs: list[Path]) -> Found:
    """Return several data sets as one; a recording that two of them cut from has one name in both."""
    clips: list[Clip] = []
    for sub, found in zip(subs, founds, strict=True):
        clips += [replace(clip, name=f"{sub.relative_to(folder).as_posix()}/{clip.name}") for clip in found.clips]
    other = [
        path.name for path in sorted(folder.iterdir()) if path.is_dir() and path not in subs and sounds_under(path)
    ]
    notes = tuple(f"{name}: is left out: a folder of sound beside whole data sets" for name in other)
    for note in notes:
        log.warning("%s: %s", folder, note)
    return Found(
        layout="+".join(dict.fromkeys(found.layout for found in founds)),
        clips=tuple(sorted(clips, key=lambda clip: clip.name)),
        recordings_known=all(found.recordings_known for found in founds),
        long=tuple(path for found in founds for path in found.long),
        notes=notes,
    )
