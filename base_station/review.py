"""Phones that came back: what their field logs say, gathered for the report and the terminal.

Read through `agent.journal` alone; pictures of alerts come from the outbox that lies beside a journal, and from the
station's own database where it is named.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from agent.alert import Alert, LogMelImage
from agent.errors import FieldError, StorageError
from agent.fieldlog import WallClock, decider_of, is_whole, journal_folders, outputs_of, rules_of
from agent.journal import Line, Segment, read
from agent.outbox import peek
from agent.service import REOPENED_FOR

Float64 = NDArray[np.float64]
Count = NDArray[np.int64]

SILENCE = timedelta(seconds=150)
"""A journal without a line for so long has nobody who writes it: there is one a minute."""
DEAF = (*REOPENED_FOR, "model_failed", "model_stuck")
"""States in which nothing can be recognised."""
SCORE_BINS = 50
_OUTBOX = "outbox.db"


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Some time, and what was the matter with it."""

    from_utc: datetime
    to_utc: datetime
    what: str
    """`off`, or the name of a state."""
    reason: str

    @property
    def seconds(self) -> float:
        """Return how long it is."""
        return max(0.0, (self.to_utc - self.from_utc).total_seconds())


@dataclass(frozen=True, kw_only=True, slots=True)
class Minute:
    """One minute's line."""

    utc: datetime
    level_dbfs: float | None
    gated_share: float | None
    queue: float | None
    percent: float | None
    temperature_c: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldAlert:
    """One alert, as the device's log has it."""

    alert_id: str
    device_id: str
    label: str
    score: float
    utc: datetime
    """When it was raised."""
    lasted_s: float | None = None
    """From onset to closing; None where no closing is in the log."""
    received: bool = False
    """The station has receipted it, by the log, or has it in its database."""
    fate: str = "no receipt in its log"
    image: LogMelImage | None = None
    """What the model saw, where the folder or the station has it."""


@dataclass(slots=True)
class DeviceReview:
    """One device, from all its logs."""

    device_id: str
    first_utc: datetime | None = None
    last_utc: datetime | None = None
    heard_s: float = 0.0
    windows: int = 0
    unheard: int = 0
    """Windows that the gate kept from the model."""
    outages: list[Span] = field(default_factory=list[Span])
    states: list[Span] = field(default_factory=list[Span])
    lost: dict[str, tuple[int, float]] = field(default_factory=dict[str, tuple[int, float]])
    """Audio that was lost while it ran: reason -> how often, seconds."""
    minutes: list[Minute] = field(default_factory=list[Minute])
    scores: dict[str, Count] = field(default_factory=dict[str, Count])
    """By label: windows by score, shape (SCORE_BINS,)."""
    thresholds: dict[str, float] = field(default_factory=dict[str, float])
    """By label that is reported: the last rules' threshold."""
    alerts: list[FieldAlert] = field(default_factory=list[FieldAlert])
    drills: int = 0
    starts: list[str] = field(default_factory=list[str])
    """How each run before a start had ended."""
    models: list[str] = field(default_factory=list[str])
    damaged: int = 0
    uncertain: int = 0
    """Lines whose wall time nobody can put right."""

    @property
    def span_s(self) -> float:
        """Return seconds from the first line to the last."""
        if self.first_utc is None or self.last_utc is None:
            return 0.0
        return (self.last_utc - self.first_utc).total_seconds()

    @property
    def up_share(self) -> float:
        """Return the share of that time in which the agent ran."""
        off_s = sum(span.seconds for span in self.outages)
        return max(0.0, 1.0 - off_s / self.span_s) if self.span_s > 0 else 0.0

    @property
    def deaf_s(self) -> float:
        """Return the seconds in which it ran and could recognise nothing."""
        return sum(span.seconds for span in self.states if span.what in DEAF)

    @property
    def not_received(self) -> list[FieldAlert]:
        """Return the alerts of which the station knows nothing."""
        return [alert for alert in self.alerts if not alert.received]


