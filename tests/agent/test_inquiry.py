"""A queue of which the station has most already is asked about, not sent; and nothing leaves without its word."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clipbox import ClipBox
from agent.errors import UplinkError
from agent.inquiry import FEWEST_ASKED, MOST_ASKED
from agent.outbox import Outbox
from agent.uplink import ALERTS, RECEIPTS, Answer, Uplink
from tests.agent.test_uplink import UTC, Forest, make_alert, make_heartbeat, receipt_for, signed, unsigned


class KnowingStation:
    """Has some alerts already, says what it takes, and answers questions."""

    def __init__(self, forest: Forest, takes: tuple[str, ...] = ("gzip", "receipts")) -> None:
        self.forest = forest
        self.takes = takes
        self.has: dict[tuple[str, int], str] = {}
        forest.link.answer = self.answer

    def answer(self, path: str, body: bytes) -> Answer:
        document = json.loads(body)
        if path == RECEIPTS:
            asked = [(one["alert_id"], one["revision"], one["sha256"]) for one in document["alerts"]]
            assert len(asked) <= MOST_ASKED
            have = [list(one[:2]) for one in asked if self.has.get(one[:2]) == one[2]]
            return signed({"schema": 1, "kind": "receipts", "have": have, "takes": list(self.takes)})
        answer = receipt_for(body) | {"takes": list(self.takes)}
        if path != ALERTS:
            return signed(answer)
        key = (document["alert_id"], document["revision"])
        was_known = key in self.has
        self.has[key] = hashlib.sha256(body).hexdigest()
        return signed(answer, 200 if was_known else 201)

    def knows(self, *numbers: int) -> None:
        for number in numbers:
            alert = make_alert(number)
            self.has[alert.alert_id, 0] = hashlib.sha256(alert.to_json()).hexdigest()

    def requests(self, path: str) -> int:
        return sum(sent == path for sent, _ in self.forest.link.sent)


@pytest.fixture
def forest(tmp_path: Path) -> Iterator[Forest]:
    made = Forest(tmp_path)
    yield made
    made.outbox.close()


def test_what_the_station_has_is_asked_for_at_once_and_only_the_rest_is_sent(forest: Forest) -> None:
    station = KnowingStation(forest)
    station.knows(*range(1, 181))
    for number in range(1, 201):
        forest.outbox.put(make_alert(number))
    forest.run_until(forest.now_s + 1)
    assert forest.waiting() == 0
    assert len(station.has) == 200
    # the newest, two that it knew, one question, the rest
    assert (station.requests(ALERTS), station.requests(RECEIPTS)) == (1 + 2 + 19, 1)
    assert ("delivered_before", {"n_alerts": 178, "reason": "the station had them"}) in forest.events
    assert forest.uplink.state.last_receipt_s is not None


@settings(max_examples=25)
@given(known=st.sets(st.integers(1, 60)), n_alerts=st.integers(0, 60), seed=st.integers(0, 9))
def test_whatever_it_knows_everything_arrives_and_nothing_leaves_before(
    tmp_path_factory: pytest.TempPathFactory, known: set[int], n_alerts: int, seed: int
) -> None:
    forest = Forest(tmp_path_factory.mktemp("outbox"))
    station = KnowingStation(forest)
    station.knows(*known)
    rng = random.Random(seed)
    honest = station.answer

    def flaky(path: str, body: bytes) -> Answer:
        if rng.random() < 0.2:
            raise UplinkError("no route")
        return unsigned() if rng.random() < 0.1 else honest(path, body)

    forest.link.answer = flaky
    for number in range(1, n_alerts + 1):
        forest.outbox.put(make_alert(number))
    forest.run_until(forest.now_s + 7 * 86_400)
    assert forest.waiting() == 0
    assert {make_alert(number).alert_id for number in range(1, n_alerts + 1)} <= {
        alert_id for alert_id, _ in station.has
    }
    forest.outbox.close()


@pytest.mark.parametrize("takes", [(), ("gzip",)])
def test_a_station_that_has_not_said_that_it_can_is_never_asked(forest: Forest, takes: tuple[str, ...]) -> None:
    station = KnowingStation(forest, takes)
    station.knows(*range(1, 31))
    for number in range(1, 31):
        forest.outbox.put(make_alert(number))
    forest.run_until(forest.now_s + 1)
    assert (station.requests(ALERTS), station.requests(RECEIPTS)) == (30, 0)


def test_an_ordinary_queue_costs_not_one_question(forest: Forest) -> None:
    station = KnowingStation(forest)
    station.knows(1, 7)  # whose receipts were lost on the way
    for number in range(1, 61):
        forest.outbox.put(make_alert(number))
    forest.run_until(forest.now_s + 1)
    assert (station.requests(ALERTS), station.requests(RECEIPTS)) == (60, 0)


def test_other_bytes_under_the_same_name_are_not_taken_for_delivered(forest: Forest) -> None:
    station = KnowingStation(forest)
    station.knows(*range(1, 31))
    for number in range(11, 31):
        station.has[make_alert(number).alert_id, 0] = "00" * 32
    for number in range(1, 31):
        forest.outbox.put(make_alert(number))
    forest.run_until(forest.now_s + 1)
    sent = {number for number, _ in forest.link.numbers()}
    assert set(range(11, 31)) <= sent


LIES: dict[str, Callable[[], Answer]] = {
    "unsigned": lambda: unsigned("captive portal", about_link=True),
    "404 of an older station": lambda: Answer(status=404, document={}, trouble="no station at this address"),
    "an alert that was not asked for": lambda: signed(
        {"schema": 1, "kind": "receipts", "have": [[make_alert(999).alert_id, 0]]}
    ),
    "no list": lambda: signed({"schema": 1, "kind": "receipts", "have": "all"}),
    "no pairs": lambda: signed({"schema": 1, "kind": "receipts", "have": [["x"]]}),
    "a receipt": lambda: signed({"schema": 1, "kind": "receipt", "station_utc": UTC}),
    "a counter without end": lambda: signed({"schema": 1, "kind": "counter", "nonce": "n", "highest": 1}, 409),
}


@pytest.mark.parametrize("case", LIES)
def test_an_answer_that_is_none_removes_nothing_and_the_alerts_go_one_by_one(forest: Forest, case: str) -> None:
    station = KnowingStation(forest)
    station.knows(*range(1, 31))
    for number in range(1, 31):
        forest.outbox.put(make_alert(number))
    honest = station.answer
    forest.link.answer = lambda path, body: LIES[case]() if path == RECEIPTS else honest(path, body)
    forest.run_until(forest.now_s + 86_400)
    assert forest.waiting() == 0
    assert station.requests(ALERTS) == 30
    assert 0 < station.requests(RECEIPTS) <= 20


def test_a_saw_heard_just_now_goes_before_the_question(forest: Forest) -> None:
    station = KnowingStation(forest)
    station.knows(*range(1, 601))
    for number in range(1, 601):
        forest.outbox.put(make_alert(number))
    for _ in range(2):  # the newest and the oldest, and both were known
        forest.step()
    assert station.requests(RECEIPTS) == 0
    forest.outbox.put(make_alert(700))
    forest.step()
    assert forest.link.numbers()[-1] == (700, 0)


def test_clips_of_alerts_that_were_known_may_go(tmp_path: Path) -> None:
    forest = Forest(tmp_path)
    clips = ClipBox(tmp_path / "clips", 1_000_000)
    forest.uplink = Uplink(forest.outbox, forest.link, forest.clock, random.Random(7), forest.note, clips)
    station = KnowingStation(forest)
    station.knows(*range(1, 31))
    for number in range(1, 31):
        forest.outbox.put(make_alert(number))
    clips.put(make_alert(20).alert_id, b"RIFF")
    honest = station.answer
    forest.link.answer = lambda path, body: (
        honest(path, body) if not path.startswith("/v1/clips/") else unsigned("no", about_link=True)
    )
    forest.link.post = lambda path, body: forest.link.answer(path, body)  # type: ignore[method-assign]  # a clip is no JSON
    for _ in range(6):
        forest.step()
    due = clips.due()
    assert due is not None
    assert due.alert_id == make_alert(20).alert_id
    forest.outbox.close()


def test_letting_go_of_many_survives_a_restart(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db") as outbox:
        for number in range(1, 41):
            outbox.put(make_alert(number))
        waiting = outbox.oldest(30)
        assert [one.sha256 for one in waiting] == [
            hashlib.sha256(make_alert(number).to_json()).hexdigest() for number in range(1, 31)
        ]
        outbox.delivered_all([one.key for one in waiting])
        assert outbox.counts().waiting == 10
    with Outbox(tmp_path / "outbox.db") as again:
        assert [one.alert_id for one in again.oldest(99)] == [make_alert(number).alert_id for number in range(31, 41)]
        assert again.counts().waiting == 10


def test_fewer_than_it_is_worth_are_sent(forest: Forest) -> None:
    station = KnowingStation(forest)
    station.knows(*range(1, FEWEST_ASKED))
    for number in range(1, FEWEST_ASKED):
        forest.outbox.put(make_alert(number))
    forest.uplink.beat(make_heartbeat())
    forest.run_until(forest.now_s + 1)
    assert (station.requests(ALERTS), station.requests(RECEIPTS)) == (FEWEST_ASKED - 1, 0)
