"""The look around (`watch`) and the messages to people in a process of their own, which `serve` starts and keeps alive.

What goes through ten thousand devices would keep requests waiting if it shared their interpreter. Both processes meet
in the database alone.
"""

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from base_station.choices import Choices, Ways
from base_station.config import read_config
from base_station.deliver import Postman
from base_station.keys import open_ring
from base_station.notify_rules import open_channels
from base_station.settings import Settings
from base_station.store import Store
from base_station.watch import Watch, process_name, ticking

log = logging.getLogger(__name__)

AGAIN_S = 5.0
"""One that ended by itself is started anew after so long."""
LONGEST_STOP_S = 1.0
"""Nobody waits longer for its end, which comes anyway: it has lost the other end of its input."""
_NICE = 5
"""Devices that wait for their receipts come first."""


def look_around(settings: Settings, now: Callable[[], datetime], until: Callable[[], object]) -> None:
    """Look around and tell people, until `until` returns.

    Args:
        settings: where the data is.
        now: station time, UTC.
        until: returns when it is over.

    Raises:
        ConfigError: the database or station.yaml cannot be used.
    """
    told = read_config(settings.data)
    with contextlib.suppress(OSError):  # a hardened unit forbids it, and that must not end what tells people
        os.nice(_NICE)
    with contextlib.closing(Store(settings.database_url)) as store:
        open_channels(told.ways)  # what is wrong in the file stops the start
        choices = Choices(store.database, open_ring(settings.key_file, make=not store.any_device()))
        postman = Postman(store.database, Ways(lambda: choices.joined(told)), now, process_name())
        with ticking(Watch(store, lambda: choices.joined(told), now)), ticking(postman):
            until()


@contextlib.contextmanager
def lookout(settings: Settings) -> Iterator[None]:
    """Keep a process that looks around while the block runs; it ends with this one, however this one ends."""
    stop = threading.Event()
    keeper = _Keeper(settings, stop)
    thread = threading.Thread(target=keeper.run, name="lookout", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        keeper.end()
        thread.join(timeout=LONGEST_STOP_S)


class _Keeper:
    """Starts it again and again."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._settings = settings
        self._stop = stop
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Start it, wait for its end, and start it anew unless all is over."""
        while not self._stop.is_set():
            with self._lock:
                if self._stop.is_set():
                    return
                self._process = _started(self._settings)
            code = self._process.wait()
            if not self._stop.is_set():
                log.error("the look around ended with code %d; it is started anew in %.0f s", code, AGAIN_S)
            self._stop.wait(AGAIN_S)

    def end(self) -> None:
        """Let it end, at once where it is still starting."""
        with self._lock:
            if self._process is not None:
                self._process.terminate()


def _started(settings: Settings) -> "subprocess.Popen[bytes]":
    # the URL may hold a password, and other users see the arguments of a command
    environment = {**os.environ, **({} if settings.database is None else {"CURUPIRA_DATABASE": settings.database})}
    if settings.database is None:
        environment.pop("CURUPIRA_DATABASE", None)
    data = str(Path(settings.data).absolute())
    command = [sys.executable, "-m", "base_station", "watch", "--data", data]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
