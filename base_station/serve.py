"""The running station: API and page in one process, until it is told to stop."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from datetime import datetime

import uvicorn

from base_station.api import build_api
from base_station.config import read_config
from base_station.deliver import Postman
from base_station.inbox import Inbox
from base_station.keys import open_ring
from base_station.notify_rules import open_channels
from base_station.page import add_page
from base_station.settings import Settings, page_url
from base_station.store import Store
from base_station.watch import Watch, process_name, ticking

LONGEST_STOP_S = 1
"""Whole seconds that requests in flight get when the station stops; open pages are let go then."""


def serve(
    settings: Settings, listening: socket.socket, *, now: Callable[[], datetime], on_ready: Callable[[str], None]
) -> None:
    """Run the station until SIGTERM or SIGINT, which is raised once more at the end.

    Args:
        settings: where the data is.
        listening: a socket that listens.
        now: station time, UTC.
        on_ready: called with the page's address once requests are answered.

    Raises:
        ConfigError: the database or the station's key cannot be used.
    """
    told = read_config(settings.data)
    with contextlib.closing(Store(settings.database_url)) as store:
        keys = open_ring(settings.key_file, make=not store.devices())
        app = build_api(store, Inbox(store, keys), now, told.rules)
        add_page(app, store, now)
        for name in ("uvicorn", "nicegui"):
            logging.getLogger(name).setLevel(logging.WARNING)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=LONGEST_STOP_S,
        )
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        url = page_url(settings.host, listening.getsockname()[1])
        postman = Postman(store.database, open_channels(told.ways), now, process_name())
        with ticking(Watch(store, told, now)), ticking(postman):
            _Server(config, lambda: on_ready(url)).run(sockets=[listening])


def _is_news(record: logging.LogRecord) -> bool:
    """Keep out of the log what only says that the station stopped while somebody was still sending."""
    cancelled = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cancelled and "timeout graceful shutdown exceeded" not in record.getMessage()


class _Server(uvicorn.Server):
    """A server that says when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()
