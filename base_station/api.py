"""HTTP: what devices post and what programs read. The protocol itself is in `inbox`, the data in `store`.

Reading is answered only to requests that name the station by its own names: a page from elsewhere cannot read it
through the ranger's browser. `doors` sees to that, and stands before `guard`, which asks for a session or a token from
other machines, and from everybody once there are people.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, TypeAdapter
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request

from agent import VERSION
from agent.alert import ALERT_SCHEMA, Alert, Heartbeat
from agent.errors import ConfigError, StorageError
from agent.signing import HEADER_BOOT, HEADER_COUNTER, HEADER_DEVICE, HEADER_SIGNATURE, HEADER_TIME
from base_station import inbox
from base_station.accounts import Accounts
from base_station.condition_routes import condition_router
from base_station.doors import Doors
from base_station.export_routes import export_router
from base_station.fieldlog_routes import fieldlog_router
from base_station.guard import Guard, largest_body
from base_station.inbox import LARGEST_BODY, Answer, Inbox, is_device_path, iso, problem
from base_station.incident_log_routes import incident_log_router
from base_station.incident_routes import incident_router
from base_station.incidents import Rules
from base_station.ingest import Ingest
from base_station.logexport_routes import logexport_router
from base_station.metrics import metrics_router
from base_station.picture import png
from base_station.problems import READING, problem_answers
from base_station.registry_routes import registry_router
from base_station.session_routes import session_router
from base_station.store import LARGEST_PAGE, AlertEvent, Device, Store
from base_station.unpacking import Unpacking
from base_station.verdict_routes import verdict_router
from base_station.verdicts import Verdicts

log = logging.getLogger(__name__)

SLOWEST_BODY_S = 20.0
"""A body that takes longer holds a connection for nothing; phones on a bad link send 64 kB in less."""

SLOWEST_CLIP_S = 240.0

_OPEN_DOORS = (("POST", "/v1/session"), ("GET", "/v1/openapi.json"))
_EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


class AlertOut(BaseModel):
    """One event with all its revisions taken together."""

    seq: int = Field(description="Order of arrival; larger is newer. Give it as `before` to go on from here.")
    alert_id: str
    device_id: str
    label: str
    drill: bool = Field(description="True for a drill, which is never a real alert.")
    state: str = Field(description="`open` or `closed`, by the latest revision.")
    revision: int = Field(description="The latest revision.")
    score: float = Field(description="Highest score of the event, 0 to 1; not a probability.")
    level_dbfs: float = Field(description="RMS level of the deciding window, 0 = full scale.")
    onset_utc: str = Field(description="When the event began.")
    onset_from: str = Field(
        description="`device`: by its clock, which network time had set; `corrected`: by its clock and the offset "
        "measured on arrival; `received`: counted back from the arrival, because its clock says nothing."
    )
    lasted_s: float = Field(description="Seconds from the onset to the latest revision.")
    received_utc: str = Field(description="Station time of the first revision.")
    latitude: float | None
    longitude: float | None
    log_mel_url: str | None = Field(description="Path of the picture of what the model saw.")
    clip_url: str | None = Field(description="Path of its sound, a WAV of at most 10 s, where the device keeps clips.")


class AlertsOut(BaseModel):
    """A page of events, newest arrival first."""

    alerts: list[AlertOut]
    before: int | None = Field(description="Give this as `before` for the next page; null on the last one.")


class RevisionOut(BaseModel):
    """One revision as the device sent it."""

    received_utc: str
    document: dict[str, Any] = Field(description="The alert, docs/protocol.md.")


class AlertWholeOut(AlertOut):
    """One event with its revisions."""

    revisions: list[RevisionOut]


class DeviceOut(BaseModel):
    """One device, and how it was when it last spoke."""

    device_id: str
    added_utc: str
    revoked_utc: str | None = Field(description="Since when it is refused.")
    last_contact_utc: str | None = Field(description="Station time of its last valid request.")
    clock_offset_s: float | None = Field(description="Station time less the device's own, then.")
    heartbeat_utc: str | None
    heartbeat: dict[str, Any] | None = Field(description="Its latest heartbeat, docs/protocol.md.")
    name: str = Field(description="What people call it; may be empty.")
    latitude: float | None = Field(description="Where it hangs, as people registered it.")
    longitude: float | None


class DevicesOut(BaseModel):
    """A page of devices by name."""

    devices: list[DeviceOut]
    after: str | None = Field(description="Give this as `after` for the next page; null on the last one.")


class HealthOut(BaseModel):
    """The station works: its database answers."""

    status: str
    version: str
    alert_schema: int
    station_utc: str


def build_api(
    store: Store,
    incoming: Inbox,
    now: Callable[[], datetime],
    rules: Rules | None = None,
    *,
    names: Iterable[str] = (),
) -> FastAPI:
    """Return the API as an ASGI application.

    Args:
        store: the database.
        incoming: takes what devices send.
        now: station time, UTC.
        rules: when alerts are one incident; the usual ones by default.
        names: under which other machines know this station; the loopback ones need not be named.
    """
    app = _Api(
        title="Curupira base station",
        version=VERSION,
        description="Takes alerts and heartbeats from devices, and says what it knows. docs/protocol.md has the wire.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its page loads scripts from the internet, and the post has none
        redoc_url=None,
    )
    accounts = Accounts(store.database)
    app.add_middleware(GZipMiddleware, minimum_size=2000)
    app.add_middleware(Unpacking, largest=largest_body)
    app.add_middleware(Guard, accounts=accounts, now=now, open_doors=_OPEN_DOORS)
    # the last one stands before the others: what asks for another name never gets as far as the guard
    app.add_middleware(Doors, is_device_path=is_device_path, names=names)
    _answer_errors(app)
    _add_posts(app, Ingest(incoming, store.database), now)
    _add_reads(app, store, now)
    usual, verdicts = rules or Rules(), Verdicts(store)

    def trusted() -> Rules:
        return verdicts.rules(usual)

    app.include_router(incident_router(store, now, trusted))
    app.include_router(incident_log_router(store, now, trusted))
    app.include_router(verdict_router(store, now))
    app.include_router(condition_router(store))
    app.include_router(fieldlog_router(store, now))
    app.include_router(export_router(store, now, usual))
    app.include_router(logexport_router(store))
    app.include_router(registry_router(store, incoming.keys, now))
    app.include_router(session_router(accounts, now))
    app.include_router(metrics_router(store, now))
    _add_rest(app)
    return app


class _Api(FastAPI):
    """FastAPI, with the wire documents in its OpenAPI: endpoints that check signatures first cannot tell it."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        wire = TypeAdapter.json_schemas(
            [("alert", "validation", TypeAdapter(Alert)), ("heartbeat", "validation", TypeAdapter(Heartbeat))],
            ref_template=_REFERENCE,
        )[1]
        document["components"]["schemas"].update(wire["$defs"])
        return document


