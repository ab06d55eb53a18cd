"""Field logs looked at again: where their folders lie, when each window was heard, and what other rules would decide.

`agent.journal` reads the lines; `why`, `redecide` and the station's `review` all stand on what is here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from agent.decide import MISS, Bool, Decider, Detection, Int8, Int16, LabelRule
from agent.errors import FieldError, StorageError
from agent.fields import Fields
from agent.journal import Line, Segment, Setting, WindowRecord
from agent.manifest import Quantisation, score_table

_DEEPEST = 4
"""Folders below the named one in which journals are looked for: phones, boxes of phones, years of boxes."""

_AT_ONCE = 20_000
"""Windows that are decided together."""
_EPOCH = datetime.fromtimestamp(0, UTC)

Changes = Mapping[str, Mapping[str, object]]
"""New values of a rule's fields, by label."""


def journal_folders(folder: Path) -> list[Path]:
    """Return every folder with a journal in or below a folder, sorted: a phone's own, or many phones' copies.

    Raises:
        StorageError: there is none.
    """
    found = sorted(_search(folder, _DEEPEST))
    if not found:
        raise StorageError(
            f"{folder}: holds no journal; expected a phone's storage.folder, its copy, or a folder of copies "
            "(files journal-*.jsonl.gz in a folder `journal`)"
        )
    return found


