"""`python -m agent redecide`: what last month would have been at another operating point, alert by alert.

The decider is the device's own, and it reads what the device's own read: bytes, gate and sample clock. Only what the
gate kept from the model stays unheard: other rules cannot bring it back.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from agent.errors import ConfigError, FieldError
from agent.fieldlog import Changes, Event, Redecision, WallClock, journal_folders, sample_rate, window_utc
from agent.fields import shown
from agent.journal import Line, read

_DONE = 0
_MOST_SHOWN = 30
"""Alerts that the screen lists one by one; --json has them all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One alert before, after, or both."""

    change: str
    """`kept`, `gained` or `lost`."""
    event: Event


@dataclass(slots=True)
class Comparison:
    """One journal under its own rules and under others."""

    differences: list[Difference] = field(default_factory=list[Difference])
    heard_s: float = 0.0
    """Seconds that the windows stand for."""
    windows: int = 0
    unheard: int = 0
    """Windows that the model did not see: the gate kept them."""
    undecided: int = 0
    skipped: int = 0
    """Lines and files of the journal that are damaged."""
    hours: set[datetime] = field(default_factory=set[datetime])
    """Hours (UTC) in which the agent heard anything: a quiet day is a row as well."""


def compare(folder: Path, changes: Changes) -> Comparison:
    """Decide one journal twice.

    Args:
        folder: a folder with a journal.
        changes: new values by label and field.

    Raises:
        FieldError: a change that this journal's rules do not allow.
    """
    wall = WallClock(read(folder))
    reading = read(folder)
    result = compare_lines(((wall.utc(line), line) for line in reading), changes)
    result.skipped = reading.skipped + reading.unreadable
    return result


def compare_lines(lines: Iterable[tuple[datetime, Line]], changes: Changes) -> Comparison:
    """Decide lines of a journal twice: by the rules under which they were written, and with other values put in.

    Args:
        lines: oldest first, each behind its wall time.
        changes: new values by label and field.

    Raises:
        FieldError: a change that this journal's rules do not allow.
    """
    before, after, result = Redecision({}), Redecision(changes), Comparison()
    for written_utc, line in lines:
        _count(result, line, written_utc)
        before.push(line, written_utc)
        after.push(line, written_utc)
    before.finish()
    after.finish()
    result.undecided = before.undecided
    result.differences = sorted(_differences(before.events, after.events), key=lambda found: found.event.utc)
    return result


def _count(result: Comparison, line: Line, written_utc: datetime) -> None:
    if not line.windows:
        return
    stride = line.segment.setting.stride if line.segment.setting is not None else 0
    result.windows += len(line.windows)
    result.unheard += sum(not record.output for record in line.windows)
    result.heard_s += len(line.windows) * stride / sample_rate(line.segment)
    for record in (line.windows[0], line.windows[-1]):
        result.hours.add(window_utc(line, record, written_utc).replace(minute=0, second=0, microsecond=0))


def _differences(before: Sequence[Event], after: Sequence[Event]) -> Iterator[Difference]:
    """An alert is kept where the other rules have one of its label that overlaps it; such a one counts once."""
    left = list(before)
    for event in after:
        same = next((other for other in left if _overlap(event, other)), None)
        if same is not None:
            left.remove(same)
        yield Difference(change="gained" if same is None else "kept", event=event)
    for event in left:
        yield Difference(change="lost", event=event)


def _overlap(one: Event, other: Event) -> bool:
    if (one.run, one.label) != (other.run, other.label):
        return False
    return one.onset_s <= other.ended_s and other.onset_s <= one.ended_s


def parse_changes(settings: Sequence[str]) -> dict[str, dict[str, object]]:
    """Read `label.field=value` texts.

    Raises:
        ConfigError: one is not of that form.
    """
    changes: dict[str, dict[str, object]] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        label, dot, key = name.strip().partition(".")
        if not (equals and dot and label and key):
            raise ConfigError(f"--set: is {shown(text)}, expected LABEL.FIELD=VALUE, say chainsaw.threshold=0.8")
        try:
            changes.setdefault(label, {})[key] = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"--set {name}: is {shown(value)}, expected a number, true or false") from error
    return changes


def describe(parser: argparse.ArgumentParser) -> None:
    """Say what the command does and takes."""
    parser.description = (
        "Decides again what a phone's journal holds, with other rules: which alerts there would have been "
        "more, and which fewer, by day. DIR is a phone's storage.folder, a copy of it, or a folder of many."
    )
    parser.epilog = (
        "Example: python -m agent redecide var/ipe-07 --set chainsaw.threshold=0.8 --set chainsaw.hits=3. "
        "Fields: threshold, release, hits, of, steady, steady_of, refractory_s, close_after_s, longest_s, alert. "
        "What the gate kept from the model stays unheard."
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the journal, or journals, lie")
    parser.add_argument(
        "--set", action="append", default=[], metavar="LABEL.FIELD=VALUE", help="a new value; may be given again"
    )
    parser.add_argument("--utc", action="store_true", help="days and times in UTC, not in local time")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: alerts, days, summary")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Compare, and print alerts gained and lost, by day and in all."""
    changes = parse_changes(options.set)
    results: list[Comparison] = []
    for folder in journal_folders(options.folder):
        try:
            results.append(compare(folder, changes))
        except FieldError as error:
            raise ConfigError(f"--set {error}") from error
    lines = _json_lines(results, utc=options.utc) if options.json else _screen(results, changes, utc=options.utc)
    for line in lines:
        print(line)
    return _DONE


