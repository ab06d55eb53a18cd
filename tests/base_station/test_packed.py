"""Packed bodies, and questions about many alerts at once: bounded, signed over what was sent, exact."""

import gzip
import hashlib
import json
import uuid
import zlib

import pytest

from agent.alert import LARGEST_ALERT_BYTES, LARGEST_HEARTBEAT_BYTES
from agent.errors import FieldError
from agent.fields import Fields
from agent.inquiry import Inquiry, question
from agent.outbox import Waiting
from base_station.accounts import OPERATOR, Accounts
from base_station.gunzip import TooLargeError, Unpacker, unpacked
from base_station.inbox import MOST_ASKED, RECEIPTS
from base_station.store import LARGEST_PAGE

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
PACKED = {"Content-Encoding": "gzip"}


def send(station, device, path, body, headers=PACKED):
    seal = device.seal(path, body)
    return station.request("POST", path, content=body, headers={**seal.headers(), **headers}), seal


def one(alert, sha256: str | None = None) -> Waiting:
    return Waiting(alert.alert_id, alert.revision, sha256 or hashlib.sha256(alert.to_json()).hexdigest())


# packed


@both
def test_a_packed_alert_is_the_same_alert(station, ipe, alert_of):
    alert = alert_of("ipe-07")
    answer, seal = send(station, ipe, "/v1/alerts", gzip.compress(alert.to_json()))
    assert (answer.status_code, ipe.believes(answer, seal)) == (201, True)
    assert answer.json()["takes"] == ["gzip", "receipts"]
    assert station.store.documents(alert.alert_id)[0][1] == alert.to_json()
    assert station.send(ipe, alert).status_code == 200  # the same bytes, plain


def test_a_packed_heartbeat_is_taken(station, ipe, heartbeat_of):
    answer, seal = send(station, ipe, "/v1/heartbeats", gzip.compress(heartbeat_of("ipe-07").to_json()))
    assert (answer.status_code, ipe.believes(answer, seal)) == (200, True)


def test_the_signature_is_over_the_bytes_sent(station, ipe, alert_of):
    body = alert_of("ipe-07").to_json()
    seal = ipe.seal("/v1/alerts", body)
    answer = station.request("POST", "/v1/alerts", content=gzip.compress(body), headers={**seal.headers(), **PACKED})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("path", "bound"), [("/v1/alerts", LARGEST_ALERT_BYTES), ("/v1/heartbeats", LARGEST_HEARTBEAT_BYTES)]
)
def test_a_bomb_is_refused_and_unpacked_no_further_than_its_bound(station, ipe, path, bound, monkeypatch):
    grown = []
    real = Unpacker.pieces

    def watched(self, packed):
        for piece in real(self, packed):
            grown.append(len(piece))
            yield piece

    monkeypatch.setattr(Unpacker, "pieces", watched)
    bomb = gzip.compress(b" " * 8_000_000)
    assert len(bomb) <= bound
    answer, _ = send(station, ipe, path, bomb)
    assert answer.status_code == 413
    assert sum(grown) <= bound
    # its counter is used up: what was sent once is worth nothing the second time
    assert station.store.device("ipe-07").highest_counter == ipe.counter


@pytest.mark.parametrize(
    "body",
    [
        b"not gzip",
        b"",
        gzip.compress(b"{}")[:-1],
        gzip.compress(b"{}") + b"more",
        gzip.compress(b"{}") + gzip.compress(b"{}"),
        zlib.compress(b"{}"),
    ],
    ids=["no gzip", "nothing", "cut off", "more behind", "two", "zlib"],
)
def test_what_cannot_be_unpacked_is_named(station, ipe, body):
    answer, _ = send(station, ipe, "/v1/alerts", body)
    assert (answer.status_code, answer.json()["field"]) == (400, "body")
    other, _ = send(station, ipe, "/v1/alerts", body, {"Content-Encoding": "br"})
    assert (other.status_code, other.json()["field"]) == (400, "Content-Encoding")


def test_a_stream_is_unpacked_however_it_is_cut():
    whole = bytes(range(256)) * 2000
    packed = gzip.compress(whole)
    for size in (1, 7, 1000, len(packed)):
        unpacker = Unpacker(len(whole))
        pieces = [piece for at in range(0, len(packed), size) for piece in unpacker.pieces(packed[at : at + size])]
        unpacker.finish()
        assert b"".join(pieces) == whole
    with pytest.raises(TooLargeError):
        unpacked(packed, len(whole) - 1)
    with pytest.raises(FieldError):
        unpacked(packed[:-9], len(whole))


