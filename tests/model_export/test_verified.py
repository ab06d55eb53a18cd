"""Alerts that people judged, as windows that teach."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alert import LogMelImage
from agent.features import FeatureConfig, window_features
from model_export.errors import DataError
from model_export.split import SplitConfig, fold_of
from model_export.verified import LIST, Verified, as_carried, read_verified

FEATURES = FeatureConfig()
SHAPE = (FEATURES.n_frames, FEATURES.n_mels)
AXES = {
    "hop_s": FEATURES.hop / FEATURES.sample_rate,
    "mel_min_hz": FEATURES.mel_min_hz,
    "mel_max_hz": FEATURES.mel_max_hz,
}


def frames(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(-5, 2, SHAPE).astype(np.float32)


def write_set(folder: Path, rows: list[tuple[str, str]], **axes: float) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / LIST).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "dataset", "target", "group"])
        for idx, (target, group) in enumerate(rows):
            np.savez(folder / f"{idx}.npz", log_mel=frames(idx), **{**AXES, **axes})
            writer.writerow([f"{idx}.npz", "station", target, group])
    return folder


def verified(targets: list[str], groups: list[str]) -> Verified:
    n = len(targets)
    return Verified(
        windows=np.zeros((n, 2, 2), np.float32),
        labels=np.zeros((n, 3), np.float32),
        weights=np.ones((n, 3), np.float32),
        targets=tuple(targets),
        groups=tuple(groups),
    )


def test_a_judged_alert_teaches_what_it_was(tmp_path: Path) -> None:
    found = read_verified(write_set(tmp_path, [("chainsaw", "a"), ("engine", "a"), ("other", "b")]), FEATURES)
    assert found.labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert found.weights[0, 1] < 1, "a saw is a motor: whether it is an engine as well is hardly taught"
    assert np.allclose(found.windows[2], window_features(frames(2)))


def test_what_cannot_teach_is_left_out_and_named(tmp_path: Path) -> None:
    folder = write_set(tmp_path, [("chainsaw", "a"), ("chainsaw", "a"), ("other", "b"), ("other", "b")])
    (folder / "0.npz").write_bytes(b"no zip")
    np.savez(folder / "1.npz", log_mel=np.zeros((3, 3), np.float32), **AXES)  # type: ignore[arg-type]
    np.savez(folder / "2.npz", log_mel=np.full(SHAPE, np.nan, np.float32), **AXES)  # type: ignore[arg-type]
    found = read_verified(folder, FEATURES)
    assert len(found) == 1
    assert [one.name for one in found.skipped] == ["0.npz", "1.npz", "2.npz"]
    assert "3, 3" in found.skipped[1].reason


def test_fine_frames_come_back_as_often_as_they_were_merged(tmp_path: Path) -> None:
    fine = FeatureConfig(hop=250, n_frames=189)  # 15.6 ms: two are one column, and the last one is alone
    exact = np.random.default_rng(5).normal(-5, 2, (189, fine.n_mels)).astype(np.float32)
    image = LogMelImage.of(
        exact, hop_s=fine.hop / fine.sample_rate, mel_min_hz=fine.mel_min_hz, mel_max_hz=fine.mel_max_hz
    )
    columns = (image.low + image.step * image.pixels()).astype(np.float32)
    assert columns.shape == (95, fine.n_mels)
    folder = write_set(tmp_path, [("chainsaw", "a"), ("other", "b")], hop_s=image.hop_s)
    for idx in range(2):
        np.savez(folder / f"{idx}.npz", log_mel=columns, **{**AXES, "hop_s": image.hop_s})  # type: ignore[arg-type]
    found = read_verified(folder, fine)
    assert found.merged == 2
    assert found.windows.shape == (2, 189, fine.n_mels)
    expected = window_features(as_carried(exact, 2))
    assert np.allclose(found.windows[0], expected, atol=image.step)
    assert np.allclose(expected[0:188:2], expected[1:189:2])
    whole = np.stack([exact[start : start + 2].mean(axis=0) for start in range(0, 189, 2)])
    assert np.allclose(as_carried(exact, 2)[::2], whole, atol=1e-5), "the slow way says the same"


def test_as_many_mixtures_are_coarse_as_judged_windows_are() -> None:
    pytest.importorskip("tensorflow")
    from model_export.recipe import TrainConfig
    from model_export.shards import Shard
    from model_export.training import with_verified

    rng = np.random.default_rng(2)
    fine = rng.normal(0, 1, (40, 4, 2)).astype(np.float32)
    shard = Shard(fine, np.zeros((40, 3), np.float32), np.ones((40, 3), np.float32), np.ones((40, 5), np.float32))
    judged = replace(verified(["other"] * 20, ["a"] * 20), windows=np.zeros((20, 4, 2), np.float32), merged=2)
    mixed = with_verified(shard, judged, TrainConfig(verified_share=0.25), rng)
    is_judged = (mixed.windows == 0).all(axis=(1, 2))
    is_coarse = np.isclose(mixed.windows[:, 0::2], mixed.windows[:, 1::2]).all(axis=(1, 2)) & ~is_judged
    assert is_judged.sum() == is_coarse.sum() == 10
    assert (mixed.windows[~is_judged & ~is_coarse] == fine[~is_judged & ~is_coarse]).all()


def test_windows_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path, [("chainsaw", "a")], hop_s=0.05)
    with pytest.raises(DataError, match=r"none of its 1 windows.*0\.05 s apart"):
        read_verified(folder, FEATURES)


@pytest.mark.parametrize("content", [None, b"path,target\n", b"\xff\xfe\x00"])
def test_a_folder_without_its_list_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / LIST).write_bytes(content)
    with pytest.raises(DataError, match=r"log_mels\.csv: .*export-labels"):
        read_verified(tmp_path, FEATURES)


def test_no_file_outside_the_folder_is_read(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", [("chainsaw", "a"), ("other", "a")])
    np.savez(tmp_path / "secret.npz", log_mel=frames(0), **AXES)  # type: ignore[arg-type]
    text = (folder / LIST).read_text().replace("0.npz", "../secret.npz")
    (folder / LIST).write_text(text)
    found = read_verified(folder, FEATURES)
    assert found.skipped[0].reason == "lies outside the folder"


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    folder = write_set(tmp_path, [("chainsaw", "a"), ("other", "a")])
    np.savez(folder / "0.npz", log_mel=np.array([{"a": 1}], dtype=object), **AXES)  # type: ignore[arg-type]
    assert "pickle" in read_verified(folder, FEATURES).skipped[0].reason


@given(groups=st.lists(st.text(max_size=6), min_size=1, max_size=30), fold=st.integers(1, 4))
def test_a_fold_s_devices_and_days_do_not_teach_it(groups: list[str], fold: int) -> None:
    config = SplitConfig(fold=fold)
    left = verified(["chainsaw"] * len(groups), groups).without_fold(config)
    assert all(fold_of(group, (), config) != fold for group in left.groups)
    whole = SplitConfig(fold=0)
    assert verified(["chainsaw"] * len(groups), groups).without_fold(whole).groups == tuple(groups)


def test_draws_are_bounded_and_balanced_by_target_and_day() -> None:
    # a hundred false alerts of one day, one of another, and one saw
    some = verified(["other"] * 101 + ["chainsaw"], ["a"] * 100 + ["b"] + ["c"])
    drawn = some.draw(10_000, np.random.default_rng(1))
    assert len(drawn) == 2 * 102
    assert abs(np.mean(drawn == 101) - 0.5) < 0.12
    assert abs(np.mean(drawn == 100) - 0.25) < 0.12
    assert len(some.draw(7, np.random.default_rng(1))) == 7


def test_they_take_the_places_of_mixtures_and_the_second_head_learns_nothing_from_them() -> None:
    pytest.importorskip("tensorflow")
    import keras

    from model_export.recipe import TrainConfig
    from model_export.shards import Shard
    from model_export.training import UNKNOWN_KIND, _batches, weighted_loss, with_verified

    rng = np.random.default_rng(1)
    shard = Shard(
        np.ones((40, 2, 2), np.float32),
        np.zeros((40, 3), np.float32),
        np.ones((40, 3), np.float32),
        np.ones((40, 5), np.float32),
    )
    judged = verified(["other"] * 20, ["a"] * 20)
    mixed = with_verified(shard, judged, TrainConfig(verified_share=0.25), rng)
    is_judged = (mixed.windows == 0).all(axis=(1, 2))
    assert is_judged.sum() == 10
    assert ((mixed.kinds == UNKNOWN_KIND).all(axis=1) == is_judged).all()
    assert (shard.kinds == 1).all(), "the shard itself stays: it is looked at again"
    assert with_verified(shard, judged, TrainConfig(verified_share=0), rng) is shard
    # blends with a judged window are not named either
    config = TrainConfig(batch=40, mixup_share=1.0, mask_share=0.0)
    ((_, targets),) = _batches(mixed, config, rng)
    kinds = targets[:, 6:]
    assert set(np.unique(kinds)) <= {UNKNOWN_KIND, 1.0}
    logits = np.zeros((40, 8), np.float32)
    other = logits.copy()
    other[:, 3:] = 5.0
    unknown = (kinds == UNKNOWN_KIND).all(axis=1)
    loss, changed = (keras.ops.convert_to_numpy(weighted_loss(targets, one, 3, 1.0)) for one in (logits, other))
    assert unknown.any()
    assert (loss[unknown] == changed[unknown]).all()
    assert (loss[~unknown] != changed[~unknown]).all()
