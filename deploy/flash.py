"""`python -m deploy flash`: every phone on the cables, side by side, from a bare Android to a listener that answers.

Each phone has a thread and a state file, so that one phone's trouble is its own, and a second run goes on where the
first one ended.
"""

import argparse
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from agent.errors import FieldError
from agent.fields import Fields
from deploy.adb import Adb, AdbError, Children, PhoneGoneError, connected
from deploy.board import Board, Outcome, Row
from deploy.errors import DeployError
from deploy.provision import DEFAULT_OUT
from deploy.roster import Roster, read_roster
from deploy.steps import PACKAGES, STEPS, Phone, Plan, Step

DEFAULT_STATE = Path("var/flash")
DEFAULT_JOBS = 40
"""A step mostly waits for its phone: this many may as well wait together."""
STATE_SCHEMA = 1
_LARGEST_STATE_BYTES = 100_000
_LARGEST_MANIFEST_BYTES = 1_000_000
_APKS = ("termux-app", "termux-api", "termux-boot")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "flash",
        help="make listeners of all phones on the cables, side by side",
        description="Installs Termux and the bundle on every connected phone, gives each its key and configuration, "
        "starts it, and asks it whether it hears and reaches the station. Run it again after trouble: what was done is "
        "kept, what failed is tried again. Exit code 0 only if every phone is ready.",
        epilog="Steps: " + ", ".join(step.name for step in STEPS) + ". docs/field-guide.md has what to do before.",
    )
    parser.add_argument("fleet", type=Path, metavar="FLEET.yaml", help="which devices there are")
    parser.add_argument("--apks", type=Path, required=True, metavar="DIR", help="the three APKs of Termux, from GitHub")
    parser.add_argument(
        "--bundle",
        type=Path,
        action="append",
        metavar="FILE",
        help="a bundle for Termux, one for each kind of processor (default: those in dist)",
    )
    parser.add_argument(
        "--files", type=Path, default=DEFAULT_OUT, metavar="DIR", help="what `provision` wrote (default: %(default)s)"
    )
    parser.add_argument(
        "--state", type=Path, default=DEFAULT_STATE, metavar="DIR", help="what was done so far (default: %(default)s)"
    )
    parser.add_argument("--only", action="append", metavar="SERIAL", help="this phone; may be given again")
    parser.add_argument(
        "--skip", action="append", default=[], choices=[step.name for step in STEPS[2:]], help="leave a step out"
    )
    parser.add_argument("--jobs", type=int, default=DEFAULT_JOBS, metavar="N", help="phones at a time (%(default)s)")
    parser.add_argument(
        "--patience",
        type=float,
        default=1.0,
        metavar="X",
        help="multiply every time limit (default: 1; slow phones: 2)",
    )
    parser.add_argument("--adb", default="adb", metavar="PROGRAM", help="the adb to use")
    parser.add_argument("--dry-run", action="store_true", help="look at the phones and say what would be done")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Flash all phones and say truthfully how each one is."""
    if not 1 <= options.jobs <= 1_000:
        raise DeployError(f"--jobs: is {options.jobs}, expected 1 to 1000", 2)
    if not 0.01 <= options.patience <= 100:
        raise DeployError(f"--patience: is {options.patience}, expected 0.01 to 100", 2)
    roster = read_roster(options.fleet)
    plan = Plan(apks=_find_apks(options.apks), bundles=find_bundles(options.bundle, ("termux-",)), files=options.files)
    children = Children()
    found = connected(options.adb, children)
    wanted = list(dict.fromkeys(options.only)) if options.only else sorted(found)
    if not wanted:
        raise DeployError("no phone is connected: plug one in, switch USB debugging on, and look at `adb devices`")
    states = {serial: State(options.state, serial) for serial in wanted}
    devices = assign(roster, wanted, states, options.state)
    steps = [step for step in STEPS if step.name not in options.skip]
    board = Board(
        [Row(key=serial, device=devices.get(serial, "")) for serial in wanted],
        [step.name for step in steps],
        quiet=options.json,
    )

    def flash_one(serial: str) -> None:
        adb = Adb(serial=serial, program=options.adb, children=children, patience=options.patience)
        try:
            _Flash(adb, plan, states[serial], board, dry_run=options.dry_run).go(
                found.get(serial, "absent"), devices.get(serial, ""), steps
            )
        finally:
            board.end(serial)

    side_by_side(flash_one, wanted, options.jobs, board, children)
    if options.json:
        print(json.dumps(board.document(), indent=1, ensure_ascii=False))
    else:
        board.report()
    return 0 if board.all_ready else 1


def side_by_side(work: Callable[[str], None], keys: Sequence[str], jobs: int, board: Board, children: Children) -> None:
    """Work on many at a time; Ctrl-C ends them all, and what was done stays known."""
    with board, ThreadPoolExecutor(min(jobs, len(keys))) as pool:
        futures = [pool.submit(work, key) for key in keys]
        try:
            for future in futures:
                future.result()
        except BaseException:
            children.end()
            for future in futures:
                future.cancel()
            raise


class State:
    """What was done to one phone: a file, replaced as a whole after each step."""

    def __init__(self, folder: Path, serial: str) -> None:
        """Read what there is; a damaged file is nothing, and everything is done again."""
        self._path = folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', serial)}.json"
        self.serial = serial
        self.device = ""
        self.identity = ""
        self.done: dict[str, str] = {}
        """Step by step, the key with which it was done."""
        self._read()

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                fields = Fields(json.loads(file.read(_LARGEST_STATE_BYTES)))
            fields.integer("schema", STATE_SCHEMA, STATE_SCHEMA)
            device = fields.text("device", longest=63)
            identity = fields.text("identity", longest=200)
            done = {name: str(key) for name, key in fields.mapping("done").items()}
        except (OSError, ValueError, FieldError):
            return
        self.device, self.identity, self.done = device, identity, done

    def belongs_to(self, phone: Phone) -> None:
        """Forget everything if this is not the phone that it was: reset, lent to another name, or emptied."""
        if (self.identity, self.device) != (phone.identity, phone.device) or not set(PACKAGES) <= phone.packages:
            self.done = {}
        self.identity, self.device = phone.identity, phone.device

    def keep(self) -> None:
        """Write it down; DeployError if that is not possible."""
        document = {
            "schema": STATE_SCHEMA,
            "serial": self.serial,
            "device": self.device,
            "identity": self.identity,
            "written_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "done": self.done,
        }
        draft = self._path.with_name(f".{self._path.name}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(document, indent=1) + "\n")
            draft.replace(self._path)
        except OSError as error:
            raise DeployError(f"{self._path}: cannot be written: {error.strerror}") from error


def assign(roster: Roster, serials: Iterable[str], states: Mapping[str, State], folder: Path) -> dict[str, str]:
    """Return which device each phone becomes: by its serial, else what it was before, else the next free one."""
    phones = [member for member in roster.members if member.kind == "phone"]
    given = {member.serial: member.id for member in phones if member.serial}
    free = [member.id for member in phones if not member.serial]
    taken = {device: serial for device, serial in owners(roster, folder).items() if device in free}
    assigned: dict[str, str] = {}
    for serial in serials:
        before = states[serial].device
        if serial in given:
            assigned[serial] = given[serial]
        elif taken.get(before) == serial:
            assigned[serial] = before
        else:
            unowned = next((device for device in free if device not in taken), None)
            if unowned is not None:
                assigned[serial] = unowned
                taken[unowned] = serial
    return assigned


def owners(roster: Roster, folder: Path) -> dict[str, str]:
    """Return which phone, by serial, each device is: by the fleet file, else by what `flash` wrote down."""
    known = {member.id for member in roster.members if member.kind == "phone"}
    remembered = {state.device: state.serial for state in _all_states(folder) if state.device in known}
    return remembered | {member.id: member.serial for member in roster.members if member.serial}


def _all_states(folder: Path) -> list[State]:
    return [State(folder, serial) for path in sorted(folder.glob("*.json")) if (serial := _serial_in(path))]


def _serial_in(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["serial"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@dataclass(slots=True)
class _Flash:
    """One phone's way through the steps."""

    adb: Adb
    plan: Plan
    state: State
    board: Board
    dry_run: bool
    phone: Phone = field(init=False)

    def go(self, found: str, device: str, steps: Sequence[Step]) -> None:
        """Take all steps until one that stops the rest."""
        trouble = _not_ready(found, device, self.plan.files)
        if trouble is not None:
            self._add(Outcome(step=steps[0].name, word="failed", detail=trouble[0], by_hand=trouble[1]))
            return
        self.phone = Phone(adb=self.adb, plan=self.plan, device=device)
        for step in steps:
            self.board.doing(self.adb.serial, step.name)
            outcome = self._take(step)
            self._add(outcome)
            if outcome.word == "failed":
                return

    def _add(self, outcome: Outcome) -> None:
        self.board.add(self.adb.serial, outcome)

    def _take(self, step: Step) -> Outcome:
        try:
            return self._tried(step)
        except (AdbError, DeployError, OSError) as error:
            return self._refused(step, error)
        except Exception as error:  # noqa: BLE001  # a fault of ours on one phone stops no other
            what = f"{type(error).__name__}: {error}"
            return Outcome(step=step.name, word="failed", detail=what, by_hand="a fault of this program; report it")
        finally:
            self.board.know(self.adb.serial, model=self.phone.model)

    def _refused(self, step: Step, error: Exception) -> Outcome:
        if isinstance(error, PhoneGoneError):
            cure = "plug it in again, unlock it, accept this computer; then run this again: it goes on here"
            return Outcome(step=step.name, word="failed", detail=str(error), by_hand=cure)
        word = "failed" if step.stops else "by hand"
        by_hand = step.by_hand.format(serial=self.adb.serial)
        return Outcome(step=step.name, word=word, detail=str(error), by_hand=by_hand)

    def _tried(self, step: Step) -> Outcome:
        if step.again:
            return self._acted(step) if step.looks or not self.dry_run else _would(step)
        key = step.key(self.phone)
        if self.state.done.get(step.name) == key:
            return Outcome(step=step.name, word="kept", detail="was done before")
        if self.dry_run:
            return _would(step)
        outcome = self._acted(step)
        self.state.done[step.name] = key
        self.state.keep()
        return outcome

    def _acted(self, step: Step) -> Outcome:
        result = step.act(self.phone)
        if step is STEPS[0]:
            self.state.belongs_to(self.phone)
            if not self.dry_run:
                self.state.keep()
        return Outcome(step=step.name, word="done" if result.needed else "not needed", detail=result.detail)


