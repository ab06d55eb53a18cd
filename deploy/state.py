"""What was done to which phone: a file a phone, so that a second run goes on where the first one ended."""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from agent.errors import FieldError
from agent.fields import Fields
from deploy.errors import DeployError
from deploy.phone import Phone
from deploy.roster import Roster
from deploy.steps import PACKAGES

DEFAULT_STATE = Path("var/flash")
STATE_SCHEMA = 1
_LARGEST_STATE_BYTES = 100_000


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
