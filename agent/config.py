"""The device's configuration: one YAML file, read once, checked whole, handed down in parts.

An unknown key is an error, not a surprise in the forest: the agent does not start (exit 2) and says what it expected.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import urlsplit

import yaml

from agent.alert import Position
from agent.errors import ConfigError, FieldError
from agent.fields import Fields, shown
from agent.manifest import BUNDLED_MODEL
from agent.power import PowerConfig
from agent.signing import DEVICE_ID

Part = TypeVar("Part")

CAPTURE_KINDS = ("auto", "sounddevice", "pipe", "file")
LARGEST_CONFIG_BYTES = 100_000
_DEEPEST = 10
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceConfig:
    """Which device this is and where it hangs."""

    id: str = "unnamed"
    """The name under which the station knows it: small letters, digits, '.', '_' and '-'."""
    position: Position | None = None
    """Where it hangs; alerts carry it."""

    @classmethod
    def parse(cls, fields: Fields) -> "DeviceConfig":
        """Read `device`."""
        name = fields.text("id", longest=63, shortest=1)
        if not DEVICE_ID.fullmatch(name):
            raise FieldError(fields.name("id"), f"is {shown(name)}, expected small letters, digits, '.', '_' and '-'")
        position = Position.parse(fields.sub("position")) if fields.has("position") else None
        return cls(id=name, position=position)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureConfig:
    """Where sound comes from."""

    source: str = "auto"
    """`auto`: sounddevice, else parec, else arecord; `pipe`: a command that writes s16le; `file`: a recording."""
    device: str | None = None
    """Part of the microphone's name; the first input if empty. Names stay when numbers change."""
    command: tuple[str, ...] = ()
    """The command of `pipe`, as a list of words."""
    path: Path | None = None
    """The recording of `file`, heard in real time."""
    then: Path | None = None
    """For `file`: a recording that is repeated for ever when `path` has ended; without it the agent stops then."""
    sample_rate: int = 48_000
    """Samples per second that `pipe` writes; other sources know their own."""
    ring_s: float = 12.0
    """Seconds of audio kept while the listener is busy; then the oldest is lost, and counted."""

    @classmethod
    def parse(cls, fields: Fields) -> "CaptureConfig":
        """Read `capture`; what the source needs must be there."""
        default = cls()
        config = cls(
            source=fields.choice("source", CAPTURE_KINDS) if fields.has("source") else default.source,
            device=fields.text("device") if fields.has("device") else None,
            command=fields.texts("command") if fields.has("command") else (),
            path=_path(fields, "path") if fields.has("path") else None,
            then=_path(fields, "then") if fields.has("then") else None,
            sample_rate=fields.integer("sample_rate", 8_000, 384_000)
            if fields.has("sample_rate")
            else default.sample_rate,
            ring_s=fields.number("ring_s", 10, 600) if fields.has("ring_s") else default.ring_s,
        )
        if config.source == "pipe" and not config.command:
            raise FieldError(fields.name("command"), "is missing, expected the words of a command, for source: pipe")
        if config.source == "file" and config.path is None:
            raise FieldError(fields.name("path"), "is missing, expected a recording, for source: file")
        return config


