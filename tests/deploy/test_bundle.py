"""Bundles: the right wheels for each target, smaller where they may be, and the same bytes twice."""

import base64
import csv
import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import __main__ as deploy
from deploy import assemble
from deploy.errors import DeployError
from deploy.targets import PI64_LIMIT_BYTES, TARGETS, Target
from deploy.wheels import LITERT, PURE, needed, read_pins, repacked
from tests.conftest import REPO

PINS = REPO / "constraints" / "agent.txt"


def pinned(target: str) -> dict[str, str]:
    return {pin.name: pin.version for pin in needed(read_pins(PINS), TARGETS[target])}


# What is needed where


def test_each_python_gets_its_own_numpy() -> None:
    assert pinned("pi64-bookworm")["numpy"].startswith("2.4")
    assert pinned("pi64-trixie")["numpy"].startswith("2.5")
    assert "numpy" not in pinned("pi32-bookworm")


def test_a_pi_gets_a_runtime_and_only_one() -> None:
    assert "ai-edge-litert" in pinned("pi64-trixie")
    assert "tflite-runtime" not in pinned("pi64-trixie")
    assert pinned("pi32-bookworm")["tflite-runtime"] == "2.14.0"
    assert "ai-edge-litert" not in pinned("pi32-bookworm")


@pytest.mark.parametrize("target", ["termux-aarch64", "termux-arm"])
def test_a_phone_gets_what_is_pure_and_the_rest_from_termux(target: str) -> None:
    assert set(pinned(target)) == {"certifi", "charset-normalizer", "idna", "pyyaml", "requests", "urllib3"}
    assert set(TARGETS[target].from_system) == {"numpy", "tflite-runtime"}


def test_a_station_gets_the_web_server_and_no_sound_library() -> None:
    names = {pin.name for pin in needed(read_pins(REPO / "constraints" / "run.txt"), TARGETS["station-x86-64-py311"])}
    assert {"uvicorn", "sqlalchemy", "nicegui", "cryptography", "ai-edge-litert"} <= names
    assert "soundfile" not in names


@pytest.mark.parametrize(
    "line", ["numpy>=2 --hash=sha256:0", "numpy==2.0", "numpy==2.* --hash=sha256:0", "=== --hash=sha256:0"]
)
def test_what_is_no_pin_with_hashes_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "pins.txt"
    path.write_text(line + "\n")
    with pytest.raises(DeployError, match=r"pins\.txt"):
        read_pins(path)


# Wheels made anew


def wheel_of(folder: Path, name: str, members: dict[str, bytes], tag: str = "py3-none-any") -> Path:
    """Write a wheel, with a RECORD that is right."""
    info = f"{name}-1.0.dist-info"
    files = members | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    lines = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"{name}-1.0-{tag}.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as wheel:
        for member, content in files.items():
            wheel.writestr(zipfile.ZipInfo(member), content)
    return path


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def assert_record_is_right(path: Path) -> None:
    with zipfile.ZipFile(path) as wheel:
        (record,) = [name for name in wheel.namelist() if name.endswith(".dist-info/RECORD")]
        rows = {row[0]: row[1:] for row in csv.reader(wheel.read(record).decode().splitlines())}
        assert set(rows) == set(wheel.namelist())
        for name in wheel.namelist():
            if name != record:
                content = wheel.read(name)
                assert rows[name] == [f"sha256={_digest(content)}", str(len(content))], name


LITERT_LIKE = {
    "ai_edge_litert/__init__.py": b"",
    "ai_edge_litert/libLiteRt.so": b"much",
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so": b"more",
    "ai_edge_litert/aot/a, b.py": b"x = 1\n",
    "ai_edge_litert/interpreter.py": b"class Interpreter: ...\n",
}


def test_a_repacked_wheel_has_lost_what_it_should_and_says_what_it_has(tmp_path: Path) -> None:
    old = wheel_of(tmp_path / "old", "ai_edge_litert", LITERT_LIKE, "cp311-cp311-manylinux_2_27_aarch64")
    new = repacked(old, tmp_path, LITERT)
    assert new.name == old.name
    with zipfile.ZipFile(new) as wheel:
        kept = [name for name in wheel.namelist() if "dist-info" not in name]
    assert kept == ["ai_edge_litert/__init__.py", "ai_edge_litert/interpreter.py"]
    assert_record_is_right(new)


