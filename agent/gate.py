"""Is this window worth the model's time?

Two ingredients look at cells of half a second. WebRTC's voice detector, in its mode 2, hears most motors and lets
much wind and rain pass by; a band-energy detector wants some low band above a noise floor. A cell in which both
agree opens the gate for every window that it touches, and for a hang-over behind it, so that a short sound still
fills k of n windows. Without `webrtcvad` the bands decide alone. The floor falls fast and rises by fractions of
a decibel a minute: a steady saw cannot make itself the floor. One closed window in N is classified all the same,
so that what the gate costs is known.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from agent.errors import FieldError
from agent.fields import Fields

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

SAMPLE_RATE = 16_000
_VAD_FRAME = 480  # 30 ms, the longest that WebRTC's detector takes
_BAND_FFT = 1024
_BAND_HOPS = 4  # frames of 64 ms looked at in each cell
_CELL = 8_000  # half a second


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """When the gate opens. Evaluation measures what it costs; the manifest carries it."""

    vad_mode: int = 2
    """WebRTC aggressiveness 0-3; mode 3 loses a third of the saws under 0 dB."""
    vad_frames: int = 5
    """Consecutive voiced frames of 30 ms that count as an opening."""
    rise_db: float = 3.0
    """Decibels above its noise floor that some band needs."""
    band_min_hz: float = 100.0
    """Lowest frequency looked at: below is wind."""
    band_max_hz: float = 2_000.0
    """Highest frequency looked at: above are birds and insects, and a far saw has nothing there."""
    n_bands: int = 8
    """Bands between the two, equal on a logarithmic scale."""
    floor_fall_db_s: float = 0.5
    """Decibels per second by which the floor follows a quieter forest."""
    floor_rise_db_min: float = 0.25
    """Decibels per minute by which it follows a louder one."""
    warm_up_s: float = 20.0
    """Seconds after the start in which everything passes: no floor is known yet."""
    hang_over_s: float = 1.5
    """Seconds for which windows stay open behind the last opening cell they touch."""
    sample_every: int = 20
    """One in this many closed windows is classified all the same."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.band_min_hz >= self.band_max_hz:
            raise FieldError(
                "band_max_hz", f"is {self.band_max_hz:g}, expected above band_min_hz = {self.band_min_hz:g}"
            )

    @classmethod
    def parse(cls, fields: Fields) -> "GateConfig":
        """Read a manifest's `gate`; FieldError names what is wrong."""
        config = cls(
            vad_mode=fields.integer("vad_mode", 0, 3),
            vad_frames=fields.integer("vad_frames", 1, 16),
            rise_db=fields.number("rise_db", 0, 60),
            band_min_hz=fields.number("band_min_hz", 20, 8_000),
            band_max_hz=fields.number("band_max_hz", 20, 8_000),
            n_bands=fields.integer("n_bands", 1, 32),
            floor_fall_db_s=fields.number("floor_fall_db_s", 0.01, 100),
            floor_rise_db_min=fields.number("floor_rise_db_min", 0, 60),
            warm_up_s=fields.number("warm_up_s", 0, 3_600),
            hang_over_s=fields.number("hang_over_s", 0, 60),
            sample_every=fields.integer("sample_every", 1, 10_000),
        )
        fields.done()
        return config


class Vad(Protocol):
    """WebRTC's voice detector."""

    def is_speech(self, buf: bytes, sample_rate: int) -> bool:
        """Say whether a frame of 10, 20 or 30 ms of int16 is voiced."""
        ...


def webrtc_vad(mode: int) -> Vad | None:
    """Return the detector, or None where the package is missing or broken: the bands then decide alone."""
    try:
        module = importlib.import_module("webrtcvad")
    except ImportError:
        return None
    return cast("Callable[[int], Vad]", module.Vad)(mode)


class VoicedRuns:
    """Finds cells that hold a run of voiced frames."""

    def __init__(self, vad: Vad, run_frames: int) -> None:
        """Count runs of `run_frames` frames of 30 ms."""
        self._vad = vad
        self._run_frames = run_frames
        self._pending = b""
        self._run = 0

    def voiced(self, cell: Float32) -> bool:
        """Say whether a run of voiced frames reached its length within this cell's samples."""
        pcm = (cell * np.float32(32_767.0)).clip(-32_768, 32_767).astype("<i2").tobytes()
        pending = self._pending + pcm
        is_speech, run, reached = self._vad.is_speech, self._run, False
        whole = len(pending) - len(pending) % (2 * _VAD_FRAME)
        for start in range(0, whole, 2 * _VAD_FRAME):
            run = run + 1 if is_speech(pending[start : start + 2 * _VAD_FRAME], SAMPLE_RATE) else 0
            reached = reached or run >= self._run_frames
        self._pending, self._run = pending[whole:], run
        return reached


