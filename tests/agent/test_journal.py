"""The field log: exact windows, bounded bytes, power cuts, full disks, and what it costs."""

import errno
import gzip
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import journal as journal_module
from agent.alert import Battery
from agent.clock import DeviceClock
from agent.decide import Decider, Detection, LabelRule
from agent.errors import StorageError
from agent.fields import Fields
from agent.journal import FLUSH_S, JOURNAL_SCHEMA, Journal, Json, Reading, Setting, WindowRecord, read, windows
from agent.minute import MOST_GAPS

REPO = Path(__file__).resolve().parents[2]
STRIDE = 24_000

SETTING = Setting(
    model_digest="9f2c51d0a7b3e844",
    labels=("chainsaw", "engine", "storm"),
    sample_rate=16_000,
    window_samples=48_000,
    stride=STRIDE,
    output_scale=0.0625,
    output_zero_point=-3,
    activation="sigmoid",
    rules={"chainsaw": {"threshold": 0.8, "hits": 2, "of": 3, "alert": True}},
)


class Night:
    """A journal with a clock that the test owns."""

    def __init__(self, folder: Path, *, max_bytes: int = 64_000_000, segment_bytes: int = 1_000_000) -> None:
        self.folder = folder
        self.now_s = 0.0
        self.clock = DeviceClock(
            wall=lambda: 1.8e9 + self.now_s, monotonic=lambda: self.now_s, synchronised=lambda: True
        )
        self.journal = Journal(folder, self.clock, device_id="ipe-07", max_bytes=max_bytes, segment_bytes=segment_bytes)

    def minute(self, **fields: object) -> None:
        self.now_s += 60.0
        self.journal.minute(level_dbfs=-41.5, queue=0, more=fields)  # type: ignore[arg-type]  # JSON all the same


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    made = Night(tmp_path / "journal")
    yield made
    made.journal.close()


def window(idx: int, output: bytes = b"\x01\x02\x03", *, gated: bool = False) -> WindowRecord:
    return WindowRecord(48_000 + idx * STRIDE, gated, output)


def kinds(reading: Reading) -> list[str]:
    return [line.event or line.kind for line in reading]


# What goes in comes out


def test_a_minute_and_an_event_are_read_as_they_were_written(night: Night) -> None:
    night.journal.describe(SETTING)
    night.journal.window(window(0))
    night.now_s = 61.5
    night.journal.minute(
        level_dbfs=-41.5,
        queue=2,
        battery=Battery(percent=81.0, charging=True),
        gaps=[{"at_s": 3.0, "lost_s": 0.5, "reason": "listener behind"}],
        states=["zeros"],
        more={"disk_mb": 512},
    )
    night.journal.event("link_down", reason="no route", status=0)
    first, second = read(night.folder)
    assert first.kind == "minute"
    assert first.fields == {
        "level_dbfs": -41.5,
        "queue": 2,
        "gated_share": 0.0,
        "battery": {"percent": 81.0, "charging": True},
        "gaps": [{"at_s": 3.0, "lost_s": 0.5, "reason": "listener behind"}],
        "states": ["zeros"],
        "disk_mb": 512,
    }
    assert first.windows == (window(0),)
    assert first.clock == night.clock.now()
    assert first.segment.setting == SETTING
    assert (first.segment.device_id, first.segment.boot_id) == ("ipe-07", night.clock.boot_id)
    assert (second.kind, second.event) == ("event", "link_down")
    assert second.fields == {"reason": "no route", "status": 0}


RECORDS = st.lists(
    st.builds(
        WindowRecord,
        st.integers(-(2**40), 2**40) | st.integers(0, 40).map(lambda idx: idx * STRIDE),
        st.booleans(),
        st.just(b"") | st.binary(min_size=3, max_size=3) | st.binary(min_size=1, max_size=5),
    ),
    max_size=80,
)


