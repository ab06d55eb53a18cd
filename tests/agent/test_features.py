"""Log-mel: worked values, the streaming form against the batch form, and librosa as the oracle."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent import features
from agent.errors import FieldError
from agent.features import (
    FeatureConfig,
    LogMelStream,
    frame_count,
    framed,
    hz_from_mel,
    log_mel,
    mel_centres_hz,
    mel_filters,
    mel_from_hz,
    window_features,
)
from agent.fields import Fields

Float32 = NDArray[np.float32]

CONFIG = FeatureConfig()
RATE = CONFIG.sample_rate
SMALL = FeatureConfig(n_fft=256, hop=100, n_mels=16, n_frames=12)
"""Another recipe, in which hops and blocks fall differently and everything is quick."""


def tone(frequency_hz: float, n_samples: int = 8_000, amplitude: float = 1.0, rate: int = RATE) -> Float32:
    return (amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(n_samples) / rate)).astype(np.float32)


def noise(seed: int, n_samples: int = 8_000, amplitude: float = 0.1) -> Float32:
    return (amplitude * np.random.default_rng(seed).standard_normal(n_samples)).clip(-1, 1).astype(np.float32)


def as_int16(samples: Float32) -> Float32:
    return np.rint(samples * 32_767).astype(np.float32) / np.float32(32_768)


SIGNALS: dict[str, Callable[[int], Float32]] = {
    "full-scale tone": lambda seed: tone(20.0 + seed % 7_900),
    "noise": noise,
    "loud noise": lambda seed: noise(seed, amplitude=1.0),
    "faint noise": lambda seed: noise(seed, amplitude=1e-5),
    "silence": lambda _: np.zeros(8_000, np.float32),
    "constant": lambda _: np.full(8_000, 0.5, np.float32),
    "tone in 16 bits": lambda seed: as_int16(tone(20.0 + seed % 7_900, amplitude=0.9)),
    "last bit of 16": lambda seed: as_int16(noise(seed, amplitude=2e-5)),
    "a click": lambda seed: np.eye(1, 8_000, seed % 8_000, dtype=np.float32)[0],
    "square": lambda seed: np.sign(tone(20.0 + seed % 2_000)),
    "tone beside a whisper": lambda seed: tone(20.0 + seed % 7_900, amplitude=0.99) + noise(seed, amplitude=1e-4),
}


# ---- worked values


@pytest.mark.parametrize("frequency_hz", [60, 100, 333, 440, 1_000, 2_500, 5_000, 7_400])
def test_a_sine_is_loudest_in_the_band_whose_centre_is_nearest(frequency_hz: float) -> None:
    centres_hz = mel_centres_hz(CONFIG)
    nearest = np.abs(mel_from_hz(centres_hz) - mel_from_hz(frequency_hz)).argmin()
    loudest = log_mel(tone(centres_hz[nearest]), CONFIG).mean(axis=0).argmax()
    assert loudest == nearest
    heard = log_mel(tone(frequency_hz), CONFIG).mean(axis=0).argmax()
    assert abs(heard - nearest) <= (0 if frequency_hz >= 1_000 else 1)  # low bands are narrower than a bin


def test_a_full_scale_sine_on_a_bin_has_its_known_power() -> None:
    # a Hann taper of n samples sums to n / 2, so the bin holds (n / 4)^2, and both its neighbours a quarter of that
    bin_index = 128
    samples = tone(bin_index * RATE / CONFIG.n_fft, CONFIG.n_fft)
    power = np.zeros(CONFIG.n_fft // 2 + 1)
    power[bin_index - 1 : bin_index + 2] = (CONFIG.n_fft / 4) ** 2 * np.array([0.25, 1.0, 0.25])
    expected = np.log(power @ mel_filters(CONFIG) + CONFIG.floor)
    loud = expected > 0
    assert loud.any()
    np.testing.assert_allclose(log_mel(samples, CONFIG)[0][loud], expected[loud], atol=1e-5)


def test_silence_is_the_floor_and_finite() -> None:
    quiet = log_mel(np.zeros(16_000, np.float32), CONFIG)
    np.testing.assert_allclose(quiet, np.log(1e-8), rtol=1e-6)
    assert np.array_equal(window_features(quiet), np.zeros_like(quiet))


def test_the_scale_is_htk() -> None:
    assert mel_from_hz(1_000.0) == pytest.approx(999.99, abs=0.01)
    assert mel_from_hz(0.0) == 0.0
    frequencies_hz = np.linspace(0, 8_000, 50)
    np.testing.assert_allclose(hz_from_mel(mel_from_hz(frequencies_hz)), frequencies_hz, atol=1e-9)


def test_centres_lie_between_the_edges_and_rise() -> None:
    centres_hz = mel_centres_hz(CONFIG)
    assert centres_hz.shape == (CONFIG.n_mels,)
    assert (np.diff(centres_hz) > 0).all()
    assert CONFIG.mel_min_hz < centres_hz[0]
    assert centres_hz[-1] < CONFIG.mel_max_hz


def test_the_default_window_is_three_seconds() -> None:
    assert CONFIG.window_samples == 48_000
    assert frame_count(CONFIG.window_samples, CONFIG) == CONFIG.n_frames == 94


@pytest.mark.parametrize(("n_samples", "n_frames"), [(0, 0), (1_023, 0), (1_024, 1), (1_523, 1), (1_524, 2)])
def test_only_complete_frames_count(n_samples: int, n_frames: int) -> None:
    assert frame_count(n_samples, CONFIG) == n_frames
    assert log_mel(np.zeros(n_samples, np.float32), CONFIG).shape == (n_frames, CONFIG.n_mels)


@given(
    n_samples=st.integers(0, 600),
    size=st.integers(1, 100),
    hop=st.integers(1, 130),
    rows=st.integers(0, 3),
    step=st.integers(1, 3),
)
def test_stretches_are_what_numpys_sliding_window_gives(
    n_samples: int, size: int, hop: int, rows: int, step: int
) -> None:
    samples = np.arange(rows * n_samples * step, dtype=np.float32).reshape(rows, n_samples * step)[:, ::step]
    samples.setflags(write=False)
    n_stretches = max(0, (samples.shape[1] - size) // hop + 1)
    found = framed(samples, size, hop)
    assert found.shape == (rows, n_stretches, size)
    if n_stretches:
        expected = np.lib.stride_tricks.sliding_window_view(samples, size, axis=1)[:, ::hop]
        np.testing.assert_array_equal(found, expected)


def test_long_sound_in_chunks_is_short_sound_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = noise(1, 40_000)
    whole = log_mel(samples, CONFIG)
    monkeypatch.setattr(features, "_CHUNK_FRAMES", 7)
    np.testing.assert_allclose(log_mel(samples, CONFIG), whole, atol=1e-5)


# ---- the oracle


@pytest.fixture(scope="module")
def librosa() -> Any:
    """Return the oracle, or skip: the agent's own environment is tested without it."""
    return pytest.importorskip("librosa")


