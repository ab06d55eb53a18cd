"""The way to the station, and the only code that retries.

`StationLink` carries one signed request and says what came back; `Uplink` decides what that means for the alert
(docs/protocol.md, "An answer"). Only what the station has signed counts: a captive portal's `200 OK` empties no
outbox. Everything else is tried again, with back-off for the link, and a rest for an alert that fails alone.
"""

import errno
import gzip
import http.client
import json
import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import requests
import urllib3

from agent import VERSION
from agent.alert import Heartbeat
from agent.clipbox import Clip, ClipBox
from agent.clock import DeviceClock
from agent.counter import Counter
from agent.errors import ConfigError, FieldError, StorageError, UplinkError
from agent.fields import Fields, shown
from agent.inquiry import FEWEST_ASKED, MOST_ASKED, Inquiry, question
from agent.outbox import Key, Message, Outbox, Waiting
from agent.signing import (
    HEADER_SIGNATURE,
    LARGEST_COUNTER,
    RequestSeal,
    answer_is_signed,
    sign_request,
)

log = logging.getLogger(__name__)

ALERTS = "/v1/alerts"
HEARTBEATS = "/v1/heartbeats"
CLIPS = "/v1/clips/"
"""Followed by the id of the alert."""
CHALLENGE = "/v1/challenge"
RECEIPTS = "/v1/receipts"

LARGEST_ANSWER_BYTES = 64 * 1024
SMALLEST_PACKED_BYTES = 256
"""Below this gzip's own bytes eat what it saves."""
SHORTEST_RETRY_S = 2.0
LONGEST_RETRY_S = 600.0
ANSWER_SCHEMA = 1

_STORAGE_RETRY_S = 60.0
_STOP_NOTICED_S = 1.0  # a sender that waits looks this often whether it should stop
_IDLE_CONNECTION_S = 4.0  # stations drop idle connections; a dead one costs a time-out
_PIECE_BYTES = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came back for one request."""

    status: int
    """HTTP status; 0 where the request went out and no whole answer came back."""
    signed: bool = False
    """The station's own words, about this very request; nothing else proves anything."""
    kind: str = ""
    """`receipt`, `refused`, `counter`, `reopened`; empty unless signed."""
    document: Mapping[str, object]
    """The signed body; empty unless signed."""
    trouble: str = ""
    """Why this proves nothing, in a few words; empty when signed."""
    about_link: bool = False
    """The trouble is surely not the fault of what was sent: a portal, an unknown device, a busy station."""
    retry_after_s: float | None = None
    """What the answer asks to wait, unbounded, if it does."""


