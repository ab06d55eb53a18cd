"""The short form of the fault suite; `make torture` runs it at length."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.manifest import BUNDLED_MODEL
from tests.torture import __main__ as suite
from tests.torture import faults

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BUNDLED_MODEL.exists(), reason="no model is bundled yet: make export-tflite"),
]


def test_kill_9_at_random_moments_loses_and_invents_nothing(tmp_path: Path) -> None:
    outcome = faults.kills(tmp_path, times=6)
    assert outcome.holds, outcome
    assert outcome.kept >= 2, "else there was nothing to lose"


def test_a_bad_link_loses_and_invents_nothing(tmp_path: Path) -> None:
    outcome = faults.bad_link(tmp_path, seconds=12.0, through_share=0.2)
    assert outcome.holds, outcome
    assert outcome.kept >= 2, "else there was nothing to lose"


@pytest.mark.parametrize("fault", [faults.full_disk, faults.read_only_disk])
def test_a_disk_that_refuses_stops_nothing(fault: Callable[[Path], faults.Outcome | None], tmp_path: Path) -> None:
    outcome = fault(tmp_path)
    if outcome is None:
        pytest.skip("only root may mount a small disk")
    assert outcome.holds, outcome


def test_a_rotten_outbox_is_mended_from_its_copy_and_the_copy_from_it(tmp_path: Path) -> None:
    outcome = faults.rotten_outbox(tmp_path, times=4)
    assert outcome.holds, outcome
    assert outcome.kept >= 4


def test_a_clock_that_jumps_neither_loses_nor_reorders(tmp_path: Path) -> None:
    outcome = faults.clock_jumps(tmp_path)
    assert outcome.holds, outcome
    assert outcome.kept >= 8


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
def test_a_wrong_certificate_keeps_the_alerts_waiting(tmp_path: Path) -> None:
    outcome = faults.wrong_certificate(tmp_path)
    assert outcome.holds, outcome
    assert outcome.kept >= 4


def test_a_long_queue_begins_with_the_newest_saw(tmp_path: Path) -> None:
    outcome = faults.long_queue(tmp_path, count=100)
    assert outcome.holds, outcome
    assert outcome.remark.startswith("the newest went first")


def test_a_silenced_microphone_is_named_and_opened_again(tmp_path: Path) -> None:
    outcome = faults.bad_microphone(tmp_path, "zeros")
    assert outcome.holds, outcome
    assert outcome.noticed_s is not None
    assert outcome.noticed_s < 12.0


def test_two_hours_leave_memory_and_descriptors_where_they_were(tmp_path: Path) -> None:
    assert "Soak: 2 h" in suite.soak(2.0, tmp_path)
