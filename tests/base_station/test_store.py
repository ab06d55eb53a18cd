"""The database keeps its promises, also to other processes and after a restart."""

import json
import sqlite3
import string
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL

from agent.alert import Alert, Battery, Clock, LogMelImage, Position
from agent.errors import ConfigError, StorageError
from base_station.inbox import onset
from base_station.store import HEARTBEATS_PER_DEVICE, NONCES_PER_DEVICE, Contact, Kept, Store


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


def test_a_restart_keeps_everything(tmp_path: Path, station, ipe, alert_of, heartbeat_of):
    alert = alert_of("ipe-07")
    station.send(ipe, alert)
    station.send(ipe, heartbeat_of("ipe-07"))
    before = (station.store.events(), station.store.devices())
    station.store.close()
    again = Store(URL.create("sqlite", database=str(tmp_path / "station.db")))
    assert (again.events(), again.devices()) == before
    assert keep(again, alert, ipe.counter, station.clock()) is Kept.STALE
    assert keep(again, alert, ipe.counter + 1, station.clock()) is Kept.SAME
    again.close()


def test_two_processes_of_one_station_see_each_other(tmp_path: Path, station, ipe, alert_of):
    other = Store(URL.create("sqlite", database=str(tmp_path / "station.db")))
    before = other.marker()
    station.send(ipe, alert_of("ipe-07"))
    assert other.marker() != before
    assert len(other.events()) == 1
    other.revoke_device("ipe-07", station.clock())
    assert station.post(ipe, "/v1/alerts", alert_of("ipe-07").to_json())[0].status_code == 403
    other.close()


def test_a_commit_is_on_disk_and_not_only_on_its_way(station, tmp_path: Path):
    with station.store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_the_picture_lies_apart_from_what_lists_read(station, ipe, alert_of, tmp_path: Path):
    alert = alert_of("ipe-07")
    station.send(ipe, alert)
    raw = sqlite3.connect(tmp_path / "station.db")
    (body,) = raw.execute("SELECT body FROM revisions").fetchone()
    raw.close()
    assert "data" not in json.loads(body)["log_mel"]
    assert len(body) < 1500


def test_keys_are_not_in_the_database_as_they_are(station, ipe, tmp_path: Path):
    station.store.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.glob("station.db*"))
    assert ipe.key not in everything
    assert ipe.key.hex().encode() not in everything


def test_the_history_of_heartbeats_is_bounded_per_device(station, ipe, heartbeat_of, tmp_path: Path):
    station.add("cedro-01")
    heartbeat = heartbeat_of("ipe-07")
    other = heartbeat_of("cedro-01")
    for counter in range(1, HEARTBEATS_PER_DEVICE + 20):
        station.store.keep_heartbeat(contact_of("ipe-07", counter, station.clock()), heartbeat)
        if counter < 4:
            station.store.keep_heartbeat(contact_of("cedro-01", counter, station.clock()), other)
    raw = sqlite3.connect(tmp_path / "station.db")
    counts = dict(raw.execute("SELECT device_id, count(*) FROM heartbeats GROUP BY device_id").fetchall())
    raw.close()
    assert counts == {"ipe-07": HEARTBEATS_PER_DEVICE, "cedro-01": 3}


def test_challenges_are_bounded_per_device(station, ipe, tmp_path: Path):
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


def damaged(path: Path) -> None:
    path.write_bytes(b"this is no database" * 400)


def newer(path: Path) -> None:
    Store(URL.create("sqlite", database=str(path))).close()
    raw = sqlite3.connect(path)
    raw.execute("UPDATE meta SET value = '99'")
    raw.commit()
    raw.close()


@pytest.mark.parametrize(("spoil", "says"), [(damaged, "not a database"), (newer, "schema 99"), (Path.mkdir, "unable")])
def test_a_database_that_cannot_be_used_is_named(tmp_path: Path, spoil: Callable[[Path], None], says: str):
    path = tmp_path / "station.db"
    spoil(path)
    with pytest.raises(ConfigError, match=says) as caught:
        Store(URL.create("sqlite", database=str(path)))
    assert "station.db" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_of_the_database_tells_no_values(station, ipe, alert_of):
    with station.store._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE revisions")
    with pytest.raises(StorageError) as caught:
        keep(station.store, alert_of("ipe-07"), 1, station.clock())
    assert str(caught.value) == "database: no such table: revisions"
