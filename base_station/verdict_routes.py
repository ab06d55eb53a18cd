"""Verdicts, what to judge next, and how often alerts are right, over HTTP."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from base_station.accounts import Who
from base_station.guard import WHO
from base_station.inbox import iso
from base_station.problems import READING, problem_answers
from base_station.store import Store
from base_station.verdicts import Verdict, Verdicts

_PLAIN = r"^[^\x00-\x1f\x7f]*$"


class VerdictIn(BaseModel):
    """What somebody says of an alert."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["true", "false", "unsure"]
    heard: str = Field(default="", pattern=r"^([a-z][a-z0-9_]{0,31})?$", description="What it really was: `motorbike`.")
    chosen: Literal["random", "uncertain", "other"] = Field(
        default="other", description="How it came before its judge."
    )
    judge: str = Field(
        default="", max_length=63, pattern=_PLAIN, description="Who says so; who has logged in is named by the station."
    )
    note: str = Field(default="", max_length=500, pattern=_PLAIN)


class VerdictOut(BaseModel):
    """One saying; the latest of an alert counts."""

    alert_id: str
    verdict: str
    heard: str
    chosen: str
    judge: str
    note: str
    at_utc: str


class VerdictsOut(BaseModel):
    """Everything that was said of an alert, the oldest first."""

    verdicts: list[VerdictOut]


class ReviewOut(BaseModel):
    """Alerts that want a verdict, the most wanted first."""

    alert_ids: list[str]


class PrecisionOut(BaseModel):
    """How often alerts were right."""

    key: str
    right: int
    wrong: int
    unsure: int
    share: float | None
    low: float = Field(description="Lower end of the 95 % interval.")
    high: float


class PrecisionsOut(BaseModel):
    """By label, device or month."""

    precision: list[PrecisionOut]


def verdict_router(store: Store, now: Callable[[], datetime]) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    verdicts = Verdicts(store)
    _add_verdicts(router, verdicts, now)

    @router.get("/v1/review", summary="Alerts that want a verdict", responses=READING)
    def review(
        order: Annotated[Literal["uncertain", "random"], Query(description="`random` measures, `uncertain` teaches.")],
        limit: Annotated[int, Query(ge=1, le=200)] = 20,
    ) -> ReviewOut:
        return ReviewOut(alert_ids=verdicts.queue(order, limit, seed=f"{now():%Y-%m-%d}"))

    @router.get("/v1/precision", summary="How often alerts are right, by verdicts", responses=READING)
    def precisions(
        by: Annotated[Literal["label", "device", "month"], Query()] = "label",
        chosen: Annotated[
            Literal["random", "all"],
            Query(description="`random` speaks for all alerts; `all` has those that were chosen because of doubt."),
        ] = "random",
    ) -> PrecisionsOut:
        found = verdicts.precision(by, None if chosen == "all" else chosen)
        return PrecisionsOut(precision=[PrecisionOut(**asdict(each)) for each in found])

    return router


def _add_verdicts(router: APIRouter, verdicts: Verdicts, now: Callable[[], datetime]) -> None:
    @router.post(
        "/v1/alerts/{alert_id}/verdicts",
        status_code=201,
        summary="Say whether an alert was right; earlier sayings stay",
        responses={**READING, **problem_answers(400, 413)},
    )
    def judge(alert_id: str, said: VerdictIn, request: Request) -> VerdictOut:
        who: Who | None = request.scope.get(WHO)
        name = said.judge if who is None else who.name
        if not name:
            raise RequestValidationError([{"loc": ("body", "judge"), "msg": "is missing: say who judges"}])
        fields = said.model_dump() | {"judge": name}
        verdict = Verdict(alert_id=_known(alert_id), at_utc=now(), **fields)
        if not verdicts.add(verdict):
            raise HTTPException(404, f"no alert {alert_id[:40]!r} here")
        return _out(verdict)

    @router.get("/v1/alerts/{alert_id}/verdicts", summary="What was said of an alert", responses=READING)
    def listed(alert_id: str) -> VerdictsOut:
        return VerdictsOut(verdicts=[_out(verdict) for verdict in verdicts.of(_known(alert_id))])


def _known(alert_id: str) -> str:
    if "\0" in alert_id:
        raise HTTPException(404, "no alert of that name here")
    return alert_id


def _out(verdict: Verdict) -> VerdictOut:
    return VerdictOut(**asdict(verdict) | {"at_utc": iso(verdict.at_utc)})
