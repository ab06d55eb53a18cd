"""Backups taken under load, put back into either kind of database, and damage that is found."""

import sqlite3
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import URL, text

from agent.errors import ConfigError
from base_station import backup
from base_station.__main__ import main
from base_station.retention import Retention, held_bytes, prune
from base_station.settings import database_url
from base_station.store import Store

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def filled(station, device, alert_of, n_alerts: int):
    alerts = [alert_of("ipe-07") for _ in range(n_alerts)]
    for alert in alerts:
        station.send(device, alert)
    station.send(device, replace(alerts[0], revision=1, state="closed", raised_s=60.0, log_mel=None))
    return alerts


@both
def test_what_was_backed_up_comes_back_in_a_file_and_goes_on(station, ipe, alert_of, heartbeat_of, tmp_path):
    alerts = filled(station, ipe, alert_of, 3)
    station.send(ipe, heartbeat_of("ipe-07"))
    copied = backup.back_up(station.store.database, tmp_path / "copy.db")
    assert copied.n_alerts == 3
    assert (tmp_path / "copy.db").stat().st_mode & 0o077 == 0
    target = URL.create("sqlite", database=str(tmp_path / "restored.db"))
    backup.restore(tmp_path / "copy.db", target)
    again = Store(target)
    assert again.events() == station.store.events()
    assert again.devices() == station.store.devices()
    assert again.documents(alerts[0].alert_id) == station.store.documents(alerts[0].alert_id)
    assert list(backup.faults(again, station.keys, deep=True)) == []
    again.close()
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_file_moves_to_postgresql_and_counts_on(station, alert_of, tmp_path, sqlite_url, postgres_url):
    file = Store(sqlite_url)
    one = type(station)(store=file, keys=station.keys, app=station.app, clock=station.clock)
    key = one.add("ipe-07").key
    del key
    file.close()
    backup.restore(tmp_path / "station.db", postgres_url)
    assert [device.device_id for device in station.store.devices()] == ["ipe-07"]
    with pytest.raises(ConfigError, match="not empty"):
        backup.restore(tmp_path / "station.db", postgres_url)
    cedro = station.add("cedro-01")
    station.send(cedro, alert_of("cedro-01"))  # its number follows those that came with the rows
    assert len(station.store.events()) == 1


@both
def test_a_backup_under_load_is_one_moment(station, ipe, alert_of, tmp_path):
    stop = threading.Event()
    sent: list[str] = []

    def keep_sending() -> None:
        while not stop.is_set():
            alert = alert_of("ipe-07")
            station.send(ipe, alert)
            sent.append(alert.alert_id)

    sender = threading.Thread(target=keep_sending)
    sender.start()
    while len(sent) < 3:
        stop.wait(0.01)
    acknowledged = list(sent)
    backup.back_up(station.store.database, tmp_path / "copy.db")
    stop.set()
    sender.join()
    target = URL.create("sqlite", database=str(tmp_path / "restored.db"))
    backup.restore(tmp_path / "copy.db", target)
    again = Store(target)
    kept = [event.alert_id for event in again.events(limit=500)]
    assert set(acknowledged) <= set(kept)
    assert kept == list(reversed(sent[: len(kept)]))  # a beginning of what was sent, without a hole
    assert list(backup.faults(again, station.keys, deep=True)) == []
    again.close()


def test_a_backup_replaces_nothing_and_a_ruin_is_not_restored(station, ipe, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    with pytest.raises(ConfigError, match="exists already"):
        backup.back_up(station.store.database, precious)
    new = URL.create("sqlite", database=str(tmp_path / "new.db"))
    with pytest.raises(ConfigError, match="no backup"):
        backup.restore(precious, new)
    with pytest.raises(ConfigError, match="no such file"):
        backup.restore(tmp_path / "nothing", new)
    assert precious.read_text() == "precious"


@both
@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("DELETE FROM blobs", "lost its picture"),
        ("DELETE FROM blobs; DELETE FROM revisions", "has no revision"),
        ("UPDATE revisions SET body = '{}'", "cannot be read"),
        ("UPDATE devices SET sealed_key = 'x'", "key of ipe-07 cannot be opened"),
    ],
)
def test_damage_is_found_and_named(station, ipe, alert_of, harm, says):
    station.send(ipe, alert_of("ipe-07"))
    assert list(backup.faults(station.store, station.keys, deep=True)) == []
    with station.store.database.write() as connection:
        for statement in harm.split(";"):
            connection.execute(text(statement))
    assert any(says in fault for fault in backup.faults(station.store, station.keys, deep=True))


