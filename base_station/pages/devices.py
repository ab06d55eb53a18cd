"""All devices: how the fleet is at a glance, each count a filter; and the list, searched, sorted, page by page."""

from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import quote, urlencode

from nicegui.element import Element
from starlette.concurrency import run_in_threadpool

from base_station.fleet import (
    ADMITTED,
    FILTERS,
    LONGEST_SEARCH,
    SORTS,
    FleetHealth,
    Listing,
    Row,
    Wanted,
    health,
    listed,
)
from base_station.pages.device_words import (
    STATE_NAMES,
    called,
    charge,
    condition_name,
    contact,
    heat,
    model_name,
)
from base_station.pages.forms import begin_with
from base_station.pages.frame import Site, Visitor, ask_for, page
from base_station.pages.language import mark
from base_station.pages.parts import Table, box, empty, icon, link, text
from base_station.store import KnownBeats, Store

HOME = "/devices"
ADD = "/devices/_add"
"""No device can be called so: ids begin with a letter or digit."""

_SORT_NAMES = {
    "name": mark("Name"),
    "contact": mark("Longest silence"),
    "battery": mark("Lowest charge"),
    "temperature": mark("Hottest"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What one look brought."""

    health: FleetHealth
    listing: Listing


def add_devices(site: Site) -> None:
    """Add the page."""

    @page(site, HOME, mark("Devices"))
    async def devices(
        visitor: Visitor, state: str = "", q: str = "", sort: str = "name", after: str = "", before: str = ""
    ) -> None:
        ask_for("devices.css")
        wanted = Wanted(
            state=state if state in FILTERS else ADMITTED,
            search=q[:LONGEST_SEARCH],
            sort=sort if sort in SORTS else "name",
            after=after,
            before=before,
        )
        shown = _Devices(site.store, visitor, wanted)
        shown.build()
        await visitor.live(shown.refresh)


def device_path(device_id: str) -> str:
    """Return where a device's own page is."""
    return f"{HOME}/{quote(device_id, safe='')}"


def look(store: Store, wanted: Wanted, known: KnownBeats) -> View:
    """Return what the page shows."""
    return View(health=health(store.database), listing=listed(store, wanted, known))


def _path(wanted: Wanted) -> str:
    said = {"state": wanted.state, "q": wanted.search, "sort": wanted.sort}
    said |= {"after": wanted.after, "before": wanted.before}
    usual = {"sort": "name"}
    query = urlencode({key: value for key, value in said.items() if value and usual.get(key) != value})
    return f"{HOME}?{query}" if query else HOME


class _Devices:
    """The page of one browser."""

    def __init__(self, store: Store, visitor: Visitor, wanted: Wanted) -> None:
        self._store, self._visitor, self._wanted = store, visitor, wanted
        self._known: KnownBeats = {}
        self._health: FleetHealth | None = None
        self._lines: dict[str, _Line] = {}
        self._cursors: tuple[str | None, str | None] | None = None

    def build(self) -> None:
        """Lay out the page, empty."""
        say = self._visitor.say
        with box("div", "heading"):
            text("h1", say("Devices"))
            if self._visitor.may_change:
                with box("a", "button main", href=ADD):
                    icon("add")
                    text("span", say("Add a device"))
        self._fleet = box("nav", "fleet", aria_label=say("Fleet health: each count is a filter"))
        self._tools()
        self._table = Table(
            [say("Device"), say("State"), say("Battery"), say("Temperature"), say("Last contact"), say("Model")],
            say("Devices"),
        )
        self._table.root.classes("devices-table")
        self._nothing = box("div")
        self._pager = box("nav", "pager", aria_label=say("Further devices"))

    def _tools(self) -> None:
        """Lay out search and order: a form that works without a script."""
        say, wanted = self._visitor.say, self._wanted
        with box("form", "toolbar", method="get", action=HOME, role="search"):
            if wanted.state:
                box("input", "", type="hidden", name="state", value=wanted.state)
            with box("label", "field search"):
                text("span", say("Name or id"))
                begin_with(box("input", "", type="search", name="q", maxlength=str(LONGEST_SEARCH)), wanted.search)
            with box("label", "field"):
                text("span", say("Order"))
                with box("select", "", name="sort"):
                    for sort, name in _SORT_NAMES.items():
                        option = text("option", say(name))
                        option.props["value"] = sort
                        if sort == wanted.sort:
                            option.props["selected"] = True
            with box("button", "button", type="submit"):
                text("span", say("Search"))

    # News

    async def refresh(self) -> None:
        """Look how they are."""
        view = await run_in_threadpool(look, self._store, self._wanted, self._known)
        shown = {row.device.device_id for row in view.listing.rows}
        for gone in set(self._known) - shown:
            del self._known[gone]
        if view.health != self._health:
            self._health = view.health
            self._show_health(view.health)
        self._show_rows(view.listing, self._visitor.now())
        cursors = view.listing.before, view.listing.after
        if cursors != self._cursors:
            self._cursors = cursors
            self._show_pager(view.listing)

    def _show_health(self, health: FleetHealth) -> None:
        say = self._visitor.say
        self._fleet.clear()
        with self._fleet:
            with box("div", "figures"):
                self._figure(ADMITTED, say("All"), health.admitted)
                self._figure("listening", say("Listening"), health.listening)
                self._figure("trouble", say("In trouble"), health.trouble)
                self._figure("silent", say("Silent"), health.silent)
                self._figure("never", say("Never called"), health.never)
                if health.revoked:
                    self._figure("revoked", say("Revoked"), health.revoked)
            if health.conditions:
                with box("div", "chips"):
                    for name, count in health.conditions.items():
                        self._filter(name, f"chip {name}", condition_name(self._visitor.language, name), count)

    def _figure(self, state: str, name: str, count: int) -> None:
        self._filter(state, f"figure {state or 'all'}", name, count)

    def _filter(self, state: str, classes: str, name: str, count: int) -> None:
        """Write one count, which leads to those that it counts."""
        wanted = replace(self._wanted, state=state, after="", before="")
        with box("a", classes, href=_path(wanted)) as element:
            text("span", self._visitor.language.number(count), "count num")
            with box("span", "of"):
                box("span", "dot", aria_hidden="true")
                text("span", name)
        if state == self._wanted.state:
            element.props["aria-current"] = "true"

    def _show_rows(self, listing: Listing, now: datetime) -> None:
        ids = [row.device.device_id for row in listing.rows]
        if ids != list(self._lines) or not ids:
            self._table.clear()
            self._lines = {
                row.device.device_id: _Line(self._table, row.device.device_id, self._visitor) for row in listing.rows
            }
            self._table.root.set_visibility(bool(ids))
            self._show_nothing(not ids)
        for row in listing.rows:
            self._lines[row.device.device_id].update(row, now)

    def _show_nothing(self, is_empty: bool) -> None:
        """Say why there is no row, and what to do next."""
        say = self._visitor.say
        self._nothing.clear()
        if not is_empty:
            return
        with self._nothing:
            if self._wanted.state or self._wanted.search or self._wanted.after or self._wanted.before:
                empty(say("No device is so."), say("Choose another count above, or search for something else."))
                link(HOME, say("Show all devices"), "button")
            elif self._visitor.may_change:
                empty(
                    say("No device yet."),
                    say("Add the first one: it gets a key to sign with, and is heard from then on."),
                )
            else:
                empty(say("No device yet."), say("An operator adds the first one."))

    def _show_pager(self, listing: Listing) -> None:
        say = self._visitor.say
        self._pager.clear()
        with self._pager:
            if listing.before is not None:
                link(_path(replace(self._wanted, before=listing.before, after="")), say("Previous"), "button")
            if listing.after is not None:
                link(_path(replace(self._wanted, after=listing.after, before="")), say("Next"), "button")


class _Line:
    """One row, whose cells change while it stays."""

    def __init__(self, table: Table, device_id: str, visitor: Visitor) -> None:
        self._visitor = visitor
        self._device_id = device_id
        self.root: Element = table.row([self._who, self._state, self._battery, self._heat, self._contact, self._model])
        self.root.props["data-device"] = device_id

    def _who(self) -> None:
        with box("span", "who"):
            self._name = link(device_path(self._device_id), "", "strong")
            self._id = text("span", "", "hint id")

    def _state(self) -> None:
        with box("span", "state"):
            box("span", "dot", aria_hidden="true")
            with box("span", "told"):
                self._word = text("span", "", "word")
                self._why = text("span", "", "why")

    def _battery(self) -> None:
        self._charge = text("span", "", "num")

    def _heat(self) -> None:
        self._temperature = text("span", "", "num")

    def _contact(self) -> None:
        self._ago = text("span")

    def _model(self) -> None:
        self._digest = text("span", "", "digest")

    def update(self, row: Row, now: datetime) -> None:
        """Write what may have changed; NiceGUI sends only what has."""
        language, device = self._visitor.language, row.device
        self.root.classes(replace=f"device-row {row.state}")
        self._name.set_text(called(device))
        self._id.set_text(device.device_id if device.name else "")
        self._word.set_text(language.say(STATE_NAMES[row.state]))
        self._why.set_text(", ".join(condition_name(language, name) for name in row.conditions))
        self._charge.set_text(charge(language, device) or "–")
        self._temperature.set_text(heat(language, device) or "–")
        self._ago.set_text(contact(language, device, now))
        self._digest.set_text(model_name(device) or "–")
