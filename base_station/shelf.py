"""Journals that came home, kept whole: each segment packed in the database, listed and read by device and time.

So the station can say later what a device heard in each window. A segment is known by its device, run and number; one
that a device wrote on replaces what was kept of it. Retention lets the oldest go.
"""

import functools
import gzip
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Select, insert, select, update

from agent import journal
from agent.errors import FieldError
from agent.fieldlog import outputs_of, window_utc
from agent.journal import Line, Setting
from agent.manifest import Quantisation, score_table
from base_station import tables
from base_station.clockpairs import NONE, ClockPairs
from base_station.gunzip import TooLargeError, Unpacker
from base_station.store import Store
from base_station.track import Track, TrackBuilder, keep_track, kept_tracks

LARGEST_SEGMENT_BYTES = 4_000_000
"""Unpacked; the agent finishes a segment at a quarter of a megabyte."""
_PIECE_BYTES = 64 * 1024
_NO_RUN = "?"
_FARTHEST = timedelta(days=366 * 50)

_LISTED = tuple(column for column in tables.journal_files.c if column.name != "data")


@dataclass(slots=True)
class Extent:
    """What one segment holds, noted while it is read."""

    run: str
    boot_id: str
    first_s: float
    last_s: float
    n_lines: int = 0
    n_windows: int = 0
    track: TrackBuilder = field(default_factory=TrackBuilder)

    def add(self, line: Line) -> None:
        """Note one of its lines."""
        self.first_s = min(self.first_s, line.clock.monotonic_s)
        self.last_s = max(self.last_s, line.clock.monotonic_s)
        self.n_lines += 1
        self.n_windows += len(line.windows)
        self.track.add(line)


@dataclass(slots=True)
class Extents:
    """The segments of a journal by number, noted while it is read."""

    by_number: dict[int, Extent] = field(default_factory=dict)

    def add(self, line: Line) -> None:
        """Note one line."""
        segment, at_s = line.segment, line.clock.monotonic_s
        if segment.number not in self.by_number:
            self.by_number[segment.number] = Extent(segment.run[:32], segment.boot_id[:64], at_s, at_s)
        self.by_number[segment.number].add(line)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelved:
    """One segment that is kept."""

    seq: int
    device_id: str
    run: str
    """One start of the agent."""
    number: int
    boot_id: str
    first_s: float
    """Seconds of the boot's clock at its first line."""
    first_utc: datetime | None
    """Of its first line; None where nobody knows when it was."""
    last_utc: datetime | None
    dated: str
    """What its times go by: `device`, `station`, `guess` or `none`."""
    n_lines: int
    n_windows: int
    n_bytes: int
    """Unpacked."""
    kept_utc: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class HeardWindow:
    """One window, as the model and the gate judged it on the device."""

    end_utc: datetime
    run: str
    end_sample: int
    gated: bool
    """The gate was closed."""
    scores: Mapping[str, float]
    """By label, 0 to 1; empty where the model did not see it."""


def oversize(folder: Path) -> str:
    """Return the name of a segment that unpacks to far more than an agent writes; empty if there is none."""
    for _, path in journal.segments(folder):
        try:
            _content(path)
        except TooLargeError:
            return path.name
    return ""


def shelve(
    store: Store, folder: Path, device_id: str, extents: Extents, pairs: ClockPairs, now_utc: datetime
) -> tuple[int, int]:
    """Keep the segments of a journal.

    Args:
        store: the database; it knows the device.
        folder: with the segments, none of them `oversize`.
        device_id: whose journal it is.
        extents: what each segment holds.
        pairs: date it.
        now_utc: station time.

    Returns:
        How many segments there are, and how many of them are new or longer than what was kept.
    """
    kept = changed = 0
    for number, path in journal.segments(folder):
        extent = extents.by_number.get(number)
        if extent is None:
            continue
        kept += 1
        changed += _keep(store, device_id, number, extent, pairs, _content(path), now_utc)
    return kept, changed


def _keep(
    store: Store,
    device_id: str,
    number: int,
    extent: Extent,
    pairs: ClockPairs,
    content: bytes,
    now_utc: datetime,
) -> bool:
    """Keep one segment; return whether it is new, or longer than before."""
    table = tables.journal_files
    zero_utc, dated = _zero(extent, pairs)
    times = {
        "zero_utc": zero_utc,
        "dated": dated,
        "first_utc": None if zero_utc is None else zero_utc + timedelta(seconds=extent.first_s),
        "last_utc": None if zero_utc is None else zero_utc + timedelta(seconds=extent.last_s),
    }
    whole = {
        "boot_id": extent.boot_id,
        "first_s": extent.first_s,
        "last_s": extent.last_s,
        "n_lines": extent.n_lines,
        "n_windows": extent.n_windows,
        "n_bytes": len(content),
        "kept_utc": now_utc,
        "data": gzip.compress(content, mtime=0),
    }
    # where the first line is damaged nobody knows the run, and only the bytes tell two such segments apart
    run = extent.run if extent.run != _NO_RUN else _NO_RUN + hashlib.sha256(content).hexdigest()[:12]
    mine = (table.c.device_id == device_id) & (table.c.run == run) & (table.c.number == number)
    with store.database.together(), store.database.write() as connection:
        row = connection.execute(select(table.c.seq, table.c.n_bytes, table.c.dated).where(mine)).one_or_none()
        if row is None:
            key = {"device_id": device_id, "run": run, "number": number}
            added = connection.execute(insert(table).values(**key, **whole, **times).returning(table.c.seq))
            keep_track(store.database, int(added.scalar_one()), extent.track.done())
            return True
        is_longer = len(content) > int(row.n_bytes)
        values = (whole if is_longer else {}) | (times if dated != NONE or is_longer else {})
        if values:
            connection.execute(update(table).where(table.c.seq == row.seq).values(**values))
        if is_longer:
            keep_track(store.database, int(row.seq), extent.track.done())
        return bool(is_longer)


