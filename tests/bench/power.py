"""Draws docs/power.svg: a fortnight of rain as the policy lives it, and as a device does that always hears everything.

`python -m tests.bench.power docs/power.svg`; the same figures in text: `python -m agent budget --simulate ...`.
"""

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from agent.autonomy import Cost, Life, Supply, live
from agent.budget import weather
from agent.power import LEVELS, PowerConfig

RAIN = "4.5x2,0.8x14,4.5x4"
COLOURS = {"full": "#2a7f4f", "saving": "#d9a400", "survival": "#b5452c"}


def lives() -> dict[str, Life]:
    """Return the fortnight as lived by the policy and at each fixed level."""
    suns = [hours / Supply().sun_h for hours in weather(RAIN)]
    fixed = {"policy": "", **{name: name for name in LEVELS}}
    return {name: live(Supply(), Cost(), PowerConfig(), suns, fixed=level) for name, level in fixed.items()}


def draw(path: Path) -> None:
    """Write the chart."""
    found = lives()
    figure = Figure(figsize=(8, 4.2))
    charge, levels = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    days = range(1, len(found["policy"].days) + 1)
    charge.axvspan(2.5, 16.5, color="#dde6ee", label="rain: 0.8 h of sun a day")
    for name, style in (("policy", "-"), ("full", "--"), ("saving", ":")):
        label = "the policy" if name == "policy" else f"always {name}"
        values = [day.percent for day in found[name].days]
        charge.plot(days, values, style, color="#222" if name == "policy" else COLOURS[name], label=label)
    charge.set_ylabel("charge at midnight, %")
    charge.set_ylim(0, 100)
    charge.legend(loc="upper center", fontsize=8, ncols=4)
    bottom = [0.0] * len(days)
    for name in LEVELS:
        hours = [day.hours[name] for day in found["policy"].days]
        levels.bar(days, hours, bottom=bottom, color=COLOURS[name], label=name, width=0.9)
        bottom = [below + more for below, more in zip(bottom, hours, strict=True)]
    levels.set_ylabel("hours")
    levels.set_yticks([0, 12, 24])
    levels.set_xlabel("day")
    levels.set_xticks(list(days))
    levels.legend(loc="upper center", fontsize=8, ncols=3, bbox_to_anchor=(0.5, 1.35))
    figure.tight_layout()
    # the same drawing gives the same bytes, and its words stay words
    with mpl.rc_context({"svg.hashsalt": "curupira", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