def _add_posts(app: FastAPI, ingest: Ingest, now: Callable[[], datetime]) -> None:
    async def answer(request: inbox.Request) -> Response:
        return _response(await asyncio.wrap_future(ingest.take(request, now())))

    async def post(request: Request) -> Response:
        """Take one signed request."""
        path = request.url.path
        body = await _bounded_body(request, LARGEST_BODY[path])
        if isinstance(body, Answer):
            return _response(body)
        whole = inbox.Request(path=path, headers=request.headers, body=body)
        return await answer(whole)

    async def post_clip(request: Request, alert_id: str) -> Response:
        """Take the sound of an alert; a bad link needs minutes for it."""
        body = await _bounded_body(request, LARGEST_BODY[inbox.CLIPS], SLOWEST_CLIP_S)
        if isinstance(body, Answer):
            return _response(body)
        whole = inbox.Request(path=inbox.CLIPS + alert_id, headers=request.headers, body=body)
        return await answer(whole)

    app.add_api_route(
        inbox.CLIPS + "{alert_id}",
        post_clip,
        methods=["POST"],
        name="Send the sound of an alert",
        summary="Send the sound of an alert, after its receipt",
        description="Signed; a WAV of one channel, 16 bits, 16 kHz, at most 10 s; see docs/protocol.md.",
        operation_id="v1_clips_post",
        response_class=JSONResponse,
        responses=_post_answers(inbox.CLIPS),
        openapi_extra=_post_schema({"type": "string", "format": "binary"}, "audio/wav"),
    )
    for path, title, schema in (
        (inbox.ALERTS, "Send one revision of an alert", _reference("Alert")),
        (inbox.HEARTBEATS, "Send a heartbeat", _reference("Heartbeat")),
        (inbox.CHALLENGE, "Answer the challenge of a lost counter", _CHALLENGE_SCHEMA),
        (inbox.RECEIPTS, "Ask which alerts are on disk, many at once", _QUESTION_SCHEMA),
    ):
        app.add_api_route(
            path,
            post,
            methods=["POST"],
            name=title,
            summary=title,
            description="Signed; see docs/protocol.md.",
            operation_id=path.strip("/").replace("/", "_") + "_post",
            response_class=JSONResponse,
            responses=_post_answers(path),
            openapi_extra=_post_schema(schema),
        )


