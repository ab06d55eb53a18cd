"""Requests that are answered in one transaction: nobody may notice, but for the time that it takes."""

import contextlib
import gzip
import itertools
import json
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, select

from agent.errors import StorageError
from agent.signing import new_key
from base_station import hours, tables
from base_station.contacts import Contact
from base_station.inbox import Inbox, Request
from base_station.ingest import Ingest
from base_station.keys import KeyRing
from base_station.store import Store
from tests.base_station.conftest import START, FakeDevice, make_alert, make_heartbeat

both_databases = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
NAMES = ("ipe-01", "ipe-02", "ipe-03", "ipe-04")


def signed(device: FakeDevice, path: str, body: bytes, *, packed: bool = False) -> Request:
    body = gzip.compress(body) if packed else body
    headers = device.seal(path, body).headers()
    return Request(path=path, headers={**headers, "Content-Encoding": "gzip"} if packed else headers, body=body)


def beat(device: FakeDevice, **changes: object) -> Request:
    return signed(device, "/v1/heartbeats", make_heartbeat(device.device_id, **changes).to_json())


def what_comes(device: FakeDevice, kind: str, number: int) -> Request:
    """Return one request of a kind; the same again for the same arguments."""
    alert = make_alert(device.device_id, alert_id=f"00000000-0000-0000-0000-{number:012d}", log_mel=None)
    if kind == "stale":
        device = replace(device, counter=0)
    if kind == "stranger":
        device = replace(device, device_id="nobody")
    if kind == "forged":
        device = replace(device, key=bytes(32))
    if kind == "alert":
        return signed(device, "/v1/alerts", alert.to_json())
    if kind == "broken":
        return signed(device, "/v1/heartbeats", b'{"schema": 1}')
    if kind == "another's":
        return signed(device, "/v1/heartbeats", make_heartbeat("ipe-99").to_json())
    if kind == "no json":
        return signed(device, "/v1/heartbeats", b"\xff")
    if kind == "packed":
        return signed(device, "/v1/heartbeats", make_heartbeat(device.device_id).to_json(), packed=True)
    if kind == "unsigned":
        return Request(path="/v1/heartbeats", headers={}, body=b"")
    return beat(device, level_dbfs=-50.0 - number, battery=None if number % 3 == 0 else make_heartbeat("x").battery)


KINDS = ("beat", "beat", "beat", "alert", "stale", "stranger", "forged", "broken", "another's", "no json", "packed")
groups = st.lists(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from((*KINDS, "unsigned"))), min_size=1, max_size=8),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Return a maker of stations that know the same devices, of which one is revoked; and the devices' keys."""
    folder = tmp_path_factory.mktemp("worlds")
    keys = KeyRing(Fernet.generate_key())
    device_keys = {name: new_key() for name in NAMES}
    with contextlib.closing(Store(URL.create("sqlite", database=str(folder / "template.db")))) as store:
        for name, key in device_keys.items():
            store.add_device(name, keys.seal(key), START)
        store.revoke_device(NAMES[-1], START)
        with store.database.read() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    numbers = itertools.count()

    def make() -> Inbox:
        path = folder / f"{next(numbers)}.db"
        shutil.copyfile(folder / "template.db", path)
        return Inbox(Store(URL.create("sqlite", database=str(path))), keys)

    return make, device_keys