@given(RECORDS)
def test_any_windows_survive_packing(records: list[WindowRecord]) -> None:
    line = json.loads(journal_module._line({"windows": list(journal_module._packed(records))}))
    unpacked = [record for run in line["windows"] for record in journal_module._unpacked(journal_module.Fields(run))]
    assert unpacked == records


@st.composite
def nights(draw: st.DrawFn) -> list[tuple[str, object]]:
    """Return what a listener does: windows in order with gaps, minutes, events, other models, restarts."""
    steps: list[tuple[str, object]] = []
    end, stride = draw(st.integers(48_000, 10**9)), STRIDE
    for _ in range(draw(st.integers(0, 60))):
        step = draw(st.sampled_from(["window"] * 12 + ["gap", "minute", "event", "model", "stride", "restart"]))
        if step == "window":
            end += stride
            gated = draw(st.booleans())
            heard = not gated or draw(st.booleans())
            output = draw(st.binary(min_size=3, max_size=3)) if heard else b""
            steps.append(("window", WindowRecord(end, gated, output)))
        elif step == "gap":
            end += draw(st.integers(1, 10**7))
        elif step == "stride":
            stride = draw(st.sampled_from([STRIDE, 2 * STRIDE, 8_000]))
        elif step == "model":
            steps.append(("model", replace(SETTING, model_digest=draw(st.sampled_from(["first", "second"])))))
        else:
            steps.append((step, None))
    return steps


@given(nights(), st.sampled_from([2_000, 1_000_000]))
@settings(max_examples=60)
def test_every_window_comes_back_in_order_with_what_its_bytes_mean(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object]], segment_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("night")
    night, run = Night(folder, segment_bytes=segment_bytes), 0
    setting: Setting | None = None
    expected: list[tuple[int, Setting | None, WindowRecord]] = []
    for step, value in steps:
        if isinstance(value, WindowRecord):
            night.journal.window(value)
            expected.append((run, setting, value))
        elif isinstance(value, Setting):
            night.journal.describe(value)
            setting = value
        elif step == "minute":
            night.minute()
        elif step == "event":
            night.journal.event("link_down", reason="no route")
        else:
            night.journal.close()
            night, run, setting = Night(folder, segment_bytes=segment_bytes), run + 1, None
    night.journal.close()
    reading = read(folder)
    found = list(windows(reading))
    assert (reading.skipped, reading.unreadable) == (0, 0)
    assert [(segment.setting, record) for segment, record in found] == [row[1:] for row in expected]
    names = list(dict.fromkeys(segment.run for segment, _ in found))
    assert [names.index(segment.run) for segment, _ in found] == [
        sorted({row[0] for row in expected}).index(row[0]) for row in expected
    ]


def decider_of(setting: Setting) -> Decider:
    """Build the decision from nothing but what the journal keeps."""
    real = (np.arange(-128, 128) - setting.output_zero_point) * setting.output_scale
    rules = {label: LabelRule.parse(Fields(setting.rules[label])) for label in setting.labels}
    scores = 1.0 / (1.0 + np.exp(-real))
    return Decider(
        labels=setting.labels, rules=rules, scores=scores, stride=setting.stride, sample_rate=setting.sample_rate
    )


def decided(decider: Decider, record: WindowRecord) -> list[Detection]:
    return decider.push(record.end_sample, np.frombuffer(record.output, np.int8) if record.output else None)


