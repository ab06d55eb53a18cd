"""A field log as one chart over a common time: scores and alerts, what was the matter, level, battery.

The chart is ECharts, drawn as SVG, so that the colours are the page's own tokens in light and dark.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from agent.fieldlog import Event
from base_station.pages.colours import FONT, LABEL_COLOURS, colour_of, tooltip
from base_station.pages.language import mark
from base_station.timeline import DEAF_NOW, LOST, OFF, OTHER, SAVING, LoggedAlert, Point, Stretch, Timeline

N_BINS = 400
"""Of a span on the screen; each has up to four points."""
MOST_ALERTS = 2000
LABELS = {"chainsaw": mark("Chainsaw"), "engine": mark("Engine"), "storm": mark("Storm")}
KINDS = {
    OFF: mark("Off"),
    DEAF_NOW: mark("Deaf"),
    LOST: mark("Lost"),
    SAVING: mark("Saving"),
    OTHER: mark("Other"),
}
"""What was the matter, one short word each: they stand at the side of a phone's screen."""
_DEPTH = {"chainsaw": 4, "engine": 3}
_KIND_COLOURS = {
    OFF: "var(--edge)",
    DEAF_NOW: "var(--saw)",
    LOST: "var(--engine)",
    SAVING: "var(--good)",
    OTHER: "var(--other)",
}
_CROSS = "path://M0,2 L2,0 L5,3 L8,0 L10,2 L7,5 L10,8 L8,10 L5,7 L2,10 L0,8 L3,5 Z"
_LEFT, _RIGHT = 76, 24
_GRIDS = ((56, 210), (302, 84), (424, 70), (532, 70))
"""Top and height, px, of scores, what was the matter, level, battery."""
HEIGHT_PX = 690

Say = Callable[..., str]
Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wall:
    """How far the station's wall clock is from UTC in a log: the chart writes times as the station's."""

    offset_ms: int

    @classmethod
    def at(cls, moment_s: float) -> "Wall":
        """Return what holds at a moment, seconds since 1970."""
        offset = datetime.fromtimestamp(moment_s, UTC).astimezone().utcoffset()
        return cls(0 if offset is None else round(1000 * offset.total_seconds()))

    def ms(self, moment_s: float) -> int:
        """Return a moment as the chart has it."""
        return round(1000 * moment_s) + self.offset_ms

    def seconds(self, ms: float) -> float:
        """Return a moment of the chart in seconds since 1970."""
        return (ms - self.offset_ms) / 1000

    def points(self, points: Iterable[Point]) -> list[list[float | None]]:
        """Return a line as the chart has it."""
        return [[ms + self.offset_ms, value] for ms, value in points]


def label_name(say: Say, label: str) -> str:
    """Return what a label is called; one that nobody here knows is called as the device says."""
    return say(LABELS[label]) if label in LABELS else label


def options(line: Timeline, wall: Wall, say: Say) -> Options:
    """Return the whole chart, with all of the log in it."""
    data = {one["id"]: one for one in lines(line, wall, line.begin_s, line.end_s)}
    span = {"min": wall.ms(line.begin_s), "max": wall.ms(line.end_s)}
    return {
        "animation": False,
        "useUTC": True,  # times are moved already
        "textStyle": {"fontFamily": FONT, "color": "var(--soft)"},
        "axisPointer": {
            "link": [{"xAxisIndex": "all"}],
            "lineStyle": {"color": "var(--edge)"},
            "label": {"show": False},
        },
        "tooltip": tooltip(),
        "legend": _legend(line, say),
        "title": _titles(say),
        "grid": [{"left": _LEFT, "right": _RIGHT, "top": top, "height": height} for top, height in _GRIDS],
        "xAxis": [_time_axis(idx, span) for idx in range(len(_GRIDS))],
        "yAxis": _value_axes(say),
        "dataZoom": _zooms(),
        "series": [{**one, **data.get(one["id"], {})} for one in _empty_series(line, say)],
    }


def _legend(line: Timeline, say: Say) -> Options:
    return {
        "type": "scroll",
        "top": 0,
        "left": 0,
        "textStyle": {"color": "var(--ink)", "fontSize": 13},
        "inactiveColor": "var(--line)",
        "pageTextStyle": {"color": "var(--soft)"},
        "pageIconColor": "var(--ink)",
        "pageIconInactiveColor": "var(--line)",
        "data": legend(line, say),
    }


