"""The replay contract of the design, line by line: tests and measurements of others rely on it."""

import json
import logging
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.__main__ import main
from agent.classify import RUNTIMES
from agent.manifest import BUNDLED_MODEL, load_model

Float32 = NDArray[np.float32]

RATE = 16_000
TINY = Path(__file__).resolve().parents[1] / "golden" / "tiny.tflite"
LABELS = ("chainsaw", "engine", "storm")

pytest.importorskip("ai_edge_litert", reason=f"no {RUNTIMES[0]} for this Python: nothing to replay with")


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """The commands set levels of loggers for their process; here many run in one."""
    kept = {name: logging.getLogger(name).level for name in ("agent", "agent.classify")}
    yield
    for name, level in kept.items():
        logging.getLogger(name).setLevel(level)


def scene(seconds: float, *tones: tuple[float, float, float], seed: int = 0) -> Float32:
    """Return faint noise with tones (hertz, from, to); to the tiny model 1 kHz is a saw, 3 kHz an engine."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(round(seconds * RATE)) * 0.003
    at_s = np.arange(len(samples)) / RATE
    for hz, begin_s, end_s in tones:
        samples += 0.05 * np.sin(2.0 * np.pi * hz * at_s) * ((at_s >= begin_s) & (at_s < end_s))
    return samples.astype(np.float32)


def write_wav(path: Path, samples: Float32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32_767).astype("<i2").tobytes())
    return path


Replay = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def replay(capsys: pytest.CaptureFixture[str]) -> Replay:
    """Return what plays paths with the tiny model and gives exit code and JSON lines."""

    def play(*arguments: str | Path) -> tuple[int, list[dict[str, Any]]]:
        code = main(["replay", *map(str, arguments), "--json", "--model", str(TINY)])
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return play


def of_kind(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["kind"] == kind]


@pytest.fixture
def saw(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "saw.wav", scene(45.0, (1_000.0, 12.0, 27.0)))


def test_the_example_of_the_design(replay: Replay, saw: Path) -> None:
    code, lines = replay(saw, "--no-gate")
    assert code == 0
    alert, summary = lines
    assert list(alert) == ["kind", "path", "label", "onset_s", "raised_s", "score"]
    assert 0.95 < alert.pop("score") <= 1.0
    assert alert == {"kind": "alert", "path": str(saw), "label": "chainsaw", "onset_s": 12.0, "raised_s": 15.0}
    assert list(summary) == ["kind", "audio_s", "cpu_s", "wall_s", "windows", "classified", "peak_rss_mb"]
    assert summary["kind"] == "summary"
    assert (summary["audio_s"], summary["windows"], summary["classified"]) == (45.0, 29, 29)
    assert summary["cpu_s"] > 0
    assert summary["wall_s"] > 0
    assert 10 < summary["peak_rss_mb"] < 10_000


def test_scores_are_a_line_a_stride_in_order(replay: Replay, saw: Path) -> None:
    _, lines = replay(saw, "--no-gate", "--scores")
    windows = of_kind(lines, "window")
    assert [line["end_s"] for line in windows] == [3.0 + 1.5 * place for place in range(29)]
    for line in windows:
        assert list(line) == ["kind", "path", "end_s", "scores", "gated"]
        assert line["path"] == str(saw)
        assert tuple(line["scores"]) == LABELS
        assert all(0.0 <= score <= 1.0 for score in line["scores"].values())
        assert line["gated"] is False
    scores = {line["end_s"]: line["scores"]["chainsaw"] for line in windows}
    assert scores[12.0] < 0.1
    assert scores[15.0] > 0.95


def test_an_alert_follows_the_window_that_raised_it_and_the_summary_is_last(replay: Replay, saw: Path) -> None:
    _, lines = replay(saw, "--no-gate", "--scores")
    place = next(index for index, line in enumerate(lines) if line["kind"] == "alert")
    assert lines[place - 1]["end_s"] == lines[place]["raised_s"]
    assert lines[place]["score"] == max(lines[place - 1]["scores"]["chainsaw"], lines[place - 2]["scores"]["chainsaw"])
    assert [line["kind"] for line in lines].count("summary") == 1
    assert lines[-1]["kind"] == "summary"


def test_gated_windows_have_empty_scores_and_count_as_windows(replay: Replay, saw: Path) -> None:
    _, lines = replay(saw, "--scores", "--no-vad")
    windows = of_kind(lines, "window")
    gated = [line for line in windows if line["gated"]]
    assert all(line["scores"] == {} for line in gated)
    assert all(tuple(line["scores"]) == LABELS for line in windows if not line["gated"])
    assert len(windows) == 29
    summary = lines[-1]
    assert (summary["windows"], summary["classified"]) == (29, 29 - len(gated))
    assert 0 < len(gated) < 29
    (alert,) = of_kind(lines, "alert")
    assert alert["label"] == "chainsaw"
    assert 13.5 <= alert["raised_s"] <= 18.0


def test_one_run_tells_what_the_gate_keeps_from_the_model_and_changes_nothing(replay: Replay, saw: Path) -> None:
    _, plain = replay(saw, "--scores")
    _, everything = replay(saw, "--scores", "--no-gate")
    _, lines = replay(saw, "--scores", "--gated-too")
    assert of_kind(lines, "alert") == of_kind(plain, "alert")
    assert lines[-1]["classified"] == plain[-1]["classified"]
    told, shut = of_kind(lines, "window"), of_kind(plain, "window")
    assert [line["gated"] for line in told] == [line["gated"] for line in shut]
    assert any(line["gated"] for line in told)
    assert [line["scores"] for line in told] == [line["scores"] for line in of_kind(everything, "window")]


def test_gated_too_without_scores_has_nothing_to_tell(saw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(saw), "--model", str(TINY), "--gated-too"]) == 2
    assert "--gated-too: needs --scores" in capsys.readouterr().err


def test_people_read_gated_out_and_what_would_have_been_said(saw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(saw), "--model", str(TINY), "--scores", "--gated-too"]) == 0
    gated = [line for line in capsys.readouterr().out.splitlines() if "gated out" in line]
    assert gated
    assert all("gated out  chainsaw 0." in line for line in gated)


def test_without_scores_only_alerts_and_the_summary_are_printed(replay: Replay, saw: Path) -> None:
    _, lines = replay(saw)
    assert [line["kind"] for line in lines] == ["alert", "summary"]


def test_closings_are_not_printed_and_a_second_event_is_an_alert_again(replay: Replay, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "two.wav", scene(75.0, (1_000.0, 12.0, 20.0), (1_000.0, 51.0, 60.0)))
    _, lines = replay(path, "--no-gate")
    assert [(line["onset_s"], line["raised_s"]) for line in of_kind(lines, "alert")] == [(12.0, 15.0), (51.0, 54.0)]


def test_engines_are_alerts_and_storms_are_not(replay: Replay, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "others.wav", scene(40.0, (120.0, 5.0, 15.0), (3_000.0, 21.0, 30.0)))
    _, lines = replay(path, "--no-gate", "--scores")
    assert [line["label"] for line in of_kind(lines, "alert")] == ["engine"]
    assert max(line["scores"]["storm"] for line in of_kind(lines, "window")) > 0.95


def test_a_recording_shorter_than_a_window_gives_a_summary_alone(replay: Replay, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "short.wav", scene(2.0))
    assert replay(path, "--scores")[1][0]["audio_s"] == 2.0


def test_a_folder_is_every_audio_file_under_it_sorted(replay: Replay, tmp_path: Path) -> None:
    for name in ("b.wav", "a/z.wav", "a/inner/y.WAV", "c.wav"):
        write_wav(tmp_path / name, scene(3.0))
    (tmp_path / "notes.txt").write_text("no sound")
    _, lines = replay(tmp_path, "--scores", "--no-gate")
    expected = [str(tmp_path / name) for name in ("a/inner/y.WAV", "a/z.wav", "b.wav", "c.wav")]
    assert [line["path"] for line in of_kind(lines, "window")] == expected
    assert lines[-1]["audio_s"] == 12.0


def test_paths_are_printed_as_they_are_given(
    replay: Replay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saw: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for given in ("saw.wav", str(saw), "../" + tmp_path.name + "/saw.wav"):
        (alert, _) = replay(given, "--no-gate")[1]
        assert alert["path"] == given


def test_each_file_is_heard_as_by_a_device_that_has_just_started(replay: Replay, saw: Path) -> None:
    """Neither seconds nor refractory nor noise floor go over from one file to the next."""
    _, lines = replay(saw, saw, "--scores")
    n_windows = 29
    windows, alerts = of_kind(lines, "window"), of_kind(lines, "alert")
    assert windows[:n_windows] == windows[n_windows:]
    assert len(alerts) == 2
    assert alerts[0] == alerts[1]
    assert lines[-1]["audio_s"] == 90.0


def test_the_same_recording_is_heard_the_same_twice(replay: Replay, saw: Path) -> None:
    first, second = replay(saw, "--scores")[1], replay(saw, "--scores")[1]
    assert first[:-1] == second[:-1]


def test_broken_files_are_named_and_the_others_heard(
    replay: Replay, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_wav(tmp_path / "a.wav", scene(3.0))
    (tmp_path / "b.wav").write_text("this is a shopping list")
    (tmp_path / "c.wav").write_bytes(b"")
    write_wav(tmp_path / "d.wav", scene(3.0))
    code, lines = replay(tmp_path, "--scores", "--no-gate")
    assert code == 1
    assert [Path(line["path"]).name for line in of_kind(lines, "window")] == ["a.wav", "d.wav"]
    assert lines[-1]["audio_s"] == 6.0
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [str(tmp_path / name) in error for name, error in zip(("b.wav", "c.wav"), errors, strict=True)] == [True] * 2
    assert all("\n" not in error for error in errors)


def test_a_truncated_recording_is_heard_as_far_as_it_goes(
    replay: Replay, saw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saw.write_bytes(saw.read_bytes()[: 44 + 2 * 20 * RATE])
    code, lines = replay(saw, "--no-gate")
    assert code == 0
    assert [line["raised_s"] for line in of_kind(lines, "alert")] == [15.0]
    assert lines[-1]["audio_s"] == 20.0
    assert "cut short" in caplog.text


def test_for_people_the_same_is_said_in_sentences(capsys: pytest.CaptureFixture[str], saw: Path) -> None:
    assert main(["replay", str(saw), "--model", str(TINY), "--no-gate"]) == 0
    alert, summary = capsys.readouterr().out.splitlines()
    assert alert.split() == ["12.0", "s", "chainsaw", "1.00", str(saw)]
    assert summary.startswith("45.0 s of audio in ")
    assert "29 windows, 29 classified" in summary


def test_for_people_scores_are_lines_too(capsys: pytest.CaptureFixture[str], saw: Path) -> None:
    assert main(["replay", str(saw), "--model", str(TINY), "--scores", "--no-vad"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 29 + 1 + 1
    assert any("gated out" in line for line in lines)
    assert lines[0].split()[:8] == ["3.0", "s", "chainsaw", "0.03", "engine", "0.03", "storm", "0.03"]


def test_the_shipped_model_hears_the_demo_saw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not BUNDLED_MODEL.is_file():
        pytest.skip("the shipped model is not there yet")
    from agent import synth

    path = tmp_path / "demo.wav"
    synth.write_demo(path)
    assert main(["replay", str(path), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (alert,) = of_kind(lines, "alert")
    assert alert["label"] == "chainsaw"
    assert synth.DEMO_ONSET_S <= alert["raised_s"] <= synth.DEMO_ONSET_S + 6.0
    assert load_model(BUNDLED_MODEL)[0].labels[0] == "chainsaw"
