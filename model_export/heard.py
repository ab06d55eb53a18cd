"""What a model was trained on, so that nobody measures its memory: short marks of recordings and of their samples.

A mark is the beginning of a hash, five bytes: of a recording's name (its group), and of a clip's decoded samples, which
stay the same when a file is renamed. The manifest carries those of all training sounds, a track those of all that is in
it, and `evaluate` compares.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from model_export.errors import DataError

_BYTES: Final = 5


def mark_of(content: bytes) -> str:
    """Return the mark of some bytes, ten hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[: 2 * _BYTES]


def group_mark(group: str) -> str:
    """Return the mark of a recording's name."""
    return mark_of(f"group:{group}".encode())


def pack(marks: Iterable[str]) -> str:
    """Return marks as one text for a manifest."""
    return base64.b64encode(b"".join(bytes.fromhex(mark) for mark in sorted(set(marks)))).decode()


def unpack(text: str) -> frozenset[str]:
    """Return the marks of a packed text; ValueError if it is none."""
    raw = base64.b64decode(text, validate=True)
    if len(raw) % _BYTES:
        raise ValueError(f"{len(raw)} bytes are no whole number of marks")
    return frozenset(raw[at : at + _BYTES].hex() for at in range(0, len(raw), _BYTES))


def refuse_known(metrics: Mapping[str, Any], marks: Mapping[str, str]) -> None:
    """Raise DataError if a model was trained on something that is to judge it.

    Args:
        metrics: of the model's manifest; `trained_on` holds its marks. A model that does not say passes.
        marks: mark -> name of what is in the tracks.
    """
    try:
        known = unpack(str(metrics.get("trained_on", "")))
    except ValueError as error:
        raise DataError(f"the manifest's metrics.trained_on is damaged: {error}") from error
    found = sorted(name for mark, name in marks.items() if mark in known)
    if found:
        raise DataError(
            f"the model was trained on {len(found)} of {len(marks)} recordings in these tracks, {found[0]} for one: "
            "that would measure its memory; give recordings that it never heard, cross-validate "
            "(`python -m model_export crossval`), or say --trained-on-them"
        )