def legend(line: Timeline, say: Say, *, changed: bool = False) -> list[str]:
    """Return what the legend names; `changed`: alerts by other rules are drawn, too."""
    more = [say("New"), say("Gone")] if changed else []
    return [*(label_name(say, label) for label in line.scores), say("Alert"), say("Never arrived"), *more]


def _titles(say: Say) -> list[Options]:
    names = (say("Score"), say("What was the matter"), say("Level, dBFS"), say("Battery, %, and temperature, °C"))
    style = {"fontSize": 12, "fontWeight": 600, "color": "var(--soft)"}
    return [
        {"text": name, "left": 0, "top": top - 26, "textStyle": style}
        for name, (top, _) in zip(names, _GRIDS, strict=True)
    ]


def _time_axis(idx: int, span: Mapping[str, int]) -> Options:
    is_last = idx == len(_GRIDS) - 1
    return {
        "type": "time",
        "gridIndex": idx,
        **span,
        "axisLine": {"lineStyle": {"color": "var(--line)"}},
        "axisTick": {"show": False},
        "axisLabel": {"show": is_last, "color": "var(--soft)", "hideOverlap": True},
        "splitLine": {"show": True, "lineStyle": {"color": "var(--line)", "opacity": 0.6}},
        "axisPointer": {"label": {"show": False}},
    }


def _value_axes(say: Say) -> list[Options]:
    plain = {
        "axisLine": {"show": False},
        "axisTick": {"show": False},
        "axisLabel": {"color": "var(--soft)", "fontSize": 11},
        "splitLine": {"lineStyle": {"color": "var(--line)"}},
    }
    kinds = [say(word) for word in reversed(KINDS.values())]
    return [
        {**plain, "type": "value", "gridIndex": 0, "min": 0, "max": 1, "interval": 0.25},
        {**plain, "type": "category", "gridIndex": 1, "data": kinds, "splitLine": {"show": False}},
        {**plain, "type": "value", "gridIndex": 2, "scale": True, "splitNumber": 2},
        {**plain, "type": "value", "gridIndex": 3, "min": 0, "max": 100, "interval": 50},
    ]


def _zooms() -> list[Options]:
    every = list(range(len(_GRIDS)))
    inside = {
        "type": "inside",
        "xAxisIndex": every,
        "filterMode": "none",
        "zoomOnMouseWheel": "ctrl",
        "moveOnMouseWheel": False,
    }
    slider = {
        "type": "slider",
        "xAxisIndex": every,
        "filterMode": "none",
        "left": _LEFT,
        "right": _RIGHT,
        "bottom": 8,
        "height": 28,
        "showDataShadow": False,
        "showDetail": False,
        "brushSelect": False,
        "borderColor": "var(--line)",
        "backgroundColor": "var(--sunk)",
        "fillerColor": "var(--calm)",
        "handleStyle": {"color": "var(--card)", "borderColor": "var(--edge)"},
        "moveHandleStyle": {"color": "var(--edge)"},
    }
    return [inside, slider]


def _empty_series(line: Timeline, say: Say) -> list[Options]:
    thin = {"type": "line", "showSymbol": False, "emphasis": {"disabled": True}, "data": []}
    found: list[Options] = []
    others = [label for label in line.scores if label not in LABEL_COLOURS]
    for label in line.scores:
        colour = colour_of(label, others)
        found.append(
            {
                **thin,
                "id": f"score-{label}",
                "name": label_name(say, label),
                "z": _DEPTH.get(label, 2),
                "lineStyle": {"width": 1.2, "color": colour},
                "itemStyle": {"color": colour},
                "markLine": _threshold(line.rules.get(label), colour),
            }
        )
    for row, (kind, word) in enumerate(reversed(KINDS.items())):
        style = {"width": 12, "color": _KIND_COLOURS[kind], "cap": "butt"}
        common = {
            **thin,
            "xAxisIndex": 1,
            "yAxisIndex": 1,
            "lineStyle": style,
            "itemStyle": {"color": _KIND_COLOURS[kind]},
        }
        found.append({**common, "id": f"row-{kind}", "name": say(word), "z": row, "tooltip": {"show": False}})
    for idx, (name, title, colour) in enumerate(_measures(say)):
        at = 2 if idx == 0 else 3
        style = {"width": 1.2, "color": colour}
        found.append(
            {
                **thin,
                "id": name,
                "name": title,
                "xAxisIndex": at,
                "yAxisIndex": at,
                "lineStyle": style,
                "itemStyle": {"color": colour},
            }
        )
    return found + _marks(say)


