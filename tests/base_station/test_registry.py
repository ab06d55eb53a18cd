"""Who may speak is said by operators alone, written down, and shown once."""

import json
import sqlite3
from dataclasses import replace

import pytest

from agent.alert import Position
from agent.errors import FieldError
from agent.signing import new_key
from base_station import registry
from base_station.accounts import OPERATOR, VIEWER, Accounts
from tests.base_station.conftest import FakeDevice

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def token(station) -> dict[str, str]:
    """Return the header of a machine that may change things."""
    return {"Authorization": "Bearer " + Accounts(station.store.database).add_token("rig", OPERATOR, station.clock())}


@pytest.fixture
def reader(station) -> dict[str, str]:
    return {"Authorization": "Bearer " + Accounts(station.store.database).add_token("eye", VIEWER, station.clock())}


def entries(station, token, **params):
    return station.request("GET", "/v1/audit", headers=token, params=params).json()["entries"]


@both
def test_a_device_that_was_registered_over_the_api_is_heard_and_its_key_is_shown_once(station, token, alert_of):
    place = {"latitude": -3.1, "longitude": -60.0}
    said = {"device_id": "ipe-07", "name": "Ipê at the river", "position": place}
    answer = station.request("POST", "/v1/devices", headers=token, json=said)
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    device = FakeDevice(device_id="ipe-07", key=bytes.fromhex(answer.json()["key"]))
    assert station.send(device, alert_of("ipe-07")).status_code == 201
    one = station.request("GET", "/v1/devices/ipe-07", headers=token)
    assert one.json() | place == one.json()
    listed = station.request("GET", "/v1/devices", headers=token)
    assert listed.json()["devices"][0]["name"] == "Ipê at the river"
    for text in (one.text, listed.text, json.dumps(entries(station, token))):
        assert answer.json()["key"] not in text


