"""Alerts and more as tables, read back by those who read such files."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.alert import Position
from base_station.columns import parquet
from base_station.condition_log import Changes, ConditionLog
from base_station.deadman import Condition
from base_station.store import AlertEvent, Onset

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def table_of(content: bytes):
    pq = pytest.importorskip("pyarrow.parquet")
    return pq.read_table(io.BytesIO(content)), pq.ParquetFile(io.BytesIO(content))


@both
def test_parquet_has_typed_times_and_the_same_rows_as_the_csv(station, ipe, alert_of):
    alerts = [alert_of("ipe-07", log_mel=None), alert_of("ipe-07", label="engine", position=None, log_mel=None)]
    for alert in alerts:
        station.send(ipe, alert)
    station.send(ipe, replace(alerts[0], revision=1, state="closed", raised_s=60.0))
    answer = station.request("GET", "/v1/export/alerts.parquet")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert 'filename="alerts.parquet"' in answer.headers["content-disposition"]
    table, _ = table_of(answer.content)
    assert str(table.schema.field("onset_utc").type) == "timestamp[ms, tz=UTC]"
    assert str(table.schema.field("label").type) == "dictionary<values=string, indices=int32, ordered=0>"
    assert [name for name in table.column_names if table.schema.field(name).nullable] == ["latitude", "longitude"]
    rows = table.to_pylist()
    assert [row["label"] for row in rows] == ["engine", "chainsaw"]
    assert (rows[0]["latitude"], rows[1]["latitude"]) == (None, -3.1)
    assert rows[1]["onset_utc"] == datetime(2026, 11, 20, 2, 59, 57, tzinfo=UTC)
    assert (rows[1]["state"], rows[1]["revision"], rows[1]["has_clip"]) == ("closed", 1, False)
    listed = list(csv.DictReader(io.StringIO(station.request("GET", "/v1/export/alerts.csv").text)))
    assert [row["alert_id"] for row in listed] == [row["alert_id"] for row in rows]


def test_an_export_of_nothing_is_a_table_without_rows(station):
    table, _ = table_of(station.request("GET", "/v1/export/alerts.parquet").content)
    assert (table.num_rows, "onset_utc" in table.column_names) == (0, True)
    label = station.request("GET", "/v1/export/alerts.parquet", params={"label": "'; DROP"})
    assert label.status_code == 422


def test_many_rows_come_in_groups_and_are_written_while_they_are_read():
    pytest.importorskip("pyarrow")
    at = datetime(2026, 11, 20, 3, 0, 0, 123_000, tzinfo=UTC)
    place = Position(latitude=-3.1, longitude=-60.0)
    read = 0

    def events():
        nonlocal read
        for seq in range(2_500):
            read += 1
            yield AlertEvent(
                seq=seq,
                alert_id=f"{seq:036d}",
                device_id=f"ipe-{seq % 7}",
                label="chainsaw",
                drill=False,
                received_utc=at,
                onset=Onset(utc=at, source="device"),
                state="open",
                revision=0,
                score=0.5,
                level_dbfs=-30.0,
                lasted_s=1.0,
                latitude=place.latitude,
                longitude=place.longitude,
                log_mel_revision=None,
            )

    pieces = parquet(events(), 1_000)
    first = next(pieces)
    assert (first[:4], read) == (b"PAR1", 1_000)
    table, file = table_of(first + b"".join(pieces))
    assert (table.num_rows, file.num_row_groups) == (2_500, 3)
    assert table.column("seq").to_pylist() == list(range(2_500))
    assert table.column("received_utc")[0].as_py() == at


def test_without_pyarrow_the_answer_names_the_extra(station, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    answer = station.request("GET", "/v1/export/alerts.parquet")
    assert (answer.status_code, answer.headers["content-type"]) == (501, "application/problem+json")
    assert "curupira[parquet]" in answer.json()["detail"]


@both
def test_verdicts_conditions_and_heartbeats_are_tables_too(station, ipe, alert_of, heartbeat_of):
    alert = alert_of("ipe-07")
    station.send(ipe, alert)
    station.send(ipe, heartbeat_of("ipe-07", states=("zeros", "deaf")))
    said = {
        "verdict": "false",
        "heard": "machine",
        "judge": "=cmd|'/c calc'!A1",
        "note": '@SUM(1), "quoted"',
        "chosen": "random",
    }
    assert station.request("POST", f"/v1/alerts/{alert.alert_id}/verdicts", json=said).status_code == 201
    condition = Condition(subject="ipe-07", name="deaf", since_utc=station.clock(), detail="-60 dB")
    ConditionLog(station.store.database).record(Changes(begun=[condition]), station.clock())

    def rows(name, **params):
        answer = station.request("GET", f"/v1/export/{name}.csv", params=params)
        assert answer.headers["content-type"].startswith("text/csv")
        return list(csv.DictReader(io.StringIO(answer.text, newline="")))

    (verdict,) = rows("verdicts")
    assert (verdict["judge"], verdict["note"]) == ("'=cmd|'/c calc'!A1", '\'@SUM(1), "quoted"')
    (one,) = rows("conditions")
    assert (one["subject"], one["name"], one["detail"], one["end_utc"]) == ("ipe-07", "deaf", "'-60 dB", "")
    (beat,) = rows("heartbeats")
    assert (beat["device_id"], beat["battery_percent"], beat["states"]) == ("ipe-07", "81.0", "zeros deaf")
    assert rows("heartbeats", until="2020-01-01T00:00:00Z") == []
    assert rows("verdicts", since="2099-01-01T00:00:00Z") == []