def _zero(extent: Extent, pairs: ClockPairs) -> tuple[datetime | None, str]:
    """Return the wall time at which the segment's clock stood at zero."""
    at_utc, dated = pairs.when(extent.boot_id, extent.last_s)
    try:
        zero_utc = None if at_utc is None else at_utc - timedelta(seconds=extent.last_s)
        if zero_utc is not None and abs(timedelta(seconds=extent.last_s)) < _FARTHEST:
            return zero_utc, dated
    except OverflowError:
        pass
    return None, NONE


def _content(path: Path) -> bytes:
    """Return a segment unpacked, as far as it is whole; TooLargeError if it is none."""
    unpacker, content = Unpacker(LARGEST_SEGMENT_BYTES), bytearray()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                if path.suffix == ".gz":
                    for unpacked in unpacker.pieces(piece):
                        content += unpacked
                else:
                    content += piece
                if len(content) > LARGEST_SEGMENT_BYTES:
                    raise TooLargeError(f"{path}: has more than {LARGEST_SEGMENT_BYTES} bytes")
    except FieldError:
        pass  # damaged from there on; what stands before is read all the same
    return bytes(content)


def shelved(
    store: Store,
    *,
    device_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int | None = None,
) -> list[Shelved]:
    """Return which segments are kept, the last kept first.

    Args:
        store: the database.
        device_id: only of this device.
        since: only what reaches beyond this; with it or `until`, undated segments are left out.
        until: only what begins before this.
        before: only with a smaller `seq`.
        limit: at most so many.
    """
    table = tables.journal_files
    query: Select[tuple[object, ...]] = select(*_LISTED).order_by(table.c.seq.desc())
    if device_id is not None:
        query = query.where(table.c.device_id == device_id)
    if since is not None:
        query = query.where(table.c.last_utc >= since)
    if until is not None:
        query = query.where(table.c.first_utc < until)
    if before is not None:
        query = query.where(table.c.seq < before)
    if limit is not None:
        query = query.limit(limit)
    with store.database.read() as connection:
        rows = connection.execute(query).all()
    return [Shelved(**{name: getattr(row, name) for name in Shelved.__slots__}) for row in rows]


def packed(store: Store, seq: int) -> bytes | None:
    """Return one segment as it is kept, packed with gzip; None if there is none."""
    with store.database.read() as connection:
        data: bytes | None = connection.execute(
            select(tables.journal_files.c.data).where(tables.journal_files.c.seq == seq)
        ).scalar_one_or_none()
    return data


@contextmanager
def unshelved(store: Store, kept: Iterable[Shelved]) -> Iterator[Path]:
    """Yield a folder with these segments as the device wrote them, for whatever reads journals; it goes afterwards.

    Segments of several runs with one number would be one file: give those of one run, or of one card.
    """
    with tempfile.TemporaryDirectory(prefix="curupira-journal-") as folder:
        for one in kept:
            data = packed(store, one.seq)
            if data is not None:
                (Path(folder) / f"journal-{one.number:08d}.jsonl.gz").write_bytes(data)
        yield Path(folder)


def lines(store: Store, device_id: str, since: datetime, until: datetime) -> Iterator[tuple[datetime, Line]]:
    """Yield what a device wrote down in a span of time, each line with when it was written, in that order."""
    found = shelved(store, device_id=device_id, since=since, until=until)
    for one in sorted(found, key=lambda kept: (str(kept.first_utc), kept.number)):
        if one.first_utc is None:
            continue
        with unshelved(store, [one]) as folder:
            whole = list(journal.read(folder))
        begin_s = min((line.clock.monotonic_s for line in whole), default=0.0)
        for line in whole:
            at_utc = one.first_utc + timedelta(seconds=line.clock.monotonic_s - begin_s)
            if since <= at_utc < until:
                yield at_utc, line


def tracks(store: Store, kept: Sequence[Shelved]) -> dict[int, Track]:
    """Return the track of each file by `seq`; a file from before there were tracks is read, and gets its own."""
    found = kept_tracks(store.database, [one.seq for one in kept])
    for one in kept:
        if one.seq in found:
            continue
        builder = TrackBuilder()
        with unshelved(store, [one]) as folder:
            for line in journal.read(folder):
                builder.add(line)
        found[one.seq] = builder.done()
        keep_track(store.database, one.seq, found[one.seq])
    return found


def windows(store: Store, device_id: str, since: datetime, until: datetime) -> Iterator[HeardWindow]:
    """Yield every window that a device judged in a span of time, with its scores."""
    for written_utc, line in lines(store, device_id, since, until + timedelta(minutes=10)):
        setting = line.segment.setting
        for record in line.windows:
            end_utc = window_utc(line, record, written_utc)
            if since <= end_utc < until:
                yield HeardWindow(
                    end_utc=end_utc,
                    run=line.segment.run,
                    end_sample=record.end_sample,
                    gated=record.gated,
                    scores={} if setting is None else _scores(record, setting),
                )


def _scores(record: journal.WindowRecord, setting: Setting) -> dict[str, float]:
    output = outputs_of(record, setting)
    if output is None:
        return {}
    scores = _table(setting.output_scale, setting.output_zero_point, setting.activation)
    return {label: scores[int(value) + 128] for label, value in zip(setting.labels, output, strict=True)}


@functools.cache
def _table(scale: float, zero_point: int, activation: str) -> tuple[float, ...]:
    scores = score_table(Quantisation(scale=scale, zero_point=zero_point), activation)
    return tuple(round(float(score), 4) for score in scores)
