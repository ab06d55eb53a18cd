"""Who may read and judge: people with passwords and sessions, machines with tokens, in two roles.

Passwords are kept as argon2id, sessions and tokens as digests: whoever copies the database can be nobody. Attempts to
guess are counted in the database, so that all processes of a station count together.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Executable, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from agent.errors import AgentError, ConfigError, StorageError
from base_station import tables
from base_station.database import Database

VIEWER, OPERATOR = "viewer", "operator"
ROLES = (VIEWER, OPERATOR)
_NAME = re.compile(r"[^\W_][\w.@-]{0,62}")
SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 200
SESSION_LASTS = timedelta(hours=12)
ATTEMPTS_WITHIN = timedelta(minutes=15)
ATTEMPTS_PER_NAME = 5
ATTEMPTS_IN_ALL = 100
"""Of all names together, so that many names are no way around."""


class LastOperatorError(AgentError):
    """Nobody could look after the station any more; nothing was changed."""


class TooManyAttemptsError(AgentError):
    """Wrong passwords came too fast; nobody is let in by password for a while."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Who:
    """Somebody who has proved who he is."""

    name: str
    role: str
    csrf: str = ""
    """What a browser must repeat in a header with everything that changes something; empty for a machine."""

    @property
    def may_change(self) -> bool:
        """Say whether he may do more than read."""
        return self.role == OPERATOR


