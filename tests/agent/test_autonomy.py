"""Days of weather: energy is conserved, more is never worse, and the policy outlives the level that it begins with."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.autonomy import LONGEST_DARK_DAYS, Cost, Supply, dark_days, heat_c, live, smallest
from agent.power import FULL, SAVING, SURVIVAL, PowerConfig

SUPPLY, COST, POWER = Supply(), Cost(), PowerConfig()


def test_what_a_battery_holds_is_its_charge_less_its_age() -> None:
    new = Supply(battery_mah=3_000.0, battery_v=4.0, age_years=0.0)
    assert new.capacity_wh == pytest.approx(12.0 * 0.95)
    assert replace(new, age_years=2.0).capacity_wh == pytest.approx(12.0 * 0.95 * 0.92**2)
    assert replace(new, age_years=2.0, health=0.5).capacity_wh == pytest.approx(12.0 * 0.95 * 0.5)


def test_a_day_of_sun_brings_what_it_should() -> None:
    hours = [hour / 100 for hour in range(2_400)]
    brought_wh = sum(SUPPLY.power_w(hour, 1.0) for hour in hours) / 100
    assert brought_wh == pytest.approx(SUPPLY.day_wh, rel=1e-3)
    assert SUPPLY.day_wh == pytest.approx(5.0 * 4.5 * 0.6)
    assert SUPPLY.power_w(5.9, 1.0) == SUPPLY.power_w(18.1, 1.0) == 0.0


def test_a_level_takes_what_its_parts_take() -> None:
    cost = Cost(
        listen_w=0.2, sleep_w=0.1, cpu_j=2.0, listen_cpu_s=18.0, model_cpu_s=36.0, gate_share=0.5, heartbeat_j=30.0
    )
    assert cost.mean_w(FULL) == pytest.approx(0.2 + (18.0 + 18.0) / 3_600 * 2.0 + 30.0 / 300.0)
    survival_cpu_s = 0.2 * (18.0 + 9.0)
    assert cost.cpu_s(SURVIVAL) == pytest.approx(survival_cpu_s)
    assert cost.mean_w(SURVIVAL) == pytest.approx(0.2 * 0.2 + 0.8 * 0.1 + survival_cpu_s / 3_600 * 2.0 + 30.0 / 3_600.0)


def test_without_sun_a_fixed_level_lasts_as_long_as_a_division_says() -> None:
    for name, level in (("full", FULL), ("saving", SAVING), ("survival", SURVIVAL)):
        expected = SUPPLY.capacity_wh / COST.mean_w(level) / 24.0
        assert dark_days(SUPPLY, COST, POWER, fixed=name) == pytest.approx(expected, abs=0.02)
    assert dark_days(replace(SUPPLY, battery_mah=1e6), COST, POWER) == LONGEST_DARK_DAYS


def test_the_policy_outlives_the_level_that_it_begins_with() -> None:
    full, policy, survival = (dark_days(SUPPLY, COST, POWER, fixed=fixed) for fixed in ("full", "", "survival"))
    assert full < policy < survival


def test_a_battery_that_ran_out_stays_so() -> None:
    life = live(SUPPLY, COST, POWER, [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0], fixed="full")
    assert life.died
    assert 1.5 < life.lived_days < 4.0
    assert [day.percent for day in life.days[4:]] == [0.0] * 3
    assert [sum(day.hours.values()) for day in life.days[4:]] == [0.0] * 3
    assert life.lowest == 0.0


def test_the_share_heard_is_of_all_days() -> None:
    life = live(SUPPLY, COST, POWER, [1.0] * 4, fixed="survival")
    assert life.heard == pytest.approx(0.2)
    assert live(SUPPLY, COST, POWER, [1.0] * 4, fixed="full").heard == 1.0


@settings(max_examples=40)
@given(
    suns=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12),
    percent=st.floats(5.0, 100.0),
    fixed=st.sampled_from(["full", "saving", "survival"]),
    more=st.floats(1.0, 3.0),
)
def test_more_sun_or_more_battery_or_a_lower_level_never_lives_shorter(
    suns: list[float], percent: float, fixed: str, more: float
) -> None:
    here = live(SUPPLY, COST, POWER, suns, fixed=fixed, percent=percent).lived_days
    assert live(SUPPLY, COST, POWER, [sun * more for sun in suns], fixed=fixed, percent=percent).lived_days >= here
    larger = replace(SUPPLY, battery_mah=SUPPLY.battery_mah * more)
    assert live(larger, COST, POWER, suns, fixed=fixed, percent=percent).lived_days >= here
    assert live(SUPPLY, COST, POWER, suns, fixed="survival", percent=percent).lived_days >= here


def test_the_box_is_hottest_past_noon_in_the_sun() -> None:
    hours = range(24)
    assert max(hours, key=lambda hour: heat_c(hour, 1.0)) in (12, 13, 14)
    assert heat_c(3.0, 1.0) < 25.0 < heat_c(13.0, 1.0) < 40.0
    assert heat_c(13.0, 1.0) - heat_c(13.0, 0.0) == pytest.approx(8.0, abs=0.5)


@pytest.mark.parametrize("needed", [0.05, 0.3, 7.0, 777.7, 123_456.0])
def test_the_smallest_that_is_enough_is_found(needed: float) -> None:
    found = smallest(lambda size: size >= needed, 1.0, 0.1)
    assert found is not None
    assert needed <= found < needed + 0.1001


def test_where_nothing_is_enough_none_is_said() -> None:
    assert smallest(lambda _: False, 1.0, 0.1) is None
