"""Alerts as GeoJSON, CSV and Parquet, for maps, spreadsheets and notebooks: streamed, however many there are."""

import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime
from starlette.exceptions import HTTPException

from agent.errors import FieldError
from base_station import columns as parquet_columns
from base_station import sheets
from base_station.inbox import iso
from base_station.incidents import Rules
from base_station.problems import READING, problem_answers
from base_station.report_sheets import day_columns, day_rows, device_columns, device_rows
from base_station.reports import Asked, Report, Span, report
from base_station.store import LARGEST_PAGE, AlertEvent, Store

COLUMNS = (
    "seq", "alert_id", "device_id", "label", "drill", "state", "score", "level_dbfs", "onset_utc", "onset_from",
    "lasted_s", "received_utc", "latitude", "longitude",
)  # fmt: skip

Since = Annotated[AwareDatetime | None, Query(description="Only what arrived since then.")]
Until = Annotated[AwareDatetime | None, Query(description="Only what arrived until then.")]
Label = Annotated[str | None, Query(max_length=32, pattern=r"^[a-z][a-z0-9_]*$")]


def export_router(store: Store, now: Callable[[], datetime], rules: Rules) -> APIRouter:
    """Return the routes; `now` is station time, UTC, `rules` say when alerts belong together."""
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
        lines = sheets.csv_lines(COLUMNS, (_row(event) for event in _events(store, since, until, label)))
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=_as_file("alerts.csv"))

    @router.get(
        "/v1/export/alerts.parquet",
        summary="Alerts as Parquet, newest arrival first; needs the extra `parquet` on the station",
        response_class=StreamingResponse,
        responses={**READING, **problem_answers(501), 200: {"content": {parquet_columns.MEDIA_TYPE: {}}}},
    )
    def parquet(since: Since = None, until: Until = None, label: Label = None) -> StreamingResponse:
        if importlib.util.find_spec("pyarrow") is None:
            raise HTTPException(501, "Parquet needs pyarrow on the station: install curupira[parquet]")
        pieces = parquet_columns.parquet(_events(store, since, until, label))
        headers = _as_file("alerts.parquet")
        return StreamingResponse(pieces, media_type=parquet_columns.MEDIA_TYPE, headers=headers)

    _add_sheets(router, store)
    _add_reports(router, store, now, rules)
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


def _add_sheets(router: APIRouter, store: Store) -> None:
    for name, columns, rows, summary in (
        ("verdicts", sheets.VERDICTS, sheets.verdict_rows, "What people said, the latest first"),
        ("conditions", sheets.CONDITIONS, sheets.condition_rows, "What was wrong with devices, the latest begun first"),
        ("heartbeats", sheets.HEARTBEATS, sheets.heartbeat_rows, "About a day of each device's heartbeats"),
    ):
        _add_sheet(router, store, name, columns, rows, summary)


def _add_sheet(
    router: APIRouter, store: Store, name: str, columns: Sequence[str], rows: sheets.Rows, summary: str
) -> None:
    @router.get(
        f"/v1/export/{name}.csv",
        summary=summary,
        operation_id=f"v1_export_{name}_csv",
        response_class=StreamingResponse,
        responses={**READING, 200: {"content": {"text/csv": {}}}},
    )
    def sheet(since: Since = None, until: Until = None) -> StreamingResponse:
        lines = sheets.csv_lines(columns, rows(store, since, until))
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=_as_file(f"{name}.csv"))


def _add_reports(router: APIRouter, store: Store, now: Callable[[], datetime], rules: Rules) -> None:
    for name, columns, rows, summary in (
        (
            "days",
            day_columns,
            day_rows,
            "A report's days: alerts by label, incidents, device-hours listened and possible",
        ),
        ("devices", device_columns, device_rows, "A report's devices that alerted, with alerts by label"),
    ):
        _add_report(router, store, now, rules, name, columns, rows, summary)


def _add_report(
    router: APIRouter,
    store: Store,
    now: Callable[[], datetime],
    rules: Rules,
    name: str,
    columns: Callable[[Report], Sequence[str]],
    rows: Callable[[Report], Iterator[dict[str, object]]],
    summary: str,
) -> None:
    @router.get(
        f"/v1/export/report/{name}.csv",
        summary=summary,
        operation_id=f"v1_export_report_{name}_csv",
        response_class=StreamingResponse,
        responses={**READING, 200: {"content": {"text/csv": {}}}},
    )
    def sheet(
        first: Annotated[date, Query(description="Day, in the station's own time.")],
        last: Annotated[date, Query(description="Day, the last one that counts.")],
        label: Label = None,
    ) -> StreamingResponse:
        try:
            asked = Asked(span=Span(first, last), label=label or "", areas={}, rules=rules)
        except FieldError as error:
            raise HTTPException(422, str(error)) from error
        made = report(store, asked, now())
        lines = sheets.csv_lines(columns(made), rows(made))
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=_as_file(f"report_{name}.csv"))


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
