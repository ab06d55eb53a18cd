"""Registering devices over HTTP: for operators with a session and machines with an operator's token, nobody else."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from agent.alert import Position
from agent.errors import FieldError
from agent.signing import KEY_BYTES
from base_station import registry
from base_station.accounts import Who
from base_station.guard import WHO
from base_station.inbox import iso
from base_station.keys import KeyRing
from base_station.problems import CHANGING, READING
from base_station.store import LARGEST_PAGE, Device, Store

_KEY = rf"^[0-9a-f]{{{2 * KEY_BYTES}}}$"
_ONE = "/v1/devices/{device_id}"


class PositionIn(BaseModel):
    """Where a device hangs."""

    model_config = ConfigDict(extra="forbid")

    latitude: float = Field(ge=-90, le=90, allow_inf_nan=False)
    longitude: float = Field(ge=-180, le=180, allow_inf_nan=False)


class DeviceIn(BaseModel):
    """A device to admit."""

    model_config = ConfigDict(extra="forbid")

    device_id: str = Field(max_length=63, pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    key: str | None = Field(default=None, pattern=_KEY, description="The key that it has already, hexadecimal.")
    name: str = Field(default="", max_length=registry.LONGEST_NAME, description="What people call it.")
    position: PositionIn | None = Field(default=None, description="For alerts that bring no position of their own.")


class DeviceChange(BaseModel):
    """What is to be changed; what is not named stays."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, max_length=registry.LONGEST_NAME, description="Empty takes it away.")
    position: PositionIn | None = Field(default=None, description="Null says that nobody knows.")


class RegisteredOut(BaseModel):
    """One device, as people registered it."""

    device_id: str
    name: str
    latitude: float | None
    longitude: float | None
    added_utc: str
    revoked_utc: str | None


class NewKeyOut(RegisteredOut):
    """A device with its key, which is never shown again; null where whoever asked brought it."""

    key: str | None


class AuditOut(BaseModel):
    """One change."""

    seq: int
    at_utc: str
    who: str
    action: str
    subject: str
    detail: dict[str, Any]


class AuditsOut(BaseModel):
    """A page of changes, the latest first."""

    entries: list[AuditOut]
    before: int | None = Field(description="Give this as `before` for the next page; null on the last one.")


def registry_router(store: Store, ring: KeyRing, now: Callable[[], datetime]) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    _add_additions(router, store, ring, now)
    _add_changes(router, store, now)

    @router.get("/v1/audit", summary="Who changed what, the latest first", responses=READING)
    def audit(
        before: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
        device: Annotated[str | None, Query(max_length=63, pattern=r"^[^\x00]*$")] = None,
    ) -> AuditsOut:
        entries = registry.audit_entries(store, before=before, limit=limit, subject=device)
        return AuditsOut(
            entries=[
                AuditOut(
                    seq=entry.seq,
                    at_utc=iso(entry.at_utc),
                    who=entry.who,
                    action=entry.action,
                    subject=entry.subject,
                    detail=entry.detail,
                )
                for entry in entries
            ],
            before=entries[-1].seq if len(entries) == limit else None,
        )

    return router


def _add_additions(router: APIRouter, store: Store, ring: KeyRing, now: Callable[[], datetime]) -> None:
    @router.post(
        "/v1/devices",
        status_code=201,
        summary="Admit a device; its key is in the answer, once",
        responses={**CHANGING, 200: {"model": NewKeyOut, "description": "It was here, with this key."}},
    )
    def add(said: DeviceIn, request: Request, response: Response) -> NewKeyOut:
        who = operator(request)
        key = None if said.key is None else bytes.fromhex(said.key)
        try:
            made = registry.add_device(
                store,
                ring,
                said.device_id,
                who=who,
                now_utc=now(),
                key=key,
                name=said.name,
                position=_position(said.position),
            )
        except registry.KnownDeviceError as error:
            raise HTTPException(409, str(error)) from error
        except FieldError as error:
            raise _wrong(error) from error
        response.headers["Cache-Control"] = "no-store"
        response.status_code = 201 if made.is_new else 200
        return NewKeyOut(**_fields(made.device), key=made.key.hex() if key is None else None)

    @router.post(
        _ONE + "/key",
        status_code=201,
        summary="Give a device a new key, in the answer, once; the old one is worthless then",
        responses=CHANGING,
    )
    def new_key(device_id: str, request: Request, response: Response) -> NewKeyOut:
        who = operator(request)
        _known(store, device_id)
        key = registry.replace_key(store, ring, device_id, who=who, now_utc=now())
        response.headers["Cache-Control"] = "no-store"
        return NewKeyOut(**_fields(_known(store, device_id)), key=key.hex())


def _add_changes(router: APIRouter, store: Store, now: Callable[[], datetime]) -> None:
    @router.patch(_ONE, summary="Rename or move a device", responses=CHANGING)
    def change(device_id: str, said: DeviceChange, request: Request) -> RegisteredOut:
        who = operator(request)
        _known(store, device_id)
        try:
            if said.name is not None:
                registry.rename_device(store, device_id, said.name, who=who, now_utc=now())
        except FieldError as error:
            raise _wrong(error) from error
        if "position" in said.model_fields_set:
            registry.move_device(store, device_id, _position(said.position), who=who, now_utc=now())
        return RegisteredOut(**_fields(_known(store, device_id)))

    @router.post(
        _ONE + "/revoke",
        summary="Refuse a device from now on, in every process at once; its alerts stay",
        responses=CHANGING,
    )
    def revoke(device_id: str, request: Request) -> RegisteredOut:
        who = operator(request)
        _known(store, device_id)
        registry.revoke_device(store, device_id, who=who, now_utc=now())
        return RegisteredOut(**_fields(_known(store, device_id)))

    @router.get(_ONE, summary="One device, as people registered it", responses=READING)
    def one(device_id: str) -> RegisteredOut:
        return RegisteredOut(**_fields(_known(store, device_id)))


def operator(request: Request) -> str:
    """Return the name of whoever asks; 403 where nobody has proved who he is, for keys are made for nobody.

    The guard has let in nobody but operators by then, unless there are neither people nor tokens.
    """
    who: Who | None = request.scope.get(WHO)
    if who is None or not who.may_change:
        raise HTTPException(
            403, "only an operator may do this: base_station user add NAME --role operator, or token add"
        )
    return who.name


def _known(store: Store, device_id: str) -> Device:
    try:
        return registry.found(store, device_id)
    except registry.UnknownDeviceError as error:
        raise HTTPException(404, str(error)) from error


def _wrong(error: FieldError) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", error.key), "msg": str(error)}])


def _position(said: PositionIn | None) -> Position | None:
    return None if said is None else Position(latitude=said.latitude, longitude=said.longitude)


def _fields(device: Device) -> dict[str, Any]:
    return {
        "device_id": device.device_id,
        "name": device.name,
        "latitude": device.latitude,
        "longitude": device.longitude,
        "added_utc": iso(device.added_utc),
        "revoked_utc": None if device.revoked_utc is None else iso(device.revoked_utc),
    }