def _would(step: Step) -> Outcome:
    return Outcome(step=step.name, word="to do", detail="would be done")


_STATES = {
    "unauthorized": ("the phone does not trust this computer", "unlock the phone and accept this computer's key"),
    "offline": ("the phone does not answer adb", "unplug it and plug it in again; another cable or port"),
    "absent": ("not connected", "plug it in; `adb devices` must show it"),
}


def _not_ready(found: str, device: str, files: Path) -> tuple[str, str] | None:
    """Return what is wrong before anything is tried, and the cure; None if nothing is."""
    if found != "device":
        return _STATES.get(found, (f"adb says: {found}", "see `adb devices -l`"))
    if not device:
        return "no device of the fleet file is left for it", "add a device (kind: phone) to the fleet file; provision"
    if not (files / device / "config.yaml").exists():
        return f"{files / device}: has no config.yaml", "run: python -m deploy provision FLEET.yaml"
    return None


def _find_apks(folder: Path) -> Mapping[str, tuple[Path, ...]]:
    found = {name: tuple(sorted(folder.glob(f"{name}*.apk"))) for name in _APKS}
    missing = [f"{name}*.apk" for name, paths in found.items() if not paths]
    if missing:
        raise DeployError(
            f"--apks: {folder} has no {', '.join(missing)}; get all three from the same GitHub release page of Termux "
            "(those of F-Droid and Google Play do not let adb in)",
            2,
        )
    return found


