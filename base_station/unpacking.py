"""Request bodies that come packed (`Content-Encoding: gzip`), unpacked before the API reads them.

What programs and browsers send is unpacked here, behind the guard; what devices send behind their signature, which is
over the bytes sent (`inbox`).
"""

from collections.abc import Callable, Iterator

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.errors import FieldError
from base_station.gunzip import GZIP, TooLargeError, Unpacker
from base_station.inbox import is_device_path, problem


class Unpacking:
    """Unpacks what programs and browsers send, before the API reads it."""

    def __init__(self, app: ASGIApp, largest: Callable[[Scope], int]) -> None:
        """Stand before `app`.

        Args:
            app: what answers.
            largest: says how many bytes a request may unpack to.
        """
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, unpacked; answer 415 to what is packed in another way."""
        encoding = Headers(scope=scope).get("content-encoding", "") if scope["type"] == "http" else ""
        encoding = encoding.strip().lower()
        if encoding in ("", "identity") or (scope["method"] == "POST" and is_device_path(scope["path"])):
            await self._app(scope, receive, send)
        elif encoding != GZIP:
            answer = problem(415, "packed in another way", "Content-Encoding: expected gzip, or none")
            headers = {**answer.headers, "Accept-Encoding": GZIP}
            await Response(answer.body, status_code=415, headers=headers)(scope, receive, send)
        else:
            await self._app(_without_encoding(scope), _receiving(receive, self._largest(scope)), send)


def _without_encoding(scope: Scope) -> Scope:
    scope = {**scope, "headers": list(scope["headers"])}
    headers = MutableHeaders(scope=scope)
    del headers["content-encoding"]
    del headers["content-length"]  # of the packed bytes
    return scope


def _receiving(receive: Receive, largest: int) -> Receive:
    unpacker = Unpacker(largest)
    pieces: Iterator[bytes] = iter(())
    ended = False

    async def unpacking() -> Message:
        nonlocal pieces, ended
        try:
            while (piece := next(pieces, None)) is None and not ended:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                ended = not message.get("more_body", False)
                pieces = unpacker.pieces(message.get("body", b""))
            if piece is None:
                unpacker.finish()
        except TooLargeError as error:
            raise HTTPException(413, f"the body unpacks to more than {largest} bytes") from error
        except FieldError as error:
            raise HTTPException(400, str(error)) from error
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    return unpacking
