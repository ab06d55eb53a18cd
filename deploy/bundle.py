"""`python -m deploy bundle`: everything that one kind of device needs, in one file that installs without a network.

Each file of it is in SHA256SUMS, and manifest.json says what is in it, what was changed, and what the device must bring
itself.
"""

import argparse
from pathlib import Path

from deploy.errors import DeployError
from deploy.targets import TARGETS


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "bundle",
        help="all that a kind of device needs, as one file that installs offline",
        description="Makes curupira-VERSION-TARGET.tar.gz: wheels, model, service files, install script, checksums. "
        "It unpacks to curupira/; there, install.sh --help says more. Needs pip and its index, or --wheels.",
        epilog="Targets:\n" + "\n".join(f"  {target.name:<22} {target.title}" for target in TARGETS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--target", required=True, action="append", choices=[*TARGETS, "all"], metavar="NAME", help="see below; or all"
    )
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR", help="where it goes (default: dist)")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="take wheels and sources from here; ask no index")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Make the bundles and say how large they are."""
    if options.wheels is not None and not options.wheels.is_dir():
        raise DeployError(f"--wheels: {options.wheels} is no folder", 2)
    try:
        from deploy.assemble import make_bundle  # needs what a station and `make run` do without
    except ModuleNotFoundError as error:
        raise DeployError(
            f"{(error.name or 'a package').partition('.')[0]} is not installed: pip install 'curupira[deploy]'", 2
        ) from error
    names = list(TARGETS) if "all" in options.target else list(dict.fromkeys(options.target))
    for name in names:
        made = make_bundle(TARGETS[name], options.out, options.wheels)
        print(f"{made.path}  {made.n_bytes / 1e6:.1f} MB, {made.n_wheels} wheels, {made.took_s:.1f} s", flush=True)
    return 0
