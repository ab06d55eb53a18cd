"""The way to the station: what empties the outbox, what does not, and when it is tried again."""

import functools
import gzip
import http.server
import itertools
import json
import random
import shutil
import socket
import ssl
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.alert import Alert, Clock, Heartbeat
from agent.clipbox import ClipBox
from agent.clock import DeviceClock
from agent.counter import Counter
from agent.errors import ConfigError, StorageError, UplinkError
from agent.outbox import Outbox
from agent.signing import HEADER_SIGNATURE, RequestSeal, new_key, request_is_signed, sign_answer
from agent.uplink import (
    ALERTS,
    CHALLENGE,
    CLIPS,
    HEARTBEATS,
    LARGEST_ANSWER_BYTES,
    LONGEST_RETRY_S,
    SHORTEST_RETRY_S,
    Answer,
    StationLink,
    Uplink,
    backoff_s,
)

KEY = bytes(range(32))
DEVICE = "ipe-07"
UTC = "2026-11-20T11:42:07.250Z"


def make_alert(number: int, revision: int = 0) -> Alert:
    return Alert(
        alert_id=str(uuid.UUID(int=number)),
        revision=revision,
        state="closed" if revision else "open",
        device_id=DEVICE,
        label="chainsaw",
        score=0.97,
        onset_s=12.0,
        raised_s=15.0,
        clock=Clock(boot_id="0123-4567", monotonic_s=1.0, utc=UTC, utc_certainty="guess"),
        model_digest="9f2c51d0a7b3e844",
        level_dbfs=-31.5,
    )


def make_heartbeat(windows: int = 0) -> Heartbeat:
    return Heartbeat(
        device_id=DEVICE,
        version="0.1.0",
        clock=Clock(boot_id="0123-4567", monotonic_s=1.0, utc=UTC, utc_certainty="guess"),
        model_digest="9f2c51d0a7b3e844",
        uptime_s=1.0,
        audio_s=1.0,
        audio_per_wall=1.0,
        windows=windows,
        classified=0,
        top_scores={},
        level_dbfs=-60.0,
        states=(),
        queue=0,
        dropped_s=0.0,
        disk_free_mb=1.0,
        rss_mb=1.0,
    )


def receipt_for(body: bytes) -> dict[str, object]:
    sent = json.loads(body)
    named = {"alert_id": sent["alert_id"], "revision": sent["revision"]} if "alert_id" in sent else {}
    return {"schema": 1, "kind": "receipt", "station_utc": UTC, **named}


def signed(document: dict[str, object], status: int = 200) -> Answer:
    return Answer(status=status, signed=True, kind=str(document["kind"]), document=document)


def unsigned(trouble: str = "station error 500", *, about_link: bool = False) -> Answer:
    return Answer(status=500, document={}, trouble=trouble, about_link=about_link)


@dataclass
class ScriptedLink:
    """A link whose answers a test decides, request by request."""

    answer: Callable[[str, bytes], Answer] = lambda _, body: signed(receipt_for(body))
    sent: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    jumps: list[int] = field(default_factory=list)

    def post(self, path: str, body: bytes) -> Answer:
        self.sent.append((path, json.loads(body)))
        return self.answer(path, body)

    def jump_to(self, highest: int) -> None:
        self.jumps.append(highest)

    def numbers(self) -> list[tuple[int, int]]:
        return [
            (uuid.UUID(str(doc["alert_id"])).int, int(str(doc["revision"])))
            for path, doc in self.sent
            if path == ALERTS
        ]


class Forest:
    """An outbox, an uplink, and a clock that the test owns."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1000.0
        self.clock = DeviceClock(wall=lambda: 1.8e9, monotonic=lambda: self.now_s, synchronised=lambda: False)
        self.outbox = Outbox(folder / "outbox.db")
        self.link = ScriptedLink()
        self.events: list[tuple[str, dict[str, object]]] = []
        self.uplink = Uplink(self.outbox, self.link, self.clock, random.Random(7), self.note)

    def note(self, kind: str, **fields: object) -> None:
        self.events.append((kind, fields))

    def step(self) -> float | None:
        """Make one attempt now; return when the next is due."""
        return self.uplink.deliver_one(self.now_s)

    def run_until(self, end_s: float) -> None:
        """Let the sender's time pass, jumping from attempt to attempt."""
        while self.now_s < end_s:
            next_s = self.step()
            if next_s is None:
                return
            self.now_s = max(self.now_s, next_s)

    def waiting(self) -> int:
        return self.outbox.counts().waiting

    def event_kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


@pytest.fixture
def forest(tmp_path: Path) -> Iterator[Forest]:
    made = Forest(tmp_path)
    yield made
    made.outbox.close()


# What counts as an answer


def test_a_signed_receipt_empties_the_outbox(forest: Forest) -> None:
    forest.outbox.put(make_alert(1))
    assert forest.step() == forest.now_s
    assert forest.waiting() == 0
    assert forest.step() is None
    assert forest.uplink.state.linked
    assert forest.uplink.state.last_receipt_s == forest.now_s


def with_changes(**changes: object) -> Callable[[str, bytes], Answer]:
    return lambda _, body: signed({**receipt_for(body), **changes})


