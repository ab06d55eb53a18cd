"""Where a sound came from, by how loud each device heard it, and how far that may be wrong.

Every place in reach is weighed: how well do the levels fit a source there, of whatever loudness? Microphones are not
calibrated and trees stand in the way, so a level is trusted to a few decibels only; what comes out is an area.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

REACH_M = 1200.0
"""Farthest that a device hears a saw through a forest."""
LEVEL_ERROR_DB = 7.0
"""Spread of a level about what distance says: gains of microphones, trees, wind."""
LOUDNESS_DBFS = 12.0
"""Level of a saw at one metre, if a microphone could take it: 110 dB where full scale is near 95 dB..."""
LOUDNESS_SPREAD_DB = 10.0
"""...and how differently loud saws and microphones are."""
ABSORPTION_DB_PER_M = 0.025
"""Lost in foliage, beyond the spreading of the wave."""

AUDIBLE_DBFS = -49.0
"""About as loud as the forest: below it a device hears nothing..."""
AUDIBLE_SPREAD_DB = 8.0
"""...give or take the forest, the microphone and the trees."""

_EARTH_M = 6_371_000.0
_STEPS = 61
_NEAREST_M = 5.0
_SHARE = 0.9


class Place(NamedTuple):
    """Where something is, degrees."""

    latitude: float
    longitude: float


class Ear(NamedTuple):
    """One device that heard it."""

    place: Place
    level_dbfs: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Where a sound came from."""

    latitude: float
    longitude: float
    radius_m: float
    """It lies within this with a chance of nine in ten, as far as the model of sound holds."""


def metres(one: Place, other: Place) -> float:
    """Return the distance of two places on the sphere."""
    north = math.radians(other.latitude - one.latitude)
    east = math.radians(other.longitude - one.longitude)
    latitudes = math.cos(math.radians(one.latitude)) * math.cos(math.radians(other.latitude))
    chord = math.sin(north / 2) ** 2 + latitudes * math.sin(east / 2) ** 2
    return 2 * _EARTH_M * math.asin(min(1.0, math.sqrt(chord)))


def loss_db(distance_m: Float64) -> Float64:
    """Return how much quieter a sound is than at one metre."""
    near = np.maximum(distance_m, _NEAREST_M)
    return np.asarray(20.0 * np.log10(near) + ABSORPTION_DB_PER_M * near)


@functools.lru_cache(maxsize=4096)
def estimate(ears: tuple[Ear, ...], silent: tuple[Place, ...] = ()) -> Estimate:
    """Return where a sound came from.

    Args:
        ears: at least one device and the level that it measured; each once.
        silent: devices that listened and heard nothing: it was not beside them.
    """
    origin = Place(
        sum(ear.place.latitude for ear in ears) / len(ears), _mean_longitude([ear.place.longitude for ear in ears])
    )
    at = np.array([_plane(ear.place, origin) for ear in ears])  # (n_ears, 2) metres
    levels = np.array([ear.level_dbfs for ear in ears])
    grid, step_m = _grid(at)  # (n_points, 2)
    quiet = np.array([_plane(place, origin) for place in silent]).reshape(-1, 2)
    weights = _weights(grid, at, levels, quiet)
    mean = weights @ grid
    off_m = np.hypot(*(grid - mean).T)
    order = np.argsort(off_m)
    inside = min(int(np.searchsorted(np.cumsum(weights[order]), _SHARE)), len(order) - 1)
    place = _sphere(mean, origin)
    return Estimate(
        latitude=place.latitude,
        longitude=place.longitude,
        radius_m=float(off_m[order[inside]] + step_m / 2),
    )


def _grid(at: Float64) -> tuple[Float64, float]:
    """Return the places in reach of every device, or of as many as there are; shape (n_points, 2), and their step."""
    low, high = at.min(axis=0) - REACH_M, at.max(axis=0) + REACH_M
    span_m = float((high - low).max())
    x = np.linspace(low[0], high[0], _STEPS)
    y = np.linspace(low[1], high[1], _STEPS)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return points, span_m / (_STEPS - 1)


def _distances(grid: Float64, at: Float64) -> Float64:
    """Return the metres from each point to each device, shape (n_points, n_devices)."""
    return np.asarray(np.hypot(grid[:, None, 0] - at[None, :, 0], grid[:, None, 1] - at[None, :, 1]))


def _weights(grid: Float64, at: Float64, levels: Float64, quiet: Float64) -> Float64:
    """Return how likely each place is, summing to 1; the source's own loudness is averaged over."""
    distance_m = _distances(grid, at)
    loudness = levels + loss_db(distance_m) - LOUDNESS_DBFS  # (n_points, n_ears): what each device makes of the source
    n_ears = len(levels)
    # a common unknown among independent errors: the Gaussian integral over it leaves the spread, and the mean's own
    mean = loudness.mean(axis=1)
    spread = ((loudness - mean[:, None]) ** 2).sum(axis=1) / LEVEL_ERROR_DB**2
    common = mean**2 / (LOUDNESS_SPREAD_DB**2 + LEVEL_ERROR_DB**2 / n_ears)
    beyond = np.maximum(distance_m - REACH_M, 0.0).sum(axis=1) / 100.0
    log_weight = -0.5 * (spread + common) - beyond
    # how loud it would be for those that heard nothing, were it here and as loud as the others make it
    prior = LEVEL_ERROR_DB**2 / LOUDNESS_SPREAD_DB**2
    likely = LOUDNESS_DBFS + mean * n_ears / (n_ears + prior)
    over = (likely[:, None] - loss_db(_distances(grid, quiet)) - AUDIBLE_DBFS) / AUDIBLE_SPREAD_DB
    log_weight = log_weight - np.logaddexp(0.0, 2.0 * over).sum(axis=1) / 2.0
    weight = np.exp(log_weight - log_weight.max())
    return np.asarray(weight / weight.sum())


def _mean_longitude(degrees: Sequence[float]) -> float:
    """Return the mean of longitudes that lie together, also across the date line."""
    first = degrees[0]
    return first + sum((each - first + 180.0) % 360.0 - 180.0 for each in degrees) / len(degrees)


def _plane(place: Place, origin: Place) -> tuple[float, float]:
    east = math.radians((place.longitude - origin.longitude + 180.0) % 360.0 - 180.0)
    shrink = max(math.cos(math.radians(origin.latitude)), 1e-6)
    return _EARTH_M * east * shrink, _EARTH_M * math.radians(place.latitude - origin.latitude)


def _sphere(point: Float64, origin: Place) -> Place:
    shrink = max(math.cos(math.radians(origin.latitude)), 1e-6)
    longitude = origin.longitude + math.degrees(float(point[0]) / (_EARTH_M * shrink))
    latitude = origin.latitude + math.degrees(float(point[1]) / _EARTH_M)
    return Place(max(-90.0, min(90.0, latitude)), (longitude + 180.0) % 360.0 - 180.0)
