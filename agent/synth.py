"""Forest, saws and engines out of nothing but NumPy: for `make run`, for the drill and as training material.

A motor is a row of exhaust pulses, one for each firing, at times found by integrating a speed curve; the muffler
rings after each pulse, and gas and chain hiss in their rhythm. All chance comes from the caller's generator, so that
a seed names a sound. Filters are products of spectra: three seconds take a few milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from agent.acoustics import (
    CONTROL_HZ,
    GRID_HZ,
    SAMPLE_RATE,
    Complex,
    Float32,
    Float64,
    Generator,
    at_level,
    at_unit,
    band,
    begun,
    control_points,
    fft_length,
    firings_of,
    flown_by,
    follow,
    fraction_of,
    gains,
    high_pass,
    log_uniform,
    n_samples_of,
    power_of,
    pulse_row,
    ringing,
    rms_dbfs,
    samples_of,
    scaled_to,
    shaped,
    slope,
    spectrum_of,
    to_samples,
    wander,
    way,
    white_noise,
    with_echo,
)
from agent.errors import FieldError

SYNTH_VERSION = 2
"""Goes up whenever the same seed would give another sound."""

FOREST_DBFS: Final = (-40.0, -30.0)
"""Level of a forest, RMS above 60 Hz: chosen evenly within these."""

MOTOR_DBFS: Final = -20.0
"""Level of a saw or an engine, RMS above 60 Hz; less where its peaks would clip."""

DEMO_SECONDS: Final = 45.0
DEMO_ONSET_S: Final = 12.0
DEMO_OFFSET_S: Final = 27.0
DEMO_SNR_DB: Final = 12.0
DRILL_SECONDS: Final = 12.0

_DEMO_FOREST_DBFS = -34.0
_DEMO_SEED = 20_261_120
_DRILL_SEED = 7
_SPROCKET_TEETH = 7
_FOREST_MIDDLE = sum(FOREST_DBFS) / 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A sound that is known to be in a recording: the ground truth."""

    label: str
    """What it is, in the model's words."""
    onset_s: float
    """Seconds from the recording's start to the first sample of the sound."""
    offset_s: float
    """Seconds from the recording's start to its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SawSetting:
    """A chainsaw, its operator and where it stands: a single-cylinder two-stroke fires once a turn."""

    idle_rpm: float = 2_900.0
    """Turns a minute with the throttle closed."""
    cut_rpm: float = 9_300.0
    """Turns a minute in the wood."""
    free_rpm: float = 12_000.0
    """Turns a minute at full throttle out of the wood."""
    cut_share: float = 0.75
    """Share of throttle phases that are cuts."""
    idle_share: float = 0.1
    """Share of phases at idle; what remains, but for the starts, are short revs."""
    wobble: float = 0.07
    """Relative swing of the speed in the wood, from load and hand."""
    wobble_hz: float = 2.2
    """How many such swings a second."""
    sag: float = 0.0
    """How far the speed slides within a cut, relative: it sinks as the wood closes, or rises as it gives way."""
    start_share: float = 0.0
    """Share of phases in which the starter cord is pulled."""
    spool_up_s: float = 0.2
    """Time constant of speeding up, seconds."""
    spool_down_s: float = 0.35
    """Time constant of slowing down, seconds."""
    strength_jitter: float = 0.08
    """Standard deviation of one firing's strength relative to the mean."""
    timing_jitter: float = 0.01
    """Standard deviation of one firing's time, in turns."""
    four_stroking: float = 0.35
    """How much weaker every other firing is at light load (rich mixture), 0 to 1."""
    pulse_hz: float = 950.0
    """Where the pulse's spectrum begins to fall, hertz."""
    tilt_db: float = 10.5
    """How fast it falls above, dB per octave."""
    resonances_hz: tuple[float, ...] = (400.0, 950.0, 2_200.0, 3_100.0)
    """Muffler, housing and intake resonances, hertz."""
    resonance_gains: tuple[float, ...] = (0.8, 1.0, 1.2, 0.7)
    """Strength of each resonance, relative."""
    resonance_q: float = 5.0
    """Sharpness of the resonances."""
    exhaust_noise: float = 0.3
    """RMS of the gas noise relative to the pulses'."""
    chain_noise: float = 0.5
    """RMS of the chain's hiss relative to the pulses'."""
    chain_hz: float = 4_200.0
    """Centre of the chain's hiss, hertz."""
    distance_m: float = 6.0
    """Way through air and leaves, which swallow the high notes, metres."""
    reverb: float = 0.2
    """RMS of the forest's echo relative to the direct sound."""
    reverb_s: float = 0.5
    """Time in which the echo falls by 60 dB, seconds."""

    def __post_init__(self) -> None:
        """Refuse a saw that nobody could build."""
        _check(self, _SAW_BOUNDS)
        _check_resonances("SawSetting", self.resonances_hz, self.resonance_gains)
        if not self.idle_rpm < self.cut_rpm <= self.free_rpm:
            raise FieldError(
                "SawSetting.cut_rpm",
                f"is {self.cut_rpm:g}, expected idle {self.idle_rpm:g} < cut <= free {self.free_rpm:g}",
            )
        if self.cut_share + self.idle_share + self.start_share > 1.0:
            raise FieldError(
                "SawSetting.idle_share",
                f"is {self.idle_share:g}, with cut_share and start_share it exceeds 1",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSetting:
    """A vehicle's or generator's motor near by, standing or passing."""

    strokes: int = 4
    """2 or 4: a cylinder fires every turn or every other."""
    cylinders: int = 4
    """How many, 1 to 12."""
    rpm: float = 900.0
    """Turns a minute with the throttle closed, or of a governed motor."""
    rev_rpm: float = 2_200.0
    """Turns a minute that the throttle reaches."""
    rev_share: float = 0.3
    """Share of phases with the throttle open."""
    wobble: float = 0.02
    """Relative swing of the speed."""
    wobble_hz: float = 0.7
    """How many such swings a second."""
    spool_s: float = 0.5
    """Time constant of changes of speed, seconds."""
    strength_jitter: float = 0.1
    """Standard deviation of one firing's strength relative to the mean."""
    timing_jitter: float = 0.006
    """Standard deviation of one firing's time, in firing periods."""
    imbalance: float = 0.15
    """Standard deviation of strength between cylinders, relative."""
    unevenness: float = 0.0
    """How far the cylinders stand off even spacing, in firing periods (V-twins: up to 0.3)."""
    misfire: float = 0.01
    """Probability that a firing fails."""
    pulse_hz: float = 220.0
    """Where the pulse's spectrum begins to fall, hertz."""
    tilt_db: float = 9.0
    """How fast it falls above, dB per octave."""
    resonances_hz: tuple[float, ...] = (95.0, 240.0, 620.0)
    """Exhaust and body resonances, hertz."""
    resonance_gains: tuple[float, ...] = (1.0, 1.0, 1.0)
    """Strength of each resonance, relative."""
    resonance_q: float = 3.0
    """Sharpness of the resonances."""
    exhaust_noise: float = 0.2
    """RMS of the gas noise relative to the pulses'."""
    knock: float = 0.0
    """RMS of a diesel's knock relative to the pulses'."""
    knock_hz: float = 1_800.0
    """Centre of the knock, hertz."""
    fan_noise: float = 0.1
    """RMS of fan and tyre noise relative to the pulses'."""
    whine: float = 0.0
    """RMS of gears, turbo or alternator relative to the pulses'."""
    whine_ratio: float = 12.0
    """Cycles of the whine a turn."""
    speed_m_s: float = 0.0
    """How fast it passes by, metres a second; 0 stands."""
    distance_m: float = 15.0
    """Nearest distance, metres."""
    reverb: float = 0.15
    """RMS of the surroundings' echo relative to the direct sound."""
    reverb_s: float = 0.4
    """Time in which the echo falls by 60 dB, seconds."""

    def __post_init__(self) -> None:
        """Refuse a motor that nobody could build."""
        _check(self, _ENGINE_BOUNDS)
        _check_resonances("EngineSetting", self.resonances_hz, self.resonance_gains)
        if self.strokes not in (2, 4):
            raise FieldError("EngineSetting.strokes", f"is {self.strokes}, expected 2 or 4")
        if self.rev_rpm < self.rpm:
            raise FieldError("EngineSetting.rev_rpm", f"is {self.rev_rpm:g}, expected at least rpm = {self.rpm:g}")

    @property
    def firings_per_turn(self) -> float:
        """Exhaust pulses of all cylinders in one turn."""
        return self.cylinders * 2.0 / self.strokes


_SAW_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "idle_rpm": (2_200, 3_800),
    "cut_rpm": (4_500, 13_000),
    "free_rpm": (7_000, 15_000),
    "cut_share": (0, 1),
    "idle_share": (0, 1),
    "wobble": (0, 0.3),
    "wobble_hz": (0.1, 5),
    "sag": (-0.5, 0.5),
    "start_share": (0, 1),
    "spool_up_s": (0.03, 1),
    "spool_down_s": (0.05, 2),
    "strength_jitter": (0, 0.5),
    "timing_jitter": (0, 0.05),
    "four_stroking": (0, 1),
    "pulse_hz": (100, 5_000),
    "tilt_db": (3, 24),
    "resonance_q": (0.5, 15),
    "exhaust_noise": (0, 2),
    "chain_noise": (0, 2),
    "chain_hz": (1_500, 7_500),
    "distance_m": (0, 2_000),
    "reverb": (0, 2),
    "reverb_s": (0.05, 3),
}

