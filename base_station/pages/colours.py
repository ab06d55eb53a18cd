"""Colours and type of all charts: tokens of the page, so that a chart follows light, dark and paper by itself.

Charts are drawn as SVG; a canvas would know nothing of tokens.
"""

from collections.abc import Sequence

FONT = 'system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif'
"""As in style.css: a chart has to measure its texts."""
INK, SOFT, LINE, EDGE, CARD, ACCENT, GOOD = (
    f"var(--{name})" for name in ("ink", "soft", "line", "edge", "card", "accent", "good")
)
SERIES = tuple(f"var(--series-{number})" for number in range(1, 7))
"""Of things that have no colour of their own, such as devices."""
LABEL_COLOURS = {"chainsaw": "var(--saw)", "engine": "var(--engine)", "storm": "var(--other)"}


def colour_of(label: str, others: Sequence[str]) -> str:
    """Return the colour of a label: its own, or the next of those that have none."""
    if label in LABEL_COLOURS:
        return LABEL_COLOURS[label]
    return SERIES[(others.index(label) if label in others else 0) % len(SERIES)]


def tooltip() -> dict[str, object]:
    """Return how a chart says what is under the pointer."""
    return {
        "trigger": "axis",
        "confine": True,
        "backgroundColor": CARD,
        "borderColor": LINE,
        "textStyle": {"color": INK, "fontSize": 13},
        "axisPointer": {"type": "line", "lineStyle": {"color": EDGE}},
    }