@settings(max_examples=60)
@given(kind=st.sampled_from(sorted(SIGNALS)), seed=st.integers(0, 2**32 - 1), config=st.sampled_from([CONFIG, SMALL]))
@example(kind="full-scale tone", seed=980, config=CONFIG)
@example(kind="silence", seed=0, config=CONFIG)
@example(kind="last bit of 16", seed=0, config=CONFIG)
def test_librosa_says_the_same(librosa: Any, kind: str, seed: int, config: FeatureConfig) -> None:
    samples = SIGNALS[kind](seed)
    power = librosa.feature.melspectrogram(
        y=samples.astype(np.float64),
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop,
        n_mels=config.n_mels,
        fmin=config.mel_min_hz,
        fmax=config.mel_max_hz,
        power=2.0,
        center=False,
        htk=True,
        norm=None,
    )
    ours = log_mel(samples, config)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, np.log(power + config.floor).T, atol=1e-4, rtol=0)


# ---- properties


@given(seed=st.integers(0, 1_000), gain=st.floats(0.05, 10))
def test_gain_shifts_the_log_and_leaves_the_window_alone(seed: int, gain: float) -> None:
    samples = noise(seed, amplitude=0.05)  # every band far above the floor
    plain, louder = log_mel(samples, CONFIG), log_mel(np.float32(gain) * samples, CONFIG)
    np.testing.assert_allclose(louder, plain + 2 * np.log(gain), atol=1e-4)
    np.testing.assert_allclose(window_features(louder), window_features(plain), atol=1e-4)