_ENGINE_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "cylinders": (1, 12),
    "rpm": (400, 9_000),
    "rev_rpm": (400, 13_000),
    "rev_share": (0, 1),
    "wobble": (0, 0.3),
    "wobble_hz": (0.1, 5),
    "spool_s": (0.05, 5),
    "strength_jitter": (0, 0.6),
    "timing_jitter": (0, 0.1),
    "imbalance": (0, 0.6),
    "unevenness": (0, 0.4),
    "misfire": (0, 0.3),
    "pulse_hz": (40, 3_000),
    "tilt_db": (3, 24),
    "resonance_q": (0.5, 15),
    "exhaust_noise": (0, 2),
    "knock": (0, 2),
    "knock_hz": (500, 5_000),
    "fan_noise": (0, 2),
    "whine": (0, 1),
    "whine_ratio": (1, 60),
    "speed_m_s": (0, 60),
    "distance_m": (1, 2_000),
    "reverb": (0, 2),
    "reverb_s": (0.05, 3),
}


def _check(setting: SawSetting | EngineSetting, bounds: dict[str, tuple[float, float]]) -> None:
    """Raise FieldError for the first number out of its bounds."""
    for key, (low, high) in bounds.items():
        value = getattr(setting, key)
        if not low <= value <= high:
            raise FieldError(f"{type(setting).__name__}.{key}", f"is {value:g}, expected {low:g} to {high:g}")


def _check_resonances(owner: str, resonances_hz: Sequence[float], gains: Sequence[float]) -> None:
    """Raise FieldError unless there are resonances that 16 kHz can carry, each with its gain."""
    if not resonances_hz or not all(40.0 <= hz <= SAMPLE_RATE / 2 for hz in resonances_hz):
        raise FieldError(f"{owner}.resonances_hz", f"is {resonances_hz}, expected one or more of 40 to 8000")
    if len(gains) != len(resonances_hz) or not all(0.0 <= gain <= 10.0 for gain in gains):
        raise FieldError(f"{owner}.resonance_gains", f"is {gains}, expected {len(resonances_hz)} numbers from 0 to 10")


# --- what all sounds share ---------------------------------------------------------------------------------------


# --- motors ------------------------------------------------------------------------------------------------------


def _saw_throttle(n_points: int, setting: SawSetting, rng: Generator) -> tuple[Float64, Float64]:
    """Return the speed that the operator asks for (rpm) and the load (0 to 1) at every control point."""
    targets = np.empty(n_points)
    loads = np.empty(n_points)
    at = 0
    while at < n_points:
        kind = rng.random()
        if kind < setting.cut_share:
            phases = _cut(setting, rng)
        elif kind < setting.cut_share + setting.idle_share:
            phases = [(rng.uniform(0.5, 2.5), setting.idle_rpm, 0.1)]
        elif kind >= 1.0 - setting.start_share:
            phases = _pulls(setting, rng)
        else:
            low = setting.idle_rpm + rng.uniform(0.0, 0.6) * (setting.cut_rpm - setting.idle_rpm)
            phases = [(rng.uniform(0.2, 0.8), setting.free_rpm, 0.45), (rng.uniform(0.15, 0.8), low, 0.15)]
        for seconds, rpm, load in phases:
            end = at + max(1, int(seconds * CONTROL_HZ))
            targets[at:end] = rpm
            loads[at:end] = load
            at = end
    return targets, loads


