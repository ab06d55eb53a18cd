"""Stands before the API: who asks, may he, and is what he sends of a size that anybody needs.

As long as there is neither a person nor a token, everybody on this machine may read and judge, as in the first
station. Devices prove themselves by their signatures, behind this door; the page at `/`, its pictures and
its sounds are not behind it.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from http.cookies import CookieError, SimpleCookie

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.errors import StorageError
from base_station.accounts import Accounts, Who, same
from base_station.inbox import is_device_path, problem

COOKIE = "curupira_session"
CSRF_HEADER = "X-Curupira-CSRF"
LARGEST_BODY_BYTES = 64 * 1024
WHO = "curupira_who"
"""Under this name the scope of a request says who asks; None while everybody may."""

_SAFE = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Lets in who may come in."""

    def __init__(
        self,
        app: ASGIApp,
        accounts: Accounts,
        now: Callable[[], datetime],
        open_doors: Collection[tuple[str, str]],
    ) -> None:
        """Stand before `app`.

        Args:
            app: what answers.
            accounts: who there is.
            now: station time, UTC.
            open_doors: methods and paths that are for everybody.
        """
        self._app = app
        self._accounts = accounts
        self._now = now
        self._open_doors = frozenset(open_doors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] != "http" or not self._is_api(scope):
            await self._app(scope, receive, send)
            return
        refusal = None
        if (scope["method"], scope["path"]) not in self._open_doors:
            try:
                refusal = await run_in_threadpool(self._refusal, scope)
            except StorageError:
                refusal = _answer(503, "database refused", "the station's database refused; its log has the reason")
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await self._app(scope, _bounded(scope, receive), send)

    def _is_api(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if scope["method"] == "POST" and is_device_path(path):
            return False  # signed by devices, and bounded by themselves
        if scope["method"] == "GET" and path.startswith("/v1/alerts/") and path.endswith(("/log-mel.png", "/clip.wav")):
            return False  # the page shows them, and has no login of its own yet
        return path.startswith("/v1/")

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        who, by_cookie = self._who(headers)
        if who is None:
            if not self._accounts.any():
                return None
            return _answer(401, "who are you?", "log in at /v1/session, or send a token as Authorization: Bearer")
        if scope["method"] not in _SAFE:
            if not who.may_change and scope["path"] != "/v1/session":
                return _answer(403, "not allowed", f"{who.name} may read only; an operator may do this")
            if by_cookie and not same(headers.get(CSRF_HEADER, ""), who.csrf):
                return _answer(403, "not from our page", f"the header {CSRF_HEADER} does not fit the session")
        scope[WHO] = who
        return None

    def _who(self, headers: Headers) -> tuple[Who | None, bool]:
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and token:
            return self._accounts.by_token(token.strip()), False
        secret = session_secret(headers)
        return (self._accounts.by_session(secret, self._now()) if secret else None), True


def session_secret(headers: Headers) -> str:
    """Return the session's secret that a browser sent, or nothing."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """Return what receives no more than a bound."""
    promised = Headers(scope=scope).get("content-length", "0")
    too_large = not (promised.isascii() and promised.isdecimal()) or int(promised) > LARGEST_BODY_BYTES
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if too_large or received > LARGEST_BODY_BYTES:
            raise HTTPException(413, f"the body has more than {LARGEST_BODY_BYTES} bytes")
        return message

    return bounded


def _answer(status: int, title: str, detail: str) -> Response:
    answer = problem(status, title, detail)
    headers = dict(answer.headers)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(answer.body, status_code=status, headers=headers)
