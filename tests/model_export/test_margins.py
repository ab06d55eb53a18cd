"""Margins: what thresholds chosen on the judged tracks themselves would find."""

import numpy as np
from numpy.typing import NDArray

from model_export.margins import Heard, margins, table
from model_export.operating import Axis
from model_export.tracks import TrueEvent, Truth

AXIS = Axis(
    labels=("chainsaw", "engine"),
    scores=1 / (1 + np.exp(-np.linspace(-8, 8, 256))),
    stride_s=1.5,
    window_s=3.0,
)
OF = 8


def event(label: str, onset_s: float, source: str) -> TrueEvent:
    return TrueEvent(
        label=label, onset_s=onset_s, offset_s=onset_s + 12.0, source=source, recording=source, ground="forest"
    )


def truth(role: str, level: str, *events: TrueEvent, name: str = "") -> Truth:
    return Truth(name=name or role, role=role, level=level, duration_s=300.0, events=events, marks={})


def scores(logits: dict[float, float], column: int = 0) -> NDArray[np.float64]:
    """Windows of -4, and eight of a logit from each of these seconds on."""
    found = np.full((198, 2), -4.0)
    for at_s, logit in logits.items():
        first = round(at_s / 1.5)
        found[first : first + 8, column] = logit
    return 1 / (1 + np.exp(-found))


def test_each_false_alert_lowers_the_threshold_and_is_named() -> None:
    saws = truth("chainsaw", "10 dB", *(event("chainsaw", at_s, f"saw{at_s:.0f}") for at_s in (30.0, 90.0, 150.0)))
    cows = truth("confusers", "10 dB", event("other", 60.0, "cow.ogg"), event("other", 180.0, "goat.ogg"))
    forest = truth("background", "")
    heard = {
        "chainsaw": scores({30.0: 3.0, 90.0: 1.0, 150.0: -1.0}),
        "confusers": scores({60.0: 2.0, 180.0: 0.0}),
        "background": scores({}),
    }
    rows, quiet = margins("chainsaw", [Heard(number=2, truths=[saws, cows, forest], scores=heard)], OF, AXIS)

    assert [round(row.recall["10 dB"], 2) for row in rows[:3]] == [0.33, 0.67, 1.0]
    assert [round(row.logit) for row in rows[:3]] == [2, 0, -4]
    assert quiet[0].where.startswith("fold 2, confusers, ")
    assert quiet[0].where.endswith("cow.ogg")
    lines = table("chainsaw", rows, quiet).splitlines()
    assert lines[0] == "| chainsaw: false alerts | mean of logits over | 10 dB | the next false alert |"
    assert lines[2].startswith("| 0 | 1.98 | 0.33 |")
    assert "cow.ogg" in lines[2]
    assert "goat.ogg" in lines[3]


def test_an_engine_is_false_for_a_saw_alone_and_counts_once_a_level() -> None:
    engines = [
        truth("engine", level, event("engine", 60.0, "car.ogg"), name=f"engine {level}") for level in ("10 dB", "0 dB")
    ]
    both = scores({60.0: 2.0}) * [1, 0] + scores({60.0: 3.0}, 1) * [0, 1]
    fold = Heard(number=1, truths=engines, scores={one.name: both for one in engines})

    _, saws = margins("chainsaw", [fold], OF, AXIS)
    assert [moment.where for moment in saws if moment.logit > 1] == ["fold 1, engine 10 dB, 74 s: car.ogg"]
    rows, quiet = margins("engine", [fold], OF, AXIS)
    assert quiet == []
    assert rows == []
    assert table("engine", rows, quiet).startswith("| engine: false alerts")


def test_folds_are_pooled() -> None:
    saws = truth("chainsaw", "far", event("chainsaw", 30.0, "saw"))
    quiet = truth("confusers", "10 dB", event("other", 60.0, "cow"))
    folds = [
        Heard(
            number=number,
            truths=[saws, quiet],
            scores={"chainsaw": scores({30.0: saw}), "confusers": scores({60.0: cow})},
        )
        for number, saw, cow in ((1, 3.0, -3.0), (2, 1.0, 2.0))
    ]
    rows, _ = margins("chainsaw", folds, OF, AXIS)
    assert rows[0].recall == {"far": 0.5}
    assert rows[1].recall == {"far": 1.0}


def test_two_moments_as_loud_as_each_other_are_named_by_their_own_clips() -> None:
    quiet = truth("confusers", "10 dB", event("other", 60.0, "cow"), event("other", 180.0, "goat"))
    _, moments = margins(
        "chainsaw",
        [Heard(number=1, truths=[quiet], scores={"confusers": scores({60.0: 2.0, 180.0: 2.0})})],
        OF,
        AXIS,
    )
    assert [moment.where.split(": ")[1] for moment in moments[:2]] == ["cow", "goat"]