def _cut(setting: SawSetting, rng: Generator) -> list[tuple[float, float, float]]:
    """Return a cut as phases of seconds, speed and load: one, or many short ones that slide."""
    seconds, rpm, load = rng.uniform(0.7, 5.0), setting.cut_rpm * rng.uniform(0.94, 1.04), rng.uniform(0.7, 1.0)
    if setting.sag == 0.0:
        return [(seconds, rpm, load)]
    n_steps = max(1, round(seconds / 0.1))
    return [(seconds / n_steps, rpm * (1.0 + slide), load) for slide in np.linspace(setting.sag, -setting.sag, n_steps)]


def _pulls(setting: SawSetting, rng: Generator) -> list[tuple[float, float, float]]:
    """Return pulls at the starter cord, the last of which catches."""
    phases: list[tuple[float, float, float]] = []
    for _ in range(int(rng.uniform(1.0, 5.0))):
        phases.append((rng.uniform(0.2, 0.45), setting.idle_rpm * rng.uniform(0.35, 0.6), rng.uniform(0.3, 0.8)))
        phases.append((rng.uniform(0.3, 1.0), 0.05 * setting.idle_rpm, 0.0))
    return [
        *phases,
        (rng.uniform(0.3, 0.8), 0.8 * setting.free_rpm, 0.5),
        (rng.uniform(0.3, 1.5), setting.idle_rpm, 0.1),
    ]


def _saw_curves(n_samples: int, setting: SawSetting, rng: Generator) -> tuple[Float32, Float32, Float32, Float32]:
    """Return firing rate in hertz, load (0 to 1), loudness and the chain's hiss, relative, at every sample."""
    n_points = control_points(n_samples)
    targets, loads = _saw_throttle(n_points, setting, rng)
    loads = follow(loads, 0.08, 0.08)
    bite = wander(n_points, setting.wobble_hz, CONTROL_HZ, rng)
    hunting = 0.012 * wander(n_points, 8.0, CONTROL_HZ, rng)
    rpm = follow(targets, setting.spool_up_s, setting.spool_down_s)
    rpm = rpm * (1.0 + (0.2 + 0.8 * loads) * setting.wobble * bite + hunting)
    # what runs does not stall; what is not started yet may stand still
    slowest = 0.05 if setting.start_share > 0.0 else 0.8
    rpm = rpm.clip(slowest * setting.idle_rpm, 1.1 * setting.free_rpm)
    loads = (loads * (1.0 - 0.15 * bite)).clip(0.05, 1.0)
    speed = rpm / setting.cut_rpm
    loudness = (0.25 + 0.75 * loads) * speed**0.7
    hiss = loudness * np.maximum(speed - 0.35, 0.02)  # the clutch lets the chain stand at idle
    curves = [to_samples(curve, n_samples) for curve in (rpm / 60.0, loads, loudness, hiss)]
    return curves[0], curves[1], curves[2], curves[3]


def chainsaw(duration_s: float, rng: Generator, setting: SawSetting | None = None) -> Float32:
    """Return a chainsaw at work.

    Args:
        duration_s: length in seconds; the sound is there from the first sample to the last.
        rng: where all chance comes from.
        setting: the saw; None draws one by `random_saw`.

    Returns:
        Shape (round(16,000 × duration_s),), float32 in [-1, 1], at MOTOR_DBFS.
    """
    saw = random_saw(rng) if setting is None else setting
    n_samples = n_samples_of(duration_s)
    length = fft_length(n_samples)
    rate_hz, load, loudness, hiss = _saw_curves(n_samples, saw, rng)
    phase = begun(np.cumsum(rate_hz, dtype=np.float64) / SAMPLE_RATE, rng)
    muffler = ringing(saw.resonances_hz, saw.resonance_q, saw.resonance_gains, 0.2)

    pulses = _saw_pulses(phase, load, loudness, saw, length, rng)
    spectrum = shaped(pulses, muffler * slope(saw.pulse_hz, saw.tilt_db) * high_pass(70.0), length)
    power = power_of(spectrum)

    after_firing = fraction_of(phase)
    gas = white_noise(n_samples, rng) * (np.exp(-4.0 * after_firing) + np.float32(0.15)) * loudness
    gas_shape = (np.abs(muffler) + 0.25) * slope(2_500.0, 6.0) * high_pass(250.0)
    spectrum += scaled_to(shaped(spectrum_of(gas, length), gas_shape, length), saw.exhaust_noise, power)

    tooth = 1.0 + 0.5 * np.cos(after_firing * np.float32(2.0 * np.pi * _SPROCKET_TEETH))
    chain = white_noise(n_samples, rng) * tooth * hiss
    chain_shape = band(saw.chain_hz, 0.7)
    spectrum += scaled_to(shaped(spectrum_of(chain, length), chain_shape, length), saw.chain_noise, power)

    spectrum = shaped(spectrum, way(saw.distance_m), length)
    spectrum = with_echo(spectrum, length, saw.reverb, saw.reverb_s, rng)
    return at_level(samples_of(spectrum, length, n_samples), MOTOR_DBFS)


def _saw_pulses(
    phase: Float64, load: Float32, loudness: Float32, saw: SawSetting, length: int, rng: Generator
) -> Complex:
    """Return the spectrum of a saw's firings, each of its own strength."""
    positions, periods = firings_of(phase)
    n_pulses = len(positions)
    at = positions.astype(np.int64)
    rich = saw.four_stroking * (1.0 - load[at]) * (np.arange(n_pulses) % 2)
    strengths = loudness[at] * (1.0 + saw.strength_jitter * rng.standard_normal(n_pulses)).clip(0.05, None)
    positions = positions + saw.timing_jitter * periods * rng.standard_normal(n_pulses)
    return pulse_row(positions, strengths * (1.0 - rich), length)


