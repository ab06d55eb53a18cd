"""`budget`: what it prints and promises, checked against the simulation that it is made of."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import budget, cost
from agent.__main__ import main
from agent.alert import Battery
from agent.autonomy import Cost, Supply, live
from agent.battery import Reading
from agent.config import AgentConfig
from agent.cost import Measured
from agent.power import SURVIVAL, PowerConfig


@pytest.fixture(autouse=True)
def no_battery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever machine the tests run on has none."""
    monkeypatch.setattr(budget, "look", lambda _: None)


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["budget", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_each_level_has_its_row_and_the_chart_its_days(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budget"]) == 0
    said = capsys.readouterr().out
    for word in ("full ", "saving ", "survival ", "policy ", "assumed", "#####", "out of power"):
        assert word in said
    assert max(len(line) for line in said.splitlines()) <= 120


def test_what_is_given_measured_and_assumed_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plain = answered(capsys)
    assert plain["origins"] == {"battery": "assumed", "panel": "assumed", "draw": "assumed", "cpu": "assumed"}
    measured = Measured(seconds=5.0, listen_cpu_s=36.0, model_cpu_s=72.0, draw_w=0.5)
    monkeypatch.setattr(cost, "measure", lambda config, seconds: measured)
    _, given = answered(capsys, "--battery-mah", "4000", "--panel-w", "6", "--measure", "--seconds", "5")
    assert given["origins"] == {
        "battery": "given",
        "panel": "given",
        "draw": "measured, without a microphone",
        "cpu": "measured",
    }
    assert (given["cost"]["listen_cpu_s"], given["cost"]["model_cpu_s"]) == (36.0, 72.0)
    assert given["cost"]["listen_w"] == pytest.approx(0.5 - 72.0 / 3_600, abs=1e-3)
    _, draw = answered(capsys, "--listen-w", "0.3", "--measure")
    assert (draw["cost"]["listen_w"], draw["origins"]["draw"]) == (0.3, "partly given")


def test_the_gauge_knows_the_battery_better_than_a_guess(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading(source="sysfs", battery=Battery(), capacity_mah=2_000.0)
    monkeypatch.setattr(budget, "look", lambda _: reading)
    _, said = answered(capsys)
    assert said["origins"]["battery"] == "said by the fuel gauge"
    assert said["supply"]["capacity_wh"] == pytest.approx(2.0 * 3.85 * 0.95)
    _, given = answered(capsys, "--battery-mah", "3000")
    assert given["origins"]["battery"] == "given"


def test_the_answer_to_dark_days_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budget", "--dark-days", "2"]) == 0
    assert "It lasts." in capsys.readouterr().out
    assert main(["budget", "--dark-days", "6"]) == 1
    assert "does not last as configured; it would at the level survival" in capsys.readouterr().out
    assert main(["budget", "--dark-days", "12", "--dark-share", "0.01"]) == 1
    assert "at no level" in capsys.readouterr().out


def test_the_smallest_battery_and_panel_are_just_enough(capsys: pytest.CaptureFixture[str]) -> None:
    _, said = answered(capsys, "--dark-days", "5")
    suns = [1.0, 1.0, *[0.1] * 5]
    for name, way in said["dark"]["ways"].items():
        fixed = "" if name == "policy" else name
        for field, step in (("battery_mah", 50.0), ("panel_w", 0.1)):
            size = way[f"smallest_{field}" if field == "battery_mah" else "smallest_panel_w"]
            enough = replace(Supply(), **{field: size})
            less = replace(Supply(), **{field: size - step})
            assert not live(enough, Cost(), PowerConfig(), suns, fixed=fixed).died
            assert live(less, Cost(), PowerConfig(), suns, fixed=fixed).died, (name, field)


def test_a_fortnight_of_rain_is_told_day_by_day(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = answered(capsys, "--simulate", "4.5x2,0.8x14,4.5x4")
    assert code == 0
    assert len(said["simulation"]["policy"]["days"]) == 20
    assert not said["simulation"]["policy"]["died"]
    assert said["simulation"]["full"]["died"]
    assert said["simulation"]["policy"]["heard"] > 2 * said["simulation"]["full"]["heard"]
    assert main(["budget", "--simulate", "0x9"]) == 1
    assert "and so to day 9" in capsys.readouterr().out


def test_the_devices_own_levels_count(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("device: {id: ipe-07}\npower: {survival: {below_percent: 30, pause_s: 540}}\n")
    _, said = answered(capsys, "--config", str(path))
    assert said["device"] == "ipe-07"
    assert said["levels"][2]["hears"] == 0.1
    _, default = answered(capsys)
    assert said["levels"][3]["dark_days"] > default["levels"][3]["dark_days"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--battery-mah", "0"],
        ["--panel-w", "-1"],
        ["--health", "1.5"],
        ["--dark-days", "0"],
        ["--dark-days", "many"],
        ["--simulate", "4.5y2"],
        ["--simulate", "99"],
        ["--simulate", "1x999"],
        ["--simulate", ""],
        ["--cpu-j", "nan"],
    ],
)
def test_nonsense_is_refused(capsys: pytest.CaptureFixture[str], wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["budget", *wrong])
    assert ended.value.code == 2
    assert "expected" in capsys.readouterr().err


def test_weather_is_read_as_spells_of_days() -> None:
    assert budget.weather("4.5x2, 0.5, 3x1") == [4.5, 4.5, 0.5, 3.0]
    with pytest.raises(argparse.ArgumentTypeError, match="'x3'"):
        budget.weather("4,x3")


def test_the_real_loop_is_measured_in_real_time() -> None:
    config = AgentConfig()
    measured = cost.measure(replace(config, power=replace(config.power, source="none")), 1.0)
    assert measured.draw_w is None
    assert 0.1 < measured.listen_cpu_s < 600.0
    assert 0.0 <= measured.model_cpu_s < 600.0


# docs/power.md: its example is a configuration with the defaults, its figures are what the command prints

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "power.md").read_text(encoding="utf-8")


def test_the_example_is_the_default() -> None:
    example = TEXT.split("```yaml\n")[1].split("```")[0]
    assert AgentConfig.parse(yaml.safe_load(example), Path()).power == PowerConfig()


def test_the_fortnight_of_rain_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["budget", "--simulate", "4.5x2,0.8x14,4.5x4"]) == 0
    said = capsys.readouterr().out.splitlines()
    told = said[next(idx for idx, line in enumerate(said) if "lives" in line) :]
    for line in told:
        assert line.rstrip() in TEXT


def test_the_least_sun_is_what_it_says() -> None:
    def lives(hours: float, power: PowerConfig) -> bool:
        suns = [sun / Supply().sun_h for sun in [4.5] * 2 + [hours] * 14 + [4.5] * 4]
        return not live(Supply(), Cost(), power, suns).died

    longer = PowerConfig(survival=replace(SURVIVAL, pause_s=540.0))
    assert "With less than 0.7 h of sun a day" in TEXT
    assert (lives(0.7, PowerConfig()), lives(0.65, PowerConfig())) == (True, False)
    assert "down to 0.55 h" in TEXT
    assert (lives(0.55, longer), lives(0.5, longer)) == (True, False)
