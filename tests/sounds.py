"""What a sound is, measured apart from the code that made it."""

import numpy as np
from numpy.typing import NDArray

from agent.acoustics import SAMPLE_RATE

Float32 = NDArray[np.float32]


def level_dbfs(samples: Float32, low_hz: float = 60.0, high_hz: float = 8_000.0) -> float:
    """Measure the RMS level in a band, apart from the code under test."""
    power = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(len(samples), 1.0 / SAMPLE_RATE)
    inside = power[(hz >= low_hz) & (hz < high_hz)].sum()
    return float(10.0 * np.log10(max(2.0 * inside / len(samples) ** 2, 1e-12)))


def rhythm(samples: Float32, low_hz: float, high_hz: float) -> tuple[float, float]:
    """Find the strongest rhythm between two rates: (rate in hertz, autocorrelation 0 to 1).

    The spectrum is flattened first, else coloured noise correlates with itself; only what lies below 700 Hz counts,
    else a whistle does.
    """
    spectrum = np.fft.rfft(samples.astype(np.float64))
    hz = np.fft.rfftfreq(len(samples), 1.0 / SAMPLE_RATE)
    width = round(400 * len(samples) / SAMPLE_RATE)
    power = np.abs(spectrum) ** 2
    smooth = np.convolve(power, np.full(width, 1.0 / width), "same")
    flat = power / (smooth + 1e-12) * ((hz > 60.0) & (hz < 700.0))
    correlation = np.fft.irfft(flat)
    correlation /= correlation[0]
    lags = np.arange(int(SAMPLE_RATE / high_hz), int(SAMPLE_RATE / low_hz) + 1)
    best = lags[np.argmax(correlation[lags])]
    return SAMPLE_RATE / float(best), float(correlation[best])
