"""The wheels of a bundle: what is pinned for a target, fetched by pip against its hashes, and made smaller.

Nothing is resolved here: constraints/*.txt names every dependency for every platform with its hashes, and the markers
say which of them a target needs. pip fetches them from whatever index it is set to, or from a folder.
"""

import base64
import csv
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from deploy.errors import DeployError
from deploy.targets import Target

ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip file can name."""
_DONOR = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
"""Whose wheels the pure halves are taken from: any would do."""
_DONOR_PYTHON = "3.11"
_PIP_S = 900.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """One line of a constraints file."""

    name: str
    version: str
    requirement: Requirement
    hashes: tuple[str, ...]
    """As pip wants them: `sha256:…`."""

    def line(self) -> str:
        """Return what pip reads in hash-checking mode, without the marker: who called has judged it."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash={digest}" for digest in self.hashes)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Repack:
    """What is taken out of a wheel."""

    drop: Callable[[str], bool]
    """Says of a member's name whether it goes."""
    change: str
    """For the manifest."""
    pure: bool = False
    """Whether what is left is pure Python."""


_LITERT_UNUSED = ("ai_edge_litert/libLiteRtWebGpuAccelerator.so", "ai_edge_litert/libLiteRt.so")
LITERT = Repack(
    drop=lambda name: name in _LITERT_UNUSED or name.startswith("ai_edge_litert/aot/"),
    change="without libLiteRtWebGpuAccelerator.so, libLiteRt.so and aot/, which the interpreter does not use",
)
PURE = Repack(
    drop=lambda name: name.endswith(".so"), change="without its compiled half; tagged py3-none-any", pure=True
)
AS_IT_IS = Repack(drop=lambda _: False, change="")


def read_pins(path: Path) -> list[Pin]:
    """Return the pins of a constraints file.

    Raises:
        DeployError: it cannot be read, or a line is no pin with hashes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DeployError(f"{path}: cannot read the pins: {error.strerror}", 2) from error
    lines = text.replace("\\\n", " ").splitlines()
    return [_pin(path, line) for line in lines if line.strip() and not line.startswith("#")]


def _pin(path: Path, line: str) -> Pin:
    head, *hashes = line.split(" --hash=")
    try:
        requirement = Requirement(head.strip())
    except InvalidRequirement as error:
        raise DeployError(f"{path}: {head.strip()!r} is no requirement: {error}", 2) from error
    exact = re.fullmatch(r"==([^*]+)", str(requirement.specifier))
    if exact is None or not hashes:
        raise DeployError(f"{path}: {head.strip()!r}, expected one version (==) and its hashes", 2)
    digests = tuple(digest.strip() for digest in hashes)
    return Pin(
        name=canonicalize_name(requirement.name), version=exact.group(1), requirement=requirement, hashes=digests
    )


def environment(target: Target) -> dict[str, str]:
    """Return what the markers are judged by."""
    python = target.python or _DONOR_PYTHON
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Android" if target.sys_platform == "android" else "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": target.sys_platform,
        "extra": "",
    }


def needed(pins: Sequence[Pin], target: Target) -> list[Pin]:
    """Return the pins whose wheels the target's bundle holds."""
    without = {*target.from_system, *target.left_out, *target.compiled_there}
    context = environment(target)
    return [
        pin
        for pin in pins
        if pin.name not in without and (pin.requirement.marker is None or pin.requirement.marker.evaluate(context))
    ]


class Fetcher:
    """pip, asked for what is pinned and nothing else."""

    def __init__(self, folder: Path | None) -> None:
        """Ask for nothing yet.

        Args:
            folder: where the files lie; None: pip's own index is asked.
        """
        self._source = [] if folder is None else ["--no-index", "--find-links", str(folder)]

    def wheels(self, pins: Sequence[Pin], platforms: Sequence[str], python: str, into: Path) -> None:
        """Fetch one wheel for each pin, of the first platform that has one.

        Raises:
            DeployError: pip could not, or a file is not the pinned one; the text is pip's.
        """
        tags = [f"--platform={tag}" for tag in platforms]
        self._download(pins, ["--only-binary=:all:", *tags, f"--python-version={python}", "--implementation=cp"], into)

    def sources(self, pins: Sequence[Pin], into: Path) -> None:
        """Fetch the source of each pin."""
        self._download(pins, ["--no-binary=:all:", "--no-build-isolation"], into)

    def _download(self, pins: Sequence[Pin], choice: Sequence[str], into: Path) -> None:
        if not pins:
            return
        with tempfile.TemporaryDirectory() as scratch:
            wanted = Path(scratch) / "wanted.txt"
            wanted.write_text("".join(pin.line() + "\n" for pin in pins), encoding="utf-8")
            argv = ["download", "--quiet", "--no-deps", "--require-hashes", *self._source, *choice]
            pip([*argv, "--dest", str(into), "--requirement", str(wanted)])


