"""Journals from a card: written by the agent's own writer, damaged as cards are, imported once however often."""

import gzip
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import DeviceClock
from agent.errors import ConfigError
from agent.journal import Journal
from base_station.clockpairs import ClockPairs
from base_station.fieldlog import field_events, import_journal, journals
from tests.base_station.test_station_commands import run

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
TRUE_START = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)


class Phone:
    """A clock that tests move: monotonic seconds, and a wall clock that may be wrong."""

    def __init__(self, wall_off_s: float = 0.0, synced: bool = True) -> None:
        self.uptime_s = 100.0
        self.clock = DeviceClock(
            wall=lambda: TRUE_START.timestamp() + self.uptime_s - 100.0 + wall_off_s,
            monotonic=lambda: self.uptime_s,
            synchronised=lambda: synced,
        )


def write(folder: Path, phone: Phone, device_id: str = "ipe-07", alerts: int = 2) -> list[str]:
    ids = [f"00000000-0000-4000-8000-{n:012d}" for n in range(alerts)]
    with Journal(folder, phone.clock, device_id=device_id) as journal:
        journal.event("start", version="0.1.0", reason="power loss")
        for alert_id in ids:
            phone.uptime_s += 600.0
            journal.minute(level_dbfs=-50.0, queue=0)
            journal.event("alert", alert_id=alert_id, revision=0, label="chainsaw", score=0.9, reason="k of n")
        journal.event("state_begins", state="zeros", reason="x")
    return ids


@both
def test_a_card_is_taken_once_and_alerts_that_never_arrived_are_named(station, ipe, alert_of, tmp_path):
    ids = write(tmp_path / "card" / "var" / "journal", Phone())
    station.send(ipe, alert_of("ipe-07", alert_id=ids[0], log_mel=None))
    (folder,) = journals(tmp_path / "card")
    first = import_journal(station.store, folder, station.clock())
    assert (first.device_id, first.problem, first.events, first.new, first.minutes) == ("ipe-07", "", 4, 4, 2)
    assert (first.alerts, first.never_arrived, first.undated) == (2, 1, 0)
    assert first.first_utc == TRUE_START
    again = import_journal(station.store, folder, station.clock())
    assert (again.events, again.new) == (4, 0)
    (missing,) = station.get("/v1/journals", missing=True)["events"]
    assert (missing["alert_id"], missing["arrived"], missing["dated"]) == (ids[1], False, "device")
    assert missing["at_utc"] == "2026-11-21T06:20:00.000Z"
    station.send(ipe, alert_of("ipe-07", alert_id=ids[1], log_mel=None))  # it comes after all
    assert station.get("/v1/journals", missing=True)["events"] == []
    assert [event["kind"] for event in station.get("/v1/journals", limit=2)["events"]] == ["state_begins", "alert"]


def test_a_journal_that_was_written_on_adds_what_is_new(station, ipe, tmp_path):
    phone = Phone()
    write(tmp_path, phone, alerts=1)
    assert import_journal(station.store, tmp_path, station.clock()).new == 3
    phone.uptime_s += 60
    write(tmp_path, phone, alerts=1)
    second = import_journal(station.store, tmp_path, station.clock())
    assert (second.events, second.new) == (6, 3)


def test_a_phone_of_1970_is_dated_by_its_calls_to_the_station(station, ipe, heartbeat_of, tmp_path):
    phone = Phone(wall_off_s=-1.7e9, synced=False)
    boot = phone.clock.boot_id
    write(tmp_path, phone)
    undated = import_journal(station.store, tmp_path, station.clock())
    assert (undated.undated, undated.first_utc) == (4, None)
    beat = heartbeat_of("ipe-07")
    station.clock.now = TRUE_START + timedelta(seconds=300)
    station.send(ipe, replace(beat, clock=replace(beat.clock, boot_id=boot, monotonic_s=400.0)))
    dated = import_journal(station.store, tmp_path, station.clock())
    assert (dated.new, dated.undated) == (0, 0)  # the same events, now with times
    times = [event.at_utc for event in field_events(station.store, before=None, limit=9, device_id=None, missing=False)]
    assert times[-1] == TRUE_START
    assert times[-2] == TRUE_START + timedelta(seconds=600)


def test_damaged_lines_cost_themselves_alone(station, ipe, tmp_path):
    write(tmp_path, Phone(), alerts=3)
    (path,) = tmp_path.glob("journal-*")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b'{"kind": "event", "torn'[:20] + b"\n"
    lines.append(b"\x00\xff\n")
    path.write_bytes(b"".join(lines))
    result = import_journal(station.store, tmp_path, station.clock())
    assert result.damaged == 2
    assert result.events >= 3
    packed = tmp_path / (path.name + ".gz")
    packed.write_bytes(gzip.compress(b"".join(lines)))
    path.unlink()
    assert import_journal(station.store, tmp_path, station.clock()).new == 0


def test_a_journal_of_a_stranger_is_not_taken(station, ipe, tmp_path):
    write(tmp_path / "a", Phone(), device_id="nobody")
    result = import_journal(station.store, tmp_path / "a", station.clock())
    assert "does not know" in result.problem
    assert field_events(station.store, before=None, limit=9, device_id=None, missing=False) == []


def test_links_on_a_card_lead_nowhere(station, ipe, tmp_path):
    write(tmp_path / "real", Phone())
    card = tmp_path / "card"
    card.mkdir()
    (card / "below").symlink_to(tmp_path / "real", target_is_directory=True)
    with pytest.raises(ConfigError, match="holds no journal"):
        journals(card)
    (path,) = (tmp_path / "real").glob("journal-*")
    (card / path.name).symlink_to(path)
    assert "links" in import_journal(station.store, card, station.clock()).problem


def test_the_command_says_what_a_card_brought(tmp_path, capsys):
    data = tmp_path / "station"
    run("device", "add", "ipe-07", "--data", data, "--key-out", tmp_path / "k")
    write(tmp_path / "card" / "one", Phone())
    capsys.readouterr()
    assert run("import", tmp_path / "card", "--data", data) == 0
    said = capsys.readouterr().out
    assert "ipe-07: 4 events, 4 new, 2026-11-21T06:00:00.000Z to" in said
    assert "2 alerts, 2 never arrived" in said
    write(tmp_path / "card" / "two", Phone(), device_id="nobody")
    assert run("import", tmp_path / "card", "--data", data) == 1
    assert "not taken" in capsys.readouterr().out
    assert run("import", tmp_path / "nothing", "--data", data) == 2


@given(pairs=st.lists(st.tuples(st.floats(0, 1e7), st.floats(-1, 1)), min_size=1, max_size=20), at=st.floats(0, 1e7))
def test_a_time_is_as_good_as_the_nearest_pair(pairs, at):
    """The true clock runs evenly; each pair is off by up to a second."""
    known = ClockPairs()
    for monotonic_s, off_s in pairs:
        known.add("boot", monotonic_s, TRUE_START + timedelta(seconds=monotonic_s + off_s), "device")
    utc, source = known.when("boot", at)
    assert source == "device"
    assert abs((utc - TRUE_START).total_seconds() - at) <= 1.001
    assert known.when("another boot", at) == (None, "none")
