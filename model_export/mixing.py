"""Training windows out of recordings: background, events at known signal-to-noise ratios, confusers, a microphone.

A window is cut from four seconds, so that echoes and filters have a past. Sources are drawn by class, then by
recording, then by clip: a recording cut into forty clips counts as one. Where the data cannot say whether a label holds
(an engine in a street's noise), the label weighs nothing instead of teaching a guess.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.errors import FieldError
from agent.features import FeatureConfig, Float32, Float64, log_mel, window_features
from model_export.datasets import SAMPLE_RATE
from model_export.errors import DataError
from model_export.recipe import LABELS, MixConfig
from model_export.store import Sound, Store, block_power, high_pass_gain, high_passed, repeated

Generator = np.random.Generator
Complex = NDArray[np.complexfloating]

WINDOW: Final = 48_000
LEAD: Final = 16_000
"""Samples before the window that echoes and filters hear, and the model does not."""
TOTAL: Final = LEAD + WINDOW
SURE_S: Final = 1.2
"""An event that sounds for so long within the window is in it..."""
DOUBTFUL_S: Final = 0.4
"""...a shorter one down to this is neither taught nor denied."""
CHAINSAW, ENGINE, STORM = range(len(LABELS))

_FREQUENCY_HZ: Final[Float64] = np.asarray(np.fft.rfftfreq(TOTAL, 1.0 / SAMPLE_RATE), np.float64)
_HIGH_PASS: Final = high_pass_gain(_FREQUENCY_HZ).astype(np.float32)
_GRID_HZ: Final = np.geomspace(20.0, 8_000.0, 257)
_ACTIVE_BLOCK: Final = 1_600  # 0.1 s
_QUIET_SHARE: Final = 0.1
_TONES_SHARE: Final = 0.07

# how much a class may say about each label where its target does not say it: 1 = surely not there
_NO_ENGINE_KNOWN: Final = {
    "traffic": 0.0,
    "road": 0.0,
    "busy-street": 0.0,
    "highway": 0.3,
    "city": 0.3,
    "construction-site": 0.0,
    "jackhammer": 0.4,
    "sounds-compressor-motor-01": 0.4,
    "sounds-compressor-motor-02": 0.4,
    "windshield-wipers": 0.0,
    "rain-on-car-roof": 0.3,
    "car_horn": 0.5,
    "siren": 0.5,
    "street_music": 0.7,
    "children_playing": 0.7,
    "boat": 0.5,
}
_NO_STORM_KNOWN: Final = {
    "forest": 0.2,
    "jungle": 0.2,
    "wind": 0.3,
    "wind-in-trees": 0.3,
    "howling-wind": 0.3,
    "waterfall": 0.2,
    "water": 0.3,
    "river": 0.3,
    "stream-water": 0.3,
    "drops": 0.2,
    "droplets": 0.2,
    "sea_waves": 0.3,
    "waves": 0.3,
    "windshield-wipers": 0.0,
    "fireworks": 0.3,
    "gun_shot": 0.5,
    "white-noise": 0.2,
    "pink-noise": 0.2,
    "brown-noise": 0.2,
    "pouring_water": 0.5,
    "crackling_fire": 0.5,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """One training window with its truth."""

    samples: Float32
    """Shape (48,000,), in [-1, 1], rounded as 16-bit audio is."""
    labels: Float32
    """Shape (n_labels,): 1 where the label holds."""
    weights: Float32
    """Shape (n_labels,): how much each label may teach."""
    parts: tuple[str, ...]
    """What is in it, for people."""
    kinds: tuple[str, ...]
    """The classes of its sounds, as the data sets call them."""


@dataclass(slots=True)
class Draft:
    """The truth of a window while it is being made."""

    labels: Float32
    weights: Float32
    parts: list[str]
    kinds: list[str]

    @classmethod
    def empty(cls) -> "Draft":
        """Return the truth of a window in which there is nothing yet."""
        return cls(np.zeros(len(LABELS), np.float32), np.ones(len(LABELS), np.float32), [], [])

    def add(self, sound: Sound, text: str = "") -> None:
        """Note a sound that is there for all to hear."""
        self.parts.append(text or sound.name)
        self.kinds.append(sound.kind)


@dataclass(frozen=True, slots=True)
class Pool:
    """Sounds of one role, drawn by class, then by recording, then by clip."""

    kinds: tuple[str, ...]
    shares: Float64
    """Cumulative, shape (n_kinds,)."""
    groups: Mapping[str, Sequence[Sequence[Sound]]]

    def pick(self, rng: Generator) -> Sound:
        """Draw one sound."""
        kind = self.kinds[int(np.searchsorted(self.shares, rng.random() * self.shares[-1], side="right"))]
        groups = self.groups[kind]
        group = groups[int(rng.integers(len(groups)))]
        return group[int(rng.integers(len(group)))]


def pool_of(sounds: Iterable[Sound], weights: Mapping[str, float], role: str) -> Pool:
    """Return a pool; a class weighs its given weight times the root of its number of recordings.

    Raises:
        DataError: there is no sound for the role.
    """
    kinds: dict[str, dict[str, list[Sound]]] = {}
    for sound in sounds:
        if weights.get(sound.kind, 1.0) > 0:
            kinds.setdefault(sound.kind, {}).setdefault(sound.group, []).append(sound)
    if not kinds:
        raise DataError(
            f"there is no training sound for the role of {role}; add recordings or change the recipe's split"
        )
    names = tuple(sorted(kinds))
    shares = np.cumsum([weights.get(name, 1.0) * math.sqrt(len(kinds[name])) for name in names])
    return Pool(names, shares, {name: list(kinds[name].values()) for name in names})


class Mixer:
    """Draws training windows from the sounds of one part of the split."""

    def __init__(self, store: Store, sounds: Sequence[Sound], config: MixConfig) -> None:
        """Sort the sounds by role."""
        self._store = store
        self._config = config

        def of(role: str, targets: tuple[str, ...], weights: Mapping[str, float], *, synth: bool | None = None) -> Pool:
            chosen = [
                sound
                for sound in sounds
                if sound.target in targets and (synth is None or sound.kind.startswith("synth-") == synth)
            ]
            return pool_of(chosen, weights, role)

        self._saws = of("chainsaw", ("chainsaw",), {}, synth=False)
        self._engines = of("engine", ("engine",), {}, synth=False)
        self._synth_saws = of("synthetic saws", ("chainsaw",), {}, synth=True) if config.synth_saw_share else None
        self._synth_engines = (
            of("synthetic engines", ("engine",), {}, synth=True) if config.synth_engine_share else None
        )
        self._storms = of("storm", ("storm",), {})
        self._places = of("background", ("background",), config.places)
        self._confusers = of("confuser", ("machine", "other"), config.hard)
        near = [sound for sound in sounds if sound.target == "background" and sound.kind != "forest"]
        self._voices = pool_of(near, config.hard, "voice") if config.voice_share else None

    def draw(self, rng: Generator) -> Mixture:
        """Return one window; equal generators give equal windows."""
        config = self._config
        draft = Draft.empty()
        place = self._background(rng, draft)
        beneath = _filtered(place, _HIGH_PASS)
        loudness = np.float32(max(_rms(beneath), 1e-9))
        total, beneath = place / loudness, beneath / loudness
        chance = rng.random()
        has_saw = chance < config.saw_share
        has_engine = (
            config.saw_share - config.both_share
            <= chance
            < (config.saw_share - config.both_share + config.engine_share)
        )
        if has_saw:
            sound = self._motor(self._saws, self._synth_saws, config.synth_saw_share, rng)
            total = total + self._event(sound, CHAINSAW, beneath, rng, draft)
            if not has_engine:
                # a saw is a motor: whether it is an engine as well is not asked, and hardly taught
                draft.weights[ENGINE] *= 0.25
        if has_engine:
            sound = self._motor(self._engines, self._synth_engines, config.synth_engine_share, rng)
            total = total + self._event(sound, ENGINE, beneath, rng, draft)
        if rng.random() < config.storm_share:
            total = total + self._event(self._storms.pick(rng), STORM, beneath, rng, draft)
        has_event = has_saw or has_engine
        # as many in all as the recipe says, but more of them where there is no event to hide behind
        if rng.random() < min(1.0, config.confuser_share * (0.65 if has_event else 1.6)):
            total = total + self._confuser(beneath, rng, draft)
        return Mixture(
            samples=_microphone(total, rng, config),
            labels=draft.labels,
            weights=draft.weights * (1.0, 1.0, 0.4),
            parts=tuple(draft.parts),
            kinds=tuple(draft.kinds),
        )

    def _motor(self, real: Pool, synthetic: Pool | None, synth_share: float, rng: Generator) -> Sound:
        pool = synthetic if synthetic is not None and rng.random() < synth_share else real
        return pool.pick(rng)

    def _background(self, rng: Generator, draft: Draft) -> Float32:
        """Return what is always there, shape (TOTAL,)."""
        if rng.random() < _QUIET_SHARE:
            draft.parts.append("quiet")
            return _electronics(rng)
        sound = self._places.pick(rng)
        draft.add(sound)
        _doubt(sound, draft.weights)
        place = _unit(self._excerpt(sound, rng, 0.9, 1.1))
        if rng.random() < 0.3:
            other = self._places.pick(rng)
            draft.add(other)
            _doubt(other, draft.weights)
            place = place + _unit(self._excerpt(other, rng, 0.85, 1.18)) * _gain(rng.uniform(-12, 6))
        return place

    def _event(self, sound: Sound, label: int, beneath: Float32, rng: Generator, draft: Draft) -> Float32:
        """Return an event at a drawn ratio over the background, and write its truth down."""
        rev_share = self._config.rev_share if label != STORM else 0.0
        event = self._shaped(sound, rng, self._config.far_share, rev_share)
        span = _span(rng, self._config.partial_share)
        event = faded_to(event, span)
        snr_db = rng.uniform(self._config.snr_low_db, self._config.snr_high_db)
        sounding_s = _sounding_s(event, span)
        text = f"{LABELS[label]} {snr_db:.0f} dB {sounding_s:.1f} s {sound.name}"
        if sounding_s >= SURE_S:
            draft.add(sound, text)
            draft.labels[label] = 1.0
            if snr_db < -8:
                draft.weights[label] *= 0.6  # it may be drowned: say so less loudly
        else:
            draft.parts.append(text)
            if sounding_s > DOUBTFUL_S:
                draft.weights[label] = 0.0
        if label != ENGINE and sound.kind in _NO_ENGINE_KNOWN:
            draft.weights[ENGINE] *= _NO_ENGINE_KNOWN[sound.kind]
        return event * np.float32(gain_for(event, beneath, snr_db, span))

    def _confuser(self, beneath: Float32, rng: Generator, draft: Draft) -> Float32:
        if rng.random() < _TONES_SHARE:
            draft.parts.append("tones")
            event = _tones(rng)
        else:
            is_voice = self._voices is not None and rng.random() < self._config.voice_share
            sound = (self._voices if self._voices is not None and is_voice else self._confusers).pick(rng)
            draft.add(sound)
            _doubt(sound, draft.weights)
            bent, held = self._is(self._config.bend_share, rng), self._is(self._config.hold_share, rng)
            event = self._shaped(sound, rng, self._config.confuser_far_share, 0.0, bent=bent, held=held)
        span = _span(rng, 0.3)
        event = faded_to(event, span)
        return event * np.float32(gain_for(event, beneath, rng.uniform(-5, 22), span))

    def _is(self, share: float, rng: Generator) -> bool:
        # recipes without it draw no chance for it: their mixtures stay what they were
        return share > 0 and rng.random() < share

    def _excerpt(self, sound: Sound, rng: Generator, slowest: float, fastest: float, rev_share: float = 0.0) -> Float32:
        """Return four seconds of a sound at a drawn speed, not its quietest; shape (TOTAL,)."""
        at = _revving(rng) if rng.random() < rev_share else _steady(rng, slowest, fastest)
        length = int(at[-1]) + 2
        excerpt = self._store.read(sound, 0, 1)
        for _ in range(4):
            start = int(rng.integers(max(1, sound.length - length + 1)))
            if sound.length < length:
                start = int(rng.integers(sound.length))
            excerpt = self._store.read(sound, start, length)
            power = float(np.square(excerpt, dtype=np.float64).mean())
            if 10 * math.log10(power + 1e-20) > sound.level_dbfs - 15:
                break
        return _sampled(excerpt, at)

    def _shaped(
        self,
        sound: Sound,
        rng: Generator,
        far_share: float,
        rev_share: float,
        *,
        bent: bool = False,
        held: bool = False,
    ) -> Float32:
        """Return an excerpt as it comes through a forest: dulled, echoing, swelling; above 60 Hz alone."""
        slowest, fastest, rev_share = (0.6, 1.6, 0.5) if bent else (0.8, 1.25, rev_share)
        excerpt = self._excerpt(sound, rng, slowest, fastest, rev_share)
        if held:
            excerpt = _held(excerpt, rng)
        gain = _way(rng, far_share) * _HIGH_PASS
        if self._config.timbre_share and rng.random() < self._config.timbre_share:
            gain = gain * _response(rng)
        response: Float32 | Complex = gain
        if rng.random() < 0.5:
            response = gain * _echo(rng)
        shaped = _filtered(excerpt, response)
        if rng.random() < 0.2:
            swing_db = np.interp(np.arange(TOTAL), np.linspace(0, TOTAL, 7), rng.uniform(-7, 7, 7))
            shaped = shaped * (10 ** (swing_db / 20)).astype(np.float32)
        return shaped


def features_of(samples: Float32, features: FeatureConfig) -> Float32:
    """Return a window as the model sees it, shape (n_frames, n_mels)."""
    return window_features(log_mel(samples, features))


def gain_for(event: Float32, background: Float32, snr_db: float, span: tuple[int, int]) -> float:
    """Return the factor that brings an event to a ratio over the background that it covers.

    Args:
        event: already above 60 Hz alone.
        background: likewise, same shape.
        snr_db: RMS of the event over RMS of the background, decibels.
        span: first and last sample (exclusive) of the event.
    """
    start, stop = span
    loudness = _rms(event[start:stop])
    if loudness < 1e-9:
        return 0.0
    return max(_rms(background[start:stop]), 1e-6) / loudness * 10 ** (snr_db / 20)


def mixed(background: Float32, event: Float32, snr_db: float, at: int) -> Float32:
    """Return a background with an event added at a ratio above 60 Hz; for tracks, where nothing else is changed.

    Args:
        background: shape (n_samples,).
        event: shape (n_event,).
        snr_db: RMS of the event over RMS of the background it covers, both above 60 Hz.
        at: sample at which the event begins.
    """
    stop = at + len(event)
    if stop > len(background):
        raise FieldError("at", f"is {at}, the event would end at {stop}, behind the background's {len(background)}")
    gain = gain_for(high_passed(event), high_passed(background[at:stop]), snr_db, (0, len(event)))
    total = background.copy()
    total[at:stop] += event * np.float32(gain)
    return total


def faded_to(event: Float32, span: tuple[int, int], fade: int = 1_600) -> Float32:
    """Return an event that sounds within a span alone, beginning and ending without a click."""
    start, stop = span
    if start <= 0 and stop >= len(event):
        return event
    envelope = np.zeros(len(event), np.float32)
    envelope[max(start, 0) : stop] = 1.0
    fade = min(fade, (stop - start) // 2)
    ramp = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32)) ** 2
    if start > 0:
        envelope[start : start + fade] = ramp
    if stop < len(event):
        envelope[stop - fade : stop] = ramp[::-1]
    return event * envelope


def _span(rng: Generator, partial_share: float) -> tuple[int, int]:
    """Return where in the four seconds an event sounds."""
    if rng.random() >= partial_share:
        return 0, TOTAL
    edge = LEAD + int(rng.uniform(0.05, 0.95) * WINDOW)
    chance = rng.random()
    if chance < 0.45:
        return edge, TOTAL
    if chance < 0.9:
        return 0, edge
    return tuple(sorted((edge, LEAD + int(rng.uniform(0.05, 0.95) * WINDOW) + 1)))  # type: ignore[return-value]  # two of them


def _sounding_s(event: Float32, span: tuple[int, int]) -> float:
    """Return for how long an event sounds within the window: a saw's pauses are no saw."""
    power = block_power(event[LEAD:], _ACTIVE_BLOCK)
    overall = block_power(event, _ACTIVE_BLOCK).max() if span[1] > span[0] else 0.0
    return float((power > max(overall * 10**-2.5, 1e-12)).sum()) * _ACTIVE_BLOCK / SAMPLE_RATE


