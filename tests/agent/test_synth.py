"""The generator: the same for ever, at the promised levels, with a motor's rhythm where there is a motor."""

import itertools
import wave
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent import acoustics, synth
from agent.acoustics import SAMPLE_RATE
from agent.errors import FieldError
from agent.synth import EngineSetting, SawSetting
from tests.sounds import level_dbfs, rhythm

Float32 = NDArray[np.float32]
Voice = Callable[[float, np.random.Generator], Float32]

FOREST_VOICES: list[Voice] = [synth.wind, synth.insects, synth.birds, synth.rain, synth.forest]
ALL_VOICES: list[Voice] = [*FOREST_VOICES, synth.chainsaw, synth.engine]
STEADY_SAW = SawSetting(cut_share=0.0, idle_share=1.0, wobble=0.0, four_stroking=0.0, reverb=0.0)
GENERATOR = EngineSetting(
    cylinders=1, rpm=3_000.0, rev_rpm=3_000.0, wobble=0.0, imbalance=0.0, misfire=0.0, strength_jitter=0.02, reverb=0.0
)


# --- what holds for every sound ----------------------------------------------------------------------------------


@pytest.mark.parametrize("voice", ALL_VOICES)
def test_the_same_seed_is_the_same_sound(voice: Voice) -> None:
    first = voice(1.0, np.random.default_rng(3))
    np.testing.assert_array_equal(first, voice(1.0, np.random.default_rng(3)))
    assert not np.allclose(first, voice(1.0, np.random.default_rng(4)))


@pytest.mark.parametrize("voice", ALL_VOICES)
@pytest.mark.parametrize("duration_s", [1 / SAMPLE_RATE, 0.001, 0.0625, 0.77777, 1.00003, 3.0])
def test_durations_are_exact_to_the_sample(voice: Voice, duration_s: float) -> None:
    samples = voice(duration_s, np.random.default_rng(0))
    assert samples.shape == (round(duration_s * SAMPLE_RATE),)
    assert samples.dtype == np.float32


@given(st.sampled_from(ALL_VOICES), st.integers(0, 2**32), st.floats(0.05, 2.0))
@settings(max_examples=150)
def test_every_sound_is_finite_unclipped_and_without_dc(voice: Voice, seed: int, duration_s: float) -> None:
    samples = voice(duration_s, np.random.default_rng(seed))
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 0.96
    assert abs(float(samples.mean(dtype=np.float64))) < 1e-4
    assert samples.std() > 1e-4


@pytest.mark.parametrize("misfire", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(40))
def test_an_engine_shorter_than_its_period_is_heard(seed: int, misfire: float) -> None:
    slow = replace(GENERATOR, rpm=1_800.0, rev_rpm=1_800.0, misfire=misfire)  # fifteen firings a second
    assert synth.engine(0.0625, np.random.default_rng(seed), slow).std() > 1e-4


@pytest.mark.parametrize("voice", ALL_VOICES)
@pytest.mark.parametrize("duration_s", [0.0, -1.0, 1e-6, float("nan"), float("inf")])
def test_no_sound_of_no_length(voice: Voice, duration_s: float) -> None:
    with pytest.raises(FieldError, match="duration_s"):
        voice(duration_s, np.random.default_rng(0))


