"""The station's side of the protocol (docs/protocol.md): one signed request in, one answer out.

The order is the point: the signature before anything in the body is read, the request counter before anything is
kept, the commit before the receipt. Nothing here knows of HTTP servers, so that all of it is tested as it stands.
"""

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent.alert import (
    ALERT_SCHEMA,
    HEARTBEAT_SCHEMA,
    LARGEST_ALERT_BYTES,
    LARGEST_HEARTBEAT_BYTES,
    Alert,
    Heartbeat,
)
from agent.clip import LARGEST_CLIP_BYTES, check_wav
from agent.errors import FieldError
from agent.fields import Fields, shown
from agent.signing import HEADER_SIGNATURE, RequestSeal, request_is_signed, sign_answer
from base_station.contacts import Contact, Lock
from base_station.gunzip import GZIP, TooLargeError, unpacked
from base_station.keys import KeyRing
from base_station.store import Kept, Onset, Store

log = logging.getLogger(__name__)

ALERTS = "/v1/alerts"
HEARTBEATS = "/v1/heartbeats"
CHALLENGE = "/v1/challenge"
CLIPS = "/v1/clips/"
"""Followed by the id of the alert."""

RECEIPTS = "/v1/receipts"

ANSWER_SCHEMA = 1
TAKES = ("gzip", "receipts")
"""What this station takes beyond the first version of the protocol; every receipt says so, signed."""
LARGEST_CHALLENGE_BYTES = 1024
LARGEST_QUESTION_BYTES = 128 * 1024
MOST_ASKED = 500
LARGEST_BODY = {
    ALERTS: LARGEST_ALERT_BYTES,
    HEARTBEATS: LARGEST_HEARTBEAT_BYTES,
    CHALLENGE: LARGEST_CHALLENGE_BYTES,
    CLIPS: LARGEST_CLIP_BYTES,
    RECEIPTS: LARGEST_QUESTION_BYTES,
}
"""Bytes that each kind of request may have, packed and unpacked; more is never read."""


def is_device_path(path: str) -> bool:
    """Say whether devices post there: to these paths, and to one clip below `CLIPS`."""
    if path.startswith(CLIPS):
        alert_id = path.removeprefix(CLIPS)
        return alert_id != "" and "/" not in alert_id
    return path in LARGEST_BODY


_OLDEST_NEWS = timedelta(days=365)
_FROM_THE_FUTURE = timedelta(hours=1)
"""What a device may be ahead of the station before its clock counts as wrong; the station's may be off as well."""
_LONGEST_REASON = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request of a device, whole."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def problem(status: int, title: str, detail: str, *, field: str | None = None) -> Answer:
    """Return an error for people (RFC 9457); it is never signed, so a device only tries again later."""
    document: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if field is not None:
        document["field"] = field
    headers = {"Content-Type": "application/problem+json"}
    if status == 401:
        headers["WWW-Authenticate"] = "Curupira-HMAC"
    if status == 503:
        headers["Retry-After"] = "5"
    return Answer(status=status, body=json.dumps(document).encode(), headers=headers)


