"""`python -m agent why 11:42`: what was heard then, and why there was an alert or none."""

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path

from agent.config import AgentConfig, read_config
from agent.errors import ConfigError, StorageError
from agent.fieldlog import journal_folders
from agent.fields import shown
from agent.story import Moment, Story, end_utc, tell

DONE = 0


def minute_of(clock: str, day: date | None, zone: tzinfo | None, latest_utc: datetime) -> datetime:
    """Return the asked moment, UTC.

    Args:
        clock: `11:42` or `11:42:30`.
        day: the date; None: the latest such time that is not after `latest_utc`.
        zone: whose clock is meant; None is this machine's own.
        latest_utc: see above.

    Raises:
        ConfigError: not a time of day.
    """
    try:
        wanted = time.fromisoformat(clock)
    except ValueError as error:
        raise ConfigError(f"TIME: is {shown(clock)}, expected a time of day such as 11:42") from error
    if day is not None:
        return datetime.combine(day, wanted, zone).astimezone(UTC)
    latest = latest_utc.astimezone(zone)
    moment = datetime.combine(latest.date(), wanted, zone).astimezone(UTC)
    if moment > latest_utc:
        moment = datetime.combine(latest.date() - timedelta(days=1), wanted, zone).astimezone(UTC)
    return moment


def describe(parser: argparse.ArgumentParser) -> None:
    """Say what the command does and takes."""
    parser.description = (
        "Says from the field log what was heard in one minute: each window's scores, what the gate and the "
        "decision made of it, and why there was an alert or none. Without --date it is the latest such time: before "
        "now, or with --dir before the journal's end."
    )
    parser.epilog = "Example: python -m agent why 11:42 --dir copies/ipe-07 --date 2026-11-20"
    parser.add_argument("time", metavar="TIME", help="time of day on the phone's clock, 11:42 or 11:42:30")
    parser.add_argument("--date", metavar="YYYY-MM-DD", help="which day")
    parser.add_argument("--utc", action="store_true", help="TIME, and what is printed, is UTC and not local time")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--dir", type=Path, metavar="DIR", help="a phone's storage.folder, or a copy of it")
    where.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="this device's YAML file, which names the folder; without it, defaults",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Find the minute and tell its story."""
    zone = UTC if options.utc else None
    day = _date(options.date)
    folder = _one_journal(options.dir or _config(options.config).storage.folder)
    latest = datetime.now(UTC)
    if options.dir and day is None:
        latest = min(latest, end_utc(folder) or latest)
    story = tell(folder, minute_of(options.time, day, zone, latest), zone)
    print(json.dumps(_document(story)) if options.json else "\n".join(_screen(story)))
    return DONE


def _config(path: Path | None) -> AgentConfig:
    return AgentConfig() if path is None else read_config(path)


def _date(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--date: is {shown(text)}, expected YYYY-MM-DD") from error


def _one_journal(folder: Path) -> Path:
    folders = journal_folders(folder)
    if len(folders) > 1:
        raise StorageError(f"{folder}: holds {len(folders)} journals; name one: {', '.join(map(str, folders[:4]))}")
    return folders[0]


def _document(story: Story) -> dict[str, object]:
    return {
        "kind": "why",
        "device": story.device_id,
        "from": story.since_utc.astimezone(story.zone).isoformat(),
        "to": story.until_utc.astimezone(story.zone).isoformat(),
        "time_certainty": story.certainty,
        "model": None if story.segment is None or story.segment.setting is None else story.segment.setting.model_digest,
        "minute": story.minute,
        "states": story.states,
        "gaps": story.gaps,
        "windows": [_window(story, moment) for moment in story.moments],
        "events": [
            {"time": note.utc.astimezone(story.zone).isoformat(), "event": note.event, **note.fields}
            for note in story.notes
        ],
        "reasons": story.reasons(),
        "damaged": story.damaged,
    }


def _window(story: Story, moment: Moment) -> dict[str, object]:
    return {
        "time": moment.utc.astimezone(story.zone).isoformat(timespec="milliseconds"),
        "gate": moment.gate,
        "scores": {label: round(score, 4) for label, score in moment.scores.items()},
        "hits": {label: standing.hits for label, standing in moment.standings.items()},
        "decisions": [f"{found.label} {'begins' if found.opens else 'ends'}" for found in moment.detections],
    }


def _screen(story: Story) -> Iterator[str]:
    zone = "UTC" if story.zone is UTC else f"local time, {story.since_utc.astimezone(story.zone):%Z}"
    since, until = story.at(story.since_utc, day=True), story.at(story.until_utc)
    yield f"{story.device_id or 'unnamed'}, {since} to {until} ({zone})"
    if story.certainty in ("guess", "unset"):
        yield "the phone's clock was not set by the network then: the true time may be another"
    yield from _circumstances(story)
    if story.moments:
        yield ""
        yield f"{'':10}{'gate':<9}" + "".join(f"{label:>10}" for label in story.labels)
    for moment in story.moments:
        scores = "".join(f"{_score(moment, label):>10}" for label in story.labels)
        yield f"{story.at(moment.utc):<10}{moment.gate:<9}{scores}{_marks(story, moment)}"
    yield ""
    for label, reason in story.reasons().items():
        yield reason if label == "*" else f"{label}: {reason}"
    if story.notes:
        yield ""
        yield "in the log:"
        for note in story.notes:
            yield f"  {story.at(note.utc, day=True)}  {note.text()}"
    if story.damaged:
        yield f"({story.damaged} damaged lines or files of this journal were passed over)"


def _circumstances(story: Story) -> Iterator[str]:
    if story.segment is not None and story.segment.setting is not None and story.moments:
        rules = ", ".join(
            f"{label} {rule.hits} of {rule.of} at {rule.threshold:g}"
            for label, rule in story.rules.items()
            if rule.alert
        )
        yield f"model {story.segment.setting.model_digest}; {rules}"
    facts = [f"{story.minute['level_dbfs']} dBFS"] if story.minute.get("level_dbfs") is not None else []
    power = story.minute.get("power")
    facts += [f"power level {power}"] if power not in (None, "full") else []
    facts += [f"{story.minute['queue']} alerts waited"] if story.minute.get("queue") else []
    battery = story.minute.get("battery")
    if isinstance(battery, Mapping):
        facts.append("battery " + ", ".join(f"{key} {value}" for key, value in battery.items()))  # pyright: ignore[reportUnknownVariableType]
    if facts:
        yield "; ".join(facts)


def _score(moment: Moment, label: str) -> str:
    return f"{moment.scores[label]:.4f}" if moment.scores else "-"


def _marks(story: Story, moment: Moment) -> str:
    marks = [
        f"{found.label} {'begins' if found.opens else 'ends'}"
        for found in moment.detections
        if story.rules[found.label].alert
    ]
    if not marks:
        marks = [
            f"{label} {standing.hits} of {story.rules[label].hits} hits"
            for label, standing in moment.standings.items()
            if standing.hits and not standing.is_open and story.rules[label].alert
        ]
    return f"   {'; '.join(marks)}" if marks else ""
