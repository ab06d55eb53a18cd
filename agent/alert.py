"""The alert and the heartbeat as they go over the wire, and the only reader of both.

docs/protocol.md shows one of each. The device writes them, the station parses them with the same code.
An alert is a fact that does not change: its opening is revision 0, its closing revision 1, both with one id.
"""

import base64
import binascii
import json
import math
import re
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from agent.errors import FieldError
from agent.features import coarser
from agent.fields import Fields, shown
from agent.signing import DEVICE_ID

ALERT_SCHEMA = 1
HEARTBEAT_SCHEMA = 3
"""2 says how the last run ended, and of lag, reopenings, parked and lost alerts; 3 of power, pauses, the next
heartbeat and of what was written to flash. Earlier ones are read as well."""
LARGEST_ALERT_BYTES = 64 * 1024
LARGEST_LOG_MEL_BYTES = 32 * 1024
LARGEST_HEARTBEAT_BYTES = 8 * 1024

PICTURE_HOP_S = 0.025
"""A picture's columns are at least so far apart, however fine the model's frames are: it goes over the air and lies at
the station, and what people said near the device should not be had from it."""

CERTAINTIES = ("synced", "guess", "unset")
STATES = ("open", "closed")

UInt8 = NDArray[np.uint8]

LABEL = re.compile(r"[a-z][a-z0-9_]{0,31}")
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_MANY_SECONDS = 1e10


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where the device hangs, from its configuration."""

    latitude: float
    """Degrees, north positive."""
    longitude: float
    """Degrees, east positive."""

    @classmethod
    def parse(cls, fields: Fields) -> "Position":
        """Read a position; FieldError names what is wrong."""
        position = cls(latitude=fields.number("latitude", -90, 90), longitude=fields.number("longitude", -180, 180))
        fields.done()
        return position


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """One moment on all the clocks that a device has."""

    boot_id: str
    """Which run of the monotonic clock: it starts anew with the device."""
    monotonic_s: float
    """Seconds on the monotonic clock."""
    utc: str
    """Wall time, ISO 8601 with Z."""
    utc_certainty: str
    """`synced`: set by network time; `guess`: plausible; `unset`: older than this software, so certainly wrong."""

    @classmethod
    def parse(cls, fields: Fields) -> "Clock":
        """Read a clock; FieldError names what is wrong."""
        clock = cls(
            boot_id=fields.text("boot_id", longest=64, shortest=8),
            monotonic_s=fields.number("monotonic_s", 0, _MANY_SECONDS),
            utc=_matching(fields, "utc", _UTC, 40, "a time such as 2026-01-31T23:59:59.5Z"),
            utc_certainty=fields.choice("utc_certainty", CERTAINTIES),
        )
        fields.done()
        return clock


@dataclass(frozen=True, kw_only=True, slots=True)
class Battery:
    """The power that is left, as far as the device knows."""

    percent: float | None = None
    """Charge, 0 to 100."""
    temperature_c: float | None = None
    """Degrees Celsius."""
    charging: bool | None = None
    """Whether power comes in."""

    @classmethod
    def parse(cls, fields: Fields) -> "Battery":
        """Read a battery; every field may be null."""
        battery = cls(
            percent=fields.number("percent", 0, 100) if fields.has("percent") else None,
            temperature_c=fields.number("temperature_c", -100, 200) if fields.has("temperature_c") else None,
            charging=fields.flag("charging") if fields.has("charging") else None,
        )
        fields.done()
        return battery


def frames_as_one(hop_s: float) -> int:
    """Return how many frames, hop_s seconds apart, are one column of a picture."""
    return max(1, math.ceil(PICTURE_HOP_S / hop_s - 1e-6))


@dataclass(frozen=True, kw_only=True, slots=True)
class LogMelImage:
    """The window that the model saw when the alert was raised, as 8-bit steps; frames too fine to show are merged."""

    n_frames: int
    """Columns of the picture, in time."""
    n_mels: int
    """Rows of the picture, low bands first."""
    hop_s: float
    """Seconds between two columns."""
    mel_min_hz: float
    """Lower edge of the first band."""
    mel_max_hz: float
    """Upper edge of the last band."""
    low: float
    """Natural-log power of step 0."""
    step: float
    """Natural-log power from one step to the next."""
    data: str
    """Base64 of zlib of n_frames x n_mels bytes, time first."""

    @classmethod
    def of(cls, frames: NDArray[np.float32], *, hop_s: float, mel_min_hz: float, mel_max_hz: float) -> "LogMelImage":
        """Make the picture from a window of log-mel, shape (n_frames, n_mels), its frames hop_s apart."""
        merged = frames_as_one(hop_s)
        frames = coarser(frames, merged)
        low, high = float(frames.min()), float(frames.max())
        step = max((high - low) / 255, 1e-6)
        steps = np.rint((frames - low) / step).clip(0, 255).astype(np.uint8)
        n_frames, n_mels = steps.shape
        data = base64.b64encode(zlib.compress(steps.tobytes(), 6)).decode()
        return cls(
            n_frames=n_frames,
            n_mels=n_mels,
            hop_s=merged * hop_s,
            mel_min_hz=mel_min_hz,
            mel_max_hz=mel_max_hz,
            low=low,
            step=step,
            data=data,
        )

    def pixels(self) -> UInt8:
        """Return the steps, shape (n_frames, n_mels); FieldError if the data is not what it says."""
        expected = self.n_frames * self.n_mels
        try:
            packed = base64.b64decode(self.data, validate=True)
            # max_length: a small body must not unpack into a large one
            raw = zlib.decompressobj().decompress(packed, expected + 1)
        except (binascii.Error, ValueError, zlib.error) as error:
            raise FieldError("log_mel.data", f"is not base64 of zlib data: {error}") from error
        if len(raw) != expected:
            raise FieldError("log_mel.data", f"does not unpack to {self.n_frames} x {self.n_mels} bytes")
        return np.frombuffer(raw, np.uint8).reshape(self.n_frames, self.n_mels)

    @classmethod
    def parse(cls, fields: Fields) -> "LogMelImage":
        """Read and unpack once, so that a broken picture is refused at the door."""
        image = cls(
            n_frames=fields.integer("n_frames", 1, 512),
            n_mels=fields.integer("n_mels", 1, 256),
            hop_s=fields.number("hop_s", 1e-4, 1),
            mel_min_hz=fields.number("mel_min_hz", 0, 24_000),
            mel_max_hz=fields.number("mel_max_hz", 1, 24_000),
            low=fields.number("low", -200, 200),
            step=fields.number("step", 1e-9, 10),
            data=fields.text("data", longest=LARGEST_LOG_MEL_BYTES),
        )
        fields.done()
        image.pixels()
        return image


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """One revision of one alert."""

    schema: int = ALERT_SCHEMA
    alert_id: str
    """UUID; the same for all revisions of one event."""
    revision: int
    """0 when the event opens, 1 when it closes."""
    state: str
    """`open` or `closed`."""
    device_id: str
    label: str
    """What was heard: `chainsaw` or `engine`."""
    score: float
    """Highest score of the event so far, 0 to 1; not a probability."""
    onset_s: float
    """Audio seconds since capture began, at which the event began."""
    raised_s: float
    """Audio seconds since capture began, at which this revision was decided."""
    clock: Clock
    """The clocks at `raised_s`; onset in wall time is `clock.utc` less (raised_s - onset_s)."""
    model_digest: str
    """Which model heard it."""
    level_dbfs: float
    """RMS level of the deciding window, 0 = full scale."""
    drill: bool = False
    """True only for a drill; never shown as real."""
    battery: Battery | None = None
    position: Position | None = None
    log_mel: LogMelImage | None = None
    """What the model saw; openings carry it."""

    def to_json(self) -> bytes:
        """Return the wire form, UTF-8 JSON."""
        return _to_json(asdict(self))

    @classmethod
    def from_json(cls, body: bytes) -> "Alert":
        """Read the wire form; FieldError names the field that is wrong."""
        fields = _document(body, LARGEST_ALERT_BYTES)
        fields.integer("schema", ALERT_SCHEMA, ALERT_SCHEMA)
        alert = cls(
            alert_id=_uuid(fields, "alert_id"),
            revision=fields.integer("revision", 0, 1000),
            state=fields.choice("state", STATES),
            device_id=_matching(fields, "device_id", DEVICE_ID, 63, "small letters, digits, '.', '_' and '-'"),
            label=_matching(fields, "label", LABEL, 32, "a small word"),
            score=fields.number("score", 0, 1),
            onset_s=fields.number("onset_s", 0, _MANY_SECONDS),
            raised_s=fields.number("raised_s", 0, _MANY_SECONDS),
            clock=Clock.parse(fields.sub("clock")),
            model_digest=fields.text("model_digest", longest=64),
            level_dbfs=fields.number("level_dbfs", -200, 20),
            drill=fields.flag("drill"),
            battery=Battery.parse(fields.sub("battery")) if fields.has("battery") else None,
            position=Position.parse(fields.sub("position")) if fields.has("position") else None,
            log_mel=LogMelImage.parse(fields.sub("log_mel")) if fields.has("log_mel") else None,
        )
        fields.done()
        return alert


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """What a device says of itself every few minutes: is it doing its job?"""

    schema: int = HEARTBEAT_SCHEMA
    device_id: str
    version: str
    """Version of the agent."""
    clock: Clock
    model_digest: str
    uptime_s: float
    """Seconds since the agent started."""
    audio_s: float
    """Seconds of audio heard since it started."""
    audio_per_wall: float
    """Audio seconds per second since the last heartbeat that was meant for listening: 1 is healthy, 0 is deaf."""
    windows: int
    """Windows since it started, gated ones included."""
    classified: int
    """Windows that the model saw."""
    top_scores: Mapping[str, float]
    """Highest score of each label since the last heartbeat."""
    level_dbfs: float
    """RMS level since the last heartbeat."""
    states: tuple[str, ...]
    """Named states that hold now (`zeros`, `model_stuck`, ...); empty is healthy."""
    queue: int
    """Alerts that wait for the station."""
    dropped_s: float
    """Seconds of audio lost since the start because the agent fell behind."""
    disk_free_mb: float
    rss_mb: float
    """Resident memory."""
    start_reason: str = ""
    """How the run before this one ended: `clean stop`, `crash`, `killed`, `power loss`; empty if it is not said."""
    lag_s: float = 0.0
    """Longest time that sound waited for the listener since the last heartbeat."""
    reopenings: int = 0
    """How often the microphone had to be opened again since the start."""
    parked: int = 0
    """Alerts that the station refused."""
    in_memory: int = 0
    """Alerts that the disk refused: gone if the power goes."""
    lost_alerts: int = 0
    """Alerts dropped since the start because the outbox's bytes ran out."""
    power: str = ""
    """Level of the power policy: `full`, `saving`, `survival`; empty if it is not said."""
    heartbeat_s: float = 0.0
    """Seconds until the next heartbeat is due; 0 if it is not said."""
    paused_s: float = 0.0
    """Seconds since the start in which the microphone was let go to save power."""
    written_kb: int = 0
    """Passed to write() since the start, in thousands of bytes."""
    position: Position | None = None
    battery: Battery | None = None

    def to_json(self) -> bytes:
        """Return the wire form, UTF-8 JSON."""
        return _to_json(asdict(self))

    @classmethod
    def from_json(cls, body: bytes) -> "Heartbeat":
        """Read the wire form; FieldError names the field that is wrong."""
        fields = _document(body, LARGEST_HEARTBEAT_BYTES)
        schema = fields.integer("schema", 1, HEARTBEAT_SCHEMA)
        heartbeat = cls(
            # one of an older agent is kept as one of today that does not say everything
            **(_since_2(fields) if schema >= 2 else {}),  # type: ignore[arg-type]  # a dict of mixed kinds
            **(_since_3(fields) if schema >= 3 else {}),  # type: ignore[arg-type]  # the same
            device_id=_matching(fields, "device_id", DEVICE_ID, 63, "small letters, digits, '.', '_' and '-'"),
            version=fields.text("version", longest=40),
            clock=Clock.parse(fields.sub("clock")),
            model_digest=fields.text("model_digest", longest=64),
            uptime_s=fields.number("uptime_s", 0, _MANY_SECONDS),
            audio_s=fields.number("audio_s", 0, _MANY_SECONDS),
            audio_per_wall=fields.number("audio_per_wall", 0, 1e6),
            windows=fields.integer("windows", 0, 2**53),
            classified=fields.integer("classified", 0, 2**53),
            top_scores=_scores(fields.sub("top_scores")),
            level_dbfs=fields.number("level_dbfs", -200, 20),
            states=fields.texts("states", longest=32),
            queue=fields.integer("queue", 0, 2**53),
            dropped_s=fields.number("dropped_s", 0, _MANY_SECONDS),
            disk_free_mb=fields.number("disk_free_mb", 0, 1e12),
            rss_mb=fields.number("rss_mb", 0, 1e9),
            position=Position.parse(fields.sub("position")) if fields.has("position") else None,
            battery=Battery.parse(fields.sub("battery")) if fields.has("battery") else None,
        )
        fields.done()
        return heartbeat