def _engine_curves(n_samples: int, setting: EngineSetting, rng: Generator) -> tuple[Float32, Float32]:
    """Return turns a second and the loudness, relative, at every sample."""
    n_points = control_points(n_samples)
    targets = np.empty(n_points)
    loads = np.empty(n_points)
    at = 0
    while at < n_points:
        is_open = rng.random() < setting.rev_share
        end = at + max(1, int(rng.uniform(0.4, 4.0) * CONTROL_HZ))
        span = setting.rev_rpm - setting.rpm
        targets[at:end] = setting.rpm + (span * rng.uniform(0.5, 1.0) if is_open else 0.0)
        loads[at:end] = rng.uniform(0.6, 1.0) if is_open else rng.uniform(0.25, 0.5)
        at = end
    loads = follow(loads, 0.2, 0.2)
    rpm = follow(targets, setting.spool_s, 1.3 * setting.spool_s)
    rpm = rpm * (1.0 + setting.wobble * wander(n_points, setting.wobble_hz, CONTROL_HZ, rng))
    rpm = rpm.clip(0.7 * setting.rpm, 1.1 * setting.rev_rpm)
    loudness = (0.4 + 0.6 * loads) * np.sqrt(rpm / setting.rpm)
    return to_samples(rpm / 60.0, n_samples), to_samples(loudness, n_samples)


def _passing(n_samples: int, setting: EngineSetting, rng: Generator) -> tuple[Float32, Float32]:
    """Return the Doppler factor and the gain relative to the nearest point, at every sample."""
    if setting.speed_m_s <= 0.0:
        return np.ones(n_samples, np.float32), np.ones(n_samples, np.float32)
    nearest_s = rng.uniform(0.2, 0.8) * n_samples / SAMPLE_RATE
    doppler, away_m = flown_by(n_samples, setting.speed_m_s, setting.distance_m, nearest_s)
    return to_samples(doppler, n_samples), to_samples(setting.distance_m / away_m, n_samples)


def engine(duration_s: float, rng: Generator, setting: EngineSetting | None = None) -> Float32:
    """Return a motor of a vehicle or a machine, standing or passing.

    Args:
        duration_s: length in seconds; the sound is there from the first sample to the last.
        rng: where all chance comes from.
        setting: the motor; None draws one by `random_engine`.

    Returns:
        Shape (round(16,000 × duration_s),), float32 in [-1, 1], at MOTOR_DBFS.
    """
    motor = random_engine(rng) if setting is None else setting
    n_samples = n_samples_of(duration_s)
    length = fft_length(n_samples)
    turns_hz, loudness = _engine_curves(n_samples, motor, rng)
    doppler, nearness = _passing(n_samples, motor, rng)
    loudness = loudness * nearness
    turns = np.cumsum(turns_hz * doppler, dtype=np.float64) / SAMPLE_RATE
    phase = begun(turns * motor.firings_per_turn, rng)
    exhaust = ringing(motor.resonances_hz, motor.resonance_q, motor.resonance_gains, 0.25)

    pulses = _engine_pulses(phase, loudness, motor, length, rng)
    spectrum = shaped(pulses, exhaust * slope(motor.pulse_hz, motor.tilt_db) * high_pass(35.0), length)
    power = power_of(spectrum)

    after_firing = fraction_of(phase)
    white = white_noise(n_samples, rng)
    between = np.float32(0.2 + 0.06 * motor.cylinders)  # the gas of many cylinders never stands still
    gas = white * (np.exp(-3.0 * after_firing) + between) * loudness
    gas_shape = (np.abs(exhaust) + 0.15) * slope(900.0, 6.0) * high_pass(60.0)
    spectrum += scaled_to(shaped(spectrum_of(gas, length), gas_shape, length), motor.exhaust_noise, power)

    fan = white_noise(n_samples, rng) * nearness
    fan_shape = slope(1_200.0, 7.0) * high_pass(120.0)
    spectrum += scaled_to(shaped(spectrum_of(fan, length), fan_shape, length), motor.fan_noise, power)

    if motor.knock > 0.0:
        strengths = (1.0 + 0.35 * rng.standard_normal(int(phase[-1]) + 2)).clip(0.1, None).astype(np.float32)
        knock = white * np.exp(-12.0 * after_firing) * strengths[phase.astype(np.int64)] * nearness
        knocking = shaped(spectrum_of(knock, length), band(motor.knock_hz, 0.6), length)
        spectrum += scaled_to(knocking, motor.knock, power)
    if motor.whine > 0.0:
        whine = np.sin(fraction_of(turns * motor.whine_ratio) * np.float32(2.0 * np.pi)) * loudness
        spectrum += scaled_to(spectrum_of(whine, length), motor.whine, power)

    spectrum = shaped(spectrum, way(motor.distance_m), length)
    spectrum = with_echo(spectrum, length, motor.reverb, motor.reverb_s, rng)
    return at_level(samples_of(spectrum, length, n_samples), MOTOR_DBFS)


def _engine_pulses(phase: Float64, loudness: Float32, motor: EngineSetting, length: int, rng: Generator) -> Complex:
    """Return the spectrum of an engine's firings: cylinders differ, some fail, V-twins stumble."""
    positions, periods = firings_of(phase)
    n_pulses = len(positions)
    cylinder = np.arange(n_pulses) % motor.cylinders
    own_strength = (1.0 + motor.imbalance * rng.standard_normal(motor.cylinders)).clip(0.2, None)
    own_place = motor.unevenness * rng.uniform(-1.0, 1.0, motor.cylinders)
    strengths = loudness[positions.astype(np.int64)] * own_strength[cylinder]
    strengths *= (1.0 + motor.strength_jitter * rng.standard_normal(n_pulses)).clip(0.05, None)
    fires = rng.random(n_pulses) >= motor.misfire
    fires[0] |= not fires.any()
    strengths *= fires
    off = own_place[cylinder] + motor.timing_jitter * rng.standard_normal(n_pulses)
    return pulse_row(positions + off * periods, strengths.astype(np.float64), length)


