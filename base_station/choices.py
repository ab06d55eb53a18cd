"""What operators chose on the settings page: rules, retention, the pages' language; in the database, for all processes.

What stands in `station.yaml` holds; what is chosen here is added to it, or fills what the file leaves open. Choices
lie sealed with the station's key: the addresses of rules hold secrets, and backups of the database do not hold the key.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from datetime import datetime

from sqlalchemy import Insert, delete, insert, select

from agent.errors import ConfigError, FieldError
from agent.fields import Fields
from base_station import tables
from base_station.channels import Channel
from base_station.config import LANGUAGES, StationConfig
from base_station.database import Database
from base_station.keys import KeyRing
from base_station.notify_rules import MOST_RULES, Way, open_channel, parse_way
from base_station.registry import audit_row
from base_station.retention import Retention

log = logging.getLogger(__name__)

_RULE = "rule:"
_RETENTION, _LANGUAGE = "retention", "language"
_SECRET = ("apprise", "earthranger")


class Choices:
    """The choices in the database."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        """Take the station's database and keys."""
        self._database = database
        self._keys = keys
        self._unreadable: set[str] = set()
        self.language = ""
        """As it was last read or set here: the pages need it at every step."""

    def joined(self, told: StationConfig) -> StationConfig:
        """Return what a station is told in all: by its file, and by these choices."""
        chosen = self._read()
        self.language = str(chosen.get(_LANGUAGE, {}).get("language", ""))
        names = {way.rule.name for way in told.ways}
        ways = tuple(way for way in _ways(chosen) if way.rule.name not in names)
        own = _retention(chosen)
        kept = {each.name: getattr(told.retention, each.name) or getattr(own, each.name) for each in fields(Retention)}
        page = replace(told.page, language=told.page.language or self.language)
        return replace(told, ways=told.ways + ways, retention=Retention(**kept), page=page)

    def rules(self) -> dict[str, dict[str, object]]:
        """Return the rules that were chosen here as documents, by name."""
        return {name.removeprefix(_RULE): document for name, document in self._read().items() if name.startswith(_RULE)}

    def put_rule(self, document: Mapping[str, object], *, who: str, now_utc: datetime) -> Way:
        """Add a rule, or change the one of its name.

        Args:
            document: as a rule stands in `station.yaml`.
            who: whoever does it, for the audit.
            now_utc: station time.

        Raises:
            FieldError: it is no rule, or one too many.
            ConfigError: an address of it is none.
        """
        way = parse_way(Fields(document, "rule"))
        open_channel("rule", way)
        rules = self.rules()
        if way.rule.name not in rules and len(rules) >= MOST_RULES:
            raise FieldError("rule", f"expected at most {MOST_RULES} rules; remove one first")
        told = {key: value for key, value in document.items() if key not in _SECRET}
        self._put(_RULE + way.rule.name, document, now_utc, audit_row(who, "rule_set", way.rule.name, now_utc, **told))
        return way

    def remove_rule(self, name: str, *, who: str, now_utc: datetime) -> bool:
        """Remove a rule; return whether there was one of that name."""
        with self._database.write() as connection:
            gone = connection.execute(delete(tables.choices).where(tables.choices.c.name == _RULE + name)).rowcount
            if gone:
                connection.execute(audit_row(who, "rule_removed", name, now_utc))
        return gone == 1

    def set_retention(self, retention: Retention, *, who: str, now_utc: datetime) -> None:
        """Choose how long and how much is kept, where `station.yaml` leaves it open."""
        document = asdict(retention)
        self._put(_RETENTION, document, now_utc, audit_row(who, "retention_set", "station", now_utc, **document))

    def retention(self) -> Retention:
        """Return what was chosen here."""
        return _retention(self._read())

    def set_language(self, language: str, *, who: str, now_utc: datetime) -> None:
        """Choose the language of readers whose browser asks for none that the station has."""
        if language not in LANGUAGES:
            raise FieldError("language", f"expected one of {', '.join(LANGUAGES)}")
        note = audit_row(who, "language_set", "station", now_utc, language=language)
        self._put(_LANGUAGE, {"language": language}, now_utc, note)
        self.language = language

    def _put(self, name: str, document: Mapping[str, object], now_utc: datetime, note: Insert) -> None:
        sealed = self._keys.seal(json.dumps(document, ensure_ascii=False).encode())
        with self._database.write() as connection:
            connection.execute(delete(tables.choices).where(tables.choices.c.name == name))
            connection.execute(insert(tables.choices).values(name=name, sealed=sealed, changed_utc=now_utc))
            connection.execute(note)

    def _read(self) -> dict[str, dict[str, object]]:
        with self._database.read() as connection:
            rows = connection.execute(select(tables.choices).order_by(tables.choices.c.name)).all()
        found = {}
        for row in rows:
            try:
                found[row.name] = dict(json.loads(self._keys.open(row.sealed)))
            except ConfigError:  # the rest of the station works on, whatever happened to its key
                if row.name not in self._unreadable:
                    log.error("%s: was chosen under another station.key, and is left out; choose anew", row.name)  # noqa: TRY400
                    self._unreadable.add(row.name)
        return found


class Ways:
    """The ways to people as they are now; opened anew where a rule has changed."""

    def __init__(self, told: Callable[[], StationConfig]) -> None:
        """Take what says what the station is told now."""
        self._told = told
        self._ways: tuple[Way, ...] = ()
        self._channels: Mapping[str, Channel] = {}

    def __call__(self) -> Mapping[str, Channel]:
        """Return the way of each rule by its name; one that cannot be opened is logged and left out."""
        ways = self._told().ways
        if ways != self._ways:
            self._channels = dict(self._opened(ways))
            self._ways = ways
        return self._channels

    def _opened(self, ways: tuple[Way, ...]) -> Iterator[tuple[str, Channel]]:
        for way in ways:
            try:
                yield way.rule.name, open_channel(f"rule {way.rule.name!r}", way)
            except ConfigError as error:
                log.error("%s; nothing is sent by it until it is changed", error)  # noqa: TRY400  # for operators


def _ways(chosen: Mapping[str, dict[str, object]]) -> list[Way]:
    ways = []
    for name, document in chosen.items():
        if name.startswith(_RULE):
            try:
                ways.append(parse_way(Fields(document, name)))
            except FieldError as error:  # of a version with other rules
                log.error("%s; it is left out", error)  # noqa: TRY400  # for operators
    return ways


def _retention(chosen: Mapping[str, dict[str, object]]) -> Retention:
    document = chosen.get(_RETENTION, {})
    given = {each.name: document.get(each.name) for each in fields(Retention)}
    return Retention(
        **{name: float(value) if isinstance(value, int | float) else None for name, value in given.items()}
    )
