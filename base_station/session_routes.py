"""Log in, log out, who am I, over HTTP."""

from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from base_station.accounts import SESSION_LASTS, Accounts, TooManyAttemptsError, Who
from base_station.guard import COOKIE, CSRF_HEADER, WHO, session_secret
from base_station.problems import READING, problem_answers


class LogIn(BaseModel):
    """A name and a password."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f\x7f]*$")
    password: str = Field(min_length=1, max_length=200)


class WhoOut(BaseModel):
    """Who asks."""

    name: str
    role: str
    csrf: str = Field(description=f"To be repeated in {CSRF_HEADER} with everything that changes something.")


def session_router(accounts: Accounts, now: Callable[[], datetime]) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.post("/v1/session", summary="Log in", responses={**READING, **problem_answers(400, 413, 429)})
    def log_in(said: LogIn, request: Request, response: Response) -> WhoOut:
        try:
            found = accounts.log_in(said.name, said.password, now())
        except TooManyAttemptsError as error:
            raise HTTPException(429, str(error), {"Retry-After": "900"}) from error
        if found is None:
            raise HTTPException(401, "name or password is wrong")
        if old := session_secret(request.headers):
            accounts.log_out(old)  # what somebody else may have put into this browser is worth nothing now
        secret, who = found
        response.set_cookie(
            COOKIE,
            secret,
            max_age=int(SESSION_LASTS.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return WhoOut(name=who.name, role=who.role, csrf=who.csrf)

    @router.get("/v1/session", summary="Who am I?", responses=READING)
    def who_am_i(request: Request) -> WhoOut:
        who: Who | None = request.scope.get(WHO)
        if who is None:
            return WhoOut(name="", role="operator", csrf="")
        return WhoOut(name=who.name, role=who.role, csrf=who.csrf)

    @router.delete("/v1/session", status_code=204, summary="Log out", responses=READING)
    def log_out(request: Request, response: Response) -> None:
        if secret := session_secret(request.headers):
            accounts.log_out(secret)
        response.delete_cookie(COOKIE)

    return router
