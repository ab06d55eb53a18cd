"""`user` and `token`: who may read and judge."""

import argparse
import getpass
import sys
from datetime import UTC, datetime

from agent.errors import ConfigError
from base_station.accounts import ROLES, VIEWER, Accounts, checked_name
from base_station.admission import COMMAND_LINE
from base_station.opened import opened_store
from base_station.registry import audit_row

DONE = 0


def add_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser
) -> None:
    """Add both commands."""
    user = commands.add_parser(
        "user",
        help="people who may read (viewer) or also judge (operator)",
        description="People with passwords. Once there is one, or a token, the API wants to know who asks.",
    )
    token = commands.add_parser(
        "token",
        help="tokens for programs that read the API",
        description="Tokens for programs. Once there is one, or a person, the API wants to know who asks.",
    )
    for parser, add, listing, remove in (
        (user, _user_add, _user_list, _user_remove),
        (token, _token_add, _token_list, _token_remove),
    ):
        actions = parser.add_subparsers(required=True, metavar="ACTION")
        adding = actions.add_parser("add", parents=[shared], help="add one, or change it")
        adding.add_argument("name", metavar="NAME")
        adding.add_argument("--role", choices=ROLES, default=VIEWER, help="default: %(default)s")
        adding.set_defaults(command=add)
        actions.add_parser("list", parents=[shared], help="list them").set_defaults(command=listing)
        removing = actions.add_parser("remove", parents=[shared], help="let it in no more, at once")
        removing.add_argument("name", metavar="NAME")
        removing.set_defaults(command=remove)


def _user_add(options: argparse.Namespace) -> int:
    name = checked_name(options.name)
    password = getpass.getpass(f"password of {name}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    now = datetime.now(UTC)
    with opened_store(options.data, options.database) as (store, _):
        note = audit_row(COMMAND_LINE, "person_set", name, now, role=options.role)
        Accounts(store.database).set_person(name, options.role, password, now, also=note)
    print(f"{name}: {options.role}; earlier sessions have ended")
    return DONE


def _user_list(options: argparse.Namespace) -> int:
    with opened_store(options.data, options.database) as (store, _):
        for name, role in Accounts(store.database).people():
            print(f"{name}  {role}")
    return DONE


def _user_remove(options: argparse.Namespace) -> int:
    with opened_store(options.data, options.database) as (store, _):
        note = audit_row(COMMAND_LINE, "person_removed", options.name, datetime.now(UTC))
        if not Accounts(store.database).remove_person(options.name, also=note):
            raise ConfigError(f"{options.name}: there is no such person; `user list` names them")
    print(f"{options.name}: removed, sessions ended")
    return DONE


def _token_add(options: argparse.Namespace) -> int:
    name, now = checked_name(options.name), datetime.now(UTC)
    with opened_store(options.data, options.database) as (store, _):
        note = audit_row(COMMAND_LINE, "token_added", name, now, role=options.role)
        token = Accounts(store.database).add_token(name, options.role, now, also=note)
    print(token)
    print("it is shown this once; send it as Authorization: Bearer TOKEN", file=sys.stderr)
    return DONE


def _token_list(options: argparse.Namespace) -> int:
    with opened_store(options.data, options.database) as (store, _):
        for name, role in Accounts(store.database).tokens():
            print(f"{name}  {role}")
    return DONE


def _token_remove(options: argparse.Namespace) -> int:
    with opened_store(options.data, options.database) as (store, _):
        note = audit_row(COMMAND_LINE, "token_revoked", options.name, datetime.now(UTC))
        if not Accounts(store.database).revoke_token(options.name, also=note):
            raise ConfigError(f"{options.name}: there is no such token; `token list` names them")
    print(f"{options.name}: revoked")
    return DONE
