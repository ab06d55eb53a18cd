"""The frame of every page: who may see it, header, navigation, language, light or dark, and news as they come.

To add a page:

1. Write `pages/NAME.py` with one function that declares it::

       def add_devices(site: Site) -> None:
           @page(site, "/devices", mark("Devices"))
           async def devices(visitor: Visitor) -> None:
               say = visitor.say
               text("h1", say("Devices"))
               rows = Table([say("Name"), say("Battery")], caption=say("Devices"))

               async def refresh() -> None:
                   found = await run_in_threadpool(site.store.devices)
                   ...

               await visitor.live(refresh)

2. Call it in `site_map.add_pages`, and give the page a line in NAVIGATION if the header leads to it.
3. Put its sentences into `locale/{pt,es,fr,id}/NAME.po`; `tests/base_station/pages/test_language.py` names what lacks.
4. Write its browser test with the fixtures of `tests/base_station/pages/conftest.py` (`visit`, `looked_at`).

The page's function runs inside the frame's `<main>`. Its further arguments come from the path (`/devices/{device_id}`)
and from the query, as with FastAPI. What changes something asks `await visitor.may(OPERATOR)` first: the session may
have ended since the page was opened. Everything that waits for the database goes through `run_in_threadpool`.
Components are in `parts`, colours and sizes are tokens in `style.css`; a page's own looks and scripts lie beside it
(`devices.css`, `devices.js`) and are asked for with `ask_for`.
"""

import copy
import hashlib
import html
import inspect
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from nicegui import ui
from nicegui.element import Element
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from agent import VERSION
from agent.errors import StorageError
from base_station.accounts import OPERATOR, VIEWER, Accounts, Who
from base_station.choices import Choices
from base_station.config import StationConfig
from base_station.guard import WHO, session_secret
from base_station.keys import KeyRing
from base_station.pages.headers import SafeHeaders
from base_station.pages.language import LANGUAGES, Language, chosen_language, mark
from base_station.pages.parts import box, icon, link, selection, text
from base_station.roll import RollCall
from base_station.settings import Settings
from base_station.store import Store
from base_station.tiles import Tiles
from base_station.watch import LEASE_NAME

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
LOOK_ANYWAY = timedelta(seconds=5)
"""What only time changes (`3 min ago`, a device that falls silent) is brought up to date this often."""
PATIENCE_S = 30.0
"""So long a page may wait for its figures; a busy station is slow, and a page that is late is better than none."""
UNWATCHED = timedelta(seconds=30)
"""The look around is missed after so long; its lease ends a minute after its end."""
RECONNECT_WITHIN_S = 30.0
"""A browser that finds back within so long goes on where it was; after that its page is loaded anew."""
LANGUAGE_COOKIE = "curupira_language"
LOOK_COOKIE = "curupira_look"
LOOKS = {"light": False, "dark": True}
"""By cookie; without one it is as the browser has it."""

_FOLDER = Path(__file__).parent
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#16392b"/>'
    '<path d="M16 5 7 20h5l-3 6h14l-3-6h5z" fill="#8fd19e"/></svg>'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One entry of the navigation."""

    path: str
    icon: str
    """Of the Material icons in NiceGUI's wheel."""
    title: str
    """One short word: seven of them share the width of a phone."""


