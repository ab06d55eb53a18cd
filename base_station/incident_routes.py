"""Incidents over HTTP."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field
from starlette.exceptions import HTTPException

from base_station.inbox import iso
from base_station.incidents import Incident, Rules
from base_station.problems import READING
from base_station.recent import incidents_between
from base_station.store import Store

LONGEST_SPAN = timedelta(days=31)
MOST_LISTED = 1000


class PositionOut(BaseModel):
    """Where a sound came from."""

    latitude: float
    longitude: float
    radius_m: float = Field(description="It lies within this with a chance of nine in ten; docs/incidents.md.")


class IncidentOut(BaseModel):
    """Alerts of neighbouring devices and times."""

    incident_id: str = Field(description="The id of its alert that arrived first; it stays.")
    kind: str = Field(
        description="`event`; `storm`: weather over many devices; `outage`: a broken link held these alerts back, and "
        "when they were heard is not known."
    )
    label: str
    drill: bool
    first_utc: str
    last_utc: str
    devices: list[str]
    alert_ids: list[str]
    witnesses: int = Field(description="Devices that hang apart from each other.")
    score: float = Field(description="The highest, 0 to 1.")
    confidence: float = Field(description="0 to 1; rises with every independent witness.")
    position: PositionOut | None


class IncidentsOut(BaseModel):
    """Incidents of a span of time, the latest first."""

    incidents: list[IncidentOut]
    more: bool = Field(description="Whether there are more: ask with `until` at the earliest `last_utc` of these.")
    since: str
    until: str


def incident_router(store: Store, now: Callable[[], datetime], rules: Callable[[], Rules]) -> APIRouter:
    """Return the routes.

    Args:
        store: the database.
        now: station time, UTC.
        rules: when alerts belong together, and how far one device is trusted at present.
    """
    router = APIRouter()

    @router.get("/v1/incidents", summary="Incidents of a span of time, the latest first", responses=READING)
    def incidents(
        since: Annotated[AwareDatetime | None, Query(description="By default a day before `until`.")] = None,
        until: Annotated[AwareDatetime | None, Query(description="By default now.")] = None,
        label: Annotated[str | None, Query(max_length=32)] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="The latest so many.")] = 100,
        drills: Annotated[bool, Query(description="Whether drills are listed; they are never mixed in.")] = True,
    ) -> IncidentsOut:
        end = until or now()
        begin = since or end - timedelta(days=1)
        if not timedelta(0) <= end - begin <= LONGEST_SPAN:
            raise HTTPException(422, f"since: expected at most {LONGEST_SPAN.days} days before until, and not after it")
        every = label is None and drills  # else too few of the latest may be of that label
        found = [
            incident
            for incident in incidents_between(store, begin, end, rules(), limit + 1 if every else None)
            if (label is None or incident.label == label) and (drills or not incident.drill)
        ]
        listed = [_out(incident) for incident in found[:limit]]
        return IncidentsOut(incidents=listed, more=len(found) > limit, since=iso(begin), until=iso(end))

    return router


def _out(incident: Incident) -> IncidentOut:
    position = None if incident.position is None else PositionOut(**asdict(incident.position))
    fields = {name: getattr(incident, name) for name in IncidentOut.model_fields if name != "position"}
    fields |= {"first_utc": iso(incident.first_utc), "last_utc": iso(incident.last_utc)}
    return IncidentOut(**fields, position=position)