def _local(moment: datetime, *, utc: bool) -> datetime:
    return moment.astimezone(UTC if utc else None)


def _days(results: Sequence[Comparison], *, utc: bool) -> dict[str, dict[str, int]]:
    """Return by day how many alerts were kept, gained and lost; days without one are there as well."""
    days: dict[str, dict[str, int]] = {}
    for result in results:
        for hour in result.hours:
            days.setdefault(f"{_local(hour, utc=utc):%Y-%m-%d}", {"kept": 0, "gained": 0, "lost": 0})
        for found in result.differences:
            day = f"{_local(found.event.utc, utc=utc):%Y-%m-%d}"
            days.setdefault(day, {"kept": 0, "gained": 0, "lost": 0})[found.change] += 1
    return dict(sorted(days.items()))


def _summary(results: Sequence[Comparison]) -> dict[str, object]:
    changes = [found.change for result in results for found in result.differences]
    kept, gained, lost = (changes.count(change) for change in ("kept", "gained", "lost"))
    windows = sum(result.windows for result in results)
    return {
        "kind": "summary",
        "before": kept + lost,
        "after": kept + gained,
        "kept": kept,
        "gained": gained,
        "lost": lost,
        "heard_h": round(sum(result.heard_s for result in results) / 3600, 2),
        "windows": windows,
        "unheard": sum(result.unheard for result in results),
        "undecided": sum(result.undecided for result in results),
        "damaged": sum(result.skipped for result in results),
        "journals": len(results),
    }


def _json_lines(results: Sequence[Comparison], *, utc: bool) -> Iterator[str]:
    for result in results:
        for found in result.differences:
            event = found.event
            fields = {
                "kind": "alert",
                "change": found.change,
                "device": event.device_id,
                "run": event.run,
                "label": event.label,
                "onset_s": event.onset_s,
                "raised_s": event.raised_s,
                "ended_s": event.ended_s,
                "score": round(event.score, 4),
                "time": _local(event.utc, utc=utc).isoformat(timespec="seconds"),
            }
            yield json.dumps(fields)
    for day, counts in _days(results, utc=utc).items():
        yield json.dumps({"kind": "day", "day": day, **counts})
    yield json.dumps(_summary(results))


def _screen(results: Sequence[Comparison], changes: Changes, *, utc: bool) -> Iterator[str]:
    named = ", ".join(f"{label}.{key} = {value}" for label, fields in changes.items() for key, value in fields.items())
    yield f"with {named}" if named else "with the journal's own rules (nothing was --set)"
    yield ""
    yield f"{'day':<12}{'before':>8}{'after':>8}{'gained':>8}{'lost':>8}"
    for day, counts in _days(results, utc=utc).items():
        before, after = counts["kept"] + counts["lost"], counts["kept"] + counts["gained"]
        yield f"{day:<12}{before:>8}{after:>8}{counts['gained']:>8}{counts['lost']:>8}"
    summary = _summary(results)
    yield "{:<12}{before:>8}{after:>8}{gained:>8}{lost:>8}".format("in all", **summary)
    yield ""
    changed = [found for result in results for found in result.differences if found.change != "kept"]
    for found in changed[:_MOST_SHOWN]:
        event = found.event
        moment = _local(event.utc, utc=utc)
        sign = "+" if found.change == "gained" else "-"
        yield (
            f"  {sign} {moment:%Y-%m-%d %H:%M:%S}  {event.device_id}  {event.label} {event.score:.2f}, "
            f"{event.ended_s - event.onset_s:.0f} s"
        )
    if len(changed) > _MOST_SHOWN:
        yield f"  ... and {len(changed) - _MOST_SHOWN} more; --json has them all"
    yield from _notes(summary)


def _notes(summary: dict[str, object]) -> Iterator[str]:
    yield (
        f"{summary['heard_h']} h heard, {summary['windows']} windows, {summary['unheard']} of them kept from the model "
        "by the gate: no rule brings those back"
    )
    if summary["undecided"]:
        yield f"{summary['undecided']} windows left out: the first line of their file is damaged"
    if summary["damaged"]:
        yield f"{summary['damaged']} damaged lines or files passed over"