NOT_RECEIPTS: dict[str, Callable[[str, bytes], Answer]] = {
    "unsigned 200": lambda _, body: Answer(
        status=200, document=receipt_for(body), kind="receipt", trouble="captive portal"
    ),
    "another alert": with_changes(alert_id=str(uuid.UUID(int=2))),
    "another revision": with_changes(revision=1),
    "revision of another kind": with_changes(revision="0"),
    "revision true": with_changes(revision=False),
    "no name": lambda _, __: signed({"schema": 1, "kind": "receipt"}),
    "unknown kind": with_changes(kind="blessing"),
    "refused without a name": lambda _, __: signed({"schema": 1, "kind": "refused", "reason": "x"}),
    "refused another": lambda _, __: signed(
        {"schema": 1, "kind": "refused", "alert_id": str(uuid.UUID(int=2)), "revision": 0, "reason": "x"}
    ),
    "refused without a reason": with_changes(kind="refused"),
    "unsigned refusal": lambda _, body: Answer(
        status=422, document={**receipt_for(body), "reason": "x"}, kind="refused", trouble="answer 422"
    ),
    "reopened out of turn": lambda _, __: signed({"schema": 1, "kind": "reopened", "highest": 9}),
    "counter without a nonce": lambda _, __: signed({"schema": 1, "kind": "counter"}),
    **{
        f"unsigned {status}": (lambda _, __, status=status: Answer(status=status, document={}, trouble=str(status)))
        for status in (401, 403, 404, 409, 413, 422, 429, 500)
    },
}


@pytest.mark.parametrize("case", NOT_RECEIPTS)
def test_nothing_but_a_signed_answer_that_names_the_alert_moves_it(forest: Forest, case: str) -> None:
    forest.link.answer = NOT_RECEIPTS[case]
    forest.outbox.put(make_alert(1))
    next_s = forest.step()
    assert next_s is not None
    assert next_s >= forest.now_s + SHORTEST_RETRY_S
    assert (forest.waiting(), forest.outbox.counts().parked) == (1, 0)
    assert not forest.uplink.state.linked
    assert forest.uplink.state.last_error
    forest.link.answer = lambda _, body: signed(receipt_for(body))
    forest.run_until(forest.now_s + 2 * LONGEST_RETRY_S)
    assert forest.waiting() == 0


def test_a_signed_refusal_that_names_the_alert_parks_it_with_its_reason(forest: Forest) -> None:
    def answer(_: str, body: bytes) -> Answer:
        document = receipt_for(body)
        if document["alert_id"] == str(uuid.UUID(int=2)):
            document |= {"kind": "refused", "reason": "label: unknown"}
        return signed(document)

    forest.link.answer = answer
    for number in (1, 2, 3):
        forest.outbox.put(make_alert(number))
    forest.run_until(forest.now_s + 1)
    assert (forest.waiting(), forest.outbox.counts().parked) == (0, 1)
    parked = [fields for kind, fields in forest.events if kind == "parked"]
    assert parked == [{"alert_id": str(uuid.UUID(int=2)), "revision": 0, "reason": "label: unknown"}]


# The counter


def test_a_lost_counter_is_reopened_and_the_alert_goes_on(forest: Forest) -> None:
    def answer(path: str, body: bytes) -> Answer:
        if path == CHALLENGE:
            assert json.loads(body) == {"schema": 1, "nonce": "n-1"}
            return signed({"schema": 1, "kind": "reopened", "highest": 4711})
        if not forest.link.jumps:
            return signed({"schema": 1, "kind": "counter", "nonce": "n-1", "highest": 4711}, 409)
        return signed(receipt_for(body))

    forest.link.answer = answer
    forest.outbox.put(make_alert(1))
    forest.run_until(forest.now_s + 0.1)
    assert forest.link.jumps == [4711]
    assert forest.waiting() == 0
    assert "counter_reopened" in forest.event_kinds()


@pytest.mark.parametrize(
    "challenge",
    [
        unsigned(),
        signed({"schema": 1, "kind": "reopened", "highest": 2**60}),
        signed({"schema": 1, "kind": "reopened"}),
        signed({"schema": 1, "kind": "receipt"}),
    ],
)
def test_a_challenge_that_fails_is_one_failure_like_any_other(forest: Forest, challenge: Answer) -> None:
    forest.link.answer = lambda path, _: (
        challenge if path == CHALLENGE else signed({"schema": 1, "kind": "counter", "nonce": "n", "highest": 1}, 409)
    )
    forest.outbox.put(make_alert(1))
    next_s = forest.step()
    assert next_s is not None
    assert next_s > forest.now_s
    assert forest.waiting() == 1
    assert forest.link.jumps == []


def test_a_link_lost_before_the_challenge_is_a_failure_too(forest: Forest) -> None:
    def answer(path: str, _: bytes) -> Answer:
        if path == CHALLENGE:
            raise UplinkError("connection refused")
        return signed({"schema": 1, "kind": "counter", "nonce": "n", "highest": 1}, 409)

    forest.link.answer = answer
    forest.outbox.put(make_alert(1))
    assert forest.step() != forest.now_s
    assert forest.uplink.state.last_error == "connection refused"


def test_a_station_that_never_accepts_the_counter_is_not_asked_in_a_circle(forest: Forest) -> None:
    forest.link.answer = lambda path, _: signed(
        {"schema": 1, "kind": "reopened", "highest": 5}
        if path == CHALLENGE
        else {"schema": 1, "kind": "counter", "nonce": "n", "highest": 5}
    )
    forest.outbox.put(make_alert(1))
    forest.run_until(forest.now_s + 600)
    assert 4 < len(forest.link.sent) < 200
    assert forest.waiting() == 1


