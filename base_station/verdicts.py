"""What people said of alerts, in the database: each saying is kept, the latest of each alert counts."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Select, func, insert, select

from base_station import tables
from base_station.incidents import Rules
from base_station.precision import FALSE, TRUE, Judged, at_random, by_uncertainty
from base_station.store import Store

MOST_WAITING = 2_000
"""Of the newest alerts without a verdict, so many are looked through for the most doubtful."""
MOST_KNOWN = 2_000
"""Of the latest verdicts, so many say how doubtful an alert is."""
MOST_JUDGED = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One saying about one alert."""

    alert_id: str
    verdict: str
    """`true`, `false` or `unsure`."""
    heard: str
    """What it really was, a small word; empty if nobody says."""
    chosen: str
    """How it came before its judge: `random`, `uncertain` or `other`."""
    judge: str
    note: str
    at_utc: datetime


class Verdicts:
    """The verdicts in the database."""

    def __init__(self, store: Store) -> None:
        """Take the station's database."""
        self._store = store
        self._database = store.database

    def add(self, verdict: Verdict) -> bool:
        """Keep a verdict beside those before it; return False if there is no such alert."""
        with self._database.write() as connection:
            known = select(tables.alerts.c.seq).where(tables.alerts.c.alert_id == verdict.alert_id)
            if connection.execute(known).scalar_one_or_none() is None:
                return False
            values = {name: getattr(verdict, name) for name in Verdict.__dataclass_fields__}
            connection.execute(insert(tables.verdicts).values(**values))
        return True

    def of(self, alert_id: str) -> list[Verdict]:
        """Return everything that was said of an alert, the oldest first."""
        table = tables.verdicts
        query = select(table).where(table.c.alert_id == alert_id).order_by(table.c.seq)
        with self._database.read() as connection:
            return [
                Verdict(**{name: getattr(row, name) for name in Verdict.__dataclass_fields__})
                for row in connection.execute(query)
            ]

    def latest(self, most: int = MOST_JUDGED) -> list[Verdict]:
        """Return the verdict that counts of every alert that has one, the latest given first."""
        table = tables.verdicts
        newest = select(func.max(table.c.seq)).group_by(table.c.alert_id)
        query = select(table).where(table.c.seq.in_(newest)).order_by(table.c.seq.desc()).limit(most)
        with self._database.read() as connection:
            return [
                Verdict(**{name: getattr(row, name) for name in Verdict.__dataclass_fields__})
                for row in connection.execute(query)
            ]

    def judged(self, most: int = MOST_JUDGED) -> list[Judged]:
        """Return the alerts that were judged last, drills left out: they are no news of the model."""
        verdicts = {verdict.alert_id: verdict for verdict in self.latest(most)}
        return [
            Judged(
                alert_id=event.alert_id,
                device_id=event.device_id,
                label=event.label,
                score=event.score,
                onset_utc=event.onset.utc,
                verdict=verdicts[event.alert_id].verdict,
                chosen=verdicts[event.alert_id].chosen,
            )
            for event in self._store.events_of(list(verdicts))
            if not event.drill
        ]

    def queue(self, order: str, limit: int, seed: str) -> list[str]:
        """Return ids of alerts that want a verdict.

        Args:
            order: `uncertain` or `random`.
            limit: at most so many.
            seed: another one gives another random order.
        """
        with self._database.read() as connection:
            if order == "random":
                return at_random(list(connection.execute(_waiting()).scalars()), seed)[:limit]
            waiting = [(row[0], row[1], row[2]) for row in connection.execute(_scored())]
        return by_uncertainty(waiting, self.judged(MOST_KNOWN))[:limit]

    def trust(self, usual: float) -> float:
        """Return how often alerts that were chosen at random were right; the usual figure while few were judged."""
        with self._database.read() as connection:
            found = {row[0]: row[1] for row in connection.execute(_random_verdicts())}
        right, wrong = found.get(TRUE, 0), found.get(FALSE, 0)
        return (right + 10.0 * usual) / (right + wrong + 10.0)

    def rules(self, usual: Rules) -> Rules:
        """Return when alerts are one incident, with devices trusted as far as verdicts say."""
        return replace(usual, trust=self.trust(usual.trust))


def _waiting() -> Select[str]:
    judged = select(tables.verdicts.c.seq).where(tables.verdicts.c.alert_id == tables.alerts.c.alert_id)
    return (
        select(tables.alerts.c.alert_id)
        .where(~judged.exists(), tables.alerts.c.drill.is_(False))
        .order_by(tables.alerts.c.seq.desc())
        .limit(MOST_WAITING)
    )


def _scored() -> Select[str, str, float]:
    """Return the query for id, label and highest score of what waits."""
    waiting, revisions = _waiting().add_columns(tables.alerts.c.label).subquery(), tables.revisions.c
    return (
        select(waiting.c.alert_id, waiting.c.label, func.max(revisions.score))
        .join(tables.revisions, revisions.alert_id == waiting.c.alert_id)
        .group_by(waiting.c.alert_id, waiting.c.label)
    )


def _random_verdicts() -> Select[str, int]:
    """Return the query that counts what was said of alerts that were chosen at random, drills left out."""
    table, later = tables.verdicts, tables.verdicts.alias()
    said_later = select(later.c.seq).where(later.c.alert_id == table.c.alert_id, later.c.seq > table.c.seq)
    return (
        select(table.c.verdict, func.count())
        .join(tables.alerts, tables.alerts.c.alert_id == table.c.alert_id)
        .where(table.c.chosen == "random", ~said_later.exists(), tables.alerts.c.drill.is_(False))
        .group_by(table.c.verdict)
    )
