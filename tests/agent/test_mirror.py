"""The outbox's copy: what was kept and not forgotten comes back whole, whatever else is in the file."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.mirror import Key, Mirror

KEYS = st.tuples(st.text("0123456789abcdef-", min_size=1, max_size=36), st.integers(0, 1))
BODIES = st.binary(max_size=50).map(lambda body: body.replace(b"\n", b""))


@given(st.lists(st.tuples(KEYS, st.none() | BODIES), max_size=20))
def test_it_holds_what_a_dictionary_would(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Key, bytes | None]]
) -> None:
    mirror = Mirror(tmp_path_factory.mktemp("mirror") / "copy")
    model: dict[Key, bytes] = {}
    for key, body in steps:
        if body is None:
            mirror.forget([key])
            model.pop(key, None)
        elif key not in model:
            mirror.keep([(key, body)])
            model[key] = body
    assert mirror.keys() == list(model)
    assert {key for key, _ in mirror.entries()} == set(model)
    assert mirror.damaged == 0


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_turned_byte_costs_the_lines_that_it_touches(
    tmp_path_factory: pytest.TempPathFactory, where: int, flip: int
) -> None:
    path = tmp_path_factory.mktemp("mirror") / "copy"
    mirror = Mirror(path)
    bodies = {(f"{number:x}", 0): b"%d" % number * 20 for number in range(10)}
    mirror.keep(bodies.items())
    content = bytearray(path.read_bytes())
    content[where % len(content)] ^= flip
    path.write_bytes(content)
    left = dict(mirror.entries())
    assert len(left) >= 8  # a line end that is gone takes its neighbour along
    assert left.items() <= bodies.items()
    assert mirror.damaged >= 1 or left == bodies  # the spaces of a line say nothing


def test_a_line_that_a_full_disk_cut_does_not_take_the_next_one_along(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "copy")
    mirror.keep([(("a", 0), b"one")])
    with (tmp_path / "copy").open("ab") as file:
        file.write(b"+ 00000000 b/0 tw")
    mirror.keep([(("c", 0), b"three")])
    assert mirror.keys() == [("a", 0), ("c", 0)]
    assert mirror.damaged == 1


def test_a_disk_that_refuses_is_named_once_and_raises_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(tmp_path / "copy")

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        mirror.keep([(("a", 0), b"one")])
        mirror.keep([(("b", 0), b"two")])
    assert "No space left" in mirror.problem
    assert caplog.text.count("refuses the outbox's copy") == 1
    mirror.rewrite([(("c", 0), b"three")])
    assert mirror.problem == ""
    assert mirror.keys() == [("c", 0)]


def test_a_missing_file_is_an_empty_copy(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "copy")
    assert (mirror.keys(), mirror.size_bytes()) == ([], 0)
    mirror.clear()
    assert mirror.problem == ""
