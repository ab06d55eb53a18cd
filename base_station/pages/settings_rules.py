"""Who is told what: rules with their addresses, a message to try each, and what became of the last messages."""

from collections.abc import Awaitable, Callable, Mapping

from nicegui import ui
from starlette.concurrency import run_in_threadpool

from agent.errors import AgentError
from base_station import tallies
from base_station.accounts import OPERATOR
from base_station.channels import masked
from base_station.deadman import NAMES
from base_station.deliver import GIVEN_UP, REFUSED, SENT, WAITING, Deliveries, Delivery
from base_station.notify_rules import Way, open_channel
from base_station.pages.forms import Refusal, field, form, lines, ticks
from base_station.pages.frame import Site, Visitor
from base_station.pages.language import mark
from base_station.pages.parts import Table, box, button, empty, text
from base_station.pages.rule_document import ABOUT_NAMES, KIND_NAMES, document_of
from base_station.words import label_name

MOST_LISTED = 30
"""Of the last messages."""
OUTCOMES = {
    SENT: mark("sent"),
    WAITING: mark("waiting"),
    REFUSED: mark("refused"),
    GIVEN_UP: mark("given up"),
}


class Rules:
    """The list of rules, and the form for one."""

    def __init__(self, site: Site, visitor: Visitor) -> None:
        """Take the site and who looks."""
        self._site, self._visitor = site, visitor
        self.on_sent: Callable[[], Awaitable[None]]
        """Called when a message went out."""
        self._labels: list[str] = []

    async def build(self) -> None:
        """Lay it out."""
        say = self._visitor.say
        counted = await run_in_threadpool(tallies.counts, self._site.store.database)
        self._labels = sorted({"chainsaw", "engine"} | {label for label, _ in counted})
        self._list = box("div", "rules")
        with box("details", "panel adding") as self._adding:
            with box("summary"):
                text("span", say("Add a rule"))
            self._place = box("div")
        await self._refresh()

    async def _refresh(self) -> None:
        say = self._visitor.say
        ways = (await run_in_threadpool(self._site.choices.joined, self._site.told)).ways
        by_file = {way.rule.name for way in self._site.told.ways}
        self._place.clear()
        with self._place:
            self._form(None)
        self._list.clear()
        with self._list:
            if not ways:
                empty(say("Nobody is told anything yet."), say("A rule says who is told what, and by which way."))
            for way in ways:
                self._rule(way, by_file=way.rule.name in by_file)

    def _rule(self, way: Way, *, by_file: bool) -> None:
        say, name = self._visitor.say, way.rule.name
        with box("article", "panel rule"):
            with box("div", "heading"):
                text("h3", name)
                outcome = text("p", "", "outcome")
                outcome.props["role"] = "status"
            text("p", " · ".join(self._told(way)))
            shown = [masked(url) for url in way.apprise] or [
                f"EarthRanger {way.earthranger.site}" if way.earthranger else ""
            ]
            text("p", ", ".join(shown), "hint address")
            with box("div", "toolbar"):
                button(say("Send a test message"), lambda: self._try(way, outcome.set_text), symbol="send")
                if by_file:
                    text("p", say("stands in station.yaml"), "hint")
                    return
                with box("details", "sure"):
                    with box("summary", "button"):
                        text("span", say("Remove"))
                    button(say("Yes, remove {name}", name=name), lambda: self._remove(name), "danger")
            with box("details", "changing"):
                with box("summary"):
                    text("span", say("Change"))
                self._form(way)

    def _told(self, way: Way) -> list[str]:
        """Return what a rule is about, in a few words."""
        say, rule = self._visitor.say, way.rule
        told = []
        if "incident" in rule.about:
            told.append(", ".join(say(label_name(label)) for label in rule.labels) or say("All sounds"))
        if rule.confidence:
            told.append(say("confidence from {share}", share=self._visitor.language.percent(rule.confidence)))
        if "condition" in rule.about:
            every = len(rule.conditions) == len(NAMES)
            told.append(
                say("everything that is wrong with devices")
                if every
                else ", ".join(say(NAMES[name]) for name in rule.conditions)
            )
        for hours, words in ((rule.hours, say("heard {hours}")), (rule.quiet, say("quiet {hours}"))):
            if hours is not None:
                told.append(words.format(hours=f"{hours.begin:02d}:00 – {hours.end:02d}:00"))
        if rule.area is not None:
            told.append(say("within {km} km of its place", km=self._visitor.language.number(rule.area.radius_km, 1)))
        if rule.digest_minutes:
            told.append(say("together every {count} min", count=self._visitor.language.number(rule.digest_minutes)))
        return told

    def _form(self, way: Way | None) -> None:
        say = self._visitor.say
        rule = None if way is None else way.rule
        refusal: list[Refusal] = []
        with form(lambda said: self._keep(said, way, refusal[0]), "columns-2"):
            if rule is None:
                field(say("Name of the rule"), "name", maxlength="40")
            lines(say("Addresses, one a line"), "apprise", self._address_hint(way))
            about = rule.about if rule else ("incident", "condition")
            ticks(say("Tells of"), {key: say(name) for key, name in ABOUT_NAMES.items()}, about, "about_")
            names = {label: say(label_name(label)) for label in sorted({*self._labels, *(rule.labels if rule else ())})}
            ticks(say("Sounds; none ticked is all"), names, rule.labels if rule else (), "label_")
            kinds = {key: say(name) for key, name in KIND_NAMES.items()}
            ticks(say("Kinds of incidents"), kinds, rule.kinds if rule else ("event",), "kind_")
            wrong = rule.conditions if rule and len(rule.conditions) < len(NAMES) else ()
            conditions = {key: say(name) for key, name in NAMES.items()}
            ticks(say("What is wrong with devices; none ticked is all"), conditions, wrong, "condition_")
            more = {"ends": say("Also when it is over"), "drills": say("Also drills")}
            on = [key for key in more if rule is not None and getattr(rule, key)]
            ticks(say("More"), more, on)
            self._numbers(way)
            refusal.append(Refusal())
            with box("button", "button main", type="submit"):
                text("span", say("Keep the rule"))

    def _address_hint(self, way: Way | None) -> str:
        if way is not None:
            return self._visitor.say("Left empty, the addresses stay as they are.")
        return self._visitor.say("As Apprise writes them: ntfys://…, tgram://…, mailtos://…, json://…")

    def _numbers(self, way: Way | None) -> None:
        say, rule = self._visitor.say, None if way is None else way.rule
        area = None if rule is None else rule.area
        percent = "" if rule is None or not rule.confidence else f"{100 * rule.confidence:g}"
        field(say("Confidence from, %"), "confidence", percent, inputmode="decimal")
        hint = say("from which hour to which, such as 18-6")
        for key, title in (("hours", say("Only what is heard at")), ("quiet", say("Nothing is sent at"))):
            hours = None if rule is None else getattr(rule, key)
            field(title, key, "" if hours is None else f"{hours.begin}-{hours.end}", hint, maxlength="5")
        digest = "" if rule is None or not rule.digest_minutes else str(rule.digest_minutes)
        field(say("Together every so many minutes"), "digest_minutes", digest, inputmode="numeric")
        for key, title, value in (
            ("latitude", say("Only around: latitude"), None if area is None else area.place.latitude),
            ("longitude", say("Longitude"), None if area is None else area.place.longitude),
            ("radius_km", say("Radius, km"), None if area is None else area.radius_km),
        ):
            field(title, key, "" if value is None else f"{value:.10g}", inputmode="decimal")

    async def _keep(self, said: Mapping[str, str], way: Way | None, refusal: Refusal) -> None:
        say = self._visitor.say
        if not await self._visitor.may(OPERATOR):
            return
        name = said.get("name", "").strip() if way is None else way.rule.name
        taken = {one.rule.name for one in self._site.told.ways}
        if way is None:
            taken |= set(await run_in_threadpool(self._site.choices.rules))
        if name in taken:
            refusal.say(say("There is a rule of that name already."))
            return
        try:
            document = document_of(said, name, way, self._labels)
            who, now = self._visitor.name, self._visitor.now()
            await run_in_threadpool(self._site.choices.put_rule, document, who=who, now_utc=now)
        except AgentError as error:
            refusal.say(say("This cannot be kept: {error}", error=str(error)))
            return
        ui.run_javascript(f'document.getElementById("{self._adding.html_id}").open = false')
        ui.notify(say("Kept; it holds from the next message on."), type="positive")
        await self._refresh()

    async def _try(self, way: Way, tell: Callable[[str], object]) -> None:
        say = self._visitor.say
        if not await self._visitor.may(OPERATOR):
            return
        tell(say("is sent …"))
        try:
            sent = await run_in_threadpool(self._send, way)
        except AgentError as error:
            tell(say("not sent: {error}", error=str(error)))
            return
        tell(say("sent") if sent.outcome == SENT else say("not sent: {error}", error=sent.error))
        await self.on_sent()

    def _send(self, way: Way) -> Delivery:
        channel = open_channel(f"rule {way.rule.name!r}", way)
        return Deliveries(self._site.store.database).send_trial(way.rule, channel, self._site.now)

    async def _remove(self, name: str) -> None:
        if not await self._visitor.may(OPERATOR):
            return
        await run_in_threadpool(self._removed, name, self._visitor.name)
        await self._refresh()
        await self.on_sent()

    def _removed(self, name: str, who: str) -> None:
        now = self._site.now()
        if self._site.choices.remove_rule(name, who=who, now_utc=now):
            Deliveries(self._site.store.database).drop_waiting(name, now)


class Log:
    """The last messages, and what became of them."""

    def __init__(self, site: Site, visitor: Visitor) -> None:
        """Take the site and who looks."""
        self._site, self._visitor = site, visitor
        self._shown: list[Delivery] | None = None

    async def build(self) -> None:
        """Lay it out."""
        self._place = box("div")

    async def refresh(self) -> None:
        """Bring it up to date."""
        listed = await run_in_threadpool(Deliveries(self._site.store.database).listed, MOST_LISTED)
        if listed == self._shown:
            return
        self._shown = listed
        say, language = self._visitor.say, self._visitor.language
        self._place.clear()
        with self._place:
            if not listed:
                text("p", say("Nothing was to be sent so far."), "hint")
                return
            titles = [say("When"), say("Rule"), say("Message"), say("What became of it")]
            table = Table(titles, say("Last messages"))
            for one in listed:
                when = language.moment(one.created_utc, self._visitor.now())
                became = say(OUTCOMES.get(one.outcome, one.outcome))
                why = f": {one.error}" if one.error and one.outcome != SENT else ""
                table.row([when, one.rule, one.title, became + why])
