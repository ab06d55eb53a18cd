"""Journals that were uploaded or came on a card are kept whole, and say later what each window's scores were."""

import gzip
from datetime import timedelta

import pytest

from agent.journal import Journal, Setting, WindowRecord, read
from base_station import shelf
from base_station.accounts import OPERATOR, VIEWER, Accounts
from base_station.fieldlog import import_journal
from base_station.registry import audit_entries
from base_station.retention import Retention, prune
from tests.base_station.test_fieldlog import TRUE_START, Phone, write

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)

SETTING = Setting(
    model_digest="9f2c51d0a7b3e844",
    labels=("chainsaw", "engine"),
    sample_rate=16_000,
    window_samples=48_000,
    stride=24_000,
    output_scale=1 / 256,
    output_zero_point=-128,
    activation="none",
    rules={},
)


def listen(folder, phone, minutes=3, device_id="ipe-07"):
    """Write a journal of a device that heard a saw in its second minute."""
    with Journal(folder, phone.clock, device_id=device_id) as journal:
        journal.describe(SETTING)
        sample = 0
        for minute in range(minutes):
            for _ in range(40):
                sample += SETTING.stride
                phone.uptime_s += 1.5
                saw = 90 if minute == 1 else -120
                gated = minute == 2
                output = b"" if gated else bytes([saw & 0xFF, (-128) & 0xFF])
                journal.window(WindowRecord(sample, gated, output))
            journal.minute(level_dbfs=-50.0, queue=0)
    return folder


def files_of(folder):
    return [("files", (path.name, path.read_bytes())) for path in sorted(folder.glob("journal-*"))]


def upload(station, files, **headers):
    return station.request("POST", "/v1/journals", files=files, headers=headers)


@both
def test_what_was_uploaded_says_later_what_each_window_s_scores_were(station, ipe, tmp_path):
    folder = listen(tmp_path / "journal", Phone())
    answer = upload(station, files_of(folder))
    assert answer.status_code == 201
    brought = answer.json()
    assert (brought["device_id"], brought["windows"], brought["segments"], brought["new_segments"]) == (
        "ipe-07", 120, 1, 1,
    )  # fmt: skip
    heard = list(shelf.windows(station.store, "ipe-07", TRUE_START, TRUE_START + timedelta(hours=1)))
    assert len(heard) == 120
    assert [window.scores.get("chainsaw") for window in heard[38:42]] == [0.0312, 0.0312, 0.8516, 0.8516]
    assert (heard[-1].gated, heard[-1].scores) == (True, {})
    # each window is dated to its second, whatever its minute
    assert heard[39].end_utc == TRUE_START + timedelta(seconds=60)
    assert all(abs((heard[n].end_utc - TRUE_START).total_seconds() - 1.5 * (n + 1)) < 0.01 for n in range(120))
    some = list(shelf.windows(station.store, "ipe-07", heard[50].end_utc, heard[60].end_utc))
    assert some == heard[50:60]


@both
def test_the_same_upload_twice_changes_nothing_and_one_that_was_written_on_adds(station, ipe, tmp_path):
    phone = Phone()
    folder = tmp_path / "journal"
    with Journal(folder, phone.clock, device_id="ipe-07") as journal:
        journal.event("start", reason="x")
        journal.flush()
        early = files_of(folder)
        phone.uptime_s += 60
        journal.event("stop", reason="y")
        journal.flush()
        late = files_of(folder)
    for files, new in ((early, 1), (early, 0), (late, 1), (early, 0), (late, 0)):
        assert upload(station, files).json()["new_segments"] == new
    (kept,) = shelf.shelved(station.store)
    assert (kept.n_lines, kept.device_id) == (2, "ipe-07")
    packed = station.request("GET", f"/v1/journals/segments/{kept.seq}.jsonl.gz")
    assert gzip.decompress(packed.content) == late[0][1][1]
    assert [entry.action for entry in audit_entries(station.store)] == ["journal_taken"] * 5


def test_the_command_keeps_the_files_as_an_upload_does(station, ipe, tmp_path):
    folder = listen(tmp_path / "journal", Phone())
    result = import_journal(station.store, folder, station.clock())
    assert (result.segments, result.new_segments) == (1, 1)
    with shelf.unshelved(station.store, shelf.shelved(station.store)) as again:
        assert [line.windows for line in read(again)] == [line.windows for line in read(folder)]


def test_segments_are_listed_by_device_and_time(station, ipe, tmp_path):
    station.add("cedro-01")
    import_journal(station.store, listen(tmp_path / "a", Phone()), station.clock())
    later = Phone()
    later.uptime_s += 86_400
    import_journal(station.store, listen(tmp_path / "b", later, device_id="cedro-01"), station.clock())

    def listed(**params):
        answer = station.get("/v1/journals/segments", **params)
        return [one["device_id"] for one in answer["segments"]]

    assert listed() == ["cedro-01", "ipe-07"]
    assert listed(device="ipe-07") == ["ipe-07"]
    assert listed(since=(TRUE_START + timedelta(hours=12)).isoformat()) == ["cedro-01"]
    assert listed(until=(TRUE_START + timedelta(hours=12)).isoformat()) == ["ipe-07"]
    first = station.get("/v1/journals/segments", limit=1)
    assert station.get("/v1/journals/segments", limit=1, before=first["before"])["segments"][0]["device_id"] == "ipe-07"
    for wrong in (999, 2**70, -1):
        assert station.request("GET", f"/v1/journals/segments/{wrong}.jsonl.gz").status_code == 404


