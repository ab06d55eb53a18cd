"""What is taken for a saw or an engine, out of nothing but NumPy: training material.

Each differs from a motor in what a ranger would name, and in nothing else on purpose: level, distance, forest and
microphone are the mixture's.
"""

import numpy as np

from agent.acoustics import (
    CONTROL_HZ,
    SAMPLE_RATE,
    Complex,
    Float32,
    Float64,
    Generator,
    at_level,
    band,
    begun,
    bins_hz,
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
from agent.synth import MOTOR_DBFS


def yowl(duration_s: float, rng: Generator) -> Float32:
    """Return an animal or a person that calls again and again; float32, at MOTOR_DBFS.

    A throat is a row of pulses like a motor's exhaust, with a mouth instead of a muffler: cows, pigs, sheep, dogs and
    children all are, and many that nobody has heard. What tells them from a saw is how their pitch bends, that they
    take breath, and that nothing hisses at the rate of the pulses.
    """
    n_samples = n_samples_of(duration_s)
    length = fft_length(n_samples)
    pitch_hz, loudness = _calls(n_samples, rng)
    phase = np.cumsum(pitch_hz, dtype=np.float64) / SAMPLE_RATE + rng.random()
    positions, periods = firings_of(phase)
    n_pulses = len(positions)
    strengths = loudness[positions.astype(np.int64)] * (1.0 - rng.uniform(0.0, 0.7) * (np.arange(n_pulses) % 2))
    strengths = strengths * (1.0 + rng.uniform(0.0, 0.25) * rng.standard_normal(n_pulses)).clip(0.05, None)
    positions = positions + log_uniform(0.001, 0.03, rng) * periods * rng.standard_normal(n_pulses)
    size = log_uniform(0.35, 1.8, rng)
    formants_hz = [min(size * centre_hz * log_uniform(0.7, 1.4, rng), 7_000.0) for centre_hz in (550, 1_500, 2_600)]
    mouth = ringing(formants_hz, log_uniform(1.5, 10.0, rng), gains(3, rng), 0.1)
    tilt = slope(log_uniform(120.0, 1_500.0, rng), rng.uniform(5.0, 16.0))
    spectrum = shaped(pulse_row(positions, strengths, length), mouth * tilt * high_pass(45.0), length)
    breath = shaped(
        spectrum_of(white_noise(n_samples, rng) * loudness, length), np.abs(mouth) * high_pass(300.0), length
    )
    power = power_of(spectrum) or 1.0  # a scrap of a call that holds no pulse is breath alone
    spectrum += scaled_to(breath, log_uniform(0.01, 0.7, rng), power)
    spectrum = shaped(spectrum, way(log_uniform(2.0, 120.0, rng)), length)
    spectrum = with_echo(spectrum, length, rng.uniform(0.0, 0.7), rng.uniform(0.15, 1.5), rng)
    return at_level(samples_of(spectrum, length, n_samples), MOTOR_DBFS)


def _calls(n_samples: int, rng: Generator) -> tuple[Float32, Float32]:
    """Return pitch in hertz and loudness of calls that are alike, at every sample; between them is silence."""
    n_points = control_points(n_samples)
    pitch_hz = log_uniform(45.0, 900.0, rng)
    bends = [log_uniform(0.6, 1.5, rng) for _ in range(3)]
    call_s, pause_s = log_uniform(0.12, 2.5, rng), log_uniform(0.05, 1.2, rng)
    top, attack = rng.uniform(0.2, 0.7), rng.uniform(0.03, 0.3)
    swing, swing_hz = rng.uniform(0.0, 0.07), rng.uniform(3.0, 14.0)
    bleat = rng.uniform(0.0, 0.8) if rng.random() < 0.4 else 0.0
    pitches, loudness = np.full(n_points, pitch_hz), np.zeros(n_points)
    at = -int(rng.uniform(0.1, 0.6) * call_s * CONTROL_HZ)  # it has begun before
    while at < n_points:
        count = max(4, int(call_s * log_uniform(0.7, 1.4, rng) * CONTROL_HZ))
        through = np.linspace(0.0, 1.0, count)
        bend = np.interp(through, [0.0, top, 1.0], [one * log_uniform(0.9, 1.1, rng) for one in bends])
        wave = np.sin(2.0 * np.pi * (swing_hz * np.arange(count) / CONTROL_HZ + rng.random()))
        envelope = np.minimum(1.0, through / attack) * np.minimum(1.0, (1.0 - through) / rng.uniform(0.1, 0.6))
        kept = slice(max(at, 0), min(at + count, n_points))
        taken = slice(kept.start - at, kept.stop - at)
        pitches[kept] = (pitch_hz * bend * (1.0 + swing * wave))[taken]
        loudness[kept] = (envelope * (1.0 - bleat * (0.5 + 0.5 * wave)))[taken]
        at += count + max(1, int(pause_s * log_uniform(0.5, 2.0, rng) * CONTROL_HZ))
    if not loudness.any():
        loudness += 1.0  # so short that all of it was a pause: then it is the middle of a call
    return to_samples(pitches, n_samples), to_samples(loudness, n_samples)


def wings(duration_s: float, rng: Generator) -> Float32:
    """Return flies, bees or beetles on the wing; float32, at MOTOR_DBFS.

    A wing beats as often as a saw's piston, and as many harmonics carry far: what tells them apart is that an insect's
    pitch never rests, that it swerves near and away and lands at once, and that there is no gas and no chain.
    """
    n_samples = n_samples_of(duration_s)
    length = fft_length(n_samples)
    beat_hz = log_uniform(85.0, 420.0, rng)
    n_insects = 1 if rng.random() < 0.75 else int(rng.integers(2, 7))
    resonances_hz = [log_uniform(200.0, 3_500.0, rng) for _ in range(3)]
    body = ringing(resonances_hz, log_uniform(0.8, 5.0, rng), gains(3, rng), 0.3)
    tilt = slope(log_uniform(150.0, 1_500.0, rng), rng.uniform(4.0, 13.0)) * high_pass(60.0)
    total = np.zeros(length // 2 + 1, np.complex64)
    for _ in range(n_insects):
        beats = _wing_beats(n_samples, length, beat_hz * log_uniform(0.87, 1.15, rng), rng)
        total += shaped(beats, body * tilt, length)
    air = shaped(spectrum_of(white_noise(n_samples, rng), length), np.abs(body) * high_pass(150.0), length)
    total += scaled_to(air, log_uniform(0.01, 0.35, rng), power_of(total))
    total = with_echo(total, length, rng.uniform(0.0, 0.4), rng.uniform(0.1, 0.8), rng)
    return at_level(samples_of(total, length, n_samples), MOTOR_DBFS)


def _wing_beats(n_samples: int, length: int, beat_hz: float, rng: Generator) -> Complex:
    """Return the spectrum of one insect's strokes, down and up: it wanders, swerves, and at times lands."""
    n_points = control_points(n_samples)
    drift = rng.uniform(0.01, 0.06) * wander(n_points, log_uniform(0.3, 5.0, rng), CONTROL_HZ, rng)
    nearness_db = rng.uniform(1.0, 8.0) * wander(n_points, log_uniform(0.2, 4.0, rng), CONTROL_HZ, rng)
    aloft = _spells(n_points, (0.15, 3.0), (0.05, 1.5), 0.05, rng) if rng.random() < 0.45 else np.ones(n_points)
    # who takes off or lands beats slower
    pitch_hz = beat_hz * np.exp(drift) * (1.0 - rng.uniform(0.0, 0.3) * (1.0 - aloft))
    phase = begun(np.cumsum(to_samples(pitch_hz, n_samples), dtype=np.float64) / SAMPLE_RATE, rng)
    loudness = to_samples(aloft * 10.0 ** (nearness_db / 20.0), n_samples)
    positions, periods = firings_of(phase)
    strengths = loudness[positions.astype(np.int64)] * (1.0 + 0.08 * rng.standard_normal(len(positions)))
    positions = positions + log_uniform(0.001, 0.01, rng) * periods * rng.standard_normal(len(positions))
    row = pulse_row(positions, strengths.astype(np.float64), length)
    # the way up is another stroke, somewhere near half a beat later
    later = np.exp(-2j * np.pi * bins_hz(length) * rng.uniform(0.3, 0.7) / beat_hz).astype(np.complex64)
    both: Complex = (row * (1.0 + np.float32(rng.uniform(-0.9, 0.9)) * later)).astype(np.complex64)
    return both


def _spells(
    n_points: int, spell_s: tuple[float, float], pause_s: tuple[float, float], down_s: float, rng: Generator
) -> Float64:
    """Return whether something is at it, 0 to 1 at every control point; it is at first, for about as long each time."""
    usual_spell_s, usual_pause_s = log_uniform(*spell_s, rng), log_uniform(*pause_s, rng)
    targets = np.zeros(n_points)
    at = 0
    while at < n_points:
        count = max(2, int(usual_spell_s * log_uniform(0.5, 2.0, rng) * CONTROL_HZ))
        targets[at : at + count] = 1.0
        at += count + max(1, int(usual_pause_s * log_uniform(0.5, 2.0, rng) * CONTROL_HZ))
    return follow(targets, 0.03, down_s)


def rotors(duration_s: float, rng: Generator) -> Float32:
    """Return a helicopter, standing in the air or passing; float32, at MOTOR_DBFS.

    Its blades pass as often as a slow engine fires. But there is a blast of air with each, the tail's rotor turns with
    the large one at a fixed ratio, turbine and gears whine, and all of it comes from afar and goes there.
    """
    n_samples = n_samples_of(duration_s)
    length = fft_length(n_samples)
    doppler, nearness = _flight(n_samples, rng, speed_m_s=(8.0, 65.0), distance_m=(60.0, 700.0))
    steadiness = 1.0 + rng.uniform(0.0005, 0.008) * _over(n_samples, log_uniform(0.2, 2.0, rng), rng)
    passes = np.cumsum(log_uniform(9.0, 32.0, rng) * doppler * steadiness, dtype=np.float64) / SAMPLE_RATE
    phase = begun(passes, rng)
    airframe = ringing(
        [log_uniform(60.0, 900.0, rng) for _ in range(3)], log_uniform(0.8, 4.0, rng), gains(3, rng), 0.5
    )
    slap_shape = airframe * slope(log_uniform(50.0, 600.0, rng), rng.uniform(4.0, 14.0)) * high_pass(25.0)
    spectrum = shaped(_beats(phase, nearness, rng, length), slap_shape, length)
    power = power_of(spectrum) or 1.0

    after_pass = np.exp(-log_uniform(1.5, 12.0, rng) * fraction_of(phase)) + log_uniform(0.05, 1.0, rng)
    wash_shape = slope(log_uniform(150.0, 2_000.0, rng), rng.uniform(4.0, 10.0)) * high_pass(60.0)
    wash = spectrum_of(white_noise(n_samples, rng) * after_pass * nearness, length)
    spectrum += scaled_to(shaped(wash, wash_shape, length), log_uniform(0.2, 3.0, rng), power)

    tail = _beats(begun(passes * rng.uniform(3.5, 7.5), rng), nearness, rng, length)
    tail_shape = slope(log_uniform(150.0, 1_500.0, rng), rng.uniform(6.0, 14.0)) * high_pass(60.0)
    spectrum += scaled_to(shaped(tail, tail_shape, length), log_uniform(0.03, 1.0, rng), power)
    for _ in range(int(rng.integers(0, 4))):
        whine = _tone(log_uniform(400.0, 6_500.0, rng) * doppler, nearness, rng)
        spectrum += scaled_to(spectrum_of(whine, length), log_uniform(0.01, 0.3, rng), power)
    return _heard_from(spectrum, length, n_samples, rng, distance_m=(10.0, 350.0))


def aircraft(duration_s: float, rng: Generator) -> Float32:
    """Return an aeroplane overhead, jet or propeller; float32, at MOTOR_DBFS.

    A propeller's note is as low as an engine's and as full of harmonics, but smooth: no firing is unlike the one before
    it, and what swells and sinks is the air between.
    """
    n_samples = n_samples_of(duration_s)
    length = fft_length(n_samples)
    doppler, nearness = _flight(n_samples, rng, speed_m_s=(35.0, 200.0), distance_m=(200.0, 3_000.0))
    swell_db = rng.uniform(0.5, 4.0) * _over(n_samples, log_uniform(0.15, 2.0, rng), rng)
    loudness = (nearness * 10.0 ** (swell_db / 20.0)).astype(np.float32)
    spectrum = _propellers(n_samples, length, doppler, loudness, rng) if rng.random() < 0.6 else None
    roar = white_noise(n_samples, rng) * loudness
    delay = log_uniform(4.0, 120.0, rng) * (1.0 + rng.uniform(-0.8, 2.0) * np.linspace(0.0, 1.0, n_samples))
    # the ground gives it back a little later, and later still or sooner as it flies on: a comb that glides
    roar += rng.uniform(0.0, 0.8) * np.interp(np.arange(n_samples) - delay, np.arange(n_samples), roar)
    roar_shape = slope(log_uniform(100.0, 1_200.0, rng), rng.uniform(4.0, 10.0)) * high_pass(40.0)
    roaring = shaped(spectrum_of(roar, length), roar_shape, length)
    if spectrum is None:
        spectrum = roaring
        for _ in range(int(rng.integers(0, 3))):
            fan = _tone(log_uniform(400.0, 4_000.0, rng) * doppler, loudness, rng)
            spectrum = spectrum + scaled_to(spectrum_of(fan, length), log_uniform(0.02, 0.5, rng), power_of(roaring))
    else:
        spectrum += scaled_to(roaring, log_uniform(0.05, 1.5, rng), power_of(spectrum) or 1.0)
    return _heard_from(spectrum, length, n_samples, rng, distance_m=(30.0, 400.0))


def appliances(duration_s: float, rng: Generator) -> Float32:
    """Return what runs on mains: fans, air conditioners, vacuum cleaners, compressors, washing machines; at MOTOR_DBFS.

    An electric motor turns as the mains do and not by its load: nothing fires, so nothing stumbles.
    """
    n_samples = n_samples_of(duration_s)
    length = fft_length(n_samples)
    mains_hz = 50.0 if rng.random() < 0.5 else 60.0
    steady = np.ones(n_samples, np.float32)
    cabinet = ringing(
        [log_uniform(90.0, 2_500.0, rng) for _ in range(4)], log_uniform(0.8, 8.0, rng), gains(4, rng), 0.4
    )
    seconds = np.arange(1, n_samples + 1) / SAMPLE_RATE
    hum = _beats(begun(2.0 * mains_hz * seconds, rng), steady, rng, length, jitter=1e-4)
    hum_shape = cabinet * slope(log_uniform(80.0, 900.0, rng), rng.uniform(6.0, 18.0)) * high_pass(40.0)
    spectrum = shaped(hum, hum_shape, length)
    power = power_of(spectrum) or 1.0

    air_shape = (np.abs(cabinet) + rng.uniform(0.0, 2.0)) * slope(
        log_uniform(150.0, 4_000.0, rng), rng.uniform(3.0, 9.0)
    )
    air = shaped(spectrum_of(white_noise(n_samples, rng), length), air_shape * high_pass(60.0), length)
    spectrum = spectrum * np.float32(log_uniform(0.1, 1.0, rng)) + scaled_to(air, log_uniform(0.1, 5.0, rng), power)
    kind = rng.random()
    if kind < 0.35:  # a fan's blades
        turning = _turned(log_uniform(40.0, 500.0, rng), n_samples, rng, drift=0.003)
        part, share = _beats(turning, steady, rng, length, jitter=1e-3), log_uniform(0.1, 2.0, rng)
        part = shaped(part, slope(log_uniform(80.0, 600.0, rng), rng.uniform(9.0, 24.0)), length)
    elif kind < 0.6:  # a motor with brushes: a vacuum cleaner, a mixer
        turning = _turned(log_uniform(180.0, 700.0, rng), n_samples, rng, drift=0.02)
        part, share = _beats(turning, steady, rng, length, jitter=3e-3), log_uniform(0.2, 3.0, rng)
        part = shaped(part, cabinet * slope(log_uniform(400.0, 3_000.0, rng), rng.uniform(4.0, 12.0)), length)
    elif kind < 0.85:  # a compressor's piston, a little slower than the mains
        turning = _turned(
            mains_hz / rng.choice([1, 2, 2, 3, 4]) * rng.uniform(0.94, 0.995), n_samples, rng, drift=0.001
        )
        part = _beats(turning, steady, rng, length, jitter=log_uniform(0.0003, 0.01, rng))
        part, share = (
            shaped(part, cabinet * slope(log_uniform(80.0, 900.0, rng), 9.0), length),
            log_uniform(0.3, 4.0, rng),
        )
    else:  # a drum
        turning = _turned(log_uniform(0.5, 20.0, rng), n_samples, rng, drift=0.01)
        slosh = white_noise(n_samples, rng) * (0.3 + np.cos(np.pi * fraction_of(turning)) ** 2)
        part, share = shaped(spectrum_of(slosh, length), np.abs(cabinet), length), log_uniform(0.3, 3.0, rng)
    spectrum = spectrum + scaled_to(part, share, power_of(spectrum))
    return _heard_from(spectrum, length, n_samples, rng, distance_m=(1.0, 60.0))


def hammers(duration_s: float, rng: Generator) -> Float32:
    """Return what strikes as fast as an engine fires: jackhammers, hammer drills, riveters; float32, at MOTOR_DBFS.

    Every blow rings in steel and stone, and whoever holds the thing lets go every few seconds.
    """
    n_samples = n_samples_of(duration_s)
    length = fft_length(n_samples)
    loudness = np.ones(n_samples, np.float32)
    if rng.random() >= 0.4:
        spells = _spells(control_points(n_samples), (0.6, 6.0), (0.15, 1.5), 0.06, rng)
        loudness = to_samples(spells, n_samples)
    turning = _turned(log_uniform(7.0, 55.0, rng), n_samples, rng, drift=log_uniform(0.002, 0.04, rng))
    phase = begun(turning, rng)
    steel = ringing(
        [log_uniform(400.0, 6_500.0, rng) for _ in range(5)], log_uniform(3.0, 40.0, rng), gains(5, rng), 0.3
    )
    blows = _beats(phase, loudness, rng, length, jitter=log_uniform(0.002, 0.03, rng))
    blow_shape = steel * slope(log_uniform(300.0, 4_000.0, rng), rng.uniform(2.0, 9.0)) * high_pass(60.0)
    spectrum = shaped(blows, blow_shape, length)
    power = power_of(spectrum) or 1.0

    dug = white_noise(n_samples, rng) * np.exp(-log_uniform(3.0, 25.0, rng) * fraction_of(phase)) * loudness
    stone = shaped(spectrum_of(dug, length), band(log_uniform(300.0, 5_000.0, rng), rng.uniform(0.6, 2.0)), length)
    spectrum += scaled_to(stone, log_uniform(0.1, 2.5, rng), power)
    if rng.random() < 0.5:  # the electric ones have a motor and gears
        turning = _turned(log_uniform(150.0, 600.0, rng), n_samples, rng, drift=0.02)
        motor = shaped(_beats(turning, loudness, rng, length), slope(log_uniform(500.0, 3_000.0, rng), 9.0), length)
        spectrum += scaled_to(motor, log_uniform(0.05, 1.5, rng), power)
    return _heard_from(spectrum, length, n_samples, rng, distance_m=(2.0, 120.0))


def _propellers(n_samples: int, length: int, doppler: Float32, loudness: Float32, rng: Generator) -> Complex:
    """Return the spectrum of one propeller or two that beat against each other."""
    passes_hz = log_uniform(45.0, 150.0, rng)
    total = np.zeros(length // 2 + 1, np.complex64)
    shape = slope(log_uniform(70.0, 500.0, rng), rng.uniform(7.0, 18.0)) * high_pass(30.0)
    for _ in range(1 if rng.random() < 0.5 else 2):
        steadiness = 1.0 + rng.uniform(0.0002, 0.002) * _over(n_samples, log_uniform(0.1, 1.0, rng), rng)
        hz = passes_hz * rng.uniform(0.985, 1.015) * doppler * steadiness
        phase = begun(np.cumsum(hz, dtype=np.float64) / SAMPLE_RATE, rng)
        total += shaped(_beats(phase, loudness, rng, length, jitter=1e-3, unlike=0.02), shape, length)
    return total


def _flight(
    n_samples: int, rng: Generator, *, speed_m_s: tuple[float, float], distance_m: tuple[float, float]
) -> tuple[Float32, Float32]:
    """Return Doppler factor and gain relative to the nearest point of somebody who flies past, or stands in the air."""
    if rng.random() < 0.25:
        return np.ones(n_samples, np.float32), np.ones(n_samples, np.float32)
    speed, nearest_m = log_uniform(*speed_m_s, rng), log_uniform(*distance_m, rng)
    doppler, away_m = flown_by(n_samples, speed, nearest_m, rng.uniform(-1.0, 2.0) * n_samples / SAMPLE_RATE)
    return to_samples(doppler, n_samples), to_samples(away_m.min() / away_m, n_samples)


def _over(n_samples: int, swings_hz: float, rng: Generator) -> Float32:
    """Return a slow random curve of about unit size at every sample."""
    return to_samples(wander(control_points(n_samples), swings_hz, CONTROL_HZ, rng), n_samples)


def _turned(turns_hz: float, n_samples: int, rng: Generator, *, drift: float) -> Float64:
    """Return the phase of what turns so often, and wanders by so much, relative."""
    hz = turns_hz * (1.0 + drift * _over(n_samples, log_uniform(0.1, 1.5, rng), rng))
    return begun(np.cumsum(hz, dtype=np.float64) / SAMPLE_RATE, rng)


def _tone(hz: Float32, loudness: Float32, rng: Generator) -> Float32:
    """Return a sine of this frequency, at every sample."""
    phase = np.cumsum(hz, dtype=np.float64) / SAMPLE_RATE + rng.random()
    tone: Float32 = np.sin(fraction_of(phase) * np.float32(2.0 * np.pi)) * loudness
    return tone


def _beats(
    phase: Float64, loudness: Float32, rng: Generator, length: int, *, jitter: float = 0.004, unlike: float = 0.08
) -> Complex:
    """Return the spectrum of a pulse at each whole number of the phase, one a little unlike the other."""
    positions, periods = firings_of(phase)
    strengths = loudness[positions.astype(np.int64)] * (1.0 + unlike * rng.standard_normal(len(positions)))
    moved = positions + jitter * periods * rng.standard_normal(len(positions))
    return pulse_row(moved, strengths.astype(np.float64), length)


def _heard_from(
    spectrum: Complex, length: int, n_samples: int, rng: Generator, *, distance_m: tuple[float, float]
) -> Float32:
    """Return the samples of a sound as it comes through air, leaves and echo, at MOTOR_DBFS."""
    spectrum = shaped(spectrum, way(log_uniform(*distance_m, rng)), length)
    spectrum = with_echo(spectrum, length, rng.uniform(0.0, 0.5), rng.uniform(0.15, 1.2), rng)
    return at_level(samples_of(spectrum, length, n_samples), MOTOR_DBFS)
