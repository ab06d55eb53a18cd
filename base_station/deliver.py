"""Notices wait in the database until somebody took them: through restarts, broken links and quiet hours."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from base_station import tables
from base_station.channels import Channel, DeliveryError, RefusedDeliveryError
from base_station.database import Database
from base_station.notices import Notice, Rule, digest, due_utc, trial, wants

log = logging.getLogger(__name__)

FIRST_RETRY_S = 30.0
LONGEST_RETRY_S = 3600.0
GIVE_UP_AFTER = timedelta(hours=48)
_AT_ONCE = 50
_TRIAL_IS_MINE = timedelta(hours=1)
WAITING, SENT, REFUSED, GIVEN_UP = "waiting", "sent", "refused", "given up"


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One line of the delivery log."""

    seq: int
    rule: str
    subject: str
    title: str
    created_utc: datetime
    due_utc: datetime
    attempts: int
    done_utc: datetime | None
    outcome: str
    """`waiting`, `sent`, `refused` (the other side will never take it) or `given up`."""
    error: str
    """Why the last attempt failed; of one that was sent what the other side calls it."""


class Deliveries:
    """The notices in the database."""

    def __init__(self, database: Database) -> None:
        """Take the station's database."""
        self._database = database

    def add(
        self,
        notices: Sequence[Notice],
        rules: Sequence[Rule],
        now_utc: datetime,
        zone: tzinfo | None = None,
        held: timedelta = timedelta(0),
    ) -> int:
        """Let notices wait for everybody who wants them, each once for ever; return how many are new.

        Args:
            notices: what there is to tell.
            rules: who wants what.
            now_utc: station time.
            zone: of the rules' hours; None is the station's own.
            held: so much later than the rules say.
        """
        rows = [
            {
                "rule": rule.name,
                "subject": notice.subject,
                "digest": rule.digest_minutes > 0,
                "notice": notice.to_json(),
                "created_utc": now_utc,
                "due_utc": due_utc(rule, now_utc, zone) + held,
                "attempts": 0,
                "outcome": WAITING,
                "error": "",
            }
            for rule in rules
            for notice in notices
            if wants(rule, notice, zone)
        ]
        if not rows:
            return 0
        upsert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        with self._database.write() as connection:
            added = 0
            for row in rows:
                one = upsert(tables.deliveries).values(**row).on_conflict_do_nothing()
                added += len(connection.execute(one.returning(tables.deliveries.c.seq)).all())
            return added

    def send_due(self, channels: Mapping[str, Channel], now: Callable[[], datetime]) -> int:
        """Try everything that is due, once; return how many notices were told."""
        table = tables.deliveries
        due = (
            select(table)
            .where(table.c.outcome == WAITING, table.c.due_utc <= now(), table.c.rule.in_(list(channels)))
            .order_by(table.c.due_utc, table.c.seq)
            .limit(_AT_ONCE)
        )
        with self._database.read() as connection:
            rows = connection.execute(due).all()
        told = 0
        for together in _messages(rows):
            told += self._send(channels[together[0].rule], together, now())
        return told

    def send_trial(self, rule: Rule, channel: Channel, now: Callable[[], datetime]) -> Delivery:
        """Send a test message by a rule at once, whatever its hours, and return what became of it; tried once.

        It stands in the log from the start, due so late that no other process sends it as well.
        """
        begun = now()
        notice = trial(begun)
        plain = replace(rule, quiet=None, digest_minutes=0)
        self.add([notice], [plain], begun, held=_TRIAL_IS_MINE)
        table = tables.deliveries
        mine = select(table).where(table.c.rule == rule.name, table.c.subject == notice.subject)
        with self._database.read() as connection:
            rows = connection.execute(mine).all()
        self._send(channel, rows, now())
        with self._database.read() as connection:
            sent = _delivery(connection.execute(mine).one())
        if sent.outcome == WAITING:  # a trial that arrives tomorrow tells nobody anything
            self._note(rows, now(), GIVEN_UP, sent.error, tried=0)
            sent = replace(sent, outcome=GIVEN_UP, done_utc=now())
        return sent

    def drop_waiting(self, rule: str, now_utc: datetime) -> int:
        """Give up what waits for a rule that is no more; return how many."""
        table = tables.deliveries
        with self._database.write() as connection:
            waiting = update(table).where(table.c.rule == rule, table.c.outcome == WAITING)
            gone = waiting.values(outcome=GIVEN_UP, done_utc=now_utc, error="its rule was removed")
            return int(connection.execute(gone).rowcount)

    def waiting(self) -> int:
        """Return how many notices nobody took yet."""
        return self.counts().get(WAITING, 0)

    def counts(self) -> dict[str, int]:
        """Return how many notices there are by outcome."""
        table = tables.deliveries
        with self._database.read() as connection:
            rows = connection.execute(select(table.c.outcome, func.count()).group_by(table.c.outcome)).all()
        return {row[0]: row[1] for row in rows}

    def listed(self, limit: int = 50) -> list[Delivery]:
        """Return the delivery log, the newest first."""
        query = select(tables.deliveries).order_by(tables.deliveries.c.seq.desc()).limit(limit)
        with self._database.read() as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def _send(self, channel: Channel, rows: Sequence[Row[tuple[object, ...]]], now_utc: datetime) -> int:
        notice = digest([Notice.from_json(row.notice) for row in rows])
        try:
            called = channel.send(notice)
        except RefusedDeliveryError as error:
            log.error("%s: refused, and not tried again: %s", rows[0].rule, error)  # noqa: TRY400  # for operators
            self._note(rows, now_utc, REFUSED, str(error))
            return 0
        except DeliveryError as error:
            self._failed(rows, now_utc, error)
            return 0
        self._note(rows, now_utc, SENT, called)
        return len(rows)

    def _failed(self, rows: Sequence[Row[tuple[object, ...]]], now_utc: datetime, error: DeliveryError) -> None:
        log.warning("%s: not delivered, tried again later: %s", rows[0].rule, error)
        old = [row for row in rows if now_utc - row.created_utc >= GIVE_UP_AFTER]
        self._note(old, now_utc, GIVEN_UP, str(error))
        young = [row for row in rows if now_utc - row.created_utc < GIVE_UP_AFTER]
        wait_s = min(FIRST_RETRY_S * 2.0 ** min(rows[0].attempts, 20), LONGEST_RETRY_S)
        self._note(young, None, WAITING, str(error), due=now_utc + timedelta(seconds=wait_s))

    def _note(
        self,
        rows: Sequence[Row[tuple[object, ...]]],
        done_utc: datetime | None,
        outcome: str,
        error: str,
        due: datetime | None = None,
        tried: int = 1,
    ) -> None:
        if not rows:
            return
        table = tables.deliveries
        values = {"done_utc": done_utc, "outcome": outcome, "error": error[:300], "attempts": table.c.attempts + tried}
        with self._database.write() as connection:
            connection.execute(
                update(table)
                .where(table.c.seq.in_([row.seq for row in rows]))
                .values(**values, **({} if due is None else {"due_utc": due}))
            )


