"""The command `demo`; what it does is in `demo`, which takes a second to load."""

import argparse
from pathlib import Path

from base_station.settings import DEFAULT_PORT


def add_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser
) -> None:
    """Add the command."""
    del shared  # it must not touch the real station's data
    command = commands.add_parser(
        "demo",
        help="a forest of 200 simulated phones, with a week behind it",
        description="Fills a database of its own with a week of a simulated forest: 200 phones, saws, mistakes, a "
        "storm, a broken link, phones that died, and serves it while events go on. Nothing in it was ever heard.",
    )
    command.add_argument("--data", type=Path, metavar="DIR", help="keep it here (default: a temporary folder)")
    command.add_argument("--port", type=int, default=DEFAULT_PORT, help="TCP port; 0 takes a free one")
    command.add_argument("--fill-only", action="store_true", help="make the database and end")
    command.set_defaults(command=_demo)


def _demo(options: argparse.Namespace) -> int:
    from base_station.demo import run_demo

    return run_demo(options)