class Link(Protocol):
    """Carries one request to the station; the seam where tests put theirs."""

    def post(self, path: str, body: bytes) -> Answer:
        """Send one request, signed anew, and return what came back.

        Raises:
            UplinkError: no station was reached, so nothing was sent; the text names the reason.
        """
        ...

    def jump_to(self, highest: int) -> None:
        """Number the requests from here on above `highest`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkState:
    """How the link is, for health."""

    linked: bool
    """The last attempt brought an answer that the station had signed."""
    last_receipt_s: float | None
    """Monotonic seconds of the last receipt; None before the first."""
    last_error: str
    """Why the last attempt failed: `no route`, `captive portal`, `unknown device`...; empty when linked."""


class EventHook(Protocol):
    """Where changes are told, with their reason: `Journal.event` is one."""

    def __call__(self, kind: str, **fields: str | float | None) -> None:
        """Take one event."""
        ...


def backoff_s(step: int, rng: random.Random) -> float:
    """Return seconds to wait after `step` failures in a row: full jitter under a ceiling that doubles."""
    ceiling = min(LONGEST_RETRY_S, SHORTEST_RETRY_S * 2.0 ** min(step, 32))
    return rng.uniform(SHORTEST_RETRY_S, ceiling)


class Uplink:
    """Sends what waits in the outbox, the latest heartbeat after it, and never gives up."""

    def __init__(
        self,
        outbox: Outbox,
        link: Link,
        clock: DeviceClock,
        rng: random.Random,
        on_event: EventHook,
        clips: ClipBox | None = None,
    ) -> None:
        """Put the sender together; nothing is sent before `deliver_one` or `run`."""
        self._outbox = outbox
        self._link = link
        self._clock = clock
        self._rng = rng
        self._on_event = on_event
        self._clips = clips
        self._inquiry = Inquiry()
        self._heartbeat: Heartbeat | None = None
        self._failures = 0  # in a row, of the link
        self._retry_at_s = 0.0
        self._told_to_wait = False
        self._newest_tried = 0
        self._reopened = False
        self._failed: list[Message] = []  # since the last success, perhaps through their own fault
        self._suspects: set[tuple[str, int]] = set()  # failed once while the link, as it turned out, was good
        self._down_since_s: float | None = None
        self._state = LinkState(linked=False, last_receipt_s=None, last_error="")

    @property
    def state(self) -> LinkState:
        """Return how the link is."""
        return self._state

    def beat(self, heartbeat: Heartbeat) -> None:
        """Take the latest heartbeat; it goes after the alerts, and an older one that still waits is forgotten."""
        self._heartbeat = heartbeat
        self._outbox.wake.set()

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set, noticed within a second; the body of the sending thread."""
        while not stop.is_set():
            self._outbox.wake.clear()
            next_s = self.deliver_one(self._clock.monotonic_s())
            self._wait(next_s, stop)

    def _wait(self, until_s: float | None, stop: threading.Event) -> None:
        while not stop.is_set():
            left_s = _STOP_NOTICED_S if until_s is None else until_s - self._clock.monotonic_s()
            if left_s <= 0 or self._outbox.wake.wait(min(left_s, _STOP_NOTICED_S)):
                return

    def deliver_one(self, now_s: float) -> float | None:
        """Make one attempt, if one is due.

        Args:
            now_s: monotonic seconds.

        Returns:
            When to call again, in the same seconds; None: not before something new is put.
        """
        refused_until_s: float | None = None
        try:
            message = self._outbox.due(now_s)
        except StorageError as error:
            log.debug("%s", error)  # the outbox has told it once
            # a heartbeat needs no disk, and it is what says that the disk refuses
            message, refused_until_s = None, now_s + _STORAGE_RETRY_S
        if now_s < self._retry_at_s and not (message and self._is_news(message)):
            return self._retry_at_s
        if message is not None and self._inquiry.is_due and not self._is_news(message):
            wanted = self._outbox.oldest(MOST_ASKED)
            if len(wanted) >= FEWEST_ASKED:
                return self._ask(wanted, now_s)
            self._inquiry.stop()
        if message is not None:
            self._newest_tried = max(self._newest_tried, message.seq)
            return self._attempt(ALERTS, message.body, message, now_s)
        if self._heartbeat is not None:
            heartbeat, self._heartbeat = self._heartbeat, None
            return self._attempt(HEARTBEATS, heartbeat.to_json(), None, now_s)
        clip = self._clips.due() if self._clips is not None else None
        if clip is not None:
            return self._attempt_clip(clip, now_s)
        return self._outbox.next_due_s() if refused_until_s is None else refused_until_s

    def _is_news(self, message: Message) -> bool:
        """Say whether this is a saw heard just now: tried once at once, whatever the back-off, unless told to wait."""
        return message.revision == 0 and message.seq > self._newest_tried and not self._told_to_wait

    def _attempt(self, path: str, body: bytes, message: Message | None, now_s: float) -> float:
        """Send one request and return when to make the next."""
        began_s = self._clock.monotonic_s()
        try:
            answer = self._link.post(path, body)
        except UplinkError as error:
            answer = Answer(status=0, document={}, trouble=str(error), about_link=True)
        now_s += max(0.0, self._clock.monotonic_s() - began_s)
        try:
            return self._take(answer, message, now_s)
        except FieldError as error:
            garbled = replace(answer, signed=False, trouble=f"garbled answer: {error}")
            return self._failure(garbled, message, now_s)

    def _ask(self, wanted: Sequence[Waiting], now_s: float) -> float:
        """Ask which of many alerts the station has, let go of those, and return when to call again."""
        began_s = self._clock.monotonic_s()
        try:
            answer = self._link.post(RECEIPTS, question(wanted))
        except UplinkError as error:
            answer = Answer(status=0, document={}, trouble=str(error), about_link=True)
        now_s += max(0.0, self._clock.monotonic_s() - began_s)
        try:
            if answer.signed and answer.kind == "counter":
                self._inquiry.stop()  # two receipts bring it back, and a station that says so for ever stops nothing
                return self._reopen(Fields(answer.document), None, now_s)
            if answer.signed and answer.kind == "receipts":
                self._let_go(self._inquiry.answered(Fields(answer.document), wanted))
                self._state = replace(self._state, last_receipt_s=now_s)
                return self._success(None, now_s)
        except FieldError as error:
            answer = replace(answer, trouble=f"garbled answer: {error}")
        self._inquiry.stop()  # whatever it is, the alerts go on one by one
        return self._failure(replace(answer, signed=False, trouble=answer.trouble or "no answer"), None, now_s)

    def _let_go(self, keys: Sequence[Key]) -> None:
        self._outbox.delivered_all(keys)
        if self._clips is not None:
            for alert_id, revision in keys:
                if revision == 0:
                    self._clips.release(alert_id)
        log.info("the station had %d alerts already", len(keys))
        self._on_event("delivered_before", n_alerts=len(keys), reason="the station had them")

    def _attempt_clip(self, clip: Clip, now_s: float) -> float:
        """Send one clip, after all else, and return when to call again."""
        assert self._clips is not None
        began_s = self._clock.monotonic_s()
        try:
            answer = self._link.post(CLIPS + clip.alert_id, clip.body)
        except UplinkError as error:
            answer = Answer(status=0, document={}, trouble=str(error), about_link=True)
        now_s += max(0.0, self._clock.monotonic_s() - began_s)
        if answer.signed and answer.kind in ("receipt", "refused") and answer.document.get("clip") == clip.alert_id:
            self._clips.done(clip.alert_id)
            kind = "clip_delivered" if answer.kind == "receipt" else "clip_refused"
            self._on_event(kind, alert_id=clip.alert_id, reason=shown(answer.document.get("reason", "receipt")))
            return self._success(None, now_s)
        if answer.signed and answer.kind == "counter":
            try:
                return self._reopen(Fields(answer.document), None, now_s)
            except FieldError as error:
                answer = replace(answer, signed=False, trouble=f"garbled answer: {error}")
        if not answer.about_link and self._clips.failed(clip.alert_id):
            self._on_event("clip_dropped", alert_id=clip.alert_id, reason=answer.trouble or answer.kind)
        return self._failure(replace(answer, trouble=answer.trouble or "the answer names no clip"), None, now_s)

    def _take(self, answer: Answer, message: Message | None, now_s: float) -> float:
        """Act on an answer; FieldError if the station signed what this code cannot read."""
        if not answer.signed:
            return self._failure(answer, message, now_s)
        fields = Fields(answer.document)
        if answer.kind == "counter":
            return self._reopen(fields, message, now_s)
        if answer.kind == "receipt" and _names(fields, message):
            if message is not None:
                self._outbox.delivered(*message.key)
                if self._clips is not None and message.revision == 0:
                    self._clips.release(message.alert_id)
                self._on_event("delivered", alert_id=message.alert_id, revision=message.revision)
                self._inquiry.receipted(fields, was_known=answer.status == 200)
            self._state = replace(self._state, last_receipt_s=now_s)
            return self._success(message, now_s)
        if answer.kind == "refused" and _names(fields, message):
            self._refused(fields.text("reason", longest=2_000), message)
            return self._success(message, now_s)
        odd = replace(answer, trouble=f"the station's answer {shown(answer.kind)} does not name what was sent")
        return self._failure(odd, message, now_s)

    def _refused(self, reason: str, message: Message | None) -> None:
        if message is None:
            log.warning("the station refused a heartbeat: %s", shown(reason))
            self._on_event("heartbeat_refused", reason=reason)
            return
        self._outbox.park(*message.key, reason)
        if self._clips is not None and message.revision == 0:
            self._clips.done(message.alert_id)
        log.warning("alert %s parked, the station refused it: %s", _short(message), shown(reason))
        self._on_event("parked", alert_id=message.alert_id, revision=message.revision, reason=reason)

    def _reopen(self, fields: Fields, message: Message | None, now_s: float) -> float:
        """Answer the station's challenge for the request counter; the alert goes again right after it."""
        nonce = fields.text("nonce", longest=200, shortest=1)
        if self._reopened:
            trouble = Answer(status=409, document={}, trouble="counter refused again", about_link=True)
            return self._failure(trouble, message, now_s)
        body = json.dumps({"schema": ANSWER_SCHEMA, "nonce": nonce}).encode()
        try:
            answer = self._link.post(CHALLENGE, body)
        except UplinkError as error:
            answer = Answer(status=0, document={}, trouble=str(error))
        if not answer.signed or answer.kind != "reopened":
            trouble = replace(answer, trouble=answer.trouble or "challenge not accepted", about_link=True)
            return self._failure(trouble, message, now_s)
        highest = Fields(answer.document).integer("highest", 0, LARGEST_COUNTER - 1)
        self._link.jump_to(highest)
        self._reopened = True
        log.warning("request counter set by the station: goes on after %d", highest)
        self._on_event("counter_reopened", highest=highest)
        return now_s

    def _success(self, message: Message | None, now_s: float) -> float:
        if self._down_since_s is not None:
            down_s = now_s - self._down_since_s
            waiting = self._outbox.counts().waiting
            log.info("station reached again after %.0f s; %d alerts wait", down_s, waiting)
            self._on_event("link_up", down_s=round(down_s, 1), waiting=waiting)
        if message is not None:
            self._suspects.discard(message.key)
        self._pardon()
        self._failures = 0
        self._retry_at_s = now_s
        self._told_to_wait = False
        self._reopened = False
        self._down_since_s = None
        self._state = replace(self._state, linked=True, last_error="")
        return now_s

    def _pardon(self) -> None:
        """Let go again what failed while the link was down; what fails a second time rests for its own time."""
        for message in self._failed:
            if message.key not in self._suspects:
                self._suspects.add(message.key)
                self._outbox.wake_up(*message.key)
        self._failed.clear()

    def _failure(self, answer: Answer, message: Message | None, now_s: float) -> float:
        self._reopened = False
        self._failures += 1
        wait_s = backoff_s(self._failures, self._rng)
        self._told_to_wait = answer.retry_after_s is not None
        if answer.retry_after_s is not None:
            wait_s = max(wait_s, min(answer.retry_after_s, LONGEST_RETRY_S))
        self._retry_at_s = now_s + wait_s
        self._tell(answer, message, now_s)
        if message is not None and not answer.about_link:
            self._rest(message, answer, now_s)
        return self._retry_at_s

    def _rest(self, message: Message, answer: Answer, now_s: float) -> None:
        """Let others go first: the failure may be this alert's own, and one bad alert must not block the rest."""
        own_s = backoff_s(message.attempts + 1, self._rng)
        alone = self._outbox.counts().waiting <= 1
        until_s = max(self._retry_at_s, now_s + own_s) if alone else self._retry_at_s + own_s
        self._outbox.failed(*message.key, until_s, answer.trouble)
        if message.key not in {failed.key for failed in self._failed}:
            self._failed.append(message)

    def _tell(self, answer: Answer, message: Message | None, now_s: float) -> None:
        """Log and journal a change of state; the hundredth failure of the same kind is not one."""
        if self._down_since_s is None or answer.trouble != self._state.last_error:
            what = "heartbeat lost" if message is None else f"alert {_short(message)} kept"
            log.warning("%s, retry in %.0f s: %s", what, self._retry_at_s - now_s, answer.trouble)
            self._on_event("link_down", reason=answer.trouble, status=answer.status)
        if self._down_since_s is None:
            self._down_since_s = now_s
        self._state = replace(self._state, linked=False, last_error=answer.trouble)