def _add_reads(app: FastAPI, store: Store, now: Callable[[], datetime]) -> None:
    @app.get("/v1/alerts", summary="List events, newest arrival first", responses=READING)
    def alerts(
        before: Annotated[int | None, Query(ge=0, le=2**63 - 1, description="Only older arrivals.")] = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
        label: Annotated[str | None, Query(max_length=32)] = None,
        device: Annotated[str | None, Query(max_length=63)] = None,
    ) -> AlertsOut:
        events = store.events(
            before=before, limit=limit, label=label and _plain(label), device_id=device and _plain(device)
        )
        more = len(events) == limit
        return AlertsOut(
            alerts=[AlertOut(**_alert(event)) for event in events], before=events[-1].seq if more else None
        )

    @app.get("/v1/alerts/{alert_id}", summary="One event with its revisions", responses=READING)
    def alert(alert_id: str) -> AlertWholeOut:
        event = store.event(_plain(alert_id))
        if event is None:
            raise HTTPException(404, f"no alert {alert_id[:40]!r} here")
        revisions = [
            RevisionOut(received_utc=iso(received), document=json.loads(body))
            for received, body in store.documents(alert_id)
        ]
        return AlertWholeOut(**_alert(event), revisions=revisions)

    @app.get(
        "/v1/alerts/{alert_id}/log-mel.png",
        summary="What the model saw, time to the right, frequency up",
        response_class=Response,
        responses={**READING, 200: {"content": {"image/png": {}}}},
    )
    def log_mel(alert_id: str, revision: Annotated[int, Query(ge=0, le=1000)] = 0) -> Response:
        image = store.log_mel(_plain(alert_id), revision)
        if image is None:
            raise HTTPException(404, f"no picture with alert {alert_id[:40]!r} revision {revision}")
        # a revision never changes, so neither does its picture
        return Response(png(image), media_type="image/png", headers={"Cache-Control": "private, max-age=604800"})

    @app.get(
        "/v1/alerts/{alert_id}/clip.wav",
        summary="What was heard, where the device keeps clips",
        response_class=Response,
        responses={**READING, 200: {"content": {"audio/wav": {}}}},
    )
    def clip(alert_id: str) -> Response:
        sound = store.clip(_plain(alert_id))
        if sound is None:
            raise HTTPException(404, f"no clip with alert {alert_id[:40]!r}")
        return Response(sound, media_type="audio/wav", headers={"Cache-Control": "private, max-age=604800"})

    @app.get("/v1/devices", summary="All devices, and how they were when they last spoke", responses=READING)
    def devices(
        after: Annotated[str | None, Query(max_length=63, description="Only names behind this one.")] = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 100,
    ) -> DevicesOut:
        found = store.devices(after=after and _plain(after), limit=limit)
        more = len(found) == limit
        return DevicesOut(devices=[_device(device) for device in found], after=found[-1].device_id if more else None)

    @app.get("/healthz", summary="Is the station working?", responses=READING)
    def healthz() -> HealthOut:
        store.marker()
        return HealthOut(status="ok", version=VERSION, alert_schema=ALERT_SCHEMA, station_utc=iso(now()))


