"""Alerts against the truth: recall with its interval, false alerts per hour with theirs, delay.

An event is found if an alert of its label is raised between its onset and 4.5 s after its end (a window and a stride).
An engine alert during a saw is neither true nor false; a chainsaw alert on an engine is false. Intervals are over
recordings, not events: ten events of one recording are one witness.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_export.tracks import TrueEvent

COLLAR_S = 4.5
ALERTED = ("chainsaw", "engine")


@dataclass(frozen=True, kw_only=True, slots=True)
class Raised:
    """An alert as `replay --json` prints it."""

    label: str
    raised_s: float
    onset_s: float
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """One track against its truth."""

    delays_s: tuple[float | None, ...]
    """Per event, seconds from its onset to the alert; None where it was missed."""
    false: tuple[Raised, ...]
    """Alerts that belong to nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def score(alerts: Sequence[Raised], events: Sequence[TrueEvent]) -> Scored:
    """Return which events were found, when, and which alerts are false.

    Args:
        alerts: of one track, in any order.
        events: what is in the track; labels other than the alerted ones are confusers.
    """
    delays: list[float | None] = []
    for event in events:
        own = [
            alert.raised_s - event.onset_s for alert in alerts if alert.label == event.label and _within(alert, event)
        ]
        delays.append(min(own) if own else None)
    false = [alert for alert in alerts if not any(_within(alert, event) and _fits(alert, event) for event in events)]
    return Scored(delays_s=tuple(delays), false=tuple(sorted(false, key=lambda alert: alert.raised_s)))


def _within(alert: Raised, event: TrueEvent) -> bool:
    return event.onset_s <= alert.raised_s <= event.offset_s + COLLAR_S


def _fits(alert: Raised, event: TrueEvent) -> bool:
    """Say whether an alert during an event is not false."""
    return alert.label == event.label or (alert.label == "engine" and event.label == "chainsaw")


def recall(found: Sequence[bool], recordings: Sequence[str], *, rounds: int = 2_000, seed: int = 1) -> Interval:
    """Return the share of events found, with its bootstrap interval over recordings.

    Args:
        found: per event.
        recordings: per event, the recording it was made of.
        rounds: resamplings.
        seed: of the resampling.
    """
    names = sorted(set(recordings))
    hits = np.array([sum(hit for hit, name in zip(found, recordings, strict=True) if name == one) for one in names])
    totals = np.array([sum(name == one for name in recordings) for one in names])
    if not names:
        return Interval(value=math.nan, low=math.nan, high=math.nan)
    picks = np.random.default_rng(seed).integers(len(names), size=(rounds, len(names)))
    shares: NDArray[np.float64] = hits[picks].sum(axis=1) / totals[picks].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return Interval(value=float(hits.sum() / totals.sum()), low=float(low), high=float(high))


def per_hour(count: int, hours: float) -> Interval:
    """Return a rate with the exact Poisson interval (Garwood 1936)."""
    if hours <= 0:
        return Interval(value=math.nan, low=math.nan, high=math.nan)
    low = 0.0 if count == 0 else _solve(lambda mean: poisson_cdf(count - 1, mean), 0.975)
    high = _solve(lambda mean: poisson_cdf(count, mean), 0.025)
    return Interval(value=count / hours, low=low / hours, high=high / hours)


def poisson_cdf(count: int, mean: float) -> float:
    """Return the probability of at most `count` events where `mean` are expected."""
    if mean <= 0:
        return 1.0
    return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1))


def _solve(falling: Callable[[float], float], target: float) -> float:
    """Return where a falling function reaches a value."""
    low, high = 0.0, 1.0
    while falling(high) > target:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > target else (low, middle)
    return (low + high) / 2
