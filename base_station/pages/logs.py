"""Field logs: drop a journal that came home, see what it brought, and whose logs are kept."""

from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote

from nicegui import ui
from nicegui.events import GenericEventArguments
from starlette.concurrency import run_in_threadpool

from base_station.accounts import OPERATOR
from base_station.logbook import KeptLog, kept_logs
from base_station.pages.frame import Site, Visitor, ask_for, page
from base_station.pages.language import mark
from base_station.pages.parts import Table, box, button, empty, icon, link, text
from base_station.store import Store

AT_A_TIME = 50
_MOST_SHOWN = 20
"""Answers to one drop that are shown one by one."""
_LONGEST = 300


def add_logs(site: Site) -> None:
    """Declare `/logs`."""

    @page(site, "/logs", mark("Field logs"))
    async def logs(visitor: Visitor) -> None:
        ask_for("logs.css", "logs.js")
        text("h1", visitor.say("Field logs"))
        text(
            "p",
            visitor.say(
                "Every phone keeps a journal of what it heard and did. When one comes home, bring its journal in here."
            ),
            "hint",
        )
        shelf = _Shelf(site.store, visitor)
        if visitor.may_change:
            _Arrivals(visitor, shelf)
        shelf.build()
        await visitor.live(shelf.refresh)


def log_path(device_id: str) -> str:
    """Return where the log of a device is."""
    return f"/logs/{quote(device_id, safe='')}"


class _Shelf:
    """The logs that are kept."""

    def __init__(self, store: Store, visitor: Visitor) -> None:
        self._store, self._visitor = store, visitor
        self._limit = AT_A_TIME
        self._shown: list[KeptLog] | None = None

    def build(self) -> None:
        """Lay out the list, empty."""
        say = self._visitor.say
        text("h2", say("Kept logs"))
        titles = (say("Device"), say("From"), say("Until"), say("Windows"), say("Never arrived"), say("Brought in"))
        self._rows = Table(titles, say("Kept logs"))
        self._nothing = empty(
            say("No field log yet."),
            say("On the phone, it is the folder journal below its storage folder. Over USB, this copies all of them:"),
            "python -m deploy fleet pull-journals fleet.yaml --out DIR",
        )
        self._more = button(say("Show more"), self._show_more, "older")

    async def refresh(self) -> None:
        """Bring the list up to date."""
        found = await run_in_threadpool(kept_logs, self._store, limit=self._limit + 1)
        if found == self._shown:
            return
        self._shown = found
        self._rows.clear()
        now = self._visitor.now()
        for log in found[: self._limit]:
            self._row(log, now)
        self._rows.root.set_visibility(bool(found))
        self._nothing.set_visibility(not found)
        self._more.set_visibility(len(found) > self._limit)

    async def _show_more(self) -> None:
        self._limit += AT_A_TIME
        await self.refresh()

    def _row(self, log: KeptLog, now: datetime) -> None:
        language = self._visitor.language
        unknown = self._visitor.say("unknown")
        self._rows.row(
            [
                log.device_id,
                unknown if log.first_utc is None else language.moment(log.first_utc, now),
                unknown if log.last_utc is None else language.moment(log.last_utc, now),
                language.number(log.n_windows),
                lambda: text("span", language.number(log.never_arrived), "num missing" if log.never_arrived else "num"),
                language.moment(log.imported_utc, now),
            ],
            href=log_path(log.device_id),
        )


