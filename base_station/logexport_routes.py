"""What a field log gives to spreadsheets and to training: its windows' scores, and its judged alerts as a data set."""

import tempfile
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from base_station import labels, sheets, shelf
from base_station.inbox import iso
from base_station.problems import READING
from base_station.store import Store
from base_station.timeline import LONGEST

_PIECE_BYTES = 256 * 1024
_COLUMNS = ("device_id", "run", "end_utc", "end_sample", "gated")

Device = Annotated[str, Query(max_length=63, pattern=r"^[^\x00]*$")]
Since = Annotated[AwareDatetime, Query(description="Only what is not earlier.")]
Until = Annotated[AwareDatetime, Query(description="Only what is earlier; at most 31 days after `since`.")]
Label = Annotated[str | None, Query(max_length=32, description="Only windows with a score of this label...")]
AtLeast = Annotated[float, Query(ge=0, le=1, description="...and only from this score on.")]


def logexport_router(store: Store) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get(
        "/v1/export/windows.csv",
        summary="Every window of a field log with its scores, by time",
        description="Journals hold scores, not sound: this is for choosing thresholds, and for knowing when to listen.",
        response_class=StreamingResponse,
        responses={**READING, 200: {"content": {"text/csv": {}}}},
    )
    def windows(
        device: Device, since: Since, until: Until, label: Label = None, at_least: AtLeast = 0.0
    ) -> StreamingResponse:
        _check(since, until)
        names = _labels(store, device, since, until)
        rows = _rows(store, device, since, until, label, at_least)
        lines = sheets.csv_lines([*_COLUMNS, *(f"score_{name}" for name in names)], rows)
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=_as_file("windows.csv"))

    @router.get(
        "/v1/export/labels.zip",
        summary="Judged alerts of a device as a data set, as `export-labels` writes it",
        description="`manifest.csv` with the sounds, which `model_export` reads, and `log_mels.csv` with what the "
        "model saw; alerts that nobody judged are not in it.",
        response_class=StreamingResponse,
        responses={**READING, 200: {"content": {"application/zip": {}}}},
    )
    def judged(device: Device, since: Since, until: Until) -> StreamingResponse:
        _check(since, until)
        packed = _packed(store, labels.judged_ids(store, device, since, until))
        return StreamingResponse(_pieces(packed), media_type="application/zip", headers=_as_file("labels.zip"))

    return router


def _check(since: datetime, until: datetime) -> None:
    if not since < until <= since + LONGEST:
        detail = f"is no time behind since, or more than {LONGEST.days} days; ask for it in parts"
        raise RequestValidationError([{"loc": ("query", "until"), "msg": detail}])


def _labels(store: Store, device_id: str, since: datetime, until: datetime) -> list[str]:
    """Return the labels of all models that a device had in a span."""
    kept = shelf.shelved(store, device_id=device_id, since=since, until=until)
    tracks = shelf.tracks(store, kept)
    return list(dict.fromkeys(label for one in reversed(kept) for label in tracks[one.seq].labels))


def _rows(
    store: Store, device_id: str, since: datetime, until: datetime, label: str | None, at_least: float
) -> Iterator[dict[str, object]]:
    for window in shelf.windows(store, device_id, since, until):
        if label is not None and window.scores.get(label, -1.0) < at_least:
            continue
        yield {
            "device_id": device_id,
            "run": window.run,
            "end_utc": iso(window.end_utc),
            "end_sample": window.end_sample,
            "gated": int(window.gated),
            **{f"score_{name}": score for name, score in window.scores.items()},
        }


def _packed(store: Store, alert_ids: list[str]) -> IO[bytes]:
    """Return a .zip of the data set, at its beginning."""
    packed = tempfile.TemporaryFile(prefix="curupira-labels-")  # noqa: SIM115  # who sends it closes it
    with tempfile.TemporaryDirectory(prefix="curupira-labels-") as folder:
        labels.export_labels(store, Path(folder), alert_ids)
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(folder).as_posix())
    packed.seek(0)
    return packed


def _pieces(packed: IO[bytes]) -> Iterator[bytes]:
    with packed:
        while piece := packed.read(_PIECE_BYTES):
            yield piece


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
