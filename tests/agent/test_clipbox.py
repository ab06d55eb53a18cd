"""Clips on disk: held until their alert is receipted, bounded, and the oldest first to go."""

import os

import pytest

from agent.clipbox import ClipBox
from agent.errors import StorageError

IDS = [f"5d0c9e0a-0000-4000-8000-00000000000{number}" for number in range(5)]


def aged(box: ClipBox, folder, ids) -> None:
    """Put clips of 1000 bytes, each a minute older than the next."""
    for number, alert_id in enumerate(ids):
        box.put(alert_id, b"x" * 1_000)
        os.utime(folder / f"{alert_id}.held", (1e9 + 60 * number,) * 2)


def test_a_clip_is_held_until_its_alert_is_receipted(tmp_path):
    box = ClipBox(tmp_path, 10_000)
    box.put(IDS[0], b"sound")
    assert box.due() is None
    box.release(IDS[0])
    clip = box.due()
    assert clip is not None
    assert (clip.alert_id, clip.body) == (IDS[0], b"sound")
    box.done(IDS[0])
    assert list(tmp_path.iterdir()) == []


def test_after_a_restart_clips_of_receipted_alerts_may_go_and_others_wait(tmp_path):
    aged(ClipBox(tmp_path, 10_000), tmp_path, IDS[:2])
    box = ClipBox(tmp_path, 10_000)
    box.settle({IDS[1]})
    clip = box.due()
    assert clip is not None
    assert clip.alert_id == IDS[0]
    assert (tmp_path / f"{IDS[1]}.held").exists()


def test_the_oldest_goes_first_when_the_bytes_run_out(tmp_path):
    box = ClipBox(tmp_path, 3_000)
    aged(box, tmp_path, IDS[:4])
    assert sorted(path.stem for path in tmp_path.iterdir()) == IDS[1:4]
    with pytest.raises(StorageError, match="no room"):
        box.put(IDS[4], b"x" * 3_001)


def test_what_is_no_clip_in_the_folder_is_left_alone(tmp_path):
    (tmp_path / "precious.wav").write_bytes(b"x" * 5_000)
    box = ClipBox(tmp_path, 2_000)
    aged(box, tmp_path, IDS[:3])
    assert (tmp_path / "precious.wav").exists()


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    box = ClipBox(tmp_path / "none", 1_000)
    box.settle(set())
    assert box.due() is None
    box.release(IDS[0])
    box.done(IDS[0])