def test_programs_may_pack_too_within_the_same_bound(station, ipe, alert_of):
    alert = alert_of("ipe-07")
    station.send(ipe, alert)
    path = f"/v1/alerts/{alert.alert_id}/verdicts"
    said = json.dumps({"verdict": "true", "judge": "Maria", "chosen": "random"}).encode()
    headers = {"Content-Type": "application/json", **PACKED}
    assert station.request("POST", path, content=gzip.compress(said), headers=headers).status_code == 201
    bomb = gzip.compress(said + b" " * 5_000_000)
    for body, status in ((bomb, 413), (b"not gzip", 400), (gzip.compress(said)[:-3], 400)):
        answer = station.request("POST", path, content=body, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    other = station.request("POST", path, content=said, headers={**headers, "Content-Encoding": "zstd"})
    assert (other.status_code, other.headers["accept-encoding"]) == (415, "gzip")


def test_who_may_not_send_is_refused_before_anything_is_unpacked(station, monkeypatch):
    Accounts(station.store.database).add_token("rig", OPERATOR, station.clock())
    monkeypatch.setattr(Unpacker, "pieces", lambda *_: pytest.fail("unpacked"))
    answer = station.request("POST", "/v1/devices", content=gzip.compress(b"{}"), headers=PACKED)
    assert answer.status_code == 401


# questions


@both
def test_a_question_is_answered_for_the_device_that_asks_byte_for_byte(station, ipe, alert_of):
    other = station.add("cedro-01")
    mine, theirs, never = alert_of("ipe-07"), alert_of("cedro-01"), alert_of("ipe-07")
    station.send(ipe, mine)
    station.send(other, theirs)
    asked = [one(mine), one(mine, "00" * 32), one(theirs), one(never)]
    answer, seal = send(station, ipe, RECEIPTS, question(asked), {})
    assert (answer.status_code, ipe.believes(answer, seal)) == (200, True)
    document = answer.json()
    assert (document["kind"], document["have"]) == ("receipts", [[mine.alert_id, 0]])
    assert Inquiry().answered(Fields(document), asked) == [(mine.alert_id, 0)]


@both
def test_the_largest_question_fits_and_one_more_does_not(station, ipe, alert_of):
    alert = alert_of("ipe-07")
    station.send(ipe, alert)
    asked = [Waiting(str(uuid.UUID(int=number)), 1000, "ab" * 32) for number in range(MOST_ASKED - 1)] + [one(alert)]
    assert MOST_ASKED <= LARGEST_PAGE
    answer, _ = send(station, ipe, RECEIPTS, question(asked), {})
    assert answer.json()["have"] == [[alert.alert_id, 0]]
    packed, _ = send(station, ipe, RECEIPTS, gzip.compress(question(asked)))
    assert packed.json()["have"] == [[alert.alert_id, 0]]
    more, _ = send(station, ipe, RECEIPTS, question([*asked, one(alert)]), {})
    assert more.status_code in (400, 413)


def test_a_copied_question_is_worth_nothing(station, ipe, alert_of):
    body = question([one(alert_of("ipe-07"))])
    _, seal = send(station, ipe, RECEIPTS, body, {})
    again = station.request("POST", RECEIPTS, content=body, headers=seal.headers())
    assert (again.status_code, again.json()["kind"]) == (409, "counter")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"schema": 1, "alerts": [{"alert_id": "x" * 36, "revision": 0, "sha256": "g" * 64}]}, "alerts.sha256"),
        ({"schema": 1, "alerts": [{"alert_id": "x", "revision": 0, "sha256": "a" * 64}]}, "alerts.alert_id"),
        ({"schema": 1, "alerts": [["x"]]}, "alerts"),
        ({"schema": 1, "alerts": "all"}, "alerts"),
        ({"schema": 1}, "alerts"),
        ({"schema": 1, "alerts": [], "more": 1}, "more"),
        ({"schema": 2, "alerts": []}, "schema"),
    ],
)
def test_a_question_that_is_none_is_named(station, ipe, document, field):
    answer, _ = send(station, ipe, RECEIPTS, json.dumps(document).encode(), {})
    assert (answer.status_code, answer.json()["field"]) == (400, field)
