"""What sounds are made of here: noise, rows of pulses, filters, curves that wander.

All chance comes from the caller's generator. Filters are products of spectra, drawn on one coarse grid: three seconds
take a few milliseconds.
"""

import functools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.errors import FieldError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Complex = NDArray[np.complex64]
Response = NDArray[np.complex128]
Generator = np.random.Generator

SAMPLE_RATE: Final = 16_000
"""Samples per second of everything made here."""

CONTROL_HZ: Final = 100.0
"""Speed curves are drawn at this rate and interpolated."""

GRID_HZ: Final = np.linspace(0.0, SAMPLE_RATE / 2, 1025)
"""Filters are drawn here: finer than any resonance used."""

SOUND_M_S: Final = 340.0
"""How fast sound is in air."""

_PEAK = 0.95


def n_samples_of(duration_s: float) -> int:
    """Return the number of samples that a duration has, rounded to the nearest; FieldError if that is none."""
    n_samples = round(duration_s * SAMPLE_RATE) if math.isfinite(duration_s) else 0
    if n_samples < 1:
        raise FieldError("duration_s", f"is {duration_s:g}, expected at least one sample of {SAMPLE_RATE} a second")
    return n_samples


def flown_by(n_samples: int, speed_m_s: float, nearest_m: float, nearest_s: float) -> tuple[Float64, Float64]:
    """Return the Doppler factor of who passes in a straight line, and the distance in metres, at every control point.

    Args:
        n_samples: of the sound.
        speed_m_s: how fast it passes.
        nearest_m: distance where it is nearest.
        nearest_s: when that is; it may be before the sound begins or behind its end.
    """
    along_m = speed_m_s * (np.arange(control_points(n_samples)) / CONTROL_HZ - nearest_s)
    away_m = np.hypot(along_m, nearest_m)
    return SOUND_M_S / (SOUND_M_S + speed_m_s * along_m / away_m), away_m