def _steady(rng: Generator, slowest: float, fastest: float) -> Float64:
    """Return where in a recording each sample is taken from at one drawn speed, shape (TOTAL,)."""
    return np.arange(TOTAL, dtype=np.float64) * math.exp(rng.uniform(math.log(slowest), math.log(fastest)))


def _revving(rng: Generator) -> Float64:
    """Return the same at a speed that rises and falls, as of a motor whose throttle moves."""
    n_knots = int(rng.integers(3, 9))
    octaves = rng.uniform(-0.45, 0.45) + rng.uniform(-0.4, 0.4, n_knots)
    smooth = np.interp(np.arange(TOTAL), np.linspace(0, TOTAL, n_knots), octaves)
    return np.cumsum(2.0**smooth)


def _held(excerpt: Float32, rng: Generator) -> Float32:
    """Return an excerpt whose loudest half to two seconds goes on and on, same shape."""
    n_blocks = int(rng.integers(5, 21))
    power = np.concatenate([[0.0], np.cumsum(block_power(excerpt, _ACTIVE_BLOCK))])
    start = int(np.argmax(power[n_blocks:] - power[:-n_blocks])) * _ACTIVE_BLOCK
    return repeated(excerpt[start : start + n_blocks * _ACTIVE_BLOCK], len(excerpt))


