"""Charts of one device over days: five small ones over one time, with the gaps behind them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from base_station.device_past import DevicePast, Point
from base_station.gaps import Gap
from base_station.pages.colours import FONT, tooltip
from base_station.pages.frame import Visitor
from base_station.pages.language import Language

_SILENCES = ("off", "link", "station", "unknown", "silent")
_TOP_PX, _EACH_PX, _HEIGHT_PX = 32, 138, 84
_FEW = 48
"""So few points are drawn as dots, too: a line through one of them is nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One of the charts."""

    name: str
    """With its unit, translated."""
    digits: int
    value: Callable[[Point], float | None]
    least: float | None = None
    """Where its axis begins; None fits it to the values."""
    most: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """The charts, as ECharts wants them, and what they show in words."""

    options: dict[str, Any]
    words: str
    height_px: int


def kind_of(gap: Gap) -> str:
    """Return the colour of a gap: `silence`, `fault` or `paused`."""
    return "silence" if gap.reason in _SILENCES else "paused" if gap.reason == "paused" else "fault"


def charts(visitor: Visitor, past: DevicePast, now: datetime) -> Drawn:
    """Return the charts of some days."""
    measures = _measures(visitor)
    titles = [_title(visitor.language, measure, past.points) for measure in measures]
    begin, end = local_ms(past.since), local_ms(now)
    options: dict[str, Any] = {
        "useUTC": True,  # the times are the station's own already, whatever zone the browser is in
        "animation": False,
        "textStyle": {"fontFamily": FONT, "color": "var(--soft)"},
        "axisPointer": {"link": [{"xAxisIndex": "all"}], "lineStyle": {"color": "var(--edge)"}},
        "tooltip": tooltip(),
        "title": [_heading(title, idx) for idx, title in enumerate(titles)],
        "grid": [_grid(idx) for idx in range(len(measures))],
        "xAxis": [_time_axis(idx, begin, end, is_last=idx == len(measures) - 1) for idx in range(len(measures))],
        "yAxis": [_value_axis(measure, idx) for idx, measure in enumerate(measures)],
        "series": [_series(measure, idx, past, now) for idx, measure in enumerate(measures)],
    }
    return Drawn(options=options, words="; ".join(titles), height_px=_TOP_PX + _EACH_PX * len(measures))


def local_ms(at: datetime) -> float:
    """Return the station's wall time as if it were UTC, in milliseconds: no browser moves it to its own zone."""
    return round(at.astimezone().replace(tzinfo=UTC).timestamp() * 1000)


def _measures(visitor: Visitor) -> Sequence[Measure]:
    say = visitor.say
    return (
        Measure(name=say("Heard, % of the time"), digits=0, value=_heard, least=0, most=100),
        Measure(name=say("Battery, %"), digits=0, value=lambda point: point.percent, least=0, most=100),
        Measure(name=say("Temperature, °C"), digits=0, value=lambda point: point.celsius),
        Measure(name=say("Level, dBFS"), digits=0, value=lambda point: point.level_dbfs),
        Measure(name=say("Uptime, hours"), digits=1, value=_uptime_h, least=0),
    )


def _heard(point: Point) -> float | None:
    return None if point.heard is None else 100 * point.heard


def _uptime_h(point: Point) -> float | None:
    return None if point.uptime_s is None else point.uptime_s / 3600


def _title(language: Language, measure: Measure, points: Sequence[Point]) -> str:
    """Return what a chart shows, with its range: that is what a screen reader gets of it."""
    values = [value for point in points if (value := measure.value(point)) is not None]
    if not values:
        return f"{measure.name}: –"
    low, high = (language.number(value, measure.digits) for value in (min(values), max(values)))
    return f"{measure.name}: {low}" if low == high else f"{measure.name}: {low} … {high}"


def _heading(title: str, idx: int) -> dict[str, Any]:
    style = {"fontSize": 13, "fontWeight": 600, "color": "var(--soft)"}
    return {"text": title, "left": 0, "top": 4 + idx * _EACH_PX, "padding": 0, "textStyle": style}


def _grid(idx: int) -> dict[str, Any]:
    return {"left": 44, "right": 12, "top": _TOP_PX + idx * _EACH_PX, "height": _HEIGHT_PX}


def _time_axis(idx: int, begin: float, end: float, *, is_last: bool) -> dict[str, Any]:
    day, hour = "{dd}.{MM}.", "{HH}:{mm}"
    formats = {"year": day, "month": day, "day": day, "hour": hour, "minute": hour, "second": hour}
    return {
        "type": "time",
        "gridIndex": idx,
        "min": begin,
        "max": end,
        "axisLine": {"lineStyle": {"color": "var(--edge)"}},
        "axisTick": {"show": is_last, "lineStyle": {"color": "var(--edge)"}},
        "axisLabel": {
            "show": is_last,
            "color": "var(--soft)",
            "fontSize": 12,
            "hideOverlap": True,
            "formatter": formats,
        },
        "splitLine": {"show": False},
    }


def _value_axis(measure: Measure, idx: int) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "type": "value",
        "gridIndex": idx,
        "scale": measure.least is None,
        "splitNumber": 2,
        "axisLabel": {"color": "var(--soft)"},
        "splitLine": {"lineStyle": {"color": "var(--line)"}},
    }
    if measure.least is not None:
        axis["min"] = measure.least
    if measure.most is not None:
        axis |= {"max": measure.most, "interval": measure.most / 2}
    return axis


def _series(measure: Measure, idx: int, past: DevicePast, now: datetime) -> dict[str, Any]:
    data = _broken(measure, past)
    line: dict[str, Any] = {
        "type": "line",
        "name": measure.name,
        "xAxisIndex": idx,
        "yAxisIndex": idx,
        "showSymbol": sum(value is not None for _, value in data) <= _FEW,
        "symbolSize": 4,
        "connectNulls": False,
        "lineStyle": {"width": 1.6, "color": "var(--accent)"},
        "itemStyle": {"color": "var(--accent)"},
        "emphasis": {"disabled": True},
        "data": data,
        "markArea": {"silent": True, "data": [_area(gap, past.since, now) for gap in past.gaps]},
    }
    return line


def _broken(measure: Measure, past: DevicePast) -> list[list[float | None]]:
    """Return the values, with nothing between those before and after a silence."""
    data = [(local_ms(point.at_utc), _rounded(measure, point)) for point in past.points]
    data += [(local_ms(gap.begin_utc) + 1, None) for gap in past.gaps if gap.reason in _SILENCES]
    return [list(pair) for pair in sorted(data, key=lambda pair: pair[0])]


def _rounded(measure: Measure, point: Point) -> float | None:
    value = measure.value(point)
    return None if value is None else round(value, measure.digits)


def _area(gap: Gap, since: datetime, now: datetime) -> list[dict[str, Any]]:
    colour = {"silence": "var(--soft)", "fault": "var(--saw)", "paused": "var(--engine)"}[kind_of(gap)]
    begin, end = max(gap.begin_utc, since), gap.end_utc or now
    style = {"color": colour, "opacity": 0.18}
    return [{"xAxis": local_ms(begin), "itemStyle": style}, {"xAxis": local_ms(end)}]