# When it is tried again


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_backoff_stays_between_its_floor_and_a_ceiling_that_doubles(step: int, seed: int) -> None:
    ceiling_s = min(LONGEST_RETRY_S, SHORTEST_RETRY_S * 2 ** min(step, 20))
    assert SHORTEST_RETRY_S <= backoff_s(step, random.Random(seed)) <= ceiling_s


def test_backoff_uses_all_of_its_span() -> None:
    for step in (1, 5, 30):
        ceiling_s = min(LONGEST_RETRY_S, SHORTEST_RETRY_S * 2**step)
        waits = [backoff_s(step, random.Random(seed)) for seed in range(400)]
        span_s = ceiling_s - SHORTEST_RETRY_S
        assert min(waits) < SHORTEST_RETRY_S + 0.05 * span_s
        assert max(waits) > ceiling_s - 0.05 * span_s
        assert abs(sum(waits) / 400 - (SHORTEST_RETRY_S + ceiling_s) / 2) < 0.1 * span_s


def test_a_long_outage_is_asked_seldom_and_ends_at_once_for_a_new_saw(forest: Forest) -> None:
    def refuse(_: str, __: bytes) -> Answer:
        raise UplinkError("connection refused")

    forest.link.answer = refuse
    forest.outbox.put(make_alert(1))
    forest.run_until(forest.now_s + 86_400)
    assert 100 < len(forest.link.sent) < 500
    assert forest.outbox.due(forest.now_s).attempts == 0  # type: ignore[union-attr]  # the link was at fault: no flash write
    forest.link.answer = lambda _, body: signed(receipt_for(body))
    forest.outbox.put(make_alert(2))
    forest.link.sent.clear()
    forest.step()
    forest.step()
    assert forest.link.numbers() == [(2, 0), (1, 0)]
    assert forest.event_kinds() == ["link_down", "delivered", "link_up", "delivered"]


def test_a_new_saw_is_tried_once_and_then_waits_like_the_rest(forest: Forest) -> None:
    forest.link.answer = lambda _, __: unsigned("captive portal", about_link=True)
    for number in range(1, 6):
        forest.outbox.put(make_alert(number))
        forest.step()
        forest.step()
        forest.step()
    assert len(forest.link.sent) == 5


def test_a_success_takes_the_backoff_away(forest: Forest) -> None:
    up = False
    forest.link.answer = lambda _, body: signed(receipt_for(body)) if up else unsigned("portal", about_link=True)
    forest.outbox.put(make_alert(1))
    forest.run_until(forest.now_s + 20_000)
    up = True
    forest.run_until(forest.now_s + 2_000)
    assert forest.waiting() == 0
    up = False
    forest.outbox.put(make_alert(2))
    next_s = forest.step()
    assert next_s is not None
    assert next_s <= forest.now_s + 2 * SHORTEST_RETRY_S


def test_time_spent_on_an_attempt_counts_before_the_wait(forest: Forest) -> None:
    def hang(_: str, __: bytes) -> Answer:
        forest.now_s += 30.0
        return unsigned("no answer in time")

    forest.link.answer = hang
    forest.outbox.put(make_alert(1))
    began_s = forest.now_s
    next_s = forest.step()
    assert next_s is not None
    assert next_s >= began_s + 30.0 + SHORTEST_RETRY_S


@pytest.mark.parametrize(("asked_s", "waited_s"), [(120.0, 120.0), (1e9, LONGEST_RETRY_S)])
def test_a_busy_station_is_given_the_time_it_asks_for_within_bounds(
    forest: Forest, asked_s: float, waited_s: float
) -> None:
    forest.link.answer = lambda _, __: Answer(
        status=429, document={}, trouble="station busy", about_link=True, retry_after_s=asked_s
    )
    forest.outbox.put(make_alert(1))
    assert forest.step() == forest.now_s + waited_s
    forest.outbox.put(make_alert(2))  # not even a new saw goes before that
    assert forest.step() == forest.now_s + waited_s
    assert len(forest.link.sent) == 1


@pytest.mark.parametrize("bad", [1, 5, 10])
def test_one_alert_that_always_fails_never_blocks_the_rest(forest: Forest, bad: int) -> None:
    def answer(_: str, body: bytes) -> Answer:
        is_bad = json.loads(body)["alert_id"] == str(uuid.UUID(int=bad))
        return unsigned("station error 500") if is_bad else signed(receipt_for(body))

    forest.link.answer = answer
    for number in range(1, 11):
        forest.outbox.put(make_alert(number))
    forest.run_until(forest.now_s + 60)
    assert forest.waiting() == 1
    in_a_day_before = len(forest.link.sent)
    forest.run_until(forest.now_s + 86_400)
    assert len(forest.link.sent) - in_a_day_before < 500
    forest.outbox.put(make_alert(20))
    forest.step()
    assert forest.waiting() == 1


def test_an_outage_of_errors_is_forgiven_so_that_the_order_holds(forest: Forest) -> None:
    up = False
    forest.link.answer = lambda _, body: signed(receipt_for(body)) if up else unsigned("no answer in time")
    for number in range(1, 9):
        forest.outbox.put(make_alert(number))
    forest.run_until(forest.now_s + 7_200)
    up = True
    forest.link.sent.clear()
    began_s = forest.now_s
    forest.run_until(forest.now_s + LONGEST_RETRY_S)
    assert forest.waiting() == 0
    order = [number for number, _ in forest.link.numbers()]
    assert order[0] == 8 or order[1] == 8
    rest = [number for number in order[1:] if number != 8]
    assert rest == sorted(rest)
    assert forest.now_s - began_s <= LONGEST_RETRY_S


