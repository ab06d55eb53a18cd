"""`python -m deploy`: run, bundle, provision, flash, fleet. Exit codes: 0 done, 1 no, 2 wrong use."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.errors import ConfigError
from deploy import bundle, flash, fleet, provision
from deploy.demo import DemoError, run_demo
from deploy.errors import DeployError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy",
        description="Brings station and agent together.",
        epilog="Exit codes: 0 done, 1 it ran and the answer is no, 2 wrong use.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="a station and an agent on this machine, and a saw in the forest",
        description="Starts a base station on the loopback address and an agent beside it, which listens in real time "
        "to a synthesised forest with a chainsaw in it (or to your microphone, or to your recording).",
    )
    run.add_argument("--source", default="demo", metavar="WHAT", help="demo, mic, or an audio file (default: demo)")
    run.add_argument(
        "--once", action="store_true", help="end after the recording; exit 0 only if the station has the alert"
    )
    run.add_argument("--folder", type=Path, default=Path("var/run"), metavar="DIR", help="where both keep their files")
    run.add_argument("--port", type=int, default=8765, help="of the page; another is taken if it is in use")
    run.set_defaults(command=_run)
    bundle.add_parser(commands)
    provision.add_parser(commands)
    flash.add_parser(commands)
    fleet.add_parser(commands)
    options = parser.parse_args(arguments)
    if options.command is _run and options.once and options.source == "mic":
        parser.error("--once needs a recording: a microphone does not end")
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (DemoError, DeployError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    return run_demo(options.source, options.folder.resolve(), options.port, once=options.once)


if __name__ == "__main__":
    sys.exit(main())
