"""`/reports`: what was heard by day, hour and area, and how much was listened at all; for the screen and for paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool

from agent.errors import FieldError
from base_station import tallies
from base_station.notices import Area
from base_station.pages.colours import LABEL_COLOURS, SERIES, colour_of
from base_station.pages.devices import device_path
from base_station.pages.diagrams import share_line, stacked_bars
from base_station.pages.frame import Site, Visitor, ask_for, page
from base_station.pages.language import mark
from base_station.pages.parts import Table, box, empty, icon, link, selection, text
from base_station.pages.shares import precision_bar
from base_station.reports import Asked, PlaceRow, Report, Span, month_of, report
from base_station.words import label_name, place

SPANS = {
    "7": mark("Last 7 days"),
    "30": mark("Last 30 days"),
    "90": mark("Last 90 days"),
    "month": mark("This month"),
    "before": mark("Last month"),
    "own": mark("Own dates"),
}
"""What can be chosen, as it stands in the address."""
MOST_ROWS = 15
"""Areas and devices that are listed; the rest is in the table to download."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What the address of the page asks for."""

    kind: str
    span: Span
    label: str
    wrong: bool = False
    """Whether the dates were none, and others are shown."""


def add_reports(site: Site) -> None:
    """Add the page."""

    @page(site, "/reports", mark("Reports"))
    async def reports(visitor: Visitor, span: str = "30", first: str = "", last: str = "", label: str = "") -> None:
        ask_for("diagrams.css", "reports.css")
        wish = wish_of(span, first, last, label, visitor.now().astimezone().date())
        shown = _Page(site, visitor, wish)
        await shown.build()
        await visitor.live(shown.fill)


def wish_of(kind: str, first: str, last: str, label: str, today: date) -> Wish:
    """Return what an address asks for, whatever somebody wrote there.

    Args:
        kind: one of SPANS; of others the usual one is shown.
        first: day of own dates, `2026-11-01`.
        last: day, the last one that counts.
        label: only this one; empty is all.
        today: the station's.
    """
    label = label if label.isascii() and label.isidentifier() and len(label) <= 32 else ""
    if kind in ("7", "30", "90"):
        return Wish(kind=kind, span=Span(today - _DAY * (int(kind) - 1), today), label=label)
    if kind == "month":
        return Wish(kind=kind, span=Span(today.replace(day=1), today), label=label)
    if kind == "before":
        return Wish(kind=kind, span=month_of(today.replace(day=1) - _DAY), label=label)
    if kind == "own":
        try:
            own = Span(date.fromisoformat(first), min(date.fromisoformat(last), today))
            return Wish(kind=kind, span=own, label=label)
        except (ValueError, FieldError):
            return Wish(kind=kind, span=Span(today - _DAY * 29, today), label=label, wrong=True)
    return Wish(kind="30", span=Span(today - _DAY * 29, today), label=label)


class _Page:
    """One report on one screen."""

    def __init__(self, site: Site, visitor: Visitor, wish: Wish) -> None:
        self._site, self._visitor, self._wish = site, visitor, wish
        self._is_filled = False

    async def build(self) -> None:
        """Lay out what does not wait for figures."""
        say = self._visitor.say
        with box("div", "report"):
            text("h1", say("Report"))
            with box("form", "toolbar", method="get", action="/reports"):
                self._choices()
            if self._wish.wrong:
                trouble = text("p", "", "banner trouble")
                trouble.props["role"] = "alert"
                trouble.set_text(say("These dates are no span of at most 366 days; the last 30 days are shown."))
            self._head = text("p", "", "span")
            self._body = box("div", "body")

    def _choices(self) -> None:
        say, wish = self._visitor.say, self._wish
        selection(say("Time"), {kind: say(name) for kind, name in SPANS.items()}, wish.kind).props["name"] = "span"
        for name, label, day in (("first", say("From"), wish.span.first), ("last", say("To"), wish.span.last)):
            with box("label", "field own"):
                text("span", label)
                box("input", "", type="date", name=name).props["defaultValue"] = day.isoformat()
        self._labels = box("div")
        with box("button", "button main", type="submit"):
            text("span", say("Show"))
        with box("button", "button", type="button") as printing:
            icon("print")
            text("span", say("Print"))
        printing.on("click", js_handler="() => window.print()")

    async def fill(self) -> None:
        """Fill in the figures, once: a report is of one moment."""
        if self._is_filled:
            return
        made, known = await run_in_threadpool(self._look)
        self._is_filled = True
        say, language = self._visitor.say, self._visitor.language
        with self._labels:
            names = {"": say("All sounds")} | {label: say(label_name(label)) for label in known}
            selection(say("Sound"), names, self._wish.label).props["name"] = "label"
        span = made.span
        days = f"{language.day(span.first)} – {language.day(span.last)}"
        what = say(label_name(self._wish.label)) if self._wish.label else say("all sounds")
        now = self._visitor.now().astimezone()
        at = f"{language.day(now.date())} {now:%H:%M}"
        self._head.set_text(say("{days} · {what} · without drills · as of {at}", days=days, what=what, at=at))
        with self._body:
            _Sheet(self._visitor, made, self._wish).lay()

    def _look(self) -> tuple[Report, list[str]]:
        site, wish = self._site, self._wish
        asked = Asked(span=wish.span, label=wish.label, areas=named_areas(site), rules=site.told.rules)
        known = {label for label, drill in tallies.counts(site.store.database) if not drill}
        return report(site.store, asked, self._visitor.now()), sorted(known | ({wish.label} - {""}))


