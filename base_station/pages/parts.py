"""What all pages are made of: text, buttons, choices, empty states, tables; `style.css` has their looks.

Everything that comes from devices or people goes through text nodes, so that it is never read as HTML.
"""

from collections.abc import Callable, Sequence
from typing import Any

from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement


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