@dataclass(frozen=True, kw_only=True, slots=True)
class ListenConfig:
    """What the agent does with sound."""

    model: Path = BUNDLED_MODEL
    """The .tflite file; its manifest lies beside it and ends in .json."""
    gate: bool = True
    """Whether windows in which nothing happens are kept from the model."""
    vad: bool = True
    """Whether the gate uses WebRTC's detector where it is installed."""

    @classmethod
    def parse(cls, fields: Fields) -> "ListenConfig":
        """Read `listen`."""
        return cls(
            model=_path(fields, "model") if fields.has("model") else BUNDLED_MODEL,
            gate=fields.flag("gate") if fields.has("gate") else True,
            vad=fields.flag("vad") if fields.has("vad") else True,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StationConfig:
    """Where alerts go."""

    urls: tuple[str, ...] = ()
    """Base stations, tried in this order: https://…; plain http is for this machine alone."""
    key_file: Path | None = None
    """The device's key, readable by the agent alone; never in this file."""
    ca_file: Path | None = None
    """The station's own certificate authority, if it has one."""
    heartbeat_s: float = 300.0
    """Seconds between heartbeats."""

    @classmethod
    def parse(cls, fields: Fields) -> "StationConfig":
        """Read `station`."""
        urls = fields.texts("urls", longest=8) if fields.has("urls") else ()
        for url in urls:
            if not _is_safe(url):
                raise FieldError(
                    fields.name("urls"), f"holds {shown(url)}, expected https:// (http:// on loopback only)"
                )
        key_file = _path(fields, "key_file") if fields.has("key_file") else None
        if urls and key_file is None:
            raise FieldError(
                fields.name("key_file"), "is missing, expected the device's key file, since there are urls"
            )
        return cls(
            urls=urls,
            key_file=key_file,
            ca_file=_path(fields, "ca_file") if fields.has("ca_file") else None,
            heartbeat_s=fields.number("heartbeat_s", 1, 86_400) if fields.has("heartbeat_s") else 300.0,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageConfig:
    """What the agent may keep on disk, and where."""

    folder: Path = Path("var/agent")
    """Outbox, journal and counter lie here."""
    outbox_mb: float = 50.0
    """Bound of the outbox; alerts are the last to go."""
    journal_mb: float = 64.0
    """Bound of the field log; the oldest goes first."""

    @classmethod
    def parse(cls, fields: Fields) -> "StorageConfig":
        """Read `storage`."""
        return cls(
            folder=_path(fields, "folder") if fields.has("folder") else cls().folder,
            outbox_mb=fields.number("outbox_mb", 1, 10_000) if fields.has("outbox_mb") else 50.0,
            journal_mb=fields.number("journal_mb", 1, 100_000) if fields.has("journal_mb") else 64.0,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipsConfig:
    """Whether an alert's sound leaves the device."""

    keep: bool = False
    """Keep the last seconds with each alert, and send them after its receipt; never with speech in them."""
    length_s: float = 8.0
    """Seconds of a clip."""
    most_mb: float = 10.0
    """Bound of the clips that wait; the oldest goes first."""

    @classmethod
    def parse(cls, fields: Fields) -> "ClipsConfig":
        """Read `clips`."""
        return cls(
            keep=fields.flag("keep") if fields.has("keep") else False,
            length_s=fields.number("length_s", 1, 10) if fields.has("length_s") else cls().length_s,
            most_mb=fields.number("most_mb", 0.5, 1_000) if fields.has("most_mb") else cls().most_mb,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentConfig:
    """The whole file, a part per stage."""

    device: DeviceConfig = field(default_factory=DeviceConfig)
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    listen: ListenConfig = field(default_factory=ListenConfig)
    station: StationConfig = field(default_factory=StationConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    power: PowerConfig = field(default_factory=PowerConfig)
    clips: ClipsConfig = field(default_factory=ClipsConfig)

    @classmethod
    def parse(cls, document: object, folder: Path) -> "AgentConfig":
        """Read a parsed YAML document; relative paths count from `folder`, where the file lies."""
        fields = Fields(document)
        schema = fields.integer("schema", 1, 1) if fields.has("schema") else 1
        assert schema == 1
        device = _part(fields, "device", DeviceConfig.parse, DeviceConfig())
        capture = _part(fields, "capture", CaptureConfig.parse, CaptureConfig())
        listen = _part(fields, "listen", ListenConfig.parse, ListenConfig())
        station = _part(fields, "station", StationConfig.parse, StationConfig())
        storage = _part(fields, "storage", StorageConfig.parse, StorageConfig())
        power = _part(fields, "power", PowerConfig.parse, PowerConfig())
        clips = _part(fields, "clips", ClipsConfig.parse, ClipsConfig())
        fields.done()
        config = cls(
            device=device,
            capture=capture,
            listen=listen,
            station=station,
            storage=storage,
            power=power,
            clips=clips,
        )
        return _rooted(config, folder)


def _part(fields: Fields, key: str, parse: Callable[[Fields], Part], default: Part) -> Part:
    """Read one section, all of whose keys must be known; a missing section is its defaults."""
    if not fields.has(key):
        return default
    section = fields.sub(key)
    part = parse(section)
    section.done()
    return part


def _path(fields: Fields, key: str) -> Path:
    """Return a path; `~` is the home folder."""
    text = fields.text(key, longest=4_096, shortest=1)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise FieldError(fields.name(key), f"is {shown(text)}, expected a path: {error}") from error


def _is_safe(url: str) -> bool:
    """Say whether alerts may go there: over TLS, or not over a network at all."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))


def _rooted(config: AgentConfig, folder: Path) -> AgentConfig:
    """Return the same configuration with its paths made absolute."""

    def under(path: Path | None) -> Path | None:
        return None if path is None else folder / path

    return replace(
        config,
        capture=replace(config.capture, path=under(config.capture.path), then=under(config.capture.then)),
        listen=replace(config.listen, model=folder / config.listen.model),
        station=replace(config.station, key_file=under(config.station.key_file), ca_file=under(config.station.ca_file)),
        storage=replace(config.storage, folder=folder / config.storage.folder),
    )


# impossible dates and values with an explicit tag (`!!int ""`) fail in PyYAML's constructors in as many ways
_BAD_VALUE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def _load(content: bytes) -> object:
    """Return the parsed document, if it is as plain as a configuration: merged aliases grow without bound."""
    parse = cast("Callable[[bytes], Iterator[yaml.Event]]", yaml.parse)  # pyright: ignore[reportUnknownMemberType]  # thin stubs
    depth = 0
    for event in parse(content):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias (*name); write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.YAMLError(f"it nests more than {_DEEPEST} deep")
    document: object = yaml.safe_load(content)
    return document


def _one_line(error: Exception) -> str:
    """Return what an error says, bounded and without what would break the line."""
    text = " ".join(str(error).split())
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200]


def read_config(path: Path) -> AgentConfig:
    """Read the configuration file.

    Raises:
        ConfigError: it cannot be read, is not YAML, or one key is wrong: the text names file, key, value and what
            was expected.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from error
    if len(content) > LARGEST_CONFIG_BYTES:
        raise ConfigError(
            f"{path}: has more than {LARGEST_CONFIG_BYTES} bytes, expected a configuration written by hand"
        )
    try:
        document = _load(content)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML for a configuration: {_one_line(error)}") from error
    except _BAD_VALUE as error:
        raise ConfigError(f"{path}: holds a number, date or tagged value that is none: {_one_line(error)}") from error
    try:
        return AgentConfig.parse({} if document is None else document, path.parent.resolve())
    except FieldError as error:
        raise ConfigError(f"{path}: {error}") from error
