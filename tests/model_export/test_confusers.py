"""What is taken for a motor: finite and unclipped however short, with the one thing that tells it apart."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent import synth
from agent.acoustics import SAMPLE_RATE
from agent.errors import FieldError
from model_export import confusers
from tests.sounds import level_dbfs, rhythm

Float32 = NDArray[np.float32]
Voice = Callable[[float, np.random.Generator], Float32]

ANIMALS: list[Voice] = [confusers.wings, confusers.yowl]
MACHINES: list[Voice] = [confusers.rotors, confusers.aircraft, confusers.appliances, confusers.hammers]
VOICES = [*ANIMALS, *MACHINES]


@pytest.mark.parametrize("voice", VOICES)
def test_the_same_seed_is_the_same_sound(voice: Voice) -> None:
    first = voice(1.0, np.random.default_rng(3))
    np.testing.assert_array_equal(first, voice(1.0, np.random.default_rng(3)))
    assert not np.allclose(first, voice(1.0, np.random.default_rng(4)))


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("duration_s", [1 / SAMPLE_RATE, 0.001, 0.0625, 0.77777, 1.00003])
def test_durations_are_exact_to_the_sample(voice: Voice, duration_s: float) -> None:
    samples = voice(duration_s, np.random.default_rng(0))
    assert samples.shape == (round(duration_s * SAMPLE_RATE),)
    assert samples.dtype == np.float32


@given(st.sampled_from(VOICES), st.integers(0, 2**32), st.floats(0.05, 2.0))
@settings(max_examples=150)
def test_every_sound_is_finite_unclipped_without_dc_and_heard(voice: Voice, seed: int, duration_s: float) -> None:
    samples = voice(duration_s, np.random.default_rng(seed))
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 0.96
    assert abs(float(samples.mean(dtype=np.float64))) < 1e-4
    assert samples.std() > 1e-4
    assert level_dbfs(samples) <= synth.MOTOR_DBFS + 0.1


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan")])
def test_no_sound_of_no_length(voice: Voice, duration_s: float) -> None:
    with pytest.raises(FieldError, match="duration_s"):
        voice(duration_s, np.random.default_rng(0))


@pytest.mark.parametrize(("seed", "duration_s"), [(3076803703, 0.06758580300845696), (155491656, 0.11769135893898729)])
def test_a_scrap_of_a_call_is_heard(seed: int, duration_s: float) -> None:
    assert confusers.yowl(duration_s, np.random.default_rng(seed)).std() > 1e-4


@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_what_yowls_takes_breath(seed: int) -> None:
    """A saw runs on for eight seconds; a throat does not."""
    rng = np.random.default_rng(seed)
    yowl = confusers.yowl(8.0, rng)
    blocks = np.square(yowl[: 8 * SAMPLE_RATE].reshape(-1, SAMPLE_RATE // 50)).mean(axis=1)
    assert 10 * np.log10(blocks.max() / (np.quantile(blocks, 0.02) + 1e-12)) > 8.0
    assert level_dbfs(yowl) <= synth.MOTOR_DBFS + 0.1


@pytest.mark.parametrize("seed", range(20))
def test_wings_beat_as_fast_as_a_piston(seed: int) -> None:
    """Which is why they are taught: in most eighths of a second there is the rhythm of a motor."""
    moments = [
        rhythm(part, 60.0, 500.0) for part in np.array_split(confusers.wings(8.0, np.random.default_rng(seed)), 64)
    ]
    beats_hz = [rate_hz for rate_hz, strength in moments if strength > 0.3]
    assert len(beats_hz) > 20
    assert 70.0 < np.median(beats_hz) < 500.0


# --- machines ----------------------------------------------------------------------------------------------------


def test_rotors_beat_as_often_as_a_slow_engine_fires() -> None:
    """Which is why they are taught: power comes and goes with the blades, in most of them and at one rate."""
    found = [beat(confusers.rotors(6.0, np.random.default_rng(seed))) for seed in range(40)]
    beating = [rate_hz for rate_hz, strength in found if strength > 0.3]
    assert len(beating) > 20
    assert 8.0 < np.median(beating) < 40.0


def test_hammers_strike_and_now_and_then_are_let_go() -> None:
    sounds = [confusers.hammers(8.0, np.random.default_rng(seed)) for seed in range(40)]
    assert np.median([beat(sound)[1] for sound in sounds]) > 0.25
    blocks = [powers(sound, SAMPLE_RATE // 10) for sound in sounds]
    assert 10 < sum(block.min() < 1e-2 * block.max() for block in blocks) < 35


def test_appliances_hum_at_twice_the_mains() -> None:
    lines = 0
    for seed in range(40):
        power = np.abs(np.fft.rfft(confusers.appliances(8.0, np.random.default_rng(seed)).astype(np.float64))) ** 2
        for mains_hz in (50, 60):
            bins = np.arange(1, 9) * 2 * mains_hz * 8
            lines += bool(np.median([power[at] / np.median(power[at - 160 : at + 160]) for at in bins]) > 30.0)
    assert lines > 20


@given(st.integers(0, 2**32))
def test_who_flies_past_sounds_higher_before_than_behind(seed: int) -> None:
    doppler, nearness = confusers._flight(
        80_000, np.random.default_rng(seed), speed_m_s=(30.0, 60.0), distance_m=(50.0, 500.0)
    )
    assert (np.diff(doppler) <= 1e-6).all()
    assert 340 / 401 < doppler.min() <= doppler.max() < 340 / 279
    assert 0.0 < nearness.min() <= nearness.max() <= 1.0 + 1e-6


def powers(samples: Float32, block: int) -> NDArray[np.float64]:
    """Return the power of each block."""
    whole = len(samples) // block * block
    return np.square(samples[:whole].astype(np.float64)).reshape(-1, block).mean(axis=1)


def beat(samples: Float32) -> tuple[float, float]:
    """Find how often power comes and goes, 5 to 60 times a second: (rate, autocorrelation 0 to 1)."""
    loudness = np.log(powers(samples, SAMPLE_RATE // 400) + 1e-9)
    loudness -= np.convolve(loudness, np.full(200, 1 / 200), "same")
    correlation = np.correlate(loudness, loudness, "full")[len(loudness) - 1 :]
    correlation /= correlation[0]
    lags = np.arange(400 // 60, 400 // 5)
    best = lags[np.argmax(correlation[lags])]
    return 400 / float(best), float(correlation[best])