def random_saw(rng: Generator) -> SawSetting:
    """Return a saw of some make in somebody's hands, somewhere near by: felling, limbing, idling or being started."""
    cut_rpm = log_uniform(6_100.0, 11_000.0, rng)
    cut_share, idle_share, start_share = _work(rng)
    scale = log_uniform(0.6, 1.6, rng)
    return SawSetting(
        idle_rpm=rng.uniform(2_400.0, 3_500.0),
        cut_rpm=cut_rpm,
        free_rpm=min(max(7_200.0, cut_rpm * rng.uniform(1.05, 1.5)), 14_000.0),
        cut_share=cut_share,
        idle_share=idle_share,
        start_share=start_share,
        wobble=log_uniform(0.01, 0.22, rng),
        wobble_hz=log_uniform(0.2, 4.0, rng),
        sag=rng.uniform(-0.12, 0.2) if rng.random() < 0.6 else 0.0,
        spool_up_s=log_uniform(0.06, 0.6, rng),
        spool_down_s=log_uniform(0.12, 1.2, rng),
        strength_jitter=rng.uniform(0.02, 0.25),
        timing_jitter=log_uniform(0.001, 0.02, rng),
        four_stroking=rng.uniform(0.0, 0.9),
        pulse_hz=log_uniform(250.0, 2_200.0, rng),
        tilt_db=rng.uniform(5.0, 18.0),
        resonances_hz=tuple(
            scale * centre_hz * log_uniform(0.7, 1.4, rng) for centre_hz in (380.0, 900.0, 1_900.0, 3_100.0)
        ),
        resonance_gains=tuple(log_uniform(0.15, 2.0, rng) for _ in range(4)),
        resonance_q=log_uniform(1.2, 9.0, rng),
        exhaust_noise=log_uniform(0.08, 1.3, rng),
        chain_noise=log_uniform(0.04, 1.1, rng),
        chain_hz=rng.uniform(2_300.0, 6_500.0),
        distance_m=log_uniform(2.0, 90.0, rng),
        reverb=rng.uniform(0.0, 0.7),
        reverb_s=rng.uniform(0.15, 1.5),
    )


def _work(rng: Generator) -> tuple[float, float, float]:
    """Return the shares of cutting, idling and starting; what remains are revs."""
    kind = rng.random()
    if kind < 0.45:
        cut_share = rng.uniform(0.5, 0.95)
        return cut_share, rng.uniform(0.0, 0.5) * (1.0 - cut_share), 0.0
    if kind < 0.8:
        # limbing: the throttle is blipped from branch to branch
        return rng.uniform(0.0, 0.3), rng.uniform(0.0, 0.25), 0.0
    if kind < 0.92:
        return rng.uniform(0.0, 0.3), rng.uniform(0.2, 0.5), 0.0
    return rng.uniform(0.0, 0.3), rng.uniform(0.0, 0.3), rng.uniform(0.1, 0.4)


def random_engine(rng: Generator) -> EngineSetting:
    """Return a truck, car, motorbike, tractor or generator."""
    kinds = (_truck, _car, _motorbike, _tractor, _generator)
    return kinds[int(rng.random() * len(kinds))](rng)


def _truck(rng: Generator) -> EngineSetting:
    """Return a heavy diesel of six cylinders, mostly."""
    rpm = rng.uniform(500.0, 900.0)
    passing = rng.random() < 0.4
    if passing:
        rpm = rng.uniform(1_000.0, 1_700.0)
    return EngineSetting(
        cylinders=6 if rng.random() < 0.7 else 4,
        rpm=rpm,
        rev_rpm=max(rpm, rng.uniform(1_200.0, 2_400.0)),
        rev_share=rng.uniform(0.0, 0.7),
        wobble=rng.uniform(0.003, 0.03),
        wobble_hz=rng.uniform(0.3, 2.0),
        spool_s=rng.uniform(0.4, 1.5),
        strength_jitter=rng.uniform(0.03, 0.15),
        imbalance=rng.uniform(0.03, 0.18),
        pulse_hz=log_uniform(100.0, 300.0, rng),
        tilt_db=rng.uniform(9.0, 16.0),
        resonances_hz=(rng.uniform(60.0, 120.0), rng.uniform(150.0, 350.0), rng.uniform(400.0, 900.0)),
        resonance_gains=gains(3, rng),
        resonance_q=rng.uniform(1.5, 5.0),
        exhaust_noise=log_uniform(0.2, 0.9, rng),
        knock=log_uniform(0.08, 0.4, rng),
        knock_hz=log_uniform(900.0, 2_800.0, rng),
        fan_noise=log_uniform(0.08, 0.5, rng),
        whine=log_uniform(0.005, 0.08, rng),
        whine_ratio=rng.uniform(8.0, 40.0),
        speed_m_s=rng.uniform(4.0, 20.0) if passing else 0.0,
        distance_m=log_uniform(4.0, 60.0, rng),
        reverb=rng.uniform(0.0, 0.5),
        reverb_s=rng.uniform(0.15, 1.0),
    )


def _car(rng: Generator) -> EngineSetting:
    """Return a car or pick-up, petrol or diesel."""
    is_diesel = rng.random() < 0.35
    passing = rng.random() < 0.4
    rpm = rng.uniform(1_500.0, 3_000.0) if passing else rng.uniform(650.0, 1_100.0)
    return EngineSetting(
        cylinders=(3, 4, 4, 4, 6, 8)[int(rng.random() * 6)],
        rpm=rpm,
        rev_rpm=max(rpm, rng.uniform(1_800.0, 5_000.0)),
        rev_share=rng.uniform(0.0, 0.6),
        wobble=rng.uniform(0.004, 0.03),
        wobble_hz=rng.uniform(0.3, 2.0),
        spool_s=rng.uniform(0.2, 0.8),
        strength_jitter=rng.uniform(0.02, 0.12),
        imbalance=rng.uniform(0.02, 0.15),
        misfire=rng.uniform(0.0, 0.01),
        pulse_hz=log_uniform(80.0, 350.0, rng),
        tilt_db=rng.uniform(9.0, 17.0),
        resonances_hz=(rng.uniform(70.0, 150.0), rng.uniform(180.0, 450.0), rng.uniform(500.0, 1_200.0)),
        resonance_gains=gains(3, rng),
        resonance_q=rng.uniform(1.5, 5.0),
        exhaust_noise=log_uniform(0.2, 0.9, rng),
        knock=log_uniform(0.08, 0.35, rng) if is_diesel else log_uniform(0.03, 0.2, rng),
        knock_hz=log_uniform(1_200.0, 3_200.0, rng),
        fan_noise=log_uniform(0.15, 0.7, rng) if passing else log_uniform(0.08, 0.5, rng),
        whine=log_uniform(0.005, 0.06, rng),
        whine_ratio=rng.uniform(6.0, 30.0),
        speed_m_s=rng.uniform(6.0, 28.0) if passing else 0.0,
        distance_m=log_uniform(3.0, 60.0, rng),
        reverb=rng.uniform(0.0, 0.4),
        reverb_s=rng.uniform(0.15, 0.8),
    )


