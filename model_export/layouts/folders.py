"""Layouts that are folders alone: a folder a class, and the calls of one animal beside what is none."""

import re
from pathlib import Path

from model_export.datasets import Clip
from model_export.layouts.found import Found, clip_of, recording_of, sounds_under

_PARSED = re.compile(r"Parsed_(?!Not_)(.+)_Clips", re.IGNORECASE)
_PIECE = re.compile(r"(.+?)[-_ ]\d+")
_LONG = ("forest recordings", "recordings", "long")
_UNLABELLED = ("samples", "test")
"""The tutorials keep a few sounds apart to try the model on: they have no class."""

CALL, NOT_CALL = "call", "not_call"


def call_folders(folder: Path) -> tuple[Path, Path, Path | None] | None:
    """Return the folders of calls, of what is none, and of long recordings; None if this is no such layout."""
    subs = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    long = next((subs[name] for name in _LONG if name in subs), None)
    for name, path in subs.items():
        match = _PARSED.fullmatch(name)
        negative = subs.get(f"parsed_not_{match[1]}_clips") if match else None
        if negative is not None:
            return path, negative, long
    if "positive" in subs and "negative" in subs:
        return subs["positive"], subs["negative"], long
    return None


def calls(folder: Path) -> Found:
    """Read clips of a call, clips without it, and long recordings to count in: the Capuchin bird challenge."""
    found = call_folders(folder)
    assert found is not None
    positive, negative, long = found
    clips = [
        clip_of(folder, path, kind, dataset=folder.name, group=_recording(path))
        for sub, kind in ((positive, CALL), (negative, NOT_CALL))
        for path in sounds_under(sub)
    ]
    return Found(
        layout="calls",
        clips=tuple(sorted(clips, key=lambda clip: clip.name)),
        recordings_known=True,
        long=tuple(sounds_under(long)) if long else (),
    )


def _recording(path: Path) -> str:
    """Return what a parsed clip was cut from: `XC3776-0` from XC3776, `birds-in-forest-12` from birds-in-forest."""
    match = _PIECE.fullmatch(path.stem)
    return recording_of(path.stem) or (match[1] if match else path.stem)


def is_label_folders(folder: Path) -> bool:
    """Say whether there is a folder of sound at all."""
    return any(sounds_under(sub) for sub in folder.iterdir() if sub.is_dir())


def label_folders(folder: Path) -> Found:
    """Read `Sounds/`: background, chainsaw, engine, storm, one folder a class; `samples` has no class."""
    clips: list[Clip] = []
    left_out: list[Path] = []
    for sub in sorted(path for path in folder.iterdir() if path.is_dir()):
        paths = sounds_under(sub)
        if sub.name.lower() in _UNLABELLED:
            left_out += paths
            continue
        clips += [
            clip_of(
                folder, path, sub.name, dataset=folder.name, group=recording_of(path.stem) or f"{sub.name}/{path.stem}"
            )
            for path in paths
        ]
    return Found(
        layout="folders",
        clips=tuple(sorted(clips, key=lambda clip: clip.name)),
        recordings_known=bool(clips) and all(recording_of(clip.path.stem) for clip in clips),
        long=tuple(left_out),
    )
