"""`export-labels`: what people judged, as a data set."""

import argparse
from pathlib import Path

from base_station.labels import export_labels
from base_station.opened import opened_store

DONE = 0


def add_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser
) -> None:
    """Add the command."""
    command = commands.add_parser(
        "export-labels",
        parents=[shared],
        help="write judged alerts as a data set for training",
        description="Writes what people judged into a folder: manifest.csv with the sounds, in the columns that "
        "model_export reads, and log_mels.csv with what the model saw of every alert; confirmed alerts under their "
        "label, false ones as hard negatives, each with who judged it and when. Run again, it adds what is new.",
    )
    command.add_argument("folder", type=Path, metavar="DIR", help="made if missing")
    command.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> int:
    with opened_store(options.data, options.database) as (store, _):
        done = export_labels(store, options.folder)
    print(f"{options.folder}: {done.sounds} sounds, {done.log_mels} log-mels; {done.left_out} judged alerts left out")
    return DONE
