"""The fleet file: which devices there are, where each hangs, how it is reached. Written by hand, checked whole.

What a device's own configuration says is checked by the agent's own reader, so that nothing is provisioned that the
agent would refuse.
"""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent.alert import Position
from agent.config import AgentConfig
from agent.errors import ConfigError, FieldError
from agent.fields import Fields, shown
from agent.signing import DEVICE_ID

KINDS = ("phone", "linux")
LARGEST_FLEET_BYTES = 1_000_000
MOST_DEVICES = 1_000
SECTIONS = ("capture", "listen", "storage")
"""Parts of the agent's configuration that a fleet file may set, for all devices of a kind or for one."""

_DEEPEST = 10
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_SSH = re.compile(r"([a-z_][a-z0-9_-]{0,31}@)?[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")

_PAREC = ["parec", "-d", "mic", "--raw", "--format=s16le", "--rate=48000", "--channels=1", "--latency-msec=100"]
_DEFAULTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # 48 kHz is what Android's recorder gives by itself; `mic` is the source that the PulseAudio service makes
    "phone": {
        "capture": {
            "source": "pipe",
            "command": _PAREC,
            "sample_rate": 48_000,
        },
        "storage": {"folder": "~/.local/share/curupira"},
    },
    "linux": {"capture": {"source": "auto"}, "storage": {"folder": "/var/lib/curupira"}},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One device of the fleet."""

    id: str
    """As the station knows it."""
    name: str
    """For people; printed on the label."""
    kind: str
    """`phone`: Termux, reached by adb; `linux`: systemd, reached by ssh."""
    position: Position | None
    serial: str | None
    """Of the phone, as `adb devices` shows it; None: any phone that is nobody else's."""
    ssh: str | None
    """`user@host` of a Linux device."""
    ssh_port: int
    sections: Mapping[str, Mapping[str, Any]]
    """Parts of the agent's configuration, defaults and all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Roster:
    """The whole file."""

    urls: tuple[str, ...]
    heartbeat_s: float
    members: tuple[Member, ...]

    def config(self, member: Member) -> dict[str, Any]:
        """Return the agent's configuration of one device; its files lie beside it."""
        device: dict[str, Any] = {"id": member.id}
        if member.position is not None:
            device["position"] = {"latitude": member.position.latitude, "longitude": member.position.longitude}
        station: dict[str, Any] = {"urls": list(self.urls), "key_file": "device.key", "heartbeat_s": self.heartbeat_s}
        if self.needs_ca:
            station["ca_file"] = "ca.pem"
        return {"schema": 1, "device": device, "station": station, **member.sections}

    @property
    def needs_ca(self) -> bool:
        """Say whether devices speak TLS."""
        return any(url.startswith("https:") for url in self.urls)


class _Loader(yaml.SafeLoader):
    """YAML as plain as a list of devices: a key given twice is an error, not the second of the two."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias (*name); write the value out")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.YAMLError(f"it nests more than {_DEEPEST} deep")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {shown(key.value)} is there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_roster(path: Path) -> Roster:
    """Read a fleet file.

    Raises:
        ConfigError: it cannot be read, is not YAML, or one key is wrong: the text names file, key, value and what was
            expected.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FLEET_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the fleet file: {error.strerror}") from error
    if len(content) > LARGEST_FLEET_BYTES:
        raise ConfigError(f"{path}: has more than {LARGEST_FLEET_BYTES} bytes, expected a list of devices")
    try:
        document = yaml.load(content, _Loader)  # noqa: S506  # a SafeLoader, and stricter
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: is not YAML for a fleet: {' '.join(str(error).split())[:200]}") from error
    try:
        return _parse(Fields({} if document is None else document))
    except FieldError as error:
        raise ConfigError(f"{path}: {error}") from error


