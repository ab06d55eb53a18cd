"""Under which names the station is asked, by whom that matters.

Devices prove themselves with each request, from wherever they come and under whatever name they know the station.
Everything else, the pages and what programs read, is answered only under the station's own names: a page from elsewhere
whose name somebody pointed at this machine is not one of them, and cannot read the station through the ranger's
browser. Who may read is the guard's business; from other machines it lets nobody in without a session or a token.
"""

from collections.abc import Callable, Iterable

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


class Doors:
    """Lets devices in under every name, and everybody else under the station's own."""

    def __init__(self, app: ASGIApp, is_device_path: Callable[[str], bool], names: Iterable[str]) -> None:
        """Stand before `app`.

        Args:
            app: what answers.
            is_device_path: says whether devices post to a path.
            names: host names and addresses of this station; the loopback ones are always among them.
        """
        self._app = app
        self._is_device_path = is_device_path
        self._names = {name.lower() for name in (*names, *LOOPBACK_NAMES)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] == "lifespan" or self._is_device_door(scope) or _host(scope) in self._names:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            detail = "the station is not known by this name; `base_station init --name` gives it names"
            problem = {"title": "not my name", "status": 400, "detail": detail}
            await JSONResponse(problem, 400, media_type="application/problem+json")(scope, receive, send)

    def _is_device_door(self, scope: Scope) -> bool:
        return scope["type"] == "http" and scope["method"] == "POST" and self._is_device_path(scope["path"])


def _host(scope: Scope) -> str:
    """Return the name or address that was asked, without its port."""
    asked = Headers(scope=scope).get("host", "").lower()
    if asked.startswith("["):
        return asked[1:].partition("]")[0]
    return asked.partition(":")[0]
