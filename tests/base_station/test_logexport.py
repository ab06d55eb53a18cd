"""What a field log gives away: other rules' alerts, its windows as a table, its judged alerts as a data set."""

import csv
import io
import threading
import zipfile
from dataclasses import asdict, replace
from datetime import timedelta

import pytest
from sqlalchemy import insert

from agent.decide import LabelRule
from agent.errors import FieldError
from agent.journal import Journal, WindowRecord
from agent.redecide import compare
from base_station import tables
from base_station.fieldlog import import_journal
from base_station.redeciding import StoppedError, redecided
from model_export.layouts.read import read
from tests.base_station.test_fieldlog import TRUE_START, Phone
from tests.base_station.test_shelf import SETTING, listen
from tests.base_station.test_verdicts import say, wav

HOUR = timedelta(hours=1)
SPAN = {"since": TRUE_START.isoformat(), "until": (TRUE_START + HOUR).isoformat()}
RULED = replace(SETTING, rules={label: asdict(LabelRule(threshold=0.8, release=0.6)) for label in SETTING.labels})


def log_with_a_weak_saw(folder, device_id="ipe-07"):
    """Write a log under rules: a strong saw in minute 2, a weaker one in minute 5; returns the folder."""
    phone = Phone()
    with Journal(folder, phone.clock, device_id=device_id) as journal:
        journal.describe(RULED)
        journal.event("start", reason="told to")
        sample = 0
        for minute in range(8):
            for _ in range(40):
                sample += RULED.stride
                phone.uptime_s += 1.5
                byte = {1: 100, 4: 50}.get(minute, -120)
                journal.window(WindowRecord(sample, gated=False, output=bytes([byte & 0xFF, 0x80])))
            journal.minute(level_dbfs=-50.0, queue=0)
    return folder


def changed(found):
    return [(one.change, one.event.label) for one in found.differences]


def test_other_rules_bring_alerts_and_take_them_as_redecide_does(station, ipe, tmp_path):
    folder = log_with_a_weak_saw(tmp_path / "journal")
    import_journal(station.store, folder, station.clock())

    def decide(changes, since=TRUE_START, until=TRUE_START + HOUR):
        return redecided(station.store, "ipe-07", since, until, changes, threading.Event())

    assert changed(decide({})) == [("kept", "chainsaw")]
    lower, higher = {"chainsaw": {"threshold": 0.65}}, {"chainsaw": {"threshold": 0.95}}
    assert changed(decide(lower)) == [("kept", "chainsaw"), ("gained", "chainsaw")]
    assert changed(decide(higher)) == [("lost", "chainsaw")]
    for changes in ({}, lower, higher):
        alone = compare(folder, changes)
        ours = decide(changes)
        assert [(d.change, d.event.onset_s) for d in ours.differences] == [
            (d.change, d.event.onset_s) for d in alone.differences
        ]
        assert (ours.windows, ours.unheard) == (alone.windows, alone.unheard)
    # what began before the span is heard, and is none of its alerts
    assert changed(decide(lower, since=TRUE_START + timedelta(seconds=200))) == [("gained", "chainsaw")]


def test_what_cannot_be_decided_says_why_and_what_nobody_waits_for_stops(station, ipe, tmp_path):
    import_journal(station.store, log_with_a_weak_saw(tmp_path / "journal"), station.clock())
    stop = threading.Event()
    with pytest.raises(FieldError, match="7 days"):
        redecided(station.store, "ipe-07", TRUE_START, TRUE_START + 200 * HOUR, {}, stop)
    for changes, said in (({"wolf": {"hits": 1}}, "no label"), ({"chainsaw": {"hits": 9, "of": 3}}, "hits")):
        with pytest.raises(FieldError, match=said):
            redecided(station.store, "ipe-07", TRUE_START, TRUE_START + HOUR, changes, stop)
    stop.set()
    with pytest.raises(StoppedError):
        redecided(station.store, "ipe-07", TRUE_START, TRUE_START + HOUR, {}, stop)


def test_windows_are_a_table_all_of_them_or_those_above_a_threshold(station, ipe, tmp_path):
    import_journal(station.store, listen(tmp_path / "journal", Phone()), station.clock())

    def table(**params):
        answer = station.request("GET", "/v1/export/windows.csv", params={"device": "ipe-07", **SPAN, **params})
        assert answer.status_code == 200, answer.text
        return list(csv.DictReader(io.StringIO(answer.text)))

    rows = table()
    assert len(rows) == 120
    assert (rows[40]["end_utc"], rows[40]["score_chainsaw"]) == ("2026-11-21T06:01:01.500Z", "0.8516")
    assert (rows[-1]["gated"], rows[-1]["score_chainsaw"]) == ("1", "")
    assert len(table(label="chainsaw", at_least=0.5)) == 40
    assert table(label="wolf") == table(label="engine", at_least=0.5) == table(device="nobody") == []


@pytest.mark.parametrize("path", ["/v1/export/windows.csv", "/v1/export/labels.zip"])
def test_a_span_is_bounded(station, path):
    for days in (0, -1, 32):
        until = (TRUE_START + timedelta(days=days)).isoformat()
        answer = station.request("GET", path, params={"device": "x", "since": SPAN["since"], "until": until})
        assert answer.status_code == 422
        assert "until: is no time behind since, or more than 31 days" in answer.json()["detail"]


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_judged_alerts_of_a_span_are_a_data_set_that_training_reads(station, ipe, alert_of, tmp_path):
    other = station.add("cedro-01")
    alerts = [alert_of("ipe-07"), alert_of("ipe-07", label="engine"), alert_of("cedro-01"), alert_of("ipe-07")]
    for alert in alerts:
        station.send(other if alert.device_id == "cedro-01" else ipe, alert)
    with station.store.database.write() as connection:
        row = {"alert_id": alerts[0].alert_id, "revision": 0, "kind": "clip", "data": wav(1.0)}
        connection.execute(insert(tables.blobs).values(**row))
    for alert in alerts[:3]:
        say(station, alert.alert_id, "true")
    since, until = station.clock() - HOUR, station.clock() + HOUR
    params = {"device": "ipe-07", "since": since.isoformat(), "until": until.isoformat()}
    answer = station.request("GET", "/v1/export/labels.zip", params=params)
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path / "set")
    found = read(tmp_path / "set")
    assert [(clip.target, clip.path.stem) for clip in found.clips] == [("chainsaw", alerts[0].alert_id)]
    with (tmp_path / "set" / "log_mels.csv").open() as file:
        assert {row["alert_id"] for row in csv.DictReader(file)} == {alerts[0].alert_id, alerts[1].alert_id}
    params["until"] = (since + timedelta(minutes=1)).isoformat()
    empty = station.request("GET", "/v1/export/labels.zip", params=params)
    with zipfile.ZipFile(io.BytesIO(empty.content)) as archive:
        assert archive.namelist() == ["log_mels.csv", "manifest.csv"]