class Inbox:
    """Takes what devices send."""

    def __init__(self, store: Store, keys: KeyRing) -> None:
        """Take the database and the keys to the devices' keys."""
        self._store = store
        self._keys = keys

    @property
    def store(self) -> Store:
        """Return the database."""
        return self._store

    @property
    def keys(self) -> KeyRing:
        """Return the keys to the devices' keys."""
        return self._keys

    def take(self, request: Request, now_utc: datetime) -> Answer:
        """Return the answer to one request; what it acknowledges is on disk.

        Args:
            request: whole, no larger than LARGEST_BODY allows.
            now_utc: station time.

        Raises:
            StorageError: the database refused; nothing was acknowledged.
            ConfigError: the station's key does not fit its database.
        """
        return self.take_together([(request, now_utc)])[0]

    def take_together(self, requests: Sequence[tuple[Request, datetime]]) -> list[Answer]:
        """Return the answers to requests in their order; the heartbeats among them cost the database one go.

        To be called in a transaction of their own (`Database.together`), and what `take` says holds: an error
        acknowledges nothing. It may also be that of one among them, so that each is to be taken alone then.
        """
        seals = [_seal(request) for request, _ in requests]
        callers = Counter(seal.device_id for seal in seals if isinstance(seal, RequestSeal))
        locks = self._store.locks_of(callers)
        answers: dict[int, Answer] = {}
        beats: dict[int, tuple[_Visit, Heartbeat]] = {}
        for idx, ((request, now_utc), seal) in enumerate(zip(requests, seals, strict=True)):
            visit = seal if isinstance(seal, Answer) else self._visit(request, seal, locks, now_utc)
            if isinstance(visit, Answer):
                answers[idx] = visit
                continue
            # of a device that asks twice at once, the order of its counters must be kept
            beat = visit.sound_beat(request) if callers[visit.contact.device_id] == 1 and len(requests) > 1 else None
            if beat is None or visit.contact.counter <= locks[visit.contact.device_id].highest_counter:
                answers[idx] = visit.answer(request)
            else:
                beats[idx] = visit, beat
        if beats:
            self._store.keep_heartbeats([(visit.contact, beat) for visit, beat in beats.values()])
            answers.update((idx, visit.receipt()) for idx, (visit, _) in beats.items())
        return [answers[idx] for idx in range(len(requests))]

    def _visit(
        self, request: Request, seal: RequestSeal, locks: Mapping[str, Lock], now_utc: datetime
    ) -> "_Visit | Answer":
        """Return a request whose signature is right, else what it is answered."""
        lock = locks.get(seal.device_id)
        key = self._keys.open(self._keys.dummy if lock is None else lock.sealed_key)
        signed = request_is_signed(key, "POST", request.path, request.body, seal)
        if lock is None or not signed:
            log.warning("request of %s not taken: unknown device or wrong signature", seal.device_id)
            return problem(401, "not known", "unknown device, or the signature does not fit its key")
        if lock.revoked_utc is not None:
            log.warning("request of %s not taken: revoked", seal.device_id)
            return problem(403, "revoked", f"device {seal.device_id} was revoked")
        return _Visit(self._store, key, seal, now_utc)


def _seal(request: Request) -> RequestSeal | Answer:
    try:
        return RequestSeal.parse(request.headers)
    except FieldError as error:
        return problem(401, "not signed", str(error), field=error.key)


