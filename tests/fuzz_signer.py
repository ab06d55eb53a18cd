"""Loaded by Schemathesis in `tests.fuzz_api`: signs most requests of devices, so that their bodies are read."""

import itertools
import os
import time
from typing import Any
from urllib.parse import unquote, urlsplit

import schemathesis
from requests import PreparedRequest
from requests.auth import AuthBase

from agent.signing import RequestSeal
from base_station.inbox import is_device_path
from tests.base_station.conftest import FakeDevice

_numbers = itertools.count()


class Signer(AuthBase):
    """Signs a request as the device does, over the very bytes that go out."""

    def __init__(self) -> None:
        key = bytes.fromhex(os.environ["CURUPIRA_FUZZ_KEY"])
        self._device = FakeDevice(device_id=os.environ["CURUPIRA_FUZZ_DEVICE"], key=key)

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        body = request.body or b""
        if isinstance(body, str):
            body = body.encode()
        if isinstance(body, bytes) and next(_numbers) % 4:
            self._device.counter = time.time_ns() // 1000
            path = unquote(urlsplit(str(request.url)).path)
            seal: RequestSeal = self._device.seal(path, body)
            request.headers.update(seal.headers())
        return request


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    if case.method.upper() == "POST" and is_device_path(case.formatted_path):
        kwargs["auth"] = Signer()


@schemathesis.serializer("audio/wav")
def sound(context: Any, value: Any) -> bytes:
    """Send what was made up for a clip as the bytes that it is."""
    return value if isinstance(value, bytes) else str(value).encode()
