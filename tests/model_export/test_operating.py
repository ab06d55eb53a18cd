"""Thresholds: the lowest that is quiet on what was heard, and by its tail in the hours to come."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.manifest import Quantisation
from model_export.operating import (
    HIGHEST,
    LOWEST,
    LOWEST_STEADY,
    Answered,
    Axis,
    choose,
    counts,
    hit_logits,
    peaks,
    rule_at,
    steady_logits,
    tail_threshold,
)
from model_export.recipe import DecisionConfig

OUTPUT = Quantisation(scale=0.1, zero_point=0)
SCORES = 1 / (1 + np.exp(-OUTPUT.to_real(np.arange(-128, 128).astype(np.int8))))
AXIS = Axis(labels=("chainsaw", "engine", "storm"), scores=SCORES, stride_s=1.5, window_s=3.0)
DECISION = DecisionConfig()


def answered(logits: list[float], *, role: str = "forest", wrong: tuple[str, ...] = ("chainsaw",)) -> Answered:
    """The saw's logits at each stride, the other labels silent."""
    outputs = np.full((len(logits), 3), -100, np.int8)
    outputs[:, 0] = np.rint(np.array(logits) / OUTPUT.scale)
    return Answered(name="s", role=role, wrong=wrong, outputs=outputs)


def score(logit: float) -> float:
    return 1 / (1 + float(np.exp(-logit)))


def test_the_threshold_lies_over_the_loudest_pair() -> None:
    """One high window is no alert: the second highest of three decides."""
    quiet = [-8.0] * 20
    rules = choose([answered([*quiet, 4.0, -8.0, 1.0, *quiet])], DECISION, AXIS)
    assert score(1.0) < rules["chainsaw"].threshold < score(1.2)
    assert rules["chainsaw"].release < rules["chainsaw"].threshold


def test_a_silent_stream_gives_the_lowest_threshold() -> None:
    assert choose([answered([-8.0] * 400)], DECISION, AXIS)["chainsaw"].threshold == pytest.approx(LOWEST, abs=0.03)


def test_a_stream_that_never_falls_silent_gives_the_highest() -> None:
    assert choose([answered([9.0] * 40)], DECISION, AXIS)["chainsaw"].threshold == HIGHEST


def test_confusers_may_be_heard_as_often_as_their_rate_allows() -> None:
    burst = [-8.0] * 1_200 + [3.0] * 4 + [-8.0] * 4_800  # once in two hours and a half
    assert choose([answered(burst, role="confusers")], DECISION, AXIS)["chainsaw"].threshold < score(0)
    assert choose([answered(burst)], DECISION, AXIS)["chainsaw"].threshold > score(3.0)


def test_storm_is_heard_and_not_reported() -> None:
    rules = choose([answered([-8.0] * 10)], DECISION, AXIS)
    assert set(rules) == set(AXIS.labels)
    assert [label for label, rule in rules.items() if rule.alert] == ["chainsaw", "engine"]


def test_what_was_counted_is_what_the_decider_raises() -> None:
    one = answered([-8.0] * 10 + [5.0] * 3 + [-8.0] * 100 + [5.0] * 3 + [-8.0] * 10)
    rules = dict.fromkeys(AXIS.labels, rule_at(0.9))
    assert counts([one], rules, AXIS) == {"s": {"minutes": 3.1, "chainsaw": 2}}
    strict = dict.fromkeys(AXIS.labels, dataclasses.replace(rule_at(0.9), hits=3))
    assert counts([one], strict, AXIS)["s"]["chainsaw"] == 2


