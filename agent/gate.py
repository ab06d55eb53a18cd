"""Is this window worth the model's time?

A motor lasts; a bird, a branch, a gust mostly do not. So the gate looks at cells of half a second, measures some
bands against a noise floor, and opens where one band stays above its floor for two and a half seconds on end. Where
WebRTC's voice detector (mode 2) agrees that something is there, half a second and half a decibel less will do: alone
it would pass most of a forest and lose one weak saw in ten (docs/decisions.md has the table). Without `webrtcvad` the
bands decide alone.

The floor is a low quantile of the last twenty seconds: it follows a forest that grows loud or quiet within half a
minute, and does not follow at all while the model leans to a saw, so that a steady saw cannot make itself the floor.
One closed window in N is classified all the same, so that what the gate costs is known.
"""

import functools
import importlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from agent.errors import FieldError
from agent.features import framed
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
    """Consecutive voiced frames of 30 ms that make a cell a voiced one."""
    rise_db: float = 4.0
    """Decibels above its noise floor that some band needs..."""
    rise_cells: int = 5
    """...in this many cells (of half a second) on end."""
    voiced_rise_db: float = 3.0
    """The same where the voice detector agrees..."""
    voiced_cells: int = 4
    """...with its own number of cells."""
    band_min_hz: float = 100.0
    """Lowest frequency looked at: below is wind."""
    band_max_hz: float = 4_000.0
    """Highest frequency looked at: above are insects, and a far saw has nothing there."""
    n_bands: int = 10
    """Bands between the two, equal on a logarithmic scale."""
    floor_history_s: float = 20.0
    """Seconds of which the noise floor is..."""
    floor_quantile: float = 0.35
    """...this quantile, band by band."""
    warm_up_s: float = 10.0
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
        if _band_edges(self)[-1] > round(self.band_max_hz * _BAND_FFT / SAMPLE_RATE):
            raise FieldError(
                "n_bands", f"is {self.n_bands}, too many between {self.band_min_hz:g} and {self.band_max_hz:g} Hz"
            )

    @classmethod
    def parse(cls, fields: Fields) -> "GateConfig":
        """Read a manifest's `gate`; FieldError names what is wrong."""
        config = cls(
            vad_mode=fields.integer("vad_mode", 0, 3),
            vad_frames=fields.integer("vad_frames", 1, 16),
            rise_db=fields.number("rise_db", 0, 60),
            rise_cells=fields.integer("rise_cells", 1, 20),
            voiced_rise_db=fields.number("voiced_rise_db", 0, 60),
            voiced_cells=fields.integer("voiced_cells", 1, 20),
            band_min_hz=fields.number("band_min_hz", 20, 8_000),
            band_max_hz=fields.number("band_max_hz", 20, 8_000),
            n_bands=fields.integer("n_bands", 1, 32),
            floor_history_s=fields.number("floor_history_s", 5, 3_600),
            floor_quantile=fields.number("floor_quantile", 0, 1),
            warm_up_s=fields.number("warm_up_s", 0, 3_600),
            hang_over_s=fields.number("hang_over_s", 0, 60),
            sample_every=fields.integer("sample_every", 1, 10_000),
        )
        fields.done()
        return config