NAVIGATION = (
    Target(path="/", icon="hearing", title=mark("Now")),
    Target(path="/review", icon="fact_check", title=mark("Review")),
    Target(path="/devices", icon="sensors", title=mark("Devices")),
    Target(path="/logs", icon="sd_card", title=mark("Field logs")),
    Target(path="/reports", icon="bar_chart", title=mark("Reports")),
    Target(path="/settings", icon="tune", title=mark("Settings")),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """What pages are made from."""

    store: Store
    accounts: Accounts
    keys: KeyRing
    settings: Settings
    told: StationConfig
    """By `station.yaml` alone."""
    choices: Choices
    """What operators chose on the page besides."""
    roll: RollCall
    """All devices, for whoever looks."""
    tiles: Tiles | None
    """Of the map; None draws a grid."""
    now: Callable[[], datetime]
    """Station time, UTC."""


class Visitor:
    """Who has a page open, and how he reads."""

    def __init__(self, site: Site, request: Request) -> None:
        """Take what the guard found out about a request."""
        self.site = site
        self.who: Who | None = request.scope.get(WHO)
        """None while the station knows nobody: then everybody on its machine may do everything."""
        self.language: Language = chosen_language(
            request.cookies.get(LANGUAGE_COOKIE, ""),
            request.headers.get("accept-language", ""),
            site.told.page.language or site.choices.language,
        )
        self.say = self.language.say
        self.plural = self.language.plural
        self.look = request.cookies.get(LOOK_COOKIE, "auto")
        self._secret = session_secret(request.headers)
        self._refreshers: list[Callable[[], Awaitable[None]]] = []
        self._where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        self._client = ui.context.client

    @property
    def name(self) -> str:
        """His name; of somebody who needed none, the machine's."""
        return "station" if self.who is None else self.who.name

    @property
    def may_change(self) -> bool:
        """Say whether he might when he opened the page; `may` asks again."""
        return self.who is None or self.who.may_change

    def now(self) -> datetime:
        """Return station time."""
        return self.site.now()

    async def live(self, refresh: Callable[[], Awaitable[None]]) -> None:
        """Call a function now, whenever the database changed, and every few seconds for what only time changes.

        StorageError that it raises becomes the frame's banner; the page keeps what it had.
        """
        self._refreshers.append(refresh)
        try:
            await refresh()
        except StorageError as error:
            log.warning("a page shows nothing yet: %s", error)

    async def may(self, role: str = OPERATOR) -> bool:
        """Say whether he may do something at this moment; he is told why not, or led to the login."""
        who = await run_in_threadpool(self._fresh)
        if not isinstance(who, Who):
            if who is None:
                self._leave()
            return who is not None
        if role == OPERATOR and not who.may_change:
            ui.notify(self.say("{name} may only look; an operator may do this.", name=who.name), type="warning")
            return False
        return True

    def _fresh(self) -> Who | bool | None:
        """Return who he is now; True where nobody needs to be anybody, None if his session is over."""
        if self.who is None:
            return None if self.site.accounts.any() else True
        return self.site.accounts.by_session(self._secret, self.site.now())

    def _leave(self) -> None:
        self._client.open(f"/login?next={quote(self._where, safe='')}")

    async def look_around(self, frame: "_Frame") -> None:
        """Bring the frame, and what the page gave to `live`, up to date."""
        now = self.now()
        frame.clock.set_text(self.language.time(now))
        try:
            due = frame.looked is None or now - frame.looked >= LOOK_ANYWAY
            marker = await run_in_threadpool(self.site.store.marker)
            if not due and marker == frame.marker:
                return
            if due and await run_in_threadpool(self._fresh) is None:
                self._leave()
                return
            for refresh in self._refreshers:
                await refresh()
            if due:
                await self._note_watch(frame, now)
            frame.marker, frame.looked = marker, now
            frame.blind.set_visibility(False)
        except StorageError as error:
            if not frame.blind.visible:
                log.warning("the page shows what it had: %s", error)
            frame.marker = -1  # when it can be read again, look at once
            frame.blind.set_visibility(True)

    async def _note_watch(self, frame: "_Frame", now: datetime) -> None:
        """Say so where nobody looks after devices and sends messages; a station that has just started gets a moment."""
        if await run_in_threadpool(self.site.store.database.is_leased, LEASE_NAME, now):
            frame.watched = now
        frame.unwatched.set_visibility(now - (frame.watched or now) > UNWATCHED)
        frame.watched = frame.watched or now


class _Frame:
    """The parts of the shell that change."""

    def __init__(self) -> None:
        self.watched: datetime | None = None
        """When the station was last seen to look around; at first, when the page was opened."""
        self.unwatched: Element
        self.marker = -1
        self.looked: datetime | None = None
        self.clock: Any
        self.blind: Element


def page(site: Site, path: str, title: str, role: str = VIEWER) -> Callable[[Callable[..., Awaitable[None]]], None]:
    """Declare a page: the function below is called with a Visitor and what its path and query bring.

    Args:
        site: what pages are made from.
        path: where it is, as FastAPI writes it.
        title: of the window, marked.
        role: who may see it; who may not is told so.
    """

    def declare(build: Callable[..., Awaitable[None]]) -> None:
        async def shown(request: Request, **given: object) -> None:
            visitor = Visitor(site, request)
            frame = _dress(visitor, path, title)
            with box("main", "page", id="main", tabindex="-1"):
                if role == OPERATOR and not visitor.may_change:
                    text("h1", visitor.say(title))
                    text("p", visitor.say("This page is for operators; {name} may only look.", name=visitor.name))
                else:
                    await build(visitor, **given)
            _end(visitor)
            frame.clock.set_text(visitor.language.time(visitor.now()))
            ui.timer(LOOK_EVERY_S, lambda: visitor.look_around(frame), immediate=False)

        first = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
        rest = list(inspect.signature(build).parameters.values())[1:]
        shown.__signature__ = inspect.Signature([first, *rest])  # type: ignore[attr-defined]
        ui.page(path, response_timeout=PATIENCE_S)(shown)

    return declare


def _dress(visitor: Visitor, path: str, title: str) -> _Frame:
    """Lay out everything around the page's own part."""
    client = ui.context.client
    client.page = copy.copy(client.page)  # it is shared by all who open this address
    client.page.language = visitor.language.quasar  # type: ignore[assignment]
    client.page.dark = LOOKS.get(visitor.look)
    client.title = f"{visitor.say(title)} · Curupira"
    client.content.classes("station")
    ui.add_head_html(f'<link rel="stylesheet" href="{asset("style.css")}"><meta name="theme-color" content="#16392b">')
    ui.add_body_html(_lost(visitor) + f'<script src="{asset("frame.js")}"></script>')
    frame = _Frame()
    link("#main", visitor.say("Skip to the content"), "skip")
    with box("header", "top"):
        with box("a", "brand", href="/"):
            box("span", "leaf", aria_hidden="true")
            text("span", "Curupira", "name")
        _navigation(visitor, path)
        with box("div", "tools"):
            frame.clock = text("span", "", "clock")
            _menu(visitor)
    with box("div", "banner trouble", role="alert") as frame.blind:
        text("span", visitor.say("The station cannot read its database. What you see may be old."))
    frame.blind.set_visibility(False)
    with box("div", "banner trouble", role="alert") as frame.unwatched:
        text(
            "span",
            visitor.say(
                "The station does not look after its devices and sends no messages: its second process does not run. "
                "Its log says why."
            ),
        )
    frame.unwatched.set_visibility(False)
    return frame


def _navigation(visitor: Visitor, path: str) -> None:
    with box("nav", "navigation", aria_label=visitor.say("Pages")):
        for target in NAVIGATION:
            with box("a", "", href=target.path) as entry:
                icon(target.icon)
                text("span", visitor.say(target.title))
            if _leads_to(target.path, path):
                entry.props["aria-current"] = "page"


def _leads_to(target: str, path: str) -> bool:
    if target == "/":
        return path == "/" or path.startswith("/incidents")
    return path == target or path.startswith(f"{target}/")


def _menu(visitor: Visitor) -> None:
    """Lay out language, light or dark, and who is here, behind one button that needs no script."""
    say = visitor.say
    with box("details", "menu"):
        with box("summary", "button quiet", aria_label=say("Language, light, account")):
            icon("account_circle")
        with box("div", "sheet"):
            _cookie_choice(say("Language"), LANGUAGE_COOKIE, LANGUAGES, visitor.language.code)
            looks = {"auto": say("As the device"), "light": say("Light"), "dark": say("Dark")}
            _cookie_choice(say("Brightness"), LOOK_COOKIE, looks, visitor.look if visitor.look in looks else "auto")
            if visitor.who is not None:
                text("p", say("Logged in as {name}", name=visitor.who.name), "hint")
                with box("form", "", method="post", action="/logout"), box("button", "button", type="submit"):
                    icon("logout")
                    text("span", say("Log out"))


def _cookie_choice(label: str, cookie: str, choices: dict[str, str], chosen: str) -> None:
    selection(label, choices, chosen).props["data-cookie"] = cookie


def _end(visitor: Visitor) -> None:
    with box("footer", "foot"):
        text("span", f"Curupira {VERSION}")
        text("span", visitor.say("Times are the station's local time."))


def _lost(visitor: Visitor) -> str:
    """Return our own word for a connection that is lost, shown by `frame.js`."""
    lost = html.escape(visitor.say("No connection to the station since {time}. What you see may be old."))
    return f'<div id="lost" class="banner lost" role="alert" data-text="{lost}" hidden></div>'


def asset(name: str) -> str:
    """Return the address of a file of the pages; another content is another address, so it may be kept."""
    digest = hashlib.sha256((_FOLDER / name).read_bytes()).hexdigest()[:16]
    return f"/assets/{name}?{digest}"


_ASSETS = {".css": "text/css", ".js": "text/javascript"}


def add_frame(app: FastAPI) -> None:
    """Put NiceGUI and the pages' files into the application; once in a process, since NiceGUI knows one."""

    @app.get("/assets/{name}", include_in_schema=False)
    def file(name: str) -> Response:
        kind = _ASSETS.get(Path(name).suffix)
        if kind is None or name not in {path.name for path in _FOLDER.iterdir()}:
            return Response(status_code=404)
        kept = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response((_FOLDER / name).read_bytes(), media_type=kind, headers=kept)

    app.add_middleware(SafeHeaders)
    ui.run_with(
        app,
        title="Curupira",
        favicon=_ICON,
        dark=None,  # as the browser has it
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=RECONNECT_WITHIN_S,
    )


def ask_for(*names: str) -> None:
    """Let the page load files of its own, each once: style sheets and scripts that lie beside its module."""
    there = ui.context.client.head_html + ui.context.client.body_html
    for name in names:
        if asset(name) in there:
            continue
        if name.endswith(".css"):
            ui.add_head_html(f'<link rel="stylesheet" href="{asset(name)}">')
        else:
            ui.add_body_html(f'<script src="{asset(name)}"></script>')


def run_script(script: str, *values: object) -> None:
    """Run a function of `frame.js` in the visitor's browser with values, which are never read as script."""
    written = ", ".join(json.dumps(value).replace("<", "\\u003c") for value in values)
    ui.run_javascript(f"{script}({written})")