@given(seed=st.integers(0, 1_000), n_windows=st.integers(1, 4))
def test_a_window_is_less_its_own_mean(seed: int, n_windows: int) -> None:
    frames = np.random.default_rng(seed).normal(-5, 4, (n_windows, 20, 8)).astype(np.float32)
    centred = window_features(frames)
    assert centred.dtype == np.float32
    assert np.abs(centred.mean(axis=(1, 2))).max() < 1e-5
    assert np.ptp(frames - centred, axis=(1, 2)).max() < 1e-4  # one number is taken away, not one for each band
    for window, expected in zip(frames, centred, strict=True):
        assert np.array_equal(window_features(window), expected)


def blocks_of(samples: Float32, sizes: Sequence[int]) -> list[Float32]:
    """Cut samples into blocks of these sizes, over and over."""
    ends = list(itertools.takewhile(lambda end: end < len(samples), itertools.accumulate(itertools.cycle(sizes))))
    return np.split(samples, ends)


def streamed(
    stream: LogMelStream, samples: Float32, start: int, sizes: Sequence[int], stride: int, asked: Callable[[int], bool]
) -> dict[int, Float32]:
    """Return the log-mel of every window that is asked for, by its start, as the listening loop would."""
    found: dict[int, Float32] = {}
    heard = next_start = start
    for block in blocks_of(samples, sizes):
        stream.push(block)
        heard += len(block)
        while next_start + SMALL.window_samples <= heard:
            if asked(next_start):
                found[next_start] = stream.window(next_start).copy()
            next_start += stride
            stream.forget(next_start)
    return found


