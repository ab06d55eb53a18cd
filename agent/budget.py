"""`python -m agent budget`: will this panel carry this device through the dark days, and what would?

Every number says whether it was given, measured or only assumed: an assumed one is a place to start, not a promise.
"""

import argparse
import json
import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from agent.autonomy import LONGEST_DARK_DAYS, Cost, Day, Life, Supply, dark_days, live, smallest
from agent.battery import look
from agent.config import AgentConfig, read_config
from agent.power import LEVELS, PowerConfig

DONE, NO = 0, 1
POLICY = "policy"
_LEAD_IN = (1.0, 1.0)
"""Usual days before the dark ones: a panel that does not carry a usual day starts them with less."""
_SPELL = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)(?:x(\d{1,3}))?")
_MOST_DAYS = 400
_BAR = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked."""

    name: str
    supply: Supply
    cost: Cost
    power: PowerConfig
    origins: dict[str, str]
    """Of `battery`, `panel`, `draw`, `cpu`: `given`, `measured`, `assumed`."""

    def life(self, level: str, suns: Sequence[float], supply: Supply | None = None) -> Life:
        """Live through days at one level, or as the policy says."""
        return live(supply or self.supply, self.cost, self.power, suns, fixed="" if level == POLICY else level)


def describe(parser: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser.description = (
        "Says for each level of the power policy what it takes and how long a full battery lasts, and what the policy "
        "makes of dark days. Nothing is known but what is given or measured: the rest is assumed, and said to be."
    )
    parser.epilog = (
        "Examples: python -m agent budget --measure --battery-mah 3000 --age-years 4 --panel-w 6 --sun-h 4 "
        "--dark-days 5; python -m agent budget --simulate 4.5x2,0.5x14,4.5x4. "
        "Exit code 1: it does not last."
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the device's YAML file: levels, heartbeat, model")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    _describe_supply(parser.add_argument_group("battery and panel"))
    _describe_cost(parser.add_argument_group("the device"))
    asked = parser.add_argument_group("questions")
    asked.add_argument("--dark-days", type=_days, metavar="N", help="does it survive so many, and what would?")
    asked.add_argument(
        "--dark-share", type=_share, default=0.1, metavar="X", help="of the usual sun on a dark day (default 0.1)"
    )
    asked.add_argument(
        "--simulate", type=weather, metavar="HOURS", help="hours of full sun, day by day: 4.5x2,0.5x14,4.5x4"
    )
    parser.set_defaults(command=run)


def _describe_supply(group: "argparse._ArgumentGroup") -> None:  # pyright: ignore[reportPrivateUsage]
    default = Supply()
    group.add_argument("--battery-mah", type=_positive, help=f"when new (default {default.battery_mah:g})")
    group.add_argument("--battery-v", type=_positive, help=f"default {default.battery_v:g}")
    group.add_argument("--age-years", type=_amount, help=f"8 %% lost in each (default {default.age_years:g})")
    group.add_argument("--health", type=_share, help="share of the capacity that is left, instead of the age")
    group.add_argument("--panel-w", type=_amount, help=f"in full sun; 0: none (default {default.panel_w:g})")
    group.add_argument("--sun-h", type=_amount, help=f"hours of full sun on a usual day (default {default.sun_h:g})")
    group.add_argument("--efficiency", type=_share, help=f"share that arrives (default {default.efficiency:g})")


def _describe_cost(group: "argparse._ArgumentGroup") -> None:  # pyright: ignore[reportPrivateUsage]
    default = Cost()
    group.add_argument("--measure", action="store_true", help="run the real loop here on synthesised sound")
    group.add_argument("--seconds", type=_positive, default=30.0, help="for each of its two runs (default 30)")
    group.add_argument("--listen-w", type=_amount, help=f"awake, microphone open (default {default.listen_w:g})")
    group.add_argument("--sleep-w", type=_amount, help=f"microphone let go (default {default.sleep_w:g})")
    group.add_argument("--cpu-j", type=_amount, help=f"energy of a CPU-second (default {default.cpu_j:g})")
    group.add_argument("--heartbeat-j", type=_amount, help=f"energy of a heartbeat (default {default.heartbeat_j:g})")
    group.add_argument("--gate-share", type=_share, help=f"of windows that pass (default {default.gate_share:g})")


def run(options: argparse.Namespace) -> int:
    """Answer; exit code 1 if it does not last."""
    config = read_config(options.config) if options.config else AgentConfig()
    question = asked(config, options)
    answer = report(question, options.dark_days, options.dark_share, options.simulate)
    if options.json:
        print(json.dumps(answer.document))
    else:
        print("\n".join(answer.lines))
    return DONE if answer.lasts else NO


def asked(config: AgentConfig, options: argparse.Namespace) -> Question:
    """Put together what was given, what can be measured, and what is left to assume."""
    supply, origins = _supply(config, options)
    cost = replace(Cost(heartbeat_s=config.station.heartbeat_s), **_given(options, "heartbeat_j", "gate_share"))
    draw = _given(options, "listen_w", "sleep_w")
    cost = replace(cost, **draw, **_given(options, "cpu_j"))
    origins["draw"] = "given" if len(draw) == 2 else "partly given" if draw else "assumed"
    origins["cpu"] = "assumed"
    if options.measure:
        from agent.cost import measure  # the whole listening loop, for those who measure alone

        logging.getLogger("agent.classify").setLevel(logging.WARNING)
        print(f"listening to synthesised sound for 2 x {options.seconds:g} s", file=sys.stderr)
        measured = measure(config, options.seconds)
        cost = replace(cost, listen_cpu_s=measured.listen_cpu_s, model_cpu_s=measured.model_cpu_s)
        origins["cpu"] = "measured"
        if measured.draw_w is not None and "listen_w" not in draw:
            computing_w = (measured.listen_cpu_s + measured.model_cpu_s / 2) / 3_600.0 * cost.cpu_j
            cost = replace(cost, listen_w=max(0.0, round(measured.draw_w - computing_w, 4)))
            origins["draw"] = "measured, without a microphone"
    return Question(name=config.device.id, supply=supply, cost=cost, power=config.power, origins=origins)


def _supply(config: AgentConfig, options: argparse.Namespace) -> tuple[Supply, dict[str, str]]:
    battery = _given(options, "battery_mah", "battery_v", "age_years", "health")
    panel = _given(options, "panel_w", "sun_h", "efficiency")
    origins = {"battery": "given" if battery else "assumed", "panel": "given" if panel else "assumed"}
    reading = look(config.power.source) if not battery else None
    if reading is not None and reading.capacity_mah is not None:
        # what the gauge says it holds today; its own age is in that
        battery = {"battery_mah": reading.capacity_mah, "health": 1.0}
        origins["battery"] = "said by the fuel gauge"
    return Supply(**battery, **panel), origins


def _given(options: argparse.Namespace, *names: str) -> dict[str, float]:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


# The answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The same in two forms."""

    lines: list[str]
    document: dict[str, object]
    lasts: bool
    """False: the battery runs out in what was asked."""


