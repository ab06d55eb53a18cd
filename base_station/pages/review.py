"""The review queue: what was heard, one alert after the other, by keys or large buttons; and what that tells."""

import uuid
from collections.abc import Set
from dataclasses import dataclass

from nicegui import ui
from starlette.concurrency import run_in_threadpool

from agent.alert import LogMelImage
from base_station.pages.frame import Site, Visitor, ask_for, page
from base_station.pages.judging import HEARD, heard_name, keep_verdict, verdict_on
from base_station.pages.language import mark
from base_station.pages.parts import Table, box, button, empty, selection, text
from base_station.pages.shares import precision_bar
from base_station.pages.spectrogram import evidence
from base_station.precision import UNSURE, Precision
from base_station.store import AlertEvent, Store
from base_station.verdicts import Verdict, Verdicts
from base_station.words import label_name

AT_A_TIME = 60
"""Alerts that are fetched at once..."""
_FETCH_BELOW = 10
"""...when so few of the last ones are left."""
_LATEST = 6
_ORDERS = ("uncertain", "random")


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one look brought."""

    marker: int
    """The newest verdict's number."""
    precision: list[Precision]
    latest: list[Verdict]
    """What was said last, the latest first."""


def add_review(site: Site) -> None:
    """Add the page."""

    @page(site, "/review", mark("Review"))
    async def review(visitor: Visitor, order: str = "uncertain") -> None:
        ask_for("review.js")
        sitting = _Sitting(site.store, visitor, order if order in _ORDERS else "uncertain")
        sitting.build()
        await visitor.live(sitting.refresh)


def look(store: Store, order: str) -> Work:
    """Return what was judged."""
    verdicts = Verdicts(store)
    seen = verdicts.marker()  # first: what is said meanwhile is looked at again
    return Work(marker=seen, precision=verdicts.precision("label", order), latest=verdicts.newest(_LATEST))


def waiting(store: Store, order: str, seed: str, passed: Set[str]) -> list[AlertEvent]:
    """Return the next alerts that want a verdict, without those that were passed over."""
    ids = [each for each in Verdicts(store).queue(order, AT_A_TIME + len(passed), seed) if each not in passed]
    events = {event.alert_id: event for event in store.events_of(ids[:AT_A_TIME])}
    return [events[alert_id] for alert_id in ids if alert_id in events]


