"""Forests that never were, with known truth: phones on trees, saws, mistakes, storms and broken links.

`demo` shows one, and the measurements of docs/incidents.md are made on many. The sound of these forests follows other
numbers than `locate` believes, drawn anew for each, so that a good result is not its own assumption come back.
"""

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from base_station.incidents import Heard
from base_station.locate import Place, metres

_METRE_DEG = 1 / 111_195.0
CENTRE = Place(-3.1, -60.02)
NOBODY = -1
"""Truth of an alert that nothing caused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForestConfig:
    """How a forest is made."""

    n_devices: int = 200
    spacing_m: float = 400.0
    """Between neighbours; they hang where there is a fit tree, not on a grid."""
    centre: Place = CENTRE
    hours: float = 24.0
    saws_per_hour: float = 0.5
    false_per_device_day: float = 0.05
    storms: int = 0
    outages: int = 0
    label: str = "chainsaw"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Something that really happened."""

    kind: str
    """`saw`, `storm` or `outage`."""
    place: Place
    first_utc: datetime
    last_utc: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Forest:
    """One forest and what its phones reported."""

    devices: dict[str, Place]
    sources: list[Source]
    heard: list[Heard]
    """In the order of arrival."""
    truth: dict[str, int]
    """By alert id: index into `sources`, or NOBODY."""


@dataclass(frozen=True, slots=True)
class _Air:
    """How sound travels in one forest, and what its microphones make of it."""

    absorption_db_per_m: float
    gain_db: dict[str, float]
    background_dbfs: dict[str, float]


def grow(config: ForestConfig, begin_utc: datetime, seed: int) -> Forest:
    """Return a forest, the same for the same seed."""
    rng = np.random.default_rng(seed)
    devices = _devices(config, rng)
    air = _Air(
        float(rng.uniform(0.012, 0.045)),
        {name: float(rng.normal(0, 4)) for name in devices},
        {name: float(rng.normal(-48, 4)) for name in devices},
    )
    sources: list[Source] = []
    reports: list[tuple[int, Heard]] = []
    for _ in range(int(rng.poisson(config.saws_per_hour * config.hours))):
        source = _saw(config, devices, begin_utc, rng)
        reports += [(len(sources), alert) for alert in _hear(source, devices, air, config.label, rng)]
        sources.append(source)
    for _ in range(config.storms):
        source = _storm(config, begin_utc, rng)
        reports += [(len(sources), alert) for alert in _rain(source, devices, config.label, rng)]
        sources.append(source)
    for _ in range(config.outages):
        source = _outage(config, begin_utc, rng)
        reports += [(len(sources), alert) for alert in _held_back(source, devices, config.label, rng)]
        sources.append(source)
    reports += [(NOBODY, alert) for alert in _mistakes(config, devices, begin_utc, rng)]
    reports.sort(key=lambda report: (report[1].received_utc, report[1].alert_id))
    heard = [replace(alert, seq=seq) for seq, (_, alert) in enumerate(reports, start=1)]
    return Forest(
        devices=devices,
        sources=sources,
        heard=heard,
        truth={alert.alert_id: truth for truth, alert in reports},
    )


def _devices(config: ForestConfig, rng: np.random.Generator) -> dict[str, Place]:
    side = math.ceil(math.sqrt(config.n_devices))
    devices: dict[str, Place] = {}
    for idx in range(config.n_devices):
        row, column = divmod(idx, side)
        x, y = ((v - side / 2) * config.spacing_m + rng.normal(0, config.spacing_m / 5) for v in (column, row))
        devices[f"tree-{idx:03d}"] = _moved(config.centre, float(x), float(y))
    return devices


def _moved(place: Place, east_m: float, north_m: float) -> Place:
    shrink = math.cos(math.radians(place.latitude))
    return Place(place.latitude + north_m * _METRE_DEG, place.longitude + east_m * _METRE_DEG / shrink)


def _some_time(config: ForestConfig, begin_utc: datetime, rng: np.random.Generator) -> datetime:
    return begin_utc + timedelta(hours=float(rng.uniform(0, config.hours)))


def _saw(config: ForestConfig, devices: dict[str, Place], begin_utc: datetime, rng: np.random.Generator) -> Source:
    near = list(devices.values())[int(rng.integers(len(devices)))]
    spread = config.spacing_m
    begin = _some_time(config, begin_utc, rng)
    return Source(
        kind="saw",
        place=_moved(near, float(rng.uniform(-spread, spread)), float(rng.uniform(-spread, spread))),
        first_utc=begin,
        last_utc=begin + timedelta(minutes=float(rng.uniform(1, 25))),
    )


