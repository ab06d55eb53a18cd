"""A bar on a terminal, and nothing where there is none."""

import io

import pytest

from agent.meter import LiveLine, bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("level", "drawn"),
    [(-120.0, "[--------]"), (-80.0, "[--------]"), (-40.0, "[####----]"), (0.0, "[########]"), (6.0, "[########]")],
)
def test_a_bar_is_full_at_full_scale(level, drawn):
    assert bar(level, 8) == drawn


def test_a_line_is_written_over_on_a_terminal_and_taken_away():
    out = Terminal()
    line = LiveLine(out)
    line.show("one")
    line.show("two")
    line.clear()
    line.clear()
    assert out.getvalue() == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"


def test_nothing_is_written_where_nobody_looks():
    out = io.StringIO()
    line = LiveLine(out)
    line.show("one")
    line.clear()
    assert out.getvalue() == ""
