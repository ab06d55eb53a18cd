"""The bundles on ARM, for real: installed into a Debian root of that architecture, run by qemu, held against x86-64."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import synth
from agent.classify import CLEAR_MARGIN
from agent.manifest import BUNDLED_MODEL, Manifest, load_model
from agent.wav import write_wav
from deploy.targets import TARGETS
from tests.conftest import REPO
from tests.deploy.debian import cache, debian_root

pytestmark = pytest.mark.slow

RATE = 16_000
EMULATION_S = 240
QEMU = {"aarch64": "usr/bin/qemu-aarch64", "armv7l": "usr/bin/qemu-arm"}
OWN = ("agent", "base_station", "deploy", "model_export")
_EPOCH = 315_532_800


@dataclass(frozen=True, kw_only=True)
class Board:
    """A device that is emulated."""

    target: str
    architecture: str
    suite: str
    cpu: str
    packages: tuple[str, ...] = ()
    library_folders: tuple[str, ...] = ()
    vad: bool = True
    """Whether its bundle holds WebRTC's detector."""

    @property
    def options(self) -> list[str]:
        """How a machine that has the detector replays like it."""
        return [] if self.vad else ["--no-vad"]


BOARDS = (
    Board(target="pi64-bookworm", architecture="arm64", suite="bookworm", cpu="cortex-a72"),
    Board(target="pi64-trixie", architecture="arm64", suite="trixie", cpu="cortex-a53"),
    Board(
        target="pi32-bookworm",
        architecture="armhf",
        suite="bookworm",
        cpu="cortex-a7",
        packages=("python3-numpy",),
        library_folders=("usr/lib/arm-linux-gnueabihf/blas", "usr/lib/arm-linux-gnueabihf/lapack"),
        vad=False,
    ),
)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of forest, nine of saw, six of forest."""
    samples = synth.forest(18.0, np.random.default_rng(3))
    samples[3 * RATE : 12 * RATE] += synth.drill_saw()[: 9 * RATE]
    path = tmp_path_factory.mktemp("sound") / "saw.wav"
    write_wav(path, samples.clip(-1, 1), RATE)
    return path


@pytest.fixture(scope="module", params=BOARDS, ids=lambda board: board.target)
def there(
    request: pytest.FixtureRequest,
    unpacked: Callable[[str], Path],
    recording: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Board, dict[str, Any]]]:
    """What the emulated board does with what its bundle installs."""
    board: Board = request.param
    python = TARGETS[board.target].python
    qemu = debian_root("amd64", "trixie", ["qemu-user"], keep=list(QEMU.values()))
    packages = ("python3-minimal", f"libpython{python}-stdlib", "libstdc++6", *board.packages)
    root = debian_root(board.architecture, board.suite, packages)
    with (cache() / f".{board.target}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        site = _installed(unpacked(board.target), board.target)
        emulator = qemu / QEMU[TARGETS[board.target].machine]
        command = [str(emulator), "-cpu", board.cpu, "-L", str(root), f"{root}/usr/bin/python{python}"]
        environment = {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "PYTHONHOME": f"{root}/usr",
            "PYTHONPATH": f"{site}:{root}/usr/lib/python3/dist-packages",
            "PYTHONPYCACHEPREFIX": str(cache() / f"pyc-{board.target}"),
            "LD_LIBRARY_PATH": ":".join(f"{root}/{folder}" for folder in board.library_folders),
            "OPENBLAS_NUM_THREADS": "1",
        }
        yield (
            board,
            _heard(command, environment, [str(recording), *board.options], tmp_path_factory.mktemp(board.target)),
        )


@pytest.fixture(scope="module")
def here(
    there: tuple[Board, dict[str, Any]], recording: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What this machine does."""
    paths = {"PYTHONPATH": str(REPO), "OPENBLAS_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    return _heard([sys.executable], paths, [str(recording), *there[0].options], tmp_path_factory.mktemp("here"))


def _installed(bundle: Path, target: str) -> Path:
    """Install a bundle's wheels for the board, with no network; what others wrote keeps its time, and its bytecode."""
    site = cache() / f"site-{target}"
    shutil.rmtree(site, ignore_errors=True)
    wheels = sorted(str(path) for path in (bundle / "wheels").glob("*.whl"))
    platforms = [f"--platform={tag}" for tag in TARGETS[target].platforms]
    words = ["--no-index", "--no-deps", "--no-compile", "--only-binary=:all:", "--ignore-requires-python"]
    python = [f"--python-version={TARGETS[target].python}", "--implementation=cp"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *words, *platforms, *python]
    subprocess.run([*pip, "--target", str(site), *wheels], check=True, timeout=EMULATION_S)
    for path in site.rglob("*"):
        if path.relative_to(site).parts[0] not in OWN:
            os.utime(path, (_EPOCH, _EPOCH))
    return site


def _heard(command: Sequence[str], environment: dict[str, str], words: Sequence[str], folder: Path) -> dict[str, Any]:
    script = shutil.copy(REPO / "tests/deploy/emulated.py", folder)  # alone: the checkout must not be on the path
    went = subprocess.run(
        [*command, script, *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=EMULATION_S,
    )
    assert went.returncode == 0, went.stderr[-2_000:]
    document: dict[str, Any] = json.loads(went.stdout)
    return document


def _lines(heard: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [line for line in heard["lines"] if line["kind"] == kind]


def _steps(manifest: Manifest, scores: dict[str, float]) -> np.ndarray:
    """Return the output bytes that scores were made of."""
    table = manifest.score_table()
    return np.array([np.abs(table - scores[label]).argmin() for label in manifest.labels])


def _is_clear(manifest: Manifest, output: np.ndarray) -> bool:
    """Say whether one label leads; two that are both near nothing may change places."""
    scores = np.sort(manifest.score_table()[output])
    return bool(scores[-1] - scores[-2] > CLEAR_MARGIN)


def test_the_device_goes(there: tuple[Board, dict[str, Any]]) -> None:
    board, heard = there
    assert heard["doctor"] == 0, heard["screen"]
    assert "\nGO\n" in heard["screen"]
    assert heard["xnnpack"] == (board.architecture == "arm64")
    assert heard["runtime"].startswith("ai_edge_litert " if heard["xnnpack"] else "tflite_runtime ")


def test_the_golden_windows_get_the_answers_of_x86(there: tuple[Board, dict[str, Any]], here: dict[str, Any]) -> None:
    _, heard = there
    manifest, _ = load_model(BUNDLED_MODEL)
    ours, theirs = np.array(here["outputs"]), np.array(heard["outputs"])
    if here["xnnpack"]:
        assert np.array_equal(ours, manifest.golden_outputs)
    if heard["xnnpack"]:
        assert np.array_equal(theirs, manifest.golden_outputs)
    clear = np.array([_is_clear(manifest, output + 128) for output in ours])
    assert clear.sum() >= 16
    assert np.array_equal(ours.argmax(axis=1)[clear], theirs.argmax(axis=1)[clear])


def test_replay_gives_the_same_alerts_and_nearly_the_same_scores(
    there: tuple[Board, dict[str, Any]], here: dict[str, Any]
) -> None:
    _, heard = there
    manifest, _ = load_model(BUNDLED_MODEL)
    assert heard["replay"] == here["replay"] == 0
    told = [
        [(alert["label"], alert["onset_s"], alert["raised_s"]) for alert in _lines(x, "alert")] for x in (here, heard)
    ]
    assert told[0] == told[1]
    assert [label for label, _, _ in told[0]] == ["chainsaw"]
    ours, theirs = _lines(here, "window"), _lines(heard, "window")
    assert [(window["end_s"], window["gated"]) for window in ours] == [
        (window["end_s"], window["gated"]) for window in theirs
    ]
    pairs = [
        (_steps(manifest, one["scores"]), _steps(manifest, other["scores"]))
        for one, other in zip(ours, theirs, strict=True)
        if one["scores"]
    ]
    assert len(pairs) >= 6
    apart = max(int(np.abs(one - other).max()) for one, other in pairs)
    print(f"{len(pairs)} windows, {apart} steps apart at most")
    if heard["xnnpack"]:
        assert apart <= 2
    assert all(one.argmax() == other.argmax() for one, other in pairs if _is_clear(manifest, one))
