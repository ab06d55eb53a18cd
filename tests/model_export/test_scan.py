"""Weeks of recorder files: the same events as `agent replay`, on one core, on two, on a cluster, and after a stop."""

import csv
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from agent import synth
from agent.decide import Decider, LabelRule
from agent.errors import ConfigError
from agent.manifest import load_model
from agent.wav import write_wav
from model_export.__main__ import main
from model_export.layouts.labels import audacity_labels, raven_labels
from model_export.scan import work
from model_export.scan.hear import Event, Heard, Job, events_of, hear, job_of
from model_export.scan.kept import Kept
from model_export.scan.recorders import Origin, origin_of, origin_of_name
from model_export.scan.tables import audacity_text, raven_text

REPO = Path(__file__).resolve().parents[2]
RATE = 16_000


@pytest.fixture(scope="module")
def job() -> Job:
    return job_of(*load_model(REPO / "agent/models/default.tflite"), gate=True, vad=True)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings with a saw each, at two rates, and one that is broken."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(5)
    for number in range(3):
        samples = synth.forest(40.0, rng)
        saw = synth.chainsaw(14.0, rng)
        samples[14 * RATE : 28 * RATE] += saw[: 14 * RATE] * np.float32(0.8)
        write_wav(folder / f"2024052{number}_060000.WAV", samples.clip(-1, 1), RATE)
    night, _ = soundfile.read(folder / "20240520_060000.WAV", dtype="float32")
    (folder / "SM4").mkdir()
    soundfile.write(folder / "SM4/S4A01_20240523_060000.flac", np.repeat(night, 2), 2 * RATE)
    (folder / "20240529_060000.WAV").write_bytes(b"RIFF\x00\x00\x00\x00WAVE")
    return folder


