"""What all pages are made of: text, buttons, choices, empty states, tables; `style.css` has their looks.

Everything that comes from devices or people goes through text nodes, so that it is never read as HTML.
"""

from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement
from nicegui.events import GenericEventArguments


def text(tag: str, content: str = "", classes: str = "") -> TextElement:
    """Return an element that holds text and nothing else."""
    element = TextElement(tag=tag, text=content)
    element.classes(classes)
    return element


def box(tag: str = "div", classes: str = "", **attributes: str) -> Element:
    """Return an element for others; `aria_label` becomes `aria-label`."""
    element = Element(tag)
    element.classes(classes)
    for name, value in attributes.items():
        element.props[name.rstrip("_").replace("_", "-")] = value
    return element


def icon(name: str) -> TextElement:
    """Return a Material icon that says nothing to a screen reader; there is always a word beside it."""
    element = text("span", name, "material-icons icon")
    element.props["aria-hidden"] = "true"
    return element


def link(href: str, content: str, classes: str = "") -> TextElement:
    """Return a link within the station."""
    element = text("a", content, classes)
    element.props["href"] = href
    return element


def button(content: str, on_click: Callable[[], Any], classes: str = "", symbol: str = "") -> Element:
    """Return a button of at least 44 px; `main` and `danger` are further classes."""
    element = box("button", f"button {classes}", type="button")
    with element:
        if symbol:
            icon(symbol)
        text("span", content)
    element.on("click", lambda _: on_click())
    return element


def empty(lead: str, hint: str = "", command: str = "") -> Element:
    """Say that there is nothing, and what to do next."""
    with box("div", "empty") as element:
        text("p", lead, "lead")
        if hint:
            text("p", hint, "hint")
        if command:
            text("code", command, "command")
    return element


def selection(
    label: str, choices: dict[str, str], chosen: str, on_change: Callable[[str], Any] | None = None
) -> Element:
    """Return the browser's own select with its label, which keyboards, screen readers and phones know.

    Args:
        label: what is chosen.
        choices: shown text by value.
        chosen: the value at first.
        on_change: called with the new value.
    """
    with box("label", "field"):
        text("span", label)
        with box("select") as element:
            for value, shown in choices.items():
                option = text("option", shown)
                option.props["value"] = value
                if value == chosen:
                    option.props["selected"] = True
    if on_change is not None:
        element.on("change", lambda event: on_change(str(event.args)), js_handler="(e) => emit(e.target.value)")
    return element


class Typed:
    """A line that somebody types, with its label; its text is known once he leaves it or presses a button."""

    def __init__(self, label: str, longest: int, *, choices: Sequence[str] = ()) -> None:
        """Lay it out, empty.

        Args:
            label: what is typed.
            longest: letters that the browser takes.
            choices: what may be meant, offered while he types.
        """
        self.text = ""
        self._longest = longest
        with box("label", "field"):
            text("span", label)
            self._input = box("input", type="text", maxlength=str(longest), autocomplete="off")
            if choices:
                self._input.props["list"] = f"choices-{self._input.id}"
                with box("datalist", id=f"choices-{self._input.id}"):
                    for choice in choices:
                        box("option", value=choice)
        self._input.on("change", self._take, js_handler="(e) => emit(e.target.value)")

    def _take(self, event: GenericEventArguments) -> None:
        # the browser bounds it, and nobody has to use a browser
        self.text = "".join(letter for letter in str(event.args) if letter.isprintable())[: self._longest].strip()

    def clear(self) -> None:
        """Empty it, here and on the screen."""
        self.text = ""
        ui.run_javascript(f"getHtmlElement({self._input.id}).value = ''")


class Table:
    """A table that becomes a list of cards on a phone: each cell carries its column's title."""

    def __init__(self, titles: Sequence[str], caption: str) -> None:
        """Lay out the head.

        Args:
            titles: of the columns, translated.
            caption: what the table is, for screen readers.
        """
        self._titles = titles
        with box("table", "grid") as self.root:
            text("caption", caption, "hidden")
            with box("thead"), box("tr"):
                for title in titles:
                    text("th", title).props["scope"] = "col"
            self.body = box("tbody")

    def clear(self) -> None:
        """Take all rows away."""
        self.body.clear()

    def row(self, cells: Sequence[str | Callable[[], Any]], href: str = "", classes: str = "") -> Element:
        """Add a row: a text, or a function that fills the cell; with `href` its first text is a link."""
        with self.body, box("tr", classes) as element:
            for place, (title, cell) in enumerate(zip(self._titles, cells, strict=True)):
                with box("td", data_label=title):
                    if callable(cell):
                        cell()
                    elif place == 0 and href:
                        link(href, cell, "strong")
                    else:
                        text("span", cell)
        return element
