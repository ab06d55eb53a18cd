"""Every clip decoded once: one file of int16 samples, mapped into memory, and an index beside it.

Digital zeros are cut out (data sets pad with them, and a model would learn the padding); the level of the part that
sounds is noted, because the levels of clips mean nothing. Sounds of `agent.synth` are drawn once and lie beside the
recordings, each a recording of its own.
"""

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent import synth
from agent.features import Float32
from model_export import confusers, heard
from model_export.datasets import SAMPLE_RATE, Clip, Skipped, digest_of, read_sound
from model_export.errors import DataError

log = logging.getLogger(__name__)

STORE_VERSION = 3
HIGH_PASS_HZ: Final = 60.0
"""Levels and signal-to-noise ratios are taken above this: rumble below it is neither heard nor analysed."""
_BLOCK: Final = 320  # 20 ms
_ZERO_DBFS: Final = -85.0
_ACTIVE_DB: Final = 30.0
_SYNTH_SECONDS: Final = 8.0
_LONGEST_SECONDS: Final = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """One clip within the store."""

    name: str
    kind: str
    target: str
    group: str
    start: int
    """Its first sample in the store."""
    length: int
    """Samples, zeros cut out."""
    level_dbfs: float
    """RMS above 60 Hz of the part that sounds."""
    mark: str = ""
    """Of its samples: by it a model knows what it has heard, whatever a file is called."""


@dataclass(frozen=True, slots=True)
class Store:
    """Decoded sounds, read by place."""

    sounds: tuple[Sound, ...]
    samples: NDArray[np.int16]

    def read(self, sound: Sound, start: int, length: int) -> Float32:
        """Return part of a sound, shape (length,), float32 in [-1, 1]; a short sound is joined to itself."""
        if start + length <= sound.length:
            at = sound.start + start
            return self.samples[at : at + length].astype(np.float32) * np.float32(1 / 32_768)
        whole = self.samples[sound.start : sound.start + sound.length].astype(np.float32) * np.float32(1 / 32_768)
        return repeated(whole, start + length)[start:]


def open_store(clips: Sequence[Clip], synths: dict[str, int], folder: Path) -> tuple[Store, list[Skipped]]:
    """Return the store of these clips and synthetic sounds, decoding them unless that was done before.

    Args:
        clips: recordings.
        synths: how many synthetic sounds of each kind: saw, engine, insects, birds, wind, rain, forest, wings, yowl.
        folder: where stores are kept.

    Raises:
        DataError: not one clip could be read.
    """
    text = json.dumps([STORE_VERSION, synth.SYNTH_VERSION, digest_of(clips), synths], sort_keys=True)
    base = folder / f"store-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    index = base.with_suffix(".json")
    if not index.is_file():
        _build(clips, synths, base)
    document = json.loads(index.read_text(encoding="utf-8"))
    samples = np.memmap(base.with_suffix(".i16"), np.int16, "r")
    sounds = tuple(Sound(**sound) for sound in document["sounds"])
    return Store(sounds, samples), [Skipped(**skipped) for skipped in document["skipped"]]


def _build(clips: Sequence[Clip], synths: dict[str, int], base: Path) -> None:
    from tqdm import tqdm

    base.parent.mkdir(parents=True, exist_ok=True)
    partial = base.with_suffix(".partial")
    sounds: list[Sound] = []
    skipped: list[Skipped] = []
    at = 0
    with partial.open("wb") as file:

        def keep(name: str, kind: str, target: str, group: str, samples: Float32) -> None:
            nonlocal at
            sounding = without_zeros(samples)
            if len(sounding) < SAMPLE_RATE // 10:
                skipped.append(Skipped(name=name, reason="less than 0.1 s of it is not silence"))
                return
            content = np.rint(sounding.clip(-1, 1) * 32_767).astype(np.int16).tobytes()
            file.write(content)
            sounds.append(
                Sound(
                    name=name,
                    kind=kind,
                    target=target,
                    group=group,
                    start=at,
                    length=len(sounding),
                    level_dbfs=round(active_dbfs(sounding), 2),
                    mark=heard.mark_of(content),
                )
            )
            at += len(sounding)

        for clip in tqdm(clips, desc="decoding", unit="clip"):
            try:
                samples = read_sound(clip.path, clip.span_s)[: int(_LONGEST_SECONDS * SAMPLE_RATE)]
            except DataError as error:
                skipped.append(Skipped(name=clip.name, reason=str(error)))
                log.warning("skipped: %s", error)
                continue
            keep(clip.name, clip.kind, clip.target, clip.group, samples)
        if not sounds and clips:
            raise DataError(f"not one of {len(clips)} clips could be read; the first: {skipped[0].reason}")
        for name, target, samples in tqdm(_synthetic(synths), total=sum(synths.values()), desc="synthesising"):
            keep(name, f"synth-{name.split('/')[1]}", target, name, samples)
    partial.replace(base.with_suffix(".i16"))
    index = base.with_suffix(".partial")
    document = {"sounds": [asdict(sound) for sound in sounds], "skipped": [asdict(one) for one in skipped]}
    index.write_text(json.dumps(document), encoding="utf-8")
    index.replace(base.with_suffix(".json"))


