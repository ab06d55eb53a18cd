"""A device's log along time: its tracks in one, and any span of it in as few points as a screen can show.

Few points still show the least and the greatest of what they stand for, and no line goes on over a gap.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from agent.duty import PAUSED
from base_station import shelf, tables
from base_station.review import DEAF, SILENCE
from base_station.shelf import Shelved
from base_station.store import Store
from base_station.track import MEASURES, Float32, Float64, Told, Track

LONGEST = timedelta(days=31)
"""Of what is looked at in one piece: 1.8 million windows."""
OFF, DEAF_NOW, LOST, SAVING, OTHER = "off", "deaf", "lost", "saving", "other"
"""What a stretch of time was about: no agent ran, it could hear nothing, sound is missing, it saved power, a state."""
_FULL_POWER = "full"
_LOST_AFTER = 2.5
"""Strides without a window after which a line of scores breaks off."""

Indices = NDArray[np.intp]
Point = tuple[int, float | None]
"""(milliseconds since 1970, value); a value of None breaks the line."""

_Part = tuple[Track, float]
"""A file's track, and the wall time at which its clock stood at zero, seconds since 1970."""
_AT_A_TIME = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """A time in which something was the matter."""

    begin_s: float
    """Seconds since 1970."""
    end_s: float
    kind: str
    what: str
    """The state's, or the level's, name; empty where the kind says all."""
    reason: str
    """As the device put it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedAlert:
    """An alert as the log has it."""

    alert_id: str
    at_s: float
    """When it was raised, seconds since 1970."""
    label: str
    score: float
    arrived: bool
    """Whether the station has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """A span of a device's log; all times are seconds since 1970, rising."""

    device_id: str
    begin_s: float
    end_s: float
    n_files: int
    rules: Mapping[str, Mapping[str, float]]
    """Of each label that is reported, by the last rules in the span: the numbers of `agent.decide.LabelRule`."""
    stride_s: float
    window_s: Float64
    """When each window ended, shape (n_windows,)."""
    scores: Mapping[str, Float32]
    """By label, each of shape (n_windows,); NaN where the model did not see the window."""
    minute_s: Float64
    minutes: Float32
    """`track.MEASURES` of each minute, shape (n_minutes, 4)."""
    stretches: tuple[Stretch, ...]
    """By begin."""
    alerts: tuple[LoggedAlert, ...]
    """By time."""

    @property
    def n_heard(self) -> int:
        """Return how many windows the model saw."""
        return max((int(np.isfinite(values).sum()) for values in self.scores.values()), default=0)

    def label_points(self, label: str, begin_s: float, end_s: float, n_bins: int) -> list[Point]:
        """Return a label's scores in a span, at most four points to a bin."""
        span = slice(*np.searchsorted(self.window_s, (begin_s, end_s)))
        return envelope(self.window_s[span], self.scores[label][span], n_bins, _LOST_AFTER * self.stride_s)

    def measure_points(self, name: str, begin_s: float, end_s: float, n_bins: int) -> list[Point]:
        """Return one of `track.MEASURES` in a span."""
        span = slice(*np.searchsorted(self.minute_s, (begin_s, end_s)))
        values = self.minutes[span, MEASURES.index(name)]
        return envelope(self.minute_s[span], values, n_bins, SILENCE.total_seconds())


def envelope(times_s: Float64, values: Float32, n_bins: int, break_s: float) -> list[Point]:
    """Return a line in few points: all of them where they are few, else of each bin the least and the greatest.

    Args:
        times_s: rising, shape (n,).
        values: shape (n,); where it is NaN the line breaks.
        n_bins: into so many equal parts is the time from the first to the last cut.
        break_s: points farther apart than that are not joined, unless bins are longer.

    Returns:
        Points by time, at most four to a bin.
    """
    if len(times_s) <= 2 * n_bins:
        return list(_joined(times_s, values, break_s))
    bin_s = (times_s[-1] - times_s[0]) / n_bins
    kept = np.flatnonzero(np.isfinite(values))
    if not len(kept) or bin_s <= 0:
        return []
    bins = np.minimum((times_s[kept] - times_s[0]) / bin_s, n_bins - 1).astype(np.int64)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    least, greatest = _first_of(np.minimum, values[kept], starts), _first_of(np.maximum, values[kept], starts)
    break_s = max(break_s, 2 * bin_s)
    edges = np.flatnonzero(np.diff(times_s[kept]) > break_s)
    chosen = kept[np.unique(np.concatenate([least, greatest, edges, edges + 1]))]
    return list(_joined(times_s[chosen], values[chosen], break_s))


