"""Who has seen an incident and who sees to it; nothing is ever taken out.

Incidents are computed anew from alerts, so that what was done with one is kept by its first alert; where two incidents
turn out to be one, what was done with either was done with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select

from base_station import tables
from base_station.database import Database

SEEN, UNSEEN, GIVEN = "seen", "unseen", "given"
DONE = (SEEN, UNSEEN, GIVEN)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One thing that somebody did with an incident."""

    alert_id: str
    """The incident's first alert, as it was then."""
    done: str
    """`seen`; `unseen`: that was a slip; `given`: `whom` sees to it, nobody if empty."""
    person: str
    whom: str
    at_utc: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Handling:
    """What all steps come to."""

    seen: Step | None
    """The acknowledgement that counts."""
    given: Step | None
    """To whom it was given last; None where to nobody."""


class IncidentLog:
    """The log in the database."""

    def __init__(self, database: Database) -> None:
        """Take the station's database."""
        self._database = database

    def add(self, step: Step) -> None:
        """Write a step down behind those before it."""
        values = {name: getattr(step, name) for name in Step.__dataclass_fields__}
        with self._database.write() as connection:
            connection.execute(insert(tables.incident_log).values(**values))

    def steps(self, alert_ids: Sequence[str]) -> list[Step]:
        """Return everything that was done with the incidents that some alerts began, the oldest first."""
        table = tables.incident_log
        query = select(table).where(table.c.alert_id.in_(alert_ids)).order_by(table.c.seq)
        with self._database.read() as connection:
            return [
                Step(**{name: getattr(row, name) for name in Step.__dataclass_fields__})
                for row in connection.execute(query)
            ]


def handling(steps: Sequence[Step]) -> Handling:
    """Return what steps come to, the oldest first."""
    seen: Step | None = None
    given: Step | None = None
    for step in steps:
        if step.done == GIVEN:
            given = step if step.whom else None
        else:
            seen = step if step.done == SEEN else None
    return Handling(seen=seen, given=given)
