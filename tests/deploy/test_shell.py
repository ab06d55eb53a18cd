"""Every shell script of the repository is clean by shellcheck, and begins with its shebang."""

import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent.parent


OURS = (".ci", "agent", "base_station", "constraints", "deploy", "docs", "model_export", "tests")


def scripts() -> list[Path]:
    """Return all scripts by their first bytes, wherever they are; what was built or installed is not ours."""
    paths = [path for folder in OURS for path in sorted((REPO / folder).rglob("*"))]
    return [path for path in paths if path.is_file() and "__pycache__" not in path.parts and is_shell(path)]


def is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(200)
    words = first.split()
    is_script = first.startswith(b"#!") and words[-1].rsplit(b"/", 1)[-1] in (b"sh", b"bash", b"dash")
    return path.suffix == ".sh" or is_script


def test_all_scripts_are_found():
    names = {str(path.relative_to(REPO)) for path in scripts()}
    assert {".ci/run", "constraints/lock.sh", "deploy/termux/install.sh", "deploy/termux/service/curupira/run"} <= names


def test_every_script_that_is_run_begins_with_its_shebang():
    # a comment before it, and runit starts nothing and says nothing
    run = [path for path in scripts() if path.stat().st_mode & 0o100 or "termux" in path.parts]
    assert len(run) > 10
    assert [path for path in run if not path.read_bytes().startswith(b"#!")] == []


def test_shellcheck_finds_nothing():
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck (apt install shellcheck)")
    # what is only ever sourced has no shebang, and is looked at where it is sourced
    names = [str(path.relative_to(REPO)) for path in scripts() if path.read_bytes().startswith(b"#!")]
    command = ["shellcheck", "--external-sources", *names]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_services_bring_run_log_and_no_windows_line_ends():
    services = REPO / "deploy" / "termux" / "service"
    for service in (path for path in services.iterdir() if path.is_dir()):
        assert (service / "run").stat().st_mode & 0o100
        assert (service / "log" / "run").stat().st_mode & 0o100
    assert [path for path in scripts() if b"\r" in path.read_bytes()] == []