@given(nights(), st.integers(0, 2**32))
@settings(max_examples=40)
def test_a_night_decided_again_from_the_journal_is_the_same_night(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object]], seed: int
) -> None:
    rule = asdict(LabelRule(close_after_s=3.0, refractory_s=5.0))
    setting = replace(SETTING, rules=dict.fromkeys(SETTING.labels, rule))
    folder, chance = tmp_path_factory.mktemp("night"), random.Random(seed)
    night, live, digest = Night(folder), decider_of(setting), setting.model_digest
    night.journal.describe(setting)
    heard: list[Detection] = []
    for step, value in steps:
        if isinstance(value, WindowRecord):
            loud = bytes(chance.choice((100, 120, 200)) for _ in value.output)  # int8: 100 and 120 are high, 200 is low
            record = replace(value, output=loud)
            heard += decided(live, record)
            night.journal.window(record)
        elif isinstance(value, Setting):
            digest = value.model_digest
            night.journal.describe(replace(setting, model_digest=digest))
        elif step == "minute":
            night.minute()
        elif step == "event":
            night.journal.event("link_down", reason="no route")
        else:
            night.journal.close()
            night, live = Night(folder), decider_of(setting)
            night.journal.describe(setting)
    night.journal.close()
    again: list[Detection] = []
    deciders: dict[str, Decider] = {}
    for segment, record in windows(read(folder)):
        assert segment.setting is not None
        if segment.run not in deciders:
            deciders[segment.run] = decider_of(segment.setting)
        again += decided(deciders[segment.run], record)
    assert again == heard


def test_strange_values_never_stop_the_journal(night: Night) -> None:
    night.journal.event("odd", level=float("nan"), path=Path("/x"), many=(1, 2.5, float("inf")))  # type: ignore[arg-type]
    (line,) = read(night.folder)
    assert line.fields == {"level": None, "path": "/x", "many": [1, 2.5, None]}


def test_what_decided_an_event_is_on_disk_with_it(night: Night) -> None:
    for idx in range(5):
        night.journal.window(window(idx))
    night.journal.event("alert", reason="k of n windows")
    assert [record for _, record in windows(read(night.folder))] == [window(idx) for idx in range(5)]
    night.journal.window(window(5, b"", gated=True))
    night.minute()
    night.journal.flush()
    lines = list(read(night.folder))
    assert [line.event or line.kind for line in lines] == ["windows", "alert", "minute"]
    assert lines[-1].fields["gated_share"] == pytest.approx(1 / 6, abs=1e-3)  # of the whole minute


def test_a_listener_that_forgets_the_minutes_does_not_fill_the_memory(night: Night) -> None:
    for idx in range(5_000):
        night.journal.window(window(idx))
    night.journal.flush()
    assert len(list(windows(read(night.folder)))) == 4_000
    night.journal.close()
    assert len(list(windows(read(night.folder)))) == 5_000


# Segments


def test_every_segment_says_its_schema_first(night: Night) -> None:
    night.journal.event("start", reason="started")
    (path,) = night.folder.iterdir()
    header = json.loads(path.read_bytes().splitlines()[0])
    assert (header["schema"], header["kind"]) == (JOURNAL_SCHEMA, "segment")


def test_two_runs_never_share_a_segment(tmp_path: Path) -> None:
    for run in range(3):
        night = Night(tmp_path)
        night.journal.event("start", run=run)
        night.journal.close()
    lines = list(read(tmp_path))
    assert [line.fields["run"] for line in lines] == [0, 1, 2]
    assert [line.segment.number for line in lines] == [0, 1, 2]
    assert len({line.segment.run for line in lines}) == 3


def test_another_model_begins_a_new_segment_and_the_same_one_does_not(night: Night) -> None:
    for digest in ("first", "first", "second"):
        night.journal.describe(replace(SETTING, model_digest=digest))
        night.journal.event("model", digest=digest)
    digests = [line.segment.setting.model_digest for line in read(night.folder) if line.segment.setting]
    numbers = [line.segment.number for line in read(night.folder)]
    assert digests == ["first", "first", "second"]
    assert numbers == [0, 0, 1]


def test_the_bytes_stay_within_the_bound_and_the_oldest_go(tmp_path: Path) -> None:
    night = Night(tmp_path, max_bytes=100_000, segment_bytes=10_000)
    for number in range(3_000):
        night.minute(number=number, noise=random.Random(number).randbytes(40).hex())
        if number % 10 == 0:
            assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100_000
    night.journal.close()
    numbers = [line.fields["number"] for line in read(tmp_path)]
    assert numbers[-1] == 2_999
    assert numbers == list(range(int(str(numbers[0])), 3_000))
    assert len(numbers) > 300