@given(
    seed=st.integers(0, 1_000),
    start=st.integers(0, 10**9),
    sizes=st.lists(st.integers(1, 4_000), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 50 * len(sizes)),
    hops=st.integers(1, 40),
    asked=st.sets(st.integers(0, 100)) | st.just(set(range(200))),
)
@example(seed=0, start=0, sizes=[160], hops=6, asked=set(range(200)))
@example(seed=0, start=0, sizes=[1], hops=40, asked=set(range(200)))  # windows further apart than they are long
@example(seed=0, start=7, sizes=[7_919], hops=1, asked={0, 1, 5, 6, 40})
def test_streaming_is_batch_however_it_is_cut(
    seed: int, start: int, sizes: list[int], hops: int, asked: set[int]
) -> None:
    samples = noise(seed, 8_000)
    stride = hops * SMALL.hop
    found = streamed(
        LogMelStream(SMALL, start), samples, start, sizes, stride, lambda at: (at - start) // stride in asked
    )
    expected = [at for at in range(0, len(samples) - SMALL.window_samples + 1, stride) if at // stride in asked]
    assert sorted(found) == [start + at for at in expected]
    for at in expected:
        batch = log_mel(samples[at : at + SMALL.window_samples], SMALL)[: SMALL.n_frames]
        assert found[start + at].shape == (SMALL.n_frames, SMALL.n_mels)
        np.testing.assert_allclose(found[start + at], batch, atol=1e-5, rtol=0)


@given(
    before=st.integers(0, 5_000),
    asked_before=st.booleans(),
    start=st.integers(0, 10**7),
    kind=st.sampled_from(["noise", "full-scale tone"]),
)
def test_nothing_before_a_reset_is_heard_after_it(before: int, asked_before: bool, start: int, kind: str) -> None:
    samples = noise(3, 4_000)
    stream = LogMelStream(SMALL)
    stream.push(SIGNALS[kind](5)[:before])
    if asked_before and before >= SMALL.window_samples:
        stream.window(0)
    stream.reset(start)
    again = streamed(stream, samples, start, [333], 600, lambda _: True)
    fresh = streamed(LogMelStream(SMALL, start), samples, start, [333], 600, lambda _: True)
    assert again.keys() == fresh.keys()
    assert again
    assert all(np.array_equal(again[at], fresh[at]) for at in again)


def test_a_frame_is_computed_once_and_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = 0

    def counting(samples: Float32, config: FeatureConfig) -> Float32:
        nonlocal computed
        computed += frame_count(len(samples), config)
        return log_mel(samples, config)

    monkeypatch.setattr(features, "log_mel", counting)
    samples, stride = noise(0, 12_000), 6 * SMALL.hop
    streamed(LogMelStream(SMALL), samples, 0, [500], stride, lambda _: False)
    assert computed == 0
    windows = streamed(LogMelStream(SMALL), samples, 0, [500], stride, lambda _: True)
    assert computed == SMALL.n_frames + (len(windows) - 1) * 6


def test_memory_is_bounded_by_windows() -> None:
    stream = LogMelStream(SMALL)
    held = 0
    for _ in range(100):
        streamed(stream, noise(0, 5_000), 0, [500], SMALL.hop, lambda _: True)
        stream.reset(0)
    for index in range(500):
        stream.push(np.zeros(100, np.float32))
        stream.forget(index * 100 - SMALL.window_samples)
        kept = stream._samples
        held = max(held, len(kept if kept.base is None else kept.base))  # a view keeps all that it is a view of
    assert 0 < held <= 2 * SMALL.window_samples


def test_samples_come_back_as_far_as_they_are_held() -> None:
    samples = noise(0, 3_000)
    stream = LogMelStream(SMALL, 500)
    stream.push(samples)
    assert np.array_equal(stream.samples(700, 900), samples[200:400])
    stream.forget(800)
    assert np.array_equal(stream.samples(700, 900), samples[300:400])
    assert stream.samples(100, 700).size == 0
    assert np.array_equal(stream.samples(3_400, 9_999), samples[2_900:])


# ---- the recipe


CHANGES: dict[str, Any] = {
    "sample_rate": 22_050,
    "n_fft": 512,
    "hop": 501,
    "n_mels": 63,
    "mel_min_hz": 51.0,
    "mel_max_hz": 7_599.0,
    "floor": 2e-8,
    "n_frames": 95,
}


def test_the_digest_is_this_one() -> None:
    # models in the field carry it: another value here means that all of them refuse to start
    assert CONFIG.digest == "feac7091759be774"


def test_the_digest_changes_with_each_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {field.name for field in dataclasses.fields(FeatureConfig)} == {*CHANGES, "version"}
    digests = {dataclasses.replace(CONFIG, **{name: value}).digest for name, value in CHANGES.items()}
    monkeypatch.setattr(features, "FEATURES_VERSION", 2)
    digests.add(dataclasses.replace(CONFIG, version=2).digest)
    assert len(digests - {CONFIG.digest}) == len(CHANGES) + 1


def test_whole_hertz_are_the_same_recipe() -> None:
    assert FeatureConfig(mel_min_hz=50, mel_max_hz=7_600).digest == CONFIG.digest


def test_a_recipe_survives_a_manifest() -> None:
    assert FeatureConfig.parse(Fields(dataclasses.asdict(SMALL))) == SMALL


@pytest.mark.parametrize(
    ("change", "key", "problem"),
    [
        ({"version": 2}, "features.version", "this code computes 1"),
        ({"hop": 1_025}, "features.hop", "expected 1 to n_fft = 1024"),
        ({"mel_max_hz": 9_000.0}, "features.mel_max_hz", "is not inside 0 to 8000"),
        ({"mel_min_hz": 7_600.0}, "features.mel_max_hz", "the band 7600 to 7600 Hz"),
        ({"n_mels": 0}, "features.n_mels", "expected a whole number from 8"),
        ({"floor": 0}, "features.floor", "expected a number from 1e-12"),
        ({"n_ffts": 5}, "features.n_ffts", "did you mean n_fft?"),
    ],
)
def test_a_recipe_that_cannot_be_computed_is_refused(change: dict[str, Any], key: str, problem: str) -> None:
    with pytest.raises(FieldError) as caught:
        FeatureConfig.parse(Fields(dataclasses.asdict(CONFIG) | change, "features"))
    assert caught.value.key == key
    assert problem in caught.value.problem


def test_a_hop_of_nothing_is_refused() -> None:
    with pytest.raises(FieldError, match="hop"):
        FeatureConfig(hop=0)