def _measures(say: Say) -> Sequence[tuple[str, str, str]]:
    return (
        ("level_dbfs", say("Level, dBFS"), "var(--accent)"),
        ("percent", say("Battery, %"), "var(--good)"),
        ("temperature_c", say("Temperature, °C"), "var(--engine)"),
    )


def _threshold(rule: Mapping[str, float] | None, colour: str) -> Options:
    lines = [] if rule is None else [{"yAxis": round(rule["threshold"], 4)}]
    return {
        "silent": True,
        "symbol": "none",
        "label": {"show": False},
        "lineStyle": {"color": colour, "type": [2, 4], "width": 1},
        "data": lines,
    }


def _marks(say: Say) -> list[Options]:
    shapes = (
        ("arrived", say("Alert"), "circle", "var(--accent)"),
        ("missing", say("Never arrived"), "diamond", "var(--saw)"),
        ("gained", say("New"), "triangle", "var(--good)"),
        ("gone", say("Gone"), _CROSS, "var(--ink)"),
    )
    return [
        {
            "type": "scatter",
            "id": name,
            "name": title,
            "symbol": symbol,
            "symbolSize": 12,
            "z": 10,
            "itemStyle": {"color": colour, "borderColor": "var(--card)", "borderWidth": 1},
            "emphasis": {"disabled": True},
            "data": [],
        }
        for name, title, symbol, colour in shapes
    ]


def lines(line: Timeline, wall: Wall, begin_s: float, end_s: float) -> list[Options]:
    """Return the data of all lines: fine within a span, coarse around it, so that one may move on at once."""

    def whole(points: Callable[[float, float, int], list[Point]]) -> list[list[float | None]]:
        if (begin_s, end_s) == (line.begin_s, line.end_s):
            return wall.points(points(begin_s, end_s, N_BINS))
        around = points(line.begin_s, begin_s, N_BINS // 2), points(end_s, line.end_s, N_BINS // 2)
        return wall.points([*around[0], *points(begin_s, end_s, N_BINS), *around[1]])

    found: list[Options] = []
    for label in line.scores:
        data = whole(partial(line.label_points, label))
        found.append({"id": f"score-{label}", "data": data, "showSymbol": len(data) < N_BINS, "symbolSize": 4})
    for name in ("level_dbfs", "percent", "temperature_c"):
        data = whole(partial(line.measure_points, name))
        found.append({"id": name, "data": data, "showSymbol": len(data) < 20, "symbolSize": 4})
    least_s = (end_s - begin_s) / N_BINS
    for row, kind in enumerate(reversed(KINDS)):
        some = merged([one for one in line.stretches if one.kind == kind], least_s)
        bars: list[list[float | None]] = []
        for begin, end in some:
            bars += [[wall.ms(begin), row], [wall.ms(end), row], [wall.ms(end), None]]
        found.append({"id": f"row-{kind}", "data": bars})
    return found + alert_marks(line.alerts, wall)


def merged(stretches: Sequence[Stretch], least_s: float) -> list[tuple[float, float]]:
    """Return stretches by begin as few as a screen can show: none is shorter than `least_s`, nor is what parts them."""
    found: list[tuple[float, float]] = []
    for one in stretches:
        end_s = max(one.end_s, one.begin_s + least_s)
        if found and one.begin_s - found[-1][1] < least_s:
            found[-1] = (found[-1][0], max(found[-1][1], end_s))
        else:
            found.append((one.begin_s, end_s))
    return found


def alert_marks(alerts: Sequence[LoggedAlert], wall: Wall) -> list[Options]:
    """Return the log's own alerts, the latest where they are too many."""
    return [
        {
            "id": name,
            "data": [
                [wall.ms(alert.at_s), round(alert.score, 3)]
                for alert in [one for one in alerts if one.arrived == arrived][-MOST_ALERTS:]
            ],
        }
        for name, arrived in (("arrived", True), ("missing", False))
    ]


def changed_marks(gained: Sequence[Event], gone: Sequence[Event], wall: Wall) -> list[Options]:
    """Return the alerts that other rules would raise, and those that they would not."""
    return [
        {
            "id": name,
            "data": [[wall.ms(event.utc.timestamp()), round(event.score, 3)] for event in events[:MOST_ALERTS]],
        }
        for name, events in (("gained", gained), ("gone", gone))
    ]
