"""Alerts as Parquet: typed columns, in row groups, written while they are read, however many there are.

pyarrow is the extra `parquet`: it is 175 MB unpacked, and a ranger post seldom needs it.
"""

import io
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from base_station.store import AlertEvent

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_IN_A_GROUP = 5_000
MEDIA_TYPE = "application/vnd.apache.parquet"


class _Drain(io.RawIOBase):
    """Takes what the writer writes, until it is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, piece: Any) -> int:  # noqa: ANN401  # whatever has bytes
        self._pieces.append(bytes(piece))
        self._at += len(self._pieces[-1])
        return len(self._pieces[-1])

    def fetch(self) -> bytes:
        """Return what was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def parquet(events: Iterator[AlertEvent], rows_in_a_group: int = ROWS_IN_A_GROUP) -> Iterator[bytes]:
    """Yield a Parquet file of alerts, piece by piece; no more than one row group is in memory.

    Raises:
        ImportError: pyarrow is not installed.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    schema, drain = _schema(), _Drain()
    with pq.ParquetWriter(pa.PythonFile(drain, mode="w"), schema, compression="zstd") as writer:
        while rows := [_row(event) for event in islice(events, rows_in_a_group)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            yield drain.fetch()
    yield drain.fetch()


def _schema() -> "pa.Schema":
    import pyarrow as pa

    utc = pa.timestamp("ms", tz="UTC")
    text, few = pa.string(), pa.dictionary(pa.int32(), pa.string())
    columns = {
        "seq": pa.int64(), "alert_id": text, "device_id": few, "label": few, "drill": pa.bool_(), "state": few,
        "revision": pa.int32(), "score": pa.float64(), "level_dbfs": pa.float64(), "onset_utc": utc, "onset_from": few,
        "lasted_s": pa.float64(), "received_utc": utc, "latitude": pa.float64(), "longitude": pa.float64(),
        "has_clip": pa.bool_(),
    }  # fmt: skip
    unknown = {"latitude", "longitude"}
    return pa.schema([pa.field(name, kind, nullable=name in unknown) for name, kind in columns.items()])


def _row(event: AlertEvent) -> dict[str, str | int | float | bool | datetime | None]:
    return {
        "seq": event.seq,
        "alert_id": event.alert_id,
        "device_id": event.device_id,
        "label": event.label,
        "drill": event.drill,
        "state": event.state,
        "revision": event.revision,
        "score": event.score,
        "level_dbfs": event.level_dbfs,
        "onset_utc": event.onset.utc,
        "onset_from": event.onset.source,
        "lasted_s": event.lasted_s,
        "received_utc": event.received_utc,
        "latitude": event.latitude,
        "longitude": event.longitude,
        "has_clip": event.has_clip,
    }
