"""Every layout that people come with, made small in the exact shape of the original, and the real data where it is."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from model_export import datasets
from model_export.errors import DataError
from model_export.layouts import checks
from model_export.layouts.labels import audacity_labels, gaps, raven_labels
from model_export.layouts.read import read
from model_export.store import open_store

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tAnnotation\n"


def sound(path: Path, seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    soundfile.write(path, rng.standard_normal((int(rate * seconds), channels)) * 0.1, rate)
    return path


def table(path: Path, header: str, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")


def esc50(folder: Path) -> None:
    sound(folder / "audio/1-100032-A-0.wav", rate=44_100)
    sound(folder / "audio/2-100032-B-41.wav", rate=44_100)
    table(
        folder / "meta/esc50.csv",
        "filename,fold,target,category,esc10,src_file,take",
        "1-100032-A-0.wav,1,0,dog,True,100032,A",
        "2-100032-B-41.wav,2,41,chainsaw,True,100032,B",
    )


def urbansound8k(folder: Path) -> None:
    sound(folder / "audio/fold5/100032-3-0-0.wav", rate=48_000, channels=2)
    sound(folder / "audio/fold10/17307-1-0-0.wav", rate=22_050)
    table(
        folder / "metadata/UrbanSound8K.csv",
        "slice_file_name,fsID,start,end,salience,fold,classID,class",
        "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark",
        "17307-1-0-0.wav,17307,2.0,6.0,1,10,5,engine_idling",
    )


def test_esc50_brings_folds_recordings_and_what_each_class_is_for(tmp_path: Path) -> None:
    esc50(tmp_path)
    found = read(tmp_path)
    assert (found.layout, found.recordings_known) == ("esc50", True)
    assert [(clip.kind, clip.fold, clip.group, clip.target) for clip in found.clips] == [
        ("dog", "1", "fs100032", "other"),
        ("chainsaw", "2", "fs100032", "chainsaw"),
    ]


def test_a_folder_around_an_archive_is_looked_into(tmp_path: Path) -> None:
    esc50(tmp_path / "ESC-50-master")
    assert read(tmp_path).clips[0].name == "ESC-50-master/audio/1-100032-A-0.wav"


def test_two_data_sets_side_by_side_share_the_names_of_recordings(tmp_path: Path) -> None:
    esc50(tmp_path / "ESC-50-master")
    urbansound8k(tmp_path / "UrbanSound8K")
    found = read(tmp_path)
    assert found.layout == "esc50+urbansound8k"
    assert [clip.dataset for clip in found.clips if clip.group == "fs100032"] == ["esc50", "esc50", "urbansound8k"]


def test_urbansound8k_keeps_its_ten_folds(tmp_path: Path) -> None:
    urbansound8k(tmp_path)
    found = read(tmp_path)
    assert [(clip.kind, clip.fold, clip.target) for clip in found.clips] == [
        ("engine_idling", "10", "engine"),
        ("dog_bark", "5", "other"),
    ]
    assert all(clip.path.is_file() for clip in found.clips)


def test_a_table_of_id_and_class_finds_its_folder_and_names_rows_without_a_file(tmp_path: Path) -> None:
    sound(tmp_path / "Train/0.wav")
    sound(tmp_path / "Train/10.wav")
    table(tmp_path / "train.csv", "ID,Class", "0,siren", "10,drilling", "11,siren")
    found = read(tmp_path)
    assert [(clip.name, clip.kind) for clip in found.clips] == [("Train/0.wav", "siren"), ("Train/10.wav", "drilling")]
    assert not found.recordings_known
    assert found.notes == ("1 rows of train.csv have no file or no class, among them 11",)


def test_the_bird_challenge_tells_which_clips_were_cut_from_one_recording(tmp_path: Path) -> None:
    for name in ("XC3776-0", "XC3776-1", "XC114131-0"):
        sound(tmp_path / f"Parsed_Capuchinbird_Clips/{name}.wav")
    for name in ("afternoon-birds-song-in-forest-0", "afternoon-birds-song-in-forest-12"):
        sound(tmp_path / f"Parsed_Not_Capuchinbird_Clips/{name}.wav")
    sound(tmp_path / "Forest Recordings/recording_00.mp3", 3.0, rate=44_100)
    found = read(tmp_path)
    assert found.layout == "calls"
    assert [path.name for path in found.long] == ["recording_00.mp3"]
    assert sorted({(clip.kind, clip.group) for clip in found.clips}) == [
        ("call", "XC114131"),
        ("call", "XC3776"),
        ("not_call", "afternoon-birds-song-in-forest"),
    ]


def test_positive_and_negative_are_the_same_layout(tmp_path: Path) -> None:
    sound(tmp_path / "positive/a.flac")
    sound(tmp_path / "negative/b.ogg")
    assert [clip.kind for clip in read(tmp_path).clips] == ["not_call", "call"]


def test_the_tutorials_sounds_have_a_folder_a_class_and_samples_have_none(tmp_path: Path) -> None:
    for name in ("background/a.wav", "chainsaw/1-19898-A-41.wav", "engine/c.mp3", "storm/d.wav", "samples/e.wav"):
        sound(tmp_path / "Sounds" / name, rate=44_100)
    found = read(tmp_path / "Sounds")
    assert [clip.kind for clip in found.clips] == ["background", "chainsaw", "engine", "storm"]
    assert [path.name for path in found.long] == ["e.wav"]
    assert not found.recordings_known  # only one of the four names tells


def test_raven_selections_become_stretches_and_what_lies_between_is_background(tmp_path: Path) -> None:
    sound(tmp_path / "night.wav", 20.0)
    rows = "1\tWaveform 1\t1\t5.0\t6.5\t100\t900\tcall\n1\tSpectrogram 1\t1\t5.0\t6.5\t100\t900\tcall\n"
    (tmp_path / "night.Table.1.selections.txt").write_text(RAVEN + rows)
    found = read(tmp_path)
    assert found.layout == "raven"
    assert [(clip.kind, clip.span_s) for clip in found.clips] == [
        ("background", (0.0, 4.5)),
        ("call", (5.0, 6.5)),
        ("background", (7.0, 20.0)),
    ]
    assert {clip.group for clip in found.clips} == {"night.wav"}


def test_a_stretch_is_read_alone(tmp_path: Path) -> None:
    sound(tmp_path / "night.wav", 20.0)
    (tmp_path / "night.txt").write_text("5.0\t6.5\tcall\n\\\t100.0\t900.0\n")
    store, _ = open_store(read(tmp_path).clips, {}, tmp_path / "cache")
    lengths = {found.name: found.length for found in store.sounds}
    assert lengths["night.wav#5.000-6.500"] == 24_000
    whole = datasets.read_sound(tmp_path / "night.wav")
    call = next(found for found in store.sounds if found.kind == "call")
    np.testing.assert_allclose(store.read(call, 0, 24_000), whole[80_000:104_000], atol=1e-4)


def test_a_table_without_its_recording_is_named(tmp_path: Path) -> None:
    sound(tmp_path / "night.wav", 5.0)
    for name in ("night", "lost"):
        (tmp_path / f"{name}.selections.txt").write_text(RAVEN + "1\tS\t1\t1\t2\t0\t1\tcall\n")
    assert read(tmp_path).notes == ("lost.selections.txt: has no recording beside it",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Selection\tAnnotation\n1\tcall\n", "lacks the column Begin Time"),
        (RAVEN.replace("Annotation", "Notes") + "1\tS\t1\t1\t2\t0\t1\tcall\n", "no column of labels"),
        (RAVEN + "1\tS\t1\tsoon\t2\t0\t1\tcall\n", ":2: 'soon' to '2' are no seconds"),
        (RAVEN + "1\tS\t1\t3\t2\t0\t1\tcall\n", ":2: 3 to 2 is no stretch"),
    ],
)
def test_a_wrong_selection_table_is_named_by_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "a.selections.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=problem):
        raven_labels(path)


def test_a_wrong_label_track_is_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1.0\t2.0\tcall\nnonsense\n")
    with pytest.raises(DataError, match=r"a\.txt:2"):
        audacity_labels(path)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 20)), max_size=12))
def test_no_label_lies_in_a_gap(spans: list[tuple[float, float]]) -> None:
    labels = sorted((begin_s, begin_s + long_s, "x") for begin_s, long_s in spans)
    for begin_s, end_s in gaps(labels, 130.0):
        assert 0 <= begin_s < end_s <= 130.0
        assert all(last_s < begin_s or first_s > end_s for first_s, last_s, _ in labels)


def test_the_stations_verdicts_keep_an_incident_together_and_say_what_is_left_out(tmp_path: Path) -> None:
    sound(tmp_path / "audio/a.wav")
    sound(tmp_path / "audio/b.wav")
    table(
        tmp_path / "labels.csv",
        "alert,device,class,incident,audio,log_mel",
        "a,north,chainsaw,7,audio/a.wav,",
        "b,south,other,7,audio/b.wav,",
        "c,south,,8,,",
        "d,south,chainsaw,9,,log_mel/d.bin",
    )
    found = read(tmp_path)
    assert found.layout == "station"
    assert {clip.group for clip in found.clips} == {"incident-7"}
    assert found.notes == (
        "1 alerts have no verdict",
        "1 alerts were judged by picture alone: they sent no sound to learn from",
    )


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (48_000, 1)])
def test_any_format_rate_and_channels_give_16_khz_mono(tmp_path: Path, suffix: str, rate: int, channels: int) -> None:
    samples = datasets.read_sound(sound(tmp_path / f"a.{suffix}", 1.0, rate, channels))
    assert abs(len(samples) - 16_000) <= 1_200  # MP3 pads
    assert samples.ndim == 1


def test_broken_files_are_named_counted_and_skipped(tmp_path: Path) -> None:
    esc50(tmp_path)
    (tmp_path / "audio/1-100032-A-0.wav").write_bytes(b"RIFF nonsense")
    store, skipped = open_store(read(tmp_path).clips, {}, tmp_path / "cache")
    assert [one.name for one in skipped] == ["audio/1-100032-A-0.wav"]
    assert [found.kind for found in store.sounds] == ["chainsaw"]


def test_an_unknown_folder_names_every_layout_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(
        DataError, match=r"manifest\.csv; ESC-50 .* UrbanSound8K .* Raven .* one folder of sound a class"
    ):
        read(tmp_path)


def test_a_table_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    table(tmp_path / "meta/esc50.csv", "filename,fold,category", "a.wav,1,dog")
    with pytest.raises(DataError, match=r"esc50\.csv: lacks the column src_file"):
        read(tmp_path)


def kind_of(clip: datasets.Clip) -> str | None:
    return clip.kind


def test_an_empty_class_and_one_of_a_single_recording_say_what_to_do(tmp_path: Path) -> None:
    esc50(tmp_path)
    clips = read(tmp_path).clips
    with pytest.raises(DataError, match=r"the class siren has no clip; .* There are: chainsaw, dog"):
        checks.classes(clips, kind_of, ["siren"])
    with pytest.raises(DataError, match=r"all 1 clips of the class dog are of one recording \(fs100032\)"):
        checks.classes(clips, kind_of, ["dog"])


def test_a_class_in_one_fold_and_a_recording_on_both_sides_are_warned_of(tmp_path: Path) -> None:
    esc50(tmp_path)
    clips = read(tmp_path).clips
    (warning,) = checks.one_fold(clips, kind_of)
    assert warning.startswith("in one fold of the data set alone: chainsaw (2), dog (1). By its folds")
    groups = {clip.name: clip.group for clip in clips}
    assert checks.straddling(groups, {clips[0].name}) == ["fs100032"]
    assert checks.straddling(groups, set()) == []


def rows(data_dir: Path, dataset: str) -> list[dict[str, str]]:
    with (data_dir / "manifest.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["dataset"] == dataset]


def as_esc50(data_dir: Path, folder: Path) -> None:
    found = rows(data_dir, "esc50")
    lines = [f"{Path(row['path']).name},{row['fold']},0,{row['class']},False,{row['group'][2:]},A" for row in found]
    table(folder / "meta/esc50.csv", "filename,fold,target,category,esc10,src_file,take", *lines)
    (folder / "audio").mkdir()
    for row in found:
        (folder / "audio" / Path(row["path"]).name).symlink_to(data_dir / row["path"])


def as_urbansound8k(data_dir: Path, folder: Path) -> None:
    found = rows(data_dir, "urbansound8k")
    lines = [f"{Path(row['path']).name},{row['group'][2:]},0,4,1,{row['fold']},0,{row['class']}" for row in found]
    table(folder / "metadata/UrbanSound8K.csv", "slice_file_name,fsID,start,end,salience,fold,classID,class", *lines)
    for row in found:
        path = folder / "audio" / f"fold{row['fold']}" / Path(row["path"]).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(data_dir / row["path"])


@pytest.mark.data
@pytest.mark.parametrize(("name", "lay_out"), [("esc50", as_esc50), ("urbansound8k", as_urbansound8k)])
def test_the_real_clips_in_the_originals_layout_are_what_the_manifest_says(
    data_dir: Path, tmp_path: Path, name: str, lay_out: Callable[[Path, Path], None]
) -> None:
    lay_out(data_dir, tmp_path)
    found = {clip.path.name: clip for clip in read(tmp_path).clips}
    wanted = rows(data_dir, name)
    assert len(found) == len(wanted)
    for row in wanted:
        clip = found[Path(row["path"]).name]
        told = (clip.kind, clip.fold, clip.group, clip.path.is_file())
        assert told == (row["class"], row["fold"], row["group"], True)
    one_each = {row["class"]: found[Path(row["path"]).name] for row in wanted}
    assert all(len(datasets.read_sound(clip.path)) > 0 for clip in list(one_each.values())[:8])


@pytest.mark.data
def test_what_classes_are_for_is_what_the_manifest_says(data_dir: Path) -> None:
    told = {
        row["class"]: row["target"]
        for dataset in ("urbansound8k", "esc50")
        for row in rows(data_dir, dataset)
        if row["class"] not in ("siren", "car_horn")
    }
    from model_export.layouts.found import target_of

    assert json.dumps({kind: target_of(kind) for kind in told}, sort_keys=True) == json.dumps(told, sort_keys=True)
