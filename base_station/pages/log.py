"""One device's field log: everything that it heard and did, along time."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from nicegui import ui
from nicegui.events import GenericEventArguments
from starlette.concurrency import run_in_threadpool

from agent.errors import StorageError
from agent.redecide import Difference
from base_station import timeline
from base_station.inbox import iso
from base_station.logbook import KeptLog, kept_logs
from base_station.pages import logchart
from base_station.pages.frame import Site, Visitor, ask_for, page
from base_station.pages.language import mark
from base_station.pages.logs import log_path
from base_station.pages.otherrules import GAINED, LOST, OtherRules
from base_station.pages.parts import Table, box, button, empty, link, selection, text
from base_station.pages.takehome import TakeHome
from base_station.timeline import LoggedAlert, Stretch, Timeline

DAYS = (1, 7, 31)
_USUAL_DAYS = 7
_MOST_ROWS = 40
_SHORTEST_S = 30.0
"""Of a span that one can zoom into: some twenty windows."""
_AROUND_S = 150.0
"""Seconds before and behind an alert that is looked at."""


def add_log(site: Site) -> None:
    """Declare `/logs/{device_id}`."""

    @page(site, "/logs/{device_id}", mark("Field log"))
    async def log(visitor: Visitor, device_id: str, days: str = "", until: str = "") -> None:
        ask_for("logs.css")
        link("/logs", visitor.say("Field logs"), "back")
        text("h1", visitor.say("Field log of {device}", device=device_id[:63]))
        found = await run_in_threadpool(kept_logs, site.store, limit=1, device_id=device_id[:63])
        if not found or found[0].first_utc is None:
            empty(
                visitor.say("No log of this device can be shown."),
                visitor.say("Either none was brought in, or nobody knows when it was written."),
            )
            return
        _Log(site, visitor, found[0], _view(found[0], days, until)).build()


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Which part of a log the page is about."""

    since: datetime
    until: datetime
    days: int


def _view(log: KeptLog, days: str, until: str) -> View:
    """Return what the address asks for, or the last week of the log."""
    assert log.last_utc is not None
    n_days = int(days) if days in map(str, DAYS) else _USUAL_DAYS
    end = log.last_utc + timedelta(seconds=1)
    try:
        asked = datetime.fromisoformat(until)
        end = min(end, asked if asked.tzinfo else asked.replace(tzinfo=UTC))
        return View(since=end - timedelta(days=n_days), until=end, days=n_days)
    except (ValueError, OverflowError):
        return View(since=end - timedelta(days=n_days), until=end, days=n_days)


