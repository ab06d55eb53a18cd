"""A device's new key, shown once: as text, as a QR code, and with what to do with it."""

from collections.abc import Callable

import segno
from nicegui.element import Element

from base_station.pages.frame import Visitor
from base_station.pages.parts import box, button, text

_QUIET = 4
"""Modules of white around a QR code, without which readers do not find it."""
_WRITE = "umask 077; cat > device.key"
_RUN = "python -m agent run --config agent.yaml"


def key_card(visitor: Visitor, device_id: str, key: bytes, on_done: Callable[[], None]) -> Element:
    """Return the card; the key is a text and a picture in it, and nowhere else.

    Args:
        visitor: who reads it.
        device_id: whose key it is.
        key: the key.
        on_done: called when he has it.
    """
    say = visitor.say
    with box("section", "panel key-card", aria_label=say("The key of {device}", device=device_id)) as card:
        text("h2", say("The key of {device}", device=device_id))
        text("p", say("It is shown this once; the station keeps it sealed. Whoever has it can speak as this device."))
        with box("div", "key-columns"):
            _qr_code(key.hex(), say("QR code of the key"))
            with box("div", "key-told"):
                text("code", key.hex(), "command key")
                text(
                    "p",
                    say("On the device, write it into the key file: enter this, paste the key, then Enter, Ctrl+D."),
                )
                text("code", _WRITE, "command")
                text("p", say("Name that file and this station in its configuration, and start it:"))
                text("code", _RUN, "command")
        button(say("I have it, hide the key"), on_done, "main")
    return card


def _qr_code(content: str, label: str) -> None:
    """Draw a QR code as one path; it is black on white whatever the page's colours are."""
    matrix = segno.make_qr(content, error="m").matrix
    size = len(matrix) + 2 * _QUIET
    dark = "".join(
        f"M{x + _QUIET} {y + _QUIET}h1v1h-1z" for y, row in enumerate(matrix) for x, module in enumerate(row) if module
    )
    with box("svg", "qr", viewBox=f"0 0 {size} {size}", role="img", aria_label=label, shape_rendering="crispEdges"):
        box("rect", "", width=str(size), height=str(size), fill="#fff")
        box("path", "", d=dark, fill="#000")
