"""systemd as the agent sees it, without systemd: the unit's own words, limits and notification socket.

It starts what ExecStart says, hears what the agent says, ends an agent that gave no sign of life for WatchdogSec
with SIGABRT, and starts it again. Only real systemd (test_linux.py) shows the sandbox.
"""

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.conftest import REPO

MEGABYTE = 2**20
_ENFORCED = r"""
set -eu
ulimit -d "$1"; ulimit -n "$2"; ulimit -c "$3"; umask "$4"; group=$5; shift 5
if [ -n "$group" ]; then echo $$ >"$group/cgroup.procs"; fi
exec "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What a service file asks of whoever supervises."""

    words: tuple[str, ...]
    """ExecStart behind the interpreter; %d is the folder of the credentials."""
    environment: dict[str, str]
    watchdog_s: float
    start_s: float
    stop_s: float
    memory_mb: int
    tasks: int
    descriptors: int
    core: int
    umask: str

    @classmethod
    def read(cls, path: Path) -> "Unit":
        """Read a service file; KeyError where a line is missing that this supervisor goes by."""
        lines = [line.partition("=") for line in path.read_text().splitlines() if not line.startswith("#")]
        said = {key: value for key, equals, value in lines if equals}
        assert (said["Type"], said["Restart"]) == ("notify", "always")
        return cls(
            words=tuple(shlex.split(said["ExecStart"])[1:]),
            environment=dict(word.split("=", 1) for word in shlex.split(said["Environment"])),
            watchdog_s=float(said["WatchdogSec"]),
            start_s=float(said["TimeoutStartSec"]),
            stop_s=float(said["TimeoutStopSec"]),
            memory_mb=int(said["MemoryMax"].removesuffix("M")),
            tasks=int(said["TasksMax"]),
            descriptors=int(said["LimitNOFILE"]),
            core=int(said["LimitCORE"]),
            umask=said["UMask"],
        )


def memory_group(name: str, megabytes: int) -> Path | None:
    """Make a control group with a bound on memory; None where this process may not (no root, no controller)."""
    base = Path("/sys/fs/cgroup")
    for parent, limit in ((base / "memory", "memory.limit_in_bytes"), (base, "memory.max")):
        group = parent / name
        try:
            group.mkdir()
        except OSError:
            continue
        with contextlib.suppress(OSError):
            (group / limit).write_text(str(megabytes * MEGABYTE))
            return group
        group.rmdir()
    return None


@dataclass(kw_only=True)
class Supervisor:
    """Runs the agent of one storage folder; use as a context manager."""

    unit: Unit
    folder: Path
    """Holds `credentials` with config.yaml; socket, runtime folder and logs are made here."""
    watchdog_s: float = 0.0
    """Instead of the unit's, for a test that cannot wait so long."""
    python_path: str = str(REPO)
    said: list[tuple[float, str]] = field(default_factory=list)
    """(monotonic seconds, one line), of all runs."""
    starts: int = 0
    group: Path | None = None
    _child: "subprocess.Popen[bytes] | None" = None

    def __enter__(self) -> Self:
        """Open the socket."""
        self.watchdog_s = self.watchdog_s or self.unit.watchdog_s
        (self.folder / "runtime").mkdir()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.folder / "notify"))
        self.group = memory_group(f"curupira-test-{os.getpid()}", self.unit.memory_mb)
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs; the recorder ends with the agent's pipe."""
        if self._child is not None and self._child.poll() is None:
            self.kill(signal.SIGKILL)
        self._socket.close()
        if self.group is not None:
            deadline_s = time.monotonic() + 10.0
            while (self.group / "cgroup.procs").read_text() and time.monotonic() < deadline_s:
                time.sleep(0.05)
            self.group.rmdir()

    @property
    def pid(self) -> int:
        """Return the agent's process."""
        assert self._child is not None
        return self._child.pid

    def log(self) -> str:
        """Return what all runs have written, for a person."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("run-*.log")))

    def start(self) -> None:
        """Start the agent within the unit's limits, and wait until it says READY."""
        self.starts += 1
        unit, credentials = self.unit, self.folder / "credentials"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": self.python_path,
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "WATCHDOG_USEC": str(round(self.watchdog_s * 1e6)),
            "RUNTIME_DIRECTORY": str(self.folder / "runtime"),
            "CREDENTIALS_DIRECTORY": str(credentials),
            **unit.environment,
        }
        limits = [str(number) for number in (unit.memory_mb * 1_024, unit.descriptors, unit.core)]
        words = [word.replace("%d", str(credentials)) for word in unit.words]
        enforced = ["sh", "-c", _ENFORCED, "sh", *limits, unit.umask, str(self.group or ""), sys.executable, *words]
        with (self.folder / f"run-{self.starts:02d}.log").open("wb") as log:
            self._child = subprocess.Popen(
                enforced, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        began_s = time.monotonic()
        self.wait_for("READY=1", unit.start_s, since_s=began_s)

    def hear(self, patience_s: float) -> bool:
        """Take one message, if one comes in time; return whether one came."""
        self._socket.settimeout(max(0.01, patience_s))
        try:
            message = self._socket.recv(4_096).decode()
        except TimeoutError:
            return False
        self.said += [(time.monotonic(), line) for line in message.splitlines()]
        return True

    def wait_for(self, line: str, patience_s: float, since_s: float | None = None) -> float:
        """Wait for a line that begins so, said from now on or from `since_s` on; return when it was said."""
        began_s = time.monotonic() if since_s is None else since_s
        while True:
            for at_s, word in self.said:
                if at_s >= began_s and word.startswith(line):
                    return at_s
            left_s = began_s + patience_s - time.monotonic()
            assert left_s > 0, f"no {line} within {patience_s:g} s\n{self.log()[-2_000:]}"
            assert self._child is None or self._child.poll() is None, f"it ended before {line}\n{self.log()[-2_000:]}"
            self.hear(min(left_s, 0.5))

    def signs(self, since_s: float = float("-inf")) -> list[float]:
        """Return when signs of life came: READY counts as the first."""
        return [at_s for at_s, line in self.said if line in ("READY=1", "WATCHDOG=1") and at_s >= since_s]

    def oversee(self, patience_s: float) -> str:
        """Do what systemd does until it has to start the agent again; return why: `ended` or `watchdog`."""
        assert self._child is not None
        end_s = time.monotonic() + patience_s
        while time.monotonic() < end_s:
            self.hear(0.2)
            if self._child.poll() is not None:
                why = "ended"
                break
            if time.monotonic() - self.signs()[-1] > self.watchdog_s:
                why = "watchdog"
                self.kill(signal.SIGABRT)  # WatchdogSignal= of systemd
                break
        else:
            raise AssertionError(f"it neither ended nor hung within {patience_s:g} s")
        self.start()
        return why

    def kill(self, number: signal.Signals) -> int:
        """End the agent by a signal, and by SIGKILL where it does not end; return its exit code."""
        assert self._child is not None
        self._child.send_signal(number)
        self._child.send_signal(signal.SIGCONT)  # as systemd does: what is stopped must hear it too
        try:
            code = self._child.wait(self.unit.stop_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        while self.hear(0.0):
            pass
        return code

    def status(self, name: str) -> int:
        """Return a number of /proc/PID/status: Threads, VmHWM (kB)."""
        found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])
