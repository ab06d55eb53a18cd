"""What a field log says of one minute: each window, and why it gave an alert or none.

Decided again by the device's own decider, so that the answer is what happened and not a guess.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

from agent.decide import Decider, Detection, LabelRule, Standing
from agent.fieldlog import WallClock, decider_of, is_whole, outputs_of, rules_of, sample_rate, window_utc
from agent.journal import Line, Segment, WindowRecord, read

SPAN_S = 60.0
"""What `11:42` means: the minute that begins then."""
_RUN_UP = timedelta(hours=2)
"""Windows before the asked ones that are decided again as well: an event lasts ten minutes at most, a calm stretch of
seconds brings any two deciders together."""
_EVENTS_BEFORE = 3
_FATES = ("delivered", "parked", "alert_dropped")
"""Events that say what became of an alert."""
_SILENCE = timedelta(minutes=2)
"""A journal without a line for so long has nobody who writes it: there is one a minute."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """One window of the asked minute."""

    utc: datetime
    """Of its end."""
    gate: str
    """`open`, `closed`, or `sampled`: closed, and classified all the same."""
    scores: Mapping[str, float]
    """By label; empty where the model did not see it."""
    standings: Mapping[str, Standing]
    """By label, after this window."""
    detections: tuple[Detection, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One event line of the journal."""

    utc: datetime
    event: str
    fields: Mapping[str, object]

    def text(self) -> str:
        """Return it as a phrase: the reason, else what it says."""
        rest = {key: value for key, value in self.fields.items() if key not in ("reason", "alert_id")}
        words = [f"{key} {value}" for key, value in rest.items() if value not in ("", None)]
        reason = str(self.fields.get("reason", ""))
        return f"{self.event.replace('_', ' ')}: {', '.join([*words, reason] if reason else words)}".rstrip(": ")


