"""`/settings`, for operators: who is told what, who may come in, how long things are kept, the language of the pages.

Each section does its work by the functions that commands and API use, and asks again whether its visitor may.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime

from nicegui import ui
from nicegui.element import Element
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from agent.errors import AgentError
from base_station import tables, tallies
from base_station.accounts import OPERATOR
from base_station.config import LANGUAGES as KNOWN_LANGUAGES
from base_station.pages.forms import Refusal, field, form
from base_station.pages.frame import Site, Visitor, ask_for, page
from base_station.pages.language import LANGUAGES, mark
from base_station.pages.parts import box, selection, text
from base_station.pages.settings_people import Machines, People
from base_station.pages.settings_rules import Log, Rules
from base_station.retention import Retention, disk_bytes
from base_station.store import Store

KEPT = {
    "alert_days": (mark("Alerts, days"), mark("whole alerts go when they are older")),
    "picture_days": (mark("Pictures and sounds, days"), mark("the alerts stay")),
    "journal_days": (mark("Files of journals, days"), mark("their events stay")),
    "megabytes": (mark("Room for everything, MB"), mark("the oldest go while more is held")),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Used:
    """What the station holds now."""

    megabytes: float
    n_alerts: int
    oldest_utc: datetime | None
    """Arrival of the oldest alert."""


def add_settings(site: Site) -> None:
    """Add the page."""

    @page(site, "/settings", mark("Settings"), role=OPERATOR)
    async def settings(visitor: Visitor) -> None:
        ask_for("settings.css")
        say = visitor.say
        with box("div", "settings"):
            text("h1", say("Settings"))
            rules, log = Rules(site, visitor), Log(site, visitor)
            rules.on_sent = log.refresh
            sections: list[tuple[str, str, Callable[[], Awaitable[None]]]] = [
                ("messages", say("Messages"), rules.build),
                ("log", say("Last messages"), log.build),
                ("people", say("People"), People(site, visitor).build),
                ("machines", say("Programs"), Machines(site, visitor).build),
                ("kept", say("What is kept"), _Kept(site, visitor).build),
                ("language", say("Language of the station"), _Language(site, visitor).build),
            ]
            with box("nav", "contents", aria_label=say("On this page")):
                for name, title, _ in sections:
                    text("a", title).props["href"] = f"#{name}"
            for name, title, build in sections:
                with box("section", "part", id=name):
                    text("h2", title)
                    await build()
        await visitor.live(log.refresh)


def used(store: Store) -> Used:
    """Return what the station holds now."""
    alerts = tables.alerts.c
    with store.database.read() as connection:
        query = select(alerts.received_utc).order_by(alerts.seq).limit(1)
        oldest = connection.execute(query).scalar_one_or_none()
    n_alerts = sum(tallies.counts(store.database).values())
    return Used(megabytes=disk_bytes(store.database) / 1e6, n_alerts=n_alerts, oldest_utc=oldest)


class _Kept:
    """How long and how much."""

    def __init__(self, site: Site, visitor: Visitor) -> None:
        self._site, self._visitor = site, visitor

    async def build(self) -> None:
        """Lay it out."""
        say, language = self._visitor.say, self._visitor.language
        now = await run_in_threadpool(used, self._site.store)
        chosen = await run_in_threadpool(self._site.choices.retention)
        since = "–" if now.oldest_utc is None else language.moment(now.oldest_utc, self._visitor.now())
        held = say(
            "Now: {megabytes} MB, {alerts} alerts, the oldest of {since}.",
            megabytes=language.number(now.megabytes, 1),
            alerts=language.number(now.n_alerts),
            since=since,
        )
        text("p", held, "num")
        text("p", say("Empty keeps for ever. What a person has judged is always kept."), "hint")
        with form(self._keep, "panel columns-2"):
            for each in fields(Retention):
                self._number(each.name, getattr(chosen, each.name))
            self._refusal = Refusal()
            with box("button", "button main", type="submit"):
                text("span", say("Keep so long"))

    def _number(self, name: str, chosen: float | None) -> None:
        title, hint = (self._visitor.say(each) for each in KEPT[name])
        by_file = getattr(self._site.told.retention, name)
        value = by_file if by_file is not None else chosen
        told = self._visitor.say("stands in station.yaml") if by_file is not None else hint
        element = field(title, name, "" if value is None else f"{value:g}", told, inputmode="decimal")
        if by_file is not None:
            element.props["disabled"] = True

    async def _keep(self, said: Mapping[str, str]) -> None:
        if not await self._visitor.may(OPERATOR):
            return
        try:
            retention = Retention(**{each.name: _number(said.get(each.name, "")) for each in fields(Retention)})
            await run_in_threadpool(
                self._site.choices.set_retention, retention, who=self._visitor.name, now_utc=self._visitor.now()
            )
        except (AgentError, ValueError) as error:
            self._refusal.say(self._visitor.say("This cannot be kept: {error}", error=str(error)))
            return
        self._refusal.clear()
        ui.notify(self._visitor.say("Kept. What is over it goes within an hour."), type="positive")


class _Language:
    """The language of readers whose browser asks for none that there is."""

    def __init__(self, site: Site, visitor: Visitor) -> None:
        self._site, self._visitor = site, visitor

    async def build(self) -> None:
        """Lay it out."""
        say = self._visitor.say
        by_file = self._site.told.page.language
        chosen = by_file or self._site.choices.language or "en"
        text("p", say("For readers whose browser asks for no language that the station has."), "hint")
        with form(self._choose, "panel line"):
            element = selection(say("Language"), {code: LANGUAGES[code] for code in KNOWN_LANGUAGES}, chosen)
            element.props["name"] = "language"
            if by_file:
                element.props["disabled"] = True
                text("p", say("stands in station.yaml"), "hint")
                return
            _submit(say("Use this language"))

    async def _choose(self, said: Mapping[str, str]) -> None:
        if not await self._visitor.may(OPERATOR):
            return
        chosen, choices = said.get("language", ""), self._site.choices
        try:
            await run_in_threadpool(choices.set_language, chosen, who=self._visitor.name, now_utc=self._visitor.now())
        except AgentError as error:
            ui.notify(str(error), type="negative")
            return
        ui.notify(self._visitor.say("Kept."), type="positive")


def _submit(content: str) -> Element:
    with box("button", "button main", type="submit") as element:
        text("span", content)
    return element


def _number(written: str) -> float | None:
    """Return a number that somebody typed, None for nothing; ValueError if it is none."""
    plain = written.strip().replace(",", ".")
    return float(plain) if plain else None