def _hear(
    source: Source, devices: dict[str, Place], air: _Air, label: str, rng: np.random.Generator
) -> Iterator[Heard]:
    loudness = float(rng.normal(12, 8))  # a saw of 110 dB at a metre is far above what a phone can measure
    for name, place in devices.items():
        distance = max(metres(place, source.place), 5.0)
        lost = 20 * math.log10(distance) + air.absorption_db_per_m * distance + float(rng.normal(0, 5))
        level = loudness - lost + air.gain_db[name]
        snr = level - air.background_dbfs[name]
        if rng.random() > 1 / (1 + math.exp(-(snr + 2) / 2.5)):
            continue
        whole = 10 * math.log10(10 ** (level / 10) + 10 ** (air.background_dbfs[name] / 10))
        at = source.first_utc + timedelta(seconds=float(rng.exponential(8)))
        while at < source.last_utc:  # a saw rests, the device closes its alert and opens another
            lasts = timedelta(seconds=float(rng.uniform(20, 240)))
            score = float(np.clip(rng.normal(0.9 + snr / 200, 0.06), 0.5, 1.0))
            yield _alert(name, place, label, at, min(at + lasts, source.last_utc), score, whole, rng)
            at += lasts + timedelta(seconds=float(rng.uniform(30, 120)))


def _storm(config: ForestConfig, begin_utc: datetime, rng: np.random.Generator) -> Source:
    begin = _some_time(config, begin_utc, rng)
    return Source(kind="storm", place=config.centre, first_utc=begin, last_utc=begin + timedelta(minutes=12))


def _rain(source: Source, devices: dict[str, Place], label: str, rng: np.random.Generator) -> Iterator[Heard]:
    """The front comes from the west at 12 m/s, and deceives nine phones in ten."""
    west = min(place.longitude for place in devices.values())
    for name, place in devices.items():
        if rng.random() > 0.9:
            continue
        reached = metres(Place(place.latitude, west), place) / 12.0
        at = source.first_utc + timedelta(seconds=reached + float(rng.exponential(40)))
        score = float(rng.uniform(0.6, 0.95))
        yield _alert(name, place, label, at, at + timedelta(seconds=60), score, float(rng.normal(-25, 3)), rng)


def _outage(config: ForestConfig, begin_utc: datetime, rng: np.random.Generator) -> Source:
    begin = _some_time(config, begin_utc, rng)
    return Source(kind="outage", place=config.centre, first_utc=begin, last_utc=begin + timedelta(minutes=2))


def _held_back(source: Source, devices: dict[str, Place], label: str, rng: np.random.Generator) -> Iterator[Heard]:
    """Phones of one valley whose clocks were never set send what they had kept, all at once."""
    centre = list(devices.values())[int(rng.integers(len(devices)))]
    for name in sorted(devices, key=lambda name: metres(devices[name], centre))[:12]:
        at = source.first_utc + timedelta(seconds=float(rng.uniform(0, 100)))
        alert = _alert(name, devices[name], label, at, at, float(rng.uniform(0.6, 1)), float(rng.normal(-40, 5)), rng)
        yield replace(alert, dated=False, received_utc=at)


def _mistakes(
    config: ForestConfig, devices: dict[str, Place], begin_utc: datetime, rng: np.random.Generator
) -> Iterator[Heard]:
    for name, place in devices.items():
        for _ in range(int(rng.poisson(config.false_per_device_day * config.hours / 24))):
            at = _some_time(config, begin_utc, rng)
            score = float(np.clip(rng.normal(0.8, 0.1), 0.5, 1.0))
            lasts = timedelta(seconds=float(rng.uniform(5, 60)))
            yield _alert(name, place, config.label, at, at + lasts, score, float(rng.normal(-44, 5)), rng)


def _alert(
    name: str,
    place: Place,
    label: str,
    first: datetime,
    last: datetime,
    score: float,
    level_dbfs: float,
    rng: np.random.Generator,
) -> Heard:
    return Heard(
        seq=0,
        alert_id=str(uuid.UUID(bytes=rng.bytes(16), version=4)),
        device_id=name,
        label=label,
        drill=False,
        first_utc=first,
        last_utc=last,
        received_utc=first + timedelta(seconds=4),
        dated=True,
        score=score,
        level_dbfs=level_dbfs,
        place=place,
    )
