"""Part of a field log's page: what of it can be taken along, and what is honestly in it."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from nicegui.element import Element

from base_station.inbox import iso
from base_station.pages.frame import Visitor
from base_station.pages.logchart import label_name
from base_station.pages.parts import box, icon, selection, text
from base_station.timeline import Timeline

_EVERY = ""


class TakeHome:
    """Links to downloads of the span that is looked at."""

    def __init__(self, visitor: Visitor) -> None:
        """Lay it out, empty until there is a log."""
        self._visitor = visitor
        self._span = (0.0, 1.0)
        self._line: Timeline | None = None
        self._label = _EVERY
        text("h2", visitor.say("Take it along"))
        self._part = box("div")

    def show(self, line: Timeline) -> None:
        """Offer what there is of a log."""
        self._line = line
        say = self._visitor.say
        choices = {_EVERY: say("All windows")}
        for label, rule in line.rules.items():
            name, threshold = label_name(say, label), self._visitor.language.number(rule["threshold"], 2)
            choices[label] = say("{label} from {threshold}", label=name, threshold=threshold)
        with self._part:
            with box("div", "toolbar"):
                selection(say("Windows"), choices, _EVERY, self._choose)
                self._windows = _download(say("Windows, CSV"))
                self._judged = _download(say("Judged alerts, for training"))
            text(
                "p",
                say(
                    "Both are of the time shown above. A log holds scores, not sound: the table of windows is for "
                    "choosing thresholds, and for knowing when to listen. Training learns from sound: the judged "
                    "alerts are those that somebody reviewed, with the sound of those that sent some; of the others "
                    "it has the picture."
                ),
                "hint",
            )
        self.look_at(line.begin_s, line.end_s)

    def look_at(self, begin_s: float, end_s: float) -> None:
        """Take the span that is looked at now."""
        self._span = (begin_s, end_s)
        self._link()

    def _choose(self, label: str) -> None:
        self._label = label if self._line is not None and label in self._line.rules else _EVERY
        self._link()

    def _link(self) -> None:
        line = self._line
        if line is None:
            return
        since, until = (iso(datetime.fromtimestamp(at_s, UTC)) for at_s in self._span)
        span = {"device": line.device_id, "since": since, "until": until}
        only = {"label": self._label, "at_least": line.rules[self._label]["threshold"]} if self._label else {}
        self._windows.props["href"] = f"/v1/export/windows.csv?{urlencode({**span, **only})}"
        self._judged.props["href"] = f"/v1/export/labels.zip?{urlencode(span)}"


def _download(words: str) -> Element:
    with box("a", "button", download="") as element:
        icon("download")
        text("span", words)
    return element
