"""k of n, the steady mean, hysteresis: worked examples, properties, and a slow decider that is obviously right."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.decide import LARGEST_REFRACTORY_S, LOWEST_LOG_ODDS, Decider, Detection, LabelRule
from agent.errors import FieldError
from agent.fields import Fields

RATE = 16_000
STRIDE = 24_000  # 1.5 s
STRIDE_S = STRIDE / RATE

LINEAR = np.arange(256) / 255.0
"""Scores that rise evenly with the byte."""

RULE = LabelRule(threshold=0.8, release=0.6, hits=2, of=3, refractory_s=30.0, close_after_s=6.0, longest_s=600.0)

HIT, HELD, MISS, GATED = 0.9, 0.7, 0.1, None
"""Scores of a window over the threshold, between release and threshold, below both; and one that the gate kept out."""


def byte_of(score: float) -> int:
    """Return the lowest byte whose score on the linear scale is at least this."""
    return int(np.searchsorted(LINEAR, score)) - 128


def decider(rule: LabelRule = RULE, scores: NDArray[np.float64] = LINEAR) -> Decider:
    return Decider(labels=("chainsaw",), rules={"chainsaw": rule}, scores=scores, stride=STRIDE, sample_rate=RATE)


def outputs(*scores: float | None) -> NDArray[np.int8] | None:
    return None if scores[0] is None else np.array([byte_of(score or 0.0) for score in scores], np.int8)


def decide(scores: Sequence[float | None], rule: LabelRule = RULE, first_end_s: float = 3.0) -> list[Detection]:
    """Push windows a stride apart and return all that was decided."""
    judge = decider(rule)
    return [
        detection
        for place, score in enumerate(scores)
        for detection in judge.push(round(first_end_s * RATE) + place * STRIDE, outputs(score))
    ]


def times_s(detections: Sequence[Detection]) -> list[tuple[str, float]]:
    return [("opens" if found.opens else "closes", found.raised / RATE) for found in detections]


# Worked examples


def test_two_of_three_hits_open_an_event() -> None:
    assert times_s(decide([MISS, HIT, HIT])) == [("opens", 6.0)]
    assert times_s(decide([HIT, MISS, HIT])) == [("opens", 6.0)]


def test_one_hit_or_two_far_apart_open_nothing() -> None:
    assert decide([MISS, HIT, MISS, MISS]) == []
    assert decide([HIT, MISS, MISS, HIT]) == []


def test_a_score_between_release_and_threshold_is_no_hit() -> None:
    assert decide([HELD] * 10) == []


def test_a_saw_from_second_12_is_raised_at_15() -> None:
    """The example of the replay contract: windows that end at 13.5 and 15.0 s are the first two hits."""
    scores = [MISS] * 7 + [HIT, 0.97]  # ends 3.0 ... 12.0, 13.5, 15.0
    (opening,) = decide(scores)
    assert opening.onset / RATE == 12.0
    assert opening.raised / RATE == 15.0
    assert opening.score == pytest.approx(0.97, abs=1 / 255)
    assert opening.label == "chainsaw"
    assert opening.opens
    assert opening.alert


def test_an_event_in_the_first_window_does_not_begin_before_the_audio() -> None:
    judge = decider(replace(RULE, hits=1, of=1))
    (opening,) = judge.push(STRIDE // 2, outputs(HIT))
    assert opening.onset == 0


def test_a_window_that_was_gated_out_is_no_hit_and_takes_a_place() -> None:
    assert times_s(decide([HIT, GATED, HIT])) == [("opens", 6.0)]
    assert decide([HIT, GATED, GATED, HIT]) == []


def test_lost_audio_is_misses() -> None:
    near, far = decider(), decider()
    for judge in (near, far):
        assert judge.push(3 * RATE, outputs(HIT)) == []
    assert near.push(3 * RATE + 2 * STRIDE, outputs(HIT)), "one window lost: two of three"
    assert far.push(3 * RATE + 3 * STRIDE, outputs(HIT)) == [], "two windows lost: one of three"


def test_an_event_opens_once_and_stays_open_while_scores_hold() -> None:
    found = decide([HIT, HIT] + [HELD] * 50)
    assert times_s(found) == [("opens", 4.5)]


def test_an_event_closes_after_quiet_seconds_with_the_highest_score_of_it() -> None:
    found = decide([HIT, HIT, 0.99, HELD, MISS, MISS, MISS, MISS, MISS])
    assert times_s(found) == [("opens", 4.5), ("closes", 7.5 + 6.0)]
    assert found[1].onset == found[0].onset
    assert found[1].score == pytest.approx(0.99, abs=1 / 255)
    assert not found[1].opens


def test_quiet_shorter_than_the_closing_time_closes_nothing() -> None:
    assert times_s(decide([HIT, HIT] + [MISS, MISS, MISS, HELD] * 10)) == [("opens", 4.5)]


def test_gated_windows_close_an_event() -> None:
    assert times_s(decide([HIT, HIT] + [GATED] * 4)) == [("opens", 4.5), ("closes", 10.5)]


def test_lost_audio_closes_an_event_even_if_the_saw_is_back_behind_it() -> None:
    judge = decider()
    judge.push(3 * RATE, outputs(HIT))
    (opening,) = judge.push(3 * RATE + STRIDE, outputs(HIT))
    behind = opening.raised + 60 * RATE
    assert times_s(judge.push(behind, outputs(HIT))) == [("closes", behind / RATE)]
    judge.push(behind + STRIDE, outputs(HIT))
    assert times_s(judge.push(behind + 2 * STRIDE, outputs(HIT))) == [("opens", behind / RATE + 2 * STRIDE_S)]


def test_lost_audio_shorter_than_the_closing_time_closes_nothing() -> None:
    judge = decider()
    judge.push(3 * RATE, outputs(HIT))
    judge.push(3 * RATE + STRIDE, outputs(HIT))
    assert judge.push(3 * RATE + 4 * STRIDE, outputs(HIT)) == []


def test_a_sound_that_never_ends_is_closed_and_opened_again() -> None:
    found = times_s(decide([HIT] * 30, replace(RULE, longest_s=12.0, refractory_s=0.0)))
    # onset 1.5, closed 12 s after it; the two windows behind the closing open again
    assert found[:4] == [("opens", 4.5), ("closes", 13.5), ("opens", 16.5), ("closes", 25.5)]


def test_inside_the_refractory_nothing_opens_and_behind_it_at_once() -> None:
    found = times_s(decide([HIT, HIT] + [MISS] * 4 + [HIT] * 20))
    assert found == [("opens", 4.5), ("closes", 10.5), ("opens", 34.5)]


def test_the_refractory_of_one_label_does_not_bind_another() -> None:
    rules = {"chainsaw": RULE, "engine": RULE}
    judge = Decider(labels=("chainsaw", "engine"), rules=rules, scores=LINEAR, stride=STRIDE, sample_rate=RATE)
    windows = [outputs(HIT, MISS)] * 2 + [outputs(MISS, HIT)] * 2
    found = [detection for place, window in enumerate(windows) for detection in judge.push(place * STRIDE, window)]
    assert [(detection.label, detection.opens) for detection in found] == [("chainsaw", True), ("engine", True)]


def test_a_label_that_is_not_reported_is_decided_all_the_same() -> None:
    found = decide([HIT, HIT], replace(RULE, alert=False))
    assert [detection.alert for detection in found] == [False]


def test_the_end_of_the_audio_closes_what_is_open() -> None:
    judge = decider()
    judge.push(3 * RATE, outputs(HIT))
    (opening,) = judge.push(3 * RATE + STRIDE, outputs(HIT))
    (closing,) = judge.finish(20 * RATE)
    assert closing == replace(opening, opens=False, raised=20 * RATE)
    assert judge.finish(21 * RATE) == []


# A saw that lasts, though no window of it is sure

STEADY = replace(RULE, threshold=0.95, release=0.55, steady=0.65, steady_of=6)


def test_windows_that_lean_one_way_for_long_open_an_event() -> None:
    """None reaches the threshold; the mean of the last six does so with the sixth."""
    found = decide([0.1] * 4 + [0.7] * 10, STEADY)
    assert times_s(found) == [("opens", 3.0 + 9 * STRIDE_S)]
    assert found[0].onset / RATE == 3.0 + 4 * STRIDE_S - STRIDE_S
    assert found[0].score == pytest.approx(0.7, abs=2 / 255)


def test_short_bursts_and_pauses_are_not_steady() -> None:
    assert decide([0.1] * 6 + [0.9] * 3 + [0.1] * 6, STEADY) == []
    assert decide([0.9, 0.9, 0.05] * 10, STEADY) == []


def test_what_was_gated_out_speaks_against_it_and_so_does_what_was_not_heard_yet() -> None:
    assert decide([0.7] * 5, STEADY) == []
    assert decide([0.75] * 5 + [GATED] + [0.75] * 4, STEADY) == []
    judge = decider(STEADY)
    for place in range(5):
        assert judge.push((place + 2) * STRIDE, outputs(0.75)) == []
    assert judge.push(9 * STRIDE, outputs(0.75)) == [], "two windows lost"


def test_a_clear_saw_is_raised_by_its_hits_before_it_has_lasted() -> None:
    assert times_s(decide([0.1] * 8 + [0.99, 0.99], STEADY)) == [("opens", 3.0 + 9 * STRIDE_S)]


def test_the_refractory_binds_what_lasts_too() -> None:
    found = times_s(decide([0.7] * 60, replace(STEADY, longest_s=12.0)))
    openings = [at_s for what, at_s in found if what == "opens"]
    assert len(openings) == 3
    assert all(later - earlier >= 30.0 for earlier, later in pairwise(openings))


def test_a_manifest_without_the_steady_mean_has_none() -> None:
    known = rule_mapping()
    del known["steady"], known["steady_of"]
    assert LabelRule.parse(Fields(known)) == RULE
    assert RULE.steady == 1.0


# Rules


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"hits": 0}, "hits"),
        ({"hits": 4}, "hits"),
        ({"release": 0.9}, "release"),
        ({"release": 0.0}, "release"),
        ({"threshold": 1.0}, "release"),
        ({"steady": 0.5}, "release"),
    ],
)
def test_rules_that_could_never_work_are_refused(wrong: dict[str, Any], key: str) -> None:
    with pytest.raises(FieldError) as caught:
        replace(RULE, **wrong)
    assert caught.value.key == key


def rule_mapping(**changed: object) -> dict[str, object]:
    known: dict[str, object] = {name: getattr(RULE, name) for name in RULE.__slots__}
    return known | changed


def test_a_rule_is_read_from_a_manifest() -> None:
    assert LabelRule.parse(Fields(rule_mapping())) == RULE


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"refractory_s": 31}, "rules.saw.refractory_s: is 31, expected a number from 0 to 30"),
        ({"hits": 4}, "rules.saw.hits: is 4, expected 1 to of = 3"),
        ({"cooldown": 1}, "rules.saw.cooldown: is not a known key; known: "),
        ({"alert": 1}, "rules.saw.alert: is 1, expected true or false"),
    ],
)
def test_a_wrong_rule_is_named_by_its_whole_path(changed: dict[str, object], text: str) -> None:
    with pytest.raises(FieldError) as caught:
        LabelRule.parse(Fields(rule_mapping(**changed), "rules.saw"))
    assert str(caught.value).startswith(text)


def test_the_refractory_is_never_longer_than_30_seconds() -> None:
    assert LARGEST_REFRACTORY_S == 30.0


# Bytes and scores


def sigmoid_scores(scale: float, zero_point: int) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-(np.arange(-128, 128) - zero_point) * scale))
    return scores


@pytest.mark.parametrize(
    "scores",
    [LINEAR, sigmoid_scores(0.1, 20), sigmoid_scores(0.5, -3), (np.arange(256) / 100.0 - 0.5).clip(0.0, 1.0)],
    ids=["linear", "sigmoid", "steep sigmoid", "clipped"],
)
@pytest.mark.parametrize("threshold", [0.001, 0.25, 0.5, LINEAR[200], 0.8, 0.9999])
def test_a_byte_is_a_hit_exactly_when_its_score_reaches_the_threshold(
    scores: NDArray[np.float64], threshold: float
) -> None:
    rule = LabelRule(threshold=threshold, release=threshold, hits=1, of=1)
    for byte in range(-128, 128):
        found = decider(rule, scores).push(STRIDE, np.array([byte], np.int8))
        assert bool(found) == (scores[byte + 128] >= threshold), byte


@pytest.mark.parametrize("release", [0.001, LINEAR[77], 0.6])
def test_a_byte_holds_an_event_exactly_when_its_score_reaches_the_release(release: float) -> None:
    rule = LabelRule(threshold=0.9, release=release, hits=1, of=1, close_after_s=STRIDE_S)
    for byte in range(-128, 128):
        judge = decider(rule)
        judge.push(STRIDE, np.array([127], np.int8))
        closed = bool(judge.push(2 * STRIDE, np.array([byte], np.int8)))
        assert closed == (LINEAR[byte + 128] < release), byte


# An oracle and properties


def log_odds(score: float | None) -> float:
    if score is None or score == 0:
        return LOWEST_LOG_ODDS
    return 20.0 if score == 1 else max(float(np.log(score / (1 - score))), LOWEST_LOG_ODDS)


@dataclass
class SlowDecider:
    """The rules said again in scores and seconds, over the whole history, without a thought for speed."""

    rule: LabelRule
    heard: list[tuple[float, float | None]]
    """(end in seconds, score) of every window since the last closing, lost ones included."""
    open_since_s: float | None = None
    alerted_s: float | None = None
    last_end_s: float | None = None
    best: float = 0.0

    def push(self, end_s: float, score: float | None) -> tuple[str, float, float] | None:
        """Return (opens or closes, onset, score), or nothing."""
        if self.last_end_s is not None:
            while self.last_end_s + 2 * STRIDE_S <= end_s:
                self.last_end_s += STRIDE_S
                self.heard.append((self.last_end_s, None))
        self.heard.append((end_s, score))
        self.last_end_s = end_s
        return self.open(end_s) if self.open_since_s is None else self.hold(end_s)

    def open(self, end_s: float) -> tuple[str, float, float] | None:
        hits = [
            (at_s, score)
            for at_s, score in self.heard[-self.rule.of :]
            if score is not None and score >= self.rule.threshold
        ]
        if len(hits) < self.rule.hits and self.leans():
            recent = self.heard[-self.rule.steady_of :]
            hits = [(at_s, score) for at_s, score in recent if score is not None and score >= self.rule.release]
        elif len(hits) < self.rule.hits:
            return None
        if self.alerted_s is not None and end_s - self.alerted_s < self.rule.refractory_s:
            return None
        self.open_since_s, self.alerted_s = max(0.0, hits[0][0] - STRIDE_S), end_s
        self.best = max(score for _, score in hits)
        return "opens", self.open_since_s, self.best

    def leans(self) -> bool:
        """Say whether the last windows lean to the label by the mean of their log-odds."""
        if self.rule.steady == 1.0:
            return False
        padded = [None] * self.rule.steady_of + [score for _, score in self.heard]
        mean = float(np.mean([log_odds(score) for score in padded[-self.rule.steady_of :]]))
        return mean >= log_odds(self.rule.steady) - 1e-12

    def hold(self, end_s: float) -> tuple[str, float, float] | None:
        assert self.open_since_s is not None
        assert self.alerted_s is not None
        # the latest moment since which nothing held the event, seen from each window in turn
        quiet_from_s, quiet = self.alerted_s, False
        for at_s, score in self.heard:
            if at_s <= self.alerted_s:
                continue
            held = score is not None and score >= self.rule.release
            before_s = at_s - STRIDE_S
            if held and before_s - quiet_from_s < self.rule.close_after_s:
                quiet_from_s = at_s
                self.best = max(self.best, score or 0.0)
            quiet = at_s - quiet_from_s >= self.rule.close_after_s
        if not quiet and end_s - self.open_since_s < self.rule.longest_s:
            return None
        closing = "closes", self.open_since_s, self.best
        self.open_since_s = None
        self.heard.clear()
        return closing


bytes_or_gated = st.one_of(st.none(), st.integers(-128, 127), st.just(127), st.just(90))
windows_heard = st.lists(st.tuples(st.sampled_from([1, 1, 1, 1, 1, 2, 3, 9, 40]), bytes_or_gated), max_size=120)
rules = st.builds(
    lambda threshold, ratio, of, hits, steady, steady_of, refractory_s, close_after_s, longest_s: LabelRule(
        threshold=threshold,
        release=min(threshold, steady) * ratio,
        steady=steady,
        steady_of=steady_of,
        of=of,
        hits=min(hits, of),
        refractory_s=refractory_s,
        close_after_s=close_after_s,
        longest_s=longest_s,
    ),
    threshold=st.sampled_from([0.3, 0.5, 0.8, 0.95]),
    ratio=st.sampled_from([0.5, 0.8, 1.0]),
    of=st.integers(1, 6),
    hits=st.integers(1, 6),
    steady=st.sampled_from([1.0, 1.0, 0.2, 0.5, 0.77]),
    steady_of=st.integers(1, 9),
    refractory_s=st.sampled_from([0.0, 4.5, 10.0, 30.0]),
    close_after_s=st.sampled_from([0.0, 1.5, 4.0, 6.0]),
    longest_s=st.sampled_from([1.0, 9.0, 600.0]),
)


def played(windows: Sequence[tuple[int, int | None]]) -> list[tuple[int, NDArray[np.int8] | None]]:
    """Return (end, outputs) of windows given by their distance in strides and their byte."""
    end, placed = 0, []
    for strides, byte in windows:
        end += strides * STRIDE
        placed.append((end, None if byte is None else np.array([byte], np.int8)))
    return placed


@given(rules, windows_heard)
def test_the_decider_does_what_the_slow_one_does(rule: LabelRule, windows: list[tuple[int, int | None]]) -> None:
    fast, slow = decider(rule), SlowDecider(rule, [])
    for (end, output), (_, byte) in zip(played(windows), windows, strict=True):
        expected = slow.push(end / RATE, None if byte is None else float(LINEAR[byte + 128]))
        found = fast.push(end, output)
        said = [("opens" if one.opens else "closes", one.onset / RATE, one.score) for one in found]
        assert said == ([] if expected is None else [expected])
        assert all(one.raised == end for one in found)


@given(rules, windows_heard)
def test_openings_and_closings_alternate_and_openings_keep_the_refractory(
    rule: LabelRule, windows: list[tuple[int, int | None]]
) -> None:
    judge = decider(rule)
    placed = played(windows)
    found = [one for end, output in placed for one in judge.push(end, output)]
    found += judge.finish(placed[-1][0] if placed else 0)
    assert [one.opens for one in found] == [place % 2 == 0 for place in range(len(found))]
    assert len(found) % 2 == 0
    openings = [one.raised for one in found if one.opens]
    gaps_s = [(later - earlier) / RATE for earlier, later in pairwise(openings)]
    assert all(gap_s >= rule.refractory_s for gap_s in gaps_s)
    for opening, closing in zip(found[::2], found[1::2], strict=True):
        assert 0 <= opening.onset < opening.raised <= closing.raised
        assert closing.onset == opening.onset
        assert closing.score >= opening.score >= min(rule.threshold, rule.steady)


@given(rules, windows_heard)
def test_an_opening_has_its_hits_among_the_last_windows(rule: LabelRule, windows: list[tuple[int, int | None]]) -> None:
    judge = decider(rule)
    placed = played(windows)
    for end, output in placed:
        for one in judge.push(end, output):
            if one.opens:
                recent = [
                    content
                    for at, content in placed
                    if end - rule.of * STRIDE < at <= end and content is not None
                    if LINEAR[int(content[0]) + 128] >= rule.threshold
                ]
                assert len(recent) >= rule.hits or rule.steady < 1


@given(rules, windows_heard)
def test_the_same_windows_are_decided_the_same_again(rule: LabelRule, windows: list[tuple[int, int | None]]) -> None:
    first, second = decider(rule), decider(rule)
    for end, output in played(windows):
        assert first.push(end, output) == second.push(end, output)