class BandRise:
    """Levels of a few bands over a floor that is quick to fall and slow to rise."""

    def __init__(self, config: GateConfig) -> None:
        """Lay out the bands; the floor is the first cell."""
        self._config = config
        edges_hz = np.geomspace(config.band_min_hz, config.band_max_hz, config.n_bands + 1)
        edges = np.rint(edges_hz * _BAND_FFT / SAMPLE_RATE).astype(np.intp)
        self._starts = edges[:-1]
        self._widths = np.maximum(np.diff(edges), 1)
        self._taper = np.hanning(_BAND_FFT).astype(np.float32)
        self._hop = (_CELL - _BAND_FFT) // (_BAND_HOPS - 1)
        cell_s = _CELL / SAMPLE_RATE
        self._fall_db = config.floor_fall_db_s * cell_s
        self._rise_db = config.floor_rise_db_min * cell_s / 60.0
        self.floor_db: Float64 | None = None
        """Decibels per band, shape (n_bands,)."""

    def rise_db(self, cell: Float32) -> float:
        """Return by how much the highest band stands over its floor, and let the floor follow."""
        levels_db = self._levels_db(cell)
        if self.floor_db is None:
            self.floor_db = levels_db
        above_db = levels_db - self.floor_db
        self.floor_db = self.floor_db + above_db.clip(-self._fall_db, self._rise_db)
        return float(above_db.max())

    def _levels_db(self, cell: Float32) -> Float64:
        frames = np.lib.stride_tricks.sliding_window_view(cell, _BAND_FFT)[:: self._hop]  # (n_hops, n_fft)
        spectrum = np.fft.rfft(frames * self._taper)
        power = (np.square(spectrum.real) + np.square(spectrum.imag)).mean(axis=0)  # (n_bins,)
        sums = np.add.reduceat(power, np.append(self._starts, self._starts[-1] + self._widths[-1]))[:-1]
        return 10.0 * np.log10(sums / self._widths + 1e-9)


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What the gate says of one window."""

    passes: bool
    """Whether the model is to see it."""
    sampled: bool = False
    """True where the gate was closed and the window passes as one of the forced sample."""


class Gate:
    """Cells in, a verdict per window out."""

    def __init__(self, config: GateConfig, vad: Vad | None) -> None:
        """Start with no floor; `vad` None means that the bands decide alone."""
        self._config = config
        self._runs = None if vad is None else VoicedRuns(vad, config.vad_frames)
        self._bands = BandRise(config)
        self._pending = np.empty(0, np.float32)
        self._heard = 0
        self._last_open: int | None = None
        self._closed = 0
        self._warm_up = round(config.warm_up_s * SAMPLE_RATE)
        self._hang_over = round(config.hang_over_s * SAMPLE_RATE)
        self._start = 0

    @property
    def kind(self) -> str:
        """Return which ingredients run, for the journal."""
        return "bands" if self._runs is None else f"webrtc-{self._config.vad_mode}+bands"

    def reset(self, start: int) -> None:
        """Audio was lost: cells begin anew at this sample clock; the floor and the warm-up stay."""
        self._pending = np.empty(0, np.float32)
        self._start = start

    def push(self, samples: Float32) -> None:
        """Look at the cells that these samples complete."""
        pending = np.concatenate([self._pending, samples]) if len(self._pending) else samples
        n_cells = len(pending) // _CELL
        for cell_idx in range(n_cells):
            self._look(pending[cell_idx * _CELL : (cell_idx + 1) * _CELL])
        self._pending = pending[n_cells * _CELL :].copy()

    def _look(self, cell: Float32) -> None:
        rises = self._bands.rise_db(cell) >= self._config.rise_db
        voiced = self._runs is None or self._runs.voiced(cell)
        self._start += len(cell)
        self._heard += len(cell)
        if (rises and voiced) or self._heard <= self._warm_up:
            self._last_open = self._start

    def verdict(self, window_start: int) -> GateVerdict:
        """Return what to do with the window that begins at this sample clock.

        All cells of the window must have been pushed.
        """
        # the cell that opened must reach into the window, or end within the hang-over before it
        if self._last_open is not None and self._last_open > window_start - self._hang_over:
            return GateVerdict(passes=True)
        self._closed += 1
        sampled = self._closed % self._config.sample_every == 0
        return GateVerdict(passes=sampled, sampled=sampled)
