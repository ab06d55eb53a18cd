"""Pictures of sound."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alert import LogMelImage
from agent.features import FeatureConfig, mel_centres_hz
from base_station.picture import frequency_marks, indexed_png, palette, png, time_marks


def picture_of(frames: np.ndarray) -> LogMelImage:
    return LogMelImage.of(frames.astype(np.float32), hop_s=0.03125, mel_min_hz=50.0, mel_max_hz=7600.0)


def rgb(data: bytes) -> np.ndarray:
    """Read a PNG with a library that others wrote."""
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(io.BytesIO(data)).convert("RGB"))


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 1000))
def test_every_pixel_arrives_with_its_colour(height: int, width: int, seed: int):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    assert np.array_equal(rgb(indexed_png(pixels, palette())), palette()[pixels])


def test_time_runs_to_the_right_and_frequency_up():
    frames = np.full((94, 64), -10.0)
    frames[80, 60] = 0.0  # late and high
    frames[20, 5:8] = 0.0
    pixels = rgb(png(picture_of(frames))).astype(int).sum(axis=2)
    assert pixels.shape == (64, 94)
    brightest = np.argwhere(pixels == pixels.max()).tolist()
    assert sorted(brightest) == sorted([[3, 80], [58, 20], [57, 20], [56, 20]])


def test_silence_has_a_picture_too():
    assert rgb(png(picture_of(np.full((94, 64), -18.4)))).shape == (64, 94, 3)


def test_the_colours_grow_lighter_evenly():
    linear = (palette() / 255.0) ** 2.2
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    lightness = np.cbrt(luminance)
    assert np.all(np.diff(luminance) > -1e-3)
    assert lightness[0] < 0.25
    assert lightness[-1] > 0.9
    assert np.abs(lightness - np.linspace(lightness[0], lightness[-1], 256)).max() < 0.12


def test_marks_stand_where_their_frequency_is():
    config = FeatureConfig()
    image = picture_of(np.zeros((94, 64)))
    centres_hz = mel_centres_hz(config)
    marks = frequency_marks(image)
    assert [text for _, text in marks][-4:] == ["1", "2", "4", "7"]
    for share, text in marks:
        assert np.interp(share * 64 - 0.5, np.arange(64), centres_hz) == pytest.approx(float(text) * 1000, rel=0.02)
    assert time_marks(image)[:3] == [(0.0, "0"), (pytest.approx(1 / 2.9375), "1"), (pytest.approx(2 / 2.9375), "2")]


@given(n_frames=st.integers(1, 512), hop_s=st.floats(1e-4, 1), low=st.floats(0, 20_000), width=st.floats(1, 4000))
def test_marks_of_any_picture_lie_inside_it(n_frames: int, hop_s: float, low: float, width: float):
    image = LogMelImage(
        n_frames=n_frames, n_mels=64, hop_s=hop_s, mel_min_hz=low, mel_max_hz=low + width, low=0, step=1, data=""
    )
    marks = frequency_marks(image) + time_marks(image)
    assert all(0 <= share <= 1 for share, _ in marks)
    assert len(marks) < 30
