"""Whatever is asked, with whatever credentials: no 5xx, and no answer that the OpenAPI document does not name."""

import importlib.util

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="Schemathesis is not installed"),
]


def test_no_answer_is_a_failure_or_undocumented_whoever_asks(tmp_path):
    from tests.fuzz_api import fuzz

    rounds = fuzz(tmp_path, seconds=5, seed=7)
    assert len(rounds) == 5
    for each in rounds:
        assert each.code == 0, f"{each.who}: {each.text}"
        assert each.cases != "?"
