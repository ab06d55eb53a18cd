"""Resampling: the same sound at another rate, whatever the blocks."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.resample import Resampler

RATES = [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000]
ODD_RATES = [7_919, 11_127, 22_255, 44_101, 383_999]
"""Ratios with thousands of phases."""


def resampled(samples: np.ndarray, from_hz: int, cuts: list[int]) -> np.ndarray:
    resampler = Resampler(from_hz, 16_000)
    pieces = [resampler.push(piece) for piece in np.split(samples, sorted(cuts))]
    return np.concatenate([*pieces, resampler.flush()])


@pytest.mark.parametrize("from_hz", [*RATES, *ODD_RATES])
@pytest.mark.parametrize("tone_hz", [100.0, 1_000.0, 3_000.0])
def test_a_tone_stays_the_same_tone_at_the_same_time(from_hz: int, tone_hz: float) -> None:
    samples = np.sin(2 * np.pi * tone_hz * np.arange(from_hz) / from_hz).astype(np.float32)
    heard = resampled(samples, from_hz, [])
    expected = np.sin(2 * np.pi * tone_hz * np.arange(len(heard)) / 16_000)
    assert len(heard) == 16_000
    assert np.abs(heard - expected)[800:-800].max() < 1e-3


@pytest.mark.parametrize("from_hz", [44_100, 48_000, 96_000, 22_255, 44_101])
def test_what_16_khz_cannot_hold_is_gone_by_70_db(from_hz: int) -> None:
    samples = np.sin(2 * np.pi * 9_000 * np.arange(from_hz) / from_hz).astype(np.float32)
    heard = resampled(samples, from_hz, [])[800:-800]
    assert 20 * np.log10(np.sqrt(np.mean(np.square(heard))) / np.sqrt(0.5)) < -70


@pytest.mark.parametrize("from_hz", ODD_RATES)
def test_an_odd_rate_does_not_fill_the_memory(from_hz: int) -> None:
    tracemalloc.start()
    resampled(np.zeros(from_hz, np.float32), from_hz, [])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64e6


@given(st.sampled_from([*RATES, 11_127, 44_101]), st.lists(st.integers(0, 20_000), max_size=12))
def test_blocks_do_not_matter(from_hz: int, cuts: list[int]) -> None:
    samples = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    whole = resampled(samples, from_hz, [])
    np.testing.assert_allclose(resampled(samples, from_hz, cuts), whole, atol=1e-5)


def test_the_oracle_agrees() -> None:
    signal = pytest.importorskip("scipy.signal")
    samples = np.random.default_rng(2).standard_normal(48_000).astype(np.float32)
    spectrum = np.fft.rfft(samples)
    spectrum[6_000:] = 0  # below both filters' transition
    samples = np.fft.irfft(spectrum).astype(np.float32)
    expected = signal.resample_poly(samples, 1, 3, window=("kaiser", 12.0))
    assert np.abs(resampled(samples, 48_000, []) - expected)[800:-800].max() < 5e-3  # its filter is the shorter one


def test_the_same_rate_passes_untouched() -> None:
    samples = np.arange(5, dtype=np.float32)
    resampler = Resampler(16_000, 16_000)
    assert resampler.push(samples) is samples
    assert len(resampler.flush()) == 0
