"""The demo's forest: something of everything, and never in a real station's folder."""

import json
from datetime import timedelta

import pytest

from base_station import demo
from base_station.config import StationConfig
from base_station.watch import Watch
from tests.base_station.test_station_commands import run


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(demo, "N_DEVICES", 30)
    monkeypatch.setattr(demo, "WEEK", timedelta(hours=20))
    monkeypatch.setattr(demo, "_DIED", ("tree-003",))
    monkeypatch.setattr(demo, "_VANISHED", ("tree-020", "tree-021", "tree-022"))
    monkeypatch.setattr(demo, "_DEAF", "tree-009")
    monkeypatch.setattr(demo, "_HOT", "tree-010")


def test_there_is_something_of_everything_and_it_goes_on(station):
    assert demo.fill(station.store, station.keys, station.clock(), seed=1) > 20
    Watch(station.store, StationConfig, station.clock).tick()
    found = station.get("/v1/conditions", holding=True)["conditions"]
    assert {(each["subject"], each["name"]) for each in found} == {
        ("tree-003", "late"),
        ("tree-020", "link"),
        ("tree-009", "deaf"),
        ("tree-010", "hot"),
    }
    kinds = {incident["kind"] for incident in station.get("/v1/incidents")["incidents"]}
    assert {"event", "outage"} <= kinds
    assert station.get("/v1/precision")["precision"][0]["right"] >= 0
    before = len(station.store.events(limit=500))
    live = demo.Live(station.store, station.clock, seed=5)
    for _ in range(12):
        live.tick()
        station.clock.pass_s(60)
    assert len(station.store.events(limit=500)) > before
    assert json.dumps(station.get("/v1/devices")).count("tree-") >= 30


def test_a_real_station_is_left_alone(tmp_path, capsys):
    data = tmp_path / "station"
    run("device", "add", "ipe-07", "--data", data, "--key-out", tmp_path / "k")
    assert run("demo", "--data", data, "--fill-only") == 2
    assert "real station" in capsys.readouterr().err
    assert run("demo", "--data", tmp_path / "demo", "--fill-only") == 0
    assert run("demo", "--data", tmp_path / "demo", "--fill-only") == 0  # what is there is used again