def _band_edges(config: GateConfig) -> NDArray[np.intp]:
    """Return the first spectrum bin of each band and the one behind the last, rising by at least one."""
    edges_hz = np.geomspace(config.band_min_hz, config.band_max_hz, config.n_bands + 1)
    edges = np.rint(edges_hz * _BAND_FFT / SAMPLE_RATE).astype(np.intp)
    steps = np.arange(len(edges))
    spread: NDArray[np.intp] = np.maximum.accumulate(edges - steps) + steps
    return spread


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
        self.reset()

    def reset(self) -> None:
        """Begin anew: a run does not span lost audio."""
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
    """Levels of a few bands over a floor that is what they mostly are."""

    def __init__(self, config: GateConfig) -> None:
        """Lay out the bands; no floor is known yet."""
        self._edges = _band_edges(config)
        self._widths = np.diff(self._edges)
        self._taper = np.hanning(_BAND_FFT).astype(np.float32)
        self._hop = (_CELL - _BAND_FFT) // (_BAND_HOPS - 1)
        cell_s = _CELL / SAMPLE_RATE
        self._n_warm_up = max(1, round(config.warm_up_s / cell_s))
        self._quantile = config.floor_quantile
        n_history = max(self._n_warm_up, round(config.floor_history_s / cell_s))
        self._history = np.empty((n_history, config.n_bands))
        self._n_heard = 0
        self.held = False
        """While it is held the floor stays as it is: a steady saw must not become it."""

    def above_db(self, levels_db: Float64) -> Float64 | None:
        """Return by how much each band of a cell stands over its floor, shape (n_bands,); the floor follows then.

        None while the first cells are still being heard.
        """
        above_db = None if self._n_heard < self._n_warm_up else levels_db - self._floor_db()
        if not self.held or above_db is None:
            self._history[self._n_heard % len(self._history)] = levels_db
            self._n_heard += 1
        return above_db

    def _floor_db(self) -> Float64:
        known = self._history[: self._n_heard]  # all of it once the ring is full
        rank = int(self._quantile * (len(known) - 1))
        floor_db: Float64 = np.partition(known, rank, axis=0)[rank]
        return floor_db

    def levels_db(self, cells: Float32) -> Float64:
        """Return decibels per band of each cell, shape (n_cells, n_bands), from cells of shape (n_cells, samples)."""
        frames = framed(cells, _BAND_FFT, self._hop)  # (n_cells, n_frames, samples)
        spectrum = np.fft.rfft(frames * self._taper)  # (n_cells, n_frames, n_bins)
        power = (np.square(spectrum.real) + np.square(spectrum.imag)).mean(axis=1)  # (n_cells, n_bins)
        sums: Float64 = np.add.reduceat(power, self._edges, axis=1)[:, :-1]
        levels_db: Float64 = 10.0 * np.log10(sums / self._widths + 1e-9)
        return levels_db


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
        self._recent: deque[Float64] = deque(maxlen=max(config.rise_cells, config.voiced_cells))
        self._openings: deque[int] = deque()
        self._closed = 0
        self._hang_over = round(config.hang_over_s * SAMPLE_RATE)
        self._start = 0

    @property
    def kind(self) -> str:
        """Return which ingredients run, for the journal."""
        return "bands" if self._runs is None else f"webrtc-{self._config.vad_mode}+bands"

    def reset(self, start: int) -> None:
        """Audio was lost: cells begin anew at this sample clock; the floor stays."""
        self._pending = np.empty(0, np.float32)
        self._recent.clear()
        if self._runs is not None:
            self._runs.reset()
        self._start = start

    def hold(self, *, held: bool) -> None:
        """Say whether the model leans to what is alerted: the noise floor stays where it is then."""
        self._bands.held = held

    def push(self, samples: Float32) -> None:
        """Look at the cells that these samples complete."""
        pending = np.concatenate([self._pending, samples]) if len(self._pending) else samples
        n_cells = len(pending) // _CELL
        cells = pending[: n_cells * _CELL].reshape(n_cells, _CELL)
        for cell, levels_db in zip(cells, self._bands.levels_db(cells), strict=True):
            self._look(cell, levels_db)
        self._pending = pending[n_cells * _CELL :].copy()

    def _look(self, cell: Float32, levels_db: Float64) -> None:
        config = self._config
        above_db = self._bands.above_db(levels_db)
        voiced = self._runs is not None and self._runs.voiced(cell)
        self._start += len(cell)
        if above_db is None:
            self._openings.append(self._start)  # no floor is known yet: everything passes
            return
        self._recent.append(above_db)
        if self._lasts(config.rise_cells, config.rise_db) or (
            voiced and self._lasts(config.voiced_cells, config.voiced_rise_db)
        ):
            self._openings.append(self._start)

    def _lasts(self, n_cells: int, rise_db: float) -> bool:
        """Say whether one band stood this high over its floor in each of the last cells."""
        if len(self._recent) < n_cells:
            return False
        lasting_db = functools.reduce(np.minimum, list(self._recent)[-n_cells:])  # (n_bands,)
        return bool(lasting_db.max() >= rise_db)

    def verdict(self, start: int, end: int) -> GateVerdict:
        """Return what to do with the window between these sample clocks.

        All cells of the window must have been pushed; later ones do not count, so that the verdict does not depend
        on how the audio was cut into blocks. No later window may begin before this one.
        """
        # a cell that opened must reach into the window, or end within the hang-over before it
        while self._openings and self._openings[0] <= start - self._hang_over:
            self._openings.popleft()
        if self._openings and self._openings[0] <= end:
            return GateVerdict(passes=True)
        self._closed += 1
        sampled = self._closed % self._config.sample_every == 0
        return GateVerdict(passes=sampled, sampled=sampled)