def _first_of(extreme: np.ufunc, values: Float32, starts: Indices) -> Indices:
    """Return where each bin's extreme is first found; bins begin at `starts`."""
    counts = np.diff(starts, append=len(values))
    is_extreme = values == np.repeat(extreme.reduceat(values, starts), counts)
    found = np.flatnonzero(is_extreme)
    return found[np.searchsorted(found, starts)]


def _joined(times_s: Float64, values: Float32, break_s: float) -> Iterator[Point]:
    """Yield points, with a break where nothing is."""
    before_s: float | None = None
    for at_s, value in zip(times_s.tolist(), values.tolist(), strict=True):
        is_valid = math.isfinite(value)
        if before_s is not None and (not is_valid or at_s - before_s > break_s):
            yield round(1000 * before_s) + 1, None
            before_s = None
        if is_valid:
            yield round(1000 * at_s), round(value, 4)
            before_s = at_s


def load(store: Store, device_id: str, since: datetime, until: datetime) -> Timeline | None:
    """Return a span of a device's log, at most LONGEST of it; None where no file reaches into it.

    Args:
        store: the database.
        device_id: whose log it is.
        since: begin of the span.
        until: its end; the span ends LONGEST after its begin at the latest.
    """
    until = min(until, since + LONGEST)
    kept = [one for one in shelf.shelved(store, device_id=device_id, since=since, until=until) if one.first_utc]
    if not kept:
        return None
    kept.sort(key=lambda one: (str(one.first_utc), one.number))
    tracks = shelf.tracks(store, kept)
    parts = [(tracks[one.seq], _zero_s(one)) for one in kept]
    alerts = _arrived(store, _alerts(parts))
    return _whole(device_id, parts, alerts, max(since, _first(kept)).timestamp(), min(until, _last(kept)).timestamp())


def _zero_s(one: Shelved) -> float:
    """Return the wall time at which the boot's clock stood at zero, seconds since 1970."""
    assert one.first_utc is not None
    return one.first_utc.timestamp() - one.first_s


def _first(kept: Sequence[Shelved]) -> datetime:
    return min(one.first_utc for one in kept if one.first_utc is not None)


def _last(kept: Sequence[Shelved]) -> datetime:
    return max(one.last_utc for one in kept if one.last_utc is not None) + timedelta(seconds=1)


def _whole(
    device_id: str, parts: Sequence[_Part], alerts: Sequence[LoggedAlert], begin_s: float, end_s: float
) -> Timeline:
    last = next((track for track, _ in reversed(parts) if track.labels), parts[-1][0])
    window_s = np.concatenate([track.end_s + zero_s for track, zero_s in parts])
    minute_s = np.concatenate([track.minute_s + zero_s for track, zero_s in parts])
    order, minute_order = np.argsort(window_s, kind="stable"), np.argsort(minute_s, kind="stable")
    labels = dict.fromkeys([*last.labels, *(label for track, _ in parts for label in track.labels)])
    return Timeline(
        device_id=device_id,
        begin_s=begin_s,
        end_s=end_s,
        n_files=len(parts),
        rules=last.rules,
        stride_s=last.stride_s,
        window_s=window_s[order],
        scores={label: np.concatenate([_scores(track, label) for track, _ in parts])[order] for label in labels},
        minute_s=minute_s[minute_order],
        minutes=np.concatenate([track.minutes for track, _ in parts])[minute_order],
        stretches=tuple(sorted(_stretches(parts, begin_s, end_s), key=lambda one: one.begin_s)),
        alerts=tuple(one for one in alerts if begin_s <= one.at_s < end_s),
    )


def _scores(track: Track, label: str) -> Float32:
    """Return a label's scores, shape (n_windows,); NaN where the model saw none, or has no such label."""
    if label not in track.labels:
        return np.full(len(track.end_s), np.nan, np.float32)
    column = track.outputs[:, track.labels.index(label)].astype(np.intp)
    return np.where(track.heard, track.scores[column + 128], np.float32(np.nan))


