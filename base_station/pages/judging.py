"""The six things that a listener may say he heard, and what that says of the alert."""

from base_station.pages.language import mark
from base_station.precision import FALSE, TRUE

HEARD = {
    "chainsaw": mark("Chainsaw"),
    "engine": mark("Engine"),
    "machine": mark("Other machine"),
    "animal": mark("Animal"),
    "rain": mark("Rain"),
    "nothing": mark("Nothing"),
}
"""What was heard, as it is kept -> as it is written; in the order of the keys 1 to 6."""


def verdict_on(label: str, heard: str) -> str:
    """Return whether an alert of a label was right, when this was heard."""
    return TRUE if heard == label else FALSE
