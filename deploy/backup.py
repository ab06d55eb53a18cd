"""`python -m deploy backup`: a copy of the station's database, taken while it serves, and the oldest copies gone.

SQLite's own online backup: what it writes is one consistent state, and a copy counts only once it was read through.
PostgreSQL by pg_dump. The station's key is not in it: database and key are kept apart, or a thief has both.
"""

import argparse
import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deploy.errors import DeployError

DATABASE = "station.db"
URL_VARIABLE = "CURUPIRA_DATABASE"
_PREFIX = "station-"
_PAGES = 1_000
_BREATH_S = 0.01
"""Between two pieces, so that the station's writers come first."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "backup",
        help="copy the station's database while it serves",
        description="Copies the station's database to a file named after the time, proves the copy, and removes the "
        f"oldest. With {URL_VARIABLE} set it asks pg_dump. The station's key is not copied: keep it elsewhere, once.",
        epilog="To restore: stop the station, put the copy in the database's place, remove station.db-wal and "
        "station.db-shm, start it.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the station's folder")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="where the copies go")
    parser.add_argument("--keep", type=int, default=14, metavar="N", help="copies to keep (default: %(default)s)")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Make a copy, say where it is, and remove the oldest."""
    if options.keep < 1:
        raise DeployError(f"--keep: is {options.keep}, expected at least 1", 2)
    made = back_up(options.data, options.to, datetime.now(UTC), os.environ)
    gone = prune(options.to, options.keep)
    print(f"{made}: {made.stat().st_size / 1e6:.1f} MB; {len(gone)} older removed")
    return 0


def back_up(data: Path, to: Path, now: datetime, environ: Mapping[str, str]) -> Path:
    """Write one copy and return its path.

    Args:
        data: the station's folder.
        to: where the copy goes; made if missing.
        now: becomes its name.
        environ: names a PostgreSQL database, if that is what the station uses.

    Raises:
        DeployError: there is no database, no room, or the copy is not whole.
    """
    url = environ.get(URL_VARIABLE, "")
    name = f"{_PREFIX}{now:%Y%m%dT%H%M%SZ}{'.pgdump' if url else '.db'}"
    draft = to / f".{name}.new"
    try:
        to.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if url:
            _dump(url, draft, environ)
        else:
            _copy(data / DATABASE, draft)
        _sync(draft)
        draft.replace(to / name)
    except (OSError, sqlite3.Error) as error:
        raise DeployError(f"{to / name}: no backup was made: {error}") from error
    finally:
        for rest in to.glob(f"{draft.name}*"):
            rest.unlink()
    return to / name


def _copy(database: Path, draft: Path) -> None:
    if not database.is_file():
        raise DeployError(f"{database}: there is no database to copy", 2)
    with (
        contextlib.closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=30.0)) as old,
        contextlib.closing(sqlite3.connect(draft)) as new,
    ):
        old.backup(new, pages=_PAGES, sleep=_BREATH_S)
        new.execute("PRAGMA journal_mode = DELETE")  # one file, whole by itself
        (found,) = new.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise DeployError(f"{database}: the copy is damaged, and so may be the database: {found}")


def _dump(url: str, draft: Path, environ: Mapping[str, str]) -> None:
    """Ask pg_dump; the password goes by the environment, for everybody may read a command line."""
    parts = urlsplit(url)
    if not parts.scheme.startswith("postgres"):  # `postgres://` is what the station takes too
        raise DeployError(f"{URL_VARIABLE}: is a {parts.scheme or 'bare'} URL, expected postgresql://…", 2)
    given = {
        "PGHOST": parts.hostname,
        "PGPORT": str(parts.port) if parts.port else None,
        "PGUSER": unquote(parts.username) if parts.username else None,
        "PGPASSWORD": unquote(parts.password) if parts.password else None,
        "PGDATABASE": unquote(parts.path.lstrip("/")) or None,
    }
    settings = {key: value for key, value in given.items() if value}
    try:
        subprocess.run(
            ["pg_dump", "--format=custom", f"--file={draft}"],
            check=True,
            capture_output=True,
            text=True,
            env={**environ, **settings},
        )
    except FileNotFoundError as error:
        raise DeployError("pg_dump is not installed: apt install postgresql-client", 2) from error
    except subprocess.CalledProcessError as error:
        raise DeployError(f"pg_dump failed: {' '.join(str(error.stderr).split())[:300]}") from error


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def prune(to: Path, keep: int) -> list[Path]:
    """Remove all but the newest copies and return what went; names sort by time."""
    copies = sorted(path for path in to.glob(f"{_PREFIX}*") if path.suffix in {".db", ".pgdump"})
    gone = copies[: max(0, len(copies) - keep)]
    for path in gone:
        path.unlink()
    return gone