def _alerts(parts: Sequence[_Part]) -> dict[str, LoggedAlert]:
    """Return the alerts that a log tells of by their id; none is there twice, in whatever file."""
    found: dict[str, LoggedAlert] = {}
    for track, zero_s in parts:
        for told in track.told:
            fields = told.fields
            if told.kind == "alert" and fields.get("revision") == 0:
                score = fields.get("score")
                alert = LoggedAlert(
                    alert_id=str(fields.get("alert_id", ""))[:36],
                    at_s=told.at_s + zero_s,
                    label=str(fields.get("label", "?"))[:32],
                    score=float(score) if isinstance(score, int | float) else 0.0,
                    arrived=False,
                )
                found.setdefault(alert.alert_id, alert)
    return found


def _arrived(store: Store, alerts: Mapping[str, LoggedAlert]) -> list[LoggedAlert]:
    """Return alerts by time, each with whether the station has it."""
    ids, here, column = list(alerts), set[str](), tables.alerts.c.alert_id
    with store.database.read() as connection:
        for begin in range(0, len(ids), _AT_A_TIME):
            here |= set(connection.execute(select(column).where(column.in_(ids[begin : begin + _AT_A_TIME]))).scalars())
    found = (replace(alert, arrived=alert.alert_id in here) for alert in alerts.values())
    return sorted(found, key=lambda alert: alert.at_s)


def _stretches(parts: Sequence[_Part], begin_s: float, end_s: float) -> Iterator[Stretch]:
    """Yield what was the matter within a span."""
    told = sorted(((one.at_s + zero_s, one) for track, zero_s in parts for one in track.told), key=lambda pair: pair[0])
    line_s = np.sort(np.concatenate([track.line_s + zero_s for track, zero_s in parts]))
    for stretch in (*_silences(line_s, told), *_states(told, end_s), *_lost(parts)):
        if stretch.end_s > begin_s and stretch.begin_s < end_s:
            yield replace(stretch, begin_s=max(stretch.begin_s, begin_s), end_s=min(stretch.end_s, end_s))


def _silences(line_s: Float64, told: Sequence[tuple[float, Told]]) -> Iterator[Stretch]:
    """Yield the times in which nobody wrote a line, with what the next start, or the last stop, says of it."""
    starts = [(at_s, str(one.fields.get("reason", ""))) for at_s, one in told if one.kind == "start"]
    stops = [(at_s, str(one.fields.get("reason", ""))) for at_s, one in told if one.kind == "stop"]
    for idx in np.flatnonzero(np.diff(line_s) > SILENCE.total_seconds()):
        begin_s, end_s = float(line_s[idx]), float(line_s[idx + 1])
        ended = [reason for at_s, reason in stops if begin_s - 1 <= at_s <= begin_s + 1]
        begun = [reason for at_s, reason in starts if end_s - 1 <= at_s <= end_s + 1]
        reason = next(iter(ended + begun), "")
        yield Stretch(begin_s=begin_s, end_s=end_s, kind=OFF, what="", reason=reason)


def _states(told: Sequence[tuple[float, Told]], end_s: float) -> Iterator[Stretch]:
    """Yield states and levels of power from their begin to their end, a start of the agent, or the end of the log."""
    held: dict[tuple[str, str], tuple[float, str]] = {}

    def end(at_s: float, *keys: tuple[str, str]) -> Iterator[Stretch]:
        for key in keys:
            if key in held:
                begin_s, reason = held.pop(key)
                yield Stretch(begin_s=begin_s, end_s=at_s, kind=key[0], what=key[1], reason=reason)

    for at_s, one in told:
        name, reason = str(one.fields.get("state", "")), str(one.fields.get("reason", ""))
        kind = DEAF_NOW if name in DEAF else OTHER
        if one.kind == "start":
            yield from end(at_s, *list(held))
        elif one.kind == "state_begins":
            held.setdefault((kind, name), (at_s, reason))
        elif one.kind == "state_ends":
            yield from end(at_s, (kind, name))
        elif one.kind == "power":
            yield from end(at_s, *[key for key in held if key[0] == SAVING])
            level = str(one.fields.get("level", ""))
            if level != _FULL_POWER:
                held[SAVING, level] = (at_s, reason)
    yield from end(end_s, *list(held))


def _lost(parts: Sequence[_Part]) -> Iterator[Stretch]:
    for track, zero_s in parts:
        for one in track.lost:
            at_s = one.at_s + zero_s
            kind = SAVING if one.reason.startswith(PAUSED) else LOST
            yield Stretch(begin_s=at_s - one.lost_s, end_s=at_s, kind=kind, what="", reason=one.reason)
