"""`python -m agent support-bundle`: one file for whoever helps from afar, without what must not leave the device.

Best effort: each part is gathered on its own, within its own time, and a part that fails is named in report.txt and
stops no other. Nothing is sent; no sound and no picture of sound is in it.
"""

import argparse
import contextlib
import gzip
import importlib.metadata
import io
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from agent import VERSION
from agent.config import AgentConfig, read_config
from agent.errors import AgentError, ConfigError, StorageError
from agent.outbox import peek
from agent.redact import redact

DONE = 0
LONGEST_PART_S = 60.0
"""A disk that hangs must not hang the bundle."""
_JOURNAL_BYTES = 5_000_000
_LOG_BYTES = 1_000_000
_MOST_MESSAGES = 1_000
_LARGEST_TEXT = 4_000_000
_PACKAGES = (
    "numpy", "ai-edge-litert", "tflite-runtime", "webrtcvad-wheels", "sounddevice", "soundfile", "pyyaml", "requests",
)  # fmt: skip

Part = Callable[[], Iterator[tuple[str, bytes]]]
"""Yields names and contents of files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """What the bundle is about."""

    config_file: Path | None
    config: AgentConfig | None
    """None where there is no file, or it cannot be read."""
    folder: Path | None
    """The state folder, as far as it is known."""
    logs: tuple[Path, ...]
    """Log files that somebody named."""
    keep_positions: bool


@dataclass(slots=True)
class Gathering:
    """Parts as they come in; what fails is noted and passed over."""

    files: list[tuple[str, bytes]]
    notes: list[str]
    longest_s: float = LONGEST_PART_S

    def add(self, name: str, part: Part) -> None:
        """Gather one part within its time."""
        found: list[tuple[str, bytes]] = []
        problem: list[str] = []

        def gather() -> None:
            try:
                found.extend(part())
            except Exception as error:  # noqa: BLE001  # best effort: whatever it is, the other parts still come
                problem.append(f"{type(error).__name__}: {error}" if not isinstance(error, AgentError) else str(error))

        began_s = time.monotonic()
        thread = threading.Thread(target=gather, name=f"support-{name}", daemon=True)
        thread.start()
        thread.join(self.longest_s)
        if thread.is_alive():
            problem.append(f"hangs: nothing within {self.longest_s:g} s")
        files = list(found)
        self.files += files
        took_s = time.monotonic() - began_s
        n_bytes = sum(len(content) for _, content in files)
        said = f"FAILED after {len(files)} files: {problem[0]}" if problem else f"{len(files)} files, {n_bytes} bytes"
        self.notes.append(f"{name:<12} {said} ({took_s:.1f} s)")

    @property
    def failed(self) -> list[str]:
        """Return the names of the parts that failed."""
        return [note.split()[0] for note in self.notes if " FAILED " in note]


def parts(scope: Scope) -> dict[str, Part]:
    """Return the parts of a bundle by name."""

    def text(name: str, content: str) -> tuple[str, bytes]:
        return name, redact(content, keep_positions=scope.keep_positions).encode("utf-8", "replace")

    def config() -> Iterator[tuple[str, bytes]]:
        if scope.config_file is not None:
            yield text("config.yaml", scope.config_file.read_text(encoding="utf-8", errors="replace")[:_LARGEST_TEXT])

    def doctor() -> Iterator[tuple[str, bytes]]:
        from agent import doctor as checks

        if scope.config is not None:
            findings = checks.examine(scope.config, offline=True, config_file=scope.config_file)
            yield text("doctor.json", checks.document(scope.config, findings) + "\n")

    def system() -> Iterator[tuple[str, bytes]]:
        yield text("system.json", json.dumps(_system(scope.folder), indent=1) + "\n")

    def state() -> Iterator[tuple[str, bytes]]:
        yield text("state.txt", "\n".join(_listing(_there(scope.folder))) + "\n")
        yield from (text("run.json", path.read_text(errors="replace")) for path in (_there(scope.folder) / "run",))

    def outbox() -> Iterator[tuple[str, bytes]]:
        yield text("outbox.json", json.dumps(_outbox(_there(scope.folder) / "outbox.db"), indent=1) + "\n")

    def journal() -> Iterator[tuple[str, bytes]]:
        left = _JOURNAL_BYTES
        for path in sorted((_there(scope.folder) / "journal").glob("journal-*"), reverse=True):
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            name, content = text(path.name.removesuffix(".gz"), raw.decode("utf-8", "replace"))
            packed = gzip.compress(content, mtime=0)
            left -= len(packed)
            if left < 0:
                return
            yield f"journal/{name}.gz", packed

    def logs() -> Iterator[tuple[str, bytes]]:
        for number, path in enumerate(scope.logs):
            yield text(f"logs/{number}-{path.name}", _tail(path))
        if shutil.which("journalctl"):
            command = ["journalctl", "--no-pager", "-o", "short-iso", "-n", "2000", "-u", "curupira*"]
            told = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20, check=False)
            yield text("logs/journalctl.txt", told.stdout[-_LOG_BYTES:] or told.stderr[-_LOG_BYTES:])

    return {
        "config": config, "doctor": doctor, "system": system, "state": state, "outbox": outbox, "journal": journal,
        "logs": logs,
    }  # fmt: skip


def _there(folder: Path | None) -> Path:
    if folder is None:
        raise StorageError("the state folder is not known: name it with --dir")
    return folder


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_BYTES))
        return file.read(_LOG_BYTES).decode("utf-8", "replace")


def _listing(folder: Path) -> Iterator[str]:
    """Yield what lies in the state folder: kind and mode, size, age, name."""
    now_s = time.time()
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(OSError):
            status = path.lstat()
            age_h = (now_s - status.st_mtime) / 3600
            yield f"{stat.filemode(status.st_mode)} {status.st_size:>12} {age_h:>10.1f} h  {path.relative_to(folder)}"


def _outbox(path: Path) -> dict[str, object]:
    """Return what waits, without places and pictures."""
    found = peek(path)
    newest = [
        {
            "seq": message.seq,
            "alert_id": message.alert_id,
            "revision": message.revision,
            "attempts": message.attempts,
            "parked": parked,
            **_gist(message.body),
        }
        for message, parked in found[:_MOST_MESSAGES]
    ]
    return {
        "messages": len(found),
        "parked": sum(parked is not None for _, parked in found),
        "bytes": sum(len(message.body) for message, _ in found),
        "newest": newest,
    }


def _gist(body: bytes) -> dict[str, object]:
    try:
        alert = json.loads(body)
        return {key: alert.get(key) for key in ("label", "score", "clock", "drill", "level_dbfs", "battery")}
    except (ValueError, AttributeError):
        return {"label": "damaged"}


def _system(folder: Path | None) -> dict[str, object]:
    kernel = platform.uname()
    return {
        "agent": VERSION,
        "python": sys.version,
        "system": f"{kernel.system} {kernel.release} {kernel.machine}",
        "android": hasattr(sys, "getandroidapilevel"),
        "packages": {name: _version(name) for name in _PACKAGES},
        "utc": datetime.now(UTC).isoformat(),
        "load": list(os.getloadavg()),
        "uptime": _read("/proc/uptime"),
        "memory": _read("/proc/meminfo").splitlines()[:5],
        "disk_free_mb": None if folder is None else round(shutil.disk_usage(folder).free / 1e6),
        "heat": {str(path.parent.name): _read(path) for path in Path("/sys/class/thermal").glob("thermal_zone*/temp")},
        "power": {
            str(path.relative_to("/sys/class/power_supply")): _read(path)
            for path in Path("/sys/class/power_supply").glob("*/*")
            if path.name in ("type", "status", "capacity", "temp", "health", "current_now", "voltage_now", "online")
        },
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()[:4_000]
    except OSError as error:
        return f"({error.strerror})"


def write_bundle(target: Path, scope: Scope, chosen: dict[str, Part], longest_s: float = LONGEST_PART_S) -> Gathering:
    """Gather all parts and write them as one tar.gz, readable by its owner alone.

    Raises:
        StorageError: the file cannot be written.
    """
    gathered = Gathering([], [], longest_s)
    for name, part in chosen.items():
        gathered.add(name, part)
    places = "kept" if scope.keep_positions else "taken out"
    head = f"Curupira {VERSION} support bundle, {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    told = f"Keys, passwords and names of networks are taken out; positions are {places}."
    report = redact("\n".join([head, told, "", *gathered.notes, ""]), keep_positions=scope.keep_positions)
    draft = target.with_name(f".{target.name}.new")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            _write_tar(file, [("report.txt", report.encode()), *gathered.files])
        draft.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise StorageError(f"{target}: cannot be written: {error.strerror}; name another with --out") from error
    return gathered


def _write_tar(file: "io.BufferedIOBase", files: list[tuple[str, bytes]]) -> None:
    import tarfile

    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in files:
            member = tarfile.TarInfo(f"support/{name}")
            member.size, member.mtime, member.mode = len(content), int(time.time()), 0o600
            tar.addfile(member, io.BytesIO(content))


def describe(parser: argparse.ArgumentParser) -> None:
    """Say what the command does and takes."""
    parser.description = (
        "Gathers configuration, field log, state, what waits, versions and logs into one tar.gz. Keys, "
        "passwords, names of networks and positions are taken out; no sound is in it; nothing is sent. A part that "
        "fails is named in its report.txt and stops no other."
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the device's YAML file; it may be a broken one")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="the state folder, where the configuration is no help")
    parser.add_argument("--log", type=Path, action="append", default=[], metavar="FILE", help="a log file to put in")
    parser.add_argument("--keep-positions", action="store_true", help="leave in where the device hangs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where it goes (default: support-DEVICE-TIME.tar.gz)")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Write the bundle, and say what is in it."""
    if options.config is None and options.dir is None:
        raise ConfigError("name the device's YAML file with --config, or its state folder with --dir")
    config, trouble = None, ""
    if options.config is not None:
        try:
            config = read_config(options.config)
        except ConfigError as error:
            trouble = str(error)
    folder = options.dir or (None if config is None else config.storage.folder)
    scope = Scope(
        config_file=options.config,
        config=config,
        folder=folder,
        logs=tuple(options.log),
        keep_positions=options.keep_positions,
    )
    name = "device" if config is None else config.device.id
    target = options.out or Path(f"support-{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz")
    chosen = parts(scope)
    if trouble:
        chosen["config-check"] = partial(_refused, trouble)
    gathered = write_bundle(target, scope, chosen)
    print(f"{target}: {target.stat().st_size:,} bytes, readable by you alone")
    for note in gathered.notes:
        print(f"  {redact(note, keep_positions=scope.keep_positions)}")
    print("Look into it before you hand it on: tar tzf lists it.")
    return DONE


def _refused(trouble: str) -> Iterator[tuple[str, bytes]]:
    """A part that only fails: what is wrong with the configuration stands in the report with the rest."""
    raise ConfigError(trouble)
