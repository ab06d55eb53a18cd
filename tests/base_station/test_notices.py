"""Who is told what and when, and messages that survive restarts, refusals and broken links."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigError
from base_station.channels import (
    AppriseChannel,
    DeliveryError,
    EarthRanger,
    EarthRangerChannel,
    RefusedDeliveryError,
)
from base_station.config import FILE, StationConfig, read_config
from base_station.contacts import Contact
from base_station.deliver import FIRST_RETRY_S, GIVE_UP_AFTER, Deliveries, Postman
from base_station.locate import Place
from base_station.notices import Area, Hours, Notice, Rule, digest, due_utc, wants
from base_station.notify_rules import Way, open_channels
from base_station.store import Store
from base_station.watch import Watch
from tests.base_station.test_station_commands import run

NOW = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def incident(**changes) -> Notice:
    notice = Notice(
        subject="incident:1",
        about="incident",
        kind="event",
        title="Chainsaw",
        body="20 Nov 23:30, 2 devices",
        at_utc=NOW,
        label="chainsaw",
        confidence=0.8,
        latitude=-3.1,
        longitude=-60.02,
        radius_m=200.0,
        devices=("ipe-07", "cedro-01"),
    )
    return replace(notice, **changes)


def trouble(kind: str = "deaf") -> Notice:
    return Notice(subject=f"condition:ipe-07:{kind}", about="condition", kind=kind, title="ipe-07", body="", at_utc=NOW)


@pytest.mark.parametrize(
    ("rule", "notice", "wanted"),
    [
        ({}, incident(), True),
        ({}, trouble(), True),
        ({"about": ("condition",)}, incident(), False),
        ({"labels": ("engine",)}, incident(), False),
        ({"labels": ("engine", "chainsaw")}, incident(), True),
        ({"confidence": 0.9}, incident(), False),
        ({}, incident(kind="storm"), False),
        ({"kinds": ("storm",)}, incident(kind="storm"), True),
        ({}, incident(drill=True), False),
        ({"drills": True}, incident(drill=True), True),
        ({"hours": Hours(22, 6)}, incident(), True),
        ({"hours": Hours(6, 22)}, incident(), False),
        ({"area": Area(place=Place(-3.1, -60.0), radius_km=5)}, incident(), True),
        ({"area": Area(place=Place(-3.1, -60.0), radius_km=1)}, incident(), False),
        ({"area": Area(place=Place(-3.1, -60.0), radius_km=1)}, incident(latitude=None, longitude=None), True),
        ({"conditions": ("late",)}, trouble(), False),
        ({}, trouble("deaf_over"), False),
        ({"ends": True}, trouble("deaf_over"), True),
    ],
)
def test_a_rule_says_what_it_is_about(rule, notice, wanted):
    assert wants(Rule(name="x", **rule), notice, UTC) is wanted


def test_hours_are_the_rangers_and_not_greenwich(monkeypatch):
    manaus = timezone(timedelta(hours=-4))
    assert wants(Rule(name="x", hours=Hours(19, 20)), incident(), manaus)
    assert due_utc(Rule(name="x", quiet=Hours(19, 6)), NOW, manaus) == datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


@given(
    begin=st.integers(0, 23), length=st.integers(1, 23), minute=st.integers(0, 1439), every=st.sampled_from([0, 15, 60])
)
def test_nothing_goes_out_in_quiet_hours_and_nothing_waits_longer_than_a_day_and_a_digest(begin, length, minute, every):
    quiet = Hours(begin, (begin + length) % 24)
    now = NOW.replace(hour=minute // 60, minute=minute % 60)
    due = due_utc(Rule(name="x", quiet=quiet, digest_minutes=every), now, UTC)
    assert not quiet.holds(due)
    assert timedelta(0) <= due - now <= timedelta(days=1, minutes=every)


@given(notice=st.builds(incident, title=st.text(max_size=30), confidence=st.floats(0, 1), radius_m=st.none()))
def test_a_notice_comes_out_of_the_database_as_it_went_in(notice):
    assert Notice.from_json(notice.to_json()) == notice


def test_a_digest_says_everything_and_names_the_most_certain():
    together = digest([trouble(), incident(), incident(title="Engine", confidence=0.3)])
    assert together.title == "3 notices, Chainsaw among them"
    assert all(word in together.body for word in ("ipe-07", "Chainsaw", "Engine"))


# the queue


@dataclass
class Ears:
    """A channel that fails when it is told to."""

    told: list[Notice] = field(default_factory=list)
    fails: list[Exception] = field(default_factory=list)

    def send(self, notice: Notice) -> str:
        if self.fails:
            raise self.fails.pop(0)
        self.told.append(notice)
        return "42"


@both
def test_a_message_waits_through_failures_and_a_restart_and_is_told_once(store, database_url, station_clock):
    ears, rule = Ears(fails=[DeliveryError("no route"), DeliveryError("no route")]), Rule(name="rangers")
    queue = Deliveries(store.database)
    assert queue.add([incident()], [rule], station_clock()) == 1
    assert queue.add([incident(confidence=0.99)], [rule], station_clock()) == 0  # the same incident, told already
    assert queue.send_due({"rangers": ears}, station_clock) == 0
    assert queue.send_due({"rangers": ears}, station_clock) == 0  # not before its time
    again = Store(database_url)
    queue = Deliveries(again.database)
    (waiting,) = queue.listed()
    assert (waiting.outcome, waiting.attempts, waiting.error) == ("waiting", 1, "no route")
    assert waiting.due_utc == station_clock() + timedelta(seconds=FIRST_RETRY_S)
    for expected in (0, 1, 0):
        station_clock.pass_s(3600)
        assert queue.send_due({"rangers": ears}, station_clock) == expected
    assert [notice.title for notice in ears.told] == ["Chainsaw"]
    (sent,) = queue.listed()
    assert (sent.outcome, sent.attempts, sent.error) == ("sent", 3, "42")
    assert queue.counts() == {"sent": 1}
    again.close()


def test_what_is_refused_is_not_tried_again_and_what_never_arrives_is_given_up(store, station_clock):
    queue, ears = Deliveries(store.database), Ears(fails=[RefusedDeliveryError("unknown event type")])
    queue.add([incident()], [Rule(name="a")], station_clock())
    queue.send_due({"a": ears}, station_clock)
    assert queue.listed()[0].outcome == "refused"
    queue.add([trouble()], [Rule(name="a")], station_clock())
    for _ in range(60):
        ears.fails = [DeliveryError("no route")]
        queue.send_due({"a": ears}, station_clock)
        station_clock.pass_s(GIVE_UP_AFTER.total_seconds() / 40)
    assert [one.outcome for one in queue.listed()] == ["given up", "refused"]
    assert ears.told == []


@both
def test_a_digest_goes_out_as_one(store, station_clock):
    queue, ears = Deliveries(store.database), Ears()
    rule = Rule(name="office", digest_minutes=60)
    queue.add([incident(), trouble()], [rule], station_clock(), UTC)
    assert queue.send_due({"office": ears}, station_clock) == 0
    station_clock.pass_s(3601)
    assert queue.send_due({"office": ears}, station_clock) == 2
    assert len(ears.told) == 1


def test_one_process_delivers(store, station_clock):
    ears = Ears()
    Deliveries(store.database).add([incident()], [Rule(name="a")], station_clock())
    one, other = (Postman(store.database, lambda: {"a": ears}, station_clock, holder) for holder in "xy")
    assert (one.tick(), other.tick()) == (1, 0)
    one.leave()


@both
def test_what_the_station_hears_reaches_people(station, ipe, alert_of, heartbeat_of):
    rules = (Rule(name="saws", about=("incident",), confidence=0.7), Rule(name="health", about=("condition",)))
    config = StationConfig(ways=tuple(Way(rule=rule) for rule in rules))
    watch = Watch(station.store, lambda: config, station.clock)
    station.send(ipe, alert_of("ipe-07", log_mel=None))
    station.send(ipe, heartbeat_of("ipe-07", states=("zeros",)))
    watch.tick()
    queue = Deliveries(station.store.database)
    assert [(one.rule, one.title) for one in queue.listed()] == [("health", "ipe-07: hears nothing")]
    other = station.add("cedro-01")  # a second witness lifts it over what the rule wants
    near = alert_of("cedro-01", log_mel=None)
    station.send(other, replace(near, position=replace(near.position, latitude=-3.103)))
    for _ in range(3):
        watch.tick()
    assert next((one.rule, one.title) for one in queue.listed()) == ("saws", "Chainsaw")
    assert len(queue.listed()) == 2


# the ways


@contextmanager
def server(status: int, body: bytes = b"{}") -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """Yield the address of a server that notes what it is sent."""
    seen: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            seen.append((self.path, dict(self.headers), self.rfile.read(length)))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{httpd.server_address[1]}", seen
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def test_apprise_carries_a_message():
    with server(200) as (address, seen):
        AppriseChannel("x", (f"json://{address}/hook",)).send(incident())
    ((path, _, body),) = seen
    assert path.startswith("/hook")
    assert json.loads(body)["title"] == "Chainsaw"
    with server(500) as (address, _), pytest.raises(DeliveryError, match="did not take it"):
        AppriseChannel("x", (f"json://{address}/hook",)).send(incident())


def test_an_address_that_is_none_is_named_without_its_secret():
    with pytest.raises(ConfigError, match=r"notify.0.apprise.1") as caught:
        AppriseChannel("notify.0", ("json://localhost", "nonsense://token-secret"))
    assert "secret" not in str(caught.value)


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "er.token"
    path.write_text("1110c87681cd\n")
    return path


def ranger_channel(address: str, token_file) -> EarthRangerChannel:
    site = EarthRanger(site=f"http://{address}", token_file=token_file, event_type="chainsaw_rep")
    return EarthRangerChannel("x", site)


def test_earthranger_gets_an_event_as_its_api_takes_it(token_file):
    created = {"data": {"id": "9d55bb9f-9fb5-4f43-b1c1-c0ba5164651f"}, "status": {"code": 201, "message": "Created"}}
    with server(201, json.dumps(created).encode()) as (address, seen):
        assert ranger_channel(address, token_file).send(incident()) == created["data"]["id"]
    ((path, headers, body),) = seen
    event = json.loads(body)
    assert path == "/api/v1.0/activity/events"
    assert headers["Authorization"] == "Bearer 1110c87681cd"
    assert (event["event_type"], event["time"], event["priority"]) == ("chainsaw_rep", "2026-11-20T23:30:00.000Z", 300)
    assert event["location"] == {"latitude": -3.1, "longitude": -60.02}
    assert event["event_details"]["curupira_subject"] == "incident:1"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"data": [[{"event_type": {"event_type": "Value 'x' does not exist."}}]]}, RefusedDeliveryError),
        (401, {"status": {"code": 401, "message": "Unauthorized"}}, DeliveryError),
        (403, {}, DeliveryError),
        (302, {}, DeliveryError),
        (502, {}, DeliveryError),
    ],
)
def test_earthranger_that_does_not_take_it_is_told_apart(token_file, status, body, error):
    with (
        server(status, json.dumps(body).encode()) as (address, seen),
        pytest.raises(DeliveryError, match=str(status)) as caught,
    ):
        ranger_channel(address, token_file).send(incident())
    assert type(caught.value) is error
    assert len(seen) == 1
    assert "1110c87681cd" not in str(caught.value)


def test_earthranger_that_is_not_there_is_tried_again(token_file):
    with server(201) as (address, _):
        pass
    with pytest.raises(DeliveryError, match="not reached"):
        ranger_channel(address, token_file).send(incident())


# the file and the command

RULES = """
notify:
  - name: rangers
    apprise: ["json://{address}/hook"]
    about: [incident]
    labels: [chainsaw]
    confidence: 0.7
    hours: 18-6
    area: {{latitude: -3.1, longitude: -60.0, radius_km: 20}}
    quiet: 22-6
    digest_minutes: 30
  - name: map
    earthranger: {{site: "https://park.pamdas.org", token_file: {token}, event_type: chainsaw_rep}}