def _sampled(excerpt: Float32, at: Float64) -> Float32:
    """Return an excerpt read at the given places, by linear interpolation, shape (TOTAL,)."""
    whole = at.astype(np.int32)
    between = (at - whole).astype(np.float32)
    before = excerpt[whole]
    sampled: Float32 = before + between * (excerpt[whole + 1] - before)
    return sampled


def _doubt(sound: Sound, weights: Float32) -> None:
    if sound.target != "engine":
        weights[ENGINE] *= _NO_ENGINE_KNOWN.get(sound.kind, 1.0)
    if sound.target != "storm":
        weights[STORM] *= _NO_STORM_KNOWN.get(sound.kind, 1.0)


def _rms(samples: Float32) -> float:
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean())) if len(samples) else 0.0


def _gain(decibels: float) -> np.float32:
    return np.float32(10 ** (decibels / 20))


def _unit(samples: Float32) -> Float32:
    """Return samples of RMS 1."""
    return samples / np.float32(max(_rms(samples), 1e-9))


def _filtered(samples: Float32, response: Float32 | Complex) -> Float32:
    filtered: Float32 = np.fft.irfft(np.fft.rfft(samples) * response, len(samples)).astype(np.float32)
    return filtered


def _on_bins(decibels: Float64) -> Float32:
    """Return a gain at every bin from decibels on the coarse grid."""
    return (10 ** (np.interp(_FREQUENCY_HZ, _GRID_HZ, decibels) / 20)).astype(np.float32)


