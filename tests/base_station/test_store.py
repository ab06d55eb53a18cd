"""The store keeps its promises, also to other processes and after a restart, on both kinds of database."""

import json
import re
import string
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alert import Alert, Battery, Clock, LogMelImage, Position
from agent.errors import StorageError
from base_station.contacts import HEARTBEATS_PER_DEVICE, Contact
from base_station.inbox import onset
from base_station.store import NONCES_PER_DEVICE, Kept, Store

pytestmark = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def contact_of(device_id: str, counter: int, at_utc, **changes) -> Contact:
    contact = Contact(device_id=device_id, boot_id="5d0c9e0a-1", counter=counter, at_utc=at_utc)
    return replace(contact, **changes)


def keep(store: Store, alert: Alert, counter: int, at_utc) -> Kept:
    contact = contact_of(alert.device_id, counter, at_utc)
    return store.keep_alert(contact, alert, alert.to_json(), onset(alert, contact))


numbers = st.floats(0, 1e9, allow_nan=False)
words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=40)


@st.composite
def pictures(draw: st.DrawFn) -> LogMelImage:
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    frames = (rng.standard_normal(shape) * 3 - 8).astype(np.float32)
    return LogMelImage.of(frames, hop_s=draw(st.floats(1e-3, 1)), mel_min_hz=50.0, mel_max_hz=7600.0)


alerts = st.builds(
    Alert,
    alert_id=st.uuids().map(str),
    revision=st.integers(0, 1000),
    state=st.sampled_from(["open", "closed"]),
    device_id=st.just("ipe-07"),
    label=st.text(string.ascii_lowercase, min_size=1, max_size=32),
    score=st.floats(0, 1),
    onset_s=numbers,
    raised_s=numbers,
    clock=st.builds(
        Clock,
        boot_id=st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=8, max_size=64),
        monotonic_s=numbers,
        utc=st.sampled_from(
            ["2026-11-20T03:00:00Z", "1970-01-01T00:00:12.5Z", "2026-02-31T99:99:99Z", "0001-01-01T00:00:00Z"]
        ),
        utc_certainty=st.sampled_from(["synced", "guess", "unset"]),
    ),
    model_digest=words,
    level_dbfs=st.floats(-200, 20),
    drill=st.booleans(),
    battery=st.none() | st.builds(Battery, percent=st.none() | st.floats(0, 100), charging=st.none() | st.booleans()),
    position=st.none() | st.builds(Position, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180)),
    log_mel=st.none() | pictures(),
)


def test_every_alert_comes_out_as_it_went_in(station):
    """One database for all examples: alert ids are unique."""
    station.add("ipe-07")
    counter = 0

    @given(alert=alerts)
    def round_trip(alert: Alert) -> None:
        nonlocal counter
        counter += 1
        assert Alert.from_json(alert.to_json()) == alert
        kept = keep(station.store, alert, counter, station.clock())
        assert kept in (Kept.NEW, Kept.SAME, Kept.CLASH)
        if kept is Kept.NEW:
            body = station.store.document(alert.alert_id, alert.revision)
            assert body is not None
            assert Alert.from_json(body) == alert
            assert station.store.log_mel(alert.alert_id, alert.revision) == alert.log_mel
            event = station.store.event(alert.alert_id)
            assert event is not None
            assert event.onset.utc <= station.clock() + timedelta(hours=1)

    round_trip()


def test_a_restart_keeps_everything(database_url, station, ipe, alert_of, heartbeat_of):
    alert = alert_of("ipe-07")
    station.send(ipe, alert)
    station.send(ipe, heartbeat_of("ipe-07"))
    before = (station.store.events(), station.store.devices())
    station.store.close()
    again = Store(database_url)
    assert (again.events(), again.devices()) == before
    assert keep(again, alert, ipe.counter, station.clock()) is Kept.STALE
    assert keep(again, alert, ipe.counter + 1, station.clock()) is Kept.SAME
    again.close()


