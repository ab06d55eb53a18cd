"""Scores and levels of an incident over time, as a chart: a line for each device."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from base_station.dossier import Dossier, Point
from base_station.pages.frame import Visitor
from base_station.pages.parts import box, text

_MOST_LINES = 6
_COLOURS = ("#d2492f", "#3b82c4", "#3f9a62", "#c58a1a", "#8a63d2", "#5b7f8c")
_GREY = "#6f7b74"
"""Readable on both grounds: a canvas knows nothing of the page's tokens."""


class Course:
    """Scores and levels over time, a line for each device."""

    def __init__(self, visitor: Visitor) -> None:
        """Lay it out, empty."""
        self._visitor = visitor
        self._shown: object = None
        text("h2", visitor.say("Score and level"))
        with box(
            "div", "chart", role="img", aria_label=visitor.say("Score and level over time; the table has the numbers")
        ):
            self._chart = ui.echart({}).classes("canvas")

    def update(self, found: Dossier) -> None:
        """Draw what is new."""
        shown = (found.scores, found.levels)
        if shown != self._shown:
            self._shown = shown
            self._chart.options.clear()
            self._chart.options.update(chart_options(self._visitor, found.scores, found.levels))
            self._chart.update()


def chart_options(visitor: Visitor, scores: Sequence[Point], levels: Sequence[Point]) -> dict[str, Any]:
    """Return the chart: scores above, levels below, on one axis of station time."""
    names = list(dict.fromkeys(point.device_id for point in scores))[:_MOST_LINES]
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}
    small = {"color": _GREY, "fontSize": 12}
    line = {"lineStyle": {"color": _GREY, "opacity": 0.35}}

    def axis(place: int, name: str, **more: object) -> dict[str, Any]:
        return {
            "type": "value", "gridIndex": place, "name": name, "nameTextStyle": {**small, "align": "left"},
            "axisLabel": small, "splitLine": line, **more,
        }  # fmt: skip

    def times(place: int) -> dict[str, Any]:
        label = {**small, "hideOverlap": True, "show": place == 1}
        return {"type": "time", "gridIndex": place, "axisLabel": label, "axisLine": line, "splitLine": {"show": False}}

    return {
        "animation": False,
        "color": list(colours.values()),
        "textStyle": {"fontFamily": "inherit"},
        "legend": {"top": 0, "left": 0, "textStyle": small, "icon": "circle", "type": "scroll"},
        "tooltip": {"trigger": "axis", "confine": True, "renderMode": "richText"},
        "axisPointer": {"link": [{"xAxisIndex": "all"}]},
        "grid": [
            {"left": 44, "right": 34, "top": 56, "height": 110},
            {"left": 44, "right": 34, "top": 206, "height": 110},
        ],
        "xAxis": [times(0), times(1)],
        "yAxis": [
            axis(0, visitor.say("Score"), min=0, max=1, interval=0.5),
            axis(1, visitor.say("Level, dBFS"), scale=True, splitNumber=3),
        ],
        "series": [*_series(scores, colours, 0), *_series(levels, colours, 1)],
    }


def _series(points: Sequence[Point], colours: Mapping[str, str], place: int) -> list[dict[str, Any]]:
    # station wall time, without a zone: the reader's browser may have another
    by_device: dict[str, list[list[object]]] = defaultdict(list)
    for point in points:
        local = point.at_utc.astimezone().replace(tzinfo=None)
        by_device[point.device_id].append([local.isoformat(timespec="seconds"), round(point.value, 3)])
    return [
        {
            "name": name,
            "type": "line",
            "xAxisIndex": place,
            "yAxisIndex": place,
            "data": by_device[name],
            "itemStyle": {"color": colour},
            "lineStyle": {"color": colour, "width": 2},
            "symbolSize": 8,
        }
        for name, colour in colours.items()
    ]