def _motorbike(rng: Generator) -> EngineSetting:
    """Return a motorbike or moped: one or two cylinders, two strokes or four."""
    strokes = 2 if rng.random() < 0.3 else 4
    cylinders = 1 if rng.random() < 0.6 else 2
    passing = rng.random() < 0.5
    rpm = rng.uniform(3_000.0, 5_500.0) if passing else rng.uniform(1_000.0, 1_800.0)
    return EngineSetting(
        strokes=strokes,
        cylinders=cylinders,
        rpm=rpm,
        rev_rpm=max(rpm, rng.uniform(3_000.0, 7_500.0)),
        rev_share=rng.uniform(0.1, 0.8),
        wobble=rng.uniform(0.005, 0.05),
        wobble_hz=rng.uniform(0.3, 2.5),
        spool_s=rng.uniform(0.12, 0.5),
        strength_jitter=rng.uniform(0.04, 0.2),
        timing_jitter=rng.uniform(0.003, 0.02),
        imbalance=rng.uniform(0.03, 0.3),
        unevenness=rng.uniform(0.0, 0.3) if cylinders == 2 else 0.0,
        misfire=rng.uniform(0.0, 0.05),
        pulse_hz=log_uniform(150.0, 600.0, rng),
        tilt_db=rng.uniform(6.0, 12.0),
        resonances_hz=(rng.uniform(100.0, 220.0), rng.uniform(300.0, 700.0), rng.uniform(900.0, 2_000.0)),
        resonance_gains=gains(3, rng),
        resonance_q=rng.uniform(1.5, 5.0),
        exhaust_noise=log_uniform(0.2, 0.8, rng),
        knock=log_uniform(0.05, 0.35, rng),
        knock_hz=log_uniform(1_500.0, 4_000.0, rng),
        fan_noise=log_uniform(0.03, 0.3, rng),
        speed_m_s=rng.uniform(5.0, 25.0) if passing else 0.0,
        distance_m=log_uniform(3.0, 60.0, rng),
        reverb=rng.uniform(0.0, 0.4),
        reverb_s=rng.uniform(0.15, 1.0),
    )


def _tractor(rng: Generator) -> EngineSetting:
    """Return a tractor or skidder: a slow, loud diesel of few cylinders under changing load."""
    rpm = rng.uniform(700.0, 1_600.0)
    return EngineSetting(
        cylinders=(2, 3, 3, 4, 4, 6)[int(rng.random() * 6)],
        rpm=rpm,
        rev_rpm=max(rpm, rng.uniform(1_300.0, 2_400.0)),
        rev_share=rng.uniform(0.1, 0.7),
        wobble=rng.uniform(0.005, 0.04),
        wobble_hz=rng.uniform(0.2, 1.5),
        spool_s=rng.uniform(0.4, 1.5),
        strength_jitter=rng.uniform(0.03, 0.18),
        imbalance=rng.uniform(0.03, 0.2),
        misfire=rng.uniform(0.0, 0.02),
        pulse_hz=log_uniform(120.0, 450.0, rng),
        tilt_db=rng.uniform(8.0, 15.0),
        resonances_hz=(rng.uniform(70.0, 140.0), rng.uniform(180.0, 420.0), rng.uniform(500.0, 1_100.0)),
        resonance_gains=gains(3, rng),
        resonance_q=rng.uniform(1.5, 5.0),
        exhaust_noise=log_uniform(0.2, 0.9, rng),
        knock=log_uniform(0.1, 0.6, rng),
        knock_hz=log_uniform(900.0, 2_800.0, rng),
        fan_noise=log_uniform(0.08, 0.5, rng),
        whine=log_uniform(0.005, 0.1, rng),
        whine_ratio=rng.uniform(8.0, 40.0),
        speed_m_s=rng.uniform(1.5, 6.0) if rng.random() < 0.3 else 0.0,
        distance_m=log_uniform(4.0, 60.0, rng),
        reverb=rng.uniform(0.0, 0.5),
        reverb_s=rng.uniform(0.15, 1.2),
    )


def _generator(rng: Generator) -> EngineSetting:
    """Return a generator or pump: governed to a fixed speed (1,500 and 3,000, or 1,800 and 3,600 turns a minute)."""
    rpm = (1_500.0, 3_000.0, 3_000.0, 1_800.0, 3_600.0)[int(rng.random() * 5)] * rng.uniform(0.98, 1.03)
    is_diesel = rng.random() < 0.4
    return EngineSetting(
        cylinders=1 if rng.random() < 0.6 else (2, 3, 4)[int(rng.random() * 3)],
        rpm=rpm,
        rev_rpm=rpm,
        rev_share=0.5,
        wobble=rng.uniform(0.001, 0.01),
        wobble_hz=rng.uniform(0.3, 2.5),
        strength_jitter=rng.uniform(0.02, 0.15),
        imbalance=rng.uniform(0.03, 0.25),
        pulse_hz=log_uniform(150.0, 700.0, rng),
        tilt_db=rng.uniform(8.0, 15.0),
        resonances_hz=(rng.uniform(90.0, 200.0), rng.uniform(250.0, 600.0), rng.uniform(700.0, 1_800.0)),
        resonance_gains=gains(3, rng),
        resonance_q=rng.uniform(1.5, 5.0),
        exhaust_noise=log_uniform(0.2, 0.9, rng),
        knock=log_uniform(0.1, 0.5, rng) if is_diesel else log_uniform(0.02, 0.15, rng),
        knock_hz=log_uniform(1_000.0, 3_000.0, rng),
        fan_noise=log_uniform(0.08, 0.5, rng),
        whine=log_uniform(0.005, 0.08, rng),
        whine_ratio=rng.uniform(4.0, 30.0),
        distance_m=log_uniform(4.0, 60.0, rng),
        reverb=rng.uniform(0.0, 0.5),
        reverb_s=rng.uniform(0.15, 1.0),
    )


# --- the forest --------------------------------------------------------------------------------------------------


