"""Pictures of sound: the log-mel that an alert carries as a PNG, and where its axes have their marks.

The colours rise evenly in lightness as the eye sees it, so that twice as bright is twice as far above the noise,
in daylight, at night and for the colour-blind.
"""

import functools
import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from agent.alert import LogMelImage
from agent.features import mel_from_hz

UInt8 = NDArray[np.uint8]
Float64 = NDArray[np.float64]

_MARKS_HZ = (100, 500, 1000, 2000, 4000, 7000, 12_000, 20_000)
_CLOSEST_MARKS = 0.1
"""Share of the picture's height that two marks must lie apart."""


def png(image: LogMelImage) -> bytes:
    """Return an alert's log-mel as a PNG, a pixel per value, time to the right and frequency up."""
    steps = image.pixels().astype(np.float64)  # (n_frames, n_mels)
    # a few silent or loud values must not take all the contrast
    low, high = np.percentile(steps, (2.0, 99.7))
    shades = ((steps - low) * (255.0 / max(high - low, 1.0))).clip(0.0, 255.0)
    return indexed_png(np.rint(shades).astype(np.uint8).T[::-1], palette())


def indexed_png(pixels: UInt8, colours: UInt8) -> bytes:
    """Return a PNG of palette indices, shape (height, width), with colours of shape (256, 3)."""
    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits, indexed
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = pixels
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", colours.tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@functools.cache
def palette() -> UInt8:
    """Return 256 colours from night blue over green to pale yellow, shape (256, 3): a line through OKLCH.

    Oklab (Björn Ottosson, 2020) is a space in which equal steps look equal; lightness rises linearly in it.
    """
    t = np.linspace(0.0, 1.0, 256)
    lightness = 0.16 + 0.80 * t
    hue = np.deg2rad(275.0 - 175.0 * t**0.9)
    chroma = 0.05 + 0.10 * np.sin(np.pi * t**0.9)
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )  # (3, 256)
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = (to_linear @ cones**3).clip(0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.ascontiguousarray(np.rint(srgb.T * 255.0).clip(0, 255).astype(np.uint8))


def time_marks(image: LogMelImage) -> list[tuple[float, str]]:
    """Return the marks of the time axis: the share of the width from the left, and seconds as text."""
    length_s = image.n_frames * image.hop_s
    every_s = next((step for step in (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0) if length_s / step <= 5), 60.0)
    return [(n * every_s / length_s, f"{n * every_s:g}") for n in range(math.floor(length_s / every_s) + 1)]


def frequency_marks(image: LogMelImage) -> list[tuple[float, str]]:
    """Return the marks of the frequency axis: the share of the height from the bottom, and kilohertz as text."""
    low, high = float(mel_from_hz(image.mel_min_hz)), float(mel_from_hz(image.mel_max_hz))
    marks: list[tuple[float, str]] = []
    for hz in _MARKS_HZ:
        # band i has its centre at mel low + (i + 1) / (n_mels + 1) of the range, and its pixel at (i + 0.5) / n_mels
        band = (float(mel_from_hz(hz)) - low) / max(high - low, 1e-9) * (image.n_mels + 1) - 1.0
        share = (band + 0.5) / image.n_mels
        if 0.02 <= share <= 0.98 and (not marks or share - marks[-1][0] >= _CLOSEST_MARKS):
            marks.append((share, f"{hz / 1000:g}"))
    return marks
