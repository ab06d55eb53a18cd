"""What people did about incidents, over HTTP."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from base_station.accounts import Who
from base_station.guard import WHO
from base_station.inbox import iso
from base_station.incident_log import LONGEST_NAME, LONGEST_NOTE, NOTED, Entry, IncidentLog
from base_station.incidents import Rules
from base_station.problems import READING, problem_answers
from base_station.recent import incident_around
from base_station.store import Store

_PLAIN = r"^[^\x00-\x1f\x7f]*$"


class EntryIn(BaseModel):
    """What somebody does about an incident."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["acknowledged", "assigned", "noted"]
    assignee: str = Field(
        default="", max_length=LONGEST_NAME, pattern=_PLAIN, description="Who goes; empty takes it back."
    )
    note: str = Field(default="", max_length=LONGEST_NOTE, pattern=_PLAIN)
    who: str = Field(
        default="",
        max_length=LONGEST_NAME,
        pattern=_PLAIN,
        description="Who does it; who has logged in is named by the station.",
    )


class EntryOut(BaseModel):
    """One thing that was done."""

    incident_id: str
    at_utc: str
    who: str
    action: str
    assignee: str
    note: str


class EntriesOut(BaseModel):
    """Everything that was done about an incident, the oldest first."""

    entries: list[EntryOut]


def incident_log_router(store: Store, now: Callable[[], datetime], rules: Callable[[], Rules]) -> APIRouter:
    """Return the routes.

    Args:
        store: the database.
        now: station time, UTC.
        rules: when alerts belong together.
    """
    router = APIRouter()
    log = IncidentLog(store)

    @router.post(
        "/v1/incidents/{incident_id}/log",
        status_code=201,
        summary="Acknowledge an incident, say who goes, or add a note; earlier entries stay",
        responses={**READING, **problem_answers(400, 413)},
    )
    def add(incident_id: str, said: EntryIn, request: Request) -> EntryOut:
        who: Who | None = request.scope.get(WHO)
        name = said.who if who is None else who.name
        if not name:
            raise RequestValidationError([{"loc": ("body", "who"), "msg": "is missing: say who does it"}])
        if said.action == NOTED and not said.note.strip():
            raise RequestValidationError([{"loc": ("body", "note"), "msg": "is empty: a note needs words"}])
        entry = Entry(incident_id=_known(incident_id), at_utc=now(), **said.model_dump() | {"who": name})
        if not log.add(entry):
            raise HTTPException(404, f"no incident {incident_id[:40]!r} here")
        return _out(entry)

    @router.get("/v1/incidents/{incident_id}/log", summary="What was done about an incident", responses=READING)
    def listed(incident_id: str) -> EntriesOut:
        incident = incident_around(store, _known(incident_id), rules())
        if incident is None:
            raise HTTPException(404, f"no incident {incident_id[:40]!r} here")
        return EntriesOut(entries=[_out(entry) for entry in log.of(incident.alert_ids)])

    return router


def _known(incident_id: str) -> str:
    if "\0" in incident_id:
        raise HTTPException(404, "no incident of that name here")
    return incident_id


def _out(entry: Entry) -> EntryOut:
    return EntryOut(**asdict(entry) | {"at_utc": iso(entry.at_utc)})