@functools.cache
def fft_length(n_samples: int) -> int:
    """Return the next length whose only factors are 2, 3 and 5: transforms of others are many times slower."""
    best = 1 << (n_samples - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            quotient = -(-n_samples // three)
            best = min(best, three << (quotient - 1).bit_length())
            three *= 3
        five *= 5
    return max(best, 2)


@functools.lru_cache(maxsize=8)
def bins_hz(length: int) -> Float64:
    """Return the frequency of each bin of a real transform of this length."""
    return np.arange(length // 2 + 1, dtype=np.float64) * (SAMPLE_RATE / length)


def white_noise(n_samples: int, rng: Generator) -> Float32:
    """Return white noise of RMS 1, shape (n_samples,)."""
    return rng.standard_normal(n_samples, dtype=np.float32)


def spectrum_of(samples: Float32 | Float64, length: int) -> Complex:
    """Return the transform of samples padded to `length`, shape (length // 2 + 1,)."""
    return np.fft.rfft(samples.astype(np.float32, copy=False), length).astype(np.complex64, copy=False)


def shaped(spectrum: Complex, shape: Float64 | Response, length: int) -> Complex:
    """Return a spectrum times a filter that was drawn on the coarse grid."""
    fine = np.interp(bins_hz(length), GRID_HZ, shape)
    return np.multiply(spectrum, fine, dtype=np.complex64, casting="same_kind")


def samples_of(spectrum: Complex, length: int, n_samples: int) -> Float32:
    """Return the first samples of a spectrum's inverse."""
    return np.fft.irfft(spectrum, length)[:n_samples].astype(np.float32, copy=False)


def power_of(spectrum: Complex) -> float:
    """Return a spectrum's mean power, up to a factor that is the same for all of one length."""
    return float(np.vdot(spectrum, spectrum).real) / len(spectrum)


def scaled_to(spectrum: Complex, share: float, reference_power: float) -> Complex:
    """Return a spectrum whose RMS is `share` of a reference's."""
    power = power_of(spectrum)
    return spectrum * np.float32(share * math.sqrt(reference_power / power) if power > 0.0 else 0.0)


def high_pass(corner_hz: float) -> Float64:
    """Return a gentle high-pass on the grid: 12 dB per octave, nothing at 0 Hz."""
    squared = np.square(GRID_HZ / corner_hz)
    return squared / (1.0 + squared)


def band(centre_hz: float, octaves: float) -> Float64:
    """Return a bell on the grid, Gaussian over octaves, peak 1."""
    distance = np.log2(np.maximum(GRID_HZ, 1.0) / centre_hz) / octaves
    return np.exp(-0.5 * np.square(distance))


def slope(corner_hz: float, db_per_octave: float) -> Float64:
    """Return 1 below the corner and a fall of so many dB per octave above, on the grid."""
    return (1.0 + np.square(GRID_HZ / corner_hz)) ** (-db_per_octave / 12.041)


def ringing(resonances_hz: Sequence[float], q: float, gains: Sequence[float], direct: float) -> Response:
    """Return resonators beside a direct path, on the grid; causal, so that a pulse rings after it, not before."""
    response = np.full(len(GRID_HZ), direct, np.complex128)
    for centre_hz, gain in zip(resonances_hz, gains, strict=True):
        ratio = GRID_HZ / centre_hz
        damping = 1j * ratio / q
        response += gain * damping / (1.0 - np.square(ratio) + damping)
    return response


def way(distance_m: float) -> Float64:
    """Return what air and leaves leave over a distance, on the grid: about 6 dB per 100 m at 2 kHz."""
    loss_db = 0.06 * distance_m * (GRID_HZ / 2_000.0) ** 1.2
    return 10.0 ** (-np.minimum(loss_db, 100.0) / 20.0)


def with_echo(spectrum: Complex, length: int, reverb: float, reverb_s: float, rng: Generator) -> Complex:
    """Return a spectrum with a diffuse tail added, duller than the direct sound."""
    n_tail = min(length, max(2, int(reverb_s * SAMPLE_RATE)))
    tail = white_noise(n_tail, rng) * np.exp(np.linspace(0.0, -6.9, n_tail, dtype=np.float32))
    tail *= np.float32(reverb / math.sqrt(float(np.square(tail).sum())))
    dull_tail = shaped(spectrum_of(tail, length), slope(1_800.0, 6.0), length)
    dull_tail *= spectrum
    dull_tail += spectrum
    return dull_tail


def interpolated(places: Float64, knots: Float64) -> Float64:
    """Return a curve with a knot at every whole number, at these places."""
    return np.asarray(np.interp(places, np.arange(len(knots)), knots), np.float64)


def wander(n_points: int, swings_hz: float, points_hz: float, rng: Generator) -> Float64:
    """Return a slow random curve of about unit size with so many swings a second, shape (n_points,)."""
    knots_per_point = 2.0 * swings_hz / points_hz
    knots = rng.standard_normal(int(n_points * knots_per_point) + 3)
    return interpolated(np.arange(n_points, dtype=np.float64) * knots_per_point + rng.random(), knots)


def to_samples(control: Float64, n_samples: int) -> Float32:
    """Return a curve drawn at the control rate, at every sample."""
    step = int(SAMPLE_RATE / CONTROL_HZ)
    ramp = np.linspace(0.0, 1.0, step, endpoint=False, dtype=np.float32)
    knots = control.astype(np.float32)
    steps = knots[1:] - knots[:-1]
    rows = knots[:-1, None] + steps[:, None] * ramp  # (n_points - 1, step)
    return rows.astype(np.float32, copy=False).ravel()[:n_samples]


def control_points(n_samples: int) -> int:
    """Return how many control points cover so many samples."""
    return int(n_samples * CONTROL_HZ / SAMPLE_RATE) + 2


def rms_dbfs(samples: Float32 | Float64) -> float:
    """Return the RMS level above 60 Hz in dBFS: what lies below is wind in the microphone, not sound.

    Args:
        samples: shape (n_samples,), float in [-1, 1], at 16 kHz.

    Returns:
        dB relative to full scale; -120 for silence.
    """
    spectrum = np.fft.rfft(samples)
    spectrum[: math.ceil(60.0 * len(samples) / SAMPLE_RATE)] = 0.0
    power = 2.0 * float(np.vdot(spectrum, spectrum).real) / len(samples) ** 2
    return 10.0 * math.log10(max(power, 1e-12))


def at_unit(samples: Float32) -> Float32:
    """Return samples scaled to RMS 1; silence stays silence."""
    rms = math.sqrt(float(np.square(samples).mean()))
    return samples * np.float32(1.0 / max(rms, 1e-12))


def at_level(samples: Float32, dbfs: float) -> Float32:
    """Return samples without DC at a level, or lower where the peaks would clip."""
    centred: Float32 = samples - samples.mean()
    gain = 10.0 ** ((dbfs - rms_dbfs(centred)) / 20.0)
    peak = float(np.abs(centred).max())
    if peak > 0.0:
        gain = min(gain, _PEAK / peak)
    centred *= np.float32(gain)
    return centred


def follow(targets: Float64, up_s: float, down_s: float) -> Float64:
    """Return how a motor follows its throttle: first order, with two time constants; at the control rate."""
    up = 1.0 - math.exp(-1.0 / (up_s * CONTROL_HZ))
    down = 1.0 - math.exp(-1.0 / (down_s * CONTROL_HZ))
    followed: list[float] = []
    value = float(targets[0])
    for target in targets.tolist():
        value += (target - value) * (up if target > value else down)
        followed.append(value)
    return np.array(followed)


def fraction_of(phase: Float64) -> Float32:
    """Return how much of the present period has passed, 0 to 1."""
    return (phase - np.floor(phase)).astype(np.float32)


def begun(phase: Float64, rng: Generator) -> Float64:
    """Return a phase begun anywhere in its period, in one too short to hold a firing with that firing.

    Everything else that a motor says is measured by its firings' loudness: without one it would be silent.
    """
    begin = rng.random()
    return phase + begin if math.floor(phase[-1] + begin) >= math.ceil(phase[0] + begin) else phase - phase[0]


def firings_of(phase: Float64) -> tuple[Float64, Float64]:
    """Return when a phase passes whole numbers, in samples, and how long a period is there, in samples."""
    whole = np.arange(math.ceil(phase[0]), math.floor(phase[-1]) + 1, dtype=np.float64)
    positions = np.interp(whole, phase, np.arange(len(phase)))
    if len(positions) < 2:
        return positions, np.full(len(positions), float(len(phase)))
    return positions, np.gradient(positions)


def pulse_row(positions: Float64, strengths: Float64, length: int) -> Complex:
    """Return the spectrum of impulses between the samples.

    Each impulse is spread over four samples as a cubic B-spline and the spline's own spectrum taken away again:
    impulses on whole samples would jitter by 6 % of a period at 10,000 turns a minute's tenth harmonic.
    """
    whole = np.floor(positions)
    t = positions - whole
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) * (
        strengths / 6.0
    )  # (4, n_pulses)
    places = (whole.astype(np.int64) + np.arange(-1, 3)[:, None]) % length
    row: Float64 = np.bincount(places.ravel(), weights.ravel(), minlength=length).astype(np.float64)
    return spectrum_of(row, length) / _spline_response(length)


@functools.lru_cache(maxsize=8)
def _spline_response(length: int) -> Float32:
    """Return the spectrum of the cubic B-spline."""
    response: Float32 = (np.sinc(bins_hz(length) / SAMPLE_RATE) ** 4).astype(np.float32)
    return response


def log_uniform(low: float, high: float, rng: Generator) -> float:
    """Return a number whose logarithm is even between two bounds."""
    return low * math.exp(math.log(high / low) * rng.random())


def gains(count: int, rng: Generator) -> tuple[float, ...]:
    """Return how strongly each of so many resonances sounds."""
    return tuple(rng.uniform(0.5, 1.5) for _ in range(count))