def test_the_tail_of_a_known_distribution_is_read_right() -> None:
    """Peaks over an exponential tail: the rate at any level is known exactly."""
    rng = np.random.default_rng(4)
    found = [tail_threshold(rng.exponential(0.7, 1_200), 10.0, 0.5) for _ in range(200)]
    # 120 peaks an hour; one in 240 of them is borne
    assert float(np.median(found)) == pytest.approx(0.7 * math.log(240), rel=0.05)


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=120), st.integers(1, 3), st.integers(0, 2))
def test_peaks_are_the_k_th_highest_of_n_and_stand_apart(values: list[int], hits: int, more: int) -> None:
    """Against a reference that looks at every window by itself."""
    of = hits + more
    outputs = np.array(values, np.int8)
    logits = [float(np.log(SCORES[value + 128] / (1 - SCORES[value + 128]))) for value in values]
    lowest = min([*logits, 0.0])
    statistic = []
    for idx in range(len(values)):
        recent = ([lowest] * of + logits[: idx + 1])[-of:]
        statistic.append(sorted(recent, reverse=True)[hits - 1])
    expected, free = [], set(range(len(values)))
    for idx in sorted(range(len(values)), key=lambda idx: -statistic[idx]):
        if idx in free:
            expected.append(statistic[idx])
            free -= set(range(idx - 19, idx + 20))
    assert peaks(hit_logits(outputs, hits, of, AXIS), AXIS) == pytest.approx(expected)


STEADY = DecisionConfig(of={"chainsaw": (2, 4)}, steady_of={"chainsaw": 8})


def test_a_long_doubtful_sound_raises_the_steady_threshold_over_it() -> None:
    quiet = [-8.0] * 40
    rule = choose([answered([*quiet, *[1.5] * 12, *quiet])], STEADY, AXIS)["chainsaw"]
    assert rule.steady > score(1.5)
    assert rule.threshold > score(1.5)
    assert rule.release <= rule.steady


def test_short_sounds_leave_the_steady_threshold_low() -> None:
    quiet = [-8.0] * 40
    rule = choose([answered([*quiet, *[3.0] * 3, *quiet] * 25)], STEADY, AXIS)["chainsaw"]
    assert rule.threshold > score(3.0)
    # always the same: the mean of eight is far under zero all along
    assert rule.steady < score(1.0)
    silent = choose([answered([-8.0] * 400)], STEADY, AXIS)["chainsaw"]
    assert silent.steady == pytest.approx(LOWEST_STEADY, abs=0.03)


def test_a_smaller_share_for_the_quick_way_leaves_more_to_the_mean() -> None:
    rng = np.random.default_rng(5)
    confusers: list[float] = []
    for peak, n_windows in zip(rng.exponential(1.2, 300) - 3, rng.integers(3, 9, 300), strict=True):
        confusers += [*[float(peak)] * int(n_windows), *[-8.0] * 12]
    stream = answered(confusers, role="confusers")
    even = choose([stream], STEADY, AXIS)["chainsaw"]
    slow = choose([stream], dataclasses.replace(STEADY, quick_share={"chainsaw": 0.02}), AXIS)["chainsaw"]
    assert slow.threshold > even.threshold
    assert slow.steady < even.steady


@given(
    st.lists(st.integers(-128, 127), min_size=1, max_size=60),
    st.floats(0.1, 0.95),
    st.integers(1, 9),
)
def test_the_mean_that_chooses_is_the_mean_that_the_agent_takes(values: list[int], steady: float, of: int) -> None:
    """The first window at which the statistic reaches the threshold is the one at which the decider opens."""
    outputs = np.array(values, np.int8)
    rule = dataclasses.replace(rule_at(0.9999, 100, 100, steady=steady, steady_of=of), hits=100, of=100)
    reached = np.flatnonzero(steady_logits(outputs, of, AXIS) >= math.log(rule.steady / (1 - rule.steady)))
    alone = dataclasses.replace(AXIS, labels=("chainsaw",))
    raised = alone.raised(outputs[:, None], np.zeros(len(outputs), bool), {"chainsaw": rule})
    first = [round((at_s - 3.0) / 1.5) for _, at_s in raised[:1]]
    assert first == reached[:1].tolist()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_scores_become_the_nearest_byte(scores: list[float]) -> None:
    found = AXIS.to_bytes(np.array(scores)[:, None])[:, 0]
    for value, byte in zip(scores, found, strict=True):
        assert abs(SCORES[int(byte) + 128] - value) == pytest.approx(np.abs(SCORES - value).min(), abs=1e-12)


def test_what_was_gated_out_is_the_lowest_byte() -> None:
    assert AXIS.to_bytes(np.array([[np.nan]]))[0, 0] == -128
