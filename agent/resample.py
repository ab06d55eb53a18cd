"""Any sample rate to 16 kHz: a streaming polyphase filter in NumPy.

A Kaiser-windowed sinc (stop band 80 dB down), evaluated only where an output sample lies. All phases of a ratio like
160/441 stand side by side in one matrix, so that a block of output is one matrix product: ten times faster than
sample by sample. The filter's own delay is taken out: output sample n is the sound at n / to_hz.

Odd rates (22,255 Hz, or what a damaged header says) have thousands of phases, and such a matrix would fill the
memory: for them the filter is a table, with linear interpolation between its rows.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_STOP_BAND_DB = 80.0
_PASS_SHARE = 0.9
"""Of the lower Nyquist frequency; the transition takes the rest."""
_BLOCK_OUTPUTS = 64
"""As few outputs in a product as keep the matrix unit busy."""
_LARGEST_MATRIX = 1_000_000
"""Numbers in a matrix: 4 MB."""
_TABLE_STEPS = 512
"""Rows to an input sample: interpolation between them is wrong by less than the stop band lets through."""
_TABLE_OUTPUTS = 1_024
"""Outputs in one go, to bound the memory."""


def _half_width(cutoff: float) -> int:
    """Return how many input samples the filter reaches to either side: Kaiser's formula for its length."""
    return math.ceil((_STOP_BAND_DB - 7.95) / (2.285 * math.pi * (1.0 - _PASS_SHARE) * cutoff) / 2)


def _kernel(offsets: Float64, cutoff: float) -> Float64:
    """Return the filter at distances in input samples, same shape; `cutoff` is a share of the input's Nyquist."""
    half, beta = _half_width(cutoff), 0.1102 * (_STOP_BAND_DB - 8.7)
    middle = cutoff * (1.0 + _PASS_SHARE) / 2
    window = np.i0(beta * np.sqrt((1.0 - np.square(offsets / (half + 1))).clip(0.0, None))) / np.i0(beta)
    return np.where(np.abs(offsets) <= half, middle * np.sinc(middle * offsets) * window, 0.0)


@dataclass(frozen=True, slots=True)
class _Matrix:
    """The filter of a ratio with few phases, laid out for blocks."""

    weights: Float32
    """Shape (n_inputs, n_outputs): a stretch of input to a block of output."""
    advance: int
    """Input samples from one block to the next."""

    @property
    def reach(self) -> int:
        """Return how many samples of silence bring out all that is held."""
        return len(self.weights) + self.advance

    def outputs(self, pending: Float32, phase: int) -> tuple[Float32, int, int]:
        """Return the outputs that these inputs give, the inputs that are done with, and the next phase."""
        n_blocks = max(0, (len(pending) - len(self.weights)) // self.advance + 1)
        if n_blocks == 0:
            return np.empty(0, np.float32), 0, phase
        stretches = np.lib.stride_tricks.sliding_window_view(pending, len(self.weights))[:: self.advance]
        out: Float32 = (stretches[:n_blocks] @ self.weights).ravel()  # (n_blocks * n_outputs,)
        return out, n_blocks * self.advance, phase


@dataclass(frozen=True, slots=True)
class _Table:
    """The filter of a ratio with many phases, at steps between two input samples."""

    weights: Float32
    """Shape (_TABLE_STEPS + 1, n_taps)."""
    up: int
    down: int

    @property
    def reach(self) -> int:
        """Return how many samples of silence bring out all that is held."""
        return int(self.weights.shape[1]) + self.down // self.up + 1

    def outputs(self, pending: Float32, phase: int) -> tuple[Float32, int, int]:
        """Return the outputs that these inputs give, the inputs that are done with, and the next phase.

        The phase is how far the next output lies behind its input sample, in parts of `up`.
        """
        n_taps = self.weights.shape[1]
        n_out = max(0, -(-((len(pending) - n_taps + 1) * self.up - phase) // self.down))
        out = np.empty(n_out, np.float32)
        for first in range(0, n_out, _TABLE_OUTPUTS):
            idxs = np.arange(first, min(first + _TABLE_OUTPUTS, n_out), dtype=np.int64)
            starts, rests = np.divmod(phase + idxs * self.down, self.up)
            rows, shares = np.divmod(rests * (_TABLE_STEPS / self.up), 1.0)
            rows, shares = rows.astype(np.int64), shares.astype(np.float32)[:, None]
            weights = self.weights[rows] * (1 - shares) + self.weights[rows + 1] * shares  # (n_chunk, n_taps)
            stretches = np.lib.stride_tricks.sliding_window_view(pending, n_taps)[starts]
            out[first : first + len(idxs)] = np.einsum("ij,ij->i", stretches, weights)
        n_done, phase = divmod(phase + n_out * self.down, self.up)
        return out, n_done, phase


@functools.lru_cache(maxsize=8)
def _filter(up: int, down: int) -> _Matrix | _Table:
    """Return the filter of a ratio in lowest terms."""
    cutoff = min(1.0, up / down)
    half = _half_width(cutoff)
    n_blocks = max(1, -(-_BLOCK_OUTPUTS // up))
    n_outputs, advance = up * n_blocks, down * n_blocks
    n_inputs = advance + 2 * half + 1
    if n_inputs * n_outputs > _LARGEST_MATRIX:
        taps = np.arange(2 * half + 2)[None, :] - half
        table = _kernel(taps - np.arange(_TABLE_STEPS + 1)[:, None] / _TABLE_STEPS, cutoff)
        table /= table.sum(axis=1, keepdims=True)
        return _Table(table.astype(np.float32), up, down)
    inputs = np.arange(n_inputs)[:, None] - half
    matrix = _kernel(inputs - np.arange(n_outputs)[None, :] * (down / up), cutoff)
    matrix /= matrix.sum(axis=0)  # every phase passes a constant unchanged
    return _Matrix(matrix.astype(np.float32), advance)


class Resampler:
    """Blocks at one rate in, blocks at another out; the sizes of the blocks do not matter."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        """Begin with silence behind."""
        common = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // common, from_hz // common
        self._same = self._up == self._down
        self._n_in = self._n_out = self._phase = 0
        if not self._same:
            self._filter = _filter(self._up, self._down)
            self._pending = np.zeros(_half_width(min(1.0, self._up / self._down)), np.float32)

    def push(self, samples: Float32) -> Float32:
        """Return the output that these samples complete; shape (n,), float32."""
        if self._same:
            return samples
        self._n_in += len(samples)
        pending = np.concatenate([self._pending, samples])
        out, n_done, self._phase = self._filter.outputs(pending, self._phase)
        self._pending = pending[n_done:].copy()
        self._n_out += len(out)
        return out

    def flush(self) -> Float32:
        """Return what is still to come, as if silence followed: as many samples as the input lasted, in all."""
        if self._same:
            return np.empty(0, np.float32)
        n_left = -(-self._n_in * self._up // self._down) - self._n_out
        tail = self.push(np.zeros(self._filter.reach, np.float32))
        return tail[: max(n_left, 0)]