def _plain(name: str) -> str:
    """Return a name as a database can look for it: PostgreSQL takes no zero byte, and no name has one."""
    return name.replace("\0", "\ufffd")


def _add_rest(app: FastAPI) -> None:
    """Answer every other path under /v1 here: the page that is mounted beside must not."""
    routes = [route for route in app.routes if isinstance(route, APIRoute)]

    async def nothing(request: Request) -> Response:
        allowed = {
            method for route in routes if route.path_regex.match(request.url.path) for method in route.methods or ()
        }
        if allowed:
            raise HTTPException(405, f"{request.method} does not go here", {"Allow": ", ".join(sorted(allowed))})
        raise HTTPException(404, f"nothing is at {request.url.path[:80]}")

    app.add_api_route("/v1/{rest:path}", nothing, methods=_EVERY_METHOD, include_in_schema=False)
    app.add_api_route("/healthz", nothing, methods=_EVERY_METHOD, include_in_schema=False)


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "request"
        return _response(problem(422, "wrong parameter", f"{where}: {first['msg']}", field=where))

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        answer = problem(error.status_code, "not possible", str(error.detail))
        return _response(answer, error.headers)

    @app.exception_handler(StorageError)
    async def _storage(_request: Request, error: StorageError) -> Response:
        log.error("%s; the device will try again", error)
        return _response(problem(503, "database refused", "the station's database refused; its log has the reason"))

    @app.exception_handler(ConfigError)
    async def _config(_request: Request, error: ConfigError) -> Response:
        log.error("%s", error)
        return _response(problem(503, "station not in order", "the station is not in order; its log has the reason"))


async def _bounded_body(request: Request, largest: int, slowest_s: float = SLOWEST_BODY_S) -> bytes | Answer:
    """Return the body, or the answer to one that is too large or too slow; never more than `largest` is kept."""
    too_large = problem(413, "too large", f"the body has more than {largest} bytes")
    promised = request.headers.get("content-length", "0")
    if not promised.isascii() or not promised.isdecimal() or int(promised) > largest:
        return too_large
    body = bytearray()
    try:
        async with asyncio.timeout(slowest_s):
            async for piece in request.stream():
                body += piece
                if len(body) > largest:
                    return too_large
    except TimeoutError:
        return problem(408, "too slow", f"the body did not come within {slowest_s:.0f} s")
    except ClientDisconnect:
        return problem(400, "cut off", "the body broke off")
    return bytes(body)


def _response(answer: Answer, more: Mapping[str, str] | None = None) -> Response:
    headers = {**answer.headers, **(more or {})}
    if answer.status in (408, 413):
        headers["Connection"] = "close"  # what is left of the body is not worth reading
    return Response(answer.body, status_code=answer.status, headers=headers)


_AS_IT_IS = (
    *("seq", "alert_id", "device_id", "label", "drill", "state", "revision", "score", "level_dbfs", "lasted_s"),
    *("latitude", "longitude"),
)


def _alert(event: AlertEvent) -> dict[str, Any]:
    carrier = event.log_mel_revision
    return {
        **{name: getattr(event, name) for name in _AS_IT_IS},
        "received_utc": iso(event.received_utc),
        "onset_utc": iso(event.onset.utc),
        "onset_from": event.onset.source,
        "log_mel_url": None if carrier is None else f"/v1/alerts/{event.alert_id}/log-mel.png?revision={carrier}",
        "clip_url": f"/v1/alerts/{event.alert_id}/clip.wav" if event.has_clip else None,
    }


