"""What the tests of deploy share: bundles, each made once from the index that pip is set to."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import assemble
from deploy.errors import DeployError
from deploy.targets import TARGETS
from deploy.wheels import build_own


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a maker of bundles, which skips where pip's index is not reachable."""
    out = tmp_path_factory.mktemp("bundles")
    made: dict[str, Path] = {}
    own: list[Path] = []

    def build_once(repo: Path, into: Path) -> Path:
        if not own:
            own.append(build_own(repo, tmp_path_factory.mktemp("own")))
        return Path(shutil.copy(own[0], into))

    def make(target: str) -> Path:
        if target not in made:
            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(assemble, "build_own", build_once)
                    made[target] = assemble.make_bundle(TARGETS[target], out).path
            except DeployError as error:
                if "Could not find a version" in str(error) or "no answer" in str(error):
                    pytest.skip(f"pip's index is not reachable: {error}")
                raise
        return made[target]

    return make


@pytest.fixture(scope="session")
def unpacked(bundle: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a maker of unpacked bundles: the folder `curupira` of a target. Look, do not touch."""
    made: dict[str, Path] = {}

    def unpack(target: str) -> Path:
        if target not in made:
            folder = tmp_path_factory.mktemp(target)
            with tarfile.open(bundle(target)) as tar:
                tar.extractall(folder, filter="data")
            made[target] = folder / "curupira"
        return made[target]

    return unpack
