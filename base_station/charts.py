"""The report's charts, by matplotlib, as SVG that stands in the page: nothing is drawn by scripts.

matplotlib is imported when the first chart is drawn: the station itself needs none.
"""

import io
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

import numpy as np

from base_station.review import DEAF, SCORE_BINS, DeviceReview, by_hour, hours_of_day

LABEL_COLOURS = {"chainsaw": "#c2331a", "engine": "#a36404"}
_OTHER = "#55606e"
_INK, _GOOD, _OFF, _BAD = "#1b231f", "#2c7a4b", "#d9d6ca", "#7a2ca0"
_LINES = ("#2c5f7a", "#a3503c", "#5c7a2c", "#7a2c6d", "#3c7a73", "#8a6d1f", "#4a4a8a", "#7a4a2c")
_DASHES = ("-", "--", "-.", ":")
_MOST_ROWS = 12
"""Devices that get a row of histograms each; of more, the busiest."""


def timeline(reviews: Sequence[DeviceReview], zone: tzinfo | None) -> str:
    """Return a row for each device: listening, deaf, off, and its alerts as marks."""
    figure, axes = _axes(11, 0.9 + 0.55 * len(reviews), zone)
    for row, review in enumerate(reviews):
        if review.first_utc is None or review.last_utc is None:
            continue
        _bars(axes, row, [(review.first_utc, review.last_utc)], _GOOD)
        _bars(axes, row, [(s.from_utc, s.to_utc) for s in review.states if s.what in DEAF], _BAD)
        _bars(axes, row, [(span.from_utc, span.to_utc) for span in review.outages], _OFF)
        for label in sorted({alert.label for alert in review.alerts}):
            moments = [alert.utc for alert in review.alerts if alert.label == label]
            colour = LABEL_COLOURS.get(label, _OTHER)
            axes.plot(moments, [row - 0.36] * len(moments), "v", markersize=5, color=colour, clip_on=False)
    axes.set_yticks(range(len(reviews)), [review.device_id for review in reviews])
    axes.set_ylim(len(reviews) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
    return _svg(figure)


def _bars(axes: Any, row: int, spans: Sequence[tuple[datetime, datetime]], colour: str) -> None:  # noqa: ANN401  # matplotlib's axes
    from matplotlib.dates import date2num

    widths = [(date2num(start), max(date2num(end) - date2num(start), 1e-4)) for start, end in spans]
    axes.broken_barh(widths, (row - 0.25, 0.5), facecolors=colour, linewidth=0)


def power(reviews: Sequence[DeviceReview], zone: tzinfo | None) -> str:
    """Return charge and temperature over time, a line for each device; empty where no log has either."""
    charges = [by_hour(review.minutes, lambda minute: minute.percent) for review in reviews]
    heats = [by_hour(review.minutes, lambda minute: minute.temperature_c) for review in reviews]
    if not any(charges) and not any(heats):
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for number, review in enumerate(reviews):
        style = {"color": _LINES[number % len(_LINES)], "linestyle": _DASHES[number // len(_LINES) % len(_DASHES)]}
        for axes, points in ((above, charges[number]), (below, heats[number])):
            if points:
                axes.plot([at for at, _ in points], [value for _, value in points], label=review.device_id, **style)
    above.set_ylabel("battery, %")
    above.set_ylim(0, 102)
    below.set_ylabel("temperature, °C")
    for axes in (above, below):
        _tidy(axes)
    _dates(below, zone)
    if len(reviews) > 1:
        above.legend(loc="lower left", fontsize=8, ncols=4)
    return _svg(figure)


def levels(reviews: Sequence[DeviceReview], *, utc: bool) -> str:
    """Return the level by hour of day: the middle, and where eight in ten minutes lie; empty where no minute is."""
    if not any(review.minutes for review in reviews):
        return ""
    figure, axes = _axes(11, 3.2)
    for number, review in enumerate(reviews):
        found = {hour: (low, middle, high) for hour, low, middle, high in hours_of_day(review.minutes, utc=utc)}
        if not found:
            continue
        # an hour without a minute breaks the line
        low, middle, high = np.array([found.get(hour, (np.nan,) * 3) for hour in range(24)]).T
        style = _DASHES[number // len(_LINES) % len(_DASHES)]
        colour = _LINES[number % len(_LINES)]
        axes.plot(range(24), middle, style, marker="o", markersize=3, color=colour, label=review.device_id)
        if len(reviews) <= 4:  # of many, bands hide each other
            axes.fill_between(range(24), low, high, color=colour, alpha=0.13, lw=0)
    axes.set_xlim(-0.5, 23.5)
    axes.set_xticks(range(0, 24, 3), [f"{hour:02d}:00" for hour in range(0, 24, 3)])
    axes.set_ylabel("dBFS")
    axes.legend(loc="upper right", fontsize=8, ncols=4)
    return _svg(figure)


def scores(reviews: Sequence[DeviceReview]) -> str:
    """Return, for each device and label, how many windows had which score; the threshold is a line."""
    from matplotlib.figure import Figure

    shown = sorted(reviews, key=lambda review: -review.windows)[:_MOST_ROWS]
    shown.sort(key=lambda review: review.device_id)
    labels = sorted({label for review in shown for label in review.scores})
    if not labels:
        return ""
    figure = Figure(figsize=(11, 0.6 + 1.5 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), len(labels), sharex=True, sharey=True, squeeze=False)
    edges = np.linspace(0.0, 1.0, SCORE_BINS + 1)
    for review, row in zip(shown, grid, strict=True):
        for label, axes in zip(labels, row, strict=True):
            counts = review.scores.get(label, np.zeros(SCORE_BINS, np.int64))
            axes.stairs(counts, edges, fill=True, color=LABEL_COLOURS.get(label, _OTHER), alpha=0.75)
            if label in review.thresholds:
                axes.axvline(review.thresholds[label], color=_INK, linewidth=1, linestyle="--")
            axes.set_yscale("symlog", linthresh=1)
            axes.set_ylim(bottom=0)
            _tidy(axes)
        row[0].set_ylabel(f"{review.device_id}\nwindows", fontsize=8)
    for label, axes in zip(labels, grid[0], strict=True):
        axes.set_title(label, fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel("score")
    return _svg(figure)


def _axes(width: float, height: float, zone: tzinfo | None = None) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _tidy(axes)
    if zone is not None:
        _dates(axes, zone)
    return figure, axes


def _dates(axes: Any, zone: tzinfo | None) -> None:  # noqa: ANN401  # matplotlib's axes
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=zone or UTC)
    axes.xaxis_date(zone or UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone or UTC))


def _tidy(axes: Any) -> None:  # noqa: ANN401  # matplotlib's axes
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def _svg(figure: Any) -> str:  # noqa: ANN401  # matplotlib's figure
    import matplotlib as mpl

    out = io.BytesIO()
    # a fixed salt: the same logs give the same page, byte by byte
    with mpl.rc_context({"svg.hashsalt": "curupira", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    drawn = out.getvalue().decode()
    return drawn[drawn.index("<svg") :]
