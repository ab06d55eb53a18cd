"""`notify test` and `notify log`: do the messages arrive?"""

import argparse
import json
import secrets
from dataclasses import asdict
from datetime import UTC, datetime

from agent.errors import ConfigError
from base_station.channels import DeliveryError
from base_station.config import FILE, read_config
from base_station.deliver import Deliveries
from base_station.inbox import iso
from base_station.notices import Notice
from base_station.notify_rules import open_channels
from base_station.opened import opened_store

DONE, NO = 0, 1


def add_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser
) -> None:
    """Add the command."""
    notify = commands.add_parser(
        "notify",
        help="try the messages to people, and see which arrived",
        description="Rules stand in station.yaml in DIR, under `notify`; docs/station.md has examples.",
    )
    actions = notify.add_subparsers(required=True, metavar="ACTION")
    test = actions.add_parser(
        "test",
        parents=[shared],
        help="send a message by every rule, now",
        description="Sends a test message by every rule, whatever its hours and conditions. Exit code 1 if one fails.",
    )
    test.add_argument("--rule", metavar="NAME", help="only this one")
    test.set_defaults(command=_test)
    listing = actions.add_parser(
        "log",
        parents=[shared],
        help="what was sent, what waits and why",
        description="Lists the newest messages: when, by which rule, how often tried, what became of them.",
    )
    listing.add_argument("--json", action="store_true", help="one JSON object per line")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="at most N (default: %(default)s)")
    listing.set_defaults(command=_log)


def _test(options: argparse.Namespace) -> int:
    ways = read_config(options.data).ways
    if options.rule is not None:
        ways = tuple(way for way in ways if way.rule.name == options.rule)
    if not ways:
        raise ConfigError(f"{options.data / FILE}: has no such rule under notify; docs/station.md shows one")
    failed = 0
    for name, channel in open_channels(ways).items():
        try:
            channel.send(_test_notice())
            print(f"{name}: sent")
        except DeliveryError as error:
            failed += 1
            print(f"{name}: not sent: {error}")
    return NO if failed else DONE


def _test_notice() -> Notice:
    return Notice(
        subject=f"test:{secrets.token_hex(4)}",
        about="test",
        kind="test",
        title="Test message of the Curupira station",
        body="If you can read this, messages arrive. Nothing was heard.",
        at_utc=datetime.now(UTC),
        confidence=0.0,
    )


def _log(options: argparse.Namespace) -> int:
    with opened_store(options.data, options.database) as (store, _):
        deliveries = Deliveries(store.database).listed(options.limit)
    for one in deliveries:
        if options.json:
            times = {
                key: None if when is None else iso(when)
                for key, when in (
                    ("created_utc", one.created_utc),
                    ("due_utc", one.due_utc),
                    ("done_utc", one.done_utc),
                )
            }
            print(json.dumps(asdict(one) | times))
        else:
            why = f": {one.error}" if one.error else ""
            print(f"{iso(one.created_utc)}  {one.rule}  {one.title}  {one.outcome} ({one.attempts} tries){why}")
    if not deliveries and not options.json:
        print("nothing was to be sent so far")
    return DONE
