"""The split: whole recordings, stable, as the recipe says."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import FieldError
from model_export.datasets import Clip
from model_export.split import SplitConfig, split


def clip(group: str, *, target: str = "other", dataset: str = "loops", fold: str = "", name: str = "x") -> Clip:
    return Clip(
        path=Path(name),
        name=name,
        dataset=dataset,
        kind="k",
        target=target,
        group=group,
        fold=fold,
        licence="CC0",
    )


clips = st.lists(
    st.builds(
        clip,
        st.sampled_from([f"g{number}" for number in range(40)]),
        target=st.sampled_from(["chainsaw", "engine", "other", "background"]),
        dataset=st.sampled_from(["esc50", "loops"]),
        fold=st.sampled_from(["1", "2", "4"]),
    ),
    max_size=80,
)


@given(clips)
def test_no_recording_is_in_two_parts(found: list[Clip]) -> None:
    parts = split(found, SplitConfig(fold=4))
    assert set(parts) == {one.group for one in found}
    for one in found:
        own = [other.fold for other in found if other.group == one.group and other.dataset == "esc50"]
        if own and own[0] == "4":
            assert parts[one.group] == "test"


@given(clips, clips)
def test_a_new_recording_moves_no_old_one(found: list[Clip], more: list[Clip]) -> None:
    new = [one for one in more if one.group not in {other.group for other in found}]
    before, after = split(found, SplitConfig(fold=1)), split([*found, *new], SplitConfig(fold=1))
    assert all(after[group] == part for group, part in before.items())


@given(clips)
def test_every_recording_is_a_stranger_once(found: list[Clip]) -> None:
    held_out = [
        {group for group, part in split(found, SplitConfig(fold=fold)).items() if part == "test"}
        for fold in (1, 2, 3, 4)
    ]
    assert sum(len(groups) for groups in held_out) == len({one.group for one in found})
    assert set().union(*held_out) == {one.group for one in found}


def test_with_no_fold_held_out_everything_teaches() -> None:
    assert set(split([clip(f"g{number}") for number in range(50)], SplitConfig(fold=0)).values()) == {"train"}


def test_the_shares_are_about_those_asked_for() -> None:
    config = SplitConfig(fold=2, validation_share=0.12)
    parts = list(split([clip(f"recording-{number}") for number in range(4_000)], config).values())
    assert abs(parts.count("test") / 4_000 - 0.25) < 0.03
    assert abs(parts.count("validation") / 4_000 - 0.75 * 0.12) < 0.02


def test_a_saw_is_never_spent_on_validation() -> None:
    config = SplitConfig(fold=1, validation_share=0.5)
    parts = split([clip(f"saw-{number}", target="chainsaw") for number in range(500)], config)
    assert "validation" not in parts.values()


def test_named_groups_go_where_they_are_named() -> None:
    config = SplitConfig(fold=3, fold_groups={"a": 3, "b": 1})
    assert split([clip("a"), clip("b")], config) == {"a": "test", "b": "train"}


@pytest.mark.parametrize(
    ("values", "message"), [({"fold": 5}, "split.fold: is 5"), ({"fold_groups": {"a": 9}}, "split.fold_groups.a: is 9")]
)
def test_a_fold_that_is_none_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError, match=message):
        SplitConfig(**values)
