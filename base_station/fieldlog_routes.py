"""Events of journals over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from base_station.fieldlog import field_events
from base_station.inbox import iso
from base_station.problems import READING
from base_station.store import LARGEST_PAGE, Store


class FieldEventOut(BaseModel):
    """One event of a journal that came home."""

    seq: int
    device_id: str
    run: str
    kind: str
    at_utc: str | None
    dated: str = Field(
        description="`device`: by its clock, which network time had set; `station`: by its calls here; `guess`: by its "
        "own idea; `none`: nobody knows."
    )
    alert_id: str | None
    arrived: bool = Field(description="Of an alert: whether it is here.")
    fields: dict[str, Any]


class FieldEventsOut(BaseModel):
    """A page of events, the last imported first."""

    events: list[FieldEventOut]
    before: int | None = Field(description="Give this as `before` for the next page; null on the last one.")


def fieldlog_router(store: Store) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/v1/journals", summary="Events of journals that came home, the last imported first", responses=READING)
    def journals(
        before: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
        device: Annotated[str | None, Query(max_length=63, pattern=r"^[^\x00]*$")] = None,
        missing: Annotated[bool, Query(description="Only alerts that never arrived.")] = False,
    ) -> FieldEventsOut:
        found = field_events(store, before=before, limit=limit, device_id=device, missing=missing)
        events = [
            FieldEventOut(
                seq=each.seq,
                device_id=each.device_id,
                run=each.run,
                kind=each.kind,
                at_utc=None if each.at_utc is None else iso(each.at_utc),
                dated=each.dated,
                alert_id=each.alert_id,
                arrived=each.arrived,
                fields=each.fields,
            )
            for each in found
        ]
        return FieldEventsOut(events=events, before=found[-1].seq if len(found) == limit else None)

    return router
