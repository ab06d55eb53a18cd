"""Archives of field logs, as a browser sends a whole card: their journals are unpacked, and nothing else in them.

No path of an archive is ever one on this machine: each of its folders becomes a numbered one here.
"""

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from agent.errors import FieldError
from agent.journal import SEGMENT_NAME
from base_station.shelf import LARGEST_SEGMENT_BYTES

LARGEST_BYTES = 600_000_000
"""Of the files of journals in one archive, as they lie in it."""
MOST_ENTRIES = 50_000
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """One folder of an archive that holds a journal."""

    name: str
    """As the archive has it; for people, never a path here."""
    folder: Path


def unpack(archive: BinaryIO, target: Path) -> list[Unpacked]:
    """Unpack the journals of a .zip or .tar (plain, gzip, bzip2, xz).

    Args:
        archive: at its beginning, with `seek`.
        target: an empty folder.

    Raises:
        FieldError: it is no archive, is damaged, holds no journal, or more than a card can.
    """
    folders: dict[str, Path] = {}
    left = LARGEST_BYTES
    try:
        for name, content in _members(archive):
            path = PurePosixPath(name.replace("\\", "/"))
            within = str(path.parent)
            if within not in folders:
                folders[within] = target / f"{len(folders):05d}"
                folders[within].mkdir()
            left -= _write(name, content, folders[within] / path.name, left)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise FieldError("archive", f"is damaged or encrypted, pack it again: {str(error)[:200]}") from error
    if not folders:
        raise FieldError("archive", "holds no journal; expected files journal-NNNNNNNN.jsonl or .jsonl.gz in it")
    return [Unpacked(name=name[:200], folder=folder) for name, folder in folders.items()]


def _members(archive: BinaryIO) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the journals' files of an archive with their names; links and devices are no files."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            _bound(len(entries))
            for entry in entries:
                if _is_segment(entry.filename):
                    with packed.open(entry) as content:
                        yield entry.filename, content
        return
    archive.seek(0)
    with tarfile.open(fileobj=archive, mode="r|*") as tape:
        for number, member in enumerate(tape):
            _bound(number)
            file = tape.extractfile(member) if member.isreg() and _is_segment(member.name) else None
            if file is not None:
                yield member.name, file


def _bound(count: int) -> None:
    if count > MOST_ENTRIES:
        raise FieldError("archive", f"has more than {MOST_ENTRIES} entries; send the phones' folders one by one")


def _is_segment(name: str) -> bool:
    return SEGMENT_NAME.fullmatch(name.replace("\\", "/").rsplit("/", 1)[-1]) is not None


def _write(name: str, content: IO[bytes], path: Path, left: int) -> int:
    """Write one file and return its bytes."""
    n_bytes = 0
    try:
        with path.open("xb") as target:
            while piece := content.read(_PIECE_BYTES):
                n_bytes += len(piece)
                if n_bytes > LARGEST_SEGMENT_BYTES:
                    raise FieldError(
                        "archive", f"{name[:200]} has more than {LARGEST_SEGMENT_BYTES} bytes; no agent's has"
                    )
                if n_bytes > left:
                    raise FieldError("archive", f"holds more than {LARGEST_BYTES} bytes; send the phones one by one")
                target.write(piece)
    except FileExistsError as error:
        raise FieldError("archive", f"{name[:200]} is in it twice") from error
    return n_bytes