class _Visit:
    """One request whose signature is right."""

    def __init__(self, store: Store, key: bytes, seal: RequestSeal, now_utc: datetime) -> None:
        self._store = store
        self._key = key
        self._seal = seal
        self.contact = Contact(
            device_id=seal.device_id,
            boot_id=seal.boot_id,
            counter=seal.counter,
            at_utc=now_utc,
            clock_offset_s=_clock_offset_s(seal.time_utc, now_utc),
        )

    def answer(self, request: Request) -> Answer:
        """Return the answer; FieldErrors end here."""
        takes = {
            ALERTS: self._alert,
            HEARTBEATS: self._heartbeat,
            CHALLENGE: self._challenge,
            RECEIPTS: self._receipts,
        }
        try:
            body = _unpacked(request)
            if request.path.startswith(CLIPS):
                return self._clip(request.path.removeprefix(CLIPS), body)
            return takes[request.path](body)
        except TooLargeError as error:
            if self._store.note_contact(self.contact) is Kept.STALE:
                return self._counter()
            log.warning("request of %s not taken: %s", self._seal.device_id, error)
            return problem(413, "too large", str(error))
        except FieldError as error:
            if self._store.note_contact(self.contact) is Kept.STALE:
                return self._counter()
            log.warning("request of %s not taken: %s", self._seal.device_id, error)
            return problem(400, "cannot be read", _short(error), field=_short(error.key))

    def _alert(self, body: bytes) -> Answer:
        name = _name(_document(body, ALERT_SCHEMA))
        try:
            alert = Alert.from_json(body)
            self._check_device(alert.device_id)
        except FieldError as error:
            if self._store.note_contact(self.contact) is Kept.STALE:
                return self._counter()
            return self._refused(name, _short(error))
        kept = self._store.keep_alert(self.contact, alert, body, onset(alert, self.contact))
        if kept is Kept.STALE:
            return self._counter()
        if kept is Kept.CLASH:
            return self._refused(name, "alert_id: another alert revision has this name already")
        if kept is Kept.NEW:
            log.info("alert %s revision %d of %s: %s", alert.alert_id, alert.revision, alert.device_id, alert.label)
        return self._signed(201 if kept is Kept.NEW else 200, "receipt", {**name, **self._station_utc()})

    def _clip(self, alert_id: str, body: bytes) -> Answer:
        name = {"clip": alert_id}
        try:
            check_wav(body)
        except FieldError as error:
            if self._store.note_contact(self.contact) is Kept.STALE:
                return self._counter()
            return self._refused(name, _short(error))
        kept = self._store.keep_clip(self.contact, alert_id, body)
        if kept is Kept.STALE:
            return self._counter()
        if kept is None:
            return self._refused(name, "no alert of this device has that id")
        if kept is Kept.CLASH:
            return self._refused(name, "another clip is here already")
        return self._signed(201 if kept is Kept.NEW else 200, "receipt", {**name, **self._station_utc()})

    def sound_beat(self, request: Request) -> Heartbeat | None:
        """Return the heartbeat that a request brings; None where it brings another thing, or there is a fault in it."""
        if request.path != HEARTBEATS:
            return None
        with contextlib.suppress(TooLargeError, FieldError):
            body = _unpacked(request)
            _document(body, HEARTBEAT_SCHEMA)
            return self._beat(body)
        return None

    def _heartbeat(self, body: bytes) -> Answer:
        _document(body, HEARTBEAT_SCHEMA)
        try:
            heartbeat = self._beat(body)
        except FieldError as error:
            if self._store.note_contact(self.contact) is Kept.STALE:
                return self._counter()
            return self._refused({}, _short(error))
        if self._store.keep_heartbeat(self.contact, heartbeat) is Kept.STALE:
            return self._counter()
        return self.receipt()

    def _beat(self, body: bytes) -> Heartbeat:
        heartbeat = Heartbeat.from_json(body)
        self._check_device(heartbeat.device_id)
        return heartbeat

    def receipt(self) -> Answer:
        """Return the answer to a heartbeat that was kept."""
        return self._signed(200, "receipt", self._station_utc())

    def _challenge(self, body: bytes) -> Answer:
        fields = _document(body, ANSWER_SCHEMA)
        fields.integer("schema", 1, ANSWER_SCHEMA)
        nonce = fields.text("nonce", longest=64, shortest=1)
        fields.done()
        highest = self._store.use_nonce(self.contact, nonce)
        if highest is None:
            return self._counter()
        log.info("request counter of %s goes on after %d", self._seal.device_id, highest)
        return self._signed(200, "reopened", {"highest": highest})

    def _receipts(self, body: bytes) -> Answer:
        """Say which alert revisions are on disk, byte for byte as the device has them."""
        fields = _document(body, ANSWER_SCHEMA)
        fields.integer("schema", 1, ANSWER_SCHEMA)
        asked = [_asked(Fields(one, "alerts")) for one in fields.sequence("alerts", longest=MOST_ASKED)]
        fields.done()
        if self._store.note_contact(self.contact) is Kept.STALE:
            return self._counter()
        here = self._store.digests(self._seal.device_id, {alert_id for alert_id, *_ in asked})
        have = [
            [alert_id, revision] for alert_id, revision, digest in asked if here.get((alert_id, revision)) == digest
        ]
        return self._signed(200, "receipts", {"have": have, **self._station_utc()})

    def _check_device(self, device_id: str) -> None:
        if device_id != self._seal.device_id:
            raise FieldError("device_id", f"is {device_id}, but {self._seal.device_id} signed the request")

    def _counter(self) -> Answer:
        """Answer a request whose counter was used before: a copy of an old one, or a device that lost its counter."""
        nonce, highest = self._store.make_nonce(self.contact.device_id, self.contact.at_utc)
        log.info("request %d of %s not taken: highest so far is %d", self._seal.counter, self._seal.device_id, highest)
        return self._signed(409, "counter", {"nonce": nonce, "highest": highest})

    def _refused(self, name: Mapping[str, object], reason: str) -> Answer:
        log.warning("request of %s refused for good: %s", self._seal.device_id, reason)
        return self._signed(422, "refused", {**name, "reason": reason})

    def _station_utc(self) -> Mapping[str, object]:
        return {"station_utc": iso(self.contact.at_utc), "takes": TAKES}

    def _signed(self, status: int, kind: str, fields: Mapping[str, object]) -> Answer:
        body = json.dumps({"schema": ANSWER_SCHEMA, "kind": kind, **fields}).encode()
        seal = self._seal
        signature = sign_answer(self._key, seal.device_id, seal.boot_id, seal.counter, body)
        return Answer(
            status=status, body=body, headers={"Content-Type": "application/json", HEADER_SIGNATURE: signature}
        )