def _search(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    if any(entry.name.startswith("journal-") for entry in entries):
        yield folder
    for entry in entries:
        if depth and entry.is_dir() and not entry.is_symlink():
            yield from _search(entry, depth - 1)


def utc_of(line: Line) -> datetime:
    """Return the device's wall time of a line; the epoch where it is unreadable."""
    try:
        moment = datetime.fromisoformat(line.clock.utc)
    except ValueError:
        return _EPOCH
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class WallClock:
    """Wall times of lines: where a phone learnt the time after its start, what it wrote before is put right."""

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        """Learn from lines how the clocks of each boot lie."""
        self._offsets: dict[str, timedelta] = {}
        for line in lines:
            self.learn(line)

    def learn(self, line: Line) -> None:
        """Note a pair of clocks that network time had set."""
        if line.clock.utc_certainty == "synced":
            self._offsets[line.segment.boot_id] = self._pair(line)

    def utc(self, line: Line) -> datetime:
        """Return when a line was written, as well as the phone knew then or later."""
        offset = self._offsets.get(line.segment.boot_id)
        if line.clock.utc_certainty == "synced" or offset is None:
            return utc_of(line)
        try:
            return _EPOCH + offset + timedelta(seconds=line.clock.monotonic_s)
        except OverflowError:  # a damaged line may say anything
            return utc_of(line)

    def certainty(self, line: Line) -> str:
        """Return `synced`, `corrected`, `guess` or `unset`."""
        known = line.clock.utc_certainty
        return "corrected" if known != "synced" and line.segment.boot_id in self._offsets else known

    @staticmethod
    def _pair(line: Line) -> timedelta:
        return utc_of(line) - _EPOCH - timedelta(seconds=line.clock.monotonic_s)


def sample_rate(segment: Segment) -> int:
    """Return samples per second of a segment's sample clock."""
    return segment.setting.sample_rate if segment.setting is not None else 16_000


def window_utc(line: Line, record: WindowRecord, written_utc: datetime) -> datetime:
    """Return when a window ended, to a second or two: its line is written right behind its last window."""
    behind = line.windows[-1].end_sample - record.end_sample
    try:
        return written_utc - timedelta(seconds=behind / sample_rate(line.segment))
    except OverflowError:  # a damaged line may say anything
        return written_utc


def rules_of(setting: Setting, changes: Changes | None = None) -> dict[str, LabelRule]:
    """Return the rules of a journal with other values put in; a release above a lowered threshold comes down with it.

    Raises:
        FieldError: no such label or field, or a value out of bounds.
    """
    changes = changes or {}
    for label in changes:
        if label not in setting.labels:
            raise FieldError(label, f"is no label of this journal, expected one of {', '.join(setting.labels)}")
    return {label: _rule(label, setting.rules.get(label), changes.get(label, {})) for label in setting.labels}


def is_whole(setting: Setting) -> bool:
    """Say whether a journal's rules can be read: the line that holds them may be damaged and still be JSON."""
    try:
        rules_of(setting)
    except FieldError:
        return False
    return True


def _rule(label: str, recorded: object, changed: Mapping[str, object]) -> LabelRule:
    rule = LabelRule.parse(Fields(recorded, label))
    known = {name: getattr(rule, name) for name in LabelRule.__slots__}
    values = {**known, **changed}
    threshold = values["threshold"]
    if "release" not in changed and isinstance(threshold, int | float):
        values["release"] = min(known["release"], threshold)
    return LabelRule.parse(Fields(values, label))


def decider_of(setting: Setting, rules: Mapping[str, LabelRule]) -> Decider:
    """Return the decider of the device that wrote the journal, with these rules."""
    quantisation = Quantisation(scale=setting.output_scale, zero_point=setting.output_zero_point)
    return Decider(
        labels=setting.labels,
        rules=rules,
        scores=score_table(quantisation, setting.activation),
        stride=setting.stride,
        sample_rate=setting.sample_rate,
    )


def outputs_of(record: WindowRecord, setting: Setting) -> Int8 | None:
    """Return the model's bytes, shape (n_labels,); None where it did not see the window, or the line is damaged."""
    return np.frombuffer(record.output, np.int8) if len(record.output) == len(setting.labels) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One event that the rules find in a journal and report."""

    device_id: str
    run: str
    label: str
    onset_s: float
    """Seconds on the run's sample clock."""
    raised_s: float
    ended_s: float
    score: float
    """Highest when it was raised."""
    utc: datetime
    """Wall time of `raised_s`."""


@dataclass(slots=True)
class Redecision:
    """Decides a journal's windows again, each run of the agent anew, and gathers the events that would be reported."""

    changes: Changes
    events: list[Event] = field(default_factory=list[Event])
    undecided: int = 0
    """Windows of which the journal does not say what they mean: their segment's first line is damaged."""
    _decider: Decider | None = field(init=False, default=None)
    _waiting: list[tuple[Line, datetime]] = field(init=False, default_factory=list[tuple[Line, datetime]])
    """Lines whose windows are not decided yet, each before its wall time."""
    _n_waiting: int = field(init=False, default=0)
    _segment: Segment | None = field(init=False, default=None)
    _open: dict[str, Event] = field(init=False, default_factory=dict[str, Event])
    _end: int = field(init=False, default=0)
    _last_utc: datetime = field(init=False, default=_EPOCH)

    def push(self, line: Line, written_utc: datetime) -> None:
        """Take the windows of one line."""
        if not line.windows:
            return
        decider, setting = self._decider_for(line.segment), line.segment.setting
        if decider is None or setting is None:
            self.undecided += len(line.windows)
            return
        self._waiting.append((line, written_utc))
        self._n_waiting += len(line.windows)
        self._end, self._last_utc = line.windows[-1].end_sample, written_utc
        if self._n_waiting >= _AT_ONCE:
            self._decide(decider, setting)

    def _decide(self, decider: Decider, setting: Setting) -> None:
        """Decide the windows that wait; those that can change nothing are passed over."""
        lines, self._waiting, self._n_waiting = self._waiting, [], 0
        records = [record for line, _ in lines for record in line.windows]
        behind = np.cumsum([len(line.windows) for line, _ in lines])
        telling = np.flatnonzero(_needed(decider.could_open(_outputs(records, setting)), decider.looks_at))
        idx = 0
        while idx < len(records):
            if not decider.is_open:
                later = int(np.searchsorted(telling, idx))
                if later == len(telling):
                    return
                idx = int(telling[later])
            for detection in decider.push(records[idx].end_sample, outputs_of(records[idx], setting)):
                line, written_utc = lines[int(np.searchsorted(behind, idx, "right"))]
                self._note(detection, window_utc(line, records[idx], written_utc))
            idx += 1

    def finish(self) -> None:
        """Close what is open where the journal, or a run, ends."""
        if self._decider is not None:
            if self._waiting and self._segment is not None and self._segment.setting is not None:
                self._decide(self._decider, self._segment.setting)
            for detection in self._decider.finish(self._end):
                self._note(detection, self._last_utc)
        self._decider = None

    def _decider_for(self, segment: Segment) -> Decider | None:
        if segment.setting is None:
            return None
        before = self._segment
        if self._decider is None or before is None or (before.run, before.setting) != (segment.run, segment.setting):
            self.finish()
            if not is_whole(segment.setting):
                return None
            self._decider = decider_of(segment.setting, rules_of(segment.setting, self.changes))
        self._segment = segment
        return self._decider

    def _note(self, detection: Detection, utc: datetime) -> None:
        if not detection.alert:
            return
        assert self._segment is not None
        rate = sample_rate(self._segment)
        if not detection.opens:
            opened = self._open.pop(detection.label)
            self.events.append(replace(opened, ended_s=detection.raised / rate))
            return
        self._open[detection.label] = Event(
            device_id=self._segment.device_id,
            run=self._segment.run,
            label=detection.label,
            onset_s=detection.onset / rate,
            raised_s=detection.raised / rate,
            ended_s=detection.raised / rate,
            score=detection.score,
            utc=utc,
        )


def _outputs(records: Sequence[WindowRecord], setting: Setting) -> Int16:
    """Return the bytes of windows, shape (n_windows, n_labels), MISS where the model did not see one."""
    width = len(setting.labels)
    heard = np.array([len(record.output) == width for record in records], np.bool_)
    content = b"".join(record.output for record in records if len(record.output) == width)
    outputs = np.full((len(records), width), MISS, np.int16)
    outputs[heard] = np.frombuffer(content, np.int8).reshape(-1, width)
    return outputs


def _needed(could_open: Bool, looks_at: int) -> Bool:
    """Return which windows have to be pushed while nothing is open, shape (n_windows,).

    They are those at which an event could open, with what it looks back on; the first windows are among them, since
    what they look back on was decided with those before.
    """
    steps = np.zeros(len(could_open) + 1, np.int64)
    found = np.flatnonzero(could_open)
    np.add.at(steps, np.maximum(0, found - looks_at), 1)
    np.add.at(steps, found + 1, -1)
    needed = np.cumsum(steps[:-1]) > 0
    needed[: looks_at + 1] = True
    return needed
