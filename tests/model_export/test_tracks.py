"""Held-out soundscapes: events where the truth says, at the level it says, of recordings of the test alone."""

from pathlib import Path

import numpy as np
import pytest

from model_export.datasets import read_sound
from model_export.errors import DataError
from model_export.evaluation import evaluate
from model_export.store import Sound, Store, high_passed
from model_export.tracks import Ground, build_tracks, by_recording, confusers, low_passed, read_truth

RATE = 16_000


@pytest.fixture(scope="module")
def sounds(small_store: Store) -> list[Sound]:
    return [sound for sound in small_store.sounds if sound.group not in ("forest-train", "forest-validation")]


@pytest.fixture(scope="module")
def folder(small_store: Store, sounds: list[Sound], tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("soundfile")
    folder = tmp_path_factory.mktemp("tracks")
    build_tracks(small_store, sounds, folder, events=3)
    return folder


def test_all_tracks_are_there_with_their_truth(folder: Path) -> None:
    names = sorted(path.stem for path in folder.glob("*.json"))
    assert names == sorted(path.stem for path in folder.glob("*.wav"))
    assert len([name for name in names if name.startswith("chainsaw")]) == 7
    assert len([name for name in names if name.startswith("engine")]) == 4
    assert {"background", "confusers"} <= set(names)


def test_events_last_12_s_and_stand_30_s_apart(folder: Path) -> None:
    for path in folder.glob("*.json"):
        truth = read_truth(path)
        if truth.role not in ("chainsaw", "engine"):
            continue
        ends = [0.0] + [event.offset_s for event in truth.events]
        assert all(event.offset_s - event.onset_s == pytest.approx(12) for event in truth.events)
        gaps = [event.onset_s - end for event, end in zip(truth.events, ends, strict=False)]
        assert min(gaps) >= 30
        assert truth.duration_s - ends[-1] >= 30


def test_every_level_has_the_same_events_at_the_same_times(folder: Path) -> None:
    truths = [read_truth(path) for path in folder.glob("chainsaw*.json")]
    assert len({truth.events for truth in truths}) == 1


@pytest.mark.parametrize(
    ("name", "snr_db"), [("chainsaw_+10dB", 10.0), ("chainsaw_-05dB", -5.0), ("engine_+00dB", 0.0)]
)
def test_an_event_is_as_loud_as_the_track_says(
    folder: Path, small_store: Store, sounds: list[Sound], name: str, snr_db: float
) -> None:
    """The same soundscape at two levels differs by the events alone."""
    truth = read_truth(folder / f"{name}.json")
    track = read_sound(folder / f"{name}.wav")
    ground = Ground.of(small_store, [sound for sound in sounds if sound.group == "forest-test"]).samples
    # where nothing is, the track is the forest: its place is found by correlation
    head = track[: 20 * RATE]
    wrapped = np.concatenate([ground, ground])
    length = 1 << 22
    likeness = np.fft.irfft(np.fft.rfft(wrapped, length) * np.conj(np.fft.rfft(head, length)))[: len(ground)]
    shift = int(likeness.argmax())
    forest = np.take(ground, np.arange(shift, shift + len(track)), mode="wrap")
    checked = 0
    for event in truth.events:
        part = slice(round(event.onset_s * RATE), round(event.offset_s * RATE))
        if np.abs(track[part]).max() > 0.94:
            continue  # turned down to fit into 16 bits, forest and all: nothing to subtract
        added = high_passed(track[part] - forest[part])
        below = high_passed(forest[part])
        assert 20 * np.log10(added.std() / below.std()) == pytest.approx(snr_db, abs=0.3)
        checked += 1
    assert checked >= 2


def test_far_is_what_a_low_pass_leaves() -> None:
    noise = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(low_passed(noise, 1_200.0)))
    assert spectrum[2_400:].max() < 0.01 * spectrum[:1_000].mean()


def test_clips_are_taken_from_each_recording_in_turn(sounds: list[Sound]) -> None:
    chosen = by_recording(sounds, "chainsaw", 20)
    counts = [sum(sound.group == f"saw{number}" for sound in chosen) for number in range(8)]
    assert sorted(counts) == [2, 2, 2, 2, 3, 3, 3, 3]
    assert len({sound.name for sound in chosen[:16]}) == 16


def test_without_forest_or_saws_it_says_what_is_missing(small_store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no background recording of a minute"):
        build_tracks(small_store, [sound for sound in small_store.sounds if sound.target != "background"], tmp_path)
    with pytest.raises(DataError, match="holds no chainsaw"):
        by_recording([], "chainsaw", 3)


def test_a_damaged_truth_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"a\.json: is no truth of a track: schema: is missing"):
        read_truth(tmp_path / "a.json")
    with pytest.raises(DataError, match="holds no tracks"):
        evaluate(tmp_path / "none", tmp_path / "m.tflite")


def test_a_track_says_which_recordings_are_in_it(folder: Path) -> None:
    truth = read_truth(folder / "chainsaw_+10dB.json")
    names = set(truth.marks.values())
    assert {event.recording for event in truth.events} <= names
    assert "forest-test" in names
    assert "saw7" in names or len({event.recording for event in truth.events}) < 8


def test_confusers_are_one_clip_of_each_recording_and_no_forest(sounds: list[Sound]) -> None:
    chosen = confusers(sounds)
    assert len({sound.group for sound in chosen}) == len(chosen)
    assert {sound.target for sound in chosen} == {"machine", "background"}
    assert not [sound for sound in chosen if sound.kind == "forest"]


def test_a_machine_lasts_as_long_as_an_event_and_what_calls_does_not(folder: Path, sounds: list[Sound]) -> None:
    machines = {sound.name for sound in sounds if sound.target == "machine"}
    events = read_truth(folder / "confusers.json").events
    lengths = {(event.source in machines, round(event.offset_s - event.onset_s, 3)) for event in events}
    assert lengths == {(True, 12.0), (False, 8.0)}
    ends = [0.0] + [event.offset_s for event in events]
    assert [event.onset_s - end for event, end in zip(events, ends, strict=False)] == pytest.approx([4.0] * len(events))
