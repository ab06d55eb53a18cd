"""Thresholds: the lowest that is quiet, with a margin, by the agent's decider."""

import dataclasses

import numpy as np
import pytest

from agent.manifest import Quantisation
from model_export.operating import FALLBACK, MARGINS, Answered, Stream, choose, counts, rule_at
from model_export.recipe import Recipe

RATE = 16_000
OUTPUT = Quantisation(scale=0.1, zero_point=0)
SCORES = 1 / (1 + np.exp(-OUTPUT.to_real(np.arange(-128, 128).astype(np.int8))))


def answered(logits: list[float], *, role: str = "forest", wrong: tuple[str, ...] = ("chainsaw",)) -> Answered:
    """A stream of an hour's fame: the saw's logits at each stride, the other labels silent."""
    outputs = np.full((len(logits), 3), -100, np.int8)
    outputs[:, 0] = np.rint(np.array(logits) / OUTPUT.scale)
    samples = np.zeros(int(len(logits) * 1.5 * RATE), np.float32)
    return Answered(stream=Stream(name="s", role=role, samples=samples, wrong=wrong), outputs=outputs)


def score(logit: float) -> float:
    return 1 / (1 + float(np.exp(-logit)))


def test_the_threshold_lies_a_margin_above_the_loudest_pair(recipe: Recipe) -> None:
    """One high window is no alert: the second highest of three decides."""
    quiet = [-8.0] * 20
    rules = choose([answered([*quiet, 4.0, -8.0, 1.0, *quiet])], recipe, SCORES)
    margin = MARGINS["chainsaw"]
    # just over 1.0, and the margin on top
    assert score(1.0 + margin - 0.01) < rules["chainsaw"].threshold < score(1.1 + margin + 0.01)
    assert rules["chainsaw"].release < rules["chainsaw"].threshold


def test_a_silent_stream_gives_the_lowest_threshold_with_its_margin(recipe: Recipe) -> None:
    chosen = choose([answered([-8.0] * 40)], recipe, SCORES)["chainsaw"].threshold
    assert chosen == pytest.approx(score(0.0 + MARGINS["chainsaw"]), abs=0.03)


def test_a_stream_that_never_falls_silent_gives_the_stated_default(recipe: Recipe) -> None:
    assert choose([answered([9.0] * 40)], recipe, SCORES)["chainsaw"].threshold == FALLBACK


def test_confusers_may_be_heard_as_often_as_their_rate_allows(recipe: Recipe) -> None:
    burst = [-8.0] * 600 + [3.0] * 4 + [-8.0] * 1_800  # once in an hour
    assert (
        choose([answered(burst, role="confusers")], recipe, SCORES)["chainsaw"].threshold
        < score(MARGINS["chainsaw"]) + 0.01
    )
    assert choose([answered(burst)], recipe, SCORES)["chainsaw"].threshold > score(3.0)


def test_storm_is_heard_and_not_reported(recipe: Recipe) -> None:
    rules = choose([answered([-8.0] * 10)], recipe, SCORES)
    assert set(rules) == set(recipe.labels)
    assert [label for label, rule in rules.items() if rule.alert] == ["chainsaw", "engine"]


def test_what_was_counted_is_what_the_decider_raises(recipe: Recipe) -> None:
    one = answered([-8.0] * 10 + [5.0] * 3 + [-8.0] * 100 + [5.0] * 3 + [-8.0] * 10)
    rules = dict.fromkeys(recipe.labels, rule_at(0.9))
    assert counts([one], rules, recipe, SCORES) == {"s": {"minutes": 3.1, "chainsaw": 2}}
    strict = dict.fromkeys(recipe.labels, dataclasses.replace(rule_at(0.9), hits=3))
    assert counts([one], strict, recipe, SCORES)["s"]["chainsaw"] == 2