def wind(duration_s: float, rng: Generator) -> Float32:
    """Return wind in gusts: low roar with rustling leaves over it; float32, at the middle of FOREST_DBFS."""
    return at_level(_wind(n_samples_of(duration_s), rng), _FOREST_MIDDLE)


def insects(duration_s: float, rng: Generator) -> Float32:
    """Return a chorus of cicadas and one or two crickets near by; float32, at the middle of FOREST_DBFS."""
    return at_level(_insects(n_samples_of(duration_s), rng), _FOREST_MIDDLE)


def birds(duration_s: float, rng: Generator) -> Float32:
    """Return a few birds that sing phrases of whistled syllables; float32, at the middle of FOREST_DBFS."""
    return at_level(_birds(n_samples_of(duration_s), rng), _FOREST_MIDDLE)


def rain(duration_s: float, rng: Generator) -> Float32:
    """Return rain on leaves: a broad hiss and single drops; float32, at the middle of FOREST_DBFS."""
    return at_level(_rain(n_samples_of(duration_s), rng), _FOREST_MIDDLE)


def _wind(n_samples: int, rng: Generator) -> Float32:
    """Return wind of RMS 1."""
    length = fft_length(n_samples)
    gusts = wander(control_points(n_samples), rng.uniform(0.1, 0.5), CONTROL_HZ, rng)
    force = to_samples(np.exp(rng.uniform(0.2, 0.6) * gusts), n_samples)
    roar_shape = slope(log_uniform(80.0, 400.0, rng), 7.0) * high_pass(50.0)
    roar = shaped(spectrum_of(white_noise(n_samples, rng), length), roar_shape, length)
    leaves_shape = band(log_uniform(1_500.0, 4_500.0, rng), rng.uniform(0.7, 1.3))
    leaves = shaped(spectrum_of(white_noise(n_samples, rng), length), leaves_shape, length)
    leaves = scaled_to(leaves, log_uniform(0.03, 0.6, rng), power_of(roar))
    rustling = samples_of(leaves, length, n_samples) * np.square(force)
    return at_unit(samples_of(roar, length, n_samples) * force + rustling)


def _rain(n_samples: int, rng: Generator) -> Float32:
    """Return rain of RMS 1."""
    length = fft_length(n_samples)
    n_drops = max(1, int(log_uniform(30.0, 1_500.0, rng) * n_samples / SAMPLE_RATE))
    positions = np.sort(rng.random(n_drops)) * (n_samples - 1)
    strengths = rng.exponential(1.0, n_drops) ** 1.5 * np.where(rng.random(n_drops) < 0.5, -1.0, 1.0)
    centres_hz = (log_uniform(700.0, 1_500.0, rng), log_uniform(1_800.0, 4_000.0, rng))
    leaf = ringing(centres_hz, 1.5, (1.0, 1.0), 0.3) * slope(5_000.0, 6.0) * high_pass(400.0)
    patter = shaped(pulse_row(positions, strengths, length), leaf, length)
    swell = np.exp(0.15 * wander(control_points(n_samples), 0.3, CONTROL_HZ, rng))
    steady = to_samples(swell, n_samples) * white_noise(n_samples, rng)
    hiss_shape = band(log_uniform(1_200.0, 4_000.0, rng), rng.uniform(1.0, 1.8)) * high_pass(120.0)
    hiss = shaped(spectrum_of(steady, length), hiss_shape, length)
    spectrum = patter + scaled_to(hiss, log_uniform(0.5, 3.0, rng), power_of(patter))
    return at_unit(samples_of(spectrum, length, n_samples))


def _insects(n_samples: int, rng: Generator) -> Float32:
    """Return cicadas and crickets of RMS 1."""
    total = _cicadas(n_samples, rng)
    for _ in range(1 + int(rng.random() * 2)):
        total += np.float32(log_uniform(0.2, 1.5, rng)) * _cricket(n_samples, rng)
    return at_unit(total)


def _cicadas(n_samples: int, rng: Generator) -> Float32:
    """Return a chorus: narrow bands of noise that swell slowly and buzz; RMS about 1."""
    length = fft_length(n_samples)
    shape = np.zeros(len(GRID_HZ))
    for _ in range(1 + int(rng.random() * 3)):
        centre_hz = log_uniform(2_000.0, 7_200.0, rng)
        width_hz = log_uniform(60.0, 500.0, rng)
        shape += rng.uniform(0.3, 1.0) * np.exp(-0.5 * np.square((GRID_HZ - centre_hz) / width_hz))
    chorus = samples_of(shaped(spectrum_of(white_noise(n_samples, rng), length), shape, length), length, n_samples)
    swell = np.exp(0.4 * wander(control_points(n_samples), rng.uniform(0.05, 0.4), CONTROL_HZ, rng))
    # clicks of the drums, 40 to 250 a second: the rhythm of a motor, in the pitch of a cicada
    clicks = _turning(log_uniform(40.0, 250.0, rng), n_samples)
    buzz = np.float32(1.0) + np.float32(rng.uniform(0.0, 0.6)) * np.cos(clicks)
    chorus = at_unit(chorus)
    chorus *= buzz
    chorus *= to_samples(swell, n_samples)
    return chorus


def _turning(rate_hz: float, n_samples: int, start: float = 0.0) -> Float32:
    """Return the angle of something that turns so many times a second, in radians within one turn."""
    phase = np.arange(n_samples, dtype=np.float64) * (rate_hz / SAMPLE_RATE) + start
    return fraction_of(phase) * np.float32(2.0 * np.pi)


def _cricket(n_samples: int, rng: Generator) -> Float32:
    """Return one cricket: a pure tone in pulses, the pulses in chirps or in an endless trill; peak about 1."""
    pulse = np.square(np.sin(0.5 * _turning(log_uniform(14.0, 70.0, rng), n_samples)))
    if rng.random() < 0.7:
        chirp = _turning(log_uniform(0.6, 4.0, rng), n_samples, start=rng.random())
        pulse *= chirp < 2.0 * np.pi * rng.uniform(0.2, 0.7)
    tone_hz = log_uniform(2_200.0, 7_200.0, rng)
    drift = 1.0 + 0.004 * wander(control_points(n_samples), 1.0, CONTROL_HZ, rng)
    phase = np.cumsum(to_samples(tone_hz * drift, n_samples), dtype=np.float64) / SAMPLE_RATE
    tone: Float32 = np.sin(fraction_of(phase) * np.float32(2.0 * np.pi))
    tone *= pulse
    return tone