def pip(arguments: Sequence[str]) -> None:
    """Run this Python's pip.

    Raises:
        DeployError: it failed; the text is its last words.
    """
    argv = [sys.executable, "-m", "pip", *arguments]
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_PIP_S)
    except subprocess.CalledProcessError as error:
        said = [line for line in str(error.stderr).splitlines() if line.strip() and not line.startswith("WARNING")]
        raise DeployError(f"pip {arguments[0]} failed:\n  " + "\n  ".join(said[-8:] or ["it said nothing"])) from error
    except subprocess.TimeoutExpired as error:
        raise DeployError(f"pip {arguments[0]} gave no answer within {_PIP_S:.0f} s") from error


def build_own(repo: Path, into: Path) -> Path:
    """Build the `curupira` wheel of a checkout, from a copy: nothing is left in the checkout.

    Raises:
        DeployError: it is no checkout, or the build failed.
    """
    project = repo / "pyproject.toml"
    if not project.is_file():
        raise DeployError(f"{repo}: no pyproject.toml; bundles are made from a checkout of the source", 2)
    packages = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy2(repo / name, source)
        for name in sorted({str(package).partition(".")[0] for package in packages}):
            shutil.copytree(repo / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        built = Path(scratch) / "built"
        pip(["wheel", "--quiet", "--no-deps", *_isolation(), "--wheel-dir", str(built), str(source)])
        (wheel,) = built.glob("*.whl")
        return repacked(wheel, into, AS_IT_IS)


def _isolation() -> list[str]:
    """Use the setuptools at hand, if there is one: then nothing is fetched to build."""
    return ["--no-build-isolation"] if find_spec("setuptools") and find_spec("wheel") else []


def repacked(wheel: Path, into: Path, repack: Repack) -> Path:
    """Write a wheel anew: smaller by what is dropped, with a RECORD that agrees, and the same bytes each time.

    Args:
        wheel: the wheel as it was fetched.
        into: the folder for the new one.
        repack: what goes.

    Raises:
        DeployError: nothing in it is what was to be dropped: the wheel has changed its shape.
    """
    with zipfile.ZipFile(wheel) as old:
        members = {entry.filename: old.read(entry) for entry in old.infolist() if not entry.is_dir()}
    kept = {name: content for name, content in members.items() if not repack.drop(name)}
    if len(kept) == len(members) and repack.change:
        raise DeployError(f"{wheel.name}: holds nothing of what should be left out of it; see deploy/wheels.py")
    (record,) = (name for name in kept if name.endswith(".dist-info/RECORD") and name.count("/") == 1)
    if repack.pure:
        tags = record.replace("RECORD", "WHEEL")
        kept[tags] = _pure_tags(kept[tags])
    kept[record] = _record(kept, record)
    name = _pure_name(wheel.name) if repack.pure else wheel.name
    target = into / name
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for member in [*sorted(set(kept) - {record}), record]:
            entry = zipfile.ZipInfo(member, ZIP_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            new.writestr(entry, kept[member])
    return target


def _record(members: dict[str, bytes], record: str) -> bytes:
    """Return the list of files with their digests, as the wheel's format wants it."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for name in sorted(set(members) - {record}):
        digest = base64.urlsafe_b64encode(hashlib.sha256(members[name]).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(members[name])])
    rows.writerow([record, "", ""])
    return text.getvalue().encode()


def _pure_tags(content: bytes) -> bytes:
    lines = [line for line in content.decode().splitlines() if line and not line.startswith("Tag:")]
    lines = [re.sub(r"^Root-Is-Purelib:.*", "Root-Is-Purelib: true", line) for line in lines]
    return "\n".join([*lines, "Tag: py3-none-any", ""]).encode()


def _pure_name(name: str) -> str:
    distribution, version = name.split("-")[:2]
    return f"{distribution}-{version}-py3-none-any.whl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """One file of the bundle that pip installs."""

    path: Path
    name: str
    version: str
    source: str
    """The file that it was made from, which the hash was checked of."""
    change: str = ""


def gather(target: Target, pins: Sequence[Pin], fetcher: Fetcher, into: Path) -> Iterator[Packed]:
    """Bring the wheels that a target needs into a folder, and yield each.

    Raises:
        DeployError: one cannot be had, or is not the pinned file.
    """
    wanted = needed(pins, target)
    pure = [pin for pin in wanted if pin.name in target.purified]
    with tempfile.TemporaryDirectory() as scratch:
        fetched = Path(scratch)
        platforms = target.platforms or ("any",)
        plain = [pin for pin in wanted if pin not in pure]
        fetcher.wheels(plain, platforms, target.python or _DONOR_PYTHON, fetched)
        fetcher.wheels(pure, _DONOR, _DONOR_PYTHON, fetched)
        for wheel in sorted(fetched.glob("*.whl")):
            yield _packed(wheel, into, target)


def _packed(wheel: Path, into: Path, target: Target) -> Packed:
    name, version, _, _ = parse_wheel_filename(wheel.name)
    repack = PURE if name in target.purified else LITERT if name == "ai-edge-litert" else None
    path = into / wheel.name if repack is None else repacked(wheel, into, repack)
    if repack is None:
        shutil.copyfile(wheel, path)
    change = "" if repack is None else repack.change
    return Packed(path=path, name=name, version=str(version), source=wheel.name, change=change)
