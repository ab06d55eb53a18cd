"""What all tests share: hypothesis without a clock, and where the development audio lies."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

settings.register_profile("curupira", deadline=None, derandomize=True)
settings.load_profile("curupira")

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the development audio, or skip: it never goes into the repository."""
    path = Path(os.environ.get("CURUPIRA_DATA", REPO.parent / "shared" / "data"))
    if not (path / "manifest.csv").is_file():
        pytest.skip(f"no development audio at {path}; set CURUPIRA_DATA")
    return path


@pytest.fixture(scope="session")
def peers_dir() -> Path:
    """Return the folder of the models that ours is compared with, or skip."""
    path = Path(os.environ.get("CURUPIRA_PEERS", REPO.parent / "shared" / "peers"))
    if not (path / "yamnet.tflite").is_file():
        pytest.skip(f"no yamnet.tflite at {path}; set CURUPIRA_PEERS")
    return path


@pytest.fixture(scope="session")
def weights_file() -> Path:
    """Return the ImageNet weights for MobileNetV2, or skip."""
    default = REPO.parent / "shared" / "weights" / "mobilenet_v2_1.0_imagenet.npz"
    path = Path(os.environ.get("CURUPIRA_WEIGHTS", default))
    if not path.is_file():
        pytest.skip(f"no ImageNet weights at {path}; set CURUPIRA_WEIGHTS")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests: the quick ones fill what is left of the other cores at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
