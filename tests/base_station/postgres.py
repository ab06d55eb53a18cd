"""A PostgreSQL of the tests' own: in a temporary folder, by a socket, as a user without rights."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text

_PROGRAMS = ("initdb", "pg_ctl", "postgres")
# durability is the server's business and costs the tests half their time
_FAST = "-c fsync=off -c full_page_writes=off -c synchronous_commit=off"
_SMALL = "-c listen_addresses= -c max_connections=80"


def found(name: str) -> Path | None:
    """Return where a program of the server lies, on PATH or where Debian puts it."""
    on_path = shutil.which(name)
    places = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return places[-1] if places else None


@contextmanager
def server(*, fast: bool = True) -> Iterator[URL]:
    """Yield the URL of a fresh server's database `postgres`; skip with the reason where there is none."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: the extra [postgres]")
    programs = {name: found(name) for name in _PROGRAMS}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: install Debian's postgresql")
    user = _unprivileged()
    root = Path(tempfile.mkdtemp(prefix="curupira-pg-", dir="/dev/shm" if fast and Path("/dev/shm").is_dir() else None))
    if user is not None:
        os.chown(root, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    data = root / "data"

    def run(command: Sequence[object]) -> None:
        # a file and no pipe: the server keeps it open
        with (root / "out").open("ab") as out:
            done = subprocess.run(
                [str(word) for word in command],
                user=user,
                cwd=root,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            pytest.skip(f"PostgreSQL does not start: {(root / 'out').read_text()[-300:]}")

    try:
        run([programs["initdb"], "-D", data, "-U", "curupira", "-A", "trust", "-E", "UTF8", "--no-sync"])
        run(
            [
                programs["pg_ctl"],
                "-D",
                data,
                "-w",
                "-l",
                root / "log",
                "-o",
                f"{_FAST if fast else ''} {_SMALL} -k {root}",
                "start",
            ]
        )
        try:
            yield URL.create("postgresql+psycopg", "curupira", database="postgres", query={"host": str(root)})
        finally:
            run([programs["pg_ctl"], "-D", data, "-m", "immediate", "-w", "stop"])
    finally:
        shutil.rmtree(root, ignore_errors=True)


def fresh(server_url: URL, name: str) -> URL:
    """Make an empty database on the server and return its URL."""
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return server_url.set(database=name)


def empty(url: URL) -> None:
    """Remove all rows, but for what every new database has."""
    engine = create_engine(url)
    with engine.begin() as connection:
        names = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars()
        doomed = ", ".join(name for name in names if name not in ("meta", "alembic_version"))
        connection.execute(text(f"TRUNCATE {doomed} RESTART IDENTITY"))
        connection.execute(text("DELETE FROM meta WHERE name <> 'schema'"))
    engine.dispose()


def _unprivileged() -> str | None:
    """Return whom to run the server as: it refuses root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), "nobody")
