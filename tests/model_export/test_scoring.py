"""The scorer against truth that is known, and against slow references."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.scoring import Raised, per_hour, poisson_cdf, recall, score
from model_export.tracks import TrueEvent


def event(onset_s: float, label: str = "chainsaw", recording: str = "r") -> TrueEvent:
    return TrueEvent(label=label, onset_s=onset_s, offset_s=onset_s + 12, source="s", recording=recording, ground="g")


def alert(raised_s: float, label: str = "chainsaw") -> Raised:
    return Raised(label=label, raised_s=raised_s, onset_s=raised_s - 4.5, score=0.9)


EVENTS = [event(45.0 * number) for number in range(1, 11)]


def test_a_perfect_agent_finds_all_and_imagines_nothing() -> None:
    scored = score([alert(one.onset_s + 4.5) for one in EVENTS], EVENTS)
    assert scored.delays_s == (4.5,) * 10
    assert scored.false == ()


def test_a_late_agent_has_its_delay_and_a_too_late_one_finds_nothing() -> None:
    assert set(score([alert(one.onset_s + 16.5) for one in EVENTS], EVENTS).delays_s) == {16.5}
    late = score([alert(one.onset_s + 16.6) for one in EVENTS], EVENTS)
    assert set(late.delays_s) == {None}
    assert len(late.false) == 10


def test_a_deaf_agent_has_recall_0() -> None:
    assert set(score([], EVENTS).delays_s) == {None}


def test_an_alert_before_the_sound_is_false() -> None:
    scored = score([alert(EVENTS[0].onset_s - 0.1)], EVENTS)
    assert scored.delays_s[0] is None
    assert len(scored.false) == 1


def test_a_second_alert_for_one_event_is_not_false_and_does_not_count_twice() -> None:
    scored = score([alert(50.0), alert(52.0)], [EVENTS[0]])
    assert scored.delays_s == (5.0,)
    assert scored.false == ()


@pytest.mark.parametrize(
    ("raised", "true", "is_false"),
    [
        ("engine", "chainsaw", False),  # a saw is a motor: neither true nor false
        ("chainsaw", "engine", True),
        ("engine", "other", True),
        ("chainsaw", "other", True),
        ("engine", "engine", False),
    ],
)
def test_what_counts_as_false_on_what(raised: str, true: str, is_false: bool) -> None:
    scored = score([alert(50.0, raised)], [event(45.0, true)])
    assert bool(scored.false) is is_false
    assert (scored.delays_s[0] is not None) is (raised == true)


def test_an_agent_that_guesses_is_right_as_often_as_chance() -> None:
    """Alerts at random moments find an event with the chance that one falls into its 16.5 s."""
    rng = np.random.default_rng(5)
    events = [event(60.0 * number) for number in range(1, 2_000)]
    alerts = [alert(float(at)) for at in rng.uniform(0, 120_000, 2_000)]
    scored = score(alerts, events)
    expected = 1 - math.exp(-16.5 / 60)
    found = sum(delay is not None for delay in scored.delays_s) / len(events)
    assert found == pytest.approx(expected, abs=0.03)
    assert len(scored.false) / 2_000 == pytest.approx(1 - 16.5 / 60, abs=0.03)


@given(st.integers(0, 60), st.floats(0.01, 50))
def test_poisson_sums_to_the_textbook(count: int, mean: float) -> None:
    slow, term = 0.0, math.exp(-mean)
    for k in range(count + 1):
        slow += term
        term *= mean / (k + 1)
    assert poisson_cdf(count, mean) == pytest.approx(slow, abs=1e-9)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # the exact intervals of Garwood's table (1936)
    [
        (0, 0.0, 3.689),
        (1, 0.0253, 5.572),
        (2, 0.242, 7.225),
        (5, 1.623, 11.668),
        (10, 4.795, 18.390),
        (50, 37.11, 65.92),
    ],
)
def test_the_poisson_interval_is_the_exact_one(count: int, low: float, high: float) -> None:
    interval = per_hour(count, 1.0)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=0.006), pytest.approx(high, abs=0.006))
    assert per_hour(count, 2.5).high == pytest.approx(interval.high / 2.5)


def test_no_hours_give_no_rate() -> None:
    assert math.isnan(per_hour(0, 0.0).value)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcd")), min_size=1, max_size=30))
def test_the_bootstrap_is_that_of_a_slow_reference(rows: list[tuple[bool, str]]) -> None:
    found, recordings = [row[0] for row in rows], [row[1] for row in rows]
    names = sorted(set(recordings))
    picks = np.random.default_rng(1).integers(len(names), size=(200, len(names)))
    shares = []
    for pick in picks:
        drawn = [row[0] for idx in pick for row in rows if row[1] == names[idx]]
        shares.append(sum(drawn) / len(drawn))
    interval = recall(found, recordings, rounds=200)
    assert interval.value == pytest.approx(sum(found) / len(found))
    assert interval.low == pytest.approx(np.percentile(shares, 2.5))
    assert interval.high == pytest.approx(np.percentile(shares, 97.5))


def test_many_events_of_one_recording_are_one_witness() -> None:
    found = [True] * 20 + [False] * 20
    one_each = recall(found, [str(number) for number in range(40)])
    two = recall(found, ["a"] * 20 + ["b"] * 20)
    assert (two.low, two.high) == (0.0, 1.0)
    assert 0.3 < one_each.low < one_each.high < 0.7