def _device(device: Device) -> DeviceOut:
    def maybe(moment: datetime | None) -> str | None:
        return None if moment is None else iso(moment)

    return DeviceOut(
        device_id=device.device_id,
        added_utc=iso(device.added_utc),
        revoked_utc=maybe(device.revoked_utc),
        last_contact_utc=maybe(device.last_contact_utc),
        clock_offset_s=device.clock_offset_s,
        heartbeat_utc=maybe(device.heartbeat_utc),
        heartbeat=None if device.heartbeat is None else json.loads(device.heartbeat.to_json()),
        name=device.name,
        latitude=device.latitude,
        longitude=device.longitude,
    )


_REFERENCE = "#/components/schemas/{model}"


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": _REFERENCE.format(model=name)}


_CHALLENGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"schema": {"const": 1}, "nonce": {"type": "string", "maxLength": 64}},
    "required": ["schema", "nonce"],
    "additionalProperties": False,
}


_QUESTION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "schema": {"const": 1},
        "alerts": {
            "type": "array",
            "maxItems": inbox.MOST_ASKED,
            "items": {
                "type": "object",
                "properties": {
                    "alert_id": {"type": "string", "minLength": 36, "maxLength": 36},
                    "revision": {"type": "integer", "minimum": 0, "maximum": 1000},
                    "sha256": {"type": "string", "description": "Of the alert's body, hexadecimal."},
                },
                "required": ["alert_id", "revision", "sha256"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["schema", "alerts"],
    "additionalProperties": False,
}


def _answer_schema(kind: str, **fields: str) -> dict[str, Any]:
    properties: dict[str, Any] = {"schema": {"const": 1}, "kind": {"const": kind}}
    properties.update({name: {"type": type_} for name, type_ in fields.items()})
    return {"type": "object", "properties": properties, "required": ["schema", "kind"]}


def _documented(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    signature = {"description": "The station's signature of this answer.", "schema": {"type": "string"}}
    return {
        "description": description,
        "content": {"application/json": {"schema": schema}},
        "headers": {HEADER_SIGNATURE: signature},
    }


def _post_answers(path: str) -> dict[int | str, dict[str, Any]]:
    counter = _documented(
        "The counter was used before; answer the challenge.",
        _answer_schema("counter", nonce="string", highest="integer"),
    )
    problems = problem_answers(400, 401, 403, 408, 413, 503)
    if path == inbox.CHALLENGE:
        reopened = _documented("Go on from the counter after `highest`.", _answer_schema("reopened", highest="integer"))
        return {**problems, 200: reopened, 409: counter}
    if path == inbox.RECEIPTS:
        here = _documented(
            "`have` names, by id and revision, what is on disk.", _answer_schema("receipts", have="array")
        )
        return {**problems, 200: here, 409: counter}
    receipt = _answer_schema("receipt", alert_id="string", revision="integer", station_utc="string", takes="array")
    refused = _answer_schema("refused", alert_id="string", revision="integer", reason="string")
    answers = {
        **problems,
        200: _documented("It is on disk; it was before, where it is an alert.", receipt),
        409: counter,
        422: _documented("It will never be taken.", refused),
    }
    return answers if path == inbox.HEARTBEATS else {**answers, 201: _documented("It is on disk.", receipt)}


def _post_schema(schema: dict[str, Any], content_type: str = "application/json") -> dict[str, Any]:
    headers = (HEADER_DEVICE, HEADER_BOOT, HEADER_COUNTER, HEADER_TIME, HEADER_SIGNATURE)
    return {
        "requestBody": {"required": True, "content": {content_type: {"schema": schema}}},
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in headers
        ],
    }
