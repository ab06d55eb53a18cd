"""What was heard, where and when, and who is listening: the first page."""

from datetime import datetime

from nicegui.element import Element
from starlette.concurrency import run_in_threadpool

from base_station.newest import Latest, Newest, News
from base_station.pages.device_words import condition_detail, condition_name
from base_station.pages.devices import HOME, device_path
from base_station.pages.frame import Site, Visitor, ask_for, page
from base_station.pages.language import mark
from base_station.pages.map import Map, most_of, spot_of
from base_station.pages.parts import box, button, link, text
from base_station.pages.spectrogram import sound, spectrogram
from base_station.pages.telling import (
    Summary,
    at_devices,
    kind_note,
    label,
    onset_note,
    progress,
    summary,
    surety,
    wellness,
    where,
)
from base_station.roll import NEVER, REVOKED, Roll, Seen
from base_station.store import AlertEvent

NEWEST = 12
"""Incidents on the page at first, and how many each press of the button adds."""
MOST = 120
_MOST_TROUBLED = 8
_ALERTS_OPEN = 3
"""So many alerts of an incident are seen without asking."""


def add_live(site: Site) -> None:
    """Add the page."""
    latest = Latest(site.store, site.told.rules)

    @page(site, "/", mark("Now"))
    async def now(visitor: Visitor) -> None:
        ask_for("live.css")
        shown = _Page(site, latest, visitor)
        shown.build()
        await visitor.live(shown.refresh)


class _Page:
    """The page of one browser."""

    def __init__(self, site: Site, latest: Latest, visitor: Visitor) -> None:
        self._site, self._latest, self._visitor = site, latest, visitor
        self._limit = NEWEST
        self._cards: dict[str, _Card] = {}
        self._looks: int | None = None
        self._troubled: list[Seen] | None = None

    def build(self) -> None:
        """Lay out the page, empty."""
        say = self._visitor.say
        with box("section", "summary") as self._summary:
            self._headline = text("h1", "…", "headline")
            self._headline.props["aria-live"] = "polite"
            self._detail = text("p", "", "detail")
        with box("div", "columns"):
            with box("section", "incidents"):
                text("h2", say("Incidents"), "section")
                self._empty = box("div", "empty")
                self._list = box("div", "list")
                self._older = button(say("Show older"), self._show_older, "older")
            with box("section", "around"):
                text("h2", say("Map"), "section")
                self._map = Map(self._visitor, say("Map of devices and incidents"))
                text("h2", say("Devices"), "section")
                self._wellness = link(HOME, "", "wellness")
                self._devices = box("div", "rows")

    async def refresh(self) -> None:
        """Look what has come."""
        now = self._visitor.now()
        newest = await run_in_threadpool(self._latest.look, now, self._limit)
        roll = await run_in_threadpool(self._site.roll.take, now)
        self._say(summary(self._visitor.language, newest.incidents, newest.received, roll, now))
        self._show_incidents(newest, roll, now)
        self._show_devices(roll, now)
        self._show_map(newest, roll)

    async def _show_older(self) -> None:
        self._limit = min(self._limit + NEWEST, MOST)
        await self.refresh()

    def _say(self, said: Summary) -> None:
        self._summary.classes(replace=f"summary {said.mood}")
        self._headline.set_text(said.headline)
        self._detail.set_text(said.detail)

    def _show_incidents(self, newest: Newest, roll: Roll, now: datetime) -> None:
        shown = {one.incident.incident_id for one in newest.news}
        for gone in set(self._cards) - shown:
            self._cards.pop(gone).root.delete()
        for place, one in enumerate(newest.news):
            card = self._cards.get(one.incident.incident_id)
            if card is None:
                with self._list:
                    card = self._cards[one.incident.incident_id] = _Card(self._visitor, one)
                card.root.move(target_index=place)
            card.update(one, now)
        self._older.set_visibility(newest.more and self._limit < MOST)
        self._empty.set_visibility(not newest.news)
        if not newest.news:
            self._empty.clear()
            with self._empty:
                _first_steps(self._visitor, roll)

    def _show_devices(self, roll: Roll, now: datetime) -> None:
        self._wellness.set_text(wellness(self._visitor.language, roll))
        self._wellness.set_visibility(bool(roll.devices))
        troubled = roll.troubled(_MOST_TROUBLED)
        if troubled != self._troubled:
            self._troubled = troubled
            self._devices.clear()
            with self._devices:
                for one in troubled:
                    _row(self._visitor, one, now)
        self._devices.set_visibility(bool(troubled))

    def _show_map(self, newest: Newest, roll: Roll) -> None:
        language = self._visitor.language
        spots = [
            spot_of(one, f"{label(language, one.label)}, {at_devices(language, one)}", f"/incidents/{one.incident_id}")
            for one in newest.incidents
        ]
        self._map.show([spot for spot in spots if spot is not None], most_of(roll))
        if roll.looks != self._looks:
            self._looks = roll.looks
            self._map.look_again()


