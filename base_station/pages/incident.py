"""One incident: what, where, how sure; listen, judge, say who goes; then everything else that is known of it."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from nicegui import ui
from nicegui.element import Element
from starlette.concurrency import run_in_threadpool

from agent.errors import StorageError
from base_station.dossier import Dossier, look
from base_station.incident_log import (
    ACKNOWLEDGED,
    ASSIGNED,
    LONGEST_NAME,
    LONGEST_NOTE,
    NOTED,
    Entry,
    IncidentLog,
    stand,
)
from base_station.locate import Place
from base_station.pages.course import Course
from base_station.pages.frame import Site, Visitor, ask_for, page
from base_station.pages.incident_parts import Evidence, devices_then, neighbours, strips
from base_station.pages.language import Language, mark
from base_station.pages.map import Map, spot_of
from base_station.pages.parts import Typed, box, button, empty, icon, link, text
from base_station.pages.telling import at_devices, kind_note, label, progress, shared, surety, where
from base_station.verdicts import Verdicts

MOST_PEOPLE = 6
"""Offered by a button each; others are typed."""


def add_incident(site: Site) -> None:
    """Add the page."""

    @page(site, "/incidents/{incident_id}", mark("Incident"))
    async def incident(visitor: Visitor, incident_id: str) -> None:
        ask_for("incident.css", "incident.js")
        shown = _Page(site, visitor, incident_id.replace("\0", "")[:64])
        found = await run_in_threadpool(shown.look)
        if found is None:
            text("h1", visitor.say("No such incident"))
            with empty(visitor.say("There is no incident of this id here."), visitor.say("It may have been let go.")):
                link("/", visitor.say("What is going on now"), "button")
            return
        people = [name for name, _ in await run_in_threadpool(site.accounts.people)]
        shown.build(found, people)
        await visitor.live(shown.refresh)


class _Page:
    """The page of one browser."""

    def __init__(self, site: Site, visitor: Visitor, incident_id: str) -> None:
        self._site, self._visitor, self._incident_id = site, visitor, incident_id
        self._log, self._verdicts = IncidentLog(site.store), Verdicts(site.store)
        self._seen: tuple[int, ...] | None = None
        self._found: Dossier

    def look(self) -> Dossier | None:
        """Read everything; waits for the database."""
        return look(self._site.store, self._incident_id, self._verdicts.rules(self._site.told.rules))

    def _markers(self) -> tuple[int, ...]:
        """Return another value when there is anything new; a sound that follows its alert moves no marker."""
        shown = self._site.store.events_of([event.alert_id for event in self._found.shown])
        sounds = sum(event.has_clip for event in shown)
        return self._site.store.marker(), self._log.marker(), self._verdicts.marker(), sounds

    # Layout, the most important first: that is also the order on a phone

    def build(self, found: Dossier, people: Sequence[str]) -> None:
        """Lay out the page."""
        self._found = found
        say = self._visitor.say
        with box("div", "incident"):
            with box("section", "about", aria_label=say("What was heard")):
                self._facts(found)
            with box("section", "doing", aria_label=say("What is done about it")):
                self._actions(people)
            with box("section", "evidence panel"):
                self._evidence = Evidence(self._visitor, found)
            with box("section", "whereabouts"):
                text("h2", say("Where"))
                near = [*found.heard, *(one.then for one in found.neighbours)]
                self._map = Map(
                    self._visitor, say("Map of the incident"), only=[then.device_id for then in near if then.place]
                )
                self._near = box("div")
            with box("section", "course"):
                text("h2", say("Which device heard it when"))
                self._strips = box("div")
                self._course = Course(self._visitor)
                text("h2", say("The devices then"))
                self._then = box("div")
            with box("section", "log panel"):
                text("h2", say("What was done"))
                self._entries = box("ol", "entries")
                self._note = Typed(say("Note"), LONGEST_NOTE)
                button(say("Add note"), self._add_note, symbol="edit_note")

    def _facts(self, found: Dossier) -> None:
        say, incident = self._visitor.say, found.incident
        link("/", say("All incidents"), "back")
        if incident.drill:
            text("p", say("Drill – not a real alert"), "drill-mark")
        colour = incident.label if incident.label in ("chainsaw", "engine") else "other"
        with box("div", f"title {'drill' if incident.drill else colour}"):
            text("h1", label(self._visitor.language, incident.label), "label")
            self._state = text("span", "", "state")
        with box("p", "when"):
            self._time = text("span", "", "time")
            self._ago = text("span", "", "ago")
        self._devices = text("p", "", "where")
        self._surety = text("p", "", "surety")
        self._place = text("p", "", "place num")
        self._kind = text("p", "", "banner trouble")

    def _actions(self, people: Sequence[str]) -> None:
        say = self._visitor.say
        self._stand = box("div", "stand")
        self._stand.props["aria-live"] = "polite"
        with box("div", "actions"):
            self._acknowledge = button(say("Acknowledge"), self._on_acknowledge, "main", "visibility")
            button(say("Assign"), self._open_people, "", "person_add")
            with box("button", "button", type="button") as share:
                icon("share")
                text("span", say("Share"))
            share.props["data-share"] = "share-text"
            share.props["data-copied"] = say("Copied. Paste it into a message.")
            self._geo = box("a", "button")
            with self._geo:
                icon("map")
                text("span", say("Map app"))
        with box("div", "sharing") as sharing:
            sharing.props["id"] = "share-text"
            self._share = text("textarea", "")
            self._share.props["readonly"] = True
            self._share.props["aria-label"] = say("The message, to be selected and copied")
        text("p", "", "hint shared-how").props["aria-live"] = "polite"
        with ui.dialog() as self._dialog, box("div", "dialog"):
            self._dialog.props["aria-label"] = say("Who goes?")
            text("h2", say("Who goes?"))
            with box("div", "people"):
                for name in people[:MOST_PEOPLE]:
                    button(name, partial(self._assign, name))
            self._other = Typed(say("Somebody else"), LONGEST_NAME, choices=people)
            with box("div", "toolbar"):
                button(say("Assign"), self._assign_other, "main")
                button(say("Nobody"), lambda: self._assign(""))
                button(say("Close"), self._dialog.close, "quiet")

    def _open_people(self) -> None:
        self._dialog.open()

    # News

    async def refresh(self) -> None:
        """Look what has come, and what colleagues did."""
        seen = await run_in_threadpool(self._markers)
        if seen != self._seen:
            found = await run_in_threadpool(self.look)
            if found is not None:  # what retention let go meanwhile stays on the screen
                self._found = found
                self._show()
            self._seen = seen
        self._tell_time(self._visitor.now())

    def _show(self) -> None:
        found, visitor = self._found, self._visitor
        incident, language = found.incident, visitor.language
        is_open = any(event.state == "open" for event in found.events)
        lasted_s = (incident.last_utc - incident.first_utc).total_seconds()
        self._state.set_text(progress(language, is_open=is_open, lasted_s=lasted_s))
        self._devices.set_text(at_devices(language, incident, most=6))
        self._surety.set_text(surety(language, incident))
        self._place.set_text(where(language, incident) or visitor.say("Where it is, no device knows."))
        self._kind.set_text(kind_note(language, incident))
        self._kind.set_visibility(bool(kind_note(language, incident)))
        self._show_place()
        self._evidence.update(found)
        _filled(self._strips, lambda: strips(visitor, found))
        self._course.update(found)
        _filled(self._then, lambda: devices_then(visitor, found.heard))
        _filled(self._near, lambda: neighbours(visitor, found))
        _filled(self._entries, self._tell_entries)

    def _show_place(self) -> None:
        incident, language = self._found.incident, self._visitor.language
        title = label(language, incident.label)
        spot = spot_of(incident, title)
        self._map.show([spot] if spot else [], [then.place for then in self._found.heard if then.place])
        self._share.set_text(shared(language, incident))
        self._geo.set_visibility(incident.position is not None)
        if incident.position is not None:
            at = Place(incident.position.latitude, incident.position.longitude)
            self._geo.props["href"] = f"geo:{at.latitude:.5f},{at.longitude:.5f}?q={at.latitude:.5f},{at.longitude:.5f}"

    def _tell_time(self, now: datetime) -> None:
        """Write what time alone changes."""
        language, incident = self._visitor.language, self._found.incident
        self._time.set_text(language.moment(incident.first_utc, now))
        self._ago.set_text(language.ago(incident.first_utc, now))
        self._evidence.tell_time(now)
        how = stand(self._found.entries)
        self._acknowledge.set_visibility(how.acknowledged is None)
        said = [_said(language, entry, now) for entry in (how.acknowledged, how.assigned) if entry is not None]
        if not said:
            said = [self._visitor.say("Nobody has acknowledged this yet.")]
        if said != getattr(self, "_told", None):
            self._told = said
            _filled(self._stand, lambda: [text("p", one) for one in said])

    def _tell_entries(self) -> None:
        now = self._visitor.now()
        for entry in self._found.entries:
            with box("li"):
                text("span", self._visitor.language.moment(entry.at_utc, now), "num hint")
                text("span", _done(self._visitor.language, entry))
        if not self._found.entries:
            text("li", self._visitor.say("Nothing yet."), "hint")

    # What he does

    async def _on_acknowledge(self) -> None:
        await self._keep(ACKNOWLEDGED)

    async def _assign(self, name: str) -> None:
        if await self._keep(ASSIGNED, assignee=name):
            self._dialog.close()

    async def _assign_other(self) -> None:
        if self._other.text:
            await self._assign(self._other.text)
            self._other.clear()

    async def _add_note(self) -> None:
        if self._note.text and await self._keep(NOTED, note=self._note.text):
            self._note.clear()

    async def _keep(self, action: str, *, assignee: str = "", note: str = "") -> bool:
        if not await self._visitor.may():
            return False
        entry = Entry(
            incident_id=self._found.incident.incident_id,
            at_utc=self._visitor.now(),
            who=self._visitor.name,
            action=action,
            assignee=assignee,
            note=note,
        )
        try:
            kept = await run_in_threadpool(self._log.add, entry)
        except StorageError:
            kept = False
        if not kept:
            ui.notify(self._visitor.say("This was not kept; try again."), type="negative")
            return False
        await self.refresh()
        return True


def _filled(element: Element, fill: object) -> None:
    """Fill an element anew."""
    element.clear()
    with element:
        fill()  # type: ignore[operator]  # any function without arguments


def _said(language: Language, entry: Entry, now: datetime) -> str:
    """Return how far people are, with how long ago."""
    return f"{_done(language, entry)} · {language.ago(entry.at_utc, now)}"


def _done(language: Language, entry: Entry) -> str:
    """Return what somebody did."""
    say = language.say
    if entry.action == ACKNOWLEDGED:
        said = say("{name} has acknowledged it", name=entry.who)
    elif entry.action == ASSIGNED and entry.assignee == entry.who:
        said = say("{name} goes", name=entry.who)
    elif entry.action == ASSIGNED and entry.assignee:
        said = say("{other} goes, says {name}", other=entry.assignee, name=entry.who)
    elif entry.action == ASSIGNED:
        said = say("Nobody goes, says {name}", name=entry.who)
    else:
        return f"{entry.who}: {entry.note}"
    return f"{said}: {entry.note}" if entry.note else said