@dataclass(slots=True)
class Story:
    """What the journal says of one minute."""

    since_utc: datetime
    until_utc: datetime
    zone: tzinfo | None = None
    """In which times are written; None is this machine's own."""
    device_id: str = ""
    certainty: str = ""
    """How sure the wall times are."""
    segment: Segment | None = None
    """Of the run that was at work then, or before then."""
    labels: tuple[str, ...] = ()
    rules: Mapping[str, LabelRule] = field(default_factory=dict[str, LabelRule])
    moments: list[Moment] = field(default_factory=list[Moment])
    notes: list[Note] = field(default_factory=list[Note])
    """Events of the minute, and the few before it."""
    states: dict[str, str] = field(default_factory=dict[str, str])
    """Named states that held, with their reason."""
    gaps: list[Mapping[str, object]] = field(default_factory=list[Mapping[str, object]])
    minute: Mapping[str, object] = field(default_factory=dict[str, object])
    """What the minute's own line says: level, queue, battery."""
    before: tuple[datetime, str] | None = None
    """The last line before the minute, and what it was."""
    after: tuple[datetime, str] | None = None
    """The first line behind it."""
    opened_utc: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """By label: when the last alert was raised, up to the minute's end."""
    fates: dict[str, Note] = field(default_factory=dict[str, Note])
    """By alert id: what became of it, then or later."""
    damaged: int = 0

    def at(self, moment: datetime, *, day: bool = False) -> str:
        """Return a time for people."""
        local = moment.astimezone(self.zone)
        return f"{local:%Y-%m-%d %H:%M:%S}" if day else f"{local:%H:%M:%S}"

    def reasons(self) -> dict[str, str]:
        """Return, by label, why there was an alert or none; `*` is what holds for all of them."""
        whole = self._deaf()
        if not self.moments:
            return {"*": whole or "no window was heard, and the journal does not say why"}
        reasons = {label: self._reason(label) for label in self.labels}
        return {"*": whole, **reasons} if whole else reasons

    def _deaf(self) -> str:
        """Return what kept the device from hearing, whatever the sound was; empty if nothing did."""
        if not self.moments and self._absent():
            return self._absence()
        found = [f"{name.replace('_', ' ')}: {reason}" if reason else name for name, reason in self.states.items()]
        found += [f"{gap.get('lost_s')} s of audio lost: {gap.get('reason')}" for gap in self.gaps]
        return "; ".join(found)

    def _absent(self) -> bool:
        """Say whether nobody wrote this journal then."""
        if self.before is None or self.after is None:
            return True
        return self.after[0] - self.before[0] > _SILENCE

    def _absence(self) -> str:
        if self.before is None:
            return "the agent was not running: the journal begins later"
        how = f"the agent was not running: its last line is of {self.at(self.before[0], day=True)} ({self.before[1]})"
        if self.after is None:
            return how + "; what a running agent heard in its last ten minutes may not be on disk yet"
        return how + f", the next of {self.at(self.after[0], day=True)} ({self.after[1]})"

    def _reason(self, label: str) -> str:
        rule = self.rules[label]
        opened = [moment for moment in self.moments if any(d.label == label and d.opens for d in moment.detections)]
        if opened:
            return self._opened(label, opened[0])
        if any(moment.standings[label].is_open for moment in self.moments):
            since = f" of {self.at(self.opened_utc[label])}" if label in self.opened_utc else ""
            return f"it belongs to the event{since}, which was open: one alert for each event"
        held = [moment for moment in self.moments if moment.standings[label].enough]
        if held and rule.alert:
            left_s = held[0].standings[label].refractory / self._rate
            return (
                f"enough was heard at {self.at(held[0].utc)}, but less than {rule.refractory_s:g} s after the last "
                f"alert: silent for {left_s:.0f} s more"
            )
        return self._short_of(label, rule)

    def _opened(self, label: str, moment: Moment) -> str:
        standing, rule = moment.standings[label], self.rules[label]
        by = "k of n" if standing.hits >= rule.hits else "steady mean"
        kind = "alert" if rule.alert else "heard, but this label is never reported"
        said = f"{kind} at {self.at(moment.utc)}, by {by}"
        return f"{said}; {self._fate(label)}" if rule.alert else said

    def _fate(self, label: str) -> str:
        """Return what became of the alert that the journal has for a label in this minute."""
        named = [note.fields for note in self.notes if note.event == "alert" and note.fields.get("label") == label]
        alert_id = next((str(fields.get("alert_id")) for fields in named if fields.get("revision") == 0), "")
        fate = self.fates.get(alert_id)
        if fate is None:
            return (
                f"alert {alert_id[:8]}, no receipt of the station so far" if alert_id else "its line is not in the log"
            )
        what = "received by the station" if fate.event == "delivered" else fate.text()
        return f"alert {alert_id[:8]}, {what} at {self.at(fate.utc, day=True)}"

    def _short_of(self, label: str, rule: LabelRule) -> str:
        heard = [moment for moment in self.moments if moment.scores]
        if not heard:
            return "the gate was closed for every window: nothing stood above the noise floor for long enough"
        best = max(heard, key=lambda moment: moment.scores[label])
        score = best.scores[label]
        hits = max(moment.standings[label].hits for moment in self.moments)
        if hits:
            said = f"{hits} of the last {rule.of} windows reached {rule.threshold:g}, {rule.hits} were needed"
        else:
            said = (
                f"no window reached {rule.threshold:g}: the highest was {score:.4f}, {rule.threshold - score:.4f} below"
            )
        means = [mean for moment in self.moments if (mean := moment.standings[label].mean) is not None]
        if means:
            said += f"; the steady mean of {rule.steady_of} rose to {max(means):.4f} of {rule.steady:g}"
        closed = sum(not moment.scores for moment in self.moments)
        if closed:
            said += f"; the gate kept {closed} of {len(self.moments)} windows from the model"
        return said if rule.alert else f"{said} (this label is never reported)"

    @property
    def _rate(self) -> int:
        return 16_000 if self.segment is None else sample_rate(self.segment)