def _parse(fields: Fields) -> Roster:
    if fields.has("schema"):
        fields.integer("schema", 1, 1)
    station = fields.sub("station")
    urls = station.texts("urls", longest=8)
    if not urls:
        raise FieldError(
            station.name("urls"), "is empty, expected at least one address, say https://station.local:8765"
        )
    heartbeat_s = station.number("heartbeat_s", 1, 86_400) if station.has("heartbeat_s") else 300.0
    station.done()
    shared = {kind: _sections(fields.sub(kind)) if fields.has(kind) else {} for kind in KINDS}
    devices = fields.sub("devices")
    fields.done()
    names = devices.all_keys()
    if not 1 <= len(names) <= MOST_DEVICES:
        raise FieldError("devices", f"has {len(names)} devices, expected 1 to {MOST_DEVICES}")
    members = tuple(_member(name, devices, shared) for name in names)
    _check_alone(devices, members)
    roster = Roster(urls=urls, heartbeat_s=heartbeat_s, members=members)
    for member in members:
        _check_folder(devices, member)
        _check_config(devices, roster, member)
    return roster


def _member(name: str, devices: Fields, shared: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Member:
    if not DEVICE_ID.fullmatch(name):
        raise FieldError(
            devices.name(name), "is no device id, expected small letters, digits, '.', '_' and '-', at most 63"
        )
    fields = devices.sub(name)
    kind = fields.choice("kind", KINDS) if fields.has("kind") else "phone"
    own = {section: dict(fields.mapping(section)) for section in SECTIONS if fields.has(section)}
    member = Member(
        id=name,
        name=_label(fields) if fields.has("name") else name,
        kind=kind,
        position=Position.parse(fields.sub("position")) if fields.has("position") else None,
        serial=_matching(fields, "serial", _SERIAL, "a serial as `adb devices` shows it") if kind == "phone" else None,
        ssh=_matching(fields, "ssh", _SSH, "user@host") if kind == "linux" else None,
        ssh_port=fields.integer("ssh_port", 1, 65_535) if kind == "linux" and fields.has("ssh_port") else 22,
        sections=_merged(_merged(_DEFAULTS[kind], shared[kind]), own),
    )
    fields.done()
    return member


def _sections(fields: Fields) -> dict[str, dict[str, Any]]:
    sections = {section: dict(fields.mapping(section)) for section in SECTIONS if fields.has(section)}
    fields.done()
    return sections


def _merged(
    under: Mapping[str, Mapping[str, Any]], over: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Return both, key by key; another source takes none of the default one's keys with it."""
    merged = {section: dict(part) for section, part in under.items()}
    for section, part in over.items():
        below = {} if "source" in part else merged.get(section, {})
        merged[section] = {**below, **part}
    return dict(merged)


def _label(fields: Fields) -> str:
    """Return a name that can be printed: a label's fonts know Western European letters."""
    name = fields.text("name", longest=40, shortest=1)
    try:
        name.encode("cp1252")
    except UnicodeEncodeError as error:
        raise FieldError(
            fields.name("name"), f"is {shown(name)}, expected letters that a label can show (Western European)"
        ) from error
    return name


def _matching(fields: Fields, key: str, form: re.Pattern[str], expected: str) -> str | None:
    if not fields.has(key):
        return None
    text = fields.text(key, longest=300)
    if not form.fullmatch(text):
        raise FieldError(fields.name(key), f"is {shown(text)}, expected {expected}")
    return text


def _check_alone(devices: Fields, members: tuple[Member, ...]) -> None:
    """Refuse two devices behind one serial: the second would overwrite the first."""
    owners: dict[str, str] = {}
    for member in members:
        if member.serial is None:
            continue
        other = owners.setdefault(member.serial, member.id)
        if other != member.id:
            raise FieldError(f"{devices.name(member.id)}.serial", f"is {shown(member.serial)}, which {other} has too")


def _check_folder(devices: Fields, member: Member) -> None:
    """Refuse a folder on a phone in which nobody would look for signs of life."""
    folder, expected = member.sections["storage"].get("folder"), _DEFAULTS["phone"]["storage"]["folder"]
    if member.kind == "phone" and folder != expected:
        where = f"{devices.name(member.id)}.storage.folder"
        raise FieldError(where, f"is {shown(folder)}, expected {expected} on a phone: its supervisor looks there")


def _check_config(devices: Fields, roster: Roster, member: Member) -> None:
    """Have the agent's own reader look at what the agent will read."""
    try:
        AgentConfig.parse(roster.config(member), Path("/"))
    except FieldError as error:
        where = error.key if error.key.startswith("station.") else f"{devices.name(member.id)}.{error.key}"
        raise FieldError(where, error.problem) from error
