"""A second copy of what waits in the outbox: flash that rots must not take an alert with it.

Lines in one file, added at the end: `+ CRC KEY BODY` for what entered, `- CRC KEY` for what left. A line that is not
whole is passed over. The database is the truth; this file is read only at the start, and when a row is damaged.
"""

import logging
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from agent.counter import write_durably
from agent.errors import StorageError

log = logging.getLogger(__name__)

Key = tuple[str, int]


class Mirror:
    """The copy of an outbox; a disk that refuses is named once, and costs no more than the copy."""

    def __init__(self, path: Path) -> None:
        """Open nothing yet.

        Args:
            path: the file; it may be missing.
        """
        self._path = path
        self.problem = ""
        """Why the disk refuses the copy now; empty while all is well."""
        self.damaged = 0
        """Lines that were not whole when the file was last read to its end."""

    def size_bytes(self) -> int:
        """Return the size of the file."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def keep(self, entries: Iterable[tuple[Key, bytes]]) -> None:
        """Add what entered the outbox; it is on the disk when this returns, unless `problem` says otherwise."""
        self._append(b"".join(_entered(key, body) for key, body in entries), durably=True)

    def forget(self, keys: Iterable[Key]) -> None:
        """Note what left the outbox; if the power takes the note, the station is told once more what it knows."""
        self._append(b"".join(_left(key) for key in keys), durably=False)

    def clear(self) -> None:
        """Forget all of it: the outbox is empty."""
        if self.size_bytes():
            self._try(lambda: os.truncate(self._path, 0))

    def rewrite(self, entries: Iterable[tuple[Key, bytes]]) -> None:
        """Replace the file by one that holds just these."""
        self._try(lambda: write_durably(self._path, (_entered(key, body) for key, body in entries)))

    def keys(self) -> list[Key]:
        """Return what is kept and was not forgotten, in the order in which it came."""
        live: dict[Key, None] = {}
        self.damaged = 0
        for line in self._lines():
            whole = _parsed(line)
            if whole is None:
                self.damaged += 1
            elif whole[1] is None:
                live.pop(whole[0], None)
            else:
                live[whole[0]] = None
        return list(live)

    def entries(self) -> Iterator[tuple[Key, bytes]]:
        """Yield each key of `keys` with its body."""
        live = set(self.keys())
        for line in self._lines():
            whole = _parsed(line)
            if whole is not None and whole[1] is not None and whole[0] in live:
                live.discard(whole[0])
                yield whole[0], whole[1]

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                yield from (line for line in file if line != b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("%s: the outbox's copy cannot be read: %s", self._path, error)

    def _append(self, lines: bytes, *, durably: bool) -> None:
        if lines:
            self._try(lambda: self._write(lines, durably=durably))

    def _write(self, lines: bytes, *, durably: bool) -> None:
        with self._path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # the disk was full, or the power went, in the middle of a line
                    lines = b"\n" + lines
            file.write(lines)
            file.flush()
            if durably:
                os.fsync(file.fileno())

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (OSError, StorageError) as error:
            if str(error) != self.problem:
                log.warning("%s: the disk refuses the outbox's copy: %s", self._path, error)
            self.problem = str(error)
        else:
            self.problem = ""


def _entered(key: Key, body: bytes) -> bytes:
    return _line(b"+", _named(key) + b" " + body)


def _left(key: Key) -> bytes:
    return _line(b"-", _named(key))


def _named(key: Key) -> bytes:
    return f"{key[0]}/{key[1]}".encode()


def _line(sign: bytes, rest: bytes) -> bytes:
    return b"%b %08x %b\n" % (sign, zlib.crc32(sign + rest), rest)


def _parsed(line: bytes) -> tuple[Key, bytes | None] | None:
    """Return the key, and the body of what entered; None if the line is not whole."""
    sign, crc, rest = line[:1], line[2:10], line[11:-1]
    name, _, body = rest.partition(b" ")
    alert_id, _, revision = name.decode("utf-8", "replace").rpartition("/")
    if crc != b"%08x" % zlib.crc32(sign + rest) or not line.endswith(b"\n") or not revision.isdecimal():
        return None
    return (alert_id, int(revision)), body if sign == b"+" else None
