"""What the tests of deploy share: bundles, each made once a run, also where several workers run the tests."""

import contextlib
import fcntl
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from agent import VERSION
from deploy import assemble
from deploy.errors import DeployError
from deploy.targets import TARGETS
from deploy.wheels import Fetcher, Pin, build_own
from tests.deploy.debian import cache


class ShelfFirst(Fetcher):
    """Fetches what an earlier run has not left, against the same hashes; pip takes its time with an index."""

    def _download(self, pins: Sequence[Pin], choice: Sequence[str], into: Path) -> None:
        shelf = cache() / "wheels"
        shelf.mkdir(parents=True, exist_ok=True)
        try:
            Fetcher(shelf)._download(pins, choice, into)
        except DeployError:
            super()._download(pins, choice, into)
            for path in into.iterdir():
                draft = shelf / f".{path.name}.{os.getpid()}"
                shutil.copyfile(path, draft)
                draft.replace(shelf / path.name)


@contextlib.contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Wait until no other worker does the same."""
    with (folder / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "bundles"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def bundle(shared: Path) -> Callable[[str], Path]:
    """Return a maker of bundles, which skips where pip's index is not reachable."""

    def build_once(repo: Path, into: Path) -> Path:
        with alone(shared, "own"):
            own = next(shared.glob("curupira-*.whl"), None) or build_own(repo, shared)
        return Path(shutil.copy(own, into))

    def make(target: str) -> Path:
        path = shared / f"curupira-{VERSION}-{target}.tar.gz"
        with alone(shared, target), pytest.MonkeyPatch.context() as patch:
            patch.setattr(assemble, "build_own", build_once)
            patch.setattr(assemble, "Fetcher", ShelfFirst)
            try:
                return path if path.exists() else assemble.make_bundle(TARGETS[target], shared).path
            except DeployError as error:
                if "Could not find a version" in str(error) or "no answer" in str(error):
                    pytest.skip(f"pip's index is not reachable: {error}")
                raise

    return make


@pytest.fixture(scope="session")
def unpacked(bundle: Callable[[str], Path], shared: Path) -> Callable[[str], Path]:
    """Return a maker of unpacked bundles: the folder `curupira` of a target. Look, do not touch."""

    def unpack(target: str) -> Path:
        packed, folder = bundle(target), shared / target
        with alone(shared, target):
            if not folder.exists():
                draft = shared / f".{target}"
                with tarfile.open(packed) as tar:
                    tar.extractall(draft, filter="data")
                draft.rename(folder)
        return folder / "curupira"

    return unpack
