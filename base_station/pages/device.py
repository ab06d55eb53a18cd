"""One device: how it is, what was wrong, when it did not hear and why, over days, and what it heard last."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from nicegui import ui
from nicegui.element import Element
from starlette.concurrency import run_in_threadpool

from agent.signing import DEVICE_ID
from base_station import registry
from base_station.condition_log import ConditionLog, Spell
from base_station.device_past import DAYS, DevicePast, past_of
from base_station.fleet import state_of
from base_station.locate import Place
from base_station.pages.device_changes import Changes
from base_station.pages.device_charts import charts
from base_station.pages.device_facts import facts
from base_station.pages.device_lists import show_alerts, show_changes, show_conditions, show_gaps
from base_station.pages.device_words import STATE_NAMES, called, condition_detail, condition_name
from base_station.pages.devices import ADD, HOME, device_path
from base_station.pages.frame import Site, Visitor, ask_for, page
from base_station.pages.language import mark
from base_station.pages.map import Map
from base_station.pages.parts import box, empty, link, text
from base_station.registry import AuditEntry
from base_station.store import AlertEvent, Device, Store
from base_station.words import place as read_out

_ALERTS = 10
_CHANGES = 10
_CONDITIONS = 20
_PAST_EVERY = timedelta(minutes=1)
"""Charts and gaps are drawn anew this often; what is now, with every look."""
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What one look brought."""

    device: Device
    conditions: tuple[Spell, ...]
    """The latest begun first; what holds is among them."""
    alerts: tuple[AlertEvent, ...]
    audit: tuple[AuditEntry, ...]
    past: DevicePast | None
    """None where it is not time to draw it anew."""

    @property
    def holding(self) -> list[Spell]:
        """Return what is wrong now."""
        return [spell for spell in self.conditions if spell.end_utc is None]


def add_device_page(site: Site) -> None:
    """Add the page."""

    @page(site, HOME + "/{device_id}", mark("Device"))
    async def device(visitor: Visitor, device_id: str, days: str = "7") -> None:
        ask_for("devices.css")
        link(HOME, visitor.say("Devices"), "back")
        chosen = int(days) if days in map(str, DAYS) else 7
        known = await run_in_threadpool(_known, site.store, device_id)
        if known is None:
            _nobody(visitor, device_id)
            return
        shown = _DevicePage(visitor, known, chosen)
        shown.build()
        await visitor.live(shown.refresh)


def look(store: Store, device_id: str, now: datetime, *, days: int, n_conditions: int) -> View | None:
    """Return what the page shows; None if the device is gone.

    Args:
        store: the database.
        device_id: which device.
        now: station time.
        days: how far back to draw; 0 does not look back.
        n_conditions: how many conditions to list.
    """
    device = store.device(device_id)
    if device is None:
        return None
    return View(
        device=device,
        conditions=tuple(ConditionLog(store.database).touching(device_id, _EVER, n_conditions)),
        alerts=tuple(store.events(device_id=device_id, limit=_ALERTS)),
        audit=tuple(registry.audit_entries(store, subject=device_id, limit=_CHANGES)),
        past=past_of(store, device, days, now) if days else None,
    )


def _known(store: Store, device_id: str) -> Device | None:
    return store.device(device_id) if DEVICE_ID.fullmatch(device_id) else None


def _nobody(visitor: Visitor, device_id: str) -> None:
    say = visitor.say
    text("h1", say("No such device"))
    empty(say("There is no device {device} here.", device=device_id[:63]), say("It may have another id."))
    with box("div", "toolbar"):
        link(HOME, say("Show all devices"), "button")
        if visitor.may_change:
            link(ADD, say("Add a device"), "button")