def test_a_wheel_without_its_compiled_half_is_pure(tmp_path: Path) -> None:
    old = wheel_of(
        tmp_path / "old", "pyyaml", {"yaml/_yaml.so": b"elf", "yaml/__init__.py": b""}, "cp311-cp311-linux_x"
    )
    new = repacked(old, tmp_path, PURE)
    assert new.name == "pyyaml-1.0-py3-none-any.whl"
    with zipfile.ZipFile(new) as wheel:
        tags = wheel.read("pyyaml-1.0.dist-info/WHEEL").decode()
    assert "Tag: py3-none-any\n" in tags
    assert "Root-Is-Purelib: true\n" in tags
    assert "cp311" not in tags
    assert_record_is_right(new)


def test_a_wheel_that_has_changed_its_shape_is_not_quietly_kept(tmp_path: Path) -> None:
    old = wheel_of(tmp_path / "old", "ai_edge_litert", {"ai_edge_litert/__init__.py": b""})
    with pytest.raises(DeployError, match="holds nothing of what should be left out"):
        repacked(old, tmp_path, LITERT)


# Bundles without an index


@pytest.fixture
def little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Target, Path]:
    """Return a target that needs two small wheels, and the folder that has them."""
    repo, shelf = tmp_path / "repo", tmp_path / "shelf"
    (repo / "deploy/linux/common").mkdir(parents=True)
    (repo / "constraints").mkdir()
    (repo / "deploy/linux/common/install.sh").write_text("#!/bin/sh\n")
    wheels = [
        wheel_of(shelf, "ai_edge_litert", LITERT_LIKE, "cp311-cp311-manylinux_2_27_aarch64"),
        wheel_of(shelf, "certifi", {"certifi/__init__.py": b"a = 1\n"}),
    ]
    digests = {path.name.split("-")[0].replace("_", "-"): hashlib.sha256(path.read_bytes()) for path in wheels}
    lines = [f"{name}==1.0 \\\n    --hash=sha256:{digest.hexdigest()}\n" for name, digest in digests.items()]
    other = "never==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:" + "0" * 64 + "\n"
    (repo / "constraints/agent.txt").write_text("".join(lines) + other)
    monkeypatch.setattr(assemble, "REPO", repo)
    monkeypatch.setattr(assemble, "build_own", lambda _repo, into: wheel_of(into, "curupira", {"agent.py": b""}))
    return replace(TARGETS["pi64-bookworm"], scripts=("linux/common",)), shelf


def test_the_same_source_gives_the_same_bytes(little: tuple[Target, Path], tmp_path: Path) -> None:
    target, shelf = little
    first = assemble.make_bundle(target, tmp_path / "one", shelf)
    (assemble.REPO / "deploy/linux/common/install.sh").touch()
    second = assemble.make_bundle(target, tmp_path / "two", shelf)
    assert first.path.name == second.path.name == f"curupira-{assemble.VERSION}-pi64-bookworm.tar.gz"
    assert first.path.read_bytes() == second.path.read_bytes()
    assert (first.n_wheels, first.n_bytes) == (3, first.path.stat().st_size)


def test_a_bundle_unpacks_to_what_its_sums_and_its_manifest_say(little: tuple[Target, Path], tmp_path: Path) -> None:
    target, shelf = little
    made = assemble.make_bundle(target, tmp_path / "out", shelf)
    with tarfile.open(made.path) as tar:
        assert all(member.name.split("/")[0] == "curupira" for member in tar)
        assert {(member.uid, member.gid, member.mtime) for member in tar} == {(0, 0, 315_532_800)}
        assert tar.getmember("curupira/install.sh").mode == 0o755
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / "curupira"
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    named = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert named == there - {"SHA256SUMS"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["schema"], manifest["target"], manifest["python"]) == (1, "pi64-bookworm", "3.11")
    by_name = {package["name"]: package for package in manifest["packages"]}
    assert set(by_name) == {"ai-edge-litert", "certifi", "curupira"}
    assert "without libLiteRtWebGpuAccelerator.so" in by_name["ai-edge-litert"]["changed"]
    assert "changed" not in by_name["certifi"]
    for package in manifest["packages"]:
        assert hashlib.sha256((folder / package["file"]).read_bytes()).hexdigest() == package["sha256"]


