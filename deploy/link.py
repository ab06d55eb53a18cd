"""The way to a device in the field: adb to a phone, ssh to a Linux board. A script goes there, its words come back."""

import shlex
from dataclasses import dataclass, field
from typing import Protocol

from deploy.adb import Adb, AdbError, Children, PhoneGoneError, Reply

_LARGEST_FETCH_BYTES = 300_000_000
# the agent's files are its own: only root sees them
_AS_ROOT = 'if [ "$(id -u)" = 0 ]; then exec sh -c "$0"; else exec sudo -n sh -c "$0"; fi'


class Link(Protocol):
    """A device that can be reached."""

    @property
    def where(self) -> str:
        """Return the serial or address, for people."""
        ...

    def run(self, script: str, *, timeout_s: float, stdin: bytes = b"") -> Reply:
        """Run a shell script there; AdbError if it does not answer, PhoneGoneError if it is not there."""
        ...

    def fetch(self, script: str, *, timeout_s: float) -> bytes:
        """Return what a script writes, byte for byte; AdbError likewise."""
        ...


@dataclass(frozen=True, slots=True)
class AdbLink:
    """A phone, in Termux' home folder."""

    adb: Adb

    @property
    def where(self) -> str:
        """Return the serial."""
        return f"adb {self.adb.serial}"

    def run(self, script: str, *, timeout_s: float, stdin: bytes = b"") -> Reply:
        """Run a script as Termux."""
        return self.adb.termux(script, timeout_s=timeout_s, stdin=stdin)

    def fetch(self, script: str, *, timeout_s: float) -> bytes:
        """Return what a script writes."""
        return self.adb.termux_bytes(f"( {script} ) | head -c {_LARGEST_FETCH_BYTES}", timeout_s=timeout_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class SshLink:
    """A Linux board, as root; its host key must be known already: ssh asks nobody here."""

    target: str
    port: int = 22
    program: str = "ssh"
    children: Children = field(default_factory=Children)
    patience: float = 1.0

    @property
    def where(self) -> str:
        """Return the address."""
        return f"ssh {self.target}"

    def run(self, script: str, *, timeout_s: float, stdin: bytes = b"") -> Reply:
        """Run a script as root."""
        code, out, err = self._run(script, timeout_s, stdin)
        text = f"{out.decode(errors='replace').strip()}\n{err.decode(errors='replace').strip()}"
        return Reply(code, text.strip())

    def fetch(self, script: str, *, timeout_s: float) -> bytes:
        """Return what a script writes."""
        code, out, err = self._run(f"( {script} ) | head -c {_LARGEST_FETCH_BYTES}", timeout_s, b"")
        if code:
            raise AdbError(Reply(code, err.decode(errors="replace")).last_line)
        return out

    def _run(self, script: str, timeout_s: float, stdin: bytes) -> tuple[int, bytes, bytes]:
        argv = [self.program, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15"]
        argv += ["-p", str(self.port), "--", self.target, shlex.join(["sh", "-c", _AS_ROOT, script])]
        try:
            code, out, err = self.children.run(argv, timeout_s * self.patience, stdin)
        except TimeoutError as error:
            raise AdbError(str(error)) from error
        if code == 255:  # ssh's own trouble, not the script's
            raise PhoneGoneError(Reply(code, err.decode(errors="replace")).last_line)
        return code, out, err
