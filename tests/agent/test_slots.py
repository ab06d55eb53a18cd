"""Two models: what is damaged or fails at work is replaced by what was good before, and that is said."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from agent import slots
from agent.errors import ModelCondemnedError, ModelError
from agent.manifest import Manifest, load_model, manifest_path
from agent.slots import GOOD_ANSWERS, LONGEST_FAILURE_S, ModelGuard, ModelSlots

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny.tflite"


def load(path: Path) -> tuple[str, Manifest]:
    manifest, _ = load_model(path)
    return manifest.digest, manifest


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "model.tflite"
    path.parent.mkdir()
    path.write_bytes(GOLDEN.read_bytes())
    manifest_path(path).write_bytes(manifest_path(GOLDEN).read_bytes())
    return path


@pytest.fixture
def another(tmp_path: Path, configured: Path) -> Path:
    """The same model under another digest: a byte behind its end is nobody's business but the hash's."""
    path = tmp_path / "old.tflite"
    content = configured.read_bytes() + b"\0"
    path.write_bytes(content)
    manifest, _ = load_model(configured)
    changed = dataclasses.replace(manifest, model_sha256=hashlib.sha256(content).hexdigest())
    manifest_path(path).write_text(changed.to_json())
    return path


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_configured_model_is_used_while_it_can_be(tmp_path: Path, configured: Path, another: Path) -> None:
    kept = ModelSlots(tmp_path / "device")
    kept.keep(another, load(another)[0])
    manifest, path, instead_of = kept.choose(configured, load)
    assert (manifest.digest, path, instead_of) == (load(configured)[0], configured, "")


def test_a_damaged_model_is_replaced_by_the_one_before_and_named(
    tmp_path: Path, configured: Path, another: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = ModelSlots(tmp_path / "device")
    kept.keep(another, load(another)[0])
    damage(configured)
    manifest, path, instead_of = kept.choose(configured, load)
    assert manifest.digest == load(another)[0]
    assert path != configured
    assert "is damaged" in instead_of
    assert "the model that was good before takes over" in caplog.text


def test_a_model_that_took_the_place_of_the_one_that_served_is_not_kept(
    tmp_path: Path, configured: Path, another: Path
) -> None:
    kept = ModelSlots(tmp_path / "device")
    kept.keep(another, load(configured)[0])
    assert not kept.has_other(load(configured)[0])


def test_without_another_a_damaged_model_stops_the_start(tmp_path: Path, configured: Path) -> None:
    damage(configured)
    with pytest.raises(ModelError, match=r"model\.tflite: is damaged"):
        ModelSlots(tmp_path / "device").choose(configured, load)


def test_a_copy_that_is_damaged_is_no_other_model(tmp_path: Path, configured: Path, another: Path) -> None:
    kept = ModelSlots(tmp_path / "device")
    kept.keep(another, load(another)[0])
    damage(tmp_path / "device" / "models" / "good.tflite")
    assert not kept.has_other("another")
    damage(configured)
    with pytest.raises(ModelError, match=r"model\.tflite: is damaged"):
        kept.choose(configured, load)


def test_a_model_that_served_well_is_kept_and_one_that_fails_is_given_up_for_it(
    tmp_path: Path, configured: Path, another: Path
) -> None:
    kept = ModelSlots(tmp_path / "device")
    guard = ModelGuard(kept, another, load(another)[0])
    for _ in range(GOOD_ANSWERS - 1):
        guard.answered()
    assert not kept.has_other("x")
    guard.answered()
    assert kept.has_other("x")

    digest = load(configured)[0]
    worse = ModelGuard(kept, configured, digest)
    worse.failed("it says nothing", 100.0)
    worse.answered()
    worse.failed("it says nothing", 140.0)
    worse.failed("it says nothing", 140.0 + LONGEST_FAILURE_S - 1)
    with pytest.raises(ModelCondemnedError, match=f"{digest} is given up: it says nothing"):
        worse.failed("it says nothing", 140.0 + LONGEST_FAILURE_S)
    manifest, _, instead_of = ModelSlots(tmp_path / "device").choose(configured, load)
    assert manifest.digest == load(another)[0]
    assert instead_of == f"model {digest} failed before: it says nothing"
    # another file under the same name is another model
    configured.write_bytes(another.read_bytes())
    manifest_path(configured).write_bytes(manifest_path(another).read_bytes())
    assert ModelSlots(tmp_path / "device").choose(configured, load)[2] == ""


def test_the_only_model_is_not_given_up(tmp_path: Path, configured: Path) -> None:
    kept = ModelSlots(tmp_path / "device")
    digest = load(configured)[0]
    kept.keep(configured, load(configured)[0])
    guard = ModelGuard(kept, configured, digest)
    for second in range(1_000):
        guard.failed("it says nothing", float(second))
    kept.condemn(digest, "by hand")
    (tmp_path / "device" / "models" / "good.tflite").unlink()
    assert kept.choose(configured, load)[1] == configured, "a model in doubt hears more than none"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schema": 1}', b"\xff"])
def test_a_damaged_note_condemns_nobody(tmp_path: Path, configured: Path, content: bytes) -> None:
    (tmp_path / "device" / "models").mkdir(parents=True)
    (tmp_path / "device" / "models" / "condemned.json").write_bytes(content)
    assert ModelSlots(tmp_path / "device").choose(configured, load)[2] == ""


def test_a_disk_that_refuses_the_copy_stops_nothing(
    tmp_path: Path, configured: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise slots.StorageError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(slots, "write_durably", refuse)
    kept = ModelSlots(tmp_path / "device")
    kept.keep(configured, load(configured)[0])
    kept.condemn("abc", "reason")
    assert "no copy of the model is kept" in caplog.text
    assert "tried again at the next start" in caplog.text


def test_the_same_copy_is_not_written_again(tmp_path: Path, configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ModelSlots(tmp_path / "device")
    kept.keep(configured, load(configured)[0])
    monkeypatch.setattr(slots, "write_durably", lambda path, content: pytest.fail(f"{path} is written again"))
    kept.keep(configured, load(configured)[0])


def test_another_model_is_looked_for_once_a_minute_and_not_at_every_failure(
    tmp_path: Path, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ModelSlots(tmp_path / "device")
    asked: list[str] = []
    monkeypatch.setattr(kept, "has_other", lambda digest: bool(asked.append(digest)))
    guard = ModelGuard(kept, configured, "digest")
    for second in range(601):
        guard.failed("it says nothing", float(second))
    assert asked == ["digest"] * 10
