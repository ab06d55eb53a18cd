"""`python -m base_station`: init, serve, device, review, and what its `--help` names besides.

Exit codes: 0 done, 1 it ran and the answer is no, 2 wrong use or configuration.
"""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from agent import VERSION
from agent.errors import AgentError, ConfigError
from agent.signing import DEVICE_ID
from base_station import (
    demo_command,
    fieldreport,
    import_command,
    labels_command,
    notify_command,
    people_command,
    upkeep,
)
from base_station.admission import COMMAND_LINE, admit
from base_station.opened import opened_store
from base_station.registry import UnknownDeviceError, revoke_device
from base_station.settings import (
    DEFAULT_PORT,
    Settings,
    default_data,
    default_database,
    listening_socket,
    prepare_folder,
)
from base_station.store import Device
from base_station.words import ago

DONE, NO, WRONG_USE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(message)s",
    )
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_USE
    except AgentError as error:
        print(f"error: {error}", file=sys.stderr)
        return NO
    except KeyboardInterrupt:
        return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m base_station",
        description="Takes alerts from devices in the forest, keeps them and shows them.",
        epilog="Exit codes: 0 done, 1 it ran and the answer is no, 2 wrong use or configuration. "
        "First: `device add NAME`, put its key on the device, then `serve`.",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--data",
        type=Path,
        default=default_data(),
        metavar="DIR",
        help="folder of the database, keys and certificates; made if missing (default: %(default)s)",
    )
    shared.add_argument(
        "--database",
        default=default_database(),
        metavar="URL",
        help="PostgreSQL instead of the file station.db in DIR: postgresql://user@host/name; a password belongs into "
        "~/.pgpass or the environment variable CURUPIRA_DATABASE, not here where others see it",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_init(commands, shared)
    _add_serve(commands, shared)
    _add_device(commands, shared)
    fieldreport.add_parser(commands)
    for module in (upkeep, notify_command, labels_command, import_command, people_command, demo_command):
        module.add_parser(commands, shared)
    return parser


def _add_init(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    init = commands.add_parser(
        "init",
        parents=[shared],
        help="make the station's certificate authority and its TLS certificate",
        description="Makes the station's own certificate authority, once, and a certificate for the names and "
        "addresses under which devices reach it; `serve` speaks TLS from then on and renews the certificate by itself. "
        "Run again it keeps the authority; with other names it makes the certificate anew, for these.",
    )
    init.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="NAME",
        help="host name or address, may be given again; loopback is always there (default: the names it has)",
    )
    init.set_defaults(command=_init)


def _add_serve(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser
) -> None:
    serve = commands.add_parser(
        "serve",
        parents=[shared],
        help="run the station until SIGTERM or Ctrl-C",
        description="Runs the station: the API for devices and the page for rangers. Prints the page's address when it "
        "is ready.",
    )
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; beyond loopback after `init`, and then for devices alone (default: %(default)s)",
    )
    serve.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="TCP port; 0 takes a free one (default: %(default)s)"
    )
    serve.add_argument(
        "--no-page",
        action="store_true",
        help="answer devices and programs only: for a second process on one PostgreSQL, where another has the page",
    )
    serve.set_defaults(command=_serve)
    watch = commands.add_parser(
        "watch",
        parents=[shared],
        help="look for what is wrong with devices and tell people; `serve` starts it by itself",
        description="Looks around every 15 s: conditions, messages to people, retention. `serve` starts it beside "
        "itself; alone it is of use where no `serve` runs. It ends at the end of its input, or by SIGTERM.",
    )
    watch.set_defaults(command=_watch)


def _add_device(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser
) -> None:
    device = commands.add_parser("device", help="add, list and revoke devices", description="Says who may send alerts.")
    actions = device.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser(
        "add",
        parents=[shared],
        help="admit a device and write its key",
        description="Admits a device and writes the key that it signs with. Bring the file to the device (mode 600), "
        "name it there as station.key_file, and remove it here.",
    )
    add.add_argument("name", metavar="NAME", help="small letters, digits, '.', '_' and '-', at most 63; say, ipe-07")
    add.add_argument("--key-out", type=Path, metavar="FILE", help="where the key goes (default: NAME.key, here)")
    add.add_argument(
        "--rotate",
        action="store_true",
        help="if there is such a device, give it a new key; the old one is worthless then",
    )
    add.set_defaults(command=_device_add)
    listing = actions.add_parser(
        "list", parents=[shared], help="list the devices", description="Lists the devices and when they last called."
    )
    listing.add_argument("--json", action="store_true", help="one JSON object per line")
    listing.set_defaults(command=_device_list)
    revoke = actions.add_parser(
        "revoke",
        parents=[shared],
        help="refuse a device from now on",
        description="Refuses a device from now on, at once also in a running station. Its alerts stay.",
    )
    revoke.add_argument("name", metavar="NAME")
    revoke.set_defaults(command=_device_revoke)


