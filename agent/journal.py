"""The field log: one JSON line a minute, one for each event with its reason, small enough to keep for months.

It holds what the decision read (every window's place on the sample clock, the gate's word, the model's bytes), so
that one can ask why there was no alert at 11:42, and decide last month again with other thresholds, exactly.
A segment's first line says what all its lines have in common: schema, run, boot, model and rules. Each line ends in
its own checksum: flash that rots must not become another score. A day has its bytes: minutes are always written, and
events beyond them are counted instead of told.
"""

import base64
import binascii
import contextlib
import errno
import gzip
import json
import logging
import math
import os
import re
import shutil
import threading
import uuid
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from agent import VERSION
from agent.alert import Battery, Clock
from agent.clock import DeviceClock
from agent.counter import sync_folder
from agent.errors import FieldError, StorageError
from agent.fields import Fields

log = logging.getLogger(__name__)

JOURNAL_SCHEMA = 2
"""Since 2 each line ends in a checksum; 1 is read as well."""
FLUSH_S = 600.0
"""Seconds for which lines may wait in memory, so that flash is written seldom."""

_EVENT_FLUSHES = 30.0  # at once...
_EVENT_FLUSH_S = 60.0  # ...and one more in each such span: a link that flaps must not wear out the flash
_LARGEST_BUFFER_BYTES = 256 * 1024
_LARGEST_LINE_BYTES = 1024 * 1024
_DAY_BYTES = 800_000  # lines a day, in the long run...
_BURST_BYTES = 140_000  # ...and what one day may have more, so that it stays under a megabyte...
_RESERVE_BYTES = 50_000  # ...with what is kept back for alerts and for what moves the device
_WEIGHTY = ("alert", "alert_dropped", "power", "start", "start_failed", "stop")
_MOST_WINDOWS = 2_000  # windows that wait for their minute
_EVENT_BYTES = 300  # an event's line without its own fields, and the line of windows that it cuts off
_DAY_S = 86_400.0
_BLOCK_BYTES = 4096  # what the smallest file costs on disk
_FULL = (errno.ENOSPC, errno.EDQUOT)
SEGMENT_NAME = re.compile(r"journal-(\d{8})\.jsonl(\.gz)?")
"""What a file of the journal is called: its number, and whether it is packed."""
_SHORT_RUN = 3
_FARTHEST = 2**62
_UNKNOWN_BOOT = "unknown-boot"
_UNSEALED = b'{"schema":1,'
"""How a segment begins whose lines have no checksum."""
_SEAL_BYTES = 19
_MOST_TOLD = 20  # damaged places that a reading names one by one
_LONGEST_DAMAGE = 200

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What a window's bytes mean and how they are decided; every segment's first line carries it."""

    model_digest: str
    labels: tuple[str, ...]
    """In the order of the model's outputs."""
    sample_rate: int
    """Samples per second of the sample clock."""
    window_samples: int
    """Samples that one window covers."""
    stride: int
    """Samples between two windows."""
    output_scale: float
    """score or logit = (byte - output_zero_point) x output_scale."""
    output_zero_point: int
    activation: str
    """`sigmoid` or `none`: how that number becomes a score."""
    rules: Mapping[str, Json]
    """The decision's parameters, per label, as in the manifest."""

    @classmethod
    def parse(cls, fields: Fields) -> "Setting":
        """Read a setting; FieldError names what is wrong."""
        rules = fields.sub("rules")
        setting = cls(
            model_digest=fields.text("model_digest"),
            labels=fields.texts("labels"),
            sample_rate=fields.integer("sample_rate", 1, 1_000_000),
            window_samples=fields.integer("window_samples", 1, 2**31),
            stride=fields.integer("stride", 1, 2**31),
            output_scale=fields.number("output_scale", 0, 1e6),
            output_zero_point=fields.integer("output_zero_point", -128, 127),
            activation=fields.text("activation", longest=32),
            rules={label: cast("Json", rules.raw(label)) for label in rules.all_keys()},
        )
        fields.done()
        return setting


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """What the decision read of one window."""

    end_sample: int
    """Sample clock of the window's end."""
    gated: bool
    """The gate was closed; where it was classified all the same, to know what the gate costs, `output` is there."""
    output: bytes
    """The model's output, one int8 per label; empty where the model did not see the window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One file of the journal: what its first line says."""

    number: int
    """Rises by one with every segment ever written in this folder; the order of the lines."""
    run: str
    """Names one start of the agent; the decision begins anew with each. `?` where the first line is damaged."""
    device_id: str
    version: str
    """Of the agent."""
    boot_id: str
    """Which run of the device's monotonic clock."""
    setting: Setting | None
    """None before a model was loaded, or where the first line is damaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of the journal."""

    segment: Segment
    kind: str
    """`minute`, `windows` (the beginning of a minute that an event cut in two) or `event`."""
    event: str
    """What happened; empty unless `kind` is `event`."""
    clock: Clock
    """When it was written down."""
    fields: Mapping[str, object]
    """All else that it says."""
    windows: tuple[WindowRecord, ...]
    """Windows since the line before that has any."""