"""


def write(tmp_path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    (tmp_path / FILE).chmod(0o600)


def test_rules_are_read_from_the_file(tmp_path, token_file):
    write(tmp_path, RULES.format(address="localhost", token=token_file))
    ways = read_config(tmp_path).ways
    assert [way.rule.name for way in ways] == ["rangers", "map"]
    assert (ways[0].rule.hours, ways[0].rule.quiet, ways[0].rule.digest_minutes) == (Hours(18, 6), Hours(22, 6), 30)
    assert set(open_channels(ways)) == {"rangers", "map"}
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("hours: 18-6", "hours: evening", "notify.0.hours: is 'eveni"),
        ("about: [incident]", "about: [incidents]", "notify.0.about: holds 'incidents', expected some of incident"),
        ("name: map", "name: rangers", "notify.1.name"),
        ("https://park", "http://park", "notify.1.earthranger.site"),
        ("labels:", "label:", "notify.0.label: is not a known key; did you mean labels"),
        ('    apprise: ["json://{address}/hook"]\n', "", "notify.0.apprise: expected either apprise"),
    ],
)
def test_a_wrong_rule_is_named(tmp_path, token_file, old, new, says):
    assert old in RULES
    write(tmp_path, RULES.replace(old, new).format(address="localhost", token=token_file))
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path)
    assert says[:40] in str(caught.value)


def test_the_test_command_says_what_arrives(tmp_path, capsys):
    with server(200) as (address, seen):
        write(
            tmp_path,
            f"notify: [{{name: a, apprise: ['json://{address}']}}, {{name: b, apprise: ['json://127.0.0.1:1']}}]",
        )
        assert run("notify", "test", "--data", tmp_path) == 1
        out = capsys.readouterr().out
        assert "a: sent" in out
        assert "b: not sent" in out
        assert run("notify", "test", "--data", tmp_path, "--rule", "a") == 0
        assert run("notify", "test", "--data", tmp_path, "--rule", "c") == 2
    assert len(seen) == 2
    assert run("notify", "log", "--data", tmp_path) == 0
    logged = capsys.readouterr().out
    assert logged.count("sent (1 tries)") == 2
    assert logged.count("given up (1 tries)") == 1


def test_a_test_message_waits_for_no_quiet_hours_and_is_tried_once(store, station_clock):
    tried = []

    class Broken:
        def send(self, notice):
            tried.append(notice.title)
            raise DeliveryError("no route")

    rule = Rule(name="a", quiet=Hours(0, 24), digest_minutes=60)
    deliveries = Deliveries(store.database)
    sent = deliveries.send_trial(rule, Broken(), station_clock)
    assert (sent.outcome, sent.error, sent.attempts) == ("given up", "no route", 1)
    station_clock.pass_s(90_000)
    assert deliveries.send_due({"a": Broken()}, station_clock) == 0
    assert len(tried) == 1


def test_what_waits_for_a_removed_rule_waits_no_more(store, station_clock):
    deliveries = Deliveries(store.database)
    deliveries.add([incident()], [Rule(name="a"), Rule(name="b")], NOW)
    assert deliveries.drop_waiting("a", NOW) == 1
    assert deliveries.counts() == {"given up": 1, "waiting": 1}


@both
def test_metrics_tell_what_the_database_holds(station, ipe, alert_of):
    for name, silent_s in (("old-01", 90_000), ("old-02", 90_000), ("morning-01", 7_200)):
        contact = Contact(
            device_id=name, boot_id="5d0c9e0a-1", counter=1, at_utc=station.clock() - timedelta(seconds=silent_s)
        )
        station.add(name)
        station.store.note_contact(contact)
    station.add("stolen-01")
    station.store.revoke_device("stolen-01", station.clock())
    station.send(ipe, alert_of("ipe-07"))
    station.add("cedro-01")
    Deliveries(station.store.database).add([incident()], [Rule(name="a")], station.clock())
    text = station.request("GET", "/v1/metrics").text
    for line in (
        'curupira_alerts{drill="false",label="chainsaw"} 1.0',
        'curupira_devices{called="hour"} 1.0',
        'curupira_devices{called="day"} 1.0',
        'curupira_devices{called="longer"} 2.0',
        'curupira_devices{called="revoked"} 1.0',
        'curupira_devices{called="never"} 1.0',
        'curupira_deliveries{outcome="waiting"} 1.0',
        'curupira_conditions{name="late"} 0.0',
    ):
        assert line in text.splitlines()
