"""The split: whole recordings, stable, as the recipe says."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

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
    parts = split(found, SplitConfig())
    assert set(parts) == {one.group for one in found}
    for one in found:
        if one.dataset == "esc50" and one.fold == "4":
            assert parts[one.group] == "test"


@given(clips, clips)
def test_a_new_recording_moves_no_old_one(found: list[Clip], more: list[Clip]) -> None:
    new = [one for one in more if one.group not in {other.group for other in found}]
    before, after = split(found, SplitConfig()), split([*found, *new], SplitConfig())
    assert all(after[group] == part for group, part in before.items())


def test_the_shares_are_about_those_asked_for() -> None:
    parts = list(split([clip(f"recording-{number}") for number in range(4_000)], SplitConfig()).values())
    assert abs(parts.count("test") / 4_000 - 0.25) < 0.03
    assert abs(parts.count("validation") / 4_000 - 0.75 * 0.12) < 0.02


def test_a_saw_is_never_spent_on_validation() -> None:
    parts = split([clip(f"saw-{number}", target="chainsaw") for number in range(500)], SplitConfig())
    assert "validation" not in parts.values()


def test_named_groups_go_where_they_are_named() -> None:
    config = SplitConfig(test_groups=("a",), train_groups=("b",), validation_groups=("c",), test_share=0.9)
    assert split([clip("a"), clip("b"), clip("c")], config) == {"a": "test", "b": "train", "c": "validation"}