class _Sitting:
    """One person's way through the queue."""

    def __init__(self, store: Store, visitor: Visitor, order: str) -> None:
        self._store, self._visitor, self._order = store, visitor, order
        self._verdicts = Verdicts(store)
        self._seed = uuid.uuid4().hex
        self._marker = -1
        self._work = Work(marker=-1, precision=[], latest=[])
        self._queue: list[AlertEvent] = []
        self._cards: dict[str, _Card] = {}
        self._passed: set[str] = set()
        self._done: list[AlertEvent] = []
        self._taken_back: set[str] = set()

    # Layout

    def build(self) -> None:
        """Lay out the page, empty."""
        say = self._visitor.say
        text("h1", say("Review"))
        with box("div", "toolbar"):
            orders = {"uncertain": say("Most doubtful first"), "random": say("At random")}
            selection(say("Order"), orders, self._order, lambda chosen: ui.navigate.to(f"/review?order={chosen}"))
            self._progress = text("p", "", "num progress")
            self._progress.props["aria-live"] = "polite"
        with box("div", "sitting"):
            with box("section", "listening", aria_label=say("What was heard?")):
                self._stage = box("div", "stage")
                self._nothing = empty(
                    say("Nothing waits for a verdict."),
                    say("New alerts appear here by themselves. What was judged can be taken home for training:"),
                    "python -m base_station export-labels DIR",
                )
                self._nothing.set_visibility(False)
                self._choices()
            with box("section", "told-by-verdicts"):
                text("h2", say("Precision"), "section")
                self._precision = box("div")
                text("h2", say("Last verdicts"), "section")
                self._latest = box("ul", "latest")
        self._help()

    def _choices(self) -> None:
        say = self._visitor.say
        with box("div", "choices") as self._buttons:
            for number, (heard, name) in enumerate(HEARD.items(), 1):
                self._key(say(name), str(number), lambda heard=heard: self._say(heard), "choice")
        with box("div", "toolbar") as self._tools:
            self._key(say("Skip"), "n", self._skip)
            self._key(say("Undo"), "u", self._undo)
            self._key(say("Keys"), "?", self._open_help)

    def _key(self, name: str, key: str, press: object, classes: str = "") -> None:
        element = button(name, press, classes)  # type: ignore[arg-type]  # any function without arguments
        element.props["data-key"] = key
        element.props["aria-keyshortcuts"] = key
        with element:
            text("kbd", key).props["aria-hidden"] = "true"

    def _open_help(self) -> None:
        self._dialog.open()

    def _help(self) -> None:
        say = self._visitor.say
        with ui.dialog() as self._dialog, box("div", "dialog"):
            self._dialog.props["aria-label"] = say("Keys")
            text("h2", say("Keys"))
            keys = Table([say("Key"), say("What it does")], say("Keys"))
            for number, name in enumerate(HEARD.values(), 1):
                keys.row([str(number), say(name)])
            for key, what in (
                (say("Space"), say("Play or stop the sound")),
                ("n", say("Skip")),
                ("u", say("Undo: take the last verdict back")),
                ("?", say("These keys")),
            ):
                keys.row([key, what])
            button(say("Close"), self._dialog.close, "main")

    # News

    async def refresh(self) -> None:
        """Look whether anybody has said something, and whether there is more to judge."""
        seen = await run_in_threadpool(self._verdicts.marker)
        if seen != self._marker:
            self._work = await run_in_threadpool(look, self._store, self._order)
            self._marker = self._work.marker
            await self._leave_to_others()
        if len(self._queue) < _FETCH_BELOW:
            await self._fetch()
        await self._show()

    async def _fetch(self) -> None:
        """Get the next ones; what is on the screen stays there, whatever order the others are in now."""
        fresh = await run_in_threadpool(waiting, self._store, self._order, self._seed, frozenset(self._passed))
        here = {event.alert_id for event in self._queue}
        # somebody may have judged or skipped meanwhile
        self._queue += [event for event in fresh if event.alert_id not in here | self._passed]

    async def _leave_to_others(self) -> None:
        """Drop what colleagues have judged; what is on the screen stays, with what they said."""
        if not self._queue:
            return
        ids = [event.alert_id for event in self._queue[1:]]
        judged = set(await run_in_threadpool(self._verdicts.among, ids)) - self._taken_back
        self._queue[1:] = [event for event in self._queue[1:] if event.alert_id not in judged]
        self._tell_if_judged(self._queue[0].alert_id)

    def _tell_if_judged(self, alert_id: str) -> None:
        """Say so where a colleague was faster with the alert that is on the screen."""
        for verdict in self._work.latest:
            if verdict.alert_id == alert_id and verdict.judge != self._visitor.name and alert_id in self._cards:
                said = heard_name(self._visitor.language, verdict)
                self._cards[alert_id].tell(
                    self._visitor.say("{name} has said: {heard}", name=verdict.judge, heard=said)
                )

    async def _show(self) -> None:
        """Show the first of the queue, with the next one loaded behind it."""
        near = self._queue[:2]
        for gone in set(self._cards) - {event.alert_id for event in near}:
            self._cards.pop(gone).root.delete()
        for event in near:
            if event.alert_id not in self._cards:
                revision = event.log_mel_revision
                image = (
                    None if revision is None else await run_in_threadpool(self._store.log_mel, event.alert_id, revision)
                )
                if event.alert_id in self._cards:  # somebody pressed meanwhile
                    continue
                with self._stage:
                    self._cards[event.alert_id] = _Card(event, image, self._visitor)
        self._swap()
        self._tell()

    def _swap(self) -> None:
        shown = self._queue[0].alert_id if self._queue else None
        for alert_id, card in self._cards.items():
            card.show(shown=alert_id == shown)
        self._buttons.set_visibility(shown is not None)
        self._nothing.set_visibility(shown is None)

    def _tell(self) -> None:
        """Write how far the sitting is, precision, and what was said last."""
        say = self._visitor.say
        done, left = len(self._done), len(self._queue)
        number = self._visitor.language.number
        more = "+" if left >= AT_A_TIME - 1 else ""
        self._progress.set_text(
            say("{done} judged in this sitting, {left} wait", done=number(done), left=number(left) + more)
        )
        self._precision.clear()
        with self._precision:
            _precision(self._visitor, self._work.precision, self._order)
        self._latest.clear()
        with self._latest:
            for verdict in self._work.latest:
                said = heard_name(self._visitor.language, verdict)
                ago = self._visitor.language.ago(verdict.at_utc, self._visitor.now())
                with box("li"):
                    text("strong", said)
                    text("span", f" {verdict.judge} · {ago}", "hint")

    # What he does

    async def _say(self, heard: str) -> None:
        if not self._queue or not await self._visitor.may():
            return
        event = self._queue.pop(0)
        self._passed.add(event.alert_id)  # before it is kept: a look at the database meanwhile must not bring it back
        self._swap()  # at once: the eye goes on while the database writes
        if not await self._keep(event, verdict_on(event.label, heard), heard):
            self._passed.discard(event.alert_id)
            self._queue.insert(0, event)
            await self._show()
            return
        self._done.append(event)
        await self._go_on()

    async def _keep(self, event: AlertEvent, verdict: str, heard: str, note: str = "") -> bool:
        return await keep_verdict(self._visitor, event.alert_id, verdict, heard, chosen=self._order, note=note)

    async def _go_on(self) -> None:
        await self._show()
        await self.refresh()

    async def _skip(self) -> None:
        if self._queue:
            self._passed.add(self._queue.pop(0).alert_id)
            self._swap()
            await self._go_on()

    async def _undo(self) -> None:
        """Take the last verdict back: nobody is sure until he says again."""
        if not self._done or not await self._visitor.may():
            return
        event = self._done.pop()
        if await self._keep(event, UNSURE, "", "taken back"):
            self._taken_back.add(event.alert_id)
            self._queue.insert(0, event)
            await self._go_on()
        else:
            self._done.append(event)