def report(question: Question, n_dark: int | None, dark_share: float, hours: Sequence[float] | None) -> Answer:
    """Answer everything that was asked."""
    lines, levels = _heading(question), _levels(question)
    document: dict[str, object] = {
        "device": question.name,
        "supply": asdict(question.supply)
        | {"capacity_wh": round(question.supply.capacity_wh, 3), "day_wh": round(question.supply.day_wh, 3)},
        "cost": asdict(question.cost),
        "origins": question.origins,
        "levels": levels,
    }
    lines += ["", *_level_lines(levels)]
    lasts = True
    if n_dark is not None:
        dark = _dark(question, n_dark, dark_share)
        document["dark"], lasts = dark, bool(dark["lasts"])
        suns = [*_LEAD_IN, *[dark_share] * n_dark]
        lines += ["", *_dark_lines(dark), "", *chart(question.life(POLICY, suns).days, first=1 - len(_LEAD_IN))]
    if hours is not None:
        suns = [hour / question.supply.sun_h for hour in hours]
        lives = {name: question.life(name, suns) for name in (POLICY, *LEVELS)}
        document["simulation"] = {name: _life(life) for name, life in lives.items()}
        lasts = lasts and not lives[POLICY].died
        lines += ["", *_life_lines(lives), "", *chart(lives[POLICY].days)]
    if n_dark is None and hours is None:
        lines += ["", "without any sun, from a full battery:", *chart(question.life(POLICY, [0.0] * 8).days)]
    return Answer(lines=lines, document=document, lasts=lasts)


