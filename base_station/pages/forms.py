"""Forms that send all their fields at once, checked by the browser first and by the station again."""

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from agent.errors import FieldError
from base_station.pages.parts import box, text

_LONGEST = 2000
_GATHER = "(e) => { e.preventDefault(); emit(Object.fromEntries(new FormData(e.target))); }"


def form(on_submit: Callable[[Mapping[str, str]], Awaitable[None]], classes: str = "") -> Element:
    """Return a form; what was typed comes by the fields' names, whatever the browser let through."""
    # `post`: should somebody be faster than the script, nothing of it stands in an address
    element = box("form", f"form {classes}", method="post", novalidate="novalidate")

    async def submitted(event: GenericEventArguments) -> None:
        said = event.args if isinstance(event.args, dict) else {}
        await on_submit({str(name)[:80]: str(value)[:_LONGEST] for name, value in said.items()})

    element.on("submit", submitted, js_handler=_GATHER)
    return element


def field(label: str, name: str, value: str = "", hint: str = "", **attributes: str) -> Element:
    """Return a line to type into, with its label and a word of help; attributes such as `type` go before the usual."""
    with box("label", "field"):
        text("span", label)
        usual = {"type": "text", "autocomplete": "off"}
        element = box("input", "", name=name, **usual | attributes)
        begin_with(element, value)
        if hint:
            text("span", hint, "hint")
    return element


def begin_with(element: Element, value: str) -> None:
    """Let an input begin with a value; as `value` every news of the page would put it back over what is typed."""
    element.props["defaultValue"] = value


def lines(label: str, name: str, hint: str = "") -> Element:
    """Return a place for several lines, empty, with its label and a word of help."""
    with box("label", "field wide"):
        text("span", label)
        element = box("textarea", "", name=name, rows="3", spellcheck="false", autocomplete="off")
        if hint:
            text("span", hint, "hint")
    return element


def ticks(label: str, choices: Mapping[str, str], ticked: Collection[str], prefix: str = "") -> None:
    """Lay out boxes to tick, each a field of its own: its value with `prefix` before it is the name."""
    with box("fieldset", "ticks"):
        text("legend", label)
        for value, shown in choices.items():
            with box("label", "tick"):
                element = box("input", "", type="checkbox", name=f"{prefix}{value}")
                if value in ticked:
                    element.props["checked"] = True
                text("span", shown)


def ticked(said: Mapping[str, str], choices: Iterable[str], prefix: str = "") -> list[str]:
    """Return those of the boxes that were ticked."""
    return [value for value in choices if f"{prefix}{value}" in said]


class Refusal:
    """Says beside a form why nothing was done; empty as long as there is nothing to say."""

    def __init__(self) -> None:
        """Lay it out."""
        self._root = text("p", "", "refusal")
        self._root.props["role"] = "alert"

    def say(self, why: str) -> None:
        """Show a reason, or with an empty one nothing."""
        self._root.set_text(why)

    def clear(self) -> None:
        """Show nothing."""
        self._root.set_text("")


def degrees(written: str, key: str, most: float) -> float:
    """Return a coordinate that somebody typed: point or comma, hyphen or minus; FieldError names the field."""
    try:
        value = float(written.strip().replace("\u2212", "-").replace(",", ".").removesuffix("°"))
    except ValueError as error:
        raise FieldError(key, f"is {written[:40]!r}, expected a number") from error
    if not math.isfinite(value) or abs(value) > most:
        raise FieldError(key, f"is {value:g}, expected {-most:g} to {most:g}")
    return value
