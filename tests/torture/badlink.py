"""A link that does what links do: it listens where the station should be, and mostly does something else."""

import contextlib
import random
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Sequence

MODES = (
    "through",
    "closes",
    "resets",
    "garbage",
    "half",
    "unavailable",
    "error",
    "redirect",
    "portal",
    "not_found",
    "hangs",
    "cuts_request",
    "cuts_answer",
)
"""`cuts_answer` passes the request on and throws the receipt away: the station has it and the device does not know."""
_HANG_S = 0.5
_ANSWERS = {
    "garbage": b"\x00\xff not HTTP at all\r\n\r\n",
    "half": b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{"schema": 1, "ki',
    "unavailable": b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "error": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/login\r\nContent-Length: 0\r\n\r\n",
    "portal": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 17\r\n\r\n<h1>Welcome!</h1>",
    "not_found": b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found",
}


class BadLink:
    """Takes connections on a port of its own and treats each in a way drawn by chance."""

    def __init__(
        self,
        station_port: int,
        *,
        seed: int,
        through_share: float,
        modes: Sequence[str] = MODES,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listen at once.

        Args:
            station_port: of the real station.
            seed: of the draw.
            through_share: share of connections that reach the station whole.
            modes: what the others are drawn from.
            tls: the certificate to show; None speaks plainly.
        """
        self.tls = tls
        """May be changed; the next connection meets the new one."""
        self._station_port = station_port
        self._rng = random.Random(seed)
        self._through_share = through_share
        self._modes = [mode for mode in modes if mode != "through"]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.met: Counter[str] = Counter()
        """How often each way was met."""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            mode = "through" if self._rng.random() < self._through_share else self._rng.choice(self._modes)
            self.met[mode] += 1
            threading.Thread(target=self._treat, args=(client, mode), daemon=True).start()

    def _treat(self, client: socket.socket, mode: str) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError))
            stack.enter_context(client)
            client.settimeout(5.0)
            if self.tls is not None:
                client = stack.enter_context(self.tls.wrap_socket(client, server_side=True))
            if mode == "closes":
                return
            if mode == "resets":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                return
            if mode == "cuts_request":
                client.recv(200)
                return
            request = _whole_request(client)
            if mode == "hangs":
                time.sleep(_HANG_S)
                return
            if mode in _ANSWERS:
                client.sendall(_ANSWERS[mode])
                return
            answer = self._asked(request)
            if mode == "cuts_answer":
                return
            client.sendall(answer)

    def _asked(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self._station_port), timeout=5.0) as station:
            # one request a connection: whoever answers then closes, and the answer is whole
            head, _, body = request.partition(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            station.sendall(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
            answer = bytearray()
            while piece := station.recv(65_536):
                answer += piece
            return bytes(answer)


def _whole_request(client: socket.socket) -> bytes:
    request = bytearray()
    while b"\r\n\r\n" not in request:
        piece = client.recv(65_536)
        if not piece:
            return bytes(request)
        request += piece
    head, _, body = bytes(request).partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        piece = client.recv(65_536)
        if not piece:
            break
        body += piece
    return head + b"\r\n\r\n" + body