def _synthetic(synths: dict[str, int]) -> Iterable[tuple[str, str, Float32]]:
    """Yield name, target and samples of each synthetic sound; its name seeds it."""
    makers: dict[str, tuple[str, Callable[[np.random.Generator], Float32]]] = {
        "saw": ("chainsaw", lambda rng: synth.chainsaw(_SYNTH_SECONDS, rng, synth.random_saw(rng))),
        "engine": ("engine", lambda rng: synth.engine(_SYNTH_SECONDS, rng, synth.random_engine(rng))),
        "insects": ("background", lambda rng: synth.insects(_SYNTH_SECONDS, rng)),
        "birds": ("background", lambda rng: synth.birds(_SYNTH_SECONDS, rng)),
        "wind": ("background", lambda rng: synth.wind(_SYNTH_SECONDS, rng)),
        "forest": ("background", lambda rng: synth.forest(_SYNTH_SECONDS, rng)),
        "rain": ("storm", lambda rng: synth.rain(_SYNTH_SECONDS, rng)),
        "wings": ("other", lambda rng: confusers.wings(_SYNTH_SECONDS, rng)),
        "yowl": ("other", lambda rng: confusers.yowl(_SYNTH_SECONDS, rng)),
        "rotors": ("machine", lambda rng: confusers.rotors(_SYNTH_SECONDS, rng)),
        "aircraft": ("machine", lambda rng: confusers.aircraft(_SYNTH_SECONDS, rng)),
        "appliances": ("machine", lambda rng: confusers.appliances(_SYNTH_SECONDS, rng)),
        "hammers": ("machine", lambda rng: confusers.hammers(_SYNTH_SECONDS, rng)),
    }
    for kind, n_sounds in sorted(synths.items()):
        target, make = makers[kind]
        seed = zlib.crc32(kind.encode())  # so that another kind beside it changes nothing
        for number in range(n_sounds):
            yield f"synth/{kind}/{number}", target, make(np.random.default_rng([1_118, seed, number]))


def high_pass_gain(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the magnitude of a second-order high-pass at 60 Hz."""
    ratio = (frequency_hz / HIGH_PASS_HZ) ** 2
    return ratio / np.sqrt(1.0 + ratio**2)


def high_passed(samples: Float32) -> Float32:
    """Return samples without what lies below 60 Hz, same shape."""
    length = len(samples) + -len(samples) % 4_096  # lengths with large prime factors take a hundred times longer
    spectrum = np.fft.rfft(samples, length)
    gain = high_pass_gain(np.asarray(np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE), np.float64))
    passed: Float32 = np.fft.irfft(spectrum * gain, length)[: len(samples)].astype(np.float32)
    return passed


def block_power(samples: Float32, block: int = _BLOCK) -> NDArray[np.float64]:
    """Return the mean power of each whole block, shape (n_blocks,)."""
    n_blocks = len(samples) // block
    blocks = samples[: n_blocks * block].reshape(n_blocks, block)
    return np.square(blocks, dtype=np.float64).mean(axis=1)


def without_zeros(samples: Float32) -> Float32:
    """Return samples without runs of 0.1 s and more of digital silence, whatever a codec made of it."""
    power = block_power(samples)
    if not len(power):
        return samples
    silent = power < max(10 ** (_ZERO_DBFS / 10), power.max() * 1e-7)
    keep = np.ones(len(samples), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]]).astype(np.int8)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if last - first >= 5 or last == len(silent):
            keep[first * _BLOCK : last * _BLOCK] = False
            if last == len(silent):
                keep[last * _BLOCK :] = False
    return samples[keep]


def active_dbfs(samples: Float32) -> float:
    """Return the RMS level above 60 Hz of the blocks that sound: those within 30 dB of the loudest."""
    power = block_power(high_passed(samples))
    loud = power[power > power.max() * 10 ** (-_ACTIVE_DB / 10)]
    return 10 * float(np.log10(loud.mean() + 1e-20)) if len(loud) else -120.0


def repeated(samples: Float32, length: int, fade: int = 800) -> Float32:
    """Return samples joined to themselves by cross-fades of equal power until they last, shape (length,)."""
    if len(samples) >= length:
        return samples[:length].copy()
    fade = min(fade, len(samples) // 3)
    step = len(samples) - fade
    n_times = -(-(length - fade) // step)
    ramp = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
    joined = np.zeros(n_times * step + fade, np.float32)
    for time in range(n_times):
        piece = samples.copy()
        if time > 0:
            piece[:fade] *= ramp
        if time < n_times - 1:
            piece[step:] *= ramp[::-1]
        joined[time * step : time * step + len(samples)] += piece
    return joined[:length]