def state(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Return all that requests of devices write."""
    found: dict[str, list[tuple[object, ...]]] = {}
    with store.database.read() as connection:
        for table in (tables.contacts, tables.hours, tables.alerts, tables.revisions):
            found[table.name] = sorted(map(tuple, connection.execute(select(table))), key=repr)
        rows = connection.execute(select(tables.heartbeats.c.device_id, tables.heartbeats.c.body))
        found["heartbeats"] = sorted(map(tuple, rows))
    return found


@settings(max_examples=25)
@given(groups=groups)
def test_a_group_is_answered_and_kept_as_one_after_the_other(fresh, groups):
    make, device_keys = fresh
    devices = {name: FakeDevice(name, key, counter=10) for name, key in device_keys.items()}
    number = itertools.count(1)
    now = START
    with contextlib.ExitStack() as stack:
        alone, together = (make() for _ in range(2))
        for inbox in (alone, together):
            stack.callback(inbox.store.close)
        for group in groups:
            now += timedelta(minutes=25)
            requests = [(what_comes(devices[name], kind, next(number)), now) for name, kind in group]
            expected = [alone.take(request, at) for request, at in requests]
            with together.store.database.together():
                found = together.take_together(requests)
            assert [_told(answer) for answer in found] == [_told(answer) for answer in expected]
        assert state(together.store) == state(alone.store)


def _told(answer) -> tuple[int, dict[str, object]]:
    document = json.loads(answer.body)
    return answer.status, {**document, "nonce": "" if "nonce" in document else None}


@both_databases
def test_heartbeats_of_many_devices_are_kept_in_one_go(station):
    devices = [station.add(f"ipe-{n:02d}") for n in range(20)]
    inbox = Inbox(station.store, station.keys)
    for minute in (0, 1, 61):
        now = START + timedelta(minutes=minute)
        requests = [(beat(device, level_dbfs=-50.0 - minute), now) for device in devices]
        with station.store.database.together():
            answers = inbox.take_together(requests)
        assert {answer.status for answer in answers} == {200}
    latest = station.store.device("ipe-07")
    assert latest.highest_counter == 3
    assert latest.heartbeat.level_dbfs == -111.0
    past = hours.between(station.store.database, "ipe-07", START, START + timedelta(hours=3))
    assert [(hour.n_beats, hour.level_dbfs, hour.percent) for hour in past] == [(2, -50.5, 81.0), (1, -111.0, 81.0)]


@both_databases
def test_counters_used_by_another_process_undo_the_group_and_each_is_taken_alone(station, monkeypatch):
    """Between the look at the counters and their use another process of the station may have taken one."""
    devices = [station.add(f"ipe-{n:02d}") for n in range(3)]
    inbox = Inbox(station.store, station.keys)
    requests = [(beat(device), START) for device in devices]
    contact = Contact(device_id="ipe-01", boot_id="5d0c9e0a-1", counter=9, at_utc=START)
    station.store.note_contact(contact)
    real = station.store.locks_of

    def as_before(names):
        return {name: replace(lock, highest_counter=0) for name, lock in real(names).items()}

    monkeypatch.setattr(station.store, "locks_of", as_before)
    with pytest.raises(StorageError, match="1 of 3 request counters"), station.store.database.together():
        inbox.take_together(requests)
    assert state(station.store)["heartbeats"] == []

    ingest = Ingest(inbox, station.store.database)
    waiting = [ingest.take(request, at) for request, at in requests]
    assert [answer.result(timeout=30).status for answer in waiting] == [200, 409, 200]
    assert [name for name, _ in state(station.store)["heartbeats"]] == ["ipe-00", "ipe-02"]


@both_databases
def test_an_hour_of_an_earlier_station_goes_on(station, ipe):
    """Its row has nothing in the columns that were added since."""
    with station.store.database.write() as connection:
        row = {"device_id": "ipe-07", "begin_utc": START, "n_beats": 2, "level_sum": -100.0}
        connection.execute(tables.hours.insert(), row)
        one = make_heartbeat("ipe-07", level_dbfs=-40.0)
        hours.count(connection, [("ipe-07", START + timedelta(minutes=9), one)])
    (found,) = hours.between(station.store.database, "ipe-07", START, START + timedelta(hours=1))
    assert (found.n_beats, found.level_dbfs, found.heard) == (3, pytest.approx(-140 / 3), None)
    assert (found.percent, found.most_c) == (81.0, 31.5)
