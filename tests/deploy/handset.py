"""A phone without a phone: Termux' prefix and home in a folder, the scripts of deploy/termux, Debian's runit.

What only Android has (`pkg`, `am`, the wake lock, PulseAudio, `parec`) are stand-ins that note that they were called.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
SCRIPTS = REPO / "deploy" / "termux"

_NOTE = '#!/bin/sh\necho "$(basename "$0") $*" >>"$PREFIX/../calls"\n'
_PYTHON = '#!/bin/sh\nexec "{python}" "$@"\n'
_DPKG_QUERY = """#!/bin/sh
case "$*" in
  *Status-Status*) grep -qx "$4" "$PREFIX/../missing" 2>/dev/null && exit 1; printf installed ;;
  *) cat "$PREFIX/../pulseaudio-version" ;;
esac
"""
_PKG = _NOTE + 'rm -f "$PREFIX/../missing"\n'
_PULSE = _NOTE + "exec sleep 1000\n"
_START = """
[ -s "$PREFIX/../runsvdir.pid" ] || {
  setsid runsvdir -P "$PREFIX/var/service" >/dev/null 2>&1 &
  echo $! >"$PREFIX/../runsvdir.pid"
}
"""
_PAREC = """#!{python}
import os, sys, time
from pathlib import Path
mode = Path(os.environ["PREFIX"]) / ".." / "microphone"
noise = os.urandom(2 * 4800)
quiet = bytes(b if i % 2 == 0 else (0 if b < 128 else 255) for i, b in enumerate(noise))
while True:
    loud = mode.read_text().strip() != "zeros"
    sys.stdout.buffer.write(quiet if loud else bytes(len(quiet)))
    sys.stdout.buffer.flush()
    time.sleep(0.1)
"""
CONFIG = """
device: {id: ipe-07}
capture: {source: pipe, command: [parec, -d, mic], sample_rate: 48000}
storage: {folder: ~/.local/share/curupira}
"""


def bundle_of(root: Path, version: str, *, breakage: str = "") -> Path:
    """Unpack what stands for a bundle: the scripts, a wheel of the agent, checksums.

    Args:
        root: where the folder `curupira` goes.
        version: which version the agent says it is.
        breakage: Python that the agent runs at import, to make a release that does not work.
    """
    folder = root / "curupira"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SCRIPTS, folder)
    (folder / "wheels").mkdir()
    _write_wheel(folder / "wheels" / f"curupira-{version}-py3-none-any.whl", version, breakage)
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


def _write_wheel(path: Path, version: str, breakage: str) -> None:
    info = f"curupira-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for source in sorted((REPO / "agent").rglob("*")):
            name = source.relative_to(REPO)
            if source.is_file() and "__pycache__" not in source.parts and str(name) != "agent/__init__.py":
                wheel.write(source, name)
        wheel.writestr("agent/__init__.py", f'VERSION = "{version}"\n{breakage}\n')
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: curupira\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@dataclass
class Handset:
    """The phone's file system, and what was done on it."""

    root: Path
    runit: Path
    """Where runsvdir and the others lie."""
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = self.root / "files" / "usr"
        self.home = self.root / "files" / "home"
        self.environment = {
            "PREFIX": str(self.prefix),
            "HOME": str(self.home),
            "PATH": f"{self.prefix / 'bin'}:{self.runit}:/usr/bin:/bin:/usr/sbin:/sbin",
            "TMPDIR": str(self.root),
            "CURUPIRA_BOOT_PAUSE_S": "0",
        }
        self.home.mkdir(parents=True)
        bin_ = self.prefix / "bin"
        bin_.mkdir(parents=True)
        (self.prefix / "etc" / "profile.d").mkdir(parents=True)
        (self.prefix / "var" / "service").mkdir(parents=True)
        (self.prefix / "etc" / "profile.d" / "start-services.sh").write_text(_START)
        (bin_ / "sh").symlink_to("/bin/sh")
        for name, text in (
            ("python", _PYTHON.format(python=sys.executable)),
            ("dpkg-query", _DPKG_QUERY),
            ("pkg", _PKG),
            ("am", _NOTE),
            ("termux-wake-lock", _NOTE),
            ("pulseaudio", _PULSE),
            ("parec", _PAREC.format(python=sys.executable)),
        ):
            self.command(name, text)
        (self.root / "files" / "pulseaudio-version").write_text("17.0-4")
        self.hears("sound")

    def command(self, name: str, text: str) -> None:
        """Put a command on the phone."""
        path = self.prefix / "bin" / name
        path.write_text(text)
        path.chmod(0o700)

    def hears(self, what: str) -> None:
        """Let the microphone give sound or zeros."""
        (self.root / "files" / "microphone").write_text(what)

    def calls(self) -> list[str]:
        """Return which stand-ins were called, in order."""
        path = self.root / "files" / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def sh(self, *command: object, check: int | None = 0, **more: str) -> subprocess.CompletedProcess[str]:
        """Run something on the phone."""
        result = subprocess.run(
            [str(word) for word in command],
            env={**self.environment, **more},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert check is None or result.returncode == check, result.stdout + result.stderr
        return result

    def configure(self, text: str = CONFIG) -> None:
        """Bring the configuration, as `flash` does."""
        folder = self.home / ".config" / "curupira"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(text)

    def install(
        self, version: str = "1.0", *arguments: str, check: int = 0, breakage: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Unpack a bundle and run its install script."""
        folder = bundle_of(self.home, version, breakage=breakage)
        return self.sh("sh", folder / "install.sh", *arguments, check=check)

    def install_quickly(self) -> None:
        """Install scripts and services, and believe the Python packages to be good."""
        self.command("python", "#!/bin/sh\nexit 0\n")
        self.install("1.0", "--no-start")
        self.command("python", _PYTHON.format(python=sys.executable))

    def service(self, name: str) -> Path:
        """Return the folder of a service."""
        return self.prefix / "var" / "service" / name

    def log(self, name: str = "curupira") -> str:
        """Return what a service said, as far as it is in the current file."""
        path = self.prefix / "var" / "log" / "sv" / name / "current"
        return path.read_text() if path.exists() else ""

    def status(self, name: str = "curupira") -> str:
        """Return what `sv status` says."""
        return self.sh("sv", "status", self.service(name), check=None).stdout

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Open Termux: its shell starts runsvdir."""
        self.environment.update(environment or {})
        self.sh("sh", "-c", '. "$PREFIX/etc/profile.d/start-services.sh"')

    def files(self) -> set[str]:
        """Return every file and folder on the phone but what Termux and its stand-ins made."""
        own = {"calls", "runsvdir.pid", "microphone", "pulseaudio-version", "missing"}
        found = {path.relative_to(self.root) for path in (self.root / "files").rglob("*")}
        return {str(path) for path in found if path.name not in own}

    def switch_off(self) -> None:
        """End runsvdir and all that it watches."""
        path = self.root / "files" / "runsvdir.pid"
        if not path.exists():
            return
        pid = int(path.read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)  # it tells its runsv to end, and ends
        for service in (self.prefix / "var" / "service").glob("*"):
            (service / "again").touch()
            self.sh("sv", "force-shutdown", service, check=None)


def wait_for(what: Callable[[], bool], longest_s: float = 60.0) -> None:
    """Wait until something is so; AssertionError if it never is."""
    end_s = time.monotonic() + longest_s
    while not what():
        assert time.monotonic() < end_s, f"not within {longest_s} s"
        time.sleep(0.05)
