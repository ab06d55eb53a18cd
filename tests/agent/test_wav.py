"""WAV of any kind is read rightly, and anything else is refused in one line."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AudioError
from agent.wav import WavFile, write_wav

RATE = 16_000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def fmt(kind: int, bits: int, channels: int = 1, rate: int = RATE, *, extensible: bool = False) -> bytes:
    frame = channels * bits // 8
    head = struct.pack("<HHIIHH", 0xFFFE if extensible else kind, channels, rate, rate * frame, frame, bits)
    if extensible:
        head += (
            struct.pack("<HHI", 22, bits, 0) + struct.pack("<H", kind) + bytes.fromhex("000000001000800000aa00389b71")
        )
    return chunk(b"fmt ", head)


def riff(*chunks: bytes) -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def encoded(samples: np.ndarray, kind: int, bits: int) -> bytes:
    if kind == 3:
        return samples.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return np.rint(samples * 127 + 128).astype(np.uint8).tobytes()
    whole = np.rint(samples.astype(np.float64) * (2 ** (bits - 1) - 1)).astype("<i4")
    if bits == 24:
        return whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return whole.astype(f"<i{bits // 8}").tobytes()


def read_all(path: Path) -> np.ndarray:
    with WavFile(path) as wav:
        pieces = []
        while len(piece := wav.read(777)):
            pieces.append(piece)
    return np.concatenate(pieces) if pieces else np.empty((0, 1), np.float32)


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(("kind", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
def test_every_kind_gives_the_same_sound(tmp_path: Path, kind: int, bits: int, extensible: bool) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(riff(fmt(kind, bits, extensible=extensible), chunk(b"data", encoded(TONE, kind, bits))))
    samples = read_all(path)
    assert samples.shape == (RATE, 1)
    assert np.abs(samples[:, 0] - TONE).max() <= (0.02 if bits == 8 else 1e-4)


def test_channels_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    both = np.stack([TONE, -0.5 * TONE], axis=1)
    path.write_bytes(riff(fmt(1, 16, 2), chunk(b"data", encoded(both.ravel(), 1, 16))))
    samples = read_all(path)
    np.testing.assert_allclose(samples, both, atol=1e-4)


def test_other_chunks_of_odd_length_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(
        riff(chunk(b"LIST", b"odd"), fmt(1, 16), chunk(b"fact", b"1234"), chunk(b"data", encoded(TONE, 1, 16)))
    )
    assert len(read_all(path)) == RATE


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_F000, 0x8000_0000])
def test_a_stream_whose_size_was_never_written_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "stream.wav"
    path.write_bytes(riff(fmt(1, 16)) + b"data" + struct.pack("<I", size) + encoded(TONE, 1, 16))
    with WavFile(path) as wav:
        assert (wav.n_frames, wav.truncated) == (RATE, 0)


def test_a_recording_of_nothing_is_not_mistaken_for_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "nothing.wav"
    path.write_bytes(riff(fmt(1, 16), chunk(b"data", b""), chunk(b"LIST", b"a comment, no sound")))
    with WavFile(path) as wav:
        assert (wav.n_frames, wav.truncated) == (0, 0)


def test_a_writer_that_forgets_to_pad_odd_chunks_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "unpadded.wav"
    path.write_bytes(riff(b"LIST" + struct.pack("<I", 3) + b"odd", fmt(1, 16), chunk(b"data", encoded(TONE, 1, 16))))
    assert len(read_all(path)) == RATE


def test_a_long_file_says_its_size_in_a_chunk_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    sound = encoded(TONE, 1, 16)
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, len(sound), RATE, 0))
    whole = riff(sizes, fmt(1, 16)).replace(b"RIFF", b"RF64") + b"data" + struct.pack("<I", 0xFFFF_FFFF) + sound
    path.write_bytes(whole + chunk(b"LIST", b"a comment, no sound"))
    with WavFile(path) as wav:
        assert (wav.n_frames, wav.truncated) == (RATE, 0)


def test_what_a_truncated_file_holds_is_read_and_the_rest_is_said_to_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    whole = riff(fmt(1, 16), chunk(b"data", encoded(TONE, 1, 16)))
    path.write_bytes(whole[: len(whole) // 2 + 1])
    with WavFile(path) as wav:
        assert wav.truncated == len(whole) - (len(whole) // 2 + 1)
        samples = wav.read(RATE)
    np.testing.assert_allclose(samples[:, 0], TONE[: len(samples)], atol=1e-4)
    assert len(samples) == wav.n_frames > 7_000


def test_floats_that_are_no_numbers_become_silence_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    samples = TONE.copy()
    samples[[5, 6, 7]] = [np.nan, np.inf, -np.inf]
    path.write_bytes(riff(fmt(3, 32), chunk(b"data", encoded(samples, 3, 32))))
    with WavFile(path) as wav:
        heard = wav.read(RATE)[:, 0]
        assert wav.bad_samples == 3
    assert np.isfinite(heard).all()
    assert not heard[5:8].any()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"hello, this is text\n" * 10, "is not a WAV file"),
        (riff(fmt(1, 16))[:30], "fmt chunk"),
        (riff(fmt(1, 16)), "data chunk"),
        (riff(chunk(b"data", b"12")), "before its fmt chunk"),
        (riff(fmt(2, 4), chunk(b"data", b"1234")), "kind 2"),
        (riff(fmt(1, 12), chunk(b"data", b"1234")), "12 bits"),
        (riff(bytes(100_000)), "damaged"),
        (riff(chunk(b"junk", b"") * 2_000), "first 1000 chunks"),
        (riff(fmt(1, 16, 0), chunk(b"data", b"1234")), "0 channels"),
        (riff(fmt(1, 16, 1, 7), chunk(b"data", b"1234")), "7 Hz"),
    ],
)
def test_what_is_no_wav_is_refused_in_one_line_that_names_it(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError) as caught:
        WavFile(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.wav"):
        with pytest.raises(AudioError, match="cannot open"):
            WavFile(path)


@given(st.binary(max_size=200), st.integers(0, 60))
def test_nothing_but_audio_error_comes_out_of_any_bytes(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz-{os.getpid()}.wav"
    content = bytearray(riff(fmt(1, 16), chunk(b"data", encoded(TONE[:50], 1, 16))))
    content[at : at + len(noise)] = noise
    path.write_bytes(bytes(content))
    try:
        with WavFile(path) as wav:
            samples = wav.read(100_000)
    except AudioError:
        return
    assert np.isfinite(samples).all()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    write_wav(path, TONE, 22_050)
    with WavFile(path) as wav:
        assert (wav.sample_rate, wav.channels, wav.n_frames) == (22_050, 1, RATE)
        np.testing.assert_allclose(wav.read(RATE)[:, 0], TONE, atol=1e-4)