def test_finished_segments_are_compressed(tmp_path: Path) -> None:
    night = Night(tmp_path, segment_bytes=5_000)
    for number in range(200):
        night.minute(number=number)
    night.journal.close()
    finished = sorted(tmp_path.glob("*.gz"))
    assert len(finished) > 2
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    assert gzip.decompress(finished[0].read_bytes()).startswith(b'{"schema":2,')


def test_a_crash_while_compressing_leaves_each_line_once(tmp_path: Path) -> None:
    night = Night(tmp_path)
    night.journal.event("start")
    night.journal.close()
    (plain,) = tmp_path.iterdir()
    plain.with_name(plain.name + ".gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.with_name(plain.name + ".tmp").write_bytes(b"half")
    assert kinds(read(tmp_path)) == ["start"]
    again = Night(tmp_path)
    again.journal.event("again")
    again.journal.close()
    assert kinds(read(tmp_path)) == ["start", "again"]
    assert not list(tmp_path.glob("*.tmp"))


# Flash


def test_quiet_minutes_reach_the_disk_every_ten_minutes(night: Night) -> None:
    for minute in range(1, 31):
        night.minute()
        on_disk = len(list(read(night.folder)))
        assert on_disk == minute // 10 * 10
    assert FLUSH_S == 600.0


def test_an_event_reaches_the_disk_at_once_with_all_before_it(night: Night) -> None:
    night.minute()
    night.journal.event("alert")
    assert kinds(read(night.folder)) == ["minute", "alert"]


def test_a_storm_of_events_does_not_wear_out_the_flash(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    monkeypatch.setattr(os, "fsync", syncs.append)
    for _ in range(86_400 // 4):
        night.now_s += 4.0
        night.journal.event("link_down", reason="no route")
    assert len(syncs) < 24 * 60 + 30 + 50  # and those of finished segments
    syncs.clear()
    night.now_s += 3_600.0
    night.journal.event("alert")
    assert len(syncs) == 1


def lines_bytes(folder: Path) -> int:
    return sum(
        len(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
        for path in folder.iterdir()
    )


def test_a_day_of_events_without_end_stays_under_a_megabyte_and_says_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    night = Night(tmp_path)
    night.journal.describe(SETTING)
    for second in range(0, 86_400, 3):
        if second % 60 == 0:
            for idx in range(40):
                night.journal.window(window(second // 60 * 40 + idx))
            night.journal.minute(level_dbfs=-41.5, queue=0, battery=Battery(percent=81.0, temperature_c=31.5))
        night.now_s = float(second + 3)
        night.journal.event("link_down", reason="no route to host, and some more words about it")
        if second % 30 == 0:
            night.journal.event("alert", alert_id="0b9d8b6e-2a0b-4b43-9c2f-5a8e3c1f9d10", label="chainsaw", reason="k")
    night.journal.close()
    lines = list(read(tmp_path))
    assert 500_000 < lines_bytes(tmp_path) < 1_000_000
    assert len(list(windows(lines))) == 1_440 * 40, "what the decision read is never left out"
    left_out: dict[str, int] = {}
    for line in lines:
        for kind, count in dict(line.fields.get("left_out", {})).items():  # type: ignore[call-overload]  # a mapping
            left_out[kind] = left_out.get(kind, 0) + count
    told = [line.event for line in lines if line.event]
    assert told.count("link_down") + left_out["link_down"] == pytest.approx(
        28_800, abs=20
    )  # the last minute's are not told
    assert told.count("alert") + left_out.get("alert", 0) == pytest.approx(2_880, abs=2)
    assert told.count("alert") > 200, "alerts have a reserve of their own"


def test_a_day_in_which_sound_is_lost_every_few_seconds_stays_under_a_megabyte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    night, end = Night(tmp_path), 0
    night.journal.describe(SETTING)
    gap: dict[str, Json] = {"at_s": 12_345.678, "lost_s": 0.512, "reason": "source lost it"}
    for minute in range(1_440):
        for idx in range(17):  # one window between two losses
            end += 56_000 + 37 * ((minute * idx) % 101)
            night.journal.window(WindowRecord(end, gated=False, output=b"\x01\x02\x03"))
        night.now_s += 60.0
        night.journal.minute(
            level_dbfs=-41.5, queue=0, gaps=[gap] * MOST_GAPS, more={"more_gaps": {"n": 13, "lost_s": 7.68}}
        )
    night.journal.close()
    assert lines_bytes(tmp_path) < 1_000_000
    assert len(list(windows(read(tmp_path)))) == 1_440 * 17


def test_a_day_costs_less_than_a_megabyte(tmp_path: Path) -> None:
    chance = random.Random(1)
    night = Night(tmp_path)
    night.journal.describe(SETTING)
    idx = 0
    for minute in range(24 * 60):
        for _ in range(40):
            gated = chance.random() < 0.4
            night.journal.window(window(idx, b"" if gated else chance.randbytes(3), gated=gated))
            idx += 1
        night.now_s += 60.0
        night.journal.minute(
            level_dbfs=round(chance.uniform(-60, -30), 1),
            queue=0,
            battery=Battery(percent=81.0, temperature_c=31.5, charging=True),
        )
        if minute % 60 == 0:
            night.journal.event(
                "alert", alert_id="0b9d8b6e-2a0b-4b43-9c2f-5a8e3c1f9d10", label="chainsaw", reason="k of n"
            )
    night.journal.close()
    assert night.journal.bytes_written < 1_000_000
    assert len(list(windows(read(tmp_path)))) == 24 * 60 * 40
    print(f"journal of one day: {night.journal.bytes_written} bytes")


# Damage


def small_journal(folder: Path) -> bytes:
    night = Night(folder)
    night.journal.describe(SETTING)
    for idx in range(6):
        night.journal.window(window(idx, gated=idx == 2))
        night.minute()
        if idx == 3:
            night.journal.event("link_down", reason="no route")
    night.journal.close()
    (path,) = folder.iterdir()
    return path.read_bytes()


def test_a_journal_cut_at_any_byte_gives_every_whole_line(tmp_path: Path) -> None:
    whole = small_journal(tmp_path / "whole")
    folder = tmp_path / "cut"
    folder.mkdir()
    path = folder / "journal-00000000.jsonl"
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        reading = read(folder)
        lines = list(reading)
        complete = whole[:length].count(b"\n")
        assert len(lines) == max(0, complete - 1)
        assert reading.skipped == (1 if length and not whole[:length].endswith(b"\n") else 0)


def test_a_compressed_journal_cut_at_any_byte_of_its_end_opens(tmp_path: Path) -> None:
    whole = small_journal(tmp_path / "whole")
    folder = tmp_path / "cut"
    folder.mkdir()
    path = folder / "journal-00000000.jsonl.gz"
    packed = gzip.compress(whole)
    for length in range(len(packed) + 1):
        path.write_bytes(packed[:length])
        reading = read(folder)
        lines = list(reading)
        assert len(lines) <= 7
        if 0 < length < len(packed):
            assert reading.unreadable == 1
    assert len(lines) == 7
    assert (reading.unreadable, reading.skipped) == (0, 0)


def test_a_journal_goes_on_behind_a_torn_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    content = small_journal(tmp_path)
    (path,) = tmp_path.iterdir()
    last_two = content.rstrip(b"\n").rsplit(b"\n", 2)[0] + b"\n"
    for length in range(len(last_two), len(content)):
        for old in tmp_path.iterdir():
            old.unlink()
        path.write_bytes(content[:length])
        night = Night(tmp_path)
        night.journal.event("start", reason="power loss")
        night.journal.close()
        reading = read(tmp_path)
        found = kinds(reading)
        assert found[-1] == "start"
        assert len(found) == 5 + content[len(last_two) : length].count(b"\n") + 1
        assert reading.skipped == (0 if content[:length].endswith(b"\n") else 1)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1, max_size=12))
@settings(max_examples=60)
def test_a_flipped_bit_costs_its_line_and_never_becomes_another_score(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    content = bytearray(small_journal(folder))
    (path,) = folder.iterdir()

    def facts(reading: Reading) -> list[tuple[object, ...]]:
        return [(line.kind, line.event, dict(line.fields), line.windows, line.clock.utc) for line in reading]

    good = facts(read(folder))
    for where, bit in flips:
        content[where % len(content)] ^= 1 << bit
    path.write_bytes(content)
    reading = read(folder)
    found = facts(reading)
    assert all(line in good for line in found)
    damaged = len(good) - len(found)
    assert damaged <= len(flips)
    assert reading.skipped >= min(damaged, 1)


def test_a_journal_of_an_older_agent_is_read(tmp_path: Path) -> None:
    lines = small_journal(tmp_path).splitlines()
    (path,) = tmp_path.iterdir()
    older = [{key: value for key, value in json.loads(line).items() if key != "crc"} for line in lines]
    older[0]["schema"] = 1
    path.write_bytes(b"".join(journal_module._line(line) for line in older))
    reading = read(tmp_path)
    assert len(list(reading)) == 7
    assert reading.skipped == 0


@given(st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), min_size=1, max_size=20))
@settings(max_examples=150)
def test_flipped_bytes_are_never_fatal(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[float, int]]
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    content = bytearray(small_journal(folder))
    (path,) = folder.iterdir()
    for where, byte in flips:
        content[int(where * len(content))] = byte
    path.write_bytes(content)
    list(windows(read(folder)))
    packed = bytearray(gzip.compress(content))
    for where, byte in flips:
        packed[int(where * len(packed))] = byte
    path.unlink()
    path.with_name(path.name + ".gz").write_bytes(packed)
    list(windows(read(folder)))
    after = Night(folder)
    after.journal.event("after")
    after.journal.close()
    assert kinds(read(folder))[-1] == "after"


def test_lines_behind_a_damaged_first_line_are_still_read(tmp_path: Path) -> None:
    content = small_journal(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"?" + content[1:])
    reading = read(tmp_path)
    lines = list(reading)
    assert len(lines) == 7
    assert reading.skipped == 1
    assert {(line.segment.run, line.segment.setting) for line in lines} == {("?", None)}


@pytest.mark.parametrize(
    "run",
    [
        {"end": 0, "stride": 1, "n": 2, "out": "AAAA"},
        {"end": 0, "stride": 1, "n": 1},
        {"end": 0, "stride": 1, "n": 10**9},
        {"end": 0, "stride": 1, "n": 1, "out": "***"},
        {"end": 0, "stride": 1, "n": 1, "out": "AA==", "odd": [[]]},
        {"end": 0, "stride": 1, "n": 1, "out": "AA==", "odd": [7]},
        {"end": "0", "stride": 1, "n": 1, "out": "AA=="},
        {"end": 0, "stride": 1, "n": 1, "out": "AA==", "more": 1},
        {"end": 0, "steps": [], "n": 2, "out": "AAA="},
        {"end": 0, "steps": [1, 2], "n": 2, "out": "AAA="},
        {"end": 0, "steps": ["1"], "n": 2, "out": "AAA="},
        {"end": 0, "n": 2, "out": "AAA="},
        7,
    ],
)
def test_windows_that_contradict_themselves_are_skipped_and_counted(tmp_path: Path, run: object) -> None:
    head, *_ = small_journal(tmp_path).splitlines(keepends=True)
    (path,) = tmp_path.iterdir()
    good: dict[str, object] = {"end": 0, "stride": 1, "n": 1, "out": "AA=="}
    line = {"kind": "windows", "monotonic_s": 1.0, "utc": "x", "utc_certainty": "guess"}
    both = [journal_module._sealed({**line, "windows": [one]}) for one in (good, run)]  # type: ignore[dict-item]  # JSON all the same
    path.write_bytes(head + b"".join(both))
    reading = read(tmp_path)
    assert [record for _, record in windows(reading)] == [WindowRecord(0, gated=False, output=b"\x00")]
    assert reading.skipped == 1


def test_a_later_schema_is_left_alone_and_counted(tmp_path: Path) -> None:
    head, *rest = small_journal(tmp_path).splitlines(keepends=True)
    (path,) = tmp_path.iterdir()
    header = {key: value for key, value in json.loads(head).items() if key != "crc"}
    path.write_bytes(b"".join([journal_module._sealed({**header, "schema": JOURNAL_SCHEMA + 1}), *rest]))
    reading = read(tmp_path)
    assert list(reading) == []
    assert reading.unreadable == 1


def test_a_folder_without_a_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        read(tmp_path / "nowhere")
    assert list(read(tmp_path)) == []


def test_kill_9_loses_only_what_was_not_flushed(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; sys.path.insert(0, 'tests/agent')\n"
        "from pathlib import Path; from test_journal import Night, window\n"
        f"night = Night(Path({str(tmp_path)!r}))\n"
        "for idx in range(10): night.journal.window(window(idx)); night.minute()\n"
        "night.journal.event('alert'); night.minute()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", program], cwd=REPO, check=False, capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    reading = read(tmp_path)
    assert kinds(reading) == ["minute"] * 10 + ["alert"]
    assert (reading.skipped, reading.unreadable) == (0, 0)


# Disks that refuse


class Refusal:
    """Makes fsync fail while `number` is an error."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, handle: int) -> None:
        if self.number:
            raise OSError(self.number, os.strerror(self.number))


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch) -> Refusal:
    made = Refusal()
    monkeypatch.setattr(os, "fsync", made)
    return made


@pytest.mark.parametrize(("number", "state"), [(errno.ENOSPC, "journal_full"), (errno.EROFS, "journal_failed")])
def test_a_disk_that_refuses_is_said_and_nothing_is_lost_meanwhile(
    night: Night, refusal: Refusal, number: int, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    night.journal.event("before")
    refusal.number = number
    for _ in range(25):
        night.journal.event("during")
        night.minute()
    assert night.journal.state == state
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    refusal.number = 0
    night.journal.event("after")
    assert night.journal.state == ""
    reading = read(night.folder)
    assert kinds(reading) == ["before", *["during", "minute"] * 25, "after"]
    assert reading.skipped == 0
    assert night.journal.lines_lost == 0


def test_what_memory_cannot_hold_is_counted(night: Night, refusal: Refusal) -> None:
    refusal.number = errno.ENOSPC
    for number in range(1_000):
        night.journal.minute(level_dbfs=-41.5, queue=0, more={"number": number, "text": "x" * 1_000})
    assert sum(len(line) for _, line in night.journal._buffer) < 300_000
    refusal.number = 0
    night.now_s += 14_400.0
    night.journal.event("after")
    assert len(list(read(night.folder))) + night.journal.lines_lost == 1_001
    assert night.journal.lines_lost > 500


def test_a_write_that_is_cut_short_leaves_no_half_line(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    night.journal.event("before")
    actual = night.journal._file
    assert actual is not None

    class Short:
        """Takes half, then nothing: a disk that has just become full."""

        def __init__(self) -> None:
            self.calls = 0

        def write(self, content: memoryview) -> int:
            self.calls += 1
            if self.calls > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(actual.write(content[: len(content) // 2]))

        def fileno(self) -> int:
            return actual.fileno()

        def close(self) -> None:
            actual.close()

    night.journal._file = Short()
    night.journal.event("during")
    assert night.journal.state == "journal_full"
    assert kinds(read(night.folder)) == ["before"]
    night.journal.event("after")
    reading = read(night.folder)
    assert kinds(reading) == ["before", "during", "after"]
    assert reading.skipped == 0


def test_a_folder_that_cannot_be_made_does_not_stop_the_agent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    night = Night(tmp_path / "file" / "journal")
    assert night.journal.state == "journal_failed"
    night.journal.event("start")
    night.minute()
    night.journal.close()
    assert night.journal.state == "journal_failed"
