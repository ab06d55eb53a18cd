"""Who may come in: people with passwords, programs with tokens."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from nicegui import ui
from nicegui.element import Element
from starlette.concurrency import run_in_threadpool

from agent.errors import AgentError, ConfigError
from base_station.accounts import (
    LONGEST_PASSWORD,
    OPERATOR,
    ROLES,
    SHORTEST_PASSWORD,
    VIEWER,
    LastOperatorError,
    checked_name,
)
from base_station.pages.forms import Refusal, field, form
from base_station.pages.frame import Site, Visitor
from base_station.pages.language import mark
from base_station.pages.parts import Table, box, button, selection, text
from base_station.registry import audit_row

ROLE_NAMES = {VIEWER: mark("may look"), OPERATOR: mark("may also change things")}


class _Entrants:
    """A list of those who may come in, each with a way out, and a form for another."""

    def __init__(self, site: Site, visitor: Visitor) -> None:
        self._site, self._visitor = site, visitor
        self._refusal: Refusal
        self._list: Element

    async def _show(self, named: list[tuple[str, str]], caption: str, remove: Callable[[str], Awaitable[None]]) -> None:
        say = self._visitor.say
        self._list.clear()
        with self._list:
            if not named:
                text("p", say("None yet."), "hint")
                return
            table = Table([say("Name"), say("Role"), ""], caption)
            for name, role in named:
                table.row([name, say(ROLE_NAMES.get(role, role)), partial(self._way_out, name, remove)])

    def _way_out(self, name: str, remove: Callable[[str], Awaitable[None]]) -> None:
        with box("details", "sure"):
            with box("summary", "button"):
                text("span", self._visitor.say("Remove"))
            button(self._visitor.say("Yes, remove {name}", name=name), lambda: remove(name), "danger")

    def _name_and_role(self, label: str) -> None:
        say = self._visitor.say
        field(label, "name", maxlength="63", autocapitalize="none", spellcheck="false")
        selection(say("Role"), {role: say(ROLE_NAMES[role]) for role in ROLES}, VIEWER).props["name"] = "role"

    async def _refuse(self, error: AgentError) -> None:
        say = self._visitor.say
        if isinstance(error, LastOperatorError):
            self._refusal.say(say("Somebody has to look after the station: it needs an operator who stays."))
        else:
            self._refusal.say(say("This cannot be kept: {error}", error=str(error)))


class People(_Entrants):
    """People with passwords."""

    async def build(self) -> None:
        """Lay it out."""
        say = self._visitor.say
        self._list = box("div")
        with form(self._set, "panel columns-2") as self._form:
            text("h3", say("Add somebody, or give another role and password")).classes("wide")
            self._name_and_role(say("Name"))
            least = say("{count} characters or more", count=self._visitor.language.number(SHORTEST_PASSWORD))
            most = str(LONGEST_PASSWORD)
            field(say("Password"), "password", "", least, type="password", autocomplete="new-password", maxlength=most)
            self._refusal = Refusal()
            with box("button", "button main", type="submit"):
                text("span", say("Keep"))
        await self._refresh()

    async def _refresh(self) -> None:
        named = await run_in_threadpool(self._site.accounts.people)
        await self._show(named, self._visitor.say("People"), self._remove)

    async def _set(self, said: Mapping[str, str]) -> None:
        if not await self._visitor.may(OPERATOR):
            return
        try:
            name, role = await run_in_threadpool(self._kept, said)
        except AgentError as error:
            await self._refuse(error)
            return
        self._refusal.clear()
        ui.run_javascript(f'document.getElementById("{self._form.html_id}").reset()')
        told = self._visitor.say(
            "{name}: {role}. Earlier sessions have ended.", name=name, role=self._visitor.say(role)
        )
        ui.notify(told, type="positive")
        await self._refresh()

    def _kept(self, said: Mapping[str, str]) -> tuple[str, str]:
        name, role = checked_name(said.get("name", "").strip()), said.get("role", "")
        if role not in ROLES:
            raise ConfigError(f"role: expected one of {', '.join(ROLES)}")
        now = self._visitor.now()
        note = audit_row(self._visitor.name, "person_set", name, now, role=role)
        accounts = self._site.accounts
        accounts.set_person(name, role, said.get("password", ""), now, also=note, keep_operator=True)
        return name, ROLE_NAMES[role]

    async def _remove(self, name: str) -> None:
        if not await self._visitor.may(OPERATOR):
            return
        note = audit_row(self._visitor.name, "person_removed", name, self._visitor.now())
        try:
            await run_in_threadpool(self._site.accounts.remove_person, name, also=note, keep_operator=True)
        except AgentError as error:
            await self._refuse(error)
            return
        self._refusal.clear()
        await self._refresh()


class Machines(_Entrants):
    """Programs with tokens."""

    async def build(self) -> None:
        """Lay it out."""
        say = self._visitor.say
        text("p", say("A program sends its token with each request: Authorization: Bearer TOKEN"), "hint")
        self._list = box("div")
        self._fresh = box("div", "fresh")
        self._fresh.props["aria-live"] = "polite"
        with form(self._add, "panel columns-2"):
            text("h3", say("Make a token")).classes("wide")
            self._name_and_role(say("Name of the program"))
            self._refusal = Refusal()
            with box("button", "button main", type="submit"):
                text("span", say("Make a token"))
        await self._refresh()

    async def _refresh(self) -> None:
        named = await run_in_threadpool(self._site.accounts.tokens)
        await self._show(named, self._visitor.say("Programs"), self._revoke)

    async def _add(self, said: Mapping[str, str]) -> None:
        if not await self._visitor.may(OPERATOR):
            return
        try:
            token = await run_in_threadpool(self._made, said)
        except AgentError as error:
            await self._refuse(error)
            return
        self._refusal.clear()
        self._fresh.clear()
        with self._fresh:
            text("p", self._visitor.say("The token is shown this once; keep it where the program finds it."))
            text("code", token, "command")
        await self._refresh()

    def _made(self, said: Mapping[str, str]) -> str:
        name, role = checked_name(said.get("name", "").strip()), said.get("role", "")
        if role not in ROLES:
            raise ConfigError(f"role: expected one of {', '.join(ROLES)}")
        now = self._visitor.now()
        note = audit_row(self._visitor.name, "token_added", name, now, role=role)
        return self._site.accounts.add_token(name, role, now, also=note, keep_operator=True)

    async def _revoke(self, name: str) -> None:
        if not await self._visitor.may(OPERATOR):
            return
        note = audit_row(self._visitor.name, "token_revoked", name, self._visitor.now())
        try:
            await run_in_threadpool(self._site.accounts.revoke_token, name, also=note)
        except AgentError as error:
            await self._refuse(error)
            return
        self._fresh.clear()
        await self._refresh()
