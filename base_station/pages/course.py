"""Scores and levels of an incident over time, as a chart: a line for each device."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from nicegui import ui

from base_station.dossier import MOST_LINES, WINDOWS_AROUND, Dossier, Point
from base_station.pages.colours import CARD, EDGE, FONT, LINE, SERIES, SOFT, tooltip
from base_station.pages.frame import Visitor
from base_station.pages.logchart import Wall
from base_station.pages.logs import log_path
from base_station.pages.parts import box, link, text


class Course:
    """Scores and levels over time, a line for each device."""

    def __init__(self, visitor: Visitor) -> None:
        """Lay it out, empty."""
        self._visitor = visitor
        self._shown: object = None
        text("h2", visitor.say("Score and level"))
        with box("div", "chart") as self._frame:
            self._chart = ui.echart({}, renderer="svg").classes("canvas")
        self._chart.props["role"] = "img"
        self._told = box("p", "hint")

    def update(self, found: Dossier) -> None:
        """Draw what is new."""
        shown = (found.scores, found.levels, found.windows)
        if shown == self._shown:
            return
        self._shown = shown
        self._chart.options.clear()
        self._chart.options.update(chart_options(self._visitor, found))
        self._chart.props["aria-label"] = self._words(found)
        self._chart.update()
        self._told.clear()
        with self._told:
            self._tell(found)

    def _words(self, found: Dossier) -> str:
        """Return what the chart shows, for whoever cannot see it; the table has the numbers."""
        best = max((point.value for point in found.scores), default=0.0)
        return self._visitor.say(
            "Score and level over time; the best score is {score}, the table has the levels",
            score=self._visitor.language.number(best, 2),
        )

    def _tell(self, found: Dossier) -> None:
        """Say what the lines are made of, and how more of them could be had."""
        say = self._visitor.say
        if not found.windows:
            text("span", say("Dots: what alerts told. Once a device's field log is brought in, every window is drawn."))
            link("/logs", say("Field logs"))
            return
        text("span", say("Lines: every window by the device's field log. Dots: what alerts told."))
        for name in found.windows:
            link(log_path(name), say("Field log of {device}", device=name))


def chart_options(visitor: Visitor, found: Dossier) -> dict[str, Any]:
    """Return the chart: scores above, levels below, over one span of station time."""
    names = list(dict.fromkeys([*found.windows, *(point.device_id for point in found.scores)]))[:MOST_LINES]
    colours = {name: SERIES[place % len(SERIES)] for place, name in enumerate(names)}
    incident = found.incident
    wall = Wall.at(incident.first_utc.timestamp())
    begin, end = incident.first_utc - WINDOWS_AROUND, incident.last_utc + WINDOWS_AROUND
    small = {"color": SOFT, "fontSize": 12}

    def axis(place: int, name: str, **more: object) -> dict[str, Any]:
        return {
            "type": "value", "gridIndex": place, "name": name, "nameTextStyle": {**small, "align": "left"},
            "axisLabel": small, "splitLine": {"lineStyle": {"color": LINE}}, **more,
        }  # fmt: skip

    def times(place: int) -> dict[str, Any]:
        return {
            "type": "time",
            "gridIndex": place,
            "min": wall.ms(begin.timestamp()),
            "max": wall.ms(end.timestamp()),
            "axisLabel": {**small, "hideOverlap": True, "show": place == 1},
            "axisLine": {"lineStyle": {"color": EDGE}},
            "splitLine": {"show": False},
        }

    return {
        "animation": False,
        "useUTC": True,  # the times are the station's own already, whatever zone the browser is in
        "textStyle": {"fontFamily": FONT, "color": SOFT},
        "legend": {"top": 0, "left": 0, "textStyle": small, "icon": "circle", "type": "scroll", "data": names},
        "tooltip": tooltip(),
        "axisPointer": {"link": [{"xAxisIndex": "all"}], "lineStyle": {"color": EDGE}},
        "grid": [
            {"left": 44, "right": 34, "top": 56, "height": 110},
            {"left": 44, "right": 34, "top": 206, "height": 110},
        ],
        "xAxis": [times(0), times(1)],
        "yAxis": [
            axis(0, visitor.say("Score"), min=0, max=1, interval=0.5),
            axis(1, visitor.say("Level, dBFS"), scale=True, splitNumber=3),
        ],
        "series": [
            *_window_lines(found, colours, wall),
            *_told_dots(found, colours, wall),
            *_level_lines(found.levels, colours, wall, begin, end),
        ],
    }


def _window_lines(found: Dossier, colours: Mapping[str, str], wall: Wall) -> Iterable[dict[str, Any]]:
    for name, points in found.windows.items():
        if name in colours:
            yield _line(name, 0, colours[name], wall.points(points), width=1.2, dots=False)


def _told_dots(found: Dossier, colours: Mapping[str, str], wall: Wall) -> Iterable[dict[str, Any]]:
    for name, colour in colours.items():
        data = _data([point for point in found.scores if point.device_id == name], wall)
        width = 0.0 if name in found.windows else 2.0  # between two alerts windows say better how it was
        yield _line(name, 0, colour, data, width=width, dots=True)


def _level_lines(
    levels: Sequence[Point], colours: Mapping[str, str], wall: Wall, begin: datetime, end: datetime
) -> Iterable[dict[str, Any]]:
    """Yield lines of the levels: those within the span, and the one before and behind it that they come from."""
    for name, colour in colours.items():
        own = [point for point in levels if point.device_id == name]
        before = [point for point in own if point.at_utc < begin][-1:]
        within = [point for point in own if begin <= point.at_utc <= end]
        behind = [point for point in own if point.at_utc > end][:1]
        yield _line(name, 1, colour, _data([*before, *within, *behind], wall), width=2.0, dots=True)


def _data(points: Sequence[Point], wall: Wall) -> list[list[float | None]]:
    return [[wall.ms(point.at_utc.timestamp()), round(point.value, 3)] for point in points]


def _line(
    name: str, place: int, colour: str, data: list[list[float | None]], *, width: float, dots: bool
) -> dict[str, Any]:
    return {
        "name": name,
        "type": "line",
        "xAxisIndex": place,
        "yAxisIndex": place,
        "data": data,
        "showSymbol": dots,
        "symbol": "circle",
        "symbolSize": 8,
        "itemStyle": {"color": colour, "borderColor": CARD, "borderWidth": 1},
        "lineStyle": {"color": colour, "width": width},
        "emphasis": {"disabled": True},
    }
