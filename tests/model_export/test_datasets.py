"""Recordings on disk: two layouts, broken files, what is missing."""

import logging
from pathlib import Path

import numpy as np
import pytest

from agent.wav import write_wav
from model_export.datasets import digest_of, licences, read_clips, read_sound
from model_export.errors import DataError
from model_export.store import open_store


def tone(rate: int, seconds: float = 1.0, pitch_hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("chainsaw/a", "chainsaw/b", "engine/c", "background/d", "my-dog/e"):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        write_wav(path, tone(16_000), 16_000)
    return tmp_path


def test_a_manifest_is_read_clip_by_clip(data: Path) -> None:
    clips = read_clips(data)
    assert len(clips) == 3 + 8 * 7
    saw = next(clip for clip in clips if clip.name == "chainsaw/3-1.wav")
    assert (saw.target, saw.kind, saw.group, saw.licence) == ("chainsaw", "saw", "saw3", "CC0")


def test_folders_are_labels_and_an_unknown_one_is_something_else(folders: Path) -> None:
    targets = {clip.name: clip.target for clip in read_clips(folders)}
    assert targets == {
        "chainsaw/a.wav": "chainsaw",
        "chainsaw/b.wav": "chainsaw",
        "engine/c.wav": "engine",
        "background/d.wav": "background",
        "my-dog/e.wav": "other",
    }


def test_a_label_without_clips_says_what_to_do(folders: Path) -> None:
    (folders / "engine/c.wav").unlink()
    with pytest.raises(DataError, match=r"has no clip of engine; add recordings as .*engine/\*\.wav"):
        read_clips(folders)


@pytest.mark.parametrize("what", ["nothing", "empty"])
def test_no_data_says_what_was_expected(tmp_path: Path, what: str) -> None:
    folder = tmp_path / what
    if what == "empty":
        folder.mkdir()
    with pytest.raises(DataError, match=r"manifest\.csv"):
        read_clips(folder)


def test_a_manifest_with_a_missing_column_or_a_strange_target_is_named(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,class\na.wav,b\n")
    with pytest.raises(DataError, match="lacks the column dataset"):
        read_clips(tmp_path)
    manifest.write_text("path,dataset,class,target,group,fold,licence\na.wav,x,saw,chain-saw,g,1,CC0\n")
    with pytest.raises(DataError, match=r"manifest\.csv:2: target is 'chain-saw'"):
        read_clips(tmp_path)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_any_rate_becomes_16_khz_at_the_same_pitch(tmp_path: Path, rate: int) -> None:
    pytest.importorskip("soundfile")
    write_wav(tmp_path / "a.wav", tone(rate), rate)
    samples = read_sound(tmp_path / "a.wav")
    assert abs(len(samples) - 16_000) < 600
    spectrum = np.abs(np.fft.rfft(samples[2_000:10_000]))
    assert abs(spectrum.argmax() * 2 - 440) <= 2


def test_a_broken_file_is_named_counted_and_left_out(
    folders: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("soundfile")
    (folders / "chainsaw/b.wav").write_text("this is text")
    (folders / "background/zeros.wav").write_bytes(b"")
    write_wav(folders / "background/silence.wav", np.zeros(16_000, np.float32), 16_000)
    with caplog.at_level(logging.WARNING):
        store, skipped = open_store(read_clips(folders), {}, tmp_path / "cache")
    assert {one.name for one in skipped} == {"chainsaw/b.wav", "background/zeros.wav", "background/silence.wav"}
    assert {sound.name for sound in store.sounds} == {
        "chainsaw/a.wav",
        "engine/c.wav",
        "background/d.wav",
        "my-dog/e.wav",
    }
    assert "b.wav: cannot be read as sound" in caplog.text


def test_nothing_readable_is_an_error(folders: Path, tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    for clip in read_clips(folders):
        clip.path.write_text("text")
    with pytest.raises(DataError, match="not one of 5 clips could be read"):
        open_store(read_clips(folders), {}, tmp_path / "cache")


def test_the_digest_follows_the_recordings_and_not_their_order(folders: Path) -> None:
    clips = read_clips(folders)
    assert digest_of(clips) == digest_of(clips[::-1])
    before = digest_of(clips)
    write_wav(folders / "chainsaw/a.wav", tone(16_000, 2.0), 16_000)
    assert digest_of(clips) != before


def test_licences_are_told_per_data_set(data: Path) -> None:
    assert licences(read_clips(data)) == {"made": ("CC0", 59)}
