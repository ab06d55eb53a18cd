"""What people said of alerts, in the database: each saying is kept, the latest of each alert counts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Select, String, cast, func, insert, select

from base_station import tables
from base_station.incidents import Rules
from base_station.precision import FALSE, TRUE, Judged, Precision, at_random, by_uncertainty, precisions
from base_station.store import LARGEST_PAGE, Store

MOST_WAITING = 2_000
"""Of the newest alerts without a verdict, so many are looked through for the most doubtful."""
MOST_KNOWN = 2_000
"""Of the latest verdicts, so many say how doubtful an alert is."""
MOST_JUDGED = 50_000
_AT_A_TIME = 500


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

    def among(self, alert_ids: Collection[str]) -> dict[str, Verdict]:
        """Return by alert the verdict that counts; those that nobody judged are left out."""
        table, ids = tables.verdicts, list(alert_ids)
        found: dict[str, Verdict] = {}
        for begin in range(0, len(ids), LARGEST_PAGE):  # SQLite bounds the variables of a statement
            some = ids[begin : begin + LARGEST_PAGE]
            query = select(table).where(table.c.alert_id.in_(some)).order_by(table.c.seq)
            with self._database.read() as connection:
                for row in connection.execute(query):
                    said = Verdict(**{name: getattr(row, name) for name in Verdict.__dataclass_fields__})
                    found[said.alert_id] = said
        return found

    def marker(self) -> int:
        """Return a number that rises with every verdict."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.max(tables.verdicts.c.seq))).scalar_one() or 0)

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

    def latest_of(self, alert_ids: Sequence[str]) -> list[Verdict]:
        """Return the verdict that counts of those of some alerts that have one."""
        table, found = tables.verdicts, list[Verdict]()
        for begin in range(0, len(alert_ids), _AT_A_TIME):
            some = alert_ids[begin : begin + _AT_A_TIME]
            newest = select(func.max(table.c.seq)).where(table.c.alert_id.in_(some)).group_by(table.c.alert_id)
            with self._database.read() as connection:
                rows = connection.execute(select(table).where(table.c.seq.in_(newest)))
                found += [
                    Verdict(**{name: getattr(row, name) for name in Verdict.__dataclass_fields__}) for row in rows
                ]
        return found

    def newest(self, most: int) -> list[Verdict]:
        """Return the last sayings, the latest first, also those that others have replaced since."""
        table = tables.verdicts
        with self._database.read() as connection:
            return [
                Verdict(**{name: getattr(row, name) for name in Verdict.__dataclass_fields__})
                for row in connection.execute(select(table).order_by(table.c.seq.desc()).limit(most))
            ]

    def precision(self, by: str, chosen: str | None = None) -> list[Precision]:
        """Return how often alerts were right, drills left out: they are no news of the model.

        Args:
            by: `label`, `device` or `month`.
            chosen: only alerts that came before their judges in this way; None for all.
        """
        query = _counted(by).where(tables.verdicts.c.chosen == chosen) if chosen else _counted(by)
        with self._database.read() as connection:
            return precisions((row[0], row[1], row[2]) for row in connection.execute(query))

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
            known = [Judged(label=row[0], score=row[1], verdict=row[2]) for row in connection.execute(_known())]
        return by_uncertainty(waiting, known)[:limit]

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


def _counts() -> ColumnElement[bool]:
    """Return the condition that a verdict is the one that counts, and its alert no drill."""
    table, later = tables.verdicts, tables.verdicts.alias()
    said_later = select(later.c.seq).where(later.c.alert_id == table.c.alert_id, later.c.seq > table.c.seq)
    return ~said_later.exists() & tables.alerts.c.drill.is_(False)


def _known() -> Select[str, float, str]:
    """Return the query for label, score and verdict of what was judged last."""
    table, alerts, revisions = tables.verdicts.c, tables.alerts.c, tables.revisions.c
    score = select(func.max(revisions.score)).where(revisions.alert_id == alerts.alert_id).scalar_subquery()
    query = select(alerts.label, score, table.verdict).join(tables.alerts, alerts.alert_id == table.alert_id)
    return query.where(_counts()).order_by(table.seq.desc()).limit(MOST_KNOWN)


def _counted(by: str) -> Select[str, str, int]:
    """Return the query that counts verdicts by a key."""
    alerts, table, revisions = tables.alerts.c, tables.verdicts.c, tables.revisions.c
    first = select(revisions.onset_utc).where(revisions.alert_id == alerts.alert_id).order_by(revisions.revision)
    month = func.substr(cast(first.limit(1).scalar_subquery(), String), 1, 7)  # 2026-11
    key = {"label": alerts.label, "device": alerts.device_id, "month": month}[by]
    query = select(key, table.verdict, func.count()).join(tables.alerts, alerts.alert_id == table.alert_id)
    return query.where(_counts()).group_by(key, table.verdict)


def _random_verdicts() -> Select[str, int]:
    """Return the query that counts what was said of alerts that were chosen at random, drills left out."""
    table = tables.verdicts
    return (
        select(table.c.verdict, func.count())
        .join(tables.alerts, tables.alerts.c.alert_id == table.c.alert_id)
        .where(table.c.chosen == "random", _counts())
        .group_by(table.c.verdict)
    )
