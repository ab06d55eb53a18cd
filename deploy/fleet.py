"""`python -m deploy fleet`: how are they, what did they say, bring them a new version, take their journals home.

Phones on a cable (or adb over the network) and Linux boards over ssh, side by side; one that does not answer is a line
in the table, and stops no other.
"""

import argparse
import io
import json
import re
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import ConfigError
from deploy.adb import PREFIX, Adb, AdbError, Children, Reply
from deploy.errors import DeployError
from deploy.flash import find_bundles
from deploy.link import AdbLink, Link, SshLink
from deploy.provision import DEFAULT_OUT
from deploy.roster import Member, Roster, read_roster
from deploy.state import DEFAULT_STATE, owners
from deploy.steps import TAKE_CONFIG, packed_config

OLDEST_SIGN_S = 180
"""An agent that gave no sign of life for so long hangs: its own supervisors think the same."""
_JOURNAL = re.compile(r"(?:\./)?journal/([A-Za-z0-9][A-Za-z0-9._-]{0,99})")
_PHONE_SERVICE = f"{PREFIX}/var/service/curupira"
_UNIT = "curupira-agent.service"

# facts that may be missing are left out: each line stands for itself
_FACTS = """
alive=$(date -r "$state/alive" +%s 2>/dev/null) && echo "alive_s=$(($(date +%s) - alive))"
echo "free_mb=$(df -k "$state" 2>/dev/null | awk 'END {print int($4 / 1024)}')"
echo "journal_mb=$(du -sk "$state/journal" 2>/dev/null | awk '{print int($1 / 1024)}')"
"""
_ABOUT: Mapping[str, str] = {
    "phone": f'echo "service=$(sv status {_PHONE_SERVICE} 2>&1)"; echo "version=$(curupira --version 2>&1)"',
    "linux": f'echo "service=$(systemctl is-active {_UNIT})"; '
    'echo "version=$(/opt/curupira/current/venv/bin/python -P -m agent --version 2>&1)"',
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came of asking one device."""

    id: str
    where: str
    good: bool
    facts: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


Work = Callable[[Member, Link], Mapping[str, str]]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the commands."""
    fleet = commands.add_parser(
        "fleet",
        help="status, logs, update, pull-journals of the devices that are set up",
        description="Looks after phones over adb and Linux boards over ssh (keys and known_hosts are ssh's own; a host "
        "whose key is not known is refused).",
    )
    actions = fleet.add_subparsers(required=True, metavar="ACTION")
    shared = _shared()
    actions.add_parser("status", parents=[shared], help="does each run, hear and have room?").set_defaults(
        command=_status
    )
    logs = actions.add_parser("logs", parents=[shared], help="the last lines of each agent's log")
    logs.add_argument("--lines", type=int, default=30, metavar="N", help="how many (default: %(default)s)")
    logs.set_defaults(command=_logs)
    update = actions.add_parser("update", parents=[shared], help="bring a bundle and install it; what they keep stays")
    update.add_argument("--bundle", type=Path, action="append", metavar="FILE", help="one for each kind of device")
    update.add_argument(
        "--files",
        type=Path,
        default=DEFAULT_OUT,
        metavar="DIR",
        help="what `provision` wrote; goes along if it is there",
    )
    update.set_defaults(command=_update)
    pull = actions.add_parser("pull-journals", parents=[shared], help="copy every field log to this machine")
    pull.add_argument("--out", type=Path, default=Path("var/journals"), metavar="DIR", help="(default: %(default)s)")
    pull.set_defaults(command=_pull)


def _shared() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("fleet", type=Path, metavar="FLEET.yaml", help="which devices there are")
    shared.add_argument("--only", action="append", metavar="ID", help="this device; may be given again")
    shared.add_argument("--jobs", type=int, default=16, metavar="N", help="devices at a time (default: %(default)s)")
    shared.add_argument("--state", type=Path, default=DEFAULT_STATE, metavar="DIR", help="what `flash` wrote")
    shared.add_argument("--adb", default="adb", metavar="PROGRAM", help="the adb to use")
    shared.add_argument("--ssh", default="ssh", metavar="PROGRAM", help="the ssh to use")
    shared.add_argument("--patience", type=float, default=1.0, metavar="X", help="multiply every time limit")
    shared.add_argument("--json", action="store_true", help="one JSON object a device")
    return shared


def ask(options: argparse.Namespace, work: Work) -> list[Answer]:
    """Do something with every device, side by side; what goes wrong with one is its answer."""
    roster = read_roster(options.fleet)
    members = _chosen(roster, options.only)
    children = Children()
    serials = owners(roster, options.state)

    def one(member: Member) -> Answer:
        link = _link(member, serials, options, children)
        if link is None:
            how = (
                "ssh: user@host in the fleet file"
                if member.kind == "linux"
                else "serial in the fleet file, or flash it"
            )
            return Answer(id=member.id, where="-", good=False, problem=f"nobody knows how to reach it; give its {how}")
        print(f"{member.id}: asking over {link.where}", file=sys.stderr, flush=True)
        try:
            return Answer(id=member.id, where=link.where, good=True, facts=work(member, link))
        except (AdbError, DeployError, OSError) as error:
            return Answer(id=member.id, where=link.where, good=False, problem=str(error))

    with ThreadPoolExecutor(max(1, min(options.jobs, len(members)))) as pool:
        try:
            return list(pool.map(one, members))
        except BaseException:
            children.end()
            raise


def _chosen(roster: Roster, only: Sequence[str] | None) -> list[Member]:
    known = {member.id: member for member in roster.members}
    for name in only or ():
        if name not in known:
            raise ConfigError(f"--only: {name} is not in the fleet file")
    return [known[name] for name in dict.fromkeys(only)] if only else list(roster.members)


def _link(member: Member, serials: Mapping[str, str], options: argparse.Namespace, children: Children) -> Link | None:
    if member.kind == "linux":
        if member.ssh is None:
            return None
        return SshLink(
            target=member.ssh,
            port=member.ssh_port,
            program=options.ssh,
            children=children,
            patience=options.patience,
        )
    serial = serials.get(member.id)
    if serial is None:
        return None
    return AdbLink(Adb(serial=serial, program=options.adb, children=children, patience=options.patience))


def _state_of(member: Member) -> str:
    """Return shell that sets `state` to where the device's files are."""
    folder = str(member.sections["storage"]["folder"])
    path = f'"$HOME"/{_quoted(folder[2:])}' if folder.startswith("~/") else _quoted(folder)
    return f"state={path}; "


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# status


def _status(options: argparse.Namespace) -> int:
    answers = [_judged(answer) for answer in ask(options, _look)]
    _say(answers, ("service", "version", "alive_s", "free_mb", "journal_mb"), as_json=options.json)
    return 0 if all(answer.good for answer in answers) else 1


def _look(member: Member, link: Link) -> Mapping[str, str]:
    reply = link.run(_state_of(member) + _ABOUT[member.kind] + _FACTS, timeout_s=60)
    facts = dict(line.split("=", 1) for line in reply.out.splitlines() if "=" in line)
    if "service" not in facts:
        raise AdbError(reply.last_line)
    return {key: value.strip()[:80] for key, value in facts.items()}


def _judged(answer: Answer) -> Answer:
    """Say what is wrong with a device that answered."""
    if not answer.good:
        return answer
    service = answer.facts.get("service", "")
    alive = answer.facts.get("alive_s", "")
    problem = ""
    if not service.startswith(("run:", "active")):
        problem = f"the service does not run: {service}"
    elif not alive.lstrip("-").isdecimal():
        problem = "it has given no sign of life yet"
    elif int(alive) > OLDEST_SIGN_S:
        problem = f"no sign of life for {alive} s"
    return Answer(id=answer.id, where=answer.where, good=not problem, facts=answer.facts, problem=problem)


def _say(answers: Sequence[Answer], columns: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        for answer in answers:
            document = {"id": answer.id, "where": answer.where, "good": answer.good, "problem": answer.problem}
            print(json.dumps({**document, **answer.facts}, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("device", "", *columns, "problem"):
        table.add_column(title, overflow="fold")
    for answer in answers:
        facts = [answer.facts.get(column, "") for column in columns]
        table.add_row(answer.id, "ok" if answer.good else "BAD", *facts, answer.problem)
    Console(width=None if sys.stdout.isatty() else 140, markup=False).print(table)
    print(f"{sum(answer.good for answer in answers)} of {len(answers)} well")


# logs


def _logs(options: argparse.Namespace) -> int:
    if not 1 <= options.lines <= 10_000:
        raise DeployError(f"--lines: is {options.lines}, expected 1 to 10000", 2)
    commands = {
        "phone": f"tail -n {options.lines} {PREFIX}/var/log/sv/curupira/current",
        "linux": f"journalctl --no-pager -o short-iso -u {_UNIT} -n {options.lines}",
    }

    def work(member: Member, link: Link) -> Mapping[str, str]:
        return {"log": _good(link.run(commands[member.kind], timeout_s=60)).out}

    answers = ask(options, work)
    for answer in answers:
        if options.json:
            print(json.dumps({"id": answer.id, "good": answer.good, "problem": answer.problem, **answer.facts}))
        else:
            print(f"== {answer.id} ({answer.where}) {answer.problem}\n{answer.facts.get('log', '')}\n")
    return 0 if all(answer.good for answer in answers) else 1


# update


def _update(options: argparse.Namespace) -> int:
    bundles = find_bundles(options.bundle, ("termux-", "pi64-", "pi32-", "x86-64-"))
    answers = ask(options, lambda member, link: _bring(member, link, bundles, options.files / member.id))
    _say(answers, ("bundle", "configuration", "said"), as_json=options.json)
    return 0 if all(answer.good for answer in answers) else 1


def _bring(member: Member, link: Link, bundles: Mapping[str, Path], files: Path) -> Mapping[str, str]:
    """Send the bundle through the link and run its install script; it keeps the old version if the new one is bad."""
    bundle = bundles[_target_for(member, link, bundles)]
    has_config = (files / "config.yaml").exists()
    if has_config:
        _good(
            link.run(TAKE_CONFIG if member.kind == "phone" else _TAKE_CONFIG, timeout_s=60, stdin=packed_config(files))
        )
    where, option = ("$HOME", "") if member.kind == "phone" else (_STAGING, f" --config {_STAGING}/curupira-config")
    script = (
        f"set -e; umask 077; d={where}/curupira-update; rm -rf $d; mkdir $d; "
        f"trap 'rm -rf $d {_STAGING}/curupira-config' EXIT; tar -C $d -xzf -; "
        f"$d/curupira/install.sh{option if has_config else ''}"
    )
    reply = _good(link.run(script, timeout_s=1_200, stdin=bundle.read_bytes()))
    return {"bundle": bundle.name, "configuration": "brought" if has_config else "as it was", "said": reply.last_line}


def _good(reply: Reply) -> Reply:
    """Return a good reply; AdbError has the script's own word for what is wrong."""
    if reply.code:
        raise AdbError(reply.reason)
    return reply


_STAGING = "/var/tmp"  # noqa: S108  # what is put there is made anew, for root alone
_TAKE_CONFIG = f"set -e; umask 077; d={_STAGING}/curupira-config; rm -rf $d; mkdir $d; tar -C $d -xf -"


def _target_for(member: Member, link: Link, bundles: Mapping[str, Path]) -> str:
    """Return which of the bundles fits: by processor, and on Linux by the Python that is there."""
    about = (
        'uname -m; python3 -c "import sys; print(sys.version_info[:2])" 2>/dev/null || true; getconf LONG_BIT || true'
    )
    said = link.run(about, timeout_s=60).out.splitlines()
    machine = said[0].strip() if said else ""
    if member.kind == "phone":
        fitting = ["termux-arm" if said[-1:] == ["32"] or machine.startswith("armv") else "termux-aarch64"]
    else:
        fitting = _LINUX_TARGETS.get((machine, said[1].strip() if len(said) > 1 else ""), [])
    for target in fitting:
        if target in bundles:
            return target
    raise AdbError(f"no bundle given for it: {', '.join(fitting) or ' '.join(said)[:80]}")


_LINUX_TARGETS: Mapping[tuple[str, str], list[str]] = {
    ("aarch64", "(3, 11)"): ["pi64-bookworm"],
    ("aarch64", "(3, 13)"): ["pi64-trixie"],
    ("armv7l", "(3, 11)"): ["pi32-bookworm"],
    ("x86_64", "(3, 11)"): ["x86-64-py311"],
    ("x86_64", "(3, 12)"): ["x86-64-py312"],
    ("x86_64", "(3, 13)"): ["x86-64-py313"],
}


# journals


def _pull(options: argparse.Namespace) -> int:
    out: Path = options.out

    def work(member: Member, link: Link) -> Mapping[str, str]:
        script = _state_of(member) + 'cd "$state" && tar -cf - journal'
        return _unpacked(link.fetch(script, timeout_s=600), out / member.id / "journal")

    answers = ask(options, work)
    _say(answers, ("files", "mb", "folder"), as_json=options.json)
    return 0 if all(answer.good for answer in answers) else 1


def _unpacked(content: bytes, folder: Path) -> Mapping[str, str]:
    """Write a journal that came from a device; of what an archive may hold nothing but plain files is taken."""
    n_files = n_bytes = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            for member in tar:
                name = _JOURNAL.fullmatch(member.name)
                piece = tar.extractfile(member) if member.isreg() and name else None
                if piece is None or name is None:
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                draft = folder / f".{name[1]}.new"
                draft.write_bytes(piece.read())
                draft.replace(folder / name[1])
                n_files, n_bytes = n_files + 1, n_bytes + member.size
    except (tarfile.TarError, EOFError) as error:
        raise AdbError(f"its journal came broken or not at all: {error}") from error
    if not n_files:
        raise AdbError("it has no journal")
    return {"files": str(n_files), "mb": f"{n_bytes / 1e6:.1f}", "folder": str(folder)}
