"""Watching: what is heard is what is shown, over itself on a terminal and line by line elsewhere."""

import io
import re
from pathlib import Path

import pytest

from agent import synth
from agent.__main__ import main
from agent.decide import LabelRule, Standing
from agent.watch import Screen, View


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("watch") / "demo.wav"
    synth.write_demo(path)
    return path


@pytest.fixture
def view() -> View:
    return View(source="USB mic", model="rainforest 5d5d", labels=("chainsaw",), rules={"chainsaw": LabelRule()})


def test_a_recording_is_shown_a_line_a_window_where_there_is_no_terminal(demo, capsys):
    pytest.importorskip("ai_edge_litert", reason="no TFLite runtime for this Python")
    assert main(["watch", str(demo), "--fast"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 29
    assert "\x1b" not in "".join(lines)
    heard = [line for line in lines if "chainsaw since 00:00:12" in line]
    assert 9 <= len(heard) <= 15
    assert re.search(r"quiet \(chainsaw 0\.9\d at 00:00:12, alert\)", lines[-1])
    assert "gate closed" in lines[-1]


def test_once_is_one_window_and_seconds_bound_the_rest(demo, capsys):
    pytest.importorskip("ai_edge_litert", reason="no TFLite runtime for this Python")
    assert main(["watch", str(demo), "--fast", "--once"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert main(["watch", str(demo), "--fast", "--seconds", "6"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_recording_that_is_not_there_is_named(tmp_path, capsys):
    pytest.importorskip("ai_edge_litert", reason="no TFLite runtime for this Python")
    assert main(["watch", str(tmp_path / "none.wav")]) == 1
    assert "none.wav" in capsys.readouterr().err


def test_a_microphone_cannot_be_hurried(capsys):
    assert main(["watch", "--fast"]) == 2
    assert "name a FILE" in capsys.readouterr().err


def test_a_terminal_is_written_over_line_by_line(view):
    out = Terminal()
    screen = Screen(out)
    screen.block(view)
    height = len(view.picture())
    assert out.getvalue().count("\n") == height
    screen.window(view)
    assert out.getvalue().count(f"\x1b[{height}A") == 1


def test_the_threshold_is_marked_and_the_hits_are_counted_until_the_event_opens(view):
    view.scores = {"chainsaw": 0.5}
    standing = Standing(is_open=False, refractory=0, hits=1, mean=None, enough=False)
    view.standings = {"chainsaw": standing}
    (line,) = [line for line in view.picture() if line.startswith("chainsaw")]
    assert line == "chainsaw  [###############---------|-----] 0.5000  1 of 2 hits"
    view.scores = {}
    (line,) = [line for line in view.picture() if line.startswith("chainsaw")]
    assert set(line.removeprefix("chainsaw").strip()) == {"[", " ", "]"}


def test_states_of_the_microphone_are_shown(view):
    view.states = ("no_audio",)
    assert view.picture()[-1] == "hearing   no audio"
    assert "[no_audio]" in view.line()
