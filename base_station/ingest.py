"""One commit for all requests of devices that wait: a disk syncs a few hundred times a second, whoever asks.

One thread takes whatever has come while the last commit was under way, answers it in one transaction, and lets the
answers go when that is on disk. A request that the database refuses spoils nobody else's: its group is undone, and each
of it is taken alone.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from agent.errors import StorageError
from base_station.database import Database
from base_station.inbox import Answer, Inbox, Request

log = logging.getLogger(__name__)

MOST_TOGETHER = 64
"""Requests in one commit: the first of them waits for the last."""
_REFUSALS = 2
"""So many refusals one after the other are not about the requests: the database is gone."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: Request
    now_utc: datetime
    answer: "Future[Answer]" = field(default_factory=Future)


class Ingest:
    """Takes what devices send, many at once."""

    def __init__(self, inbox: Inbox, database: Database) -> None:
        """Take what answers one request, and the database that it answers from."""
        self._inbox = inbox
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ingest")
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._busy = False

    def take(self, request: Request, now_utc: datetime) -> "Future[Answer]":
        """Return the answer to come: what it acknowledges is on disk then, and its errors are those of Inbox.take."""
        waiting = _Waiting(request, now_utc)
        with self._lock:
            self._queue.append(waiting)
            if not self._busy:
                self._busy = True
                self._thread.submit(self._work)
        return waiting.answer

    def _work(self) -> None:
        while some := self._next():
            try:
                self._together(some)
            except Exception as error:  # noqa: BLE001  # whatever it is: nobody may wait for ever
                for waiting in some:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)

    def _next(self) -> Sequence[_Waiting]:
        """Return who comes next; whose client has gone already is not taken, and will be sent again."""
        some: list[_Waiting] = []
        with self._lock:
            while self._queue and len(some) < MOST_TOGETHER:
                waiting = self._queue.popleft()
                if waiting.answer.set_running_or_notify_cancel():
                    some.append(waiting)
            self._busy = bool(some)
        return some

    def _together(self, some: Sequence[_Waiting]) -> None:
        try:
            with self._database.together():
                answers = self._inbox.take_together([(waiting.request, waiting.now_utc) for waiting in some])
        except Exception as error:  # noqa: BLE001  # whatever one of them brought: it is told alone, below
            if len(some) > 1:
                log.info("%d requests are taken one by one: %s", len(some), error)
            self._alone(some)
            return
        for waiting, answer in zip(some, answers, strict=True):
            waiting.answer.set_result(answer)

    def _alone(self, some: Sequence[_Waiting]) -> None:
        refused = 0
        for waiting in some:
            try:
                answer = self._inbox.take(waiting.request, waiting.now_utc) if refused < _REFUSALS else None
            except Exception as error:  # noqa: BLE001  # goes to whoever asked
                refused += isinstance(error, StorageError)
                waiting.answer.set_exception(error)
                continue
            if answer is None:
                waiting.answer.set_exception(StorageError("database: refuses everything"))
            else:
                refused = 0
                waiting.answer.set_result(answer)