def _since_2(fields: Fields) -> dict[str, object]:
    """Return what heartbeats say since schema 2."""
    return {
        "start_reason": fields.text("start_reason", longest=32),
        "lag_s": fields.number("lag_s", 0, _MANY_SECONDS),
        "reopenings": fields.integer("reopenings", 0, 2**53),
        "parked": fields.integer("parked", 0, 2**53),
        "in_memory": fields.integer("in_memory", 0, 2**53),
        "lost_alerts": fields.integer("lost_alerts", 0, 2**53),
    }


def _since_3(fields: Fields) -> dict[str, object]:
    """Return what heartbeats say since schema 3."""
    return {
        "power": fields.text("power", longest=16),
        "heartbeat_s": fields.number("heartbeat_s", 0, _MANY_SECONDS),
        "paused_s": fields.number("paused_s", 0, _MANY_SECONDS),
        "written_kb": fields.integer("written_kb", 0, 2**53),
    }


def finite(value: float) -> float:
    """Return the value, or a floor where a measurement has none (the level of digital silence)."""
    return value if math.isfinite(value) else -120.0


def _to_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _document(body: bytes, largest: int) -> Fields:
    if len(body) > largest:
        raise FieldError("document", f"has {len(body)} bytes, expected at most {largest}")
    try:
        return Fields(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise FieldError("document", f"is not JSON: {error}") from error


def _matching(fields: Fields, key: str, form: re.Pattern[str], longest: int, expected: str) -> str:
    text = fields.text(key, longest=longest)
    if not form.fullmatch(text):
        raise FieldError(fields.name(key), f"is {shown(text)}, expected {expected}")
    return text


def _scores(fields: Fields) -> dict[str, float]:
    for label in fields.all_keys():
        if not LABEL.fullmatch(label):
            raise FieldError(fields.name(label), "is not a label, expected a small word")
    return {label: fields.number(label, 0, 1) for label in fields.all_keys()}


def _uuid(fields: Fields, key: str) -> str:
    text = fields.text(key, longest=36, shortest=36)
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise FieldError(fields.name(key), f"is {text!r}, expected a UUID") from error
