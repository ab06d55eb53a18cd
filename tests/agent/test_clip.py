"""The sound of an alert: in memory until then, whole, and never with speech in it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture import Block
from agent.clip import LARGEST_CLIP_BYTES, ClipKeeper, ClipRing, check_wav, has_speech, wav_bytes
from agent.clipbox import ClipBox
from agent.errors import FieldError, StorageError
from agent.gate import webrtc_vad
from agent.synth import demo_scene

RATE = 16_000
ID = "5d0c9e0a-0000-4000-8000-000000000001"


def ramp(start: int, n_samples: int) -> np.ndarray:
    """Return samples that say where they are."""
    return ((np.arange(start, start + n_samples) % 30_000) / 32_767.0).astype(np.float32)


@given(st.lists(st.integers(1, 20_000), max_size=12))
def test_the_ring_gives_the_last_seconds_whatever_the_blocks(sizes):
    ring, start = ClipRing(1.5), 0
    for size in sizes:
        ring.push(Block(start=start, samples=ramp(start, size)))
        start += size
    expected = np.arange(max(0, start - 24_000), start) % 30_000
    assert np.abs(ring.cut() - expected).max(initial=0) <= 1


def test_behind_lost_audio_the_ring_begins_anew():
    ring = ClipRing(1.0)
    ring.push(Block(start=0, samples=ramp(0, 8_000)))
    ring.push(Block(start=9_000, samples=ramp(9_000, 100)))
    assert len(ring.cut()) == 100


def syllables(seconds: float = 4.0) -> np.ndarray:
    """Return what a voice is to a detector: harmonics of 140 Hz with formants, in syllables, over a quiet room."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    hz = 140 + 15 * np.sin(2 * np.pi * 0.7 * time_s)
    phase = 2 * np.pi * np.cumsum(hz) / RATE
    voice = np.zeros_like(time_s)
    for n in range(1, 25):
        at_hz = n * 140
        weight = sum(np.exp(-(((at_hz - formant) / 180.0) ** 2)) for formant in (600, 1_200, 2_500)) + 0.02
        voice += weight * np.sin(n * phase)
    envelope = (np.sin(2 * np.pi * 1.5 * time_s) > 0).astype(float)
    noise = np.random.default_rng(1).normal(0, 0.001, len(time_s))
    return ((0.1 * voice * envelope + noise) * 32_767).clip(-32_768, 32_767).astype(np.int16)


def test_a_voice_over_a_quiet_room_is_speech():
    vad = webrtc_vad(3)
    if vad is None:
        pytest.skip("webrtcvad is not installed")
    assert has_speech(syllables(), vad)


def test_an_even_motor_is_none_for_its_level_does_not_rise():
    vad = webrtc_vad(3)
    if vad is None:
        pytest.skip("webrtcvad is not installed")
    time_s = np.arange(4 * RATE) / RATE
    motor = sum(np.sin(2 * np.pi * 110 * n * time_s + n) / n for n in range(1, 30))
    assert not has_speech((3_000 * motor).astype(np.int16), vad)
    assert not has_speech(np.empty(0, np.int16), vad)


class Voices:
    """Voiced frames by number."""

    def __init__(self, voiced: set[int]) -> None:
        self.voiced, self.at = voiced, -1

    def is_speech(self, buf: bytes, sample_rate: int) -> bool:
        self.at += 1
        return self.at in self.voiced


@pytest.mark.parametrize(
    ("voiced", "loud", "speech"),
    [
        (range(20, 30), range(20, 30), True),
        (range(20), range(20, 30), False),
        (range(100), range(20, 60), False),
        (range(20, 23), range(20, 32), False),
        (range(100), range(20, 100), False),
    ],
    ids=["a voiced syllable", "a loud one that is not voiced", "too long", "hardly voiced", "it does not fall"],
)
def test_detector_and_level_must_agree_on_a_syllable(voiced, loud, speech):
    samples = np.full(100 * 480, 100, np.int16)
    for frame in loud:
        samples[frame * 480 : (frame + 1) * 480] = 1_000
    assert has_speech(samples, Voices(set(voiced))) == speech


def test_a_saw_that_begins_in_a_forest_keeps_its_clip():
    vad = webrtc_vad(3)
    if vad is None:
        pytest.skip("webrtcvad is not installed")
    scene, _ = demo_scene()
    piece = scene[7 * RATE : 15 * RATE]
    assert not has_speech((piece * 32_767).astype(np.int16), vad)


def test_a_clip_is_a_wav_that_the_station_takes():
    body = wav_bytes((ramp(0, 10 * RATE) * 32_767).astype(np.int16))
    assert len(body) == LARGEST_CLIP_BYTES
    assert check_wav(body) == 10.0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"RIFF",
        b"not a wav at all, but long enough to be one " * 4,
        wav_bytes(np.zeros(100, np.int16))[:-10],
        wav_bytes(np.zeros(0, np.int16)),
        wav_bytes(np.zeros(10 * RATE + 1, np.int16)),
        wav_bytes(np.zeros(100, np.int16)).replace(b"\x80\x3e\x00\x00", b"\x44\xac\x00\x00", 1),
    ],
    ids=["empty", "torn head", "text", "cut", "no sound", "too long", "44.1 kHz"],
)
def test_what_is_no_clip_is_refused(body):
    with pytest.raises(FieldError):
        check_wav(body)


def test_without_a_detector_no_clip_is_kept(tmp_path):
    keeper = ClipKeeper(ClipBox(tmp_path, 1_000_000), 2.0, None)
    keeper.hear(Block(start=0, samples=ramp(0, 8_000)))
    assert "nobody can say" in keeper.keep(ID)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_costs_the_clip_alone(tmp_path, monkeypatch):
    keeper = ClipKeeper(ClipBox(tmp_path, 1_000_000), 2.0, Voices(set()))
    assert keeper.keep(ID) == "no sound was there"
    keeper.hear(Block(start=0, samples=ramp(0, 8_000)))

    def refuses(*_: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(ClipBox, "put", refuses)
    assert keeper.keep(ID) == "no space left"
