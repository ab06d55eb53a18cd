"""Decoded sound: zeros cut out, levels, joining a clip to itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.store import active_dbfs, high_passed, repeated, without_zeros

RATE = 16_000


def noise(seconds: float, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(int(RATE * seconds)) * 0.1).astype(np.float32)


def test_padding_is_cut_out_and_pauses_stay() -> None:
    pause = noise(0.06) * 1e-3  # a real microphone's quiet
    sound = np.concatenate([noise(1.0), pause, noise(1.0)])
    padded = np.concatenate([np.zeros(8_000, np.float32), sound, np.zeros(24_000, np.float32)])
    assert abs(len(without_zeros(padded)) - len(sound)) <= 640
    assert len(without_zeros(sound)) == len(sound)


def test_what_a_codec_makes_of_zeros_is_cut_out_too() -> None:
    padded = np.concatenate([noise(1.0), noise(1.0) * 1e-5])
    assert abs(len(without_zeros(padded)) - RATE) <= 320


def test_the_level_is_of_what_sounds_and_not_of_rumble_or_pauses() -> None:
    sound = noise(1.0)
    expected = 20 * np.log10(0.1)
    assert active_dbfs(sound) == pytest.approx(expected, abs=0.2)
    assert active_dbfs(np.concatenate([sound, sound * 1e-4])) == pytest.approx(expected, abs=0.2)
    rumble = 0.5 * np.sin(2 * np.pi * 10 * np.arange(RATE) / RATE).astype(np.float32)
    assert active_dbfs(sound + rumble) == pytest.approx(expected, abs=0.5)


def test_the_high_pass_halves_power_at_its_corner() -> None:
    for pitch_hz, gain_db in ((20.0, -19.1), (60.0, -3.0), (240.0, 0.0)):
        tone = np.sin(2 * np.pi * pitch_hz * np.arange(4 * RATE) / RATE).astype(np.float32)
        passed = high_passed(tone)[RATE:-RATE]
        assert 10 * np.log10(np.square(passed).mean() * 2) == pytest.approx(gain_db, abs=0.2)


@given(st.integers(400, 30_000), st.integers(1, 90_000))
def test_a_joined_clip_has_the_length_asked_for(n_samples: int, length: int) -> None:
    assert len(repeated(noise(2.0)[:n_samples], length)) == length


def test_a_joined_tone_has_no_click() -> None:
    """A cut would jump by up to 1; a cross-fade moves no faster than the tone itself."""
    tone = np.sin(2 * np.pi * 110 * np.arange(20_011) / RATE).astype(np.float32)
    steepest = np.abs(np.diff(tone)).max()
    hard_cut = np.abs(np.diff(np.tile(tone, 4))).max()
    assert hard_cut > 2 * steepest
    assert np.abs(np.diff(repeated(tone, 80_000))).max() < 1.6 * steepest


def test_a_joined_noise_keeps_its_level() -> None:
    joined = repeated(noise(1.0), 10 * RATE)
    levels = np.sqrt(np.square(joined).reshape(-1, 800).mean(axis=1))
    assert levels.min() > 0.07
    assert levels.max() < 0.14