def test_two_processes_of_one_station_see_each_other(database_url, station, ipe, alert_of):
    other = Store(database_url)
    before = other.marker()
    station.send(ipe, alert_of("ipe-07"))
    assert other.marker() != before
    assert len(other.events()) == 1
    other.revoke_device("ipe-07", station.clock())
    assert station.post(ipe, "/v1/alerts", alert_of("ipe-07").to_json())[0].status_code == 403
    other.close()


def test_the_picture_lies_apart_from_what_lists_read(station, ipe, alert_of):
    alert = alert_of("ipe-07")
    station.send(ipe, alert)
    with station.store.database.read() as connection:
        (body,) = connection.exec_driver_sql("SELECT body FROM revisions").scalars()
    assert "data" not in json.loads(body)["log_mel"]
    assert len(body) < 1500


def test_the_history_of_heartbeats_is_bounded_per_device(station, ipe, heartbeat_of):
    station.add("cedro-01")
    heartbeat = heartbeat_of("ipe-07")
    other = heartbeat_of("cedro-01")
    for counter in range(1, HEARTBEATS_PER_DEVICE + 20):
        station.store.keep_heartbeat(contact_of("ipe-07", counter, station.clock()), heartbeat)
        if counter < 4:
            station.store.keep_heartbeat(contact_of("cedro-01", counter, station.clock()), other)
    with station.store.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT device_id, count(*) FROM heartbeats GROUP BY device_id").all()
    counts = {row[0]: row[1] for row in rows}
    assert HEARTBEATS_PER_DEVICE <= counts.pop("ipe-07") < HEARTBEATS_PER_DEVICE + 10
    assert counts == {"cedro-01": 3}


def test_challenges_are_bounded_per_device(station, ipe):
    nonces = [station.store.make_nonce("ipe-07", station.clock())[0] for _ in range(NONCES_PER_DEVICE + 5)]
    contact = contact_of("ipe-07", 1, station.clock())
    assert station.store.use_nonce(contact, nonces[0]) is None
    assert station.store.use_nonce(contact, nonces[-1]) == 0
    assert station.store.use_nonce(contact, nonces[-NONCES_PER_DEVICE]) == 0


def test_a_counter_is_taken_only_if_it_is_larger_than_every_one_before(station, ipe):
    counts = iter(range(1_000_000))

    @given(counters=st.lists(st.integers(1, 30), max_size=25))
    def rises(counters: list[int]) -> None:
        name = f"device-{next(counts)}"
        station.add(name)
        highest = 0
        for counter in counters:
            kept = station.store.note_contact(contact_of(name, counter, station.clock()))
            assert (kept is Kept.NEW) == (counter > highest)
            highest = max(highest, counter)
        assert station.store.device(name).highest_counter == highest

    rises()


def test_a_fault_of_the_database_tells_no_values(station, ipe, alert_of):
    with station.store.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE revisions RENAME TO gone")
    try:
        with pytest.raises(StorageError) as caught:
            keep(station.store, alert_of("ipe-07"), 1, station.clock())
    finally:
        with station.store.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO revisions")
    assert re.search(r"^database: (no such table: revisions|relation \"revisions\" does not exist)", str(caught.value))
    assert "ipe-07" not in str(caught.value)


def test_one_holder_at_a_time_has_a_lease(station, database_url):
    ours, other = station.store.database, Store(database_url).database
    now, minute = station.clock(), timedelta(minutes=1)
    assert ours.take_lease("watch", "a", now, minute)
    assert not other.take_lease("watch", "b", now, minute)
    assert ours.take_lease("watch", "a", now + timedelta(seconds=50), minute)
    assert not other.take_lease("watch", "b", now + timedelta(seconds=70), minute)
    assert other.is_leased("watch", now + timedelta(seconds=109))
    assert not other.is_leased("watch", now + timedelta(seconds=111)), "nobody renewed it"
    assert not other.is_leased("nothing", now)
    assert other.take_lease("watch", "b", now + timedelta(seconds=110), minute)
    assert not ours.take_lease("watch", "a", now + timedelta(seconds=111), minute)
    other.drop_lease("watch", "b")
    assert ours.take_lease("watch", "a", now + timedelta(seconds=112), minute)
    # a clock that was set back must not leave a lease that nobody can take for years
    assert other.take_lease("watch", "b", now - timedelta(days=400), minute)
    other.close()
