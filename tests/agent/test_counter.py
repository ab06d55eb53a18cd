"""Request counters: never the same twice, whatever happens to the process or the file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import counter as counter_module
from agent.counter import Counter, write_durably
from agent.errors import StorageError
from agent.signing import LARGEST_COUNTER

REPO = Path(__file__).resolve().parents[2]


@given(st.lists(st.one_of(st.just("next"), st.just("restart"), st.integers(0, 5_000)), max_size=60), st.integers(1, 7))
def test_numbers_rise_strictly_over_restarts_and_jumps(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str | int], block: int
) -> None:
    path = tmp_path_factory.mktemp("counter") / "counter"
    counter, last = Counter(path, block), 0
    for step in steps:
        if step == "restart":
            counter = Counter(path, block)
        elif isinstance(step, int):
            counter.jump_to(step)
            assert counter.next() > max(last, step)
            last = counter.next()
        else:
            number = counter.next()
            assert number > last
            last = number


def test_a_block_is_on_disk_before_its_first_number_is_used(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    assert Counter(path, block=10).next() == 1
    assert Counter(path, block=10).next() == 11


def test_one_block_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    monkeypatch.setattr(counter_module, "write_durably", lambda _, content: writes.append(content))
    counter = Counter(tmp_path / "counter", block=100)
    assert [counter.next() for _ in range(250)] == list(range(1, 251))
    assert len(writes) == 3


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 40, b"curupira-counter-v1 9000 00000000\n", b"12", b"\xff" * 300, b"curupira-counter-v2 1 x\n"],
)
def test_a_damaged_file_is_said_and_the_station_asked(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "counter"
    path.write_bytes(content)
    counter = Counter(path)
    assert counter.lost
    assert counter.next() == 1
    counter.jump_to(70_000)
    assert not counter.lost
    assert counter.next() == 70_001
    assert Counter(path).next() > 70_001


@given(st.integers(0, 200), st.integers(0, 255))
def test_one_wrong_byte_never_makes_a_smaller_number_look_right(
    tmp_path_factory: pytest.TempPathFactory, offset: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("counter") / "counter"
    Counter(path, block=5_000).next()
    content = bytearray(path.read_bytes())
    content[offset % len(content)] = byte
    changed = bytes(content) != path.read_bytes()
    path.write_bytes(content)
    assert Counter(path).lost is changed


def test_a_number_beyond_what_the_wire_carries_counts_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    path.write_bytes(counter_module._text(LARGEST_COUNTER))
    assert Counter(path).lost


def test_a_full_disk_does_not_stop_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise StorageError(f"{path}: cannot be written: no space left on device")

    counter = Counter(tmp_path / "counter", block=2)
    assert counter.next() == 1
    with monkeypatch.context() as patched:
        patched.setattr(counter_module, "write_durably", refuse)
        assert [counter.next() for _ in range(5)] == [2, 3, 4, 5, 6]
        assert counter.unsaved
        assert caplog.text.count("no space left") == 1
    assert counter.next() == 7
    assert not counter.unsaved
    assert Counter(tmp_path / "counter").next() > 7


def test_a_refused_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="No space left"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_kill_9_never_makes_a_number_come_again(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from agent.counter import Counter\n"
        f"counter = Counter(Path({str(tmp_path / 'counter')!r}), block=3)\n"
        "while True: print(counter.next(), flush=True)"
    )
    last = 0
    for lines in (1, 4, 7, 20):
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=REPO, text=True)
        assert child.stdout is not None
        with child.stdout:
            seen = [int(child.stdout.readline()) for _ in range(lines)]
            child.send_signal(signal.SIGKILL)
            seen += [int(line) for line in child.stdout if line.endswith("\n")]
        child.wait()
        assert seen[0] > last
        assert seen == sorted(set(seen))
        last = seen[-1]
