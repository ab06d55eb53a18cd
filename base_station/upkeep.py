"""`backup`, `restore`, `check` and `prune`: looking after the database."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

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
    saving.add_argument("file", type=Path, metavar="FILE", help="where it goes; must not exist")
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
        description="Removes old pictures and old alerts, the oldest first; what a person has judged is kept. The "
        "room is used again; the file itself does not shrink.",
    )
    pruning.add_argument("--alert-days", type=float, metavar="N", help="alerts older than this go")
    pruning.add_argument("--picture-days", type=float, metavar="N", help="pictures older than this go")
    pruning.add_argument("--megabytes", type=float, metavar="N", help="the oldest go until no more is held")
    pruning.set_defaults(command=_prune)


def _backup(options: argparse.Namespace) -> int:
    with opened_store(options.data, options.database) as (store, _):
        copied = backup.back_up(store.database, options.file)
    print(f"{copied.path}: {copied.n_alerts} alerts, {copied.n_bytes / 1e6:.1f} MB; station.key is not in it")
    return DONE


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
    retention = Retention(alert_days=options.alert_days, picture_days=options.picture_days, megabytes=options.megabytes)
    with opened_store(options.data, options.database) as (store, _):
        removed = prune(store.database, retention, datetime.now(UTC))
        held = held_bytes(store.database)
    print(f"{removed.alerts} alerts and {removed.pictures} pictures removed; {held / 1e6:.1f} MB held")
    return DONE