@given(st.integers(0, 2**32))
def test_levels_are_as_promised(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = synth.FOREST_DBFS
    assert low - 0.1 <= level_dbfs(synth.forest(2.0, rng)) <= high + 0.1
    for motor in (synth.chainsaw(2.0, rng), synth.engine(2.0, rng)):
        level = level_dbfs(motor)
        at_the_peak = np.abs(motor).max() > 0.949
        assert level == pytest.approx(synth.MOTOR_DBFS, abs=0.1) or (at_the_peak and level < synth.MOTOR_DBFS)


def test_rms_dbfs_measures_above_60_hz() -> None:
    seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = (0.5 * np.sin(2 * np.pi * 1_000 * seconds)).astype(np.float32)
    rumble = (0.5 * np.sin(2 * np.pi * 40 * seconds)).astype(np.float32)
    assert acoustics.rms_dbfs(tone) == pytest.approx(-9.03, abs=0.01)
    assert acoustics.rms_dbfs(tone + rumble) == pytest.approx(-9.03, abs=0.01)
    assert acoustics.rms_dbfs(np.zeros(100, np.float32)) == -120.0


@pytest.mark.parametrize("n_samples", [1, 2, 3, 5, 7, 1_000, 1_001, 47_999, 48_000, 720_000, 999_983])
def test_transform_lengths_have_only_small_factors(n_samples: int) -> None:
    length = rest = acoustics.fft_length(n_samples)
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    assert rest == 1
    assert n_samples <= length <= max(2, 1.2 * n_samples)


# --- motors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("idle_rpm", [2_700.0, 3_000.0, 3_300.0])
def test_an_idling_saw_fires_once_a_turn(idle_rpm: float) -> None:
    saw = synth.chainsaw(3.0, np.random.default_rng(1), replace(STEADY_SAW, idle_rpm=idle_rpm))
    rate_hz, strength = rhythm(saw, 35.0, 70.0)
    assert rate_hz == pytest.approx(idle_rpm / 60.0, rel=0.03)
    assert strength > 0.3


@pytest.mark.parametrize("cut_rpm", [7_000.0, 9_000.0, 10_800.0])
def test_a_cutting_saw_fires_once_a_turn(cut_rpm: float) -> None:
    setting = SawSetting(cut_rpm=cut_rpm, cut_share=1.0, idle_share=0.0, wobble=0.0, reverb=0.0)
    saw = synth.chainsaw(1.0, np.random.default_rng(1), setting)
    rate_hz, strength = rhythm(saw, 90.0, 240.0)
    assert 0.92 * cut_rpm / 60.0 <= rate_hz <= 1.06 * cut_rpm / 60.0  # the hand asks for 94 to 104 %
    assert strength > 0.15


@pytest.mark.parametrize(
    ("rpm", "strokes", "cylinders", "firing_hz"),
    [(3_000.0, 4, 1, 25.0), (3_000.0, 2, 1, 50.0), (1_500.0, 4, 4, 50.0), (1_800.0, 4, 6, 90.0), (4_000.0, 4, 2, 66.7)],
)
def test_an_engine_fires_as_its_cylinders_and_strokes_say(
    rpm: float, strokes: int, cylinders: int, firing_hz: float
) -> None:
    setting = replace(GENERATOR, rpm=rpm, rev_rpm=rpm, strokes=strokes, cylinders=cylinders)
    sound = synth.engine(3.0, np.random.default_rng(2), setting)
    rate_hz, strength = rhythm(sound, 0.7 * firing_hz, 2.2 * firing_hz)
    assert rate_hz == pytest.approx(firing_hz, rel=0.01)
    assert strength > 0.3


def test_a_passing_engine_sinks_in_pitch_and_fades() -> None:
    setting = replace(GENERATOR, strokes=2, speed_m_s=30.0, distance_m=5.0)
    sound = synth.engine(8.0, np.random.default_rng(5), setting)
    seconds = sound.reshape(8, SAMPLE_RATE)
    nearest = int(np.argmax([level_dbfs(second) for second in seconds]))
    before, _ = rhythm(seconds[nearest - 1], 40.0, 60.0)
    after, _ = rhythm(seconds[nearest + 1], 40.0, 60.0)
    assert before / after == pytest.approx((340 + 30) / (340 - 30), rel=0.05)
    assert level_dbfs(seconds[nearest]) > level_dbfs(seconds[0]) + 6.0


def test_a_saw_has_harmonics_far_up_and_hiss_above_them() -> None:
    saw = synth.chainsaw(4.0, np.random.default_rng(0), SawSetting(cut_share=1.0, idle_share=0.0))
    total = level_dbfs(saw)
    assert level_dbfs(saw, 300, 3_000) > total - 3.0
    assert level_dbfs(saw, 2_000, 6_000) > total - 12.0
    assert level_dbfs(saw, 0, 60) < total - 20.0


def test_distance_takes_the_high_notes() -> None:
    near, far = (
        synth.chainsaw(3.0, np.random.default_rng(0), SawSetting(distance_m=metres)) for metres in (5.0, 300.0)
    )
    share_near, share_far = (level_dbfs(s, 2_000, 8_000) - level_dbfs(s, 60, 1_000) for s in (near, far))
    assert share_far < share_near - 15.0


def test_the_chain_is_silent_at_idle() -> None:
    loud_chain = replace(STEADY_SAW, chain_noise=1.0)
    cutting = replace(loud_chain, cut_share=0.5, idle_share=0.5)
    saw = synth.chainsaw(30.0, np.random.default_rng(1), cutting).reshape(-1, SAMPLE_RATE)
    hiss = [level_dbfs(second, 3_000, 6_000) for second in saw]
    assert max(hiss) - min(hiss) > 20.0


@given(st.integers(0, 2**32))
def test_random_settings_are_machines_that_exist(seed: int) -> None:
    rng = np.random.default_rng(seed)
    saw, motor = synth.random_saw(rng), synth.random_engine(rng)  # their bounds are checked at birth
    assert 40.0 <= saw.idle_rpm / 60.0 < 100.0 < saw.cut_rpm / 60.0 <= saw.free_rpm / 60.0 <= 240.0
    assert 8.0 <= motor.rpm / 60.0 * motor.firings_per_turn <= 250.0


def test_random_engines_are_of_many_kinds() -> None:
    rng = np.random.default_rng(0)
    motors = [synth.random_engine(rng) for _ in range(200)]
    assert {motor.strokes for motor in motors} == {2, 4}
    assert {motor.cylinders for motor in motors} >= {1, 2, 3, 4, 6}
    assert 0.1 < np.mean([motor.speed_m_s > 0 for motor in motors]) < 0.6


@pytest.mark.parametrize("kind", [SawSetting, EngineSetting])
def test_a_setting_out_of_bounds_is_named(kind: type[SawSetting] | type[EngineSetting]) -> None:
    bounds = synth._SAW_BOUNDS if kind is SawSetting else synth._ENGINE_BOUNDS
    unbounded = {"strokes", "resonances_hz", "resonance_gains"}
    assert {field.name for field in fields(kind)} - unbounded == set(bounds)
    for (key, (low, high)), side in itertools.product(bounds.items(), (-1, 1)):
        wrong = low - 1 if side < 0 else high + 1
        with pytest.raises(FieldError, match=rf"{kind.__name__}\.{key}: is .*expected"):
            kind(**{key: wrong})
        with pytest.raises(FieldError, match=key):
            kind(**{key: float("nan")})


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: SawSetting(cut_rpm=9_000, free_rpm=8_000), "cut_rpm"),
        (lambda: SawSetting(cut_share=0.7, idle_share=0.7), "idle_share"),
        (lambda: SawSetting(resonances_hz=()), "resonances_hz"),
        (lambda: SawSetting(resonances_hz=(9_000.0,), resonance_gains=(1.0,)), "resonances_hz"),
        (lambda: SawSetting(resonance_gains=(1.0,)), "resonance_gains"),
        (lambda: EngineSetting(strokes=3), "strokes"),
        (lambda: EngineSetting(rpm=3_000, rev_rpm=2_000), "rev_rpm"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(make: Callable[[], object], key: str) -> None:
    with pytest.raises(FieldError, match=key):
        make()


# --- the forest --------------------------------------------------------------------------------------------------


def test_no_forest_has_a_motors_rhythm() -> None:
    forests = [rhythm(synth.forest(2.0, np.random.default_rng(seed)), 40.0, 250.0)[1] for seed in range(40)]
    saws = [rhythm(synth.chainsaw(2.0, np.random.default_rng(seed)), 40.0, 250.0)[1] for seed in range(40)]
    assert np.median(saws) > 2.0 * np.median(forests)
    assert max(forests) < 0.3


def test_insects_sing_high_and_wind_blows_low() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        insects, wind = synth.insects(2.0, rng), synth.wind(2.0, rng)
        assert level_dbfs(insects, 1_500, 8_000) > level_dbfs(insects, 60, 1_500) + 10.0
        assert level_dbfs(wind, 20, 1_000) > level_dbfs(wind, 4_000, 8_000)


# --- the bundled recording and the drill -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> Float32:
    return synth.demo_scene()[0]


def between(samples: Float32, start_s: float, end_s: float) -> Float32:
    return samples[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]


def test_the_demo_knows_its_truth(demo: Float32) -> None:
    samples, events = synth.demo_scene()
    np.testing.assert_array_equal(samples, demo)
    assert samples.shape == (45 * SAMPLE_RATE,)
    assert events == [synth.Event(label="chainsaw", onset_s=12.0, offset_s=27.0)]
    assert np.abs(samples).max() < 0.95


def test_the_demos_saw_is_12_db_over_its_forest(demo: Float32, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = np.zeros(15 * SAMPLE_RATE, np.float32)
    monkeypatch.setattr(synth, "_faded", lambda samples, seconds: silent)
    forest = synth.demo_scene()[0]
    np.testing.assert_array_equal(between(demo, 0, 12), between(forest, 0, 12))
    np.testing.assert_array_equal(between(demo, 27, 45), between(forest, 27, 45))
    under = between(forest, 12, 27)
    saw = between(demo, 12, 27) - under
    assert level_dbfs(saw) - level_dbfs(under) == pytest.approx(synth.DEMO_SNR_DB, abs=0.05)
    assert level_dbfs(forest) == pytest.approx(-34.0, abs=0.05)


def test_the_demo_begins_and_ends_as_forest(demo: Float32) -> None:
    alone = [rhythm(between(demo, s, s + 2), 40, 250)[1] for s in (*range(0, 11, 2), *range(27, 43, 2))]
    sawn = [rhythm(between(demo, s, s + 2), 40, 250)[1] for s in range(12, 26, 2)]
    assert max(alone) < min(sawn)


GOLDEN_EDGES_HZ = (60, 250, 500, 1_000, 2_000, 4_000, 7_600)


@pytest.mark.parametrize(
    ("start_s", "end_s", "golden_dbfs"),
    [
        (0, 12, (-41.19, -41.46, -42.76, -37.77, -42.16, -43.51)),
        (12, 27, (-38.94, -29.41, -28.67, -31.23, -29.85, -32.71)),
        (27, 45, (-41.82, -42.06, -43.4, -38.96, -41.12, -42.48)),
    ],
)
def test_the_demo_is_the_same_on_every_machine(
    demo: Float32, start_s: float, end_s: float, golden_dbfs: tuple[float, ...]
) -> None:
    """Levels by octave, stored: if they move, SYNTH_VERSION goes up and these are written anew."""
    assert synth.SYNTH_VERSION == 2
    part = between(demo, start_s, end_s)
    levels = [level_dbfs(part, low, high) for low, high in itertools.pairwise(GOLDEN_EDGES_HZ)]
    np.testing.assert_allclose(levels, golden_dbfs, atol=0.02)


def test_the_drill_is_a_loud_saw_of_12_seconds() -> None:
    drill = synth.drill_saw()
    assert drill.shape == (12 * SAMPLE_RATE,)
    np.testing.assert_array_equal(drill, synth.drill_saw())
    assert -23.0 < level_dbfs(drill) < -17.0
    parts = [rhythm(between(drill, s, s + 1), 40, 250)[1] for s in range(12)]
    assert np.median(parts) > 0.2
    assert abs(drill[0]) < 1e-3
    assert abs(drill[-1]) < 1e-3


def test_the_demo_can_be_written_as_a_wav_file(tmp_path: Path, demo: Float32) -> None:
    path = tmp_path / "demo.wav"
    synth.write_demo(path)
    with wave.open(str(path)) as reader:
        assert (reader.getnchannels(), reader.getframerate()) == (1, SAMPLE_RATE)
        written = np.frombuffer(reader.readframes(reader.getnframes()), "<i2") / 32_768.0
    np.testing.assert_allclose(written, demo, atol=1e-4)