def _heading(question: Question) -> list[str]:
    supply, cost, origins = question.supply, question.cost, question.origins
    age = f"{supply.age_years:g} years old" if supply.health is None else f"{supply.health:.0%} of it left"
    rows = [
        (
            "battery",
            f"{supply.battery_mah:,.0f} mAh at {supply.battery_v:g} V, {age}: {supply.capacity_wh:.1f} Wh",
            origins["battery"],
        ),
        (
            "panel",
            f"{supply.panel_w:g} W, {supply.sun_h:g} h of full sun, {supply.efficiency:.0%} arrives: "
            f"{supply.day_wh:.1f} Wh a day",
            origins["panel"],
        ),
        ("draw", f"listening {cost.listen_w:g} W, microphone let go {cost.sleep_w:g} W", origins["draw"]),
        (
            "computing",
            f"{cost.listen_cpu_s:.1f} CPU-s an hour + {cost.model_cpu_s:.1f} for all windows, {cost.cpu_j:g} J each",
            origins["cpu"],
        ),
    ]
    return [f"How long the power lasts: {question.name}", ""] + [
        f"{name:<10} {text:<72} {origin}" for name, text, origin in rows
    ]


def _levels(question: Question) -> list[dict[str, object]]:
    """Return what each level takes, and the policy that moves between them."""
    rows: list[dict[str, object]] = []
    for name in LEVELS:
        level = question.power.level(name)
        watts = question.cost.mean_w(level)
        sun_wh = question.supply.panel_w * question.supply.efficiency
        rows.append(
            {
                "level": name,
                "hears": round(level.duty, 3),
                "cpu_s_per_hour": round(question.cost.cpu_s(level), 2),
                "draw_w": round(watts, 4),
                "day_wh": round(24.0 * watts, 2),
                "dark_days": dark_days(question.supply, question.cost, question.power, fixed=name),
                "sun_h": round(24.0 * watts / sun_wh, 2) if sun_wh > 0 else None,
            }
        )
    rows.append({"level": POLICY, "dark_days": dark_days(question.supply, question.cost, question.power)})
    return rows


def _level_lines(rows: Sequence[dict[str, object]]) -> list[str]:
    lines = [
        f"{'level':<10}{'hears':>7}{'CPU-s/h':>9}{'W':>8}{'Wh a day':>10}{'days without sun':>18}{'sun needed':>13}"
    ]
    for row in rows:
        days = f"{row['dark_days']:.1f}" if row["dark_days"] != LONGEST_DARK_DAYS else f"over {LONGEST_DARK_DAYS}"
        if row["level"] == POLICY:
            lines.append(f"{POLICY:<10}{'':>34}{days:>18}")
            continue
        sun = "no panel" if row["sun_h"] is None else f"{row['sun_h']:.1f} h"
        lines.append(
            f"{row['level']:<10}{row['hears']:>7.0%}{row['cpu_s_per_hour']:>9.1f}{row['draw_w']:>8.3f}"
            f"{row['day_wh']:>10.1f}{days:>18}{sun:>13}"
        )
    return lines


def _dark(question: Question, n_days: int, share: float) -> dict[str, object]:
    """Return whether the device survives the dark days, and what would."""
    suns = [*_LEAD_IN, *[share] * n_days]
    ways: dict[str, dict[str, object]] = {}
    for name in (POLICY, *LEVELS):
        life = question.life(name, suns)
        ways[name] = {
            "lasts": not life.died,
            "lived_days": max(0.0, round(life.lived_days - len(_LEAD_IN), 2)),
            "lowest": life.lowest,
            "smallest_battery_mah": smallest(_enough(question, name, suns, "battery_mah"), 1_000.0, 50.0),
            "smallest_panel_w": smallest(_enough(question, name, suns, "panel_w"), 1.0, 0.1),
        }
    return {"days": n_days, "share": share, "lasts": ways[POLICY]["lasts"], "ways": ways}