class _Arrivals:
    """The place to drop files, and what came of them; `logs.js` sends them to the API and says what it answered."""

    def __init__(self, visitor: Visitor, shelf: _Shelf) -> None:
        self._visitor, self._shelf = visitor, shelf
        say = visitor.say
        csrf = "" if visitor.who is None else visitor.who.csrf
        with box("section", "drop", aria_label=say("Bring journals in"), data_csrf=csrf):
            with box("div", "ways"):
                _choice(say("Choose files"), "upload_file", multiple="true")
                _choice(say("Choose a folder"), "drive_folder_upload", webkitdirectory="true")
            text(
                "p",
                say("Or drop here: journal files of one phone, folders of many phones, or a .zip or .tar of them."),
                "hint",
            )
            box("progress", "", hidden="true", aria_label=say("Sending"))
        self._said = text("p", "", "hint")
        self._said.props["role"] = "status"
        self._brought = box("div", "brought")
        ui.on("journals", self._hear)

    async def _hear(self, event: GenericEventArguments) -> None:
        """Take what the browser says of files that it sends."""
        said = _mapping(event.args)
        language, plural = self._visitor.language, self._visitor.plural
        match said.get("kind"):
            case "nothing":
                self._brought.clear()
                self._said.set_text(
                    self._visitor.say(
                        "No journal is among these files; its files are called journal-*.jsonl or .jsonl.gz."
                    )
                )
            case "begin":
                self._brought.clear()
                megabytes = language.number(_number(said.get("bytes")) / 1e6, 1)
                count = int(_number(said.get("files")))
                self._said.set_text(
                    plural(
                        "Sending {count} file, {size} MB …", "Sending {count} files, {size} MB …", count, size=megabytes
                    )
                )
            case "answer":
                await self._show(str(said.get("name", "")), said.get("status"), _mapping(said.get("answer")))
            case "end":
                self._said.set_text("")
                await self._shelf.refresh()
            case _:
                pass

    async def _show(self, name: str, status: object, answer: Mapping[str, object]) -> None:
        """Show what the API said to one folder or archive."""
        if status in (401, 403):
            await self._visitor.may(OPERATOR)
        if len(self._brought.default_slot.children) >= _MOST_SHOWN:
            return
        journals = answer.get("journals")
        each = journals if isinstance(journals, list) else [answer]
        with self._brought:
            for one in each[:_MOST_SHOWN]:
                if status == 201 and not _mapping(one).get("problem"):
                    self._taken(_mapping(one))
                else:
                    self._refused(name, status, _mapping(one))

    def _taken(self, one: Mapping[str, object]) -> None:
        say, plural = self._visitor.say, self._visitor.plural
        device_id = str(one.get("device_id", ""))[:63]
        count = {
            key: int(_number(one.get(key)))
            for key in ("windows", "new_segments", "never_arrived", "damaged", "undated")
        }
        with box("div", "panel"):
            link(log_path(device_id), device_id, "lead")
            is_new = count["new_segments"] > 0
            files = plural("{count} file is new.", "{count} files are new.", count["new_segments"])
            text("span", files if is_new else say("Nothing in it is new."))
            text("span", plural("{count} window", "{count} windows", count["windows"]), "hint")
            if count["never_arrived"]:
                text(
                    "span",
                    plural(
                        "{count} alert never arrived here.",
                        "{count} alerts never arrived here.",
                        count["never_arrived"],
                    ),
                    "missing",
                )
            if count["undated"]:
                text(
                    "span",
                    plural(
                        "Of {count} event nobody knows when it was: the phone's clock was never set.",
                        "Of {count} events nobody knows when they were: the phone's clock was never set.",
                        count["undated"],
                    ),
                )
            self._damage(count["damaged"], one.get("damage"))

    def _damage(self, damaged: int, places: object) -> None:
        if isinstance(places, list) and places:
            text(
                "span",
                self._visitor.plural(
                    "{count} line is damaged and was passed over:",
                    "{count} lines are damaged and were passed over:",
                    damaged,
                ),
            )
            with box("ul", "damage"):
                for place in places[:_MOST_SHOWN]:
                    text("li", str(place)[:_LONGEST])

    def _refused(self, name: str, status: object, one: Mapping[str, object]) -> None:
        say = self._visitor.say
        reason = str(one.get("problem") or one.get("detail") or "")[:_LONGEST]
        if not reason:
            reason = (
                say("the station was not reached")
                if status == 0
                else say("the station answered {status}", status=status)
            )
        with box("div", "panel refused", role="alert"):
            text("span", say("Not taken: {name}", name=name[:_LONGEST] or say("these files")), "lead")
            text("span", reason)


def _choice(words: str, symbol: str, **attributes: str) -> None:
    with box("label", "button main" if "multiple" in attributes else "button"):
        icon(symbol)
        text("span", words)
        box("input", "", type="file", **attributes)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float:
    """Return a count that a browser names; nothing sensible is none."""
    is_count = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15
    return float(value) if is_count else 0.0  # type: ignore[arg-type]  # a number, as the line above says