def test_a_wheel_that_is_not_the_pinned_one_makes_no_bundle(little: tuple[Target, Path], tmp_path: Path) -> None:
    target, shelf = little
    wheel_of(shelf, "certifi", {"certifi/__init__.py": b"a = 2  # not what was pinned\n"})
    with pytest.raises(DeployError, match=r"(?s)pip download failed.*certifi"):
        assemble.make_bundle(target, tmp_path / "out", shelf)
    assert not (tmp_path / "out").exists()


def test_a_wheel_that_is_missing_is_named(little: tuple[Target, Path], tmp_path: Path) -> None:
    target, shelf = little
    (shelf / "certifi-1.0-py3-none-any.whl").unlink()
    with pytest.raises(DeployError, match="certifi"):
        assemble.make_bundle(target, tmp_path / "out", shelf)


def test_a_bundle_that_is_too_large_is_not_written(little: tuple[Target, Path], tmp_path: Path) -> None:
    target, shelf = little
    with pytest.raises(DeployError, match="at most 0 are allowed"):
        assemble.make_bundle(replace(target, limit_bytes=100), tmp_path / "out", shelf)
    assert not (tmp_path / "out").exists()


def test_missing_install_scripts_are_named(little: tuple[Target, Path], tmp_path: Path) -> None:
    target, shelf = little
    with pytest.raises(DeployError, match="deploy/nowhere: no install scripts there"):
        assemble.make_bundle(replace(target, scripts=("nowhere",)), tmp_path / "out", shelf)


# The command


def test_the_command_refuses_what_it_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        deploy.main(["bundle", "--target", "toaster"])
    assert caught.value.code == 2
    assert deploy.main(["bundle", "--target", "pi64-bookworm", "--wheels", str(tmp_path / "none")]) == 2
    assert "--wheels" in capsys.readouterr().err


def test_the_help_names_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        deploy.main(["bundle", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in TARGETS)


def test_the_launchers_start_without_what_bundles_need() -> None:
    """`make run` and a station have no `packaging`."""
    code = (
        "import sys; sys.modules['packaging'] = None; import deploy.__main__ as d; d.main(['bundle', '--target=all'])"
    )
    went = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False)
    assert "packaging is not installed" in went.stderr


# From the index


@pytest.mark.slow
@pytest.mark.parametrize("target", ["pi64-bookworm", "pi64-trixie"])
def test_a_bundle_for_a_pi_is_small_enough(bundle: Callable[[str], Path], target: str) -> None:
    assert bundle(target).stat().st_size <= PI64_LIMIT_BYTES


@pytest.mark.slow
def test_every_wheel_of_a_real_bundle_agrees_with_its_record(unpacked: Callable[[str], Path]) -> None:
    folder = unpacked("pi64-bookworm")
    changed = [part for part in json.loads((folder / "manifest.json").read_text())["packages"] if "changed" in part]
    assert [part["name"] for part in changed] == ["ai-edge-litert"]
    assert_record_is_right(folder / changed[0]["file"])
    own = next((folder / "wheels").glob("curupira-*.whl"))
    assert_record_is_right(own)
    with zipfile.ZipFile(own) as wheel:
        assert {"agent/models/default.tflite", "deploy/provision.py", "base_station/pages/style.css"} <= set(
            wheel.namelist()
        )


@pytest.mark.slow
@pytest.mark.skipif(not (REPO / "deploy/termux/install.sh").exists(), reason="no install scripts for Termux here")
def test_the_wheels_of_a_phone_fit_any_python(unpacked: Callable[[str], Path], tmp_path: Path) -> None:
    folder = unpacked("termux-aarch64")
    words = ["--no-index", "--find-links", str(folder / "wheels"), "--no-deps", "--no-compile", "--quiet"]
    names = ["curupira", *pinned("termux-aarch64")]
    pip = [sys.executable, "-m", "pip", "install", *words, "--target", str(tmp_path / "site"), *names]
    subprocess.run(pip, check=True, timeout=120)
    assert all(path.name.endswith("-any.whl") for path in (folder / "wheels").iterdir())
    assert {path.name.split("-")[0] for path in (folder / "sdists").iterdir()} == {"webrtcvad_wheels", "setuptools"}
    code = "import yaml, agent.config; assert not yaml.__with_libyaml__"
    subprocess.run(
        [sys.executable, "-P", "-c", code], check=True, env={"PYTHONPATH": str(tmp_path / "site")}, timeout=60
    )