def _enough(question: Question, level: str, suns: Sequence[float], field: str) -> Callable[[float], bool]:
    def good(size: float) -> bool:
        return not question.life(level, suns, replace(question.supply, **{field: size})).died

    return good


def _dark_lines(dark: dict[str, object]) -> list[str]:
    lines = [
        f"{dark['days']} dark days of {dark['share']:.0%} of the usual sun, after {len(_LEAD_IN)} usual ones:",
        f"{'':<10}{'lasts':>12}{'lowest':>8}{'smallest battery':>18}{'or smallest panel':>19}",
    ]
    ways = cast("dict[str, dict[str, Any]]", dark["ways"])
    for name, way in ways.items():
        lasts = "yes" if way["lasts"] else f"{way['lived_days']:.1f} days"
        battery = "none" if way["smallest_battery_mah"] is None else f"{way['smallest_battery_mah']:,.0f} mAh"
        panel = "none" if way["smallest_panel_w"] is None else f"{way['smallest_panel_w']:.1f} W"
        lines.append(f"{name:<10}{lasts:>12}{way['lowest']:>7.0f}%{battery:>18}{panel:>19}")
    holds = [name for name in LEVELS if ways[name]["lasts"]]
    if ways[POLICY]["lasts"]:
        lines.append("It lasts.")
    elif holds:
        lines.append(f"It does not last as configured; it would at the level {holds[0]} from the first day on.")
    else:
        lines.append("It does not last, at no level: another battery or panel, or levels that hear less.")
    return lines


def _life(life: Life) -> dict[str, object]:
    return {**asdict(life), "lowest": life.lowest, "heard": round(life.heard, 4)}


def _life_lines(lives: dict[str, Life]) -> list[str]:
    lines = [f"{'':<10}{'lives':>12}{'lowest':>8}{'heard':>8}   hours full / saving / survival"]
    for name, life in lives.items():
        lived = f"{life.lived_days:.1f} days" if life.died else "to the end"
        hours = " / ".join(f"{sum(day.hours[level] for day in life.days):.0f}" for level in LEVELS)
        lines.append(f"{name:<10}{lived:>12}{life.lowest:>7.0f}%{life.heard:>8.0%}   {hours}")
    return lines


def chart(days: Sequence[Day], first: int = 1) -> list[str]:
    """Return a bar a day: the charge at its end, and what moved."""
    lines = [f"{'day':>4} {'sun':>5}  {'charge at its end':<{_BAR + 6}} level"]
    for number, day in enumerate(days, first):
        if sum(day.hours.values()) == 0 and number > first:
            lines.append(f"{number:>4}        and so to day {first + len(days) - 1}")
            break
        bar = "#" * round(day.percent / 100.0 * _BAR)
        moves = ", ".join(f"{level} at {int(hour):02d}:{round(hour % 1 * 60):02d}" for hour, level in day.changes)
        longest = max(LEVELS, key=lambda level: day.hours[level])
        lived_h = sum(day.hours.values())
        ended = f", out of power at {int(lived_h):02d}:00" if lived_h < 23.99 else ""
        what = f"{longest}: {moves}" if moves else longest
        lines.append(f"{number:>4} {day.sun:>4.0%}  {bar:<{_BAR}} {day.percent:>4.0f}% {what}{ended}")
    return lines


# Options


def weather(text: str) -> list[float]:
    """Read hours of sun, day by day: `4.5x2,0.5x14`."""
    hours: list[float] = []
    for spell in text.split(","):
        match = _SPELL.fullmatch(spell.strip())
        if match is None or float(match[1]) > 14:
            raise argparse.ArgumentTypeError(f"holds {spell!r}, expected hours of sun a day, as in 4.5x2,0.5x14")
        hours += [float(match[1])] * int(match[2] or 1)
    if not 1 <= len(hours) <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"is {len(hours)} days, expected 1 to {_MOST_DAYS}")
    return hours


def _number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"is {text!r}, expected a number from {low:g} to {high:g}")
    return value


def _amount(text: str) -> float:
    return _number(text, 0.0, 1e6)


def _positive(text: str) -> float:
    return _number(text, 0.01, 1e6)


def _share(text: str) -> float:
    return _number(text, 0.01, 1.0)


def _days(text: str) -> int:
    return int(_number(text, 1, 100))