def test_a_rotten_page_is_found(station, ipe, alert_of, tmp_path):
    for _ in range(20):
        station.send(ipe, alert_of("ipe-07"))
    station.store.close()
    raw = sqlite3.connect(tmp_path / "station.db")
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    content = bytearray((tmp_path / "station.db").read_bytes())
    for at in range(4096 * 4, len(content), 4096):
        content[at : at + 64] = b"\xff" * 64
    (tmp_path / "station.db").write_bytes(content)
    found = list(backup.faults(station.store, station.keys, deep=False))
    assert any("damaged" in fault or "cannot be read" in fault for fault in found)


@both
def test_age_takes_pictures_first_and_then_alerts(station, ipe, alert_of):
    for _ in range(3):
        station.send(ipe, alert_of("ipe-07"))
        station.clock.pass_s(86_400)
    # they are 3, 2 and 1 days old
    removed = prune(
        station.store.database, Retention(alert_days=2.5, picture_days=1.5), station.clock() + timedelta(hours=1)
    )
    assert (removed.alerts, removed.pictures) == (1, 2)
    events = station.store.events()
    assert [event.log_mel_revision for event in events] == [0, None]
    assert list(backup.faults(station.store, station.keys, deep=False)) == []


@both
def test_bytes_take_the_oldest_until_it_fits(station, ipe, alert_of, monkeypatch):
    monkeypatch.setattr("base_station.retention._AT_A_TIME", 5)
    for _ in range(20):
        station.send(ipe, alert_of("ipe-07"))
    held = held_bytes(station.store.database)
    with station.store.database.read() as connection:
        pictures = int(connection.execute(text("SELECT sum(length(data)) FROM blobs")).scalar_one())
    most = held - 0.4 * pictures
    room = Retention(megabytes=most / 1e6)
    removed = prune(station.store.database, room, station.clock())
    assert held_bytes(station.store.database) <= most
    assert 0 < removed.pictures < 20
    assert removed.alerts == 0
    events = station.store.events(limit=100)
    assert [event.log_mel_revision is None for event in events] == sorted(
        event.log_mel_revision is None for event in events
    )  # the newest still have theirs


@pytest.mark.parametrize("wrong", [{"alert_days": 0.5}, {"picture_days": -1}, {"megabytes": 0}])
def test_a_bound_that_would_empty_the_station_is_refused(wrong):
    with pytest.raises(ConfigError, match=f"retention.{next(iter(wrong))}"):
        Retention(**wrong)


def test_the_nightly_backup_names_its_copies_by_time_and_keeps_the_newest(station, sqlite_url, tmp_path, capsys):
    to, data = tmp_path / "to", tmp_path
    to.mkdir()
    others = [to / "station-20200101T000000Z.db", to / "station-20200102T000000Z.db", to / "note.txt"]
    for path in others:
        path.touch()
    assert main(["backup", "--data", str(data), "--to", str(to), "--keep", "2"]) == 0
    left = sorted(path.name for path in to.iterdir())
    assert left[:2] == ["note.txt", "station-20200102T000000Z.db"]
    assert len(left) == 3
    assert (to / left[2]).stat().st_mode & 0o777 == 0o600
    assert "1 older removed" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "said"), [((), "there is no database to copy"), (("--keep", "0"), "at least 1")])
def test_without_a_database_there_is_no_copy_and_the_old_ones_stay(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.delenv("CURUPIRA_DATABASE", raising=False)
    old = tmp_path / "to" / "station-20200101T000000Z.db"
    old.parent.mkdir()
    old.touch()
    assert main(["backup", "--data", str(tmp_path / "nothing"), "--to", str(old.parent), *words]) == 2
    assert said in capsys.readouterr().err
    assert list(old.parent.iterdir()) == [old]


def test_what_the_url_of_a_database_asks_for_is_kept():
    pytest.importorskip("psycopg")
    url = database_url("postgres://ranger@db.local/forest?sslmode=verify-full&options=-csearch_path%3Dipe")
    assert dict(url.query) == {"sslmode": "verify-full", "options": "-csearch_path=ipe"}
    assert url.drivername == "postgresql+psycopg"