def named_areas(site: Site) -> Mapping[str, Area]:
    """Return the areas that rules are about, by the rule's name."""
    ways = site.choices.joined(site.told).ways
    return {way.rule.name: way.rule.area for way in ways if way.rule.area is not None}


class _Sheet:
    """Everything under the head of a report."""

    def __init__(self, visitor: Visitor, made: Report, wish: Wish) -> None:
        self._visitor, self._made, self._wish = visitor, made, wish
        self.say, self._language = visitor.say, visitor.language
        others = [label for label in made.labels if label not in LABEL_COLOURS]
        self._colours = {label: colour_of(label, others) for label in made.labels}

    def lay(self) -> None:
        """Lay it out."""
        if self._made.behind:
            count = self._visitor.plural(
                "{count} alert is not counted yet. Look again in a few minutes.",
                "{count} alerts are not counted yet. Look again in a few minutes.",
                self._made.behind,
            )
            text("p", count, "banner trouble")
        self._figures()
        if self._made.labels:
            self._charts()
        else:
            empty(
                self.say("Nothing was heard in these days."),
                self.say("Whether anybody listened is below. Another time can be chosen above."),
            )
        self._listening()
        if self._made.labels:
            with box("div", "pair"):
                self._places(self.say("Areas"), self._made.areas, by_area=True)
                self._places(self.say("Devices"), self._made.devices, by_area=False)
        self._verdicts()
        self._days()

    def _figures(self) -> None:
        say, made, language = self.say, self._made, self._language
        with box("dl", "figures"):
            for label in made.labels:
                self._figure(say(label_name(label)), language.number(made.total(label)), say("alerts"))
            if made.incidents is not None:
                n_known = sum(row.incidents is not None for row in made.days)
                told = (
                    say("alerts of neighbouring devices and times as one")
                    if n_known == len(made.days)
                    else say("known of {known} of {days} days", known=n_known, days=len(made.days))
                )
                self._figure(say("Incidents"), language.number(made.incidents), told)
            share = made.share
            hours = sum(row.listened_h or 0.0 for row in made.days)
            known = sum(row.share is not None for row in made.days)
            told = say(
                "{hours} device-hours, known of {known} of {days} days",
                hours=language.number(hours),
                known=language.number(known),
                days=language.number(len(made.days)),
            )
            self._figure(say("Listened"), "–" if share is None else language.percent(share), told)
            if made.response is not None:
                slow = say("nine in ten within {span}", span=language.span(made.response.slow_s))
                self._figure(say("Until somebody looked"), language.span(made.response.middle_s), slow)

    def _figure(self, name: str, value: str, note: str) -> None:
        with box("div", "figure"):
            text("dt", name)
            text("dd", value, "num value")
            text("dd", note, "hint num")

    def _charts(self) -> None:
        say, made = self.say, self._made
        names = {label: say(label_name(label)) for label in made.labels}
        days = [self._language.day(row.day, "MMMd") for row in made.days]
        per_day = {
            names[label]: (self._colours[label], [row.alerts.get(label, 0) for row in made.days])
            for label in made.labels
        }
        total = self._language.number(sum(made.total(label) for label in made.labels))
        most = max(made.days, key=lambda row: sum(row.alerts.values()))
        told = say("{count} alerts, most of them on {day}", count=total, day=self._language.day(most.day))
        self._incidents(days)
        with box("section", "panel"):
            stacked_bars(say("Alerts by day"), told, days, per_day)
        hours = [f"{hour:02d}" for hour in range(24)]
        per_hour = {names[label]: (self._colours[label], made.hours[label]) for label in made.labels}
        loudest = max(range(24), key=lambda hour: sum(counts[hour] for counts in made.hours.values()))
        told = say("Most alerts began between {begin}:00 and {begin}:59", begin=f"{loudest:02d}")
        with box("section", "panel"):
            stacked_bars(say("Alerts by hour of the day"), told, hours, per_hour)

    def _incidents(self, days: Sequence[str]) -> None:
        """Draw how many incidents began on each day, in the whole forest."""
        say, made = self.say, self._made
        if made.incidents is None:
            return
        most = max(made.days, key=lambda row: row.incidents or 0)
        told = self._visitor.plural(
            "{count} incident, most of them on {day}",
            "{count} incidents, most of them on {day}",
            made.incidents,
            day=self._language.day(most.day),
        )
        with box("section", "panel"):
            counts = [row.incidents for row in made.days]
            stacked_bars(say("Incidents by day"), told, days, {say("Incidents"): (SERIES[0], counts)})
            if None in counts:
                text("p", say("Some of these days are not counted yet, or their alerts are not here any more."), "hint")

    def _listening(self) -> None:
        say, made = self.say, self._made
        known = [row for row in made.days if row.share is not None]
        with box("section", "panel"):
            if not known:
                text("h2", say("How much was listened"), "section")
                text("p", say("Nobody knows how much was listened in these days."), "hint")
                return
            worst = min(known, key=lambda row: row.share or 0.0)
            told = say(
                "least on {day}: {share}",
                day=self._language.day(worst.day),
                share=self._language.percent(worst.share or 0),
            )
            days = [self._language.day(row.day, "MMMd") for row in made.days]
            title = say("How much was listened, % of all device-hours")
            share_line(title, told, days, [row.share for row in made.days], " %")
            note = say(
                "A device listened in an hour in which it called and was not deaf. What is missing here was not heard, "
                "whatever happened."
            )
            text("p", note, "hint")

    def _places(self, title: str, rows: Sequence[PlaceRow], *, by_area: bool) -> None:
        say, number = self.say, self._language.number
        labels = self._made.labels
        with box("section", "places"):
            text("h2", title)
            second = [say("Devices")] if by_area else []
            table = Table([say("Area") if by_area else say("Device"), *second, *map(self._name, labels)], title)
            for row in rows[:MOST_ROWS]:
                told = [number(row.n_devices)] if by_area else []
                counts = [number(row.alerts.get(label, 0)) for label in labels]
                path = "" if by_area else device_path(row.name)
                table.row([self._place(row), *told, *counts], href=path, classes="num")
            if len(rows) > MOST_ROWS:
                rest = sum(row.total for row in rows[MOST_ROWS:])
                more = say(
                    "{count} more with {alerts} alerts", count=number(len(rows) - MOST_ROWS), alerts=number(rest)
                )
                text("p", more, "hint")

    def _name(self, label: str) -> str:
        return self.say(label_name(label))

    def _place(self, row: PlaceRow) -> str:
        if row.name:
            return row.name
        if row.place is None:
            return self.say("without a place")
        return self.say("around {place}", place=place(row.place.latitude, row.place.longitude, digits=2))

    def _verdicts(self) -> None:
        say, made = self.say, self._made
        with box("section", "verdicts"):
            text("h2", say("How often alerts were right"))
            rows = made.measured or made.judged
            if not rows:
                text("p", say("Nobody judged an alert of these days yet."), "hint")
                link("/review", say("Judge alerts"), "strong")
                return
            with box("div", "panel told-by-verdicts"):
                for row in rows:
                    precision_bar(self._visitor, row)
                note = (
                    say("Alerts at random speak for all alerts.")
                    if made.measured
                    else say("Doubtful alerts are wrong more often than others: only those at random speak for all.")
                )
                text("p", note, "hint")

    def _days(self) -> None:
        say, made, language = self.say, self._made, self._language
        with box("details", "all-days"):
            text("summary", say("All days as a table"))
            titles = [
                say("Day"),
                *map(self._name, made.labels),
                say("Incidents"),
                say("Device-hours listened"),
                say("Share"),
            ]
            table = Table(titles, say("All days as a table"))
            for row in made.days:
                counts = [language.number(row.alerts.get(label, 0)) for label in made.labels]
                incidents = "–" if row.incidents is None else language.number(row.incidents)
                hours = "–" if row.listened_h is None else language.number(row.listened_h)
                share = "–" if row.share is None else language.percent(row.share)
                table.row([language.day(row.day), *counts, incidents, hours, share], classes="num")
        query = {"first": made.span.first.isoformat(), "last": made.span.last.isoformat()}
        query |= {"label": self._wish.label} if self._wish.label else {}
        with box("p", "downloads"):
            for name, title in (("days", say("Days as CSV")), ("devices", say("Devices as CSV"))):
                link(f"/v1/export/report/{name}.csv?{urlencode(query)}", title, "button").props["download"] = ""