def _low_pass_db(corner_hz: float, order: float) -> Float64:
    return -10 * np.log10(1 + (_GRID_HZ / corner_hz) ** (2 * order))


def _way(rng: Generator, far_share: float) -> Float32:
    """Return what air, leaves and distance leave of a spectrum."""
    if rng.random() < far_share:
        corner_hz = math.exp(rng.uniform(math.log(700), math.log(4_000)))
        return _on_bins(_low_pass_db(corner_hz, rng.uniform(1.5, 6)))
    if rng.random() < 0.5:
        way_m = math.exp(rng.uniform(math.log(10), math.log(250)))
        return _on_bins(-np.minimum(0.06 * way_m * (_GRID_HZ / 2_000) ** 1.2, 80))
    return np.ones(len(_FREQUENCY_HZ), np.float32)


def _echo(rng: Generator) -> Complex:
    """Return the spectrum of a direct sound with a diffuse, duller tail."""
    n_tail = int(rng.uniform(0.1, 0.8) * SAMPLE_RATE)
    tail = rng.standard_normal(n_tail, dtype=np.float32) * np.exp(np.linspace(0, -6.9, n_tail, dtype=np.float32))
    tail *= np.float32(rng.uniform(0.1, 0.9) / math.sqrt(float(np.square(tail).sum())))
    late: Complex = 1 + np.fft.rfft(tail, TOTAL) * _on_bins(_low_pass_db(rng.uniform(800, 4_000), 1))
    return late


