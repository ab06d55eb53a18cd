"""Tracks: what a file of a journal says along time is what its lines say, is kept with it and goes with it."""

from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import delete

from agent.journal import Journal, WindowRecord, read
from base_station import shelf, tables
from base_station.fieldlog import import_journal
from base_station.retention import Retention, prune
from base_station.track import Track, TrackBuilder
from tests.base_station.test_fieldlog import TRUE_START, Phone
from tests.base_station.test_shelf import SETTING, listen

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def track_of(folder):
    builder = TrackBuilder()
    for line in read(folder):
        builder.add(line)
    return builder.done()


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "minutes")
        if isinstance(getattr(one, name), np.ndarray)
        else getattr(one, name) == getattr(other, name)
        for name in Track.__slots__
    )


@both
def test_a_track_says_what_the_windows_say_and_is_kept_with_its_file(station, ipe, tmp_path):
    import_journal(station.store, listen(tmp_path / "journal", Phone()), station.clock())
    (kept,) = shelf.shelved(station.store)
    track = shelf.tracks(station.store, [kept])[kept.seq]
    assert same(track, track_of(tmp_path / "journal"))
    heard = list(shelf.windows(station.store, "ipe-07", TRUE_START, TRUE_START + timedelta(hours=1)))
    assert len(track.end_s) == len(heard) == 120
    assert list(track.gated) == [window.gated for window in heard]
    scores = track.scores[track.outputs[:, 0].astype(int) + 128]
    assert [round(float(s), 4) for s in scores[track.heard]] == [w.scores["chainsaw"] for w in heard if w.scores]
    begin_s = [(window.end_utc - TRUE_START).total_seconds() + 100.0 for window in heard]
    assert np.allclose(track.end_s, begin_s, atol=0.01)
    assert prune(station.store.database, Retention(journal_days=1.0), station.clock() + timedelta(days=9)).journals == 1
    with station.store.database.read() as connection:
        assert connection.execute(tables.journal_tracks.select()).all() == []


def test_a_file_from_before_there_were_tracks_gets_one_and_a_longer_one_replaces_it(station, ipe, tmp_path):
    phone, folder = Phone(), tmp_path / "journal"
    with Journal(folder, phone.clock, device_id="ipe-07") as journal:
        journal.describe(SETTING)
        for number in range(2):
            phone.uptime_s += 60
            journal.window(WindowRecord(24_000 * (number + 1), gated=False, output=b"\x10\x20"))
            journal.minute(level_dbfs=-50.0, queue=0, gaps=[{"at_s": 1.0, "lost_s": 0.5, "reason": "overrun"}])
            journal.flush()
            import_journal(station.store, folder, station.clock())
            (kept,) = shelf.shelved(station.store)
            assert len(shelf.tracks(station.store, [kept])[kept.seq].end_s) == number + 1
    with station.store.database.write() as connection:
        connection.execute(delete(tables.journal_tracks))
    track = shelf.tracks(station.store, [kept])[kept.seq]
    assert [(round(one.at_s, 1), one.lost_s, one.reason) for one in track.lost] == [
        (159.5, 0.5, "overrun"), (218.0, 0.5, "overrun"),
    ]  # fmt: skip
    assert same(track, shelf.kept_tracks(station.store.database, [kept.seq])[kept.seq])


def test_what_no_station_made_is_no_track():
    assert Track.unpacked(b"nonsense") is None
    whole = TrackBuilder().done().packed()
    assert Track.unpacked(whole) is not None
    assert Track.unpacked(whole[:-30]) is None
