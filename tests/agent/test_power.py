"""The power policy: levels with a margin, days of weather, and turns of listening and pausing."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alert import Battery
from agent.power import FULL, LEVELS, SAVING, SURVIVAL, Cycle, LevelConfig, Policy, PowerConfig

CONFIG = PowerConfig()


def levels(policy: Policy, percents: list[float]) -> list[str]:
    found = []
    for percent in percents:
        policy.update(Battery(percent=percent))
        found.append(policy.level)
    return found


def test_charge_moves_the_level_down_at_its_bound_and_up_a_margin_above() -> None:
    down_and_up = [100.0, 50.0, 49.9, 55.0, 59.9, 25.0, 24.9, 30.0, 34.9, 35.0, 59.9, 60.0, 100.0]
    assert levels(Policy(CONFIG), down_and_up) == [
        "full", "full", "saving", "saving", "saving", "saving", "survival", "survival", "survival",
        "saving", "saving", "full", "full",
    ]  # fmt: skip


def test_heat_moves_the_level_too_and_the_lower_level_wins() -> None:
    policy = Policy(CONFIG)
    found = []
    for percent, heat_c in [
        (80, 45.0),
        (80, 45.1),
        (80, 41.1),
        (80, 53.0),
        (80, 47.9),
        (80, 41.0),
        (15, 41.0),
        (15, 60),
    ]:
        policy.update(Battery(percent=percent, temperature_c=heat_c))
        found.append(policy.level)
    assert found == ["full", "saving", "saving", "survival", "saving", "full", "survival", "survival"]


def test_heat_that_goes_leaves_the_charge_its_own_margin() -> None:
    """Survival by heat is not a reason to wait for 60 % of charge."""
    policy = Policy(CONFIG)
    policy.update(Battery(percent=55.0, temperature_c=60.0))
    assert policy.level == "survival"
    policy.update(Battery(percent=55.0, temperature_c=30.0))
    assert policy.level == "full"


def test_a_change_says_what_was_and_why() -> None:
    policy = Policy(CONFIG)
    assert policy.update(Battery(percent=60.0)) is None
    change = policy.update(Battery(percent=14.2, temperature_c=31.26))
    assert change is not None
    assert (change.before, change.level, change.reason) == ("full", "survival", "battery 14 %, 31.3 °C")


@pytest.mark.parametrize("battery", [Battery(), Battery(charging=True), Battery(temperature_c=30.0)])
def test_a_field_that_is_missing_changes_nothing(battery: Battery) -> None:
    policy = Policy(CONFIG)
    policy.update(Battery(percent=10.0))
    assert policy.update(battery) is None
    assert policy.level == "survival"


def test_a_battery_that_says_nothing_for_long_ends_survival_but_not_saving() -> None:
    policy = Policy(CONFIG)
    policy.update(Battery(percent=10.0))
    change = policy.forget()
    assert change is not None
    assert (change.level, "said nothing" in change.reason) == ("saving", True)
    assert policy.forget() is None


READINGS = st.lists(
    st.builds(Battery, percent=st.none() | st.floats(0, 100), temperature_c=st.none() | st.floats(-20, 90)), max_size=50
)


@given(READINGS, st.floats(1, 50), st.floats(0.5, 20))
def test_a_reading_that_trembles_by_less_than_the_margin_moves_the_level_once(
    readings: list[Battery], margin_percent: float, margin_c: float
) -> None:
    config = replace(CONFIG, margin_percent=margin_percent, margin_c=margin_c)
    policy = Policy(config)
    for battery in readings:
        policy.update(battery)
        again = [policy.level]
        for step in (-0.49, 0.49) * 3:
            percent = None if battery.percent is None else battery.percent + step * margin_percent
            heat_c = None if battery.temperature_c is None else battery.temperature_c + step * margin_c
            policy.update(Battery(percent=percent, temperature_c=heat_c))
            again.append(policy.level)
        assert len(set(again[2:])) == 1


@given(READINGS)
def test_less_charge_and_more_heat_never_mean_a_higher_level(readings: list[Battery]) -> None:
    policy, worse = Policy(CONFIG), Policy(CONFIG)
    for battery in readings:
        policy.update(battery)
        percent = None if battery.percent is None else battery.percent * 0.9
        heat_c = None if battery.temperature_c is None else battery.temperature_c + 2.0
        worse.update(Battery(percent=percent, temperature_c=heat_c))
        assert LEVELS.index(worse.level) >= LEVELS.index(policy.level)


# Days


def lived(policy: Policy, n_days: int, dark: range) -> tuple[list[tuple[float, str]], float]:
    """Return the changes of level in days, and the lowest charge in percent; 0 if the device died.

    A battery of 10 Wh that gives 0.25 W at full power; a panel of 1.5 W at noon, and of 15 % of that in the rain.
    """
    cost_w = {"full": 0.25, "saving": 0.18, "survival": 0.09}
    charge_wh, lowest_wh, changes = 10.0, 10.0, list[tuple[float, str]]()
    for minute in range(0, n_days * 1_440, 5):
        sun = max(0.0, math.sin(math.pi * (minute / 60 % 24 - 6) / 12))
        sun *= 0.15 if minute // 1_440 in dark else 1.0
        charge_wh = min(10.0, charge_wh + (1.5 * sun - cost_w[policy.level]) * 5 / 60)
        lowest_wh = min(lowest_wh, charge_wh)
        if lowest_wh <= 0:
            return changes, 0.0
        battery = Battery(percent=10 * charge_wh, temperature_c=27.0 + 8.0 * sun)
        if (change := policy.update(battery)) is not None:
            changes.append((minute / 1_440, change.level))
    return changes, 10 * lowest_wh


def test_four_dark_days_are_survived_and_the_level_moves_a_few_times_only() -> None:
    never = replace(CONFIG, saving=replace(SAVING, below_percent=0.0), survival=replace(SURVIVAL, below_percent=0.0))
    assert lived(Policy(never), 14, range(3, 7))[1] == 0.0, "without the policy it dies"
    changes, lowest = lived(Policy(CONFIG), 14, range(3, 7))
    assert lowest > 5.0
    assert [level for _, level in changes][:2] == ["saving", "survival"]
    assert changes[-1][1] == "full"
    assert len(changes) <= 6, changes
    assert all(later - earlier > 1 / 24 for (earlier, _), (later, _) in pairwise(changes))


def test_sunny_weeks_never_leave_full_power() -> None:
    assert lived(Policy(CONFIG), 14, range(0)) == ([], pytest.approx(66.0, abs=10.0))


# Turns


def turns(cycle: Cycle, level: LevelConfig, until_s: int, held: range = range(0)) -> list[tuple[int, bool]]:
    return [(now_s, cycle.paused) for now_s in range(until_s) if cycle.step(float(now_s), level, held=now_s in held)]


def test_listening_and_pausing_take_turns() -> None:
    assert turns(Cycle(0.0), SURVIVAL, 700) == [(60, True), (300, False), (360, True), (600, False), (660, True)]


def test_a_level_without_pauses_never_pauses_and_ends_one() -> None:
    assert turns(Cycle(0.0), FULL, 1_000) == []
    assert turns(Cycle(0.0, paused=True), FULL, 10) == [(0, False)]


def test_what_leans_to_an_alert_holds_the_pause_back_for_a_cycle_at_most() -> None:
    assert turns(Cycle(0.0), SURVIVAL, 100, held=range(50, 80)) == [(80, True)]
    assert turns(Cycle(0.0), SURVIVAL, 700, held=range(700)) == [(360, True), (600, False)]


def test_the_share_of_listening_is_what_the_level_says() -> None:
    assert (FULL.duty, SAVING.duty, SURVIVAL.duty) == (1.0, pytest.approx(2 / 3), 0.2)
