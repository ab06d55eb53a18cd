"""Debian roots that are only extracted, of any architecture, from the mirror that this machine's apt is set to.

Nothing in them was configured and no emulated dpkg ran: enough for a Python, and for systemd as the first process of a
namespace. Kept under CURUPIRA_DEBIAN_CACHE (default ~/.cache/curupira-arm), for the next run.
"""

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

FETCH_S = 300
PYTHON = ("python3-venv", "libstdc++6", "dash", "coreutils", "sed", "grep", "base-files", "libc-bin")
SYSTEMD = (
    *("systemd", "dbus", "login", "base-passwd", "util-linux", "mount", "bash", "findutils", "procps", "alsa-utils"),
    *("tar", "gzip"),
    *PYTHON,
)
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def cache() -> Path:
    return Path(os.environ.get("CURUPIRA_DEBIAN_CACHE", Path.home() / ".cache" / "curupira-arm"))


@functools.cache
def mirror() -> str:
    """Return where this machine's apt gets Debian from, or skip."""
    given = os.environ.get("CURUPIRA_DEBIAN_MIRROR", "")
    if given:
        return given
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb") and Path(_KEYRING).exists()):
        pytest.skip("no apt with Debian's keyring here: no Debian root can be made")
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages"]
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout
    found = [line.split()[0].rstrip("/") for line in said.splitlines() if line.endswith(" main")]
    plain = [uri for uri in found if uri.endswith("/debian")]
    if not plain:
        pytest.skip("apt here has no Debian mirror; CURUPIRA_DEBIAN_MIRROR=URL names one")
    return plain[0]


def debian_root(architecture: str, suite: str, packages: Sequence[str], keep: Sequence[str] = ()) -> Path:
    """Return a root with these packages and what they depend on, or skip where the mirror is not reachable.

    Args:
        architecture: Debian's word, arm64.
        suite: bookworm, trixie.
        packages: names.
        keep: the only files to keep, if any.
    """
    digest = hashlib.sha256(" ".join([*sorted(packages), "|", *sorted(keep)]).encode()).hexdigest()[:8]
    root = cache() / f"{suite}-{architecture}-{digest}"
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            with tempfile.TemporaryDirectory(dir=cache()) as scratch:
                made = Path(scratch) / "root"
                _extract(architecture, suite, packages, made, Path(scratch))
                _keep_only(made, keep)
                made.rename(root)
    return root


def _extract(architecture: str, suite: str, packages: Sequence[str], root: Path, scratch: Path) -> None:
    apt = _apt(architecture, suite, scratch)
    updated = subprocess.run([*apt, "update"], capture_output=True, text=True, check=False, timeout=FETCH_S)
    if updated.returncode or not any((scratch / "lists").glob("*Packages*")):
        pytest.skip(f"the package mirror is not reachable: {updated.stderr.strip()[-200:]}")
    fetched = subprocess.run(
        [*apt, "--yes", "--download-only", "--no-install-recommends", "install", *packages],
        capture_output=True,
        text=True,
        check=False,
        timeout=FETCH_S,
    )
    assert fetched.returncode == 0, fetched.stderr[-1_000:]
    for name in ("bin", "lib", "sbin"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for deb in sorted((scratch / "debs").glob("*.deb")):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as content:
            tar = ["tar", "-C", str(root), "-x", "--keep-directory-symlink", "--no-same-owner"]
            subprocess.run(tar, stdin=content.stdout, check=True, timeout=FETCH_S)
        assert content.returncode == 0, deb


def _apt(architecture: str, suite: str, scratch: Path) -> list[str]:
    for name in ("lists/partial", "cache/archives/partial", "debs/partial"):
        (scratch / name).mkdir(parents=True)
    (scratch / "status").touch()
    (scratch / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {mirror()} {suite} main\n")
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures::": architecture,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Debug::NoLocking": "1",
        "Dir::Cache": str(scratch / "cache"),
        "Dir::Cache::archives": str(scratch / "debs"),
        "Dir::Etc::sourcelist": str(scratch / "sources.list"),
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": str(scratch / "lists"),
        "Dir::State::status": str(scratch / "status"),
    }
    return ["apt-get", "-qq", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]


def _keep_only(root: Path, keep: Sequence[str]) -> None:
    if not keep:
        return
    for path in [path for path in root.rglob("*") if path.is_file() or path.is_symlink()]:
        if path.relative_to(root).as_posix() not in keep:
            path.unlink()