def find_bundles(given: Sequence[Path] | None, kinds: tuple[str, ...]) -> Mapping[str, Path]:
    """Return bundles by target; without any given, those of these kinds in dist, the newest of each.

    Raises:
        DeployError: there is none, or one is no bundle or of another kind.
    """
    found = [path for kind in kinds for path in Path("dist").glob(f"curupira-*-{kind}*.tar.gz")]
    paths = given or sorted((path for path in found if "-station-" not in path.name), key=lambda p: p.stat().st_mtime)
    bundles = {_target_of(path, kinds): path for path in paths}
    if not bundles:
        raise DeployError(
            "--bundle: none given, none in dist; make one: python -m deploy bundle --target termux-aarch64", 2
        )
    return bundles


def _target_of(path: Path, kinds: tuple[str, ...]) -> str:
    """Return what a bundle is for, by its own manifest."""
    try:
        with tarfile.open(path, "r:gz") as tar:
            member = tar.extractfile("curupira/manifest.json")
            target = Fields(json.loads(member.read(_LARGEST_MANIFEST_BYTES) if member else b"")).text("target")
    except (OSError, KeyError, ValueError, EOFError, tarfile.TarError, FieldError) as error:
        raise DeployError(f"--bundle: {path} is no bundle: {' '.join(str(error).split())[:120]}", 2) from error
    if not target.startswith(kinds):
        raise DeployError(f"--bundle: {path} is for {target}, expected one for {' or '.join(kinds)}", 2)
    return target