class Accounts:
    """People, sessions and tokens in the database."""

    def __init__(self, database: Database) -> None:
        """Take the station's database."""
        self._database = database
        self._hasher = PasswordHasher()
        self._nobody = ""

    def any(self) -> bool:
        """Say whether anybody or any token is there: from then on reading wants one of them."""
        with self._database.read() as connection:
            return any(
                connection.execute(select(table.c.name).limit(1)).first() is not None
                for table in (tables.people, tables.tokens)
            )

    # people

    def set_person(
        self,
        name: str,
        role: str,
        password: str,
        now_utc: datetime,
        *,
        also: Executable | None = None,
        keep_operator: bool = False,
    ) -> None:
        """Add somebody, or give him another role and password; his sessions end.

        Args:
            name: his.
            role: one of ROLES.
            password: of SHORTEST_PASSWORD characters and more.
            now_utc: station time.
            also: written in the same transaction.
            keep_operator: refuse what would leave the station without an operator.

        Raises:
            ConfigError: the password is too short or too long.
            LastOperatorError: with `keep_operator`.
        """
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise ConfigError(f"password: has {len(password)} characters, expected {SHORTEST_PASSWORD} to 200")
        hashed = self._hasher.hash(password)
        with self._database.write() as connection:
            if keep_operator and role != OPERATOR and not _operators_besides(connection, name):
                raise LastOperatorError(f"{name}: the station would have no operator")
            connection.execute(delete(tables.sessions).where(tables.sessions.c.name == name))
            connection.execute(delete(tables.people).where(tables.people.c.name == name))
            connection.execute(insert(tables.people).values(name=name, role=role, password=hashed, added_utc=now_utc))
            if also is not None:
                connection.execute(also)

    def remove_person(self, name: str, *, also: Executable | None = None, keep_operator: bool = False) -> bool:
        """Let somebody in no more, at once; return whether there was one of that name.

        With `keep_operator`, LastOperatorError where nobody else could look after the station.
        """
        with self._database.write() as connection:
            if keep_operator and not _operators_besides(connection, name):
                raise LastOperatorError(f"{name}: is the last operator")
            connection.execute(delete(tables.sessions).where(tables.sessions.c.name == name))
            gone = connection.execute(delete(tables.people).where(tables.people.c.name == name)).rowcount == 1
            if gone and also is not None:
                connection.execute(also)
        return gone

    def people(self) -> list[tuple[str, str]]:
        """Return names and roles."""
        with self._database.read() as connection:
            rows = connection.execute(select(tables.people.c.name, tables.people.c.role).order_by(tables.people.c.name))
            return [(row.name, row.role) for row in rows]

    def log_in(self, name: str, password: str, now_utc: datetime) -> tuple[str, Who] | None:
        """Return a fresh session's secret and who it is of, None if name or password is wrong.

        Raises:
            TooManyAttemptsError: too many were wrong lately.
        """
        self._count_attempts(name, now_utc)
        with self._database.read() as connection:
            row = connection.execute(select(tables.people).where(tables.people.c.name == name)).one_or_none()
        # somebody who is not there costs the same work as somebody who is
        if not self._fits(self._dummy() if row is None else row.password, password) or row is None:
            with self._database.write() as connection:
                connection.execute(insert(tables.attempts).values(name=name[:63], at_utc=now_utc))
            return None
        return self._begin_session(name, row.role, now_utc)

    def log_out(self, secret: str) -> None:
        """End a session."""
        with self._database.write() as connection:
            connection.execute(delete(tables.sessions).where(tables.sessions.c.digest == _digest(secret)))

    def by_session(self, secret: str, now_utc: datetime) -> Who | None:
        """Return whose session it is, None if it is none or is over."""
        session, person = tables.sessions.c, tables.people.c
        query = (
            select(person.name, person.role, session.csrf)
            .join(tables.sessions, session.name == person.name)
            .where(session.digest == _digest(secret), session.expires_utc > now_utc)
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Who(name=row.name, role=row.role, csrf=row.csrf)

    # machines

    def add_token(
        self,
        name: str,
        role: str,
        now_utc: datetime,
        *,
        also: Executable | None = None,
        keep_operator: bool = False,
    ) -> str:
        """Add a token and return it; it cannot be read again.

        Args:
            name: of the program.
            role: one of ROLES.
            now_utc: station time.
            also: written in the same transaction.
            keep_operator: refuse the first token of a station that has no operator: it would shut everybody out.

        Raises:
            ConfigError: there is a token of that name.
            LastOperatorError: with `keep_operator`.
        """
        token = f"crp_{secrets.token_urlsafe(32)}"
        try:
            with self._database.write() as connection:
                if keep_operator and not _operators_besides(connection, ""):
                    raise LastOperatorError(f"{name}: the station has no operator yet")
                connection.execute(
                    insert(tables.tokens).values(name=name, role=role, digest=_digest(token), added_utc=now_utc)
                )
                if also is not None:
                    connection.execute(also)
        except StorageError as error:
            if isinstance(error.__cause__, IntegrityError):
                raise ConfigError(f"{name}: there is such a token already; revoke it first") from error
            raise
        return token

    def revoke_token(self, name: str, *, also: Executable | None = None) -> bool:
        """Take a token no more, at once; return whether there was one of that name."""
        with self._database.write() as connection:
            gone = connection.execute(delete(tables.tokens).where(tables.tokens.c.name == name)).rowcount == 1
            if gone and also is not None:
                connection.execute(also)
        return gone

    def tokens(self) -> list[tuple[str, str]]:
        """Return names and roles."""
        with self._database.read() as connection:
            rows = connection.execute(select(tables.tokens.c.name, tables.tokens.c.role).order_by(tables.tokens.c.name))
            return [(row.name, row.role) for row in rows]

    def by_token(self, token: str) -> Who | None:
        """Return whose token it is, None if it is none."""
        query = select(tables.tokens).where(tables.tokens.c.digest == _digest(token))
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Who(name=row.name, role=row.role)

    def _begin_session(self, name: str, role: str, now_utc: datetime) -> tuple[str, Who]:
        secret, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(24)
        with self._database.write() as connection:
            connection.execute(delete(tables.sessions).where(tables.sessions.c.expires_utc <= now_utc))
            connection.execute(delete(tables.attempts).where(tables.attempts.c.name == name))
            connection.execute(
                insert(tables.sessions).values(
                    digest=_digest(secret), name=name, csrf=csrf, expires_utc=now_utc + SESSION_LASTS
                )
            )
        return secret, Who(name=name, role=role, csrf=csrf)

    def _count_attempts(self, name: str, now_utc: datetime) -> None:
        table = tables.attempts
        lately = table.c.at_utc > now_utc - ATTEMPTS_WITHIN
        with self._database.write() as connection:
            connection.execute(delete(table).where(~lately))
            in_all = connection.execute(select(func.count()).select_from(table)).scalar_one()
            mine = connection.execute(
                select(func.count()).select_from(table).where(table.c.name == name[:63])
            ).scalar_one()
        if mine >= ATTEMPTS_PER_NAME or in_all >= ATTEMPTS_IN_ALL:
            raise TooManyAttemptsError("too many wrong passwords; try again in a quarter of an hour")

    def _fits(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    def _dummy(self) -> str:
        self._nobody = self._nobody or self._hasher.hash(secrets.token_urlsafe(16))
        return self._nobody


def checked_name(name: str) -> str:
    """Return a name of a person or a token; ConfigError where it is none."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"NAME: is {name[:70]!r}, expected letters, digits, '.', '_', '@' and '-', at most 63")
    return name


def _operators_besides(connection: Connection, name: str) -> int:
    """Return how many operators there are but for one; on PostgreSQL they stay so until the transaction ends."""
    person = tables.people.c
    others = select(person.name).where(person.role == OPERATOR, person.name != name).with_for_update()
    return len(connection.execute(others).all())


def same(one: str, other: str) -> bool:
    """Say whether two secrets are the same, in a time that tells nothing."""
    return hmac.compare_digest(one.encode(), other.encode())


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