def _names(fields: Fields, message: Message | None) -> bool:
    """Say whether a signed answer names what was sent; a heartbeat has no name."""
    if message is None:
        return True
    return fields.raw("alert_id") == message.alert_id and fields.integer("revision", 0, 1_000) == message.revision


def _short(message: Message) -> str:
    return f"{message.alert_id[:4]}… revision {message.revision}"


class StationLink:
    """The real link: HTTP to the station, over whichever of its addresses works."""

    def __init__(
        self,
        *,
        urls: Sequence[str],
        device_id: str,
        key: bytes,
        counter: Counter,
        clock: DeviceClock,
        ca_file: Path | None = None,
        connect_timeout_s: float = 10.0,
        read_timeout_s: float = 20.0,
    ) -> None:
        """Prepare the link; nothing is connected before the first request.

        Args:
            urls: the station's addresses, `https://host:port`, in order of preference.
            device_id: this device's name at the station.
            key: its key, from `agent.signing.read_key`.
            counter: where request numbers come from.
            clock: for boot id, time and connection ages.
            ca_file: the station's own certificate authority, PEM; None trusts the usual ones.
            connect_timeout_s: seconds for a connection.
            read_timeout_s: seconds for the answer.

        Raises:
            ConfigError: an address or the CA file cannot be used.
        """
        if not urls:
            raise ConfigError("station: no address given, expected at least one such as https://station:8443")
        self._stations = [_Station(_checked(url), _session(ca_file)) for url in urls]
        self._device_id = device_id
        self._key = key
        self._counter = counter
        self._clock = clock
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s

    def close(self) -> None:
        """Close all connections."""
        for station in self._stations:
            station.session.close()

    def jump_to(self, highest: int) -> None:
        """Number the requests from here on above `highest`."""
        self._counter.jump_to(highest)

    def post(self, path: str, body: bytes) -> Answer:
        """Try each address in turn, the one that answered last first; return the first signed answer.

        Raises:
            UplinkError: none was reached; the text names the first reason.
        """
        doubtful: Answer | None = None
        unreached: list[str] = []
        for station in list(self._stations):
            try:
                answer = self._post_to(station, path, body)
            except UplinkError as error:
                unreached.append(str(error))
                continue
            if answer.signed:
                self._stations.remove(station)
                self._stations.insert(0, station)
                return answer
            doubtful = doubtful or answer
        if doubtful is None:
            raise UplinkError(unreached[0])
        return doubtful

    def _post_to(self, station: "_Station", path: str, body: bytes) -> Answer:
        seal = RequestSeal(
            device_id=self._device_id,
            boot_id=self._clock.boot_id,
            counter=self._counter.next(),
            time_utc=self._clock.now().utc,
        )
        encoding: Mapping[str, str] = {}
        if station.takes_gzip:
            body, encoding = _packed(body)
        seal = replace(seal, signature=sign_request(self._key, "POST", path, body, seal))
        station.drop_stale_connections(self._clock.monotonic_s())
        try:
            with station.session.post(
                station.url + path,
                data=body,
                headers={"Content-Type": _content_type(path), **encoding, **seal.headers()},
                timeout=(self._connect_timeout_s, self._read_timeout_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                content = _bounded_content(response, self._read_timeout_s)
                answer = self._judged(response, content, seal)
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            station.session.close()
            trouble, sent = _trouble(error)
            if not sent:
                raise UplinkError(trouble) from error
            return Answer(status=0, document={}, trouble=trouble)
        station.used_s = self._clock.monotonic_s()
        if not answer.signed:
            station.takes_gzip = False  # an older one may stand there now, and would refuse the same bytes for ever
        elif "takes" in answer.document:
            takes = answer.document["takes"]
            station.takes_gzip = isinstance(takes, list) and "gzip" in takes
        return answer

    def _judged(self, response: requests.Response, content: bytes | None, seal: RequestSeal) -> Answer:
        signature = response.headers.get(HEADER_SIGNATURE, "")
        if content is None:
            return Answer(status=response.status_code, document={}, trouble="answer too large or too slow")
        if len(content) < _promised_bytes(response):
            return Answer(status=response.status_code, document={}, trouble="half an answer")
        if answer_is_signed(self._key, seal, content, signature):
            try:
                document = Fields(json.loads(content))
                document.integer("schema", ANSWER_SCHEMA, ANSWER_SCHEMA)
                kind = document.text("kind", longest=32)
            except (ValueError, RecursionError, FieldError) as error:
                return Answer(status=response.status_code, document={}, trouble=f"garbled answer: {error}")
            everything = {key: document.raw(key) for key in document.all_keys()}
            return Answer(status=response.status_code, signed=True, kind=kind, document=everything)
        trouble, about_link = _unsigned(response.status_code, has_signature=bool(signature))
        return Answer(
            status=response.status_code,
            document={},
            trouble=trouble,
            about_link=about_link,
            retry_after_s=_retry_after_s(response) if response.status_code in (429, 503) else None,
        )


class _Session(requests.Session):
    """Connections that know no redirect: to look ahead, requests would read the whole body of one, of any size."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: whatever redirects is not the station."""


class _Station:
    """One address of the station, with its connections."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self.url = url
        self.session = session
        self.used_s: float | None = None
        self.takes_gzip = False
        """It has said so, signed; nothing is packed before."""

    def drop_stale_connections(self, now_s: float) -> None:
        """Begin anew after a pause: over a radio link an old connection is probably dead, and says so late."""
        if self.used_s is not None and now_s - self.used_s > _IDLE_CONNECTION_S:
            self.session.close()


def _session(ca_file: Path | None) -> requests.Session:
    if ca_file is not None:
        try:
            ssl.create_default_context(cafile=str(ca_file))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{ca_file}: is not a readable certificate file (PEM): {error}") from error
    session = _Session()
    session.trust_env = False  # no proxy, netrc or CA of the environment comes between device and station
    session.verify = True if ca_file is None else str(ca_file)
    session.headers["User-Agent"] = f"curupira/{VERSION}"
    session.headers["Accept-Encoding"] = "identity"  # a small answer must not unpack into a large one
    return session


def _checked(url: str) -> str:
    """Return an address without its last slash; ConfigError if requests cannot go there."""
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        bare = not (parts.path.rstrip("/") or parts.query or parts.fragment or parts.username)
    except ValueError:
        named = bare = False
    if not (named and bare):
        raise ConfigError(f"station: {shown(url)} is not an address, expected one such as https://station:8443")
    return url.rstrip("/")


def _bounded_content(response: requests.Response, longest_s: float) -> bytes | None:
    """Return the body, or None if it is larger than any answer, or drips."""
    give_up_s = time.monotonic() + longest_s
    content = bytearray()
    while len(content) <= LARGEST_ANSWER_BYTES and time.monotonic() < give_up_s:
        piece = response.raw.read1(_PIECE_BYTES, decode_content=False)
        if not piece:
            return bytes(content)
        content += piece
    response.close()
    return None


def _unsigned(status: int, *, has_signature: bool) -> tuple[str, bool]:
    """Return what an answer without a valid signature most likely is, and whether it is surely the link's matter."""
    known = {
        401: ("unknown device", True),
        403: ("device revoked", True),
        404: ("no station at this address", True),
        413: ("too large for the station", False),
        429: ("station busy", True),
        503: ("station busy", True),
    }
    if status in known:
        return known[status]
    if has_signature:
        return "wrong signature", False
    if 200 <= status < 400:
        return "captive portal", True
    return (f"station error {status}" if status >= 500 else f"answer {status}"), False


def _packed(body: bytes) -> tuple[bytes, Mapping[str, str]]:
    """Return a body packed, with the header that says so, where that saves a tenth."""
    if len(body) < SMALLEST_PACKED_BYTES:
        return body, {}
    packed = gzip.compress(body, mtime=0)
    return (packed, {"Content-Encoding": "gzip"}) if 10 * len(packed) <= 9 * len(body) else (body, {})


def _content_type(path: str) -> str:
    return "audio/wav" if path.startswith(CLIPS) else "application/json"


def _promised_bytes(response: requests.Response) -> int:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


def _retry_after_s(response: requests.Response) -> float | None:
    """Return the seconds of a Retry-After header; one that names a date is of no use without a clock."""
    text = response.headers.get("Retry-After", "").strip()
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL)
_BEFORE_SENDING: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLCertVerificationError, "certificate not trusted"),
    (ssl.SSLError, "TLS failed"),
    (socket.gaierror, "name not found"),
    (ConnectionRefusedError, "connection refused"),
    (urllib3.exceptions.ConnectTimeoutError, "no connection in time"),
)
_AFTER_SENDING: tuple[tuple[type[BaseException], str], ...] = (
    (urllib3.exceptions.ReadTimeoutError, "no answer in time"),
    (TimeoutError, "no answer in time"),
    (urllib3.exceptions.IncompleteRead, "half an answer"),
    (http.client.IncompleteRead, "half an answer"),
    (ConnectionError, "connection lost"),
)


def _trouble(error: BaseException) -> tuple[str, bool]:
    """Return an error of the network in a few words, and whether the request may have been sent before it."""
    causes = list(_causes(error))
    if any(isinstance(cause, OSError) and cause.errno in _NO_ROUTE for cause in causes):
        return "no route", False
    for table, sent in ((_BEFORE_SENDING, False), (_AFTER_SENDING, True)):
        for kind, words in table:
            if any(isinstance(cause, kind) for cause in causes):
                return words, sent
    return f"no HTTP answer: {shown(str(error))}", True


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it wraps, each library in its own way."""
    seen: list[BaseException] = []
    queue: list[BaseException] = [error]
    while queue:
        current = queue.pop(0)
        if any(current is earlier for earlier in seen):
            continue
        seen.append(current)
        yield current
        inner = [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
        queue += [candidate for candidate in inner if isinstance(candidate, BaseException)]