@given(st.integers(0, 2**32))
@settings(max_examples=10)
def test_a_station_that_is_up_a_tenth_of_the_time_gets_each_alert_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    forest = Forest(tmp_path_factory.mktemp("flapping"))
    chance = random.Random(seed)
    stored: dict[tuple[object, object], bytes] = {}
    created: list[tuple[object, object]] = []

    def flapping(_: str, body: bytes) -> Answer:
        document = receipt_for(body)
        name = (document["alert_id"], document["revision"])
        luck = chance.random()
        if luck < 0.5:
            raise UplinkError("connection refused")
        if luck < 0.9:
            if luck < 0.7:  # the station has it, and its receipt is lost
                created.extend([name] if name not in stored else [])
                stored.setdefault(name, body)
            return unsigned("no answer in time")
        created.extend([name] if name not in stored else [])
        stored.setdefault(name, body)
        return signed(document)

    forest.link.answer = flapping
    alerts = [make_alert(number, revision) for number in range(1, 8) for revision in (0, 1)]
    for alert in alerts:
        forest.outbox.put(alert)
        forest.run_until(forest.now_s + chance.uniform(0, 100))
    forest.run_until(forest.now_s + 7 * 86_400)
    forest.outbox.close()
    assert forest.waiting() == 0
    assert sorted(stored.values()) == sorted(alert.to_json() for alert in alerts)
    assert len(created) == len(alerts)
    for number in range(1, 8):
        name = str(uuid.UUID(int=number))
        assert created.index((name, 0)) < created.index((name, 1))
    forest.outbox.close()


def test_clock_jumps_of_the_wall_change_nothing(tmp_path: Path) -> None:
    forest = Forest(tmp_path)
    forest.clock._wall = itertools.cycle([0.0, 1.8e9, 1e12, -5.0]).__next__
    forest.link.answer = lambda _, __: unsigned()
    forest.outbox.put(make_alert(1))
    for _ in range(20):
        next_s = forest.step()
        assert next_s is not None
        assert 0 <= next_s - forest.now_s <= 2 * LONGEST_RETRY_S
        forest.now_s = next_s
    forest.outbox.close()


# Heartbeats


def test_heartbeats_go_after_alerts_and_only_the_latest(forest: Forest) -> None:
    for windows in (1, 2, 3):
        forest.uplink.beat(make_heartbeat(windows))
    forest.outbox.put(make_alert(1))
    forest.run_until(forest.now_s + 1)
    assert [path for path, _ in forest.link.sent] == [ALERTS, HEARTBEATS]
    assert forest.link.sent[1][1]["windows"] == 3


def test_a_lost_heartbeat_is_not_repeated(forest: Forest) -> None:
    forest.link.answer = lambda _, __: unsigned()
    forest.uplink.beat(make_heartbeat(1))
    next_s = forest.step()
    assert next_s is not None
    forest.now_s = next_s
    assert forest.step() is None
    assert len(forest.link.sent) == 1


def test_a_refused_heartbeat_is_told_and_the_link_is_good(forest: Forest) -> None:
    forest.link.answer = lambda _, __: signed({"schema": 1, "kind": "refused", "reason": "version"}, 422)
    forest.uplink.beat(make_heartbeat(1))
    forest.step()
    assert forest.uplink.state.linked
    assert forest.events == [("heartbeat_refused", {"reason": "version"})]


def test_heartbeats_wait_for_the_backoff(forest: Forest) -> None:
    forest.link.answer = lambda _, __: unsigned()
    forest.uplink.beat(make_heartbeat(1))
    next_s = forest.step()
    forest.uplink.beat(make_heartbeat(2))
    assert forest.step() == next_s
    assert len(forest.link.sent) == 1


# Log, storage, thread