class _Gatherer:
    """Takes one device's lines in order."""

    def __init__(self, review: DeviceReview, latest_utc: datetime) -> None:
        self.review = review
        self._latest_utc = latest_utc
        self._alerts: dict[str, FieldAlert] = {}
        self._open: dict[str, tuple[datetime, str]] = {}
        self._before: tuple[datetime, Line] | None = None
        self._bins: tuple[Segment, Count] | None = None

    def take(self, line: Line, wall: WallClock) -> None:
        """Note one line."""
        review, utc = self.review, wall.utc(line)
        if utc > self._latest_utc:  # a damaged line, or a clock gone mad: a chart of centuries shows nothing
            review.damaged += 1
            return
        review.uncertain += wall.certainty(line) == "unset"
        review.first_utc = min(review.first_utc or utc, utc)
        review.last_utc = max(review.last_utc or utc, utc)
        self._note_outage(line, utc)
        self._before = (utc, line)
        self._hear(line)
        if line.kind == "minute":
            self._minute(line, utc)
        elif line.kind == "event":
            self._event(line, utc)

    def finish(self) -> None:
        """End one journal: nothing of it goes on in another."""
        if self._before is not None:
            self._end_states(self._before[0])
        self._before = None
        self.review.alerts = sorted(self._alerts.values(), key=lambda alert: alert.utc)

    def _note_outage(self, line: Line, utc: datetime) -> None:
        if self._before is None or utc - self._before[0] <= SILENCE:
            return
        since_utc, last = self._before
        how = f"stopped ({last.fields.get('reason', '?')})" if last.event == "stop" else "no line was written"
        if line.event == "start":
            how = f"{line.fields.get('reason', 'unknown')}; {how}" if last.event != "stop" else how
        self._end_states(since_utc)
        self.review.outages.append(Span(from_utc=since_utc, to_utc=utc, what="off", reason=how))

    def _hear(self, line: Line) -> None:
        setting = line.segment.setting
        if not line.windows or setting is None:
            return
        if not (self._bins is not None and self._bins[0] is line.segment) and not is_whole(setting):
            return
        review = self.review
        review.windows += len(line.windows)
        review.heard_s += len(line.windows) * setting.stride / setting.sample_rate
        heard = [outputs for record in line.windows if (outputs := outputs_of(record, setting)) is not None]
        review.unheard += len(line.windows) - len(heard)
        answers = np.array(heard, np.intp).reshape(-1, len(setting.labels)) + 128
        bins = self._bins_of(line.segment)
        for label, column in zip(setting.labels, answers.T, strict=True):
            counted = np.bincount(bins[column], minlength=SCORE_BINS)
            review.scores[label] = review.scores.get(label, np.zeros(SCORE_BINS, np.int64)) + counted

    def _bins_of(self, segment: Segment) -> Count:
        """Return which bin of the histogram each output byte falls into, shape (256,)."""
        setting = segment.setting
        assert setting is not None
        if self._bins is None or self._bins[0] is not segment:
            rules = rules_of(setting)
            scores = decider_of(setting, rules).scores
            self._bins = segment, np.minimum((scores * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
            self.review.thresholds = {label: rule.threshold for label, rule in rules.items() if rule.alert}
            if setting.model_digest not in self.review.models:
                self.review.models.append(setting.model_digest)
        return self._bins[1]

    def _minute(self, line: Line, utc: datetime) -> None:
        battery = _mapping(line.fields.get("battery"))
        self.review.minutes.append(
            Minute(
                utc=utc,
                level_dbfs=_number(line.fields.get("level_dbfs")),
                gated_share=_number(line.fields.get("gated_share")),
                queue=_number(line.fields.get("queue")),
                percent=_number(battery.get("percent")),
                temperature_c=_number(battery.get("temperature_c")),
            )
        )
        gaps = line.fields.get("gaps")
        for gap in gaps if isinstance(gaps, Sequence) else ():
            told = _mapping(gap)
            reason, lost_s = str(told.get("reason", "unknown")), _number(told.get("lost_s")) or 0.0
            often, seconds = self.review.lost.get(reason, (0, 0.0))
            self.review.lost[reason] = (often + 1, seconds + lost_s)

    def _event(self, line: Line, utc: datetime) -> None:
        fields = line.fields
        alert_id = str(fields.get("alert_id", ""))
        match line.event:
            case "start":
                self._end_states(utc)
                self.review.starts.append(str(fields.get("reason", "unknown")))
            case "state_begins":
                self._open.setdefault(str(fields.get("state")), (utc, str(fields.get("reason", ""))))
            case "state_ends":
                self._end_states(utc, str(fields.get("state")))
            case "drill":
                self.review.drills += 1
            case "alert":
                self._alert(line, utc, alert_id)
            case "delivered" | "parked" | "alert_dropped" if fields.get("revision") == 0 and alert_id in self._alerts:
                fates = {"delivered": f"received {utc:%Y-%m-%d %H:%M:%S} UTC"}
                fate = fates.get(line.event, f"{line.event.replace('_', ' ')}: {fields.get('reason', '?')}")
                alert = self._alerts[alert_id]
                self._alerts[alert_id] = replace(alert, received=line.event == "delivered", fate=fate)
            case _:
                pass

    def _alert(self, line: Line, utc: datetime, alert_id: str) -> None:
        fields = line.fields
        known = self._alerts.get(alert_id)
        if fields.get("revision") == 0:
            self._alerts[alert_id] = FieldAlert(
                alert_id=alert_id,
                device_id=self.review.device_id,
                label=str(fields.get("label", "?")),
                score=_number(fields.get("score")) or 0.0,
                utc=utc,
            )
        elif known is not None:
            onset_s, ended_s = _number(fields.get("onset_s")), _number(fields.get("raised_s"))
            lasted_s = ended_s - onset_s if onset_s is not None and ended_s is not None else None
            self._alerts[alert_id] = replace(known, lasted_s=lasted_s)

    def _end_states(self, utc: datetime, only: str | None = None) -> None:
        for name in [only] if only is not None else list(self._open):
            if name in self._open:
                since_utc, reason = self._open.pop(name)
                self.review.states.append(Span(from_utc=since_utc, to_utc=utc, what=name, reason=reason))


def gather(
    folder: Path,
    station: Callable[[str], tuple[bool, LogMelImage | None]] | None = None,
    *,
    now: datetime | None = None,
) -> list[DeviceReview]:
    """Return what the journals in and below a folder say, a review for each device, sorted by name.

    Args:
        folder: a phone's storage.folder, a copy, or a folder of many.
        station: says of an alert id whether the station has it, and its picture; None: nobody to ask.
        now: lines that claim to be from more than a day later are passed over; by default, now.

    Raises:
        StorageError: there is no journal.
    """
    latest_utc = (now or datetime.now(UTC)) + timedelta(days=1)
    gatherers: dict[str, _Gatherer] = {}
    seen: set[tuple[str, str, int]] = set()
    waiting: dict[str, tuple[str, LogMelImage | None]] = {}
    for journal in journal_folders(folder):
        device_id = _device_of(journal)
        gatherer = gatherers.setdefault(device_id, _Gatherer(DeviceReview(device_id), latest_utc))
        _read_one(journal, gatherer, seen)
        waiting.update(_waiting(journal.parent / _OUTBOX))
    reviews = [gatherers[name].review for name in sorted(gatherers)]
    for review in reviews:
        review.alerts = [_completed(alert, waiting, station) for alert in review.alerts]
    return reviews


def _device_of(journal: Path) -> str:
    return next((line.segment.device_id for line in read(journal) if line.segment.device_id), journal.parent.name)


def _read_one(journal: Path, gatherer: _Gatherer, seen: set[tuple[str, str, int]]) -> None:
    """Read one journal; segments that another copy has had are passed over."""
    wall = WallClock(read(journal))
    reading, own = read(journal), set[tuple[str, str, int]]()
    for line in reading:
        name = (gatherer.review.device_id, line.segment.run, line.segment.number)
        if name not in seen or line.segment.run == "?":
            own.add(name)
            gatherer.take(line, wall)
    seen |= own
    gatherer.review.damaged += reading.skipped + reading.unreadable
    gatherer.finish()


def _waiting(outbox: Path) -> Iterator[tuple[str, tuple[str, LogMelImage | None]]]:
    """Yield what lies in the outbox beside a journal: alert id, why it is still there, and its picture."""
    if not outbox.is_file():
        return
    try:
        found = peek(outbox)
    except StorageError:  # a broken one is the phone's to mend; the report says that there is no picture
        return
    for message, parked in found:
        if message.revision == 0:
            fate = f"parked: {parked}" if parked else "waits in its outbox"
            try:
                yield message.alert_id, (fate, Alert.from_json(message.body).log_mel)
            except FieldError:
                yield message.alert_id, (f"{fate}, damaged on disk", None)


def _completed(
    alert: FieldAlert,
    waiting: Mapping[str, tuple[str, LogMelImage | None]],
    station: Callable[[str], tuple[bool, LogMelImage | None]] | None,
) -> FieldAlert:
    """Add to an alert what its outbox and the station know."""
    if alert.alert_id in waiting:
        fate, image = waiting[alert.alert_id]
        alert = replace(alert, image=image, fate=alert.fate if alert.received else fate)
    if station is None:
        return alert
    has_it, image = station(alert.alert_id)
    if has_it:
        fate = alert.fate if alert.received else "the station has it"
        return replace(alert, received=True, image=image or alert.image, fate=fate)
    missing = f"receipted, and the station does not have it ({alert.fate})" if alert.received else alert.fate
    return replace(alert, received=False, fate=missing)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def hours_of_day(minutes: Sequence[Minute], *, utc: bool) -> list[tuple[int, float, float, float]]:
    """Return, by hour of day that has any, the levels' 10th, 50th and 90th percentile in dBFS."""
    levels: dict[int, list[float]] = {}
    for minute in minutes:
        if minute.level_dbfs is not None:
            hour = minute.utc.astimezone(UTC if utc else None).hour
            levels.setdefault(hour, []).append(minute.level_dbfs)
    spreads = ((hour, np.percentile(levels[hour], (10, 50, 90))) for hour in sorted(levels))
    return [(hour, float(low), float(middle), float(high)) for hour, (low, middle, high) in spreads]


def by_hour(minutes: Sequence[Minute], value: Callable[[Minute], float | None]) -> list[tuple[datetime, float]]:
    """Return a measurement's mean by hour, for charts of months."""
    hours: dict[datetime, list[float]] = {}
    for minute in minutes:
        found = value(minute)
        if found is not None:
            hours.setdefault(minute.utc.replace(minute=30, second=0, microsecond=0), []).append(found)
    return [(hour, sum(values) / len(values)) for hour, values in sorted(hours.items())]