def _init(options: argparse.Namespace) -> int:
    from base_station.authority import prepare

    settings = Settings(data=options.data)
    prepare_folder(settings.data)
    standing = prepare(settings.tls_folder, options.name, _now())
    print(f"{' and '.join(standing.made)} made" if standing.made else "all is there: nothing was changed")
    print(f"good for: {', '.join(standing.names)}; until {standing.ends:%Y-%m-%d}, renewed a year before")
    print(f"devices pin {standing.ca_file}, SHA-256 {standing.fingerprint}")
    return DONE


def _serve(options: argparse.Namespace) -> int:
    settings = Settings(
        data=options.data, host=options.host, port=options.port, database=options.database, page=not options.no_page
    )
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    with listening_socket(settings) as listening:
        prepare_folder(settings.data)
        from base_station.serve import serve  # the web server and the page take a second to import

        serve(settings, listening, now=_now, on_ready=partial(_announce, "page" if settings.page else "api"))
    return DONE


def _watch(options: argparse.Namespace) -> int:
    from base_station.lookout import look_around

    settings = Settings(data=options.data, database=options.database)
    prepare_folder(settings.data)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to `serve` as well, which ends this one in order
    look_around(settings, _now, sys.stdin.buffer.read)
    return DONE


def _leave(*_: object) -> None:
    """End in order; the web server has its own way while it runs, and raises the signal again after that."""
    raise SystemExit(DONE)


def _announce(what: str, url: str) -> None:
    print(f"{what}: {url}", flush=True)


def _device_add(options: argparse.Namespace) -> int:
    if not DEVICE_ID.fullmatch(options.name):
        raise ConfigError(
            f"NAME: is {options.name!r}, expected small letters, digits, '.', '_' and '-', at most 63, "
            "beginning with a letter or digit; say, ipe-07"
        )
    key_file: Path = options.key_out or Path(f"{options.name}.key")
    with opened_store(options.data, options.database) as (store, ring):
        device = store.device(options.name)
        if device is not None and not options.rotate:
            raise ConfigError(f"{options.name}: there is such a device already; --rotate gives it a new key")
        if key_file.exists() and not options.rotate:
            raise ConfigError(f"{key_file}: exists already; move it away, or name another with --key-out")
        admit(store, ring, options.name, key_file, _now())
    done = "added" if device is None else "has a new key, the old one is worthless"
    print(f"{options.name}: {done}; its key is in {key_file}: bring it to the device, then remove it here")
    return DONE


def _device_list(options: argparse.Namespace) -> int:
    with opened_store(options.data, options.database) as (store, _):
        devices = store.devices()
    for device in devices:
        print(json.dumps(_listed(device)) if options.json else _line(device))
    if not devices and not options.json:
        print("no devices; add one: python -m base_station device add NAME")
    return DONE


def _listed(device: Device) -> dict[str, object]:
    contact = device.last_contact_utc
    return {
        "device_id": device.device_id,
        "revoked": device.revoked_utc is not None,
        "last_contact_utc": None if contact is None else contact.isoformat(),
    }


def _line(device: Device) -> str:
    contact = device.last_contact_utc
    if device.revoked_utc is not None:
        return f"{device.device_id}  revoked"
    return f"{device.device_id}  {'never called' if contact is None else f'last contact {ago(contact, _now())}'}"


def _device_revoke(options: argparse.Namespace) -> int:
    with opened_store(options.data, options.database) as (store, _):
        try:
            revoke_device(store, options.name, who=COMMAND_LINE, now_utc=_now())
        except UnknownDeviceError as error:
            raise ConfigError(f"{options.name}: there is no such device; `device list` names them") from error
    print(f"{options.name}: refused from now on")
    return DONE


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
