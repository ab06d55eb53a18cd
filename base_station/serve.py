"""The running station: API and, where wanted, page in one process, until it is told to stop; over TLS after `init`."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from datetime import datetime

import uvicorn

from agent.errors import ConfigError
from base_station.accounts import OPERATOR, Accounts
from base_station.api import build_api
from base_station.authority import names_of, renew, server_file
from base_station.checkpoints import checkpoints
from base_station.choices import Choices
from base_station.config import read_config
from base_station.inbox import Inbox
from base_station.keys import open_ring
from base_station.lookout import lookout
from base_station.roll import RollCall
from base_station.settings import Settings, page_url
from base_station.store import Store
from base_station.tiles import open_tiles

log = logging.getLogger(__name__)

_CARE_EVERY_S = 3600.0
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
        on_ready: called with the station's address once requests are answered.

    Raises:
        ConfigError: the database or the station's key cannot be used, or other machines could reach a station that
            has no operator with a password, or the file of the map's tiles is none.
    """
    told = read_config(settings.data)
    tiles = None if told.page.tiles is None else open_tiles(settings.data / told.page.tiles)
    with contextlib.closing(Store(settings.database_url)) as store:
        keys = open_ring(settings.key_file, make=not store.any_device())
        if settings.tls:
            renew(settings.tls_folder, now())
        accounts = Accounts(store.database)
        if settings.exposed:
            _check_operator(accounts, settings.host)
        names = names_of(settings.tls_folder) if settings.exposed else ()
        app = build_api(store, Inbox(store, keys), now, told.rules, names=names)
        if settings.page:
            # only here: a process that answers devices alone needs a third of the memory
            from base_station.pages.frame import Site
            from base_station.pages.site_map import add_pages

            choices = Choices(store.database, keys)
            choices.joined(told)  # the pages' language is known from the first request on
            site = Site(
                store=store,
                accounts=accounts,
                keys=keys,
                settings=settings,
                told=told,
                choices=choices,
                roll=RollCall(store),
                tiles=tiles,
                now=now,
            )
            add_pages(app, site)
        for name in ("uvicorn", "nicegui"):
            logging.getLogger(name).setLevel(logging.WARNING)
        certificate = server_file(settings.tls_folder) if settings.tls else None
        config = uvicorn.Config(
            app,
            ssl_certfile=certificate,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=LONGEST_STOP_S,
        )
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        url = page_url(settings, listening.getsockname()[1])
        with lookout(settings), checkpoints(store.database):
            _Server(config, lambda: on_ready(url), lambda: _renew(settings, config, now())).run(sockets=[listening])


def _check_operator(accounts: Accounts, host: str) -> None:
    """Refuse to show the forest to other machines while nobody has to log in."""
    if not any(role == OPERATOR for _, role in accounts.people()):
        raise ConfigError(
            f"--host: {host} can be reached from other machines, and nobody has a password here; make an operator: "
            "python -m base_station user add NAME --role operator (with the same --data), or use 127.0.0.1"
        )


def _renew(settings: Settings, config: uvicorn.Config, now: datetime) -> None:
    """Take a new certificate into use, whoever made it: connections from now on get it."""
    if config.ssl is None:
        return
    try:
        if renew(settings.tls_folder, now):
            log.info("the server's certificate was renewed")
        config.ssl.load_cert_chain(server_file(settings.tls_folder))
    except (ConfigError, OSError) as error:
        log.error("the server's certificate cannot be renewed: %s; tried again in an hour", error)  # noqa: TRY400


def _is_news(record: logging.LogRecord) -> bool:
    """Keep out of the log what only says that the station stopped while somebody was still sending."""
    cancelled = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cancelled and "timeout graceful shutdown exceeded" not in record.getMessage()


class _Server(uvicorn.Server):
    """A server that says when it is ready, and sees to its certificate every hour."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], hourly: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._hourly = hourly
        self._care: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._care = asyncio.create_task(self._take_care())
            self._on_ready()

    async def _take_care(self) -> None:
        while True:
            await asyncio.sleep(_CARE_EVERY_S)
            self._hourly()