def test_a_phone_without_time_is_kept_undated_and_dated_when_its_clock_is_known(station, ipe, heartbeat_of, tmp_path):
    from dataclasses import replace

    phone = Phone(wall_off_s=-50 * 365 * 86_400, synced=False)
    folder = listen(tmp_path / "journal", phone)
    import_journal(station.store, folder, station.clock())
    (kept,) = shelf.shelved(station.store)
    assert (kept.dated, kept.first_utc) == ("none", None)
    beat = heartbeat_of("ipe-07")
    clock = replace(beat.clock, boot_id=phone.clock.boot_id, monotonic_s=phone.uptime_s)
    station.send(ipe, replace(beat, clock=clock))
    import_journal(station.store, folder, station.clock())
    (kept,) = shelf.shelved(station.store)
    assert kept.dated == "station"
    assert kept.last_utc == station.clock()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("../../etc/cron.d/x", b"x", "no file of a journal"),
        ("journal-00000001.jsonl/../../x", b"x", "no file of a journal"),
        ("station.db", b"x", "no file of a journal"),
        ("journal-1.jsonl", b"x", "no file of a journal"),
        ("journal-00000001.jsonl", b"", "nothing in it names a device"),
        ("journal-00000001.jsonl", b"\x00\xff" * 500, "nothing in it names a device"),
        ("journal-00000001.jsonl.gz", b"not gzip", "nothing in it names a device"),
        ("journal-00000001.jsonl.gz", gzip.compress(b" " * 30_000_000), "unpacks to more than"),
        ("journal-00000001.jsonl", b"[" * 4_000_001, "unpacks to more than"),
    ],
)
def test_what_is_no_journal_is_named_and_leaves_nothing(station, ipe, tmp_path, name, content, says):
    before = set(tmp_path.iterdir())
    answer = upload(station, [("files", (name, content))])
    assert (answer.status_code, answer.json()["field"]) == (422, "files")
    assert says in answer.json()["detail"]
    assert shelf.shelved(station.store) == []
    assert audit_entries(station.store) == []
    assert set(tmp_path.iterdir()) == before


def test_a_path_that_a_browser_sends_along_is_cut_off(station, ipe, tmp_path):
    (_, (name, content)), *_ = files_of(listen(tmp_path / "journal", Phone()))
    for sent in (f"card/var/journal/{name}", rf"C:\card\{name}"):
        assert upload(station, [("files", (sent, content))]).status_code == 201
    twice = upload(station, [("files", (f"a/{name}", content)), ("files", (f"b/{name}", content))])
    assert (twice.status_code, "there twice" in twice.json()["detail"]) == (422, True)


def test_a_journal_of_a_stranger_or_of_two_devices_is_not_taken(station, ipe, tmp_path):
    station.add("cedro-01")
    write(tmp_path / "stranger", Phone(), device_id="nobody")
    write(tmp_path / "one", Phone())
    write(tmp_path / "two", Phone(), device_id="cedro-01")
    (_, (_, other)), *_ = files_of(tmp_path / "two")
    mixed = [*files_of(tmp_path / "one"), ("files", ("journal-00000009.jsonl", other))]
    for files, says in ((files_of(tmp_path / "stranger"), "does not know"), (mixed, "of several devices")):
        answer = upload(station, files)
        assert (answer.status_code, says in answer.json()["detail"]) == (422, True), answer.text
    assert shelf.shelved(station.store) == []


def test_only_an_operator_uploads_once_there_are_people(station, ipe, tmp_path):
    files = files_of(listen(tmp_path / "journal", Phone()))
    accounts = Accounts(station.store.database)
    viewer = accounts.add_token("eye", VIEWER, station.clock())
    operator = accounts.add_token("rig", OPERATOR, station.clock())
    assert upload(station, files).status_code == 401
    assert upload(station, files, Authorization=f"Bearer {viewer}").status_code == 403
    assert upload(station, files, Authorization=f"Bearer {operator}").status_code == 201
    assert audit_entries(station.store)[0].who == "rig"


def test_an_upload_is_bounded(station, ipe, monkeypatch):
    monkeypatch.setattr("base_station.guard.LARGEST_UPLOAD_BYTES", 100_000)
    answer = upload(station, [("files", ("journal-00000001.jsonl", b"x" * 200_000))])
    assert answer.status_code == 413
    many = [("files", (f"journal-{number:08d}.jsonl", b"x")) for number in range(1001)]
    assert upload(station, many).status_code in (400, 413, 422)


@both
def test_retention_lets_the_oldest_files_go_and_keeps_their_events(station, ipe, tmp_path):
    write(tmp_path / "old", Phone())
    import_journal(station.store, tmp_path / "old", station.clock())
    station.clock.pass_s(100 * 86_400)
    import_journal(station.store, listen(tmp_path / "new", Phone()), station.clock())
    removed = prune(station.store.database, Retention(journal_days=30), station.clock())
    assert (removed.journals, removed.alerts) == (1, 0)
    assert [kept.n_windows for kept in shelf.shelved(station.store)] == [120]
    assert len(station.get("/v1/journals")["events"]) >= 4
    if station.store.database.is_sqlite:  # PostgreSQL counts rows alone, and this one is small
        assert prune(station.store.database, Retention(megabytes=0.01), station.clock()).journals == 1
