"""`notify test` and `notify log`: do the messages arrive?"""

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime

from agent.errors import ConfigError
from base_station.choices import Choices
from base_station.config import FILE, read_config
from base_station.deliver import SENT, Deliveries
from base_station.inbox import iso
from base_station.notify_rules import open_channel
from base_station.opened import opened_store

DONE, NO = 0, 1


def add_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser
) -> None:
    """Add the command."""
    notify = commands.add_parser(
        "notify",
        help="try the messages to people, and see which arrived",
        description="Rules stand in station.yaml in DIR, under `notify`, or were added on the page /settings; "
        "docs/station.md has examples.",
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
    told = read_config(options.data)
    with opened_store(options.data, options.database) as (store, keys):
        ways = Choices(store.database, keys).joined(told).ways
        if options.rule is not None:
            ways = tuple(way for way in ways if way.rule.name == options.rule)
        if not ways:
            raise ConfigError(f"{options.data / FILE}: has no such rule under notify, nor has the page `/settings`")
        channels = {way.rule.name: open_channel(f"rule {way.rule.name!r}", way) for way in ways}
        deliveries = Deliveries(store.database)
        sent = [deliveries.send_trial(way.rule, channels[way.rule.name], lambda: datetime.now(UTC)) for way in ways]
    for one in sent:
        print(f"{one.rule}: sent" if one.outcome == SENT else f"{one.rule}: not sent: {one.error}")
    return DONE if all(one.outcome == SENT for one in sent) else NO


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
