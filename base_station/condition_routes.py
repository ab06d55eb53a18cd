"""Conditions over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from base_station.condition_log import ConditionLog, Spell
from base_station.inbox import iso
from base_station.problems import READING
from base_station.store import LARGEST_PAGE, Store


class ConditionOut(BaseModel):
    """One thing that is or was wrong with a device, or with several at once."""

    seq: int
    subject: str = Field(description="The device; of several that vanished together the first by name.")
    name: str = Field(
        description="`late`, `link`, `deaf`, `hushed`, `faulty`, `hot`, `low_battery`, `out_of_disk`, `old_model`."
    )
    begin_utc: str
    end_utc: str | None = Field(description="Null while it holds.")
    seen_utc: str
    returns: int = Field(description="How often it came back within the cooldown, and so is one condition.")
    detail: str
    devices: list[str]


class ConditionsOut(BaseModel):
    """A page of conditions, the latest begun first."""

    conditions: list[ConditionOut]
    before: int | None = Field(description="Give this as `before` for the next page; null on the last one.")


def condition_router(store: Store) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    log = ConditionLog(store.database)

    @router.get("/v1/conditions", summary="What is or was wrong with devices, the latest first", responses=READING)
    def conditions(
        before: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
        holding: Annotated[bool, Query(description="Only what holds now.")] = False,
        device: Annotated[str | None, Query(max_length=63, pattern=r"^[^\x00]*$")] = None,
    ) -> ConditionsOut:
        spells = log.listed(before=before, limit=limit, holding=holding, subject=device)
        more = len(spells) == limit
        return ConditionsOut(conditions=[_out(spell) for spell in spells], before=spells[-1].seq if more else None)

    return router


def _out(spell: Spell) -> ConditionOut:
    return ConditionOut(
        seq=spell.seq,
        subject=spell.subject,
        name=spell.name,
        begin_utc=iso(spell.begin_utc),
        end_utc=None if spell.end_utc is None else iso(spell.end_utc),
        seen_utc=iso(spell.seen_utc),
        returns=spell.returns,
        detail=spell.detail,
        devices=list(spell.devices),
    )
