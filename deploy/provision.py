"""`python -m deploy provision`: a key, a configuration and a label per device; the station knows each of them.

Run it where the station's data is, and again after any change of the fleet file: keys that exist are kept, what is new
is added, and what was changed is said.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import yaml

from agent.errors import ConfigError
from agent.signing import read_key
from deploy.roster import Member, Roster, read_roster

if TYPE_CHECKING:  # the station and the printing take a second to import, and `run` needs neither
    from base_station.keys import KeyRing
    from base_station.store import Store

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
        "the station, and writes QR codes and a label sheet. Needs the station's data folder: run it on the station. "
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
    from base_station.opened import opened_store
    from base_station.settings import default_data, default_database
    from deploy.labels import write_labels

    roster = read_roster(options.fleet)
    now = datetime.now(UTC)
    out: Path = options.out
    data: Path = options.data or default_data()
    _make_folder(out)
    ca = _authority(roster, data, now)
    with opened_store(data, default_database()) as (store, ring):
        done = [_provision(roster, member, out / member.id, ca, store, ring, now) for member in roster.members]
        strangers = _strangers(roster, store)
    write_labels(out / "labels.pdf", roster.members, options.first_label)
    _say(done, strangers, out, as_json=options.json)
    return 0 if all(result.good for result in done) else 1


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


def _provision(
    roster: Roster, member: Member, folder: Path, ca: bytes | None, store: "Store", ring: "KeyRing", now: datetime
) -> Provisioned:
    """Provision one device; what is wrong with it stops no other."""
    from deploy.labels import qr_code

    try:
        _make_folder(folder)
        key = _key(member, folder / "device.key", store, ring, now)
        config = _write_config(folder / "config.yaml", roster, member)
        if ca is not None:
            _write(folder / "ca.pem", ca)
        qr_code(member).save(str(folder / "label.svg"), scale=4)
    except ConfigError as error:
        return Provisioned(id=member.id, good=False, key="refused", config="", problem=str(error))
    except OSError as error:
        return Provisioned(id=member.id, good=False, key="", config="", problem=f"{folder}: {error.strerror or error}")
    return Provisioned(id=member.id, good=True, key=key, config=config)


def _key(member: Member, key_file: Path, store: "Store", ring: "KeyRing", now: datetime) -> str:
    """See to it that device and station have the same key, and make none where there is one."""
    from base_station.admission import admit
    from base_station.keys import write_secret

    device = store.device(member.id)
    mine = read_key(key_file) if key_file.exists() else None
    if device is None:
        admit(store, ring, member.id, key_file, now, key=mine)
        return "new" if mine is None else "registered"
    if device.revoked_utc is not None:
        raise ConfigError(
            f"{member.id}: the station refuses it since {device.revoked_utc:%Y-%m-%d}; admit it again: "
            f"python -m base_station device add {member.id} --rotate --key-out {key_file}"
        )
    theirs = ring.open(device.sealed_key)
    if mine is None:
        write_secret(key_file, theirs.hex().encode())
        return "restored"
    if mine != theirs:
        raise ConfigError(
            f"{key_file}: is not the key that the station has for {member.id}; remove the file to take the station's, "
            f"or make a new one: python -m base_station device add {member.id} --rotate --key-out {key_file}"
        )
    return "kept"


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


def _strangers(roster: Roster, store: "Store") -> list[str]:
    known = {member.id for member in roster.members}
    return [
        device.device_id for device in store.devices() if device.device_id not in known and device.revoked_utc is None
    ]


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
