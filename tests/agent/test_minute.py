"""A minute's line: its level is a mean of power, nothing heard is no silence, and many gaps are a count."""

import numpy as np
import pytest

from agent.listen import Window
from agent.minute import MOST_GAPS, Minute


def window(level_dbfs: float, *, passed_over: bool = False) -> Window:
    return Window(
        start=0,
        end=48_000,
        outputs=None if passed_over else np.zeros(3, np.int8),
        sampled=False,
        frames=None,
        level_dbfs=level_dbfs,
        detections=(),
        passed_over=passed_over,
    )


def test_the_level_is_the_mean_of_the_power() -> None:
    minute = Minute()
    for level_dbfs in (-10.0, -40.0, -40.0, -40.0):
        minute.window(window(level_dbfs))
    assert minute.take_level_dbfs() == -16.0
    assert minute.take_level_dbfs() is None


@pytest.mark.parametrize("level_dbfs", [-120.0, -300.0, float("-inf")])
def test_digital_silence_was_heard_and_is_at_the_floor(level_dbfs: float) -> None:
    minute = Minute()
    minute.window(window(level_dbfs))
    assert minute.take_level_dbfs() == -120.0


def test_many_gaps_become_a_count() -> None:
    minute = Minute()
    for number in range(MOST_GAPS + 100):
        minute.gap(float(number), 0.25, "source lost it")
    assert minute.take_gaps() == [
        {"at_s": float(number), "lost_s": 0.25, "reason": "source lost it"} for number in range(MOST_GAPS)
    ]
    assert minute.take_more() == {"more_gaps": {"n": 100, "lost_s": 25.0}}
    assert (minute.take_gaps(), minute.take_more()) == ([], {})


def test_windows_that_were_left_out_are_counted() -> None:
    minute = Minute()
    for number in range(9):
        minute.window(window(-40.0, passed_over=number % 3 == 0))
    assert minute.take_more() == {"passed_over": 3}
