"""Whoever starts the agent again must know when to: signs of life that follow the sound, not a timer.

Under systemd the notification socket carries them (READY, WATCHDOG, STATUS, STOPPING); everywhere else a file is
touched, in memory where there is such a folder, whose age a supervisor's script can read. And each run leaves a mark,
so that the next one knows how it ended.
"""

import contextlib
import json
import logging
import os
import socket
import zlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.counter import write_durably
from agent.errors import FieldError, StorageError
from agent.fields import Fields

log = logging.getLogger(__name__)

FEED_S = 5.0
"""Seconds between two signs of life, at least..."""
FLASH_FEED_S = 60.0
"""...and between two touches of a file that lies on flash: each makes the file system write a block."""
MARK_SCHEMA = 1
_LARGEST_MARK_BYTES = 4_096
_LONGEST_DETAIL = 200


def sd_notify(text: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell systemd something, where systemd has asked for it (sd_notify(3)); return whether it was told.

    Args:
        text: `READY=1`, `WATCHDOG=1`, `STATUS=...`, lines of it.
        environ: names the socket in NOTIFY_SOCKET.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # a name of the kernel's own, in no folder
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)) as end:
            end.settimeout(1.0)
            end.sendto(text.encode(), address)
    except OSError as error:
        log.debug("systemd cannot be told: %s", error)
        return False
    return True


def alive_file(folder: Path, environ: Mapping[str, str] = os.environ) -> tuple[Path, float]:
    """Return the file to touch, and the seconds between two touches.

    Where the system has a folder in memory for us (systemd's RuntimeDirectory, a session's XDG_RUNTIME_DIR) the file
    lies there and `alive` in the storage folder is a link to it; elsewhere (Termux) it lies on flash and is touched
    seldom.

    Args:
        folder: the storage folder.
        environ: names the folder in memory.
    """
    link = folder / "alive"
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        runtime = environ.get(name, "").split(":")[0]
        if not runtime:
            continue
        # two agents on one machine have two storage folders
        target = Path(runtime) / f"curupira-alive-{zlib.crc32(os.fsencode(folder.resolve())):08x}"
        with contextlib.suppress(OSError):
            target.touch()
            if not (link.is_symlink() and link.readlink() == target):
                link.unlink(missing_ok=True)
                link.symlink_to(target)
            return target, FEED_S
    with contextlib.suppress(OSError):
        if link.is_symlink():
            link.unlink()  # of a run that had a folder in memory: it leads nowhere, or to what nobody touches
    return link, FLASH_FEED_S


@dataclass(slots=True)
class Watchdog:
    """Signs of life: while sound comes, or while the microphone is at least tried again."""

    path: Path | None = None
    """A file whose time of change is the last sign; None: none is kept."""
    notify: Callable[[str], object] = sd_notify
    touch_s: float = FEED_S
    """Seconds between two touches of the file, at least."""
    _seen: Hashable = field(init=False, default=None)
    _fed_s: float = field(init=False, default=float("-inf"))
    _touched_s: float = field(init=False, default=float("-inf"))

    def ready(self) -> None:
        """Say that the agent listens."""
        self.notify("READY=1\nSTATUS=listening")
        self._touch()

    def see(self, progress: Hashable, now_s: float) -> None:
        """Give a sign of life if there was progress; a loop that turns and hears nothing is not alive.

        Args:
            progress: whatever changes when sound comes.
            now_s: monotonic seconds.
        """
        if progress == self._seen or now_s - self._fed_s < FEED_S:
            return
        self._seen, self._fed_s = progress, now_s
        self.notify("WATCHDOG=1")
        if now_s - self._touched_s >= self.touch_s:
            self._touched_s = now_s
            self._touch()

    def say(self, status: str) -> None:
        """Say in a line how the agent is; `systemctl status` shows it."""
        self.notify(f"STATUS={' '.join(status.split())}")

    def stopping(self) -> None:
        """Say that the agent ends on purpose."""
        self.notify("STOPPING=1")

    def _touch(self) -> None:
        if self.path is None:
            return
        # an empty file and a time: neither needs a free block, so that a full disk looks alive
        with contextlib.suppress(OSError):
            self.path.touch()


class RunMark:
    """How the last run ended, and what the next will read of this one."""

    def __init__(self, path: Path, boot_id: str) -> None:
        """Read what the last run left.

        Args:
            path: the mark's file.
            boot_id: of this boot: a run that never ended and was of another boot went with the power.
        """
        self._path = path
        self._boot_id = boot_id
        self.reason, self.detail = self._read()
        """Why this is a new start: `first start`, `clean stop`, `crash`, `killed`, `power loss` or `unknown`."""

    def begin(self) -> None:
        """Leave the mark of a run that goes on."""
        self._write("running", "")

    def end(self, problem: str = "") -> None:
        """Leave the mark of a run that ended, cleanly or with a problem."""
        self._write("crashed" if problem else "stopped", problem)

    def _read(self) -> tuple[str, str]:
        try:
            with self._path.open("rb") as file:
                fields = Fields(json.loads(file.read(_LARGEST_MARK_BYTES)))
            fields.integer("schema", MARK_SCHEMA, MARK_SCHEMA)
            state = fields.choice("state", ("running", "stopped", "crashed"))
            boot_id = fields.text("boot_id", longest=64)
            detail = fields.text("detail", longest=_LONGEST_DETAIL)
        except FileNotFoundError:
            return "first start", ""
        except (OSError, ValueError, FieldError) as error:
            log.warning("%s: how the last run ended cannot be read: %s", self._path, error)
            return "unknown", str(error)[:_LONGEST_DETAIL]
        if state == "running":
            return ("killed", "") if boot_id == self._boot_id else ("power loss", "")
        return ("crash", detail) if state == "crashed" else ("clean stop", "")

    def _write(self, state: str, detail: str) -> None:
        one_line = " ".join(detail.split())[:_LONGEST_DETAIL]
        document = {"schema": MARK_SCHEMA, "state": state, "boot_id": self._boot_id, "detail": one_line}
        try:
            write_durably(self._path, json.dumps(document).encode() + b"\n")
        except StorageError as error:
            log.warning("how this run ends will not be known: %s", error)
