"""`python -m deploy provision`: a key, a configuration and a label per device; the station knows each of them.

Run it where the station's data is, or elsewhere with the station's address and an operator's token; and again after any
change of the fleet file: keys that exist are kept, what is new is added, and what was changed is said.
"""

import argparse
import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from agent.errors import ConfigError
from deploy.enrol import LocalRegistrar, Registrar, RemoteRegistrar, read_token
from deploy.roster import Member, Roster, read_roster

DEFAULT_OUT = Path("var/fleet")
PER_SHEET = 21


@dataclass(frozen=True, kw_only=True, slots=True)
class Provisioned:
    """What became of one device."""

    id: str
    good: bool
    key: str
    """`new`, `kept`, `restored` (from the station), `registered` (the station had lost it), or `refused`."""
    config: str
    """`new`, `unchanged`, or which keys were changed."""
    problem: str = ""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "provision",
        help="a key, a configuration and a label for every device of a fleet",
        description="Makes a folder per device with its key, configuration and the certificate to pin, registers it at "
        "the station, and writes QR codes and a label sheet. Needs the station's data folder: run it on the "
        "station; or from elsewhere with --station and --token-file, over the station's API. "
        "Run it again after changes: keys are kept. docs/fleet.md describes the file.",
    )
    parser.add_argument("fleet", type=Path, metavar="FLEET.yaml", help="which devices there are")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="the station's data folder (default: where `serve` has it); a database elsewhere by CURUPIRA_DATABASE",
    )
    parser.add_argument(
        "--station", metavar="URL", help="register over the API of this station instead, https://host:port"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="with --station: an operator's token (token add), mode 600"
    )
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="with --station: its tls/ca.pem, for this command and for the devices"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=DEFAULT_OUT,
        metavar="DIR",
        help="where the devices' files go (%(default)s)",
    )
    parser.add_argument(
        "--first-label", type=int, default=1, metavar="N", help=f"first free label of the sheet, 1 to {PER_SHEET}"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a device")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Provision the fleet and say what was done."""
    if not 1 <= options.first_label <= PER_SHEET:
        raise ConfigError(f"--first-label: is {options.first_label}, expected 1 to {PER_SHEET}")
    from deploy.labels import write_labels

    roster = read_roster(options.fleet)
    out: Path = options.out
    _make_folder(out)
    with _registrar(options, roster) as (registrar, ca):
        done = [_provision(roster, member, out / member.id, ca, registrar) for member in roster.members]
        known = {member.id for member in roster.members}
        strangers = [device_id for device_id in registrar.admitted() if device_id not in known]
    write_labels(out / "labels.pdf", roster.members, options.first_label)
    _say(done, strangers, out, as_json=options.json)
    return 0 if all(result.good for result in done) else 1


@contextlib.contextmanager
def _registrar(options: argparse.Namespace, roster: Roster) -> Iterator[tuple[Registrar, bytes | None]]:
    """Yield where devices are made known, and what they pin."""
    if options.station is not None:
        yield _remote(options, roster)
        return
    for name in ("token_file", "ca"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')}: goes with --station only")
    from base_station.opened import opened_store
    from base_station.settings import default_data, default_database

    now = datetime.now(UTC)
    data: Path = options.data or default_data()
    ca = _authority(roster, data, now)
    with opened_store(data, default_database()) as (store, ring):
        yield LocalRegistrar(store, ring, now), ca


def _remote(options: argparse.Namespace, roster: Roster) -> tuple[Registrar, bytes | None]:
    if options.data is not None:
        raise ConfigError("--data: goes without --station only; the station has its data")
    if options.token_file is None:
        raise ConfigError("--station: needs --token-file FILE with an operator's token")
    if not options.station.startswith(("https://", "http://127.0.0.1", "http://localhost", "http://[::1]")):
        raise ConfigError(f"--station: is {options.station!r}, expected https://host:port; keys go over it")
    ca = None
    if roster.needs_ca:
        if options.ca is None:
            raise ConfigError("--ca: is missing; bring the station's tls/ca.pem, which the devices pin")
        try:
            ca = options.ca.read_bytes()
        except OSError as error:
            raise ConfigError(f"--ca: {options.ca} cannot be read: {error.strerror or error}") from error
    return RemoteRegistrar(options.station, read_token(options.token_file), options.ca), ca


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot make the folder: {error.strerror or error}") from error


def _authority(roster: Roster, data: Path, now: datetime) -> bytes | None:
    """Return what devices pin; the station's certificate is made good for all addresses of the fleet file."""
    from base_station.authority import prepare
    from base_station.settings import Settings

    if not roster.needs_ca:
        return None
    hosts = [urlsplit(url).hostname or "" for url in roster.urls]
    folder = Settings(data=data).tls_folder
    known = prepare(folder, (), now).names if (folder / "station.pem").exists() else ()
    if set(hosts) <= set(known):
        return prepare(folder, (), now).ca_file.read_bytes()
    return prepare(folder, [*known, *hosts], now).ca_file.read_bytes()


def _provision(roster: Roster, member: Member, folder: Path, ca: bytes | None, registrar: Registrar) -> Provisioned:
    """Provision one device; what is wrong with it stops no other."""
    from deploy.labels import qr_code

    try:
        _make_folder(folder)
        key = registrar.enrol(member, folder / "device.key")
        config = _write_config(folder / "config.yaml", roster, member)
        if ca is not None:
            _write(folder / "ca.pem", ca)
        qr_code(member).save(str(folder / "label.svg"), scale=4)
    except ConfigError as error:
        return Provisioned(id=member.id, good=False, key="refused", config="", problem=str(error))
    except OSError as error:
        return Provisioned(id=member.id, good=False, key="", config="", problem=f"{folder}: {error.strerror or error}")
    return Provisioned(id=member.id, good=True, key=key, config=config)


def _write_config(path: Path, roster: Roster, member: Member) -> str:
    """Write the agent's configuration; return what changed."""
    document = roster.config(member)
    before: object = None
    if path.exists():
        try:
            before = yaml.safe_load(path.read_bytes())
        except yaml.YAMLError:
            before = {}
    if before == document:
        return "unchanged"
    head = f"# {member.name}: written by `python -m deploy provision`; change the fleet file, not this one\n"
    _write(path, (head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)).encode())
    return "new" if before is None else "changed: " + ", ".join(_differences(before, document))


def _differences(before: object, after: object, path: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*after, *(key for key in before if key not in after)]
        return [
            name
            for key in keys
            for name in _differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [] if before == after else [path or "everything"]


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)


def _say(done: Sequence[Provisioned], strangers: Sequence[str], out: Path, *, as_json: bool) -> None:
    if as_json:
        for result in done:
            facts = {"id": result.id, "good": result.good, "key": result.key, "config": result.config}
            print(json.dumps({**facts, "problem": result.problem, "folder": str(out / result.id)}))
        return
    width = max(len(result.id) for result in done)
    for result in done:
        what = f"key {result.key}, configuration {result.config}" if result.good else f"NOT DONE: {result.problem}"
        print(f"{result.id:<{width}}  {what}")
    for stranger in strangers:
        print(f"{stranger:<{width}}  the station admits it, the fleet file has it not; if it is gone: device revoke")
    n_good = sum(result.good for result in done)
    print(f"{n_good} of {len(done)} provisioned; labels: {out / 'labels.pdf'} (print at 100 %)")
