"""Any sample rate to 16 kHz: a streaming polyphase filter in NumPy.

A Kaiser-windowed sinc (stop band 80 dB down), evaluated only where an output sample lies. All phases of a ratio like
160/441 stand side by side in one matrix, so that a block of output is one matrix product: ten times faster than
sample by sample. The filter's own delay is taken out: output sample n is the sound at n / to_hz.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_STOP_BAND_DB = 80.0
_PASS_SHARE = 0.9
"""Of the lower Nyquist frequency; the transition takes the rest."""
_BLOCK_OUTPUTS = 64
"""As few outputs in a product as keep the matrix unit busy."""


@dataclass(frozen=True, slots=True)
class _Bank:
    """The filter, laid out for blocks."""

    matrix: Float32
    """Shape (n_inputs, n_outputs): a stretch of input to a block of output."""
    half: int
    """Input samples that the filter reaches to either side."""
    advance: int
    """Input samples from one block to the next."""


@functools.cache
def _bank(up: int, down: int) -> _Bank:
    n_blocks = max(1, -(-_BLOCK_OUTPUTS // up))
    n_outputs, advance = up * n_blocks, down * n_blocks
    cutoff = min(1.0, up / down)  # of the input's Nyquist frequency
    # Kaiser's formulas: length and shape for the stop band and the width of the transition
    half = math.ceil((_STOP_BAND_DB - 7.95) / (2.285 * math.pi * (1.0 - _PASS_SHARE) * cutoff) / 2)
    beta = 0.1102 * (_STOP_BAND_DB - 8.7)
    middle = cutoff * (1.0 + _PASS_SHARE) / 2
    inputs = np.arange(advance + 2 * half + 1)[:, None] - half
    offsets = inputs - np.arange(n_outputs)[None, :] * (down / up)  # (n_inputs, n_outputs), in input samples
    window = np.i0(beta * np.sqrt((1.0 - np.square(offsets / (half + 1))).clip(0.0, None))) / np.i0(beta)
    matrix = np.where(np.abs(offsets) <= half, middle * np.sinc(middle * offsets) * window, 0.0)
    matrix /= matrix.sum(axis=0)  # every phase passes a constant unchanged
    return _Bank(matrix.astype(np.float32), half, advance)


class Resampler:
    """Blocks at one rate in, blocks at another out; the sizes of the blocks do not matter."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        """Begin with silence behind."""
        common = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // common, from_hz // common
        self._same = self._up == self._down
        self._n_in = self._n_out = 0
        if not self._same:
            self._bank = _bank(self._up, self._down)
            self._pending = np.zeros(self._bank.half, np.float32)

    def push(self, samples: Float32) -> Float32:
        """Return the output that these samples complete; shape (n,), float32."""
        if self._same:
            return samples
        self._n_in += len(samples)
        self._pending = np.concatenate([self._pending, samples])
        bank = self._bank
        n_blocks = (len(self._pending) - len(bank.matrix)) // bank.advance + 1
        if n_blocks <= 0:
            return np.empty(0, np.float32)
        stretches = np.lib.stride_tricks.sliding_window_view(self._pending, len(bank.matrix))[:: bank.advance]
        out: Float32 = (stretches[:n_blocks] @ bank.matrix).ravel()  # (n_blocks * n_outputs,)
        self._pending = self._pending[n_blocks * bank.advance :].copy()
        self._n_out += len(out)
        return out

    def flush(self) -> Float32:
        """Return what is still to come, as if silence followed: as many samples as the input lasted, in all."""
        if self._same:
            return np.empty(0, np.float32)
        n_left = -(-self._n_in * self._up // self._down) - self._n_out
        tail = self.push(np.zeros(len(self._bank.matrix) + self._bank.advance, np.float32))
        return tail[: max(n_left, 0)]