def test_the_log_tells_changes_and_not_every_attempt(forest: Forest, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: str, __: bytes) -> Answer:
        raise UplinkError("connection refused")

    caplog.set_level("INFO")
    forest.link.answer = refuse
    forest.outbox.put(make_alert(1))
    forest.run_until(forest.now_s + 7_200)
    forest.link.answer = lambda _, body: signed(receipt_for(body))
    forest.run_until(forest.now_s + 7_200)
    lines = [record.message for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("alert 0000… revision 0 kept, retry in ")
    assert lines[0].endswith("s: connection refused")
    assert lines[1].startswith("station reached again after ")


def test_an_outbox_that_cannot_be_read_is_tried_again_later(forest: Forest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: float) -> None:
        raise StorageError("the disk refuses")

    monkeypatch.setattr(forest.outbox, "due", refuse)
    assert forest.step() == forest.now_s + 60.0


def test_a_heartbeat_goes_though_the_outbox_cannot_be_read(forest: Forest, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the heartbeat that says that the disk refuses."""

    def refuse(_: float) -> None:
        raise StorageError("the disk refuses")

    monkeypatch.setattr(forest.outbox, "due", refuse)
    forest.uplink.beat(make_heartbeat())
    forest.step()
    assert [path for path, _ in forest.link.sent] == [HEARTBEATS]


def test_the_sending_thread_starts_at_a_put_and_ends_when_told(tmp_path: Path) -> None:
    outbox, arrived, stop = Outbox(tmp_path / "outbox.db"), threading.Event(), threading.Event()

    def answer(_: str, body: bytes) -> Answer:
        arrived.set()
        return signed(receipt_for(body))

    uplink = Uplink(outbox, ScriptedLink(answer), DeviceClock(), random.Random(1), lambda kind, **_: None)
    thread = threading.Thread(target=uplink.run, args=(stop,))
    thread.start()
    outbox.put(make_alert(1))
    assert arrived.wait(10.0)
    stop.set()
    outbox.wake.set()
    thread.join(10.0)
    assert not thread.is_alive()
    assert outbox.counts().waiting == 0
    outbox.close()


# A real station on loopback, with bad manners


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the test's `manner` says."""

    protocol_version = "HTTP/1.1"
    server: "FakeStation"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        seal = RequestSeal.parse(self.headers)  # type: ignore[arg-type]  # HTTP's message is a mapping in all that counts
        assert request_is_signed(KEY, "POST", self.path, body, seal)
        self.server.seals.append(seal)
        self.server.bodies.append(body)
        self.server.manner(self, body, seal)

    def do_GET(self) -> None:
        pytest.fail("the device followed a redirect")

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


class FakeStation(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, manner: Callable[[Handler, bytes, RequestSeal], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.manner = manner
        self.seals: list[RequestSeal] = []
        self.bodies: list[bytes] = []
        self.over = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Devices that hang up are part of the tests."""


def sign(seal: RequestSeal, body: bytes, key: bytes = KEY) -> dict[str, str]:
    return {HEADER_SIGNATURE.replace("-", "_"): sign_answer(key, seal.device_id, seal.boot_id, seal.counter, body)}


def good(handler: Handler, body: bytes, seal: RequestSeal) -> None:
    answer = json.dumps(receipt_for(body)).encode()
    handler.reply(201, answer, **sign(seal, answer))


def hang(handler: Handler, body: bytes, seal: RequestSeal) -> None:
    handler.server.over.wait(20.0)


def drip(handler: Handler, body: bytes, seal: RequestSeal) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b" ")


def endless_redirect(handler: Handler, body: bytes, seal: RequestSeal) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/login")
    handler.send_header("Content-Length", str(10**12))
    handler.end_headers()
    while not handler.server.over.is_set():
        handler.wfile.write(b" " * 65_536)


def half(handler: Handler, body: bytes, seal: RequestSeal) -> None:
    answer = json.dumps(receipt_for(body)).encode()
    handler.reply(201, answer[:20], Content_Length=str(len(answer)), **sign(seal, answer))
    handler.close_connection = True


def wrong_key(handler: Handler, body: bytes, seal: RequestSeal) -> None:
    answer = json.dumps(receipt_for(body)).encode()
    handler.reply(201, answer, **sign(seal, answer, new_key()))


def signed_for_another_request(handler: Handler, body: bytes, seal: RequestSeal) -> None:
    answer = json.dumps(receipt_for(body)).encode()
    other = RequestSeal(device_id=DEVICE, boot_id=seal.boot_id, counter=seal.counter - 1, time_utc=UTC)
    handler.reply(201, answer, **sign(other, answer))


def signed_garbage(handler: Handler, body: bytes, seal: RequestSeal) -> None:
    handler.reply(200, b"[[[", **sign(seal, b"[[["))


def signed_later_schema(handler: Handler, body: bytes, seal: RequestSeal) -> None:
    answer = json.dumps({**receipt_for(body), "schema": 2}).encode()
    handler.reply(200, answer, **sign(seal, answer))


def too_large(handler: Handler, body: bytes, seal: RequestSeal) -> None:
    answer = b" " * (LARGEST_ANSWER_BYTES + 1) + json.dumps(receipt_for(body)).encode()
    handler.reply(200, answer, **sign(seal, answer))


def zipped(handler: Handler, body: bytes, seal: RequestSeal) -> None:
    handler.reply(200, zip_bomb(), Content_Encoding="gzip")


@functools.cache
def zip_bomb() -> bytes:
    return gzip.compress(b" " * 20_000_000)


def raw(content: bytes) -> Callable[[Handler, bytes, RequestSeal], None]:
    def manner(handler: Handler, body: bytes, seal: RequestSeal) -> None:
        handler.wfile.write(content)
        handler.close_connection = True

    return manner


def status(code: int, **headers: str) -> Callable[[Handler, bytes, RequestSeal], None]:
    return lambda handler, body, seal: handler.reply(code, b"<html>welcome</html>", **headers)


MANNERS: dict[str, tuple[Callable[[Handler, bytes, RequestSeal], None], str]] = {
    "hangs": (hang, "no answer in time"),
    "drips": (drip, "answer too large or too slow"),
    "answers half": (half, "half an answer"),
    "closes without a word": (raw(b""), "connection lost"),
    "speaks another language": (raw(b"\x16\x03\x01nonsense\r\n\r\n"), ""),
    "500": (status(500), "station error 500"),
    "503": (status(503), "station busy"),
    "redirects": (status(302, Location="/login"), "captive portal"),
    "307": (status(307, Location="http://127.0.0.1:9/"), "captive portal"),
    "captive portal": (status(200), "captive portal"),
    "401": (status(401), "unknown device"),
    "403": (status(403), "device revoked"),
    "404": (status(404), "no station at this address"),
    "413": (status(413), "too large for the station"),
    "429": (status(429), "station busy"),
    "418": (status(418), "answer 418"),
    "wrong key": (wrong_key, "wrong signature"),
    "another request's signature": (signed_for_another_request, "wrong signature"),
    "signed garbage": (signed_garbage, "garbled answer"),
    "signed later schema": (signed_later_schema, "garbled answer"),
    "too large": (too_large, "answer too large or too slow"),
    "redirects with an endless page": (endless_redirect, "answer too large or too slow"),
    "zip bomb": (zipped, "captive portal"),
}


SHORT_S, LONG_S = 0.5, 20.0  # time-outs for stations that never answer, and for those that do


def patience_s(case: str) -> float:
    return SHORT_S if case in ("hangs", "drips") else LONG_S


@dataclass
class Post:
    """Starts stations and links to them, and ends them after the test."""

    folder: Path
    stations: list[FakeStation] = field(default_factory=list)
    links: list[StationLink] = field(default_factory=list)

    def station(self, manner: Callable[[Handler, bytes, RequestSeal], None] = good) -> tuple[FakeStation, str]:
        server = FakeStation(manner)
        self.stations.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server, f"http://127.0.0.1:{server.server_port}"

    def link(self, *urls: str, timeout_s: float = LONG_S, ca_file: Path | None = None) -> StationLink:
        made = StationLink(
            urls=urls,
            device_id=DEVICE,
            key=KEY,
            counter=Counter(self.folder / "counter"),
            clock=DeviceClock(),
            ca_file=ca_file,
            connect_timeout_s=timeout_s,
            read_timeout_s=timeout_s,
        )
        self.links.append(made)
        return made

    def close(self) -> None:
        for link in self.links:
            link.close()
        for server in self.stations:
            server.over.set()
            server.shutdown()
            server.server_close()


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    made = Post(tmp_path)
    yield made
    made.close()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


BODY = make_alert(1).to_json()


def test_a_good_station_is_believed(post: Post) -> None:
    server, url = post.station()
    link = post.link(url)
    answer = link.post(ALERTS, BODY)
    assert answer.signed
    assert (answer.status, answer.kind) == (201, "receipt")
    assert server.bodies == [BODY]


@pytest.mark.parametrize("case", MANNERS)
def test_a_station_with_bad_manners_is_not_believed(post: Post, case: str) -> None:
    manner, trouble = MANNERS[case]
    _, url = post.station(manner)
    zip_bomb()
    answer = post.link(url, timeout_s=patience_s(case)).post(ALERTS, BODY)
    assert not answer.signed
    assert answer.document == {}
    assert answer.trouble.startswith(trouble)
    assert answer.trouble


@pytest.mark.parametrize("case", MANNERS)
def test_whatever_a_station_does_the_alert_arrives_when_it_is_well_again(post: Post, tmp_path: Path, case: str) -> None:
    server, url = post.station(MANNERS[case][0])
    with Outbox(tmp_path / "outbox.db") as outbox:
        outbox.put(make_alert(1))
        link = post.link(url, timeout_s=patience_s(case))
        uplink = Uplink(outbox, link, DeviceClock(), random.Random(1), lambda kind, **_: None)
        assert uplink.deliver_one(0.0) is not None
        assert outbox.counts().waiting == 1
        server.manner = good
        link._connect_timeout_s = link._read_timeout_s = LONG_S
        uplink.deliver_one(5_000.0)
        assert outbox.counts().waiting == 0
    assert set(server.bodies) == {BODY}
    counters = [seal.counter for seal in server.seals]
    assert counters == sorted(set(counters))


def test_a_device_that_lost_its_counter_goes_on_after_the_challenge(post: Post, tmp_path: Path) -> None:
    highest, nonces = 5_000, []

    def keep_count(handler: Handler, body: bytes, seal: RequestSeal) -> None:
        nonlocal highest
        if handler.path == CHALLENGE:
            assert json.loads(body)["nonce"] == nonces[-1]
            document: dict[str, object] = {"schema": 1, "kind": "reopened", "highest": highest}
        elif seal.counter <= highest:
            nonces.append(f"nonce-{len(nonces)}")
            document = {"schema": 1, "kind": "counter", "nonce": nonces[-1], "highest": highest}
        else:
            highest, document = seal.counter, receipt_for(body)
        answer = json.dumps(document).encode()
        handler.reply(409 if document["kind"] == "counter" else 200, answer, **sign(seal, answer))

    _, url = post.station(keep_count)
    (tmp_path / "counter").write_bytes(b"\0" * 30)
    with Outbox(tmp_path / "outbox.db") as outbox:
        for number in (1, 2):
            outbox.put(make_alert(number))
        uplink = Uplink(outbox, post.link(url), DeviceClock(), random.Random(1), lambda kind, **_: None)
        next_s: float | None = 100.0
        for _ in range(3):
            assert next_s is not None
            next_s = uplink.deliver_one(next_s)
        assert outbox.counts().waiting == 0
    assert (len(nonces), highest) == (1, 5_002)


def test_after_a_pause_a_new_connection_is_made(post: Post) -> None:
    ports: list[int] = []

    def note_port(handler: Handler, body: bytes, seal: RequestSeal) -> None:
        ports.append(handler.client_address[1])
        good(handler, body, seal)

    _, url = post.station(note_port)
    link, now_s = post.link(url), 0.0
    link._clock = DeviceClock(monotonic=lambda: now_s)
    for now_s in (0.0, 1.0, 60.0):  # noqa: B007  # the clock reads it
        assert link.post(ALERTS, BODY).signed
    assert ports[0] == ports[1] != ports[2]


def test_a_station_that_is_not_there_is_named(post: Post) -> None:
    with pytest.raises(UplinkError, match=r"^connection refused$"):
        post.link(f"http://127.0.0.1:{closed_port()}").post(ALERTS, BODY)


def test_a_name_that_nobody_knows_is_named(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UplinkError, match=r"^name not found$"):
        post.link("https://station.invalid:8443").post(ALERTS, BODY)


@pytest.mark.parametrize("number", [101, 113])
def test_a_network_that_is_down_is_named(post: Post, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError(number, "unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(UplinkError, match=r"^no route$"):
        post.link("http://192.0.2.1:8443").post(ALERTS, BODY)


def test_the_next_address_is_tried_and_remembered(post: Post) -> None:
    portal, portal_url = post.station(status(200))
    server, url = post.station()
    link = post.link(f"http://127.0.0.1:{closed_port()}", portal_url, url)
    assert link.post(ALERTS, BODY).signed
    assert link.post(ALERTS, BODY).signed
    assert (len(portal.bodies), len(server.bodies)) == (1, 2)
    counters = [seal.counter for seal in portal.seals + server.seals]
    assert counters == sorted(set(counters))


def test_of_several_doubtful_answers_the_first_is_told(post: Post) -> None:
    _, portal_url = post.station(status(200))
    _, broken_url = post.station(status(500))
    assert post.link(broken_url, portal_url).post(ALERTS, BODY).trouble == "station error 500"


@pytest.mark.parametrize(("text", "seconds"), [("17", 17.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-5", None)])
def test_retry_after_is_read_in_seconds(post: Post, text: str, seconds: float | None) -> None:
    _, url = post.station(status(429, Retry_After=text))
    assert post.link(url).post(ALERTS, BODY).retry_after_s == seconds


def test_no_proxy_of_the_environment_comes_between(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    _, url = post.station()
    assert post.link(url).post(ALERTS, BODY).signed


@pytest.mark.parametrize(
    "url",
    [
        "",
        "station",
        "ftp://station",
        "https://",
        "https://station/path",
        "https://u:p@station",
        "http://[::1",
        "http://s:99999",
    ],
)
def test_an_address_that_is_none_is_refused_at_the_start(post: Post, url: str) -> None:
    with pytest.raises(ConfigError, match="station"):
        post.link(url)


def test_no_address_at_all_is_refused(post: Post) -> None:
    with pytest.raises(ConfigError, match="no address"):
        post.link()


@pytest.mark.parametrize("content", [None, b"this is no certificate"])
def test_a_ca_file_that_cannot_be_used_is_refused_at_the_start(
    post: Post, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        post.link("https://127.0.0.1:1", ca_file=path)


def make_certificate(folder: Path, name: str) -> Path:
    """Make a self-signed certificate for loopback with OpenSSL."""
    path = folder / f"{name}.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    command += ["-keyout", str(path), "-out", str(folder / f"{name}.crt")]
    subprocess.run(command, check=True, capture_output=True)
    certificate = folder / f"{name}.crt"
    path.write_bytes(path.read_bytes() + certificate.read_bytes())
    return path


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_only_the_pinned_certificate_is_trusted(post: Post, tmp_path: Path) -> None:
    ours, theirs = make_certificate(tmp_path, "ours"), make_certificate(tmp_path, "theirs")
    server, url = post.station()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    secure = url.replace("http://", "https://")
    assert post.link(secure, ca_file=tmp_path / "ours.crt").post(ALERTS, BODY).signed
    for ca_file in (theirs.with_suffix(".crt"), None):
        with pytest.raises(UplinkError, match=r"^certificate not trusted$"):
            post.link(secure, ca_file=ca_file).post(ALERTS, BODY)


def test_the_key_is_in_no_log_line(post: Post, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level("DEBUG")
    _, url = post.station(wrong_key)
    with Outbox(tmp_path / "outbox.db") as outbox:
        outbox.put(make_alert(1))
        Uplink(outbox, post.link(url), DeviceClock(), random.Random(1), lambda kind, **_: None).deliver_one(0.0)
    assert KEY.hex() not in caplog.text
    assert "v1=" not in caplog.text


# Clips


class ClipLink(ScriptedLink):
    """A link that also takes clips."""

    def __init__(self, answer: "Callable[[str], Answer] | None" = None) -> None:
        super().__init__()
        self.clips: list[str] = []
        self.clip_answer = answer or (lambda alert_id: signed({"schema": 1, "kind": "receipt", "clip": alert_id}, 201))

    def post(self, path: str, body: bytes) -> Answer:
        if not path.startswith(CLIPS):
            return super().post(path, body)
        self.clips.append(path.removeprefix(CLIPS))
        return self.clip_answer(path.removeprefix(CLIPS))


def with_clips(forest: Forest, folder: Path, link: ClipLink) -> ClipBox:
    box = ClipBox(folder / "clips", 1_000_000)
    forest.uplink = Uplink(forest.outbox, link, forest.clock, random.Random(7), forest.note, box)
    forest.link = link
    return box


def test_a_clip_goes_only_after_its_alerts_receipt_and_after_everything_else(forest: Forest, tmp_path: Path) -> None:
    link = ClipLink()
    box = with_clips(forest, tmp_path, link)
    first, second = make_alert(1), make_alert(2)
    box.put(first.alert_id, b"sound")
    assert forest.step() is None, "its alert has no receipt yet"
    forest.outbox.put(first)
    forest.outbox.put(second)
    forest.run_until(forest.now_s + 1)
    while forest.step() is not None:
        pass
    assert link.clips == [first.alert_id]
    assert box.due() is None
    assert forest.event_kinds() == ["delivered", "delivered", "clip_delivered"]
    assert not list((tmp_path / "clips").iterdir())


def test_a_clip_that_comes_behind_its_receipt_goes_as_well(forest: Forest, tmp_path: Path) -> None:
    link = ClipLink()
    box = with_clips(forest, tmp_path, link)
    alert = make_alert(1)
    forest.outbox.put(alert)
    forest.step()
    box.put(alert.alert_id, b"sound")
    forest.step()
    assert link.clips == [alert.alert_id]


def test_a_refused_clip_is_let_go_and_an_unproven_answer_is_not_a_refusal(forest: Forest, tmp_path: Path) -> None:
    link = ClipLink(lambda _: unsigned("captive portal", about_link=True))
    box = with_clips(forest, tmp_path, link)
    alert = make_alert(1)
    box.release(alert.alert_id)
    box.put(alert.alert_id, b"sound")
    for _ in range(20):
        forest.now_s += 1_000
        forest.step()
    assert box.due() is not None, "a portal proves nothing"
    link.clip_answer = lambda alert_id: signed({"kind": "refused", "clip": alert_id, "reason": "no such alert"}, 422)
    forest.now_s += 1_000
    forest.step()
    assert box.due() is None
    assert "clip_refused" in forest.event_kinds()


def test_a_clip_that_fails_by_its_own_fault_is_given_up(forest: Forest, tmp_path: Path) -> None:
    link = ClipLink(lambda _: unsigned("answer 404"))
    box = with_clips(forest, tmp_path, link)
    alert = make_alert(1)
    box.release(alert.alert_id)
    box.put(alert.alert_id, b"sound")
    for _ in range(10):
        forest.now_s += 1_000
        forest.step()
    assert len(link.clips) == 5
    assert "clip_dropped" in forest.event_kinds()


def test_a_lost_counter_is_reopened_for_a_clip_too(forest: Forest, tmp_path: Path) -> None:
    link = ClipLink(lambda _: signed({"kind": "counter", "nonce": "n", "highest": 9}, 409))
    link.answer = lambda path, body: signed({"kind": "reopened", "highest": 9})
    box = with_clips(forest, tmp_path, link)
    box.release(make_alert(1).alert_id)
    box.put(make_alert(1).alert_id, b"sound")
    forest.step()
    assert link.jumps == [9]


# Packed bodies


def says_that_it_takes(*what: object) -> Callable[[Handler, bytes, RequestSeal], None]:
    def manner(handler: Handler, body: bytes, seal: RequestSeal) -> None:
        sent = gzip.decompress(body) if handler.headers.get("Content-Encoding") == "gzip" else body
        answer = json.dumps(receipt_for(sent) | {"takes": list(what)}).encode()
        handler.reply(201, answer, **sign(seal, answer))

    return manner


def test_bodies_are_packed_once_the_station_has_said_so_where_it_saves_a_tenth(post: Post) -> None:
    server, url = post.station(says_that_it_takes("gzip"))
    link = post.link(url)
    body = make_heartbeat().to_json()
    for _ in range(2):
        assert link.post(HEARTBEATS, body).signed
    assert server.bodies[0] == body
    assert gzip.decompress(server.bodies[1]) == body
    assert len(server.bodies[1]) < 0.7 * len(body)
    noise = random.Random(7).randbytes(1000)
    for clip in (noise, bytes(100)):
        server.manner = status(500)
        link.post(CLIPS + "x", clip)
        assert server.bodies[-1] == clip
        server.manner = says_that_it_takes("gzip")
        link.post(HEARTBEATS, body)


@pytest.mark.parametrize("takes", [(), ("brotli",), (1,)])
def test_a_station_that_has_not_said_so_gets_plain_bodies(post: Post, takes: tuple[object, ...]) -> None:
    server, url = post.station(says_that_it_takes(*takes))
    link = post.link(url)
    body = make_heartbeat().to_json()
    for _ in range(2):
        assert link.post(HEARTBEATS, body).signed
    assert server.bodies == [body, body]


def test_a_station_that_was_set_back_to_an_older_version_gets_plain_bodies_again(post: Post) -> None:
    server, url = post.station(says_that_it_takes("gzip"))
    link = post.link(url)
    body = make_heartbeat().to_json()
    link.post(HEARTBEATS, body)
    server.manner = status(400)  # it cannot read what is packed
    assert not link.post(HEARTBEATS, body).signed
    server.manner = good
    assert link.post(HEARTBEATS, body).signed
    assert [len(sent) == len(body) for sent in server.bodies] == [True, False, True]


def test_what_a_captive_portal_says_that_it_takes_counts_for_nothing(post: Post) -> None:
    def portal(handler: Handler, body: bytes, seal: RequestSeal) -> None:
        handler.reply(200, json.dumps(receipt_for(body) | {"takes": ["gzip"]}).encode())

    server, url = post.station(portal)
    link = post.link(url)
    body = make_heartbeat().to_json()
    for _ in range(2):
        assert not link.post(HEARTBEATS, body).signed
    assert server.bodies == [body, body]
