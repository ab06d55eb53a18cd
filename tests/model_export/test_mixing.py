"""Training windows: the ratio asked for, the truth of partial events, chance from the seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import FieldError
from agent.features import FeatureConfig
from model_export.errors import DataError
from model_export.mixing import (
    CHAINSAW,
    ENGINE,
    LEAD,
    TOTAL,
    WINDOW,
    Mixer,
    faded_to,
    features_of,
    gain_for,
    mixed,
    pool_of,
)
from model_export.mixing import _held as held_on
from model_export.mixing import _sounding_s as sounding_s
from model_export.recipe import MixConfig
from model_export.store import Sound, Store, high_passed

RATE = 16_000


def noise(n_samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n_samples).astype(np.float32) * np.float32(0.05)


def dbfs(samples: np.ndarray) -> float:
    return 10 * float(np.log10(np.square(high_passed(samples), dtype=np.float64).mean()))


@given(st.floats(-12, 22), st.floats(-60, 0), st.integers(0, 60_000))
def test_a_mixture_has_the_ratio_asked_for(snr_db: float, event_db: float, at: int) -> None:
    """Rumble under 60 Hz is in neither level, however loud."""
    rumble = 0.3 * np.sin(2 * np.pi * 8 * np.arange(100_000) / RATE).astype(np.float32)
    background = noise(100_000, 1) + rumble
    event = noise(40_000, 2) * np.float32(10 ** (event_db / 20))
    added = mixed(background, event, snr_db, at) - background
    assert np.abs(added[:at]).max(initial=0) == 0
    assert dbfs(added[at : at + 40_000]) - dbfs(background[at : at + 40_000]) == pytest.approx(snr_db, abs=0.3)


def test_the_ratio_is_over_what_the_event_covers() -> None:
    background = np.concatenate([noise(48_000, 1) * np.float32(0.01), noise(16_000, 2)])
    event = noise(TOTAL, 3)
    gain = gain_for(event, background, 6.0, (48_000, 64_000))
    loud, own = background[48_000:], event[48_000:] * gain
    assert 20 * np.log10(own.std() / loud.std()) == pytest.approx(6.0, abs=0.1)


def test_an_event_that_does_not_fit_is_refused() -> None:
    with pytest.raises(FieldError, match="would end at 1500"):
        mixed(noise(1_000, 1), noise(500, 2), 0.0, 1_000)


def test_silence_cannot_be_brought_to_a_level() -> None:
    assert gain_for(np.zeros(TOTAL, np.float32), noise(TOTAL, 1), 0.0, (0, TOTAL)) == 0.0


@given(st.integers(0, TOTAL - 4_000), st.integers(4_000, TOTAL))
def test_a_faded_event_sounds_in_its_span_alone_and_does_not_click(start: int, length: int) -> None:
    stop = min(start + length, TOTAL)
    faded = faded_to(np.ones(TOTAL, np.float32), (start, stop))
    assert not faded[:start].any()
    assert not faded[stop:].any()
    # where it reaches the edge of the cut it goes on outside: no fade there
    assert np.abs(np.diff(faded)).max() < 0.01


@pytest.mark.parametrize(("seconds", "expected"), [(0.3, 0.3), (0.8, 0.8), (1.2, 1.2), (2.5, 2.5)])
def test_a_partial_event_is_measured_within_the_window(seconds: float, expected: float) -> None:
    span = (0, LEAD + int(seconds * RATE))
    assert sounding_s(faded_to(noise(TOTAL, 1), span, fade=10), span) == pytest.approx(expected, abs=0.11)


def test_a_pause_of_the_saw_is_not_the_saw() -> None:
    event = noise(TOTAL, 1)
    event[LEAD + RATE :] *= np.float32(1e-3)
    assert sounding_s(event, (0, TOTAL)) == pytest.approx(1.0, abs=0.11)


class TestMixer:
    @pytest.fixture
    def mixer(self, small_store: Store) -> Mixer:
        config = MixConfig(synth_saw_share=0, synth_engine_share=0)
        return Mixer(small_store, small_store.sounds, config)

    def test_equal_seeds_give_equal_windows(self, mixer: Mixer) -> None:
        for seed in range(20):
            first, second = (mixer.draw(np.random.default_rng(seed)) for _ in range(2))
            assert np.array_equal(first.samples, second.samples)
            assert first.parts == second.parts
        assert not np.array_equal(first.samples, mixer.draw(np.random.default_rng(99)).samples)

    def test_every_window_is_sound_that_16_bits_can_carry(self, mixer: Mixer) -> None:
        for seed in range(60):
            mixture = mixer.draw(np.random.default_rng(seed))
            assert mixture.samples.shape == (WINDOW,)
            assert np.isfinite(mixture.samples).all()
            assert np.abs(mixture.samples).max() <= 1
            assert np.array_equal(np.rint(mixture.samples * 32_768) / 32_768, mixture.samples)
            assert set(np.unique(mixture.labels)) <= {0.0, 1.0}
            assert ((mixture.weights >= 0) & (mixture.weights <= 1)).all()
            assert features_of(mixture.samples, FeatureConfig()).shape == (94, 64)

    def test_shares_are_about_those_asked_for(self, mixer: Mixer) -> None:
        drawn = [mixer.draw(np.random.default_rng(seed)) for seed in range(400)]
        labels = np.array([mixture.labels for mixture in drawn])
        # some events are too short to be taught
        assert 0.25 < labels[:, CHAINSAW].mean() < 0.45
        assert 0.12 < labels[:, ENGINE].mean() < 0.30

    @pytest.mark.parametrize("key", ["bend_share", "hold_share"])
    def test_confusers_alone_are_bent_and_held(self, small_store: Store, key: str) -> None:
        shares = {"synth_saw_share": 0, "synth_engine_share": 0, "storm_share": 0, "confuser_share": 0.6}
        plain, bent = (Mixer(small_store, small_store.sounds, MixConfig(**shares, **{key: share})) for share in (0, 1))
        differ = []
        for seed in range(60):
            first, second = (one.draw(np.random.default_rng(seed)) for one in (plain, bent))
            assert np.array_equal(first.labels, second.labels)
            differ.append(not np.array_equal(first.samples, second.samples))
            if differ[-1]:
                assert any(not part.startswith(("chainsaw ", "engine ")) for part in first.parts[1:])
        assert 0.3 < np.mean(differ) < 0.9

    def test_what_is_held_is_the_loudest_part_and_does_not_end(self) -> None:
        rng = np.random.default_rng(3)
        call = 0.01 * rng.standard_normal(TOTAL).astype(np.float32)
        call[20_000:40_000] += np.sin(np.arange(20_000) * 0.3).astype(np.float32)
        for seed in range(20):
            held = held_on(call, np.random.default_rng(seed))
            assert held.shape == call.shape
            levels = np.sqrt(np.square(held).reshape(-1, 1_600).mean(axis=1))
            # two seconds are longer than this call: some of what is around it may be in them
            assert np.quantile(levels, 0.5) > 0.4

    def test_an_event_is_taught_denied_or_neither_by_its_length(self, mixer: Mixer) -> None:
        seen = set()
        for seed in range(400):
            mixture = mixer.draw(np.random.default_rng(seed))
            told = [part for part in mixture.parts if part.startswith("chainsaw ") and " dB " in part]
            if not told:
                assert mixture.labels[CHAINSAW] == 0
                assert mixture.weights[CHAINSAW] == 1
                continue
            seconds = float(told[0].split(" dB ")[1].split(" s ")[0])
            if seconds >= 1.2:
                seen.add("taught")
                assert mixture.labels[CHAINSAW] == 1
                assert mixture.weights[CHAINSAW] > 0.5
            elif seconds > 0.4:
                seen.add("neither")
                assert mixture.weights[CHAINSAW] == 0
            else:
                seen.add("denied")
                assert mixture.labels[CHAINSAW] == 0
        assert seen == {"taught", "neither", "denied"}

    def test_a_street_says_nothing_about_engines(self, small_store: Store) -> None:
        street = [
            Sound(name=s.name, kind="traffic", target=s.target, group=s.group, start=s.start, length=s.length,
                  level_dbfs=s.level_dbfs) if s.target == "machine" else s
            for s in small_store.sounds
        ]  # fmt: skip
        config = MixConfig(
            saw_share=0, engine_share=0, both_share=0, storm_share=0, confuser_share=1, synth_saw_share=0,
            synth_engine_share=0,
        )  # fmt: skip
        mixer = Mixer(small_store, street, config)
        drawn = [mixer.draw(np.random.default_rng(seed)) for seed in range(60)]
        with_street = [mixture for mixture in drawn if any("drill" in part for part in mixture.parts)]
        assert len(with_street) > 40
        assert all(mixture.weights[ENGINE] == 0 for mixture in with_street)
        assert all(mixture.weights[CHAINSAW] == 1 for mixture in with_street)

    def test_a_role_without_sounds_is_an_error(self, small_store: Store) -> None:
        quiet = [sound for sound in small_store.sounds if sound.target != "chainsaw"]
        with pytest.raises(DataError, match="no training sound for the role of chainsaw"):
            Mixer(small_store, quiet, MixConfig())


def test_a_recording_cut_into_many_clips_is_drawn_as_one() -> None:
    def sound(name: str, group: str) -> Sound:
        return Sound(name=name, kind="k", target="other", group=group, start=0, length=1, level_dbfs=-30.0)

    pool = pool_of([sound("lone", "a"), *[sound(f"clip{number}", "b") for number in range(40)]], {}, "other")
    rng = np.random.default_rng(1)
    drawn = [pool.pick(rng).name for _ in range(2_000)]
    assert 0.45 < drawn.count("lone") / 2_000 < 0.55
