"""Charts by ECharts, as SVG: printed sharp, and in the page's colours.

Screen readers get the sentence beside a chart, and the table that has the same figures.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui
from nicegui.elements.echart import EChart

from base_station.pages.colours import FONT, GOOD, LINE, SOFT, tooltip
from base_station.pages.parts import box, text


def stacked_bars(
    title: str, told: str, categories: Sequence[str], series: Mapping[str, tuple[str, Sequence[int | None]]]
) -> None:
    """Draw counts as bars on top of each other.

    Args:
        title: of the figure.
        told: what it shows, for whoever cannot see it.
        categories: along the bottom.
        series: colour and counts by name; None where nobody knows.
    """
    drawn = [
        {
            "type": "bar",
            "stack": "all",
            "name": name,
            "data": list(counts),
            "itemStyle": {"color": colour},
            "emphasis": {"disabled": True},
            "barMaxWidth": 26,
            "barCategoryGap": "25%",
        }
        for name, (colour, counts) in series.items()
    ]
    _figure(title, told, _options(categories, drawn, {"minInterval": 1}))


def share_line(title: str, told: str, categories: Sequence[str], shares: Sequence[float | None], unit: str) -> None:
    """Draw a share of each category as a filled line from 0 to 100; None leaves a gap."""
    percent = [None if share is None else round(100.0 * share, 1) for share in shares]
    line = {
        "type": "line",
        "name": title,
        "data": percent,
        "symbol": "circle",
        "symbolSize": 4,
        "itemStyle": {"color": GOOD},
        "lineStyle": {"color": GOOD, "width": 2},
        "areaStyle": {"color": GOOD, "opacity": 0.15},
        "emphasis": {"disabled": True},
    }
    _figure(title, told, _options(categories, [line], {"min": 0, "max": 100}, unit), "low")


def _figure(title: str, told: str, options: dict[str, Any], classes: str = "") -> None:
    with box("figure", f"diagram {classes}"):
        text("figcaption", title)
        chart: EChart = ui.echart(options, renderer="svg")
        chart.props["role"] = "img"
        chart.props["aria-label"] = told


def _options(
    categories: Sequence[str], series: Sequence[Mapping[str, Any]], values: Mapping[str, Any], unit: str = ""
) -> dict[str, Any]:
    quiet = {"color": SOFT, "fontSize": 12}
    return {
        "animation": False,
        "textStyle": {"fontFamily": FONT},
        "grid": {"left": 8, "right": 12, "top": 34 if len(series) > 1 else 12, "bottom": 4, "containLabel": True},
        "legend": {"show": len(series) > 1, "left": 0, "top": 0, "icon": "roundRect", "textStyle": quiet},
        "tooltip": {**tooltip(), "axisPointer": {"type": "none"}},
        "xAxis": {
            "type": "category",
            "data": list(categories),
            "axisTick": {"show": False},
            "axisLine": {"lineStyle": {"color": LINE}},
            "axisLabel": {**quiet, "hideOverlap": True},
        },
        "yAxis": {
            "type": "value",
            **values,
            "axisLabel": {**quiet, **({"formatter": "{value}" + unit} if unit else {})},
            "splitLine": {"lineStyle": {"color": LINE}},
        },
        "series": list(series),
    }