def _birds(n_samples: int, rng: Generator) -> Float32:
    """Return birds of RMS 1."""
    total = np.zeros(n_samples, np.float32)
    for _ in range(1 + int(rng.random() * 3)):
        _sing(total, rng)
    if not total.any():  # nobody happened to sing in so short a time
        _place(total, _syllable(rng), 0, 1.0)
    length = fft_length(n_samples)
    spectrum = with_echo(spectrum_of(total, length), length, rng.uniform(0.1, 0.6), rng.uniform(0.3, 1.5), rng)
    return at_unit(samples_of(spectrum, length, n_samples))


def _sing(total: Float32, rng: Generator) -> None:
    """Add one bird's phrases to the samples: its syllables return, as a bird's do."""
    repertoire = [_syllable(rng) for _ in range(1 + int(rng.random() * 3))]
    gap_s = rng.uniform(0.03, 0.25)
    strength = log_uniform(0.1, 1.0, rng)
    at = int(rng.uniform(0.0, 3.0) * SAMPLE_RATE)
    while at < len(total):
        for index in range(1 + int(rng.random() * 8)):
            syllable = repertoire[index % len(repertoire)]
            _place(total, syllable, at, strength * rng.uniform(0.7, 1.0))
            at += len(syllable) + int(gap_s * SAMPLE_RATE)
        at += int(rng.uniform(0.5, 5.0) * SAMPLE_RATE)


def _place(total: Float32, sound: Float32, at: int, gain: float) -> None:
    """Add a sound at a place, as far as it fits."""
    room = total[at : at + len(sound)]
    room += np.float32(gain) * sound[: len(room)]


def _syllable(rng: Generator) -> Float32:
    """Return one syllable: a whistle that glides, bends and sometimes trembles; peak about 1."""
    n_samples = int(log_uniform(0.04, 0.45, rng) * SAMPLE_RATE)
    place = np.linspace(0.0, 1.0, n_samples)
    middle_hz = log_uniform(900.0, 5_000.0, rng)
    octaves = rng.uniform(-0.5, 0.5) * (place - 0.5) + rng.uniform(-0.35, 0.35) * np.sin(np.pi * place)
    if rng.random() < 0.3:
        octaves += rng.uniform(0.02, 0.1) * np.sin(
            2.0 * np.pi * rng.uniform(15.0, 60.0) * place * n_samples / SAMPLE_RATE
        )
    phase = np.cumsum(middle_hz * 2.0**octaves) * (2.0 * np.pi / SAMPLE_RATE)
    envelope = np.sin(np.pi * place) ** rng.uniform(0.4, 2.0)
    overtone = rng.uniform(0.0, 0.3) if middle_hz < 2_500.0 else 0.0
    syllable: Float32 = (envelope * (np.sin(phase) + overtone * np.sin(2.0 * phase))).astype(np.float32)
    return syllable


def forest(duration_s: float, rng: Generator) -> Float32:
    """Return a forest without people: a random mix of wind, insects, birds and rain.

    Args:
        duration_s: length in seconds.
        rng: where all chance comes from.

    Returns:
        Shape (round(16,000 × duration_s),), float32, at a level within FOREST_DBFS.
    """
    n_samples = n_samples_of(duration_s)
    total = np.float32(log_uniform(0.2, 1.5, rng)) * _wind(n_samples, rng)
    for voice, chance in ((_insects, 0.75), (_birds, 0.7), (_rain, 0.25)):
        if rng.random() < chance:
            total += np.float32(log_uniform(0.2, 1.5, rng)) * voice(n_samples, rng)
    return at_level(total, rng.uniform(*FOREST_DBFS))


# --- the bundled recording and the drill -------------------------------------------------------------------------


def _faded(samples: Float32, seconds: float) -> Float32:
    """Return samples that begin and end without a click."""
    n_fade = min(int(seconds * SAMPLE_RATE), len(samples) // 2)
    ramp = np.square(np.sin(np.linspace(0.0, np.pi / 2, n_fade, dtype=np.float32)))
    faded = samples.copy()
    faded[:n_fade] *= ramp
    faded[len(faded) - n_fade :] *= ramp[::-1]
    return faded


def demo_scene() -> tuple[Float32, list[Event]]:
    """Return the bundled recording and what is known to be in it.

    Returns:
        Forest for 12 s, a saw for 15 s at 12 dB over the forest under it (both RMS above 60 Hz), forest to the end at
        45 s; shape (720,000,), float32. Always the same.
    """
    rng = np.random.Generator(np.random.PCG64(_DEMO_SEED))
    total = _demo_forest(rng)
    start, stop = round(DEMO_ONSET_S * SAMPLE_RATE), round(DEMO_OFFSET_S * SAMPLE_RATE)
    saw = _faded(chainsaw(DEMO_OFFSET_S - DEMO_ONSET_S, rng, SawSetting(idle_share=0.0)), 0.15)
    gain_db = rms_dbfs(total[start:stop]) + DEMO_SNR_DB - rms_dbfs(saw)
    total[start:stop] += saw * np.float32(10.0 ** (gain_db / 20.0))
    return total, [Event(label="chainsaw", onset_s=DEMO_ONSET_S, offset_s=DEMO_OFFSET_S)]


def _demo_forest(rng: Generator) -> Float32:
    """Return the demo's forest: every voice but heavy rain, at -34 dBFS."""
    mix = wind(DEMO_SECONDS, rng)
    for voice, share in ((insects, 0.6), (birds, 0.8), (rain, 0.15)):
        mix += np.float32(share) * voice(DEMO_SECONDS, rng)
    return at_level(mix, _DEMO_FOREST_DBFS)


def drill_saw() -> Float32:
    """Return 12 s of a saw that nobody could mistake, for playing to a device; always the same."""
    rng = np.random.Generator(np.random.PCG64(_DRILL_SEED))
    saw = SawSetting(cut_share=0.6, idle_share=0.0, reverb=0.1)
    return _faded(chainsaw(DRILL_SECONDS, rng, saw), 0.1)


def write_demo(path: Path) -> None:
    """Write the bundled recording as a WAV file."""
    from agent.wav import write_wav

    samples, _ = demo_scene()
    write_wav(path, samples, SAMPLE_RATE)