def _electronics(rng: Generator) -> Float32:
    """Return what a microphone hears when nothing sounds: coloured noise, sometimes with mains hum."""
    slope_db = rng.uniform(-6, 1) * np.log2(_GRID_HZ / 1_000)
    noise = _filtered(rng.standard_normal(TOTAL, dtype=np.float32), _on_bins(slope_db))
    if rng.random() < 0.3:
        noise = noise + _hum(rng) * np.float32(_rms(noise) * rng.uniform(0.1, 2))
    return noise


def _hum(rng: Generator) -> Float32:
    mains_hz = 50.0 if rng.random() < 0.5 else 60.0
    seconds = np.arange(TOTAL) / SAMPLE_RATE
    hum = np.zeros(TOTAL)
    for harmonic in range(1, int(rng.integers(2, 12))):
        strength = rng.exponential(1.0) / harmonic
        hum += strength * np.sin(2 * np.pi * (mains_hz * harmonic * seconds + rng.random()))
    return (hum / (hum.std() + 1e-9)).astype(np.float32)


def _tones(rng: Generator) -> Float32:
    """Return beeps, whistles, bells and horns: up to three gliding tones with their partials, sometimes in pulses."""
    seconds = np.arange(TOTAL) / SAMPLE_RATE
    total = np.zeros(TOTAL)
    for _ in range(int(rng.integers(1, 4))):
        pitch_hz = math.exp(rng.uniform(math.log(200), math.log(6_000)))
        glide = np.exp(rng.uniform(-0.15, 0.15) * seconds)
        turns = np.cumsum(pitch_hz * glide) / SAMPLE_RATE
        tone = np.sin(2 * np.pi * turns)
        if rng.random() < 0.6:
            tone = tone + _partials(turns, pitch_hz, rng)
        if rng.random() < 0.3:
            # struck: it rings and is struck again
            since_s = (seconds * rng.uniform(0.3, 3) + rng.random()) % 1
            tone = tone * np.exp(-since_s * rng.uniform(1, 6))
        if rng.random() < 0.5:
            tone *= (seconds * rng.uniform(0.5, 8) + rng.random()) % 1 < rng.uniform(0.2, 0.8)
        total += rng.uniform(0.2, 1) * tone
    return total.astype(np.float32)


