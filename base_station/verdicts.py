"""What people said of alerts, in the database: each saying is kept, the latest of each alert counts."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, insert, select

from base_station import tables
from base_station.precision import Judged, at_random, by_uncertainty, precision
from base_station.store import Store

MOST_WAITING = 5_000
"""Of the newest alerts without a verdict, so many are looked through for the most doubtful."""
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

    def latest(self) -> list[Verdict]:
        """Return the verdict that counts of every alert that has one."""
        table = tables.verdicts
        newest = select(func.max(table.c.seq)).group_by(table.c.alert_id)
        query = select(table).where(table.c.seq.in_(newest)).order_by(table.c.seq.desc()).limit(MOST_JUDGED)
        with self._database.read() as connection:
            return [
                Verdict(**{name: getattr(row, name) for name in Verdict.__dataclass_fields__})
                for row in connection.execute(query)
            ]

    def judged(self) -> list[Judged]:
        """Return every alert that has a verdict, drills left out: they are no news of the model."""
        verdicts = {verdict.alert_id: verdict for verdict in self.latest()}
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
            ids = list(connection.execute(_waiting()).scalars())
        if order == "random":
            return at_random(ids, seed)[:limit]
        waiting = [(event.alert_id, event.label, event.score) for event in self._store.events_of(ids)]
        return by_uncertainty(waiting, self.judged())[:limit]

    def trust(self, usual: float) -> float:
        """Return how often alerts that were chosen at random were right; the usual figure while few were judged."""
        random = [each for each in self.judged() if each.chosen == "random"]
        found = precision([*random], "label")
        right, wrong = sum(each.right for each in found), sum(each.wrong for each in found)
        return (right + 10.0 * usual) / (right + wrong + 10.0)


def _waiting() -> Select[str]:
    judged = select(tables.verdicts.c.seq).where(tables.verdicts.c.alert_id == tables.alerts.c.alert_id)
    return (
        select(tables.alerts.c.alert_id)
        .where(~judged.exists(), tables.alerts.c.drill.is_(False))
        .order_by(tables.alerts.c.seq.desc())
        .limit(MOST_WAITING)
    )