class _Card:
    """One alert on the stage, or behind it."""

    def __init__(self, event: AlertEvent, image: LogMelImage | None, visitor: Visitor) -> None:
        say, language = visitor.say, visitor.language
        with box("article", "judged panel") as self.root:
            self.root.props["data-alert"] = event.alert_id
            with box("div", "heading"):
                text("h2", say(label_name(event.label)))
                text("span", say("score {score}", score=language.number(event.score, 2)), "num hint")
            text("p", f"{event.device_id} · {language.moment(event.onset.utc, visitor.now())}", "where")
            self._notice = text("p", "", "banner trouble")
            self._notice.set_visibility(False)
            evidence(visitor, event, image, preload="auto")
            if not event.has_clip:
                text("p", say("No sound came with it; judge by the picture, or skip it."), "hint")

    def show(self, *, shown: bool) -> None:
        """Bring it before the reader, or keep it ready behind."""
        self.root.classes(add="shown" if shown else "behind", remove="behind" if shown else "shown")
        self.root.props["aria-hidden"] = "false" if shown else "true"
        self.root.set_visibility(shown)

    def tell(self, said: str) -> None:
        """Say something about it."""
        self._notice.set_text(said)
        self._notice.set_visibility(True)


def _precision(visitor: Visitor, rows: list[Precision], order: str) -> None:
    say = visitor.say
    if not rows:
        text("p", say("The first verdicts in this order will show here how often alerts are right."), "hint")
    for row in rows:
        precision_bar(visitor, row)
    note = (
        say("Alerts at random speak for all alerts.")
        if order == "random"
        else say("Doubtful alerts are wrong more often than others: only those at random speak for all.")
    )
    text("p", note, "hint")