def onset(alert: Alert, contact: Contact) -> Onset:
    """Return when an event began, by the best clock there is; never a time that the arrival proves wrong."""
    before_raised_s = max(0.0, alert.raised_s - alert.onset_s)
    arrived = contact.at_utc
    with contextlib.suppress(ValueError, OverflowError):
        utc = datetime.fromisoformat(alert.clock.utc) - timedelta(seconds=before_raised_s)
        source = "device"
        doubtful = alert.clock.utc_certainty != "synced"
        # the offset was measured just now; it holds for the alert if the device has not restarted in between
        if doubtful and contact.clock_offset_s is not None and alert.clock.boot_id == contact.boot_id:
            utc, source = utc + timedelta(seconds=contact.clock_offset_s), "corrected"
        usable = source == "corrected" or alert.clock.utc_certainty != "unset"
        if usable and arrived - _OLDEST_NEWS <= utc <= arrived + _FROM_THE_FUTURE:
            return Onset(utc=utc, source=source)
    held_s = min(before_raised_s, _OLDEST_NEWS.total_seconds())
    return Onset(utc=arrived - timedelta(seconds=held_s), source="received")


def iso(moment: datetime) -> str:
    """Return a time as the wire has it: ISO 8601, UTC, milliseconds, Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clock_offset_s(device_utc: str, station_utc: datetime) -> float | None:
    """Return station time less device time, or None if the device's cannot be read."""
    try:
        device = datetime.fromisoformat(device_utc)
    except ValueError:
        return None
    aware = device if device.tzinfo else device.replace(tzinfo=UTC)
    return (station_utc - aware).total_seconds()


def _document(body: bytes, newest_schema: int) -> Fields:
    """Return the body as a mapping.

    Raises:
        FieldError: not JSON, text that no database keeps, or of a schema that is newer than this station. None of
            these is refused for good: the first two cannot come from a sound device, and the last must wait in
            its outbox until the station is brought up to date.
    """
    try:
        document = json.loads(body)
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise FieldError("document", f"is not JSON in UTF-8: {error}") from error
    fields = Fields(document)
    schema = fields.raw("schema")
    if isinstance(schema, int) and schema > newest_schema:
        raise FieldError("schema", f"is {shown(schema)}, this station knows up to {newest_schema}; update the station")
    return fields


def _name(fields: Fields) -> Mapping[str, object]:
    """Return what names an alert revision, as an answer repeats it."""
    return {
        "alert_id": fields.text("alert_id", longest=36, shortest=36),
        "revision": fields.integer("revision", 0, 1000),
    }


def _asked(fields: Fields) -> tuple[str, int, bytes]:
    """Return what one line of a question names: alert, revision and the SHA-256 of its body."""
    alert_id = fields.text("alert_id", longest=36, shortest=36)
    revision = fields.integer("revision", 0, 1000)
    digest = fields.text("sha256", longest=64, shortest=64)
    fields.done()
    try:
        return alert_id, revision, bytes.fromhex(digest)
    except ValueError as error:
        raise FieldError(fields.name("sha256"), "is not hexadecimal") from error


def _unpacked(request: Request) -> bytes:
    """Return the body as it was before the device packed it.

    Raises:
        TooLargeError: it unpacks to more than there may be.
        FieldError: it cannot be unpacked.
    """
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return request.body
    if encoding != GZIP:
        raise FieldError("Content-Encoding", f"is {shown(encoding)}, expected gzip or none")
    return unpacked(request.body, LARGEST_BODY[CLIPS if request.path.startswith(CLIPS) else request.path])


def _short(error: object) -> str:
    text = str(error)
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "…"