@both
def test_a_key_that_was_made_elsewhere_is_handed_in_and_twice_is_no_mistake(station, token, heartbeat_of):
    key = new_key()
    said = {"device_id": "ipe-07", "key": key.hex()}
    first, again = (station.request("POST", "/v1/devices", headers=token, json=said) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["key"] is again.json()["key"] is None
    assert station.send(FakeDevice(device_id="ipe-07", key=key), heartbeat_of("ipe-07")).status_code == 200
    for other in ({"device_id": "ipe-07", "key": new_key().hex()}, {"device_id": "ipe-07"}):
        assert station.request("POST", "/v1/devices", headers=token, json=other).status_code == 409
    assert [entry["action"] for entry in entries(station, token)] == ["device_added"]


@both
def test_a_new_key_ends_the_old_one_and_admits_a_revoked_device_again(station, token, ipe, heartbeat_of):
    path = "/v1/devices/ipe-07"
    assert station.request("POST", f"{path}/revoke", headers=token).json()["revoked_utc"] is not None
    body = heartbeat_of("ipe-07").to_json()
    assert station.post(ipe, "/v1/heartbeats", body)[0].status_code == 403
    refused = station.request("POST", "/v1/devices", headers=token, json={"device_id": "ipe-07", "key": ipe.key.hex()})
    assert refused.status_code == 409
    answer = station.request("POST", f"{path}/key", headers=token)
    assert answer.json()["revoked_utc"] is None
    assert station.post(ipe, "/v1/heartbeats", body)[0].status_code == 401
    fresh = replace(ipe, key=bytes.fromhex(answer.json()["key"]), counter=0)
    assert station.send(fresh, heartbeat_of("ipe-07")).status_code == 200
    actions = [(entry["who"], entry["action"]) for entry in entries(station, token, device="ipe-07")]
    assert actions == [("rig", "key_replaced"), ("rig", "device_revoked")]


@both
def test_renaming_and_moving_are_written_down_with_what_was_before(station, token, ipe, alert_of):
    path = "/v1/devices/ipe-07"
    place = {"latitude": -3.2, "longitude": -60.1}
    changed = station.request("PATCH", path, headers=token, json={"name": "  Ipê   two ", "position": place})
    assert (changed.json()["name"], changed.json()["latitude"]) == ("Ipê two", -3.2)
    assert station.request("PATCH", path, headers=token, json={}).json()["latitude"] == -3.2
    station.send(ipe, alert_of("ipe-07", position=None))
    station.send(ipe, alert_of("ipe-07", position=Position(latitude=1.0, longitude=2.0)))
    assert [event.latitude for event in station.store.events()] == [1.0, -3.2]
    nowhere = station.request("PATCH", path, headers=token, json={"position": None})
    assert nowhere.json()["latitude"] is None
    moved, first_move, named = entries(station, token)
    assert (moved["detail"]["before"]["latitude"], moved["detail"]["after"]["latitude"]) == (-3.2, None)
    assert first_move["action"] == "device_moved"
    assert named["detail"] == {"before": "", "after": "Ipê two"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/devices"),
        ("POST", "/v1/devices/ipe-07/key"),
        ("POST", "/v1/devices/ipe-07/revoke"),
        ("PATCH", "/v1/devices/ipe-07"),
    ],
)
def test_keys_are_made_for_operators_alone(station, ipe, method, path, request):
    said = {"device_id": "cedro-01"} if path == "/v1/devices" else {}
    # also as long as everybody on this machine may read and judge
    assert station.request(method, path, json=said).status_code == 403
    assert station.request(method, path, json=said, headers=request.getfixturevalue("reader")).status_code == 403
    assert station.request(method, path, json=said).status_code == 401
    assert [device.device_id for device in station.store.devices()] == ["ipe-07"]
    assert station.store.device("ipe-07").revoked_utc is None
    assert registry.audit_entries(station.store) == []


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"device_id": "../etc"}, "device_id"),
        ({"device_id": "Ipe'; DROP TABLE devices; --"}, "device_id"),
        ({"device_id": "a", "key": "00"}, "key"),
        ({"device_id": "a", "name": "x" * 81}, "name"),
        ({"device_id": "a", "name": "bell\a"}, "name"),
        ({"device_id": "a", "name": "zero\0byte"}, "name"),
        ({"device_id": "a", "position": {"latitude": 91, "longitude": 0}}, "position.latitude"),
        ({"device_id": "a", "position": {"latitude": "nan", "longitude": 0}}, "position.latitude"),
        ({"device_id": "a", "admin": True}, "admin"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_added(station, token, said, field):
    answer = station.request("POST", "/v1/devices", headers=token, json=said)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert station.store.devices() == []


def test_a_device_that_is_not_there_is_404_for_every_request(station, token):
    for method, tail in (("GET", ""), ("PATCH", ""), ("POST", "/key"), ("POST", "/revoke")):
        for name in ("ipe-07", "%2e%2e", "a%00b", "x" * 300):
            answer = station.request(method, f"/v1/devices/{name}{tail}", headers=token, json={})
            assert answer.status_code == 404, (method, name, answer.text)


def test_a_change_and_its_audit_entry_are_one(station, ipe, tmp_path):
    raw = sqlite3.connect(tmp_path / "station.db")
    raw.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    raw.commit()
    raw.close()
    for change in (
        lambda: registry.add_device(station.store, station.keys, "cedro-01", who="rig", now_utc=station.clock()),
        lambda: registry.revoke_device(station.store, "ipe-07", who="rig", now_utc=station.clock()),
        lambda: registry.rename_device(station.store, "ipe-07", "x", who="rig", now_utc=station.clock()),
        lambda: registry.replace_key(station.store, station.keys, "ipe-07", who="rig", now_utc=station.clock()),
    ):
        with pytest.raises(Exception, match="disk full"):
            change()
    (device,) = station.store.devices()
    assert (device.device_id, device.revoked_utc, device.name) == ("ipe-07", None, "")
    assert station.keys.open(device.sealed_key) == ipe.key


def test_names_for_the_page_are_checked_by_the_function_itself(station, ipe):
    with pytest.raises(FieldError, match="name"):
        registry.rename_device(station.store, "ipe-07", "a\u202eb" * 50, who="rig", now_utc=station.clock())
    with pytest.raises(registry.UnknownDeviceError):
        registry.rename_device(station.store, "cedro-01", "x", who="rig", now_utc=station.clock())