def names_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def replayed(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str, float, float]]:
    from agent.__main__ import main as agent

    agent(["replay", str(folder), "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return sorted(
        (Path(line["path"]).relative_to(folder).as_posix(), line["label"], line["onset_s"], line["raised_s"])
        for line in lines
        if line["kind"] == "alert"
    )


def test_a_scan_finds_what_replay_finds_and_writes_every_table(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    assert main(["scan", str(recordings), "--out", str(out), "--workers", "1"]) == 1  # one file is broken
    capsys.readouterr()
    assert "1 of 5 recordings failed" in caplog.text
    with (out / "events.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = sorted((row["path"], row["label"], float(row["onset_s"]), float(row["raised_s"])) for row in rows)
    wanted = replayed(recordings, capsys)
    assert len(wanted) == 4
    assert found == [(path, label, round(onset, 2), round(raised, 2)) for path, label, onset, raised in wanted]
    assert rows[0]["time"] == (datetime(2024, 5, 20, 6, tzinfo=UTC) + timedelta(seconds=found[0][2])).isoformat(
        timespec="seconds"
    )
    with (out / "recordings.csv").open(newline="") as file:
        counts = {row["path"]: (row["chainsaw"], bool(row["error"])) for row in csv.DictReader(file)}
    assert counts["20240520_060000.WAV"] == ("1", False)
    assert counts["20240529_060000.WAV"] == ("0", True)
    assert raven_labels(out / "raven/SM4/S4A01_20240523_060000.Table.1.selections.txt")[0][2] == "chainsaw"
    assert audacity_labels(out / "audacity/20240521_060000.txt")[0][2].startswith("chainsaw 0.")


def test_two_workers_find_what_one_finds(recordings: Path, job: Job) -> None:
    names = names_of(recordings)
    alone = {one.path: (one.events, one.error) for one in work.here(str(recordings), names, job, 1)}
    both = {one.path: (one.events, one.error) for one in work.here(str(recordings), names, job, 2)}
    assert both == alone
    assert sum(bool(error) for _, error in both.values()) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_cluster_of_two_workers_finds_what_one_finds(recordings: Path, job: Job) -> None:
    distributed = pytest.importorskip("distributed")
    names = names_of(recordings)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        found = {
            one.path: (one.events, one.error)
            for one in work.there(str(recordings), names, job, cluster.scheduler_address)
        }
    assert found == {one.path: (one.events, one.error) for one in work.here(str(recordings), names, job, 1)}


def test_workers_that_lack_the_package_are_told_of_before_every_file_fails() -> None:
    class Client:
        def wait_for_workers(self, count: int, timeout: float) -> None:
            pass

        def run(self, asked: object, name: str) -> dict[str, object]:
            return {"tcp://a:1": object(), "tcp://b:1": None}

    with pytest.raises(ConfigError, match=r"1 of 2 workers lack this package, among them tcp://b:1"):
        work._expect_workers(Client(), "tcp://s:8786")


def test_a_worker_that_dies_costs_its_file_alone(recordings: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures.process import BrokenProcessPool

    names = names_of(recordings)[:3]

    def pooled(root: str, asked: list[str], job: Job, workers: int) -> object:
        for name in asked:
            if name == names[1]:
                raise BrokenProcessPool
            yield hear(root, name, job)

    monkeypatch.setattr(work, "_pooled", pooled)
    found = {one.path: one.error for one in work.here(str(recordings), names, job, 2)}
    assert set(found) == set(names)
    assert [name for name, error in found.items() if "worker that heard it died" in error] == [names[1]]


def test_a_scan_goes_on_where_it_stopped_and_hears_again_what_changed(
    recordings: Path, tmp_path: Path, job: Job
) -> None:
    names = names_of(recordings)
    kept = Kept(tmp_path / "scan.jsonl", job)
    assert kept.left(recordings, names) == names
    for name in names[:2]:
        kept.keep(recordings, Heard(path=name, events=(Event(label="saw", onset_s=1, raised_s=2, end_s=3, score=0.5),)))
    kept.keep(recordings, Heard(path=names[2], error="broken"))
    with (tmp_path / "scan.jsonl").open("a") as file:
        file.write('{"size": 3, "cha')  # killed while it wrote
    again = Kept(tmp_path / "scan.jsonl", job)
    assert again.left(recordings, names) == names[2:]
    assert again.done[names[0]][2].events[0].label == "saw"
    again.keep(recordings, Heard(path=names[3]))
    assert Kept(tmp_path / "scan.jsonl", job).left(recordings, names) == [names[2], *names[4:]]
    changed = tmp_path / "data"
    changed.mkdir()
    (changed / names[0]).write_bytes(b"other")
    assert again.left(changed, names[:1]) == names[:1]


def test_a_scan_of_another_model_is_refused(tmp_path: Path, job: Job) -> None:
    Kept(tmp_path / "scan.jsonl", job)
    other = Job(job.manifest, job.content, gate=False)
    with pytest.raises(ConfigError, match=r"scan\.jsonl: is of another model or gate"):
        Kept(tmp_path / "scan.jsonl", other)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [(["scan", "nowhere"], "nowhere: is no folder"), (["scan", ".", "--workers", "0"], "--workers is 0")],
)
def test_wrong_use_is_named(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert problem in capsys.readouterr().err


def test_where_nothing_can_be_heard_the_scan_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"RIFF")
    assert main(["scan", str(tmp_path), "--out", str(tmp_path / "out"), "--workers", "1"]) == 2
    assert "not one of 2 recordings could be heard" in capsys.readouterr().err


@given(st.lists(st.booleans(), max_size=60))
def test_consecutive_positive_windows_are_one_call(hits: list[bool]) -> None:
    manifest, _ = load_model(REPO / "agent/models/default.tflite")
    rule = LabelRule(threshold=0.5, release=0.5, hits=1, of=1, refractory_s=0.0, close_after_s=3.0)
    decider = Decider(
        labels=("call",), rules={"call": rule}, scores=np.linspace(0, 1, 256), stride=3 * RATE, sample_rate=RATE
    )
    detections = []
    for number, hit in enumerate(hits, 1):
        detections += decider.push(number * 3 * RATE, np.array([100 if hit else -100], np.int8))
    detections += decider.finish(len(hits) * 3 * RATE)
    runs = sum(hit and not before for hit, before in zip(hits, [False, *hits], strict=False))
    assert sum(detection.opens for detection in detections) == runs
    assert len(events_of(detections, manifest.with_rules({"call": rule}))) == runs


@pytest.mark.parametrize(
    ("stem", "start"),
    [
        ("20240521_063000", datetime(2024, 5, 21, 6, 30, tzinfo=UTC)),
        ("20240521_063000T", datetime(2024, 5, 21, 6, 30, tzinfo=UTC)),
        ("5E60AB12", datetime(2020, 3, 5, 7, 32, 34, tzinfo=UTC)),
        ("S4A01234_20240521_063000", datetime(2024, 5, 21, 6, 30)),  # noqa: DTZ001  # its own local time
        ("20240521T063000-0300_north", datetime(2024, 5, 21, 6, 30, tzinfo=timezone(timedelta(hours=-3)))),
        ("recording_00", None),
        ("20241399_990000", None),
    ],
)
def test_a_file_name_tells_when(stem: str, start: datetime | None) -> None:
    assert origin_of_name(stem).start == start


def test_a_file_name_tells_where() -> None:
    found = origin_of_name("20200426T020000Z_recorder [-27.3888+152.8808]")
    assert (found.latitude, found.longitude) == (-27.3888, 152.8808)
    assert origin_of_name("20200426T020000Z_[-97.3888+152.8808]") == Origin(start=datetime(2020, 4, 26, 2, tzinfo=UTC))


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


def with_chunk(path: Path, extra: bytes) -> Path:
    write_wav(path, np.zeros(1_600, np.float32), RATE)
    content = path.read_bytes() + extra
    path.write_bytes(content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:])
    return path


def test_an_audiomoths_comment_counts_more_than_the_name(tmp_path: Path) -> None:
    text = (
        b"Recorded at 21:04:00 02/05/2024 (UTC-3) by AudioMoth 24F319055FDF2F5B at medium gain while battery was 4.2V."
    )
    path = with_chunk(tmp_path / "20240521_063000.WAV", chunk(b"LIST", b"INFO" + chunk(b"ICMT", text + b"\0")))
    assert origin_of(path).start == datetime(2024, 5, 2, 21, 4, tzinfo=timezone(timedelta(hours=-3)))


def test_guano_tells_time_and_place(tmp_path: Path) -> None:
    text = b"GUANO|Version: 1.0\nTimestamp: 2024-05-21T06:30:00-05:00\nLoc Position: 4.571 -74.297\n"
    found = origin_of(with_chunk(tmp_path / "S4A01_20240101_000000.wav", chunk(b"guan", text)))
    assert found.start == datetime(2024, 5, 21, 6, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert (found.latitude, found.longitude) == (4.571, -74.297)


def test_a_song_meters_summary_tells_the_place(tmp_path: Path) -> None:
    (tmp_path / "S4A01_A_Summary.txt").write_text(
        "DATE,TIME,LAT,,LON,,POWER(V),TEMP(C),#FILES\n2024-May-21,06:30:00,4.57100,S,74.29700,W,6.1,19.2,3\n"
    )
    found = origin_of(with_chunk(tmp_path / "S4A01_20240521_063000.wav", b""))
    assert (found.latitude, found.longitude) == (-4.571, -74.297)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader_of_notes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVE" + content)
    origin_of(path)


def test_events_with_a_place_become_points_on_a_map(tmp_path: Path) -> None:
    from model_export.scan import tables

    event = Event(label="chainsaw", onset_s=61.0, raised_s=64.0, end_s=70.0, score=0.9)
    heard = [Heard(path="a.wav", events=(event,)), Heard(path="b.wav", events=(event,))]
    origins = {
        "a.wav": Origin(start=datetime(2024, 5, 21, tzinfo=UTC), latitude=4.5, longitude=-74.2),
        "b.wav": Origin(),
    }
    tables.write(tmp_path, heard, origins, ["chainsaw"])
    (point,) = json.loads((tmp_path / "events.geojson").read_text())["features"]
    assert point["geometry"] == {"type": "Point", "coordinates": [-74.2, 4.5]}
    assert point["properties"]["time"] == "2024-05-21T00:01:01+00:00"


@given(
    st.lists(
        st.tuples(st.floats(0, 9_000), st.floats(0, 600)).map(
            lambda pair: Event(label="saw", onset_s=pair[0], raised_s=pair[0], end_s=pair[0] + pair[1], score=0.5)
        ),
        max_size=8,
    )
)
def test_what_a_scan_writes_is_read_back_as_labels(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "a.selections.txt").write_text(raven_text(events))
    (folder / "a.txt").write_text(audacity_text(events))
    wanted = sorted({(round(event.onset_s, 3), round(event.end_s, 3)) for event in events})
    assert [(begin_s, end_s) for begin_s, end_s, _ in raven_labels(folder / "a.selections.txt")] == wanted
    assert len(audacity_labels(folder / "a.txt")) == len(events)
