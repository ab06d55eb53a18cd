"""Forms that send all their fields at once, checked by the browser first and by the station again."""

import math
from collections.abc import Awaitable, Callable, Mapping

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from agent.errors import FieldError
from base_station.pages.parts import box, text

_LONGEST = 2000
_GATHER = "(e) => { e.preventDefault(); emit(Object.fromEntries(new FormData(e.target))); }"


def form(on_submit: Callable[[Mapping[str, str]], Awaitable[None]], classes: str = "") -> Element:
    """Return a form; what was typed comes by the fields' names, whatever the browser let through."""
    element = box("form", f"form {classes}", novalidate="novalidate")

    async def submitted(event: GenericEventArguments) -> None:
        said = event.args if isinstance(event.args, dict) else {}
        await on_submit({str(name)[:80]: str(value)[:_LONGEST] for name, value in said.items()})

    element.on("submit", submitted, js_handler=_GATHER)
    return element


def field(label: str, name: str, value: str = "", hint: str = "", **attributes: str) -> Element:
    """Return a line to type into, with its label and a word of help."""
    with box("label", "field"):
        text("span", label)
        element = box("input", "", name=name, type="text", autocomplete="off", **attributes)
        begin_with(element, value)
        if hint:
            text("span", hint, "hint")
    return element


def begin_with(element: Element, value: str) -> None:
    """Let an input begin with a value; as `value` every news of the page would put it back over what is typed."""
    element.props["defaultValue"] = value


class Refusal:
    """Says beside a form why nothing was done; empty as long as there is nothing to say."""

    def __init__(self) -> None:
        """Lay it out."""
        self._root = text("p", "", "refusal")
        self._root.props["role"] = "alert"

    def say(self, why: str) -> None:
        """Show a reason, or with an empty one nothing."""
        self._root.set_text(why)


def degrees(written: str, key: str, most: float) -> float:
    """Return a coordinate that somebody typed: point or comma, hyphen or minus; FieldError names the field."""
    try:
        value = float(written.strip().replace("\u2212", "-").replace(",", ".").removesuffix("°"))
    except ValueError as error:
        raise FieldError(key, f"is {written[:40]!r}, expected a number") from error
    if not math.isfinite(value) or abs(value) > most:
        raise FieldError(key, f"is {value:g}, expected {-most:g} to {most:g}")
    return value
