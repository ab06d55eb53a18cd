"""`python -m deploy flash`: every phone on the cables, side by side, from a bare Android to a listener that answers.

Each phone has a thread and a state file, so that one phone's trouble is its own, and a second run goes on where the
first one ended.
"""

import argparse
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import FieldError
from agent.fields import Fields
from deploy.adb import Adb, AdbError, Children, PhoneGoneError, connected
from deploy.errors import DeployError
from deploy.phone import Outcome, Phone, Plan, Step
from deploy.provision import DEFAULT_OUT
from deploy.roster import read_roster
from deploy.state import DEFAULT_STATE, State, assign
from deploy.steps import STEPS

if TYPE_CHECKING:  # the table is rich's, and other commands go without
    from deploy.board import Board

DEFAULT_JOBS = 40
"""A step mostly waits for its phone: this many may as well wait together."""
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
        epilog="Steps: " + ", ".join(step.name for step in STEPS) + ". docs/fleet.md has what to do before.",
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
    board = _board(wanted, devices, steps, quiet=options.json)

    def flash_one(serial: str) -> None:
        adb = Adb(serial=serial, program=options.adb, children=children, patience=options.patience)
        flash = _Flash(adb, plan, states[serial], board, dry_run=options.dry_run)
        flash.go(found.get(serial, "absent"), devices.get(serial, ""), steps)

    _side_by_side(flash_one, wanted, options.jobs, board, children)
    if options.json:
        print(json.dumps(board.document(), indent=1, ensure_ascii=False))
    else:
        board.report()
    return 0 if board.all_ready else 1


def _board(wanted: Sequence[str], devices: Mapping[str, str], steps: Sequence[Step], *, quiet: bool) -> "Board":
    from deploy.board import Board, Row

    rows = [Row(key=serial, device=devices.get(serial, "")) for serial in wanted]
    return Board(rows, [step.name for step in steps], quiet=quiet)


def _side_by_side(
    work: Callable[[str], None], keys: Sequence[str], jobs: int, board: "Board", children: Children
) -> None:
    """Work on many at a time; Ctrl-C ends them all, and the table says how far each came."""
    with board, ThreadPoolExecutor(min(jobs, len(keys))) as pool:
        futures = [pool.submit(work, key) for key in keys]
        try:
            for future in futures:
                future.result()
        except KeyboardInterrupt:
            children.end()
            for future in futures:
                future.cancel()
        except BaseException:
            children.end()
            raise


@dataclass(slots=True)
class _Flash:
    """One phone's way through the steps."""

    adb: Adb
    plan: Plan
    state: State
    board: "Board"
    dry_run: bool
    phone: Phone = field(init=False)

    def go(self, found: str, device: str, steps: Sequence[Step]) -> None:
        """Take all steps until one that stops the rest."""
        try:
            self._go(found, device, steps)
        finally:
            self.board.end(self.adb.serial)

    def _go(self, found: str, device: str, steps: Sequence[Step]) -> None:
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
            cure = "plug it in, unlock it, accept this computer; then run this again: it goes on here"
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
