"""The request counter: never the same number twice, whenever the power goes.

The station takes only larger numbers than before (docs/protocol.md), so that a recorded request is worth nothing.
Numbers are reserved on disk in blocks before the first of a block is used; a restart skips the rest of the block.
"""

import contextlib
import logging
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from agent.errors import StorageError
from agent.signing import LARGEST_COUNTER

log = logging.getLogger(__name__)

_FORM = "curupira-counter-v1"
_LARGEST_FILE_BYTES = 200


class Counter:
    """Whole numbers that rise strictly, over restarts and power cuts; used by the sending thread alone."""

    def __init__(self, path: Path, block: int = 1000) -> None:
        """Read what was reserved before.

        Args:
            path: the file that holds the highest reserved number; made when first needed.
            block: numbers to reserve at a time: one write to flash for that many requests.
        """
        self._path = path
        self._block = block
        self.lost = False
        """The file could not be read: numbering starts low, and the station's challenge tells where to go on."""
        self.unsaved = False
        """The disk refuses: numbers go on from memory, and after a restart the station's challenge is needed."""
        self._reserved = self._read()
        self._last = self._reserved

    def next(self) -> int:
        """Return the next number."""
        if self._last >= self._reserved:
            self._reserve(self._last + self._block)
        self._last += 1
        return self._last

    def jump_to(self, highest: int) -> None:
        """Go on after `highest`, the number that the station says it has seen; never goes back."""
        self._last = max(self._last, min(highest, LARGEST_COUNTER - 1))
        self.lost = False

    def _read(self) -> int:
        try:
            with self._path.open("rb") as file:
                return _parse(file.read(_LARGEST_FILE_BYTES))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            self.lost = True
            log.warning(
                "%s: the request counter cannot be read (%s); the station will be asked for it", self._path, error
            )
            return 0

    def _reserve(self, upto: int) -> None:
        try:
            write_durably(self._path, _text(upto))
        except StorageError as error:
            if not self.unsaved:
                log.warning("%s; request counters go on from memory", error)
            self.unsaved = True
        else:
            self.unsaved = False
            self._reserved = upto


def write_durably(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Replace a file so that after a power cut it holds the old content or the new, never half.

    Args:
        path: the file; its folder is made.
        content: all of it, or piece by piece.

    Raises:
        StorageError: the disk refused; the old content stands.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk: a rename is not durable before that."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _text(reserved: int) -> bytes:
    line = f"{_FORM} {reserved}"
    return f"{line} {zlib.crc32(line.encode()):08x}\n".encode()


def _parse(content: bytes) -> int:
    """Return the number in a counter file; ValueError if it is not one that this code wrote."""
    words = content.decode("ascii", "replace").split(" ")
    number = int(words[1]) if len(words) == 3 and words[1].isascii() and words[1].isdecimal() else LARGEST_COUNTER
    if content != _text(number) or number >= LARGEST_COUNTER:
        raise ValueError("not a counter file, or damaged")
    return number