def _partials(turns: Float64, pitch_hz: float, rng: Generator) -> Float64:
    """Return the partials of a tone: of a horn in whole multiples, of a bell nearly so."""
    bent = rng.uniform(0.0, 0.12) if rng.random() < 0.5 else 0.0
    total = np.zeros(len(turns))
    for number in range(2, int(rng.integers(3, 14))):
        multiple = number * (1 + bent * rng.uniform(-1, 1))
        if pitch_hz * multiple < 7_000:
            total += rng.uniform(0.1, 1) / number**0.7 * np.sin(2 * np.pi * (multiple * turns + rng.random()))
    return total


def _microphone(total: Float32, rng: Generator, config: MixConfig) -> Float32:
    """Return the window as a phone would deliver it: its response, noise, gain, limits and 16 bits."""
    if rng.random() < 0.75:
        total = _filtered(total, _response(rng))
    window = total[LEAD:]
    window = window * _gain(rng.uniform(config.level_low_dbfs, config.level_high_dbfs))
    if rng.random() < 0.5:
        noise = rng.standard_normal(WINDOW, dtype=np.float32)
        window = window + noise * _gain(rng.uniform(-85, -50))
    if rng.random() < 0.12:
        window = _levelled(window, rng)
    if rng.random() < 0.06:
        step = int(rng.integers(WINDOW))
        window[step:] *= _gain(rng.uniform(-12, 12))
    peak = float(np.abs(window).max()) + 1e-9
    if rng.random() < 0.05:
        window = window * np.float32(1 / peak) * _gain(rng.uniform(2, 14))
    elif peak > 0.99:
        window = window * np.float32(rng.uniform(0.4, 0.99) / peak)
    limited: Float32 = (np.rint(window.clip(-1, 1) * 32_767) * (1 / 32_768)).astype(np.float32)
    return limited


def _response(rng: Generator) -> Float32:
    """Return a cheap microphone's frequency response."""
    octaves = np.log2(_GRID_HZ / 1_000)
    decibels = rng.uniform(-2.5, 2.5) * octaves
    decibels -= 10 * np.log10(1 + (rng.uniform(30, 300) / _GRID_HZ) ** (2 * rng.integers(1, 3)))
    for _ in range(int(rng.integers(0, 4))):
        distance = (octaves - rng.uniform(-3, 2.8)) / rng.uniform(0.1, 0.6)
        decibels += rng.uniform(-8, 8) * np.exp(-0.5 * np.square(distance))
    if rng.random() < 0.25:
        decibels += _low_pass_db(rng.uniform(3_000, 7_400), rng.uniform(4, 16))
    return _on_bins(np.maximum(decibels, -90))


def _levelled(window: Float32, rng: Generator) -> Float32:
    """Return a window after an automatic gain that turns up what is quiet."""
    level = np.sqrt(block_power(window, 1_600) + 1e-12)
    smooth = np.convolve(np.pad(level, (2, 2), mode="edge"), np.full(5, 0.2), mode="valid")
    gain = (smooth / smooth.mean()) ** -rng.uniform(0.2, 0.8)
    curve = np.interp(np.arange(WINDOW), np.arange(len(gain)) * 1_600 + 800, gain)
    return (window * curve).astype(np.float32)
