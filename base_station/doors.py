"""Who may ask for what, when the station can be reached from other machines.

Devices prove themselves with each request, from wherever they come. Everything else, the page and what programs read,
is answered to this machine alone, and only under its own names, so that a page from elsewhere cannot read it through
the ranger's browser; passwords (`guard`) do not open it to others, for the page has no login.
"""

import ipaddress
from collections.abc import Callable, Sequence

from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_REASON = "from other machines only signed messages of devices are taken; reach the page through an SSH tunnel"


class Doors:
    """Lets devices in from everywhere, and everybody else from this machine only."""

    def __init__(self, app: ASGIApp, is_device_path: Callable[[str], bool], names: Sequence[str]) -> None:
        """Stand before `app`.

        Args:
            app: what answers.
            is_device_path: says whether devices post to a path.
            names: host names under which this machine may be asked for the rest.
        """
        self._app = app
        self._is_device_path = is_device_path
        self._local = TrustedHostMiddleware(app, allowed_hosts=names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] == "lifespan" or self._is_device_door(scope):
            await self._app(scope, receive, send)
        elif _is_this_machine(scope):
            await self._local(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            problem = {"title": "not from there", "status": 403, "detail": _REASON}
            await JSONResponse(problem, 403, media_type="application/problem+json")(scope, receive, send)

    def _is_device_door(self, scope: Scope) -> bool:
        return scope["type"] == "http" and scope["method"] == "POST" and self._is_device_path(scope["path"])


def _is_this_machine(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
