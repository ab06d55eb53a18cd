"""Alerts as GeoJSON and CSV, for maps and spreadsheets: streamed, however many there are."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from base_station.inbox import iso
from base_station.problems import READING
from base_station.store import LARGEST_PAGE, AlertEvent, Store

COLUMNS = (
    "seq", "alert_id", "device_id", "label", "drill", "state", "score", "level_dbfs", "onset_utc", "onset_from",
    "lasted_s", "received_utc", "latitude", "longitude",
)  # fmt: skip

Since = Annotated[AwareDatetime | None, Query(description="Only what arrived since then.")]
Until = Annotated[AwareDatetime | None, Query(description="Only what arrived until then.")]
Label = Annotated[str | None, Query(max_length=32, pattern=r"^[a-z][a-z0-9_]*$")]


def export_router(store: Store) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get(
        "/v1/export/alerts.geojson",
        summary="Alerts as GeoJSON, newest arrival first; without a place the geometry is null",
        response_class=StreamingResponse,
        responses={**READING, 200: {"content": {"application/geo+json": {}}}},
    )
    def geojson(since: Since = None, until: Until = None, label: Label = None) -> StreamingResponse:
        lines = _geojson(_events(store, since, until, label))
        return StreamingResponse(lines, media_type="application/geo+json", headers=_as_file("alerts.geojson"))

    @router.get(
        "/v1/export/alerts.csv",
        summary="Alerts as CSV, newest arrival first",
        response_class=StreamingResponse,
        responses={**READING, 200: {"content": {"text/csv": {}}}},
    )
    def table(since: Since = None, until: Until = None, label: Label = None) -> StreamingResponse:
        lines = _csv(_events(store, since, until, label))
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=_as_file("alerts.csv"))

    return router


def _events(store: Store, since: datetime | None, until: datetime | None, label: str | None) -> Iterator[AlertEvent]:
    before: int | None = None
    while events := store.events(before=before, limit=LARGEST_PAGE, label=label):
        for event in events:
            if since is not None and event.received_utc < since:
                return
            if until is None or event.received_utc <= until:
                yield event
        before = events[-1].seq


def _row(event: AlertEvent) -> dict[str, object]:
    times = {
        "onset_utc": iso(event.onset.utc),
        "onset_from": event.onset.source,
        "received_utc": iso(event.received_utc),
    }
    return {name: times[name] if name in times else getattr(event, name) for name in COLUMNS}


def _geojson(events: Iterator[AlertEvent]) -> Iterator[str]:
    yield '{"type": "FeatureCollection", "features": ['
    comma = "\n"
    for event in events:
        place = event.latitude is not None and event.longitude is not None
        geometry = {"type": "Point", "coordinates": [event.longitude, event.latitude]} if place else None
        yield comma + json.dumps(
            {"type": "Feature", "id": event.alert_id, "geometry": geometry, "properties": _row(event)}
        )
        comma = ",\n"
    yield "\n]}\n"


def _csv(events: Iterator[AlertEvent]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for event in events:
        writer.writerow(_row(event))
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