class _Teller:
    """Reads a journal's lines in order and keeps what belongs to the asked minute."""

    def __init__(self, story: Story, wall: WallClock) -> None:
        self._story = story
        self._wall = wall
        self._earlier: deque[Note] = deque(maxlen=_EVENTS_BEFORE)
        self._decider: Decider | None = None
        self._decides: Segment | None = None

    def take(self, line: Line) -> None:
        story, written = self._story, self._wall.utc(line)
        if written < story.since_utc:
            story.before = (written, _what(line))
            story.segment, story.device_id = line.segment, line.segment.device_id
        elif written >= story.until_utc and story.after is None:
            story.after = (written, _what(line))
            story.device_id = story.device_id or line.segment.device_id
        for record in line.windows:
            ended = window_utc(line, record, written)
            if story.since_utc - _RUN_UP <= ended < story.until_utc:
                self._hear(line, record, ended)
        if line.kind == "event":
            self._note(line, written)
        elif line.kind == "minute":
            self._keep_minute(line, written)

    def finish(self) -> None:
        self._story.notes[:0] = self._earlier

    def _hear(self, line: Line, record: WindowRecord, ended: datetime) -> None:
        story, segment = self._story, line.segment
        if segment.setting is None or not (segment is self._decides or is_whole(segment.setting)):
            return
        before = self._decides
        if self._decider is None or before is None or (before.run, before.setting) != (segment.run, segment.setting):
            story.rules, story.labels = rules_of(segment.setting), segment.setting.labels
            self._decider = decider_of(segment.setting, story.rules)
        self._decides = segment
        decider = self._decider
        outputs = outputs_of(record, segment.setting)
        detections = tuple(decider.push(record.end_sample, outputs))
        for detection in detections:
            if detection.opens:
                story.opened_utc[detection.label] = ended
        if ended < story.since_utc:
            return
        story.segment, story.device_id = segment, segment.device_id
        story.certainty = self._wall.certainty(line)
        table = decider.scores
        scores = (
            {}
            if outputs is None
            else dict(zip(story.labels, (float(table[output + 128]) for output in outputs.tolist()), strict=True))
        )
        gate = ("sampled" if scores else "closed") if record.gated else "open"
        standings = {label: decider.standing(label) for label in story.labels}
        story.moments.append(Moment(utc=ended, gate=gate, scores=scores, standings=standings, detections=detections))

    def _note(self, line: Line, written: datetime) -> None:
        story = self._story
        note = Note(utc=written, event=line.event, fields=line.fields)
        if line.event in _FATES and line.fields.get("revision") == 0:
            story.fates[str(line.fields.get("alert_id"))] = note
        if written >= story.until_utc:
            return
        name, earlier = str(line.fields.get("state")), written < story.since_utc
        (self._earlier if earlier else story.notes).append(note)
        if line.event == "state_begins":
            story.states[name] = str(line.fields.get("reason", ""))
        elif line.event == "state_ends" and earlier:
            story.states.pop(name, None)
        elif line.event in ("start", "stop") and earlier:
            story.states.clear()

    def _keep_minute(self, line: Line, written: datetime) -> None:
        """Keep what the line of the asked minute says; it is written at the minute's end, or within the next."""
        story = self._story
        if written < story.since_utc or written >= story.until_utc + timedelta(seconds=SPAN_S):
            return
        if not story.minute:
            story.minute = line.fields
        rate = sample_rate(line.segment)
        for gap in _mappings(line.fields.get("gaps")):
            at_s, lost_s = gap.get("at_s"), gap.get("lost_s")
            if line.windows and isinstance(at_s, int | float) and isinstance(lost_s, int | float):
                behind_s = line.windows[-1].end_sample / rate - at_s
                ended = written - timedelta(seconds=behind_s)
                if ended >= story.since_utc and ended - timedelta(seconds=lost_s) < story.until_utc:
                    story.gaps.append(gap)


def _what(line: Line) -> str:
    what, reason = line.event.replace("_", " ") or "a minute like any other", str(line.fields.get("reason", ""))
    return f"{what}: {reason}" if reason else what


def _mappings(value: object) -> Iterator[Mapping[str, object]]:
    if isinstance(value, Sequence):
        for member in value:  # pyright: ignore[reportUnknownVariableType]  # JSON: looked at here
            if isinstance(member, Mapping):
                yield member  # pyright: ignore[reportUnknownVariableType]


def tell(folder: Path, since_utc: datetime, zone: tzinfo | None, span_s: float = SPAN_S) -> Story:
    """Return what a journal says of the minute that begins at `since_utc`.

    Args:
        folder: the folder with the journal's files.
        since_utc: aware.
        zone: in which times are written.
        span_s: how long the minute is.

    Raises:
        StorageError: there is no such folder.
    """
    wall = WallClock(read(folder))
    story = Story(since_utc=since_utc, until_utc=since_utc + timedelta(seconds=span_s), zone=zone)
    teller = _Teller(story, wall)
    reading = read(folder)
    for line in reading:
        teller.take(line)
    teller.finish()
    story.damaged = reading.skipped + reading.unreadable
    return story


def end_utc(folder: Path) -> datetime | None:
    """Return when a journal's last line was written; None where it has none."""
    wall = WallClock(read(folder))
    return max((wall.utc(line) for line in read(folder)), default=None)