class _DevicePage:
    """The page of one browser."""

    def __init__(self, visitor: Visitor, device: Device, days: int) -> None:
        self._visitor, self._store, self._device, self._days = visitor, visitor.site.store, device, days
        self._n_conditions = _CONDITIONS
        self._drawn: datetime | None = None
        self._shown: dict[str, object] = {}
        self._changes: Changes | None = None
        self._chart: ui.echart | None = None

    def build(self) -> None:
        """Lay out the page, empty."""
        say = self._visitor.say
        with box("div", "heading"):
            with box("div", "named"):
                self._name = text("h1", called(self._device))
                with box("p", "device-row") as self._state:
                    box("span", "dot", aria_hidden="true")
                    self._word = text("span", "", "word")
                    self._id = text("span", "", "id hint")
            actions = box("div")
        key_place = box("div")
        if self._visitor.may_change:
            with actions:
                self._changes = Changes(self._visitor, self._device, key_place, self.refresh)
        self._wrong = box("ul", "wrong")
        with box("div", "now-and-where"):
            self._facts = box("section", "panel", aria_label=say("Now"))
            with box("section", "where-panel", aria_label=say("Place")):
                self._map = Map(self._visitor, say("Where it hangs"), classes="small", only=[self._device.device_id])
                self._place = text("p", "", "hint num")
        self._build_past()
        self._build_lists()

    def _build_past(self) -> None:
        say, plural = self._visitor.say, self._visitor.plural
        with box("div", "heading past"):
            text("h2", say("What it was like"))
            with box("nav", "days", aria_label=say("Days")):
                for days in DAYS:
                    path = f"{device_path(self._device.device_id)}?days={days}"
                    chosen = link(path, plural("{count} day", "{count} days", days), "button")
                    if days == self._days:
                        chosen.props["aria-current"] = "true"
        with box("section", "panel charts-panel"):
            self._charts = box("div", "device-charts")
            with box("p", "legend hint"):
                for kind, name in (
                    ("silence", say("did not call")),
                    ("fault", say("called, and heard or kept nothing")),
                    ("paused", say("saved power")),
                ):
                    with box("span", "entry"):
                        box("span", f"patch {kind}", aria_hidden="true")
                        text("span", name)
        text("h2", say("When it did not hear, and why"))
        self._gaps = box("div")

    def _build_lists(self) -> None:
        say = self._visitor.say
        text("h2", say("Last alerts"))
        self._alerts = box("div")
        text("h2", say("What was wrong"))
        self._conditions = box("div")
        text("h2", say("Changes by people"))
        self._audit = box("div")

    # News

    async def refresh(self) -> None:
        """Look how it is."""
        now = self._visitor.now()
        due = self._drawn is None or now - self._drawn >= _PAST_EVERY
        view = await run_in_threadpool(
            look,
            self._store,
            self._device.device_id,
            now,
            days=self._days if due else 0,
            n_conditions=self._n_conditions,
        )
        if view is None:
            return
        self._device = view.device
        self._show_now(view, now)
        self._show_lists(view, now)
        if view.past is not None:
            self._drawn = now
            self._show_past(view.past, now)

    def _show_now(self, view: View, now: datetime) -> None:
        language, device = self._visitor.language, view.device
        state = state_of(device, [spell.name for spell in view.holding])
        self._name.set_text(called(device))
        self._id.set_text(device.device_id if device.name else "")
        self._state.classes(replace=f"device-row {state}")
        self._word.set_text(language.say(STATE_NAMES[state]))
        if self._changes is not None:
            self._changes.update(device)
        wrong = [
            (
                condition_name(language, spell.name),
                condition_detail(language, spell.name, spell.detail),
                spell.begin_utc,
            )
            for spell in view.holding
        ]
        if self._is_new("wrong", wrong):
            self._wrong.clear()
            with self._wrong:
                for name, detail, _ in wrong:
                    with box("li"):
                        box("span", "dot", aria_hidden="true")
                        text("span", name, "strong")
                        text("span", detail, "hint")
        told = facts(self._visitor, device, now)
        if self._is_new("facts", told):
            self._facts.clear()
            with self._facts, box("dl", "facts-list"):
                for name, said in told:
                    with box("div"):
                        text("dt", name)
                        text("dd", said, "num")
        self._show_place(device)

    def _show_place(self, device: Device) -> None:
        place = place_of(device)
        if not self._is_new("place", place):
            return
        if place is None:
            self._place.set_text(self._visitor.say("Nobody has said where it hangs."))
        else:
            self._place.set_text(read_out(place.latitude, place.longitude, language=self._visitor.language))
        self._map.root.set_visibility(place is not None)
        if place is not None:
            self._map.show([], [place])
            self._map.look_again()

    def _show_lists(self, view: View, now: datetime) -> None:
        if self._is_new("alerts", view.alerts):
            _filled(self._alerts, lambda: show_alerts(self._visitor, view.alerts, now))
        if self._is_new("audit", view.audit):
            _filled(self._audit, lambda: show_changes(self._visitor, view.audit, now))
        spells = [(spell.seq, spell.end_utc, spell.detail) for spell in view.conditions]
        if self._is_new("conditions", spells):
            more = self._more_conditions if len(view.conditions) >= self._n_conditions else None
            _filled(self._conditions, lambda: show_conditions(self._visitor, view.conditions, now, more))

    async def _more_conditions(self) -> None:
        self._n_conditions += _CONDITIONS
        await self.refresh()

    def _show_past(self, past: DevicePast, now: datetime) -> None:
        drawn = charts(self._visitor, past, now)
        if not past.points:
            _filled(self._charts, lambda: text("p", self._visitor.say("It did not call in this time."), "hint"))
            self._chart = None
        elif self._chart is None:
            self._charts.clear()
            with self._charts:
                self._chart = ui.echart(drawn.options, renderer="svg")
            self._chart.style(f"height: {drawn.height_px}px")
            self._chart.props["role"] = "img"
        else:
            self._chart.options.clear()
            self._chart.options.update(copy.deepcopy(drawn.options))
            self._chart.update()
        if self._chart is not None:
            self._chart.props["aria-label"] = drawn.words
        if self._is_new("gaps", past.gaps):
            _filled(self._gaps, lambda: show_gaps(self._visitor, past, now))

    def _is_new(self, what: str, told: object) -> bool:
        """Say whether something is not what the page shows already."""
        if what in self._shown and self._shown[what] == told:
            return False
        self._shown[what] = told
        return True


def place_of(device: Device) -> Place | None:
    """Return where a device hangs: as it says itself, else as people registered it."""
    said = device.heartbeat.position if device.heartbeat is not None else None
    if said is not None:
        return Place(said.latitude, said.longitude)
    if device.latitude is None or device.longitude is None:
        return None
    return Place(device.latitude, device.longitude)


def _filled(element: Element, fill: Callable[[], object]) -> None:
    element.clear()
    with element:
        fill()