class _Log:
    """The page of one log."""

    def __init__(self, site: Site, visitor: Visitor, log: KeptLog, view: View) -> None:
        self._site, self._visitor, self._log, self._view = site, visitor, log, view
        self._line: Timeline | None = None
        self._wall = logchart.Wall.at(view.until.timestamp())
        self._span = (0.0, 0.0)

    def build(self) -> None:
        """Lay out the page; the log itself is read meanwhile, and drawn when the page is there."""
        say = self._visitor.say
        self._toolbar()
        self._summary = text("p", say("Reading the log …"), "hint")
        self._summary.props["role"] = "status"
        self._reading = asyncio.ensure_future(run_in_threadpool(self._look))
        with box("div", "panel timeline"):
            self._draw_nothing()
        with box("div", "toolbar"):
            button(say("All of it"), lambda: self._go(*self._all()))
            button(say("Zoom in"), lambda: self._scale(0.5))
            button(say("Zoom out"), lambda: self._scale(2.0))
            button(say("Earlier"), lambda: self._move(-0.5))
            button(say("Later"), lambda: self._move(0.5))
            self._shown = text("span", "", "num hint")
            self._shown.props["aria-live"] = "polite"
        self._alerts = _Part(
            say("Alerts"), say("No alert in this time."), (say("When"), say("What"), say("Score"), say("Station"))
        )
        self._stretches = _Part(
            say("What was the matter"),
            say("Nothing was the matter in this time."),
            (say("Since"), say("Lasted"), say("What"), say("Reason")),
        )
        self._other = OtherRules(self._site.store, self._visitor, lambda: self._span, self._changed, self._look_button)
        self._take_home = TakeHome(self._visitor)
        ui.context.client.on_delete(self._other.close)
        ui.timer(0.01, self._read, once=True)

    def _toolbar(self) -> None:
        say, plural, view, log = self._visitor.say, self._visitor.plural, self._view, self._log
        assert log.first_utc is not None
        assert log.last_utc is not None
        choices = {str(days): plural("{count} day", "{count} days", days) for days in DAYS}

        def choose(days: str) -> None:
            ui.navigate.to(self._address(view.until, days))

        with box("div", "toolbar"):
            selection(say("Look at"), choices, str(view.days), choose)
            step = timedelta(days=view.days)
            if log.first_utc < view.since:
                link(self._address(view.since, str(view.days)), say("The days before"), "button")
            if view.until <= log.last_utc:
                link(self._address(view.until + step, str(view.days)), say("The days after"), "button")

    def _address(self, until: datetime, days: str) -> str:
        return f"{log_path(self._log.device_id)}?days={days}&until={iso(until)}"

    def _draw_nothing(self) -> None:
        """Let the browser get ready for the chart while the log is read."""
        self._chart = ui.echart({}, renderer="svg")
        self._chart.style(f"height: {logchart.HEIGHT_PX}px")
        self._chart.props["role"] = "img"
        self._chart.props["aria-label"] = self._visitor.say(
            "The log along time; the tables below say the same in words."
        )
        self._chart.on("chart:datazoom", self._zoomed, ["start", "end", "batch"], throttle=0.25, leading_events=False)

    def _look(self) -> tuple[Timeline, logchart.Options] | None:
        """Read the log; None where it has nothing from these days."""
        view = self._view
        line = timeline.load(self._site.store, self._log.device_id, view.since, view.until)
        return None if line is None else (line, logchart.options(line, self._wall, self._visitor.say))

    async def _read(self) -> None:
        """Draw the log when it is read."""
        say = self._visitor.say
        try:
            found = await self._reading
        except StorageError:
            self._summary.set_text(say("The station cannot read its database. Try again in a while."))
            return
        if found is None:
            self._summary.set_text(say("The log has nothing from these days."))
            return
        line, options = found
        self._line, self._span = line, (line.begin_s, line.end_s)
        self._chart.options.update(options)
        self._chart.update()
        self._summary.set_text(self._words(line))
        self._tell()
        self._other.show(line)
        self._take_home.show(line)

    def _words(self, line: Timeline) -> str:
        say, language = self._visitor.say, self._visitor.language
        missing = sum(not alert.arrived for alert in line.alerts)
        off = [one for one in line.stretches if one.kind == timeline.OFF]
        now = self._visitor.now()
        return say(
            "{begin} to {end}: {windows} windows, {share} seen by the model; {alerts} alerts, {missing} never arrived; "
            "off for {off}.",
            begin=language.moment(_utc(line.begin_s), now),
            end=language.moment(_utc(line.end_s), now),
            windows=language.number(len(line.window_s)),
            share=language.percent(line.n_heard / max(1, len(line.window_s))),
            alerts=language.number(len(line.alerts)),
            missing=language.number(missing),
            off=language.span(sum(one.end_s - one.begin_s for one in off)),
        )

    # Zoom

    def _all(self) -> tuple[float, float]:
        return (0.0, 0.0) if self._line is None else (self._line.begin_s, self._line.end_s)

    def _scale(self, factor: float) -> None:
        begin_s, end_s = self._span
        middle_s, half_s = (begin_s + end_s) / 2, max(factor * (end_s - begin_s), _SHORTEST_S) / 2
        self._go(middle_s - half_s, middle_s + half_s)

    def _move(self, share: float) -> None:
        begin_s, end_s = self._span
        first_s, last_s = self._all()
        by_s = min(max(share * (end_s - begin_s), first_s - begin_s), last_s - end_s)
        self._go(begin_s + by_s, end_s + by_s)

    def _go(self, begin_s: float, end_s: float) -> None:
        """Let the chart show a span; it says so itself, and what belongs to it follows."""
        if self._line is None:
            return
        first_s, last_s = self._all()
        whole_s = max(last_s - first_s, 1e-3)
        start, end = ((max(first_s, min(at_s, last_s)) - first_s) / whole_s * 100 for at_s in (begin_s, end_s))
        self._chart.run_chart_method("dispatchAction", {"type": "dataZoom", "start": start, "end": end})

    async def _zoomed(self, event: GenericEventArguments) -> None:
        """Draw the span finely that somebody looks at now."""
        said = event.args if isinstance(event.args, Mapping) else {}
        batch = said.get("batch")
        said = batch[0] if isinstance(batch, Sequence) and batch and isinstance(batch[0], Mapping) else said
        start, end = said.get("start"), said.get("end")
        if self._line is None or not isinstance(start, int | float) or not isinstance(end, int | float):
            return
        first_s, last_s = self._all()
        shares = [min(max(float(one), 0.0), 100.0) / 100 for one in (start, end)]
        begin_s, end_s = (first_s + share * (last_s - first_s) for share in shares)
        if end_s > begin_s:
            self._span = (begin_s, end_s)
            await self._draw()

    async def _draw(self) -> None:
        line, span = self._line, self._span
        if line is None:
            return
        found = await run_in_threadpool(logchart.lines, line, self._wall, *span)
        if span != self._span:
            return  # somebody has moved on, and that is drawn next
        self._chart.run_chart_method("setOption", {"series": found})
        self._tell()

    def _tell(self) -> None:
        """Say in words what the chart shows."""
        line, span = self._line, self._span
        if line is None:
            return
        begin, end = (self._visitor.language.moment(_utc(at_s), self._visitor.now()) for at_s in span)
        self._shown.set_text(f"{begin} – {end}")
        self._take_home.look_at(*span)
        self._show_alerts([one for one in line.alerts if span[0] <= one.at_s <= span[1]])
        self._show_stretches([one for one in line.stretches if one.end_s >= span[0] and one.begin_s <= span[1]])

    def _changed(self, found: Sequence[Difference]) -> None:
        """Draw the alerts that other rules bring and take."""
        if self._line is None:
            return
        gained, gone = ([one.event for one in found if one.change == change] for change in (GAINED, LOST))
        marks = logchart.changed_marks(gained, gone, self._wall)
        legend = logchart.legend(self._line, self._visitor.say, changed=bool(found))
        self._chart.run_chart_method("setOption", {"series": marks, "legend": {"data": legend}})

    # Tables

    def _show_alerts(self, alerts: Sequence[LoggedAlert]) -> None:
        say, language, now = self._visitor.say, self._visitor.language, self._visitor.now()
        self._alerts.begin(len(alerts), self._more(len(alerts)))
        for alert in alerts[:_MOST_ROWS]:
            station = say("received") if alert.arrived else say("never arrived")
            when = language.moment(_utc(alert.at_s), now)
            self._alerts.table.row(
                [
                    partial(self._look_button, when, alert.at_s, alert.at_s),
                    logchart.label_name(say, alert.label),
                    language.number(alert.score, 2),
                    partial(text, "span", station, "" if alert.arrived else "missing"),
                ]
            )

    def _show_stretches(self, stretches: Sequence[Stretch]) -> None:
        say, language, now = self._visitor.say, self._visitor.language, self._visitor.now()
        alike: dict[tuple[str, str, str], list[Stretch]] = defaultdict(list)
        for one in stretches:
            alike[one.kind, one.what, one.reason].append(one)
        longest = sorted(alike.items(), key=lambda pair: -_lasted_s(pair[1]))[:_MOST_ROWS]
        self._stretches.begin(len(alike), self._more(len(alike)))
        for (kind, what, reason), some in sorted(longest, key=lambda pair: pair[1][0].begin_s):
            when = language.moment(_utc(some[0].begin_s), now)
            name = say(logchart.KINDS[kind])
            times = self._visitor.plural("{count} time", "{count} times", len(some))
            lasted = language.span(_lasted_s(some))
            self._stretches.table.row(
                [
                    partial(self._look_button, when, some[0].begin_s, max(one.end_s for one in some)),
                    lasted if len(some) == 1 else f"{lasted} · {times}",
                    f"{name}: {what}" if what else name,
                    reason or "–",
                ]
            )

    def _more(self, count: int) -> str:
        if count <= _MOST_ROWS:
            return ""
        return self._visitor.say(
            "{shown} of {count} are listed; zoom in to see the others.",
            shown=self._visitor.language.number(_MOST_ROWS),
            count=self._visitor.language.number(count),
        )

    def _look_button(self, when: str, begin_s: float, end_s: float) -> None:
        pressed = button(when, lambda: self._go(begin_s - _AROUND_S, end_s + _AROUND_S), "quiet look")
        pressed.props["aria-label"] = self._visitor.say("Show {when} in the chart", when=when)


def _lasted_s(stretches: Sequence[Stretch]) -> float:
    return sum(one.end_s - one.begin_s for one in stretches)


def _utc(moment_s: float) -> datetime:
    return datetime.fromtimestamp(moment_s, UTC)


class _Part:
    """A table of what is within the span, or a word that there is nothing."""

    def __init__(self, title: str, nothing: str, columns: Sequence[str]) -> None:
        text("h2", title)
        self._nothing = text("p", nothing, "hint")
        self.table = Table(columns, title)
        self._more = text("p", "", "hint")
        self.begin(0, "")

    def begin(self, count: int, more: str) -> None:
        """Take all rows away; `count` will be there, and `more` says what is not listed."""
        self.table.clear()
        self.table.root.set_visibility(count > 0)
        self._nothing.set_visibility(count == 0)
        self._more.set_text(more)
