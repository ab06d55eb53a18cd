"""Log-mel features: the one definition, for the device, for training and for the station.

Recipe (docs/features.md): 16 kHz mono, periodic Hann taper, power spectrum, HTK mel filters of peak 1, natural
logarithm over a floor; a window is `n_frames` frames with its own mean taken away, so that neither the
microphone's gain nor the distance to the tree decides.
"""

import functools
import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from agent.errors import FieldError
from agent.fields import Fields

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

FEATURES_VERSION = 1

_CHUNK_FRAMES = 256  # 2 MB of float64 frames at a time: stays in the cache, bounds the memory


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureConfig:
    """How sound becomes what the model sees. A model is good only for the one that it was trained with."""

    version: int = FEATURES_VERSION
    """Goes up whenever the same numbers below would give other features."""
    sample_rate: int = 16_000
    """Samples per second."""
    n_fft: int = 1024
    """Samples in a frame (64 ms)."""
    hop: int = 500
    """Samples between the starts of two frames (31.25 ms; 48 of them are 1.5 s exactly)."""
    n_mels: int = 64
    """Mel bands."""
    mel_min_hz: float = 50.0
    """Lower edge of the first band."""
    mel_max_hz: float = 7_600.0
    """Upper edge of the last band: codecs and cheap microphones leave nothing above."""
    floor: float = 1e-8
    """Mel power added before the logarithm: below what the last bit of 16-bit audio makes."""
    n_frames: int = 94
    """Frames in a window: all that fit into 3 s."""

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if self.version != FEATURES_VERSION:
            raise FieldError("features.version", f"is {self.version}, this code computes {FEATURES_VERSION}")
        if not 0 < self.hop <= self.n_fft:
            raise FieldError("features.hop", f"is {self.hop}, expected 1 to n_fft = {self.n_fft}")
        if not 0 <= self.mel_min_hz < self.mel_max_hz <= self.sample_rate / 2:
            raise FieldError(
                "features.mel_max_hz",
                f"the band {self.mel_min_hz:g} to {self.mel_max_hz:g} Hz is not inside 0 to {self.sample_rate / 2:g}",
            )

    @property
    def window_samples(self) -> int:
        """Samples that one window covers, rounded up to whole hops: 48,000 (3 s) by default."""
        span = (self.n_frames - 1) * self.hop + self.n_fft
        return -(-span // self.hop) * self.hop

    @property
    def digest(self) -> str:
        """Return a short hash over every parameter; equal digests mean equal features."""
        real = {name: float(getattr(self, name)) for name in ("mel_min_hz", "mel_max_hz", "floor")}  # 50 is 50.0
        text = json.dumps(asdict(self) | real, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def parse(cls, fields: Fields) -> "FeatureConfig":
        """Read a manifest's `features`; FieldError names what is wrong."""
        config = cls(
            version=fields.integer("version", 1, 1_000),
            sample_rate=fields.integer("sample_rate", 8_000, 48_000),
            n_fft=fields.integer("n_fft", 64, 8_192),
            hop=fields.integer("hop", 16, 8_192),
            n_mels=fields.integer("n_mels", 8, 256),
            mel_min_hz=fields.number("mel_min_hz", 0, 24_000),
            mel_max_hz=fields.number("mel_max_hz", 1, 24_000),
            floor=fields.number("floor", 1e-12, 1e-2),
            n_frames=fields.integer("n_frames", 8, 2_000),
        )
        fields.done()
        return config


def mel_from_hz(frequency_hz: Float64 | float) -> Float64:
    """Return mels on the HTK scale (O'Shaughnessy 1987)."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(frequency_hz) / 700.0))


def hz_from_mel(mel: Float64 | float) -> Float64:
    """Return hertz from mels on the HTK scale."""
    return np.asarray(700.0 * (10.0 ** (np.asarray(mel) / 2595.0) - 1.0))


@functools.cache
def mel_centres_hz(config: FeatureConfig) -> Float64:
    """Return the centre of each mel band in hertz, shape (n_mels,): the frequency axis of a picture."""
    edges = np.linspace(mel_from_hz(config.mel_min_hz), mel_from_hz(config.mel_max_hz), config.n_mels + 2)
    return hz_from_mel(edges)[1:-1]


@functools.cache
def mel_filters(config: FeatureConfig) -> Float32:
    """Return triangular filters of peak 1, shape (n_fft // 2 + 1, n_mels)."""
    bins_hz = np.arange(config.n_fft // 2 + 1) * (config.sample_rate / config.n_fft)
    edges_hz = hz_from_mel(
        np.linspace(mel_from_hz(config.mel_min_hz), mel_from_hz(config.mel_max_hz), config.n_mels + 2)
    )
    rising = (bins_hz[:, None] - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    falling = (edges_hz[2:] - bins_hz[:, None]) / (edges_hz[2:] - edges_hz[1:-1])
    filters = np.minimum(rising, falling).clip(0.0, None)  # (n_bins, n_mels)
    return filters.astype(np.float32)


@functools.cache
def _taper(config: FeatureConfig) -> Float64:
    """Return the periodic Hann taper, shape (n_fft,)."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(config.n_fft) / config.n_fft)


def frame_count(n_samples: int, config: FeatureConfig) -> int:
    """Return how many complete frames `n_samples` hold."""
    return max(0, (n_samples - config.n_fft) // config.hop + 1)


def framed(samples: Float32, size: int, hop: int) -> Float32:
    """Return every complete stretch of so many samples as a row of a view, shape (..., n_stretches, size).

    What NumPy's `sliding_window_view` followed by a slice returns, for a tenth of its cost: that was as long as the
    transforms themselves for the few frames of a gate's cell.

    Args:
        samples: shape (..., n_samples).
        size: samples of a stretch.
        hop: samples between the beginnings of two.
    """
    samples = np.ascontiguousarray(samples)
    *above, n_samples = samples.shape
    shape = (*above, max(0, (n_samples - size) // hop + 1), size)
    strides = (*samples.strides[:-1], hop * samples.itemsize, samples.itemsize)
    return np.ndarray(shape, samples.dtype, samples, strides=strides)


def log_mel(samples: Float32, config: FeatureConfig) -> Float32:
    """Return the natural logarithm of mel power of every complete frame.

    Args:
        samples: shape (n_samples,), float32 in [-1, 1], at config.sample_rate.
        config: the recipe.

    Returns:
        Shape (n_frames, n_mels), float32, time first. Samples after the last complete frame are unused.
    """
    n_frames = frame_count(len(samples), config)
    mels = np.empty((n_frames, config.n_mels), np.float32)
    if n_frames == 0:
        return mels
    frames = framed(samples, config.n_fft, config.hop)  # (n_frames, n_fft)
    for start in range(0, n_frames, _CHUNK_FRAMES):
        # float64: in single precision the rounding noise of one loud bin drowns the quiet bands beside it
        spectrum = np.fft.rfft(frames[start : start + _CHUNK_FRAMES] * _taper(config))  # (n_chunk, n_bins)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        mels[start : start + len(power)] = power.astype(np.float32) @ mel_filters(config)
    logs: Float32 = np.log(mels + np.float32(config.floor))
    return logs


def coarser(frames: Float32, count: int) -> Float32:
    """Return so many frames as one, their mean; what is left over at the end is one as well.

    Args:
        frames: shape (n_frames, n_mels), natural-log mel power.
        count: 1 or more.

    Returns:
        Shape (ceil(n_frames / count), n_mels).
    """
    starts = np.arange(0, len(frames), count)
    sizes = np.diff(np.append(starts, len(frames)))
    means: Float32 = (np.add.reduceat(frames, starts, axis=0) / sizes[:, None]).astype(np.float32)
    return means


def window_features(frames: Float32) -> Float32:
    """Return one window as the model sees it: its log-mel less its own mean, same shape.

    Args:
        frames: shape (..., n_frames, n_mels), natural-log mel power.
    """
    means = frames.mean(axis=(-2, -1), keepdims=True, dtype=np.float64)
    centred: Float32 = (frames - means).astype(np.float32)
    return centred


class LogMelStream:
    """The streaming form of `log_mel`: a frame is computed once however windows overlap, and only if asked for.

    Memory is bounded: two windows of samples and one of frames.
    """

    def __init__(self, config: FeatureConfig, start: int = 0) -> None:
        """Begin at a sample clock; frames lie at whole hops from it."""
        self._config = config
        self.reset(start)

    def reset(self, start: int) -> None:
        """Forget the history: what comes next begins at this sample clock and does not follow what came before."""
        self._samples = np.empty(0, np.float32)
        self._samples_start = start
        self._frames = np.empty((0, self._config.n_mels), np.float32)
        self._frames_start = start

    def push(self, samples: Float32) -> None:
        """Append samples."""
        self._samples = np.concatenate([self._samples, samples])

    def window(self, start: int) -> Float32:
        """Return the log-mel of the window that begins at this sample clock, shape (n_frames, n_mels).

        Its samples must have been pushed; a window may not begin before the last one did, and lies at a whole hop
        from the start of the stream.
        """
        config = self._config
        kept = self._frames[(start - self._frames_start) // config.hop :]  # empty if the last window ended before
        first_missing = start + len(kept) * config.hop
        end = start + (config.n_frames - 1) * config.hop + config.n_fft
        fresh = log_mel(self._samples[first_missing - self._samples_start : end - self._samples_start], config)
        self._frames = np.concatenate([kept, fresh])
        self._frames_start = start
        return self._frames

    def forget(self, before: int) -> None:
        """Let go of samples before this sample clock: no later window begins there."""
        n_old = min(before - self._samples_start, len(self._samples))  # windows may lie apart
        if n_old > 0:
            self._samples = self._samples[n_old:]  # a view: the next push copies what is left of it
            self._samples_start += n_old

    def samples(self, start: int, end: int) -> Float32:
        """Return the samples between two sample clocks, as far as they are still held."""
        return self._samples[max(0, start - self._samples_start) : max(0, end - self._samples_start)]
