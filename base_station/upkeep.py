"""`backup`, `restore`, `check` and `prune`: looking after the database."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from agent.errors import ConfigError
from base_station import backup
from base_station.opened import opened_store
from base_station.retention import Retention, held_bytes, prune
from base_station.settings import Settings, prepare_folder

DONE, NO = 0, 1


def add_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser
) -> None:
    """Add the four commands."""
    saving = commands.add_parser(
        "backup",
        parents=[shared],
        help="copy the database into a file, also while the station works",
        description="Copies one moment of the whole database into one SQLite file, whatever kind the database is, and "
        "checks it. station.key is not in it: keep that apart, for without it no device's key can be opened.",
    )
    where = saving.add_mutually_exclusive_group(required=True)
    where.add_argument("file", type=Path, nargs="?", metavar="FILE", help="where it goes; must not exist")
    where.add_argument("--to", type=Path, metavar="DIR", help="a folder; the file in it is named after the time")
    saving.add_argument(
        "--keep",
        type=int,
        default=14,
        metavar="N",
        help="of the files in --to the newest N stay (default: %(default)s)",
    )
    saving.set_defaults(command=_backup)
    restoring = commands.add_parser(
        "restore",
        parents=[shared],
        help="fill a new, empty station from a backup",
        description="Fills an empty database, in a file or PostgreSQL, from what `backup` wrote, also by an earlier "
        "version. Put the station.key that belongs to it into DIR as well.",
    )
    restoring.add_argument("file", type=Path, metavar="FILE")
    restoring.set_defaults(command=_restore)
    checking = commands.add_parser(
        "check",
        parents=[shared],
        help="is the database sound?",
        description="Looks for damage: the file's own check, rows that belong to nothing, pictures that are gone, "
        "device keys that station.key cannot open. Exit code 1 if there is any.",
    )
    checking.add_argument("--deep", action="store_true", help="also read every alert and every picture")
    checking.set_defaults(command=_check)
    pruning = commands.add_parser(
        "prune",
        parents=[shared],
        help="let go what was kept long enough",
        description="Removes old journals, pictures and alerts, the oldest first; what a person has judged is kept. "
        "The room is used again; the file itself does not shrink.",
    )
    pruning.add_argument("--alert-days", type=float, metavar="N", help="alerts older than this go")
    pruning.add_argument("--picture-days", type=float, metavar="N", help="pictures older than this go")
    pruning.add_argument("--journal-days", type=float, metavar="N", help="files of journals that came earlier go")
    pruning.add_argument("--megabytes", type=float, metavar="N", help="the oldest go until no more is held")
    pruning.set_defaults(command=_prune)


def _backup(options: argparse.Namespace) -> int:
    if options.keep < 1:
        raise ConfigError(f"--keep: is {options.keep}, expected at least 1")
    settings = Settings(data=options.data, database=options.database)
    if settings.database is None and not Path(str(settings.database_url.database)).is_file():
        raise ConfigError(f"{settings.database_url.database}: there is no database to copy; is --data right?")
    target = options.file or _dated(options.to, datetime.now(UTC))
    with opened_store(options.data, options.database) as (store, _):
        copied = backup.back_up(store.database, target)
    print(f"{copied.path}: {copied.n_alerts} alerts, {copied.n_bytes / 1e6:.1f} MB; station.key is not in it")
    if options.to:
        gone = backup.keep_newest(options.to, options.keep)
        print(f"{len(gone)} older removed, the newest {options.keep} stay")
    return DONE


def _dated(folder: Path, now: datetime) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"--to: {folder} cannot be made: {error.strerror or error}") from error
    return folder / backup.dated_name(now)


def _restore(options: argparse.Namespace) -> int:
    settings = Settings(data=options.data, database=options.database)
    prepare_folder(settings.data)
    copied = backup.restore(options.file, settings.database_url)
    key = "" if settings.key_file.exists() else f"; now put the station.key that belongs to it to {settings.key_file}"
    print(f"{copied.n_alerts} alerts restored from {copied.path}{key}")
    return DONE


def _check(options: argparse.Namespace) -> int:
    with opened_store(options.data, options.database) as (store, keys):
        found = list(backup.faults(store, keys, deep=options.deep))
    for fault in found:
        print(fault)
    print(f"{len(found)} faults" if found else "sound")
    return NO if found else DONE


def _prune(options: argparse.Namespace) -> int:
    retention = Retention(
        alert_days=options.alert_days,
        picture_days=options.picture_days,
        journal_days=options.journal_days,
        megabytes=options.megabytes,
    )
    with opened_store(options.data, options.database) as (store, _):
        removed = prune(store.database, retention, datetime.now(UTC))
        held = held_bytes(store.database)
    gone = f"{removed.alerts} alerts, {removed.pictures} pictures and {removed.journals} files of journals removed"
    print(f"{gone}; {held / 1e6:.1f} MB held")
    return DONE
