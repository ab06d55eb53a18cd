"""A bundle put together: scripts, wheels, manifest, checksums; then one archive of them.

The same source gives the same bytes: no times, no owners, no order but the sorted one.
"""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

from agent import VERSION
from agent.manifest import BUNDLED_MODEL, load_model
from deploy.errors import DeployError
from deploy.targets import Target
from deploy.wheels import Fetcher, Packed, Pin, build_own, gather, read_pins

MANIFEST_SCHEMA = 1
REPO = Path(__file__).resolve().parent.parent
_EPOCH = 315_532_800
"""1980-01-01: the time of everything in a bundle."""
_BUILD_TOOLS = ("setuptools",)
"""What compiling a source needs, pinned for development."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """What was made."""

    path: Path
    n_wheels: int
    n_bytes: int
    took_s: float


def make_bundle(target: Target, out: Path, wheels: Path | None = None) -> Bundle:
    """Make one bundle.

    Args:
        target: what for.
        out: the folder for it; made if missing.
        wheels: a folder with all wheels and sources; None: pip's index is asked.

    Raises:
        DeployError: something is missing, cannot be had, or is not the pinned file; or the bundle is too large.
    """
    began_s = time.monotonic()
    scripts = [_scripts(name) for name in target.scripts]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "curupira"
        for folder in scripts:
            shutil.copytree(folder, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        packed = _packages(target, root, Fetcher(wheels))
        _write_manifest(target, root, packed)
        _write_sums(root)
        content = _archive(root)
    _check_size(target, len(content))
    path = out / f"curupira-{VERSION}-{target.name}.tar.gz"
    _write(path, content)
    n_wheels = sum(1 for part in packed if part.path.parent.name == "wheels")
    return Bundle(path=path, n_wheels=n_wheels, n_bytes=len(content), took_s=time.monotonic() - began_s)


def _scripts(name: str) -> Path:
    folder = REPO / "deploy" / name
    if not (folder.is_dir() and any(folder.iterdir())):
        raise DeployError(f"{folder}: no install scripts there; bundles are made from a checkout of the source", 2)
    return folder


def _packages(target: Target, root: Path, fetcher: Fetcher) -> list[Packed]:
    """Fill wheels/ and, where the device compiles, sdists/."""
    wheels = root / "wheels"
    wheels.mkdir()
    pins = read_pins(REPO / "constraints" / f"{target.pins}.txt")
    own = build_own(REPO, wheels)
    packed = [Packed(path=own, name="curupira", version=VERSION, source="this checkout")]
    packed += gather(target, pins, fetcher, wheels)
    if target.compiled_there:
        packed += _sources(target, pins, fetcher, root / "sdists")
    return packed


def _sources(target: Target, pins: Sequence[Pin], fetcher: Fetcher, into: Path) -> list[Packed]:
    """Fetch what the device may compile, and what compiles it."""
    into.mkdir()
    wanted = [pin for pin in pins if pin.name in target.compiled_there]
    fetcher.sources(wanted, into)
    packed = [
        Packed(path=path, name=wanted[0].name, version=wanted[0].version, source=path.name)
        for path in sorted(into.iterdir())
    ]
    tools = [pin for pin in read_pins(REPO / "constraints" / "dev.txt") if pin.name in _BUILD_TOOLS]
    fetcher.wheels(tools, ("any",), "3.11", into)
    for tool in tools:
        (path,) = into.glob(f"{tool.name}-*.whl")
        packed.append(Packed(path=path, name=tool.name, version=tool.version, source=path.name))
    return packed


def _write_manifest(target: Target, root: Path, packed: Sequence[Packed]) -> None:
    model, content = load_model(BUNDLED_MODEL)
    document = {
        "schema": MANIFEST_SCHEMA,
        "version": VERSION,
        "target": target.name,
        "for": target.title,
        "role": "station" if target.pins == "run" else "agent",
        "python": target.python,
        "machine": target.machine,
        "platform": target.sys_platform,
        "model": {"name": model.name, "digest": model.digest, "sha256": hashlib.sha256(content).hexdigest()},
        "packages": [_entry(root, part) for part in sorted(packed, key=lambda part: part.path.name)],
        "from_system": dict(target.from_system),
        "system_packages": dict(target.system_packages),
        "compiled_there": dict(target.compiled_there),
        "left_out": dict(target.left_out),
        "built_with": {"setuptools": _version("setuptools")},
    }
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (root / "manifest.json").write_text(text, encoding="utf-8")


def _version(package: str) -> str:
    try:
        return installed_version(package)
    except PackageNotFoundError:
        return "fetched"


def _entry(root: Path, part: Packed) -> dict[str, object]:
    content = part.path.read_bytes()
    entry: dict[str, object] = {
        "file": part.path.relative_to(root).as_posix(),
        "name": part.name,
        "version": part.version,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    if part.change:
        entry |= {"changed": part.change, "made_from": part.source}
    return entry


def _files(root: Path) -> list[Path]:
    return sorted((path for path in root.rglob("*") if path.is_file()), key=lambda path: path.relative_to(root).parts)


def _write_sums(root: Path) -> None:
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root).as_posix()}\n"
        for path in _files(root)
    ]
    (root / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def _archive(root: Path) -> bytes:
    """Return the folder as a tar.gz that depends on nothing but what is in it."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=1, mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        folders = sorted(
            {parent for path in _files(root) for parent in path.parents if root in {parent, *parent.parents}}
        )
        for folder in folders:
            tar.addfile(_member(root, folder, tarfile.DIRTYPE))
        for path in _files(root):
            member = _member(root, path, tarfile.REGTYPE)
            member.size = path.stat().st_size
            with path.open("rb") as content:
                tar.addfile(member, content)
    return packed.getvalue()


def _member(root: Path, path: Path, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path.relative_to(root.parent).as_posix())
    member.type = kind
    member.mtime = _EPOCH
    runs = kind == tarfile.DIRTYPE or (kind == tarfile.REGTYPE and path.read_bytes()[:2] == b"#!")
    member.mode = 0o755 if runs else 0o644
    return member


def _check_size(target: Target, n_bytes: int) -> None:
    if target.limit_bytes is not None and n_bytes > target.limit_bytes:
        raise DeployError(
            f"{target.name}: the bundle has {n_bytes / 1e6:.1f} MB, at most {target.limit_bytes / 1e6:.0f} are allowed"
        )


def _write(path: Path, content: bytes) -> None:
    """Put the file there whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise DeployError(f"{path}: cannot write: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
