"""Stands before the API and the pages: who asks, may he, and is what he sends of a size that anybody needs.

As long as there is neither a person nor a token, everybody on this machine may read and judge, as in the first
station; from other machines nobody may then. Devices prove themselves by their signatures, behind this door. A browser
without a session is led to the login; only that, and the files of the pages, are for everybody. What comes from a
page of somebody else, by its Origin, changes nothing here and gets no live events.
"""

import ipaddress
import re
from collections.abc import Callable, Collection
from datetime import datetime
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote

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
LARGEST_UPLOAD_BYTES = 80 * 1024 * 1024
"""Of a whole journal, as a card brings it home."""
UPLOADS = (("POST", "/v1/journals"), ("POST", "/v1/journals/archive"))
"""What may be as large as an upload: methods and paths."""
WHO = "curupira_who"
"""Under this name the scope of a request says who asks; None while everybody may."""

_SAFE = ("GET", "HEAD", "OPTIONS")
_OPEN_PAGES = ("/login", "/logout", "/favicon.ico", "/healthz")
_LIBRARY = re.compile(r"/_nicegui/[0-9.]+/(static|components|esm|libraries|resources)/")
"""NiceGUI's own files, the same on every machine that has it; what belongs to a visitor is under other paths."""


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
        if scope["type"] == "lifespan" or _is_devices(scope):
            await self._app(scope, receive, send)
            return
        try:
            refusal = await run_in_threadpool(self._refusal, scope)
        except StorageError:
            refusal = _answer(503, "database refused", "the station's database refused; its log has the reason")
        if refusal is None:
            await self._app(scope, _bounded(scope, receive) if _is_api(scope) else receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if _is_foreign(scope, headers):
            return _answer(403, "not from our page", "a page of another site may not do this")
        if self._is_open(scope):
            return None
        who, by_cookie = self._who(headers)
        if who is None:
            if not self._accounts.any() and is_this_machine(scope):
                return None
            return _unknown(scope)
        scope[WHO] = who
        changes = _is_api(scope) and scope["method"] not in _SAFE
        return _forbidden(scope, who, headers.get(CSRF_HEADER, "") if by_cookie else None) if changes else None

    def _is_open(self, scope: Scope) -> bool:
        """Say whether something is for everybody: the login, and the programs and fonts of the pages."""
        if scope["type"] != "http":
            return False
        method, path = scope["method"], scope["path"]
        if (method, path) in self._open_doors or path in _OPEN_PAGES:
            return True
        return method in _SAFE and (path.startswith("/assets/") or _LIBRARY.match(path) is not None)

    def _who(self, headers: Headers) -> tuple[Who | None, bool]:
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and token:
            return self._accounts.by_token(token.strip()), False
        secret = session_secret(headers)
        return (self._accounts.by_session(secret, self._now()) if secret else None), True


def is_this_machine(scope: Scope) -> bool:
    """Say whether a request comes from the machine that the station runs on."""
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _is_devices(scope: Scope) -> bool:
    """Say whether a request is one of those that devices sign, and bound by themselves."""
    return bool(scope["type"] == "http") and scope["method"] == "POST" and is_device_path(scope["path"])


def _is_api(scope: Scope) -> bool:
    return bool(scope["type"] == "http") and str(scope["path"]).startswith("/v1/")


def _is_foreign(scope: Scope, headers: Headers) -> bool:
    """Say whether a browser sends this for a page that is not ours, where that could do something.

    Reading is left alone: browsers give nobody else the answer, and a link from a message has to work.
    """
    if scope["type"] == "http" and scope["method"] in _SAFE and not scope["path"].startswith("/_nicegui_ws/"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return scope["type"] == "websocket" or headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    secure = scope["scheme"] in ("https", "wss")
    return origin != f"{'https' if secure else 'http'}://{headers.get('host', '')}"


def _forbidden(scope: Scope, who: Who, csrf: str | None) -> Response | None:
    """Refuse a change by somebody who may only read, or of which a browser cannot prove that our page asked for it.

    Args:
        scope: the request.
        who: who asks.
        csrf: what the browser repeated; None of a program with a token.
    """
    if not who.may_change and scope["path"] != "/v1/session":
        return _answer(403, "not allowed", f"{who.name} may read only; an operator may do this")
    if csrf is not None and not same(csrf, who.csrf):
        return _answer(403, "not from our page", f"the header {CSRF_HEADER} does not fit the session")
    return None


def _unknown(scope: Scope) -> Response:
    """Lead a browser to the login, and tell a program what it lacks."""
    wants_page = scope["type"] == "http" and "text/html" in Headers(scope=scope).get("accept", "")
    if wants_page and scope["method"] == "GET" and not _is_api(scope):
        query = scope["query_string"].decode("ascii", "replace")
        wanted = scope["path"] + (f"?{query}" if query else "")
        return Response(status_code=303, headers={"Location": f"/login?next={quote(wanted, safe='')}"})
    return _answer(401, "who are you?", "log in at /v1/session, or send a token as Authorization: Bearer")


def session_secret(headers: Headers) -> str:
    """Return the session's secret that a browser sent, or nothing."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value


def largest_body(scope: Scope) -> int:
    """Return how many bytes the body of a request may have, packed and unpacked."""
    return LARGEST_UPLOAD_BYTES if (scope["method"], scope["path"]) in UPLOADS else LARGEST_BODY_BYTES


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """Return what receives no more than a bound."""
    largest = largest_body(scope)
    promised = Headers(scope=scope).get("content-length", "0")
    too_large = not (promised.isascii() and promised.isdecimal()) or int(promised) > largest
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if too_large or received > largest:
            raise HTTPException(413, f"the body has more than {largest} bytes")
        return message

    return bounded


def _answer(status: int, title: str, detail: str) -> Response:
    answer = problem(status, title, detail)
    headers = dict(answer.headers)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(answer.body, status_code=status, headers=headers)
