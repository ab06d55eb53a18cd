"""Part of a field log's page: other rules, and which alerts there would have been with them."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from starlette.concurrency import run_in_threadpool

from agent.errors import FieldError
from agent.redecide import Comparison, Difference
from base_station.pages.frame import Visitor
from base_station.pages.language import mark
from base_station.pages.logchart import label_name
from base_station.pages.parts import Table, box, button, text
from base_station.redeciding import StoppedError, redecided
from base_station.store import Store
from base_station.timeline import Timeline

FIELDS = {
    "threshold": (mark("Threshold"), "0.01", "0.99", "0.01"),
    "hits": (mark("Hits"), "1", "100", "1"),
    "of": (mark("of windows"), "1", "100", "1"),
    "steady": (mark("Or mean"), "0.05", "1", "0.01"),
    "steady_of": (mark("over windows"), "1", "100", "1"),
}
"""What one may try, with least, greatest and step; the others stay as they were."""
KEPT, GAINED, LOST = "kept", "gained", "lost"
_WHOLE = ("hits", "of", "steady_of")
_MOST_ROWS = 40
_TURN = asyncio.Semaphore(1)
"""It takes a core for seconds: one at a time, whoever asks."""

Changed = Callable[[Sequence[Difference]], None]


class OtherRules:
    """The form, and what came of it."""

    def __init__(
        self,
        store: Store,
        visitor: Visitor,
        span: Callable[[], tuple[float, float]],
        on_changed: Changed,
        look: Callable[[str, float, float], None],
    ) -> None:
        """Lay it out, empty until there is a log.

        Args:
            store: the database.
            visitor: who has the page open.
            span: returns begin and end of what is looked at, seconds since 1970.
            on_changed: told which alerts are new and gone.
            look: adds a button that shows a time in the chart.
        """
        self._store, self._visitor = store, visitor
        self._span, self._on_changed, self._look = span, on_changed, look
        self._line: Timeline | None = None
        self._asked: dict[tuple[str, str], str] = {}
        self._stop = threading.Event()
        say = visitor.say
        text("h2", say("Decide again"))
        text(
            "p",
            say(
                "With other rules, which alerts would there have been in the time shown above? The device's own "
                "decider says so from the scores in its log; what the gate kept from the model stays unheard."
            ),
            "hint",
        )
        self._form = box("div", "rules")
        with box("div", "toolbar"):
            self._button = button(say("Decide again"), self._decide, "main")
            button(say("The log's own rules"), self._reset)
        self._said = text("p", "", "")
        self._said.props["role"] = "status"
        self._rows = Table((say("When"), say("What"), say("Score"), say("Change")), say("Changed alerts"))
        self._rows.root.set_visibility(False)

    def show(self, line: Timeline) -> None:
        """Offer the rules of a log."""
        self._line = line
        self._reset()

    def close(self) -> None:
        """Stop what is under way; nobody looks any more."""
        self._stop.set()

    def _reset(self) -> None:
        """Put the log's own rules back."""
        self._asked.clear()
        self._form.clear()
        if self._line is None:
            return
        with self._form:
            for label, rule in self._line.rules.items():
                with box("fieldset"):
                    text("legend", label_name(self._visitor.say, label))
                    for name in FIELDS:
                        self._field(label, name, rule.get(name, 1.0))
        self._clear("")

    def _field(self, label: str, name: str, value: float) -> None:
        title, least, most, step = FIELDS[name]
        with box("label", "field"):
            text("span", self._visitor.say(title))
            element = box("input", "", type="number", min=least, max=most, step=step)
        element.props["^value"] = f"{value:g}"  # the attribute: the property would be set anew while somebody types
        element.props["inputmode"] = "decimal"
        element.on(
            "change", lambda event: self._ask(label, name, str(event.args)), js_handler="(e) => emit(e.target.value)"
        )

    def _ask(self, label: str, name: str, value: str) -> None:
        self._asked[label, name] = value[:20]

    def _changes(self) -> dict[str, dict[str, object]]:
        """Return what differs from the log's own rules.

        Raises:
            FieldError: something is no number.
        """
        assert self._line is not None
        changes: dict[str, dict[str, object]] = {}
        for (label, name), asked in self._asked.items():
            try:
                value = float(asked)
            except ValueError as error:
                raise FieldError(f"{label}.{name}", f"is {asked!r}, expected a number") from error
            if name in _WHOLE and value.is_integer():
                value = int(value)
            if value != self._line.rules[label].get(name):
                changes.setdefault(label, {})[name] = value
        return changes

    async def _decide(self) -> None:
        """Decide the time shown again."""
        say, line = self._visitor.say, self._line
        if line is None:
            return
        self._stop.set()  # of an answer that is still under way this one takes the place
        stop = self._stop = threading.Event()
        self._clear(say("Deciding …"))
        since, until = (datetime.fromtimestamp(at_s, UTC) for at_s in self._span())
        try:
            changes = self._changes()
            async with _TURN:
                found = await run_in_threadpool(redecided, self._store, line.device_id, since, until, changes, stop)
        except FieldError as error:
            self._clear(str(error))
            return
        except StoppedError:
            return
        if stop is self._stop:
            self._show(found)

    def _clear(self, said: str) -> None:
        self._said.set_text(said)
        self._rows.root.set_visibility(False)
        self._on_changed([])

    def _show(self, found: Comparison) -> None:
        say, number = self._visitor.say, self._visitor.language.number
        count = {change: sum(one.change == change for one in found.differences) for change in (KEPT, GAINED, LOST)}
        self._said.set_text(
            say(
                "{gained} new, {lost} gone, {kept} as before. Of {windows} windows the gate kept {unheard} from the "
                "model.",
                gained=number(count[GAINED]),
                lost=number(count[LOST]),
                kept=number(count[KEPT]),
                windows=number(found.windows),
                unheard=number(found.unheard),
            )
        )
        changed = [one for one in found.differences if one.change != KEPT]
        self._on_changed(changed)
        self._rows.clear()
        self._rows.root.set_visibility(bool(changed))
        now = self._visitor.now()
        for one in changed[:_MOST_ROWS]:
            event, at_s = one.event, one.event.utc.timestamp()
            when = self._visitor.language.moment(event.utc, now)
            word = say("new") if one.change == GAINED else say("gone")
            self._rows.row(
                [
                    partial(self._look, when, at_s, at_s),
                    label_name(say, event.label),
                    self._visitor.language.number(event.score, 2),
                    partial(text, "span", word, f"change {one.change}"),
                ]
            )
