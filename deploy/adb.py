"""Talking to phones through adb: each command with its own time limit, each failure with its kind."""

import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.errors import DeployError

PREFIX = "/data/data/com.termux/files/usr"
HOME = "/data/data/com.termux/files/home"
_UNPLUGGED = ("not found", "no devices/emulators found", "error: closed", "device offline", "no permissions")
_UNAUTHORISED = ("unauthorized", "authorizing")
# what `login` sets up in Termux; the preloaded library is named so or so, by age
_TERMUX = (
    f"export PREFIX={PREFIX} HOME={HOME} LANG=C.UTF-8; export TMPDIR=$PREFIX/tmp PATH=$PREFIX/bin:$PATH; cd {HOME}; "
    f"for l in libtermux-exec-ld-preload.so libtermux-exec.so; do "
    f"[ ! -e {PREFIX}/lib/$l ] || {{ export LD_PRELOAD={PREFIX}/lib/$l; break; }}; done; "
)


class AdbError(Exception):
    """A command did not do what it should; the text is for people."""


class PhoneGoneError(AdbError):
    """The phone is not there any more: unplugged, off, or it lets nobody in."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a command said."""

    code: int
    out: str
    """Standard output and errors, in that order, without blanks around."""

    @property
    def last_line(self) -> str:
        """Return the last line, which is where programs say why."""
        lines = [line.strip() for line in self.out.splitlines() if line.strip()]
        return lines[-1][:200] if lines else f"exit code {self.code}"

    @property
    def reason(self) -> str:
        """Return why a script failed: a full disk, its own `error:`, or tar's first word, as its last tells nothing."""
        lines = [line.strip()[:200] for line in self.out.splitlines()]
        ours = [line for line in lines if line.startswith("error:") or "No space left" in line]
        tars = [line for line in lines if line.startswith(("tar:", "gzip:"))]
        return (ours or tars or [self.last_line])[0]


@dataclass(slots=True)
class Children:
    """The programs that run now, so that Ctrl-C ends all of them."""

    _running: set["subprocess.Popen[bytes]"] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: bool = False

    def run(self, argv: list[str], timeout_s: float, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        """Run a program.

        Raises:
            TimeoutError: it took longer; it and what it started are gone.
            DeployError: there is no such program.
            PhoneGoneError: everything is being ended.
        """
        with self._lock:
            if self._ended:
                raise PhoneGoneError("interrupted")
            try:
                child = subprocess.Popen(
                    argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                raise DeployError(f"{argv[0]}: cannot be run: {error.strerror}; is it installed?", 2) from error
            self._running.add(child)
        try:
            out, err = child.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"no answer within {timeout_s:.0f} s") from error
        finally:
            _end(child)
            with self._lock:
                self._running.discard(child)
        if self._ended:
            raise PhoneGoneError("interrupted")
        return child.returncode, out, err

    def end(self) -> None:
        """End all that runs, and let nothing begin."""
        with self._lock:
            self._ended = True
            for child in self._running:
                _kill(child)


def _kill(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        _kill(child)
        child.communicate()


def _as_termux(script: str) -> str:
    return shlex.join(["run-as", "com.termux", "files/usr/bin/bash", "-c", _TERMUX + script])


@dataclass(frozen=True, kw_only=True, slots=True)
class Adb:
    """One phone."""

    serial: str
    program: str = "adb"
    children: Children = field(default_factory=Children)
    patience: float = 1.0
    """What every time limit is multiplied by."""

    def run(self, *arguments: str, timeout_s: float, stdin: bytes = b"") -> Reply:
        """Run one adb command for this phone.

        Raises:
            PhoneGoneError: the phone is not there.
            AdbError: no answer in time.
        """
        code, out, said = self._run(arguments, timeout_s, stdin)
        return Reply(code, f"{out.decode(errors='replace').strip()}\n{said.strip()}".strip())

    def _run(self, arguments: Sequence[str], timeout_s: float, stdin: bytes) -> tuple[int, bytes, str]:
        argv = [self.program, "-s", self.serial, *arguments]
        try:
            code, out, err = self.children.run(argv, timeout_s * self.patience, stdin)
        except TimeoutError as error:
            raise AdbError(str(error)) from error
        said = err.decode(errors="replace")
        if code and any(word in said for word in _UNAUTHORISED):
            raise PhoneGoneError("the phone does not trust this computer")
        if code and said.startswith(("error:", "adb:")) and any(word in said for word in _UNPLUGGED):
            raise PhoneGoneError("unplugged, or switched off")
        return code, out, said

    def shell(self, script: str, *, timeout_s: float, stdin: bytes = b"") -> Reply:
        """Run a script in the phone's own shell."""
        return self.run("shell", script, timeout_s=timeout_s, stdin=stdin)

    def termux(self, script: str, *, timeout_s: float, stdin: bytes = b"") -> Reply:
        """Run a script as Termux, in its home folder; needs the APKs of GitHub, which allow it."""
        return self.shell(_as_termux(script), timeout_s=timeout_s, stdin=stdin)

    def termux_bytes(self, script: str, *, timeout_s: float) -> bytes:
        """Return what a script in Termux writes, byte for byte; it cannot tell whether the script ended well."""
        code, out, said = self._run(["exec-out", _as_termux(script)], timeout_s, b"")
        if code:
            raise AdbError(Reply(code, said).last_line)
        return out

    def must(self, reply: Reply, what: str) -> Reply:
        """Return a reply that is good; AdbError says what is not."""
        if reply.code:
            raise AdbError(f"{what}: {reply.last_line}")
        return reply


def connected(program: str, children: Children) -> dict[str, str]:
    """Return what is plugged in: serial and adb's word for its state (`device`, `unauthorized`, `offline`).

    Raises:
        DeployError: adb is not there, or does not answer.
    """
    try:
        code, out, err = children.run([program, "devices"], 30.0)
    except TimeoutError as error:
        raise DeployError(f"{program} devices: {error}; try: {program} kill-server") from error
    if code:
        raise DeployError(f"{program} devices: {err.decode(errors='replace').strip()[:200]}")
    lines = out.decode(errors="replace").splitlines()[1:]
    rows = [line.split("\t", 1) for line in lines if "\t" in line]
    return {serial: state.strip() for serial, state in rows}
