"""`import DIR`: journals that came home on a card."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from base_station.fieldlog import Imported, import_journal, journals
from base_station.inbox import iso
from base_station.opened import opened_store

DONE, NO = 0, 1


def add_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser
) -> None:
    """Add the command."""
    command = commands.add_parser(
        "import",
        parents=[shared],
        help="take journals that came home on a card",
        description="Takes every journal in a folder or below it: its events (starts, failures, alerts), and its "
        "files whole. Times go by the device's clock where network time had set it, else by its calls to this station. "
        "Names the alerts that never arrived here. A second import of the same card changes nothing. Exit code 1 if a "
        "journal was not taken.",
    )
    command.add_argument("folder", type=Path, metavar="DIR", help="a card, or a folder with journal-*.jsonl")
    command.set_defaults(command=_import)


def _import(options: argparse.Namespace) -> int:
    folders = journals(options.folder)
    with opened_store(options.data, options.database) as (store, _):
        results = [import_journal(store, folder, datetime.now(UTC)) for folder in folders]
    for result in results:
        print(_line(result))
        for damage in result.damage:
            print(f"  {damage}")
    return NO if any(result.problem for result in results) else DONE


def _line(result: Imported) -> str:
    if result.problem:
        return f"{result.folder}: not taken: {result.problem}"
    span = "undated"
    if result.first_utc is not None and result.last_utc is not None:
        span = f"{iso(result.first_utc)} to {iso(result.last_utc)}"
    parts = [
        f"{result.device_id}: {result.events} events, {result.new} new, {span}",
        f"{result.minutes} minutes, {result.windows} windows",
        f"{result.segments} files kept, {result.new_segments} of them new",
        f"{result.alerts} alerts, {result.never_arrived} never arrived",
    ]
    if result.undated:
        parts.append(f"{result.undated} of unknown time")
    if result.damaged:
        parts.append(f"{result.damaged} damaged lines passed over")
    return "; ".join(parts)