class Journal:
    """Writes the field log; never raises for what the disk does, and says so in `state`."""

    def __init__(
        self,
        folder: Path,
        clock: DeviceClock,
        *,
        device_id: str,
        max_bytes: int = 64_000_000,
        segment_bytes: int = 250_000,
    ) -> None:
        """Begin a run; its first line is written when there is one.

        Args:
            folder: where the segments lie; made if missing.
            clock: stamps every line.
            device_id: whose journal it is.
            max_bytes: of all segments together; the oldest goes first.
            segment_bytes: at which a segment is finished, and compressed: half a day, the most that one rotten byte
                of a compressed file can cost.
        """
        self._folder = folder
        self._clock = clock
        self._device_id = device_id
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max_bytes // 4)
        self._lock = threading.RLock()
        self._run = uuid.uuid4().hex[:12]
        self._setting: Setting | None = None
        self._windows: list[WindowRecord] = []
        self._gated_count = 0
        self._window_count = 0
        self._buffer: list[tuple[Setting | None, bytes]] = []
        self._lost_before = 0
        self._number = 0
        self._file: BinaryIO | None = None
        self._file_bytes = 0
        self._file_setting: Setting | None = None
        self._flushed_s = clock.monotonic_s()
        self._event_flushes = _EVENT_FLUSHES
        self._event_s = self._flushed_s
        self._room = float(_BURST_BYTES)
        self._room_s = self._flushed_s
        self._left_out: dict[str, int] = {}
        self.state = ""
        """`journal_full` or `journal_failed` while the disk takes no lines; empty while all is well."""
        self.lines_lost = 0
        """Lines that memory could not hold until the disk took them."""
        self.bytes_written = 0
        """Passed to the disk since the start, compression included."""
        with self._lock, self._disk():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._tidy()

    def close(self) -> None:
        """Write what waits, and close the file."""
        with self._lock:
            self._cut_minute()
            self._flush()
            self._drop_file()

    def __enter__(self) -> "Journal":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def describe(self, setting: Setting) -> None:
        """Say which model and rules the lines from here on are about; a change begins a new segment."""
        with self._lock:
            if setting != self._setting:
                self._cut_minute()
                self._setting = setting

    def window(self, record: WindowRecord) -> None:
        """Note what the decision read of one window; it is written with its minute."""
        with self._lock:
            self._windows.append(record)
            self._window_count += 1
            self._gated_count += record.gated
            if len(self._windows) >= _MOST_WINDOWS:
                self._cut_minute()

    def minute(
        self,
        *,
        level_dbfs: float | None,
        queue: int,
        battery: Battery | None = None,
        gaps: Sequence[Mapping[str, Json]] = (),
        states: Sequence[str] = (),
        more: Mapping[str, Json] | None = None,
    ) -> None:
        """Write the line of one minute, with the windows since the last.

        Args:
            level_dbfs: RMS level of the minute, 0 = full scale; None: nothing was heard, which is not silence.
            queue: alerts that wait for the station.
            battery: power and temperature, as far as they are known.
            gaps: audio that was lost: where, how much, why.
            states: named states that hold now.
            more: anything else worth a few bytes a minute.
        """
        with self._lock:
            fields: dict[str, Json] = {"level_dbfs": level_dbfs, "queue": queue}
            if self._window_count:
                fields["gated_share"] = round(self._gated_count / self._window_count, 3)
            if battery is not None:
                fields["battery"] = {key: value for key, value in asdict(battery).items() if value is not None}
            if gaps:
                fields["gaps"] = list(gaps)
            if states:
                fields["states"] = list(states)
            fields.update(more or {})
            if self._left_out:
                fields["left_out"] = self._left_out
                self._left_out = {}
            self._window_count = self._gated_count = 0
            self._add("minute", fields)
            if self._clock.monotonic_s() - self._flushed_s >= FLUSH_S:
                self._flush()

    def event(self, kind: str, **fields: Json) -> None:
        """Write the line of one event, and bring all lines to the disk, unless events come in a storm.

        What is more than a day's bytes can hold is counted, by kind, in the next minute's line.

        Args:
            kind: what happened: `alert`, `link_down`, `start`...
            **fields: the rest, a `reason` among it.
        """
        with self._lock:
            if not self._has_room(kind, fields):
                self._left_out[kind] = self._left_out.get(kind, 0) + 1
                return
            self._cut_minute()
            self._add("event", {"event": kind, "fields": fields})
            now_s = self._clock.monotonic_s()
            refilled = self._event_flushes + (now_s - self._event_s) / _EVENT_FLUSH_S
            self._event_flushes, self._event_s = min(_EVENT_FLUSHES, refilled), now_s
            if self._event_flushes >= 1.0:
                self._event_flushes -= 1.0
                self._flush()

    def flush(self) -> None:
        """Bring all lines to the disk."""
        with self._lock:
            self._flush()

    # Lines

    def _cut_minute(self) -> None:
        """Write down the windows that wait, so that what decided an event is on disk with it."""
        if self._windows:
            self._add("windows", {})

    def _has_room(self, kind: str, fields: Mapping[str, Json]) -> bool:
        """Say whether the day still has bytes for an event."""
        now_s = self._clock.monotonic_s()
        refilled = self._room + max(0.0, now_s - self._room_s) * _DAY_BYTES / _DAY_S
        self._room, self._room_s = min(float(_BURST_BYTES), refilled), now_s
        least = -_RESERVE_BYTES if kind in _WEIGHTY else 0
        return self._room - len(_line(fields)) - _EVENT_BYTES >= least

    def _add(self, kind: str, fields: Mapping[str, Json]) -> None:
        now = self._clock.now()
        line: dict[str, Json] = {
            "kind": kind,
            "monotonic_s": now.monotonic_s,
            "utc": now.utc,
            "utc_certainty": now.utc_certainty,
            **fields,
        }
        if self._windows:
            line["windows"] = list(_packed(self._windows))
            self._windows = []
        sealed = _sealed(line)
        # minutes come whatever the day has left: a deeper debt would silence what follows for long
        self._room = max(self._room - len(sealed), -2.0 * _RESERVE_BYTES)
        self._buffer.append((self._setting, sealed))
        waiting = sum(len(kept) for _, kept in self._buffer)
        if waiting > _LARGEST_BUFFER_BYTES:
            self._flush()
        while len(self._buffer) > 1 and waiting > _LARGEST_BUFFER_BYTES and self.state:
            waiting -= len(self._buffer.pop(0)[1])
            self.lines_lost += 1

    # The disk

    @contextlib.contextmanager
    def _disk(self) -> Generator[None]:
        """Do something with the disk; when it refuses, say so once and go on."""
        try:
            yield
        except OSError as error:
            state = "journal_full" if error.errno in _FULL else "journal_failed"
            if state != self.state:
                reason = error.strerror or str(error)
                log.error("%s: the journal cannot be written (%s); it goes on in memory", self._folder, reason)  # noqa: TRY400  # for operators: no traceback
            self.state = state
            self._drop_file()

    def _flush(self) -> None:
        """Write and sync what waits; what the disk refuses goes on waiting."""
        self._flushed_s = self._clock.monotonic_s()
        if not self._buffer:
            return
        with self._disk():
            while self._buffer:
                self._write_some()
            if self.state:
                log.warning("%s: the journal is written again; %d lines were lost", self._folder, self.lines_lost)
                self.state = ""

    def _write_some(self) -> None:
        """Write the waiting lines that go into one segment, and sync them."""
        setting = self._buffer[0][0]
        if self._file is None or self._file_setting != setting or self._file_bytes >= self._segment_bytes:
            self._begin_segment(setting)
        lines: list[bytes] = []
        room = self._segment_bytes - self._file_bytes
        for line_setting, line in self._buffer:
            if line_setting != setting or (lines and room < 0):
                break
            lines.append(line)
            room -= len(line)
        self._append(b"".join(lines))
        del self._buffer[: len(lines)]

    def _append(self, content: bytes) -> None:
        assert self._file is not None
        try:
            rest = memoryview(content)
            while rest:  # a disk about to be full takes a part, and no error
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            # half a line would end the segment's last whole one: take back what was written
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._file_bytes)
            raise
        self._file_bytes += len(content)
        self.bytes_written += len(content)

    def _begin_segment(self, setting: Setting | None) -> None:
        self._drop_file()
        self._tidy()
        header: dict[str, Json] = {
            "schema": JOURNAL_SCHEMA,
            "kind": "segment",
            "number": self._number,
            "run": self._run,
            "device_id": self._device_id,
            "version": VERSION,
            "boot_id": self._clock.boot_id,
            "lines_lost": self.lines_lost,
            "setting": None if setting is None else cast("dict[str, Json]", asdict(setting)),
        }
        path = self._folder / f"journal-{self._number:08d}.jsonl"
        self._file = path.open("xb", buffering=0)
        self._file_bytes = 0
        self._file_setting = setting
        try:
            self._append(_sealed(header))
        except OSError:
            path.unlink(missing_ok=True)
            raise
        sync_folder(self._folder)
        self._number += 1

    def _drop_file(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _tidy(self) -> None:
        """Compress finished segments, remove the oldest beyond the bound, and find the next number."""
        for leftover in self._folder.glob("journal-*.tmp"):
            leftover.unlink()
        for _, path in segments(self._folder):
            if path.suffix != ".gz":
                with contextlib.suppress(OSError):  # stays as it is; a full disk is said when lines are written
                    self.bytes_written += _compress(path)
        kept = segments(self._folder)
        total = sum(_on_disk(path) for _, path in kept) + self._segment_bytes
        self._number = max([self._number, *(number + 1 for number, _ in kept)])
        for _, path in kept:
            if total <= self._max_bytes:
                break
            total -= _on_disk(path)
            path.unlink()


class Reading(Iterator[Line]):
    """The lines of a journal, oldest first; what is damaged is passed over and counted."""

    def __init__(self, folder: Path) -> None:
        """Prepare to read; files are opened one at a time."""
        self.skipped = 0
        """Lines that were torn or damaged, so far."""
        self.unreadable = 0
        """Files that ended early, could not be opened, or are of a later schema, so far."""
        self.damage: list[str] = []
        """Where that was, and what: the first of `journal-00000003.jsonl.gz:17: its checksum is another`."""
        self._lines = self._read(segments(folder))

    def __next__(self) -> Line:
        """Return the next whole line."""
        return next(self._lines)

    def _read(self, files: Sequence[tuple[int, Path]]) -> Iterator[Line]:
        for number, path in files:
            try:
                with _opened(path) as file:
                    yield from self._read_segment(number, path.name, file)
            except (OSError, EOFError, zlib.error) as error:  # a compressed file that was cut raises any of these
                self.unreadable += 1
                self._tell(f"{path.name}: cannot be read to its end: {error}")

    def _tell(self, damage: str) -> None:
        if len(self.damage) < _MOST_TOLD:
            self.damage.append(damage)

    def _read_segment(self, number: int, name: str, file: BinaryIO) -> Iterator[Line]:
        segment: Segment | None = None
        is_sealed = True
        line_number = 0
        while raw := file.readline(_LARGEST_LINE_BYTES):
            line_number += 1
            try:
                if segment is None:
                    is_sealed = not raw.startswith(_UNSEALED)
                    segment = _parse_header(number, raw, is_sealed=is_sealed)
                    continue
                yield _parse_line(segment, raw, is_sealed=is_sealed)
            except _LaterSchemaError:
                self.unreadable += 1
                self._tell(f"{name}: was written by a later version of this software")
                return
            except (FieldError, ValueError, RecursionError) as error:
                self.skipped += 1
                self._tell(f"{name}:{line_number}: {str(error)[:_LONGEST_DAMAGE]}")
                segment = segment or _headless(number)


def read(folder: Path) -> Reading:
    """Return the lines of a journal, oldest first.

    Lines that the writer still holds in memory (FLUSH_S at most) are not there yet.

    Raises:
        StorageError: there is no such folder.
    """
    if not folder.is_dir():
        raise StorageError(f"{folder}: is not a folder with a journal; expected files journal-*.jsonl in it")
    return Reading(folder)


def windows(lines: Iterable[Line]) -> Iterator[tuple[Segment, WindowRecord]]:
    """Return every window with the segment that says what its bytes mean, in the order in which they were heard."""
    for line in lines:
        for record in line.windows:
            yield line.segment, record


class _LaterSchemaError(Exception):
    """A segment was written by a later version of this software."""


def _parse_header(number: int, raw: bytes, *, is_sealed: bool) -> Segment:
    fields = _document(raw, is_sealed=is_sealed)
    if fields.integer("schema", 1, 1_000_000) > JOURNAL_SCHEMA:
        raise _LaterSchemaError
    fields.choice("kind", ["segment"])
    return Segment(
        number=number,
        run=fields.text("run"),
        device_id=fields.text("device_id"),
        version=fields.text("version"),
        boot_id=fields.text("boot_id"),
        setting=Setting.parse(fields.sub("setting")) if fields.has("setting") else None,
    )


def _headless(number: int) -> Segment:
    return Segment(number=number, run="?", device_id="", version="", boot_id=_UNKNOWN_BOOT, setting=None)


def _parse_line(segment: Segment, raw: bytes, *, is_sealed: bool) -> Line:
    fields = _document(raw, is_sealed=is_sealed)
    kind = fields.choice("kind", ["minute", "windows", "event"])
    clock = Clock(
        boot_id=segment.boot_id,
        monotonic_s=fields.number("monotonic_s", 0, 1e12),
        utc=fields.text("utc", longest=40),
        utc_certainty=fields.text("utc_certainty", longest=10),
    )
    runs = fields.sequence("windows", longest=100_000) if fields.has("windows") else ()
    records = tuple(record for run in runs for record in _unpacked(Fields(run, "windows")))
    event = fields.text("event", longest=100) if kind == "event" else ""
    rest = fields.sub("fields") if kind == "event" else fields
    known = {"kind", "monotonic_s", "utc", "utc_certainty", "windows", "crc"} if kind != "event" else set[str]()
    return Line(
        segment=segment,
        kind=kind,
        event=event,
        clock=clock,
        fields={key: rest.raw(key) for key in rest.all_keys() if key not in known},
        windows=records,
    )


def _document(raw: bytes, *, is_sealed: bool) -> Fields:
    if not raw.endswith(b"\n"):
        raise FieldError("line", "is torn")
    if is_sealed and raw[-_SEAL_BYTES:] != _seal(raw[:-_SEAL_BYTES]):
        raise FieldError("line", "is damaged: its checksum is another")
    return Fields(json.loads(raw.decode("utf-8")), "line")


def _packed(records: Sequence[WindowRecord]) -> Iterator[dict[str, Json]]:
    """Return windows as runs: their distance or distances, the gate as bits, the outputs end to end.

    A window has an output exactly when it was not gated; `odd` lists those where it is the other way round.
    """
    for run in _joined(_runs(records)):
        gated = sum(1 << idx for idx, record in enumerate(run) if record.gated)
        steps = [later.end_sample - earlier.end_sample for earlier, later in pairwise(run)]
        is_even = all(step == steps[0] > 0 for step in steps)
        packed: dict[str, Json] = {"end": run[0].end_sample}
        packed |= {"stride": steps[0] if steps else 0} if is_even else {"steps": steps}
        packed["n"] = len(run)
        if gated:
            packed["gated"] = _text(gated.to_bytes(-(-len(run) // 8), "little"))
        if odd := [idx for idx, record in enumerate(run) if record.gated == bool(record.output)]:
            packed["odd"] = odd
        if outputs := b"".join(record.output for record in run):
            packed["out"] = _text(outputs)
        yield packed


def _joined(runs: Iterable[list[WindowRecord]]) -> Iterator[list[WindowRecord]]:
    """Put short runs together: sound that is lost every few seconds must not use the day's bytes up."""
    short: list[WindowRecord] = []
    for run in runs:
        if short and (len(run) > _SHORT_RUN or not _same_width(short, run)):
            yield short
            short = []
        if len(run) > _SHORT_RUN:
            yield run
        else:
            short = short + run
    if short:
        yield short


def _same_width(run: Sequence[WindowRecord], other: Sequence[WindowRecord]) -> bool:
    return len({len(record.output) for record in (*run, *other) if record.output}) <= 1


def _runs(records: Sequence[WindowRecord]) -> Iterator[list[WindowRecord]]:
    run: list[WindowRecord] = []
    for record in records:
        if run and not _continues(run, record):
            yield run
            run = []
        run.append(record)
    if run:
        yield run


def _continues(run: Sequence[WindowRecord], record: WindowRecord) -> bool:
    width = next((len(earlier.output) for earlier in run if earlier.output), len(record.output))
    if record.output and len(record.output) != width:
        return False
    step = record.end_sample - run[-1].end_sample
    return step == run[1].end_sample - run[0].end_sample if len(run) > 1 else step > 0


def _unpacked(fields: Fields) -> Iterator[WindowRecord]:
    """Return the windows of one run; FieldError if it contradicts itself."""
    n_windows = fields.integer("n", 1, 100_000)
    ends = _ends(fields, n_windows)
    gated = int.from_bytes(_bytes(fields, "gated"), "little")
    odd = _indices(fields, "odd", n_windows)
    outputs = _bytes(fields, "out")
    fields.done()
    seen = [bool(gated >> idx & 1) == (idx in odd) for idx in range(n_windows)]
    width = len(outputs) // max(1, sum(seen))
    if width * sum(seen) != len(outputs) or (width == 0 and any(seen)):
        raise FieldError(fields.name("out"), f"has {len(outputs)} bytes, expected the same for each of {sum(seen)}")
    at = 0
    for idx in range(n_windows):
        output = outputs[at : at + width] if seen[idx] else b""
        at += len(output)
        yield WindowRecord(ends[idx], bool(gated >> idx & 1), output)


def _ends(fields: Fields, n_windows: int) -> list[int]:
    """Return where the windows of a run end, on the sample clock."""
    end = fields.integer("end", -_FARTHEST, _FARTHEST)
    if not fields.has("steps"):
        stride = fields.integer("stride", 0, _FARTHEST)
        return [end + idx * stride for idx in range(n_windows)]
    steps = fields.sequence("steps", longest=n_windows - 1)
    if len(steps) != n_windows - 1 or not all(isinstance(step, int) and abs(step) <= _FARTHEST for step in steps):
        raise FieldError(fields.name("steps"), f"is no list of {n_windows - 1} whole numbers")
    return list(accumulate(cast("Sequence[int]", steps), initial=end))


def _indices(fields: Fields, key: str, below: int) -> set[int]:
    if not fields.has(key):
        return set()
    indices = fields.sequence(key, longest=below)
    if not all(isinstance(index, int) and 0 <= index < below for index in indices):
        raise FieldError(fields.name(key), f"holds something else than whole numbers below {below}")
    return set(cast("Sequence[int]", indices))


def _bytes(fields: Fields, key: str) -> bytes:
    if not fields.has(key):
        return b""
    try:
        return base64.b64decode(fields.text(key, longest=_LARGEST_LINE_BYTES), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FieldError(fields.name(key), f"is not base64: {error}") from error


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _line(mapping: Mapping[str, Json]) -> bytes:
    return json.dumps(_plain(mapping), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _sealed(mapping: Mapping[str, Json]) -> bytes:
    """Return a line whose last key is the CRC-32 of all before it."""
    body = _line(mapping)[:-2]
    return body + _seal(body)


def _seal(body: bytes) -> bytes:
    return b',"crc":"%08x"}\n' % zlib.crc32(body)


def _plain(value: object) -> Json:
    """Return what JSON can hold: a measurement without a number is null, anything strange is its text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(member) for key, member in cast("Mapping[object, object]", value).items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(member) for member in cast("Sequence[object]", value)]
    return str(value)


def segments(folder: Path) -> list[tuple[int, Path]]:
    """Return the journal's files by number; of a file and its compressed copy the copy."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("journal-*")):  # the compressed copy sorts behind its original
        if match := SEGMENT_NAME.fullmatch(path.name):
            found[int(match[1])] = path
    return sorted(found.items())


def _compress(path: Path) -> int:
    """Replace a segment by its compressed copy; return the bytes written."""
    packed = path.with_name(path.name + ".gz")
    temporary = path.with_name(path.name + ".tmp")
    try:
        with path.open("rb") as source, temporary.open("wb") as target:
            with gzip.GzipFile(filename="", fileobj=target, mode="wb", mtime=0) as compressor:
                shutil.copyfileobj(source, compressor)
            target.flush()
            os.fsync(target.fileno())
            n_bytes = target.tell()
        temporary.replace(packed)
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    path.unlink()
    return n_bytes


def _opened(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _on_disk(path: Path) -> int:
    return -(-path.stat().st_size // _BLOCK_BYTES) * _BLOCK_BYTES