class Postman:
    """One process's part in telling people."""

    def __init__(
        self,
        database: Database,
        channels: Callable[[], Mapping[str, Channel]],
        now: Callable[[], datetime],
        holder: str,
    ) -> None:
        """Take the database, the ways to people as they are now by rule, station time, a name for this process."""
        self._database = database
        self._deliveries = Deliveries(database)
        self._channels = channels
        self._now = now
        self._holder = holder

    def tick(self) -> int:
        """Tell what is due; return how many were told."""
        channels = self._channels()
        if not channels or not self._database.take_lease("deliver", self._holder, self._now(), _LEASE):
            return 0
        return self._deliveries.send_due(channels, self._now)

    def leave(self) -> None:
        """Let another process do it at once."""
        self._database.drop_lease("deliver", self._holder)


_LEASE = timedelta(minutes=20)
"""Longer than a round in which nobody answers."""


def _messages(rows: Sequence[Row[tuple[object, ...]]]) -> list[list[Row[tuple[object, ...]]]]:
    """Return what goes out together: what waits for a digest of one rule, and everything else alone."""
    messages: list[list[Row[tuple[object, ...]]]] = []
    digests: dict[str, list[Row[tuple[object, ...]]]] = {}
    for row in rows:
        if not row.digest:
            messages.append([row])
        elif row.rule in digests:
            digests[row.rule].append(row)
        else:
            digests[row.rule] = [row]
            messages.append(digests[row.rule])
    return messages


def _delivery(row: Row[tuple[object, ...]]) -> Delivery:
    return Delivery(
        seq=row.seq,
        rule=row.rule,
        subject=row.subject,
        title=Notice.from_json(row.notice).title,
        created_utc=row.created_utc,
        due_utc=row.due_utc,
        attempts=row.attempts,
        done_utc=row.done_utc,
        outcome=row.outcome,
        error=row.error,
    )