class _Card:
    """One incident, its alerts under it."""

    def __init__(self, visitor: Visitor, one: News) -> None:
        self._visitor = visitor
        self._told: object = None
        self._drawn: object = None
        with box("article", f"card {_colour(one)}") as self.root:
            self.root.props["data-incident"] = one.incident.incident_id
            with box("div", "told"):
                self._facts = box("div")
                with box("p", "when") as self._when:
                    self._time = text("span", "", "time")
                    self._ago = text("span", "", "ago")
                self._rest = box("div")
                link(f"/incidents/{one.incident.incident_id}", visitor.say("Look and decide"), "button main")
            self._picture = box("div", "seen")
            self._alerts = box("div", "alerts")

    def update(self, one: News, now: datetime) -> None:
        """Write what has changed; a sound that plays goes on."""
        language = self._visitor.language
        self._time.set_text(language.moment(one.incident.first_utc, now))
        self._ago.set_text(language.ago(one.incident.first_utc, now))
        if one != self._told:
            self._told = one
            self._tell(one, now)
        drawn = (one.best.alert_id, one.best.log_mel_revision, one.best.has_clip)
        if drawn != self._drawn:
            self._drawn = drawn
            self._draw(one)

    def _tell(self, one: News, now: datetime) -> None:
        say, language, incident = self._visitor.say, self._visitor.language, one.incident
        for part in (self._facts, self._rest, self._alerts):
            part.clear()
        with self._facts:
            if incident.drill:
                text("p", say("Drill – not a real alert"), "drill-mark")
            with box("div", "title"):
                text("h3", label(language, incident.label), "label")
                lasted_s = (incident.last_utc - incident.first_utc).total_seconds()
                state = "open" if one.is_open else "closed"
                text("span", progress(language, is_open=one.is_open, lasted_s=lasted_s), f"state {state}")
            text("p", at_devices(language, incident), "where")
        with self._rest:
            for line in (kind_note(language, incident), surety(language, incident), where(language, incident)):
                if line:
                    text("p", line, "measures num")
            text("p", _stand(self._visitor, one), "stand")
        with self._alerts:
            self._list_alerts(one, now)

    def _list_alerts(self, one: News, now: datetime) -> None:
        count = len(one.incident.alert_ids)
        with box("details", "") as more:
            if count <= _ALERTS_OPEN:
                more.props["open"] = True
            text("summary", self._visitor.language.plural("{count} alert", "{count} alerts", count))
            with box("ul", ""):
                for event in one.events:
                    _alert(self._visitor, event, now)
            if count > len(one.events):
                link(f"/incidents/{one.incident.incident_id}", self._visitor.say("All of them"))

    def _draw(self, one: News) -> None:
        self._picture.clear()
        with self._picture:
            if one.image is not None:
                spectrogram(self._visitor, one.best, one.image)
            if one.best.has_clip:
                sound(self._visitor, one.best)


def _alert(visitor: Visitor, event: AlertEvent, now: datetime) -> None:
    language = visitor.language
    with box("li", "") as item:
        item.props["data-alert"] = event.alert_id
        text("span", event.device_id, "device-id")
        told = [
            language.moment(event.onset.utc, now),
            progress(language, is_open=event.state == "open", lasted_s=event.lasted_s),
            visitor.say("score {score}", score=language.number(event.score, 2)),
            onset_note(language, event, now),
        ]
        text("span", " · ".join(part for part in told if part), "hint num")


def _stand(visitor: Visitor, one: News) -> str:
    """Return how far people are with it."""
    said = []
    if one.stand.acknowledged is not None:
        said.append(visitor.say("{name} has acknowledged it", name=one.stand.acknowledged.who))
    if one.stand.assigned is not None:
        said.append(visitor.say("{name} goes", name=one.stand.assigned.assignee))
    return " · ".join(said) or visitor.say("Nobody has acknowledged this yet.")


def _colour(one: News) -> str:
    """Return the class that colours a card; labels come over the wire and only known ones have a colour."""
    colour = one.incident.label if one.incident.label in ("chainsaw", "engine") else "other"
    return f"{colour} drill" if one.incident.drill else colour


def _row(visitor: Visitor, one: Seen, now: datetime) -> Element:
    """Write one device that wants somebody."""
    language = visitor.language
    with box("div", f"device {one.state}") as row:
        row.props["data-device"] = one.device_id
        box("span", f"sign {one.state}", aria_hidden="true")
        with box("div", "told"):
            link(device_path(one.device_id), one.name or one.device_id, "strong where")
            for spell in one.conditions:
                name, detail = condition_name(language, spell.name), ""
                if spell.name in ("deaf", "faulty", "hot", "low_battery"):
                    detail = condition_detail(language, spell.name, spell.detail)
                text("p", f"{name} ({detail})" if detail else name, "condition")
            if one.last_contact_utc is not None:
                ago = language.ago(one.last_contact_utc, now)
                text("p", visitor.say("last contact {ago}", ago=ago), "facts hint")
    return row


def _first_steps(visitor: Visitor, roll: Roll) -> None:
    """Say what to do while there is nothing to see."""
    say = visitor.say
    if any(one.state not in (REVOKED, NEVER) for one in roll.devices):
        text("p", say("Nothing has been heard lately."), "lead")
        text("p", say("An alert appears here by itself, within seconds. There is no need to reload."), "hint")
        return
    if roll.devices:
        text("p", say("Waiting for the first call."), "lead")
        text("p", say("Put the key file on the device, name this station in its configuration, and start it:"), "hint")
        text("code", "python -m agent run --config agent.yaml", "command")
        return
    text("p", say("Add a device."), "lead")
    text("p", say("This gives it a name here and writes the key that it signs with:"), "hint")
    text("code", "python -m base_station device add ipe-07", "command")
    text("p", say("If the station was started with --data, name the same folder here."), "hint")
