"""The parts of an incident's page: what is seen and heard, its verdict, who heard it when, how devices were then."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from starlette.concurrency import run_in_threadpool

from base_station.dossier import Dossier, Then
from base_station.pages.device_words import condition_detail, condition_name
from base_station.pages.devices import device_path
from base_station.pages.frame import Visitor
from base_station.pages.judging import HEARD, heard_name, keep_verdict, verdict_on
from base_station.pages.parts import Table, Typed, box, button, link, text
from base_station.pages.spectrogram import evidence
from base_station.pages.telling import measures, onset_note
from base_station.store import AlertEvent
from base_station.verdicts import Verdicts

MOST_NOTE = 500
_MOST_STRIPS = 30
_LEAST_BAR = 0.015
"""Share of the strip: what is shorter could not be seen."""


class Evidence:
    """One alert of the incident: picture, sound, and what people hear in it; another one is a press away."""

    def __init__(self, visitor: Visitor, found: Dossier) -> None:
        """Lay it out."""
        self._visitor, self._found = visitor, found
        self._verdicts = Verdicts(visitor.site.store)
        self._chosen = found.best.alert_id
        self._drawn: tuple[object, ...] = ()
        say = visitor.say
        self._picks = box("div", "picks")
        self._picks.props["role"] = "group"
        self._picks.props["aria-label"] = say("Alerts of this incident")
        self._stage = box("div", "stage")
        text("h2", say("What do you hear?"))
        with box("div", "choices"):
            self._choices = {
                heard: button(say(name), partial(self._judge, heard), "choice") for heard, name in HEARD.items()
            }
        with box("div", "said"):
            self._said = text("p", "", "num")
            self._said.props["aria-live"] = "polite"
            self._note = Typed(say("Note with the verdict"), MOST_NOTE)

    @property
    def _event(self) -> AlertEvent:
        events = {event.alert_id: event for event in self._found.events}
        return events.get(self._chosen, self._found.best)

    def update(self, found: Dossier) -> None:
        """Show what is new; what somebody listens to stays."""
        self._found = found
        event = self._event
        self._show_picks()
        drawn = (event.alert_id, event.log_mel_revision, event.has_clip)
        if drawn != self._drawn:
            self._drawn = drawn
            self._stage.clear()
            with self._stage:
                self._draw(event)
        verdict = found.verdicts.get(event.alert_id)
        for heard, choice in self._choices.items():
            choice.props["aria-pressed"] = "true" if verdict is not None and verdict.heard == heard else "false"
            choice.update()
        self.tell_time(self._visitor.now())

    def tell_time(self, now: datetime) -> None:
        """Say who judged it, and how long ago."""
        verdict, language = self._found.verdicts.get(self._event.alert_id), self._visitor.language
        if verdict is None:
            self._said.set_text(self._visitor.say("Nobody has judged this alert yet."))
            return
        said = f"{verdict.judge}: {heard_name(language, verdict)} · {language.ago(verdict.at_utc, now)}"
        self._said.set_text(f"{said} · {verdict.note}" if verdict.note else said)

    def _show_picks(self) -> None:
        events, chosen = self._found.shown, self._event.alert_id
        self._picks.set_visibility(len(events) > 1)
        self._picks.clear()
        with self._picks:
            for event in events:
                name = f"{event.device_id} {self._visitor.language.time(event.onset.utc)}"
                pick = button(name, partial(self._pick, event.alert_id), "pick")
                pick.props["aria-pressed"] = "true" if event.alert_id == chosen else "false"

    def _pick(self, alert_id: str) -> None:
        self._chosen = alert_id
        self.update(self._found)

    def _draw(self, event: AlertEvent) -> None:
        language = self._visitor.language
        text("p", f"{event.device_id} · {measures(language, event)}", "where num")
        note = onset_note(language, event, self._visitor.now())
        if note:
            text("p", note, "hint")
        evidence(self._visitor, event, self._found.pictures.get(event.alert_id))

    async def _judge(self, heard: str) -> None:
        if not await self._visitor.may():
            return
        event = self._event
        verdict, note = verdict_on(event.label, heard), self._note.text
        if await keep_verdict(self._visitor, event.alert_id, verdict, heard, chosen="other", note=note):
            self._note.clear()
            said = await run_in_threadpool(self._verdicts.among, [event.alert_id])
            self.update(replace(self._found, verdicts={**self._found.verdicts, **said}))


def strips(visitor: Visitor, found: Dossier) -> None:
    """Draw when each device heard it: a bar for each alert, from its begin to its end."""
    first, last = found.incident.first_utc, found.incident.last_utc
    whole_s = max((last - first).total_seconds(), 1.0)
    by_device: dict[str, list[AlertEvent]] = defaultdict(list)
    for event in found.events:
        by_device[event.device_id].append(event)
    colour = found.incident.label if found.incident.label in ("chainsaw", "engine") else "other"
    with box("ol", f"strips {colour}"):
        for device_id, events in list(by_device.items())[:_MOST_STRIPS]:
            with box("li", "strip"):
                text("span", device_id, "where")
                with box("span", "track", aria_hidden="true"):
                    for event in events:
                        begin = (event.onset.utc - first).total_seconds() / whole_s
                        share = max(event.lasted_s / whole_s, _LEAST_BAR)
                        left = min(max(begin, 0.0), 1.0 - _LEAST_BAR)
                        box("span", f"bar {event.state}").style(f"left: {left:.2%}; width: {min(share, 1 - left):.2%}")
                text("span", _when(visitor, events), "num hint")
    more = len(by_device) - _MOST_STRIPS
    if more > 0:
        text("p", visitor.language.plural("and {count} more device", "and {count} more devices", more), "hint")


def _when(visitor: Visitor, events: Sequence[AlertEvent]) -> str:
    """Return from when to when one device heard it, and in how many alerts."""
    end = max(event.onset.utc + timedelta(seconds=event.lasted_s) for event in events)
    span = f"{visitor.language.time(events[0].onset.utc)} – {visitor.language.time(end)}"
    if len(events) == 1:
        return span
    return f"{span} · {visitor.language.plural('{count} alert', '{count} alerts', len(events))}"


def devices_then(visitor: Visitor, devices: Sequence[Then]) -> None:
    """Write how the devices were that heard it."""
    say = visitor.say
    titles = [say("Device"), say("Level"), say("Battery"), say("Temperature"), say("Conditions")]
    table = Table(titles, say("The devices then"))
    for then in devices:
        table.row([then.device_id, *_state(visitor, then)], href=device_path(then.device_id))


def neighbours(visitor: Visitor, found: Dossier) -> None:
    """Write which devices near by told of nothing, and whether that says anything."""
    say, language = visitor.say, visitor.language
    text("h3", say("Near by, and heard nothing"))
    if not found.neighbours:
        text("p", say("No other device hangs within hearing."), "hint")
        return
    with box("ul", "near"):
        for one in found.neighbours:
            wrong = _wrong(visitor, one.then)
            if not one.called:
                wrong = say("had not called: says nothing") + (f" · {wrong}" if wrong else "")
            with box("li"):
                link(device_path(one.then.device_id), one.then.device_id, "strong")
                text("span", say("{metres} m", metres=language.number(round(one.distance_m, -1))), "num")
                text("span", wrong or say("was listening"), "hint")


def _state(visitor: Visitor, then: Then) -> list[str]:
    """Return level, battery, temperature and conditions of a device at that time."""
    language = visitor.language
    battery = then.battery
    charge = "–" if battery is None or battery.percent is None else language.percent(battery.percent / 100)
    if battery is not None and battery.charging and battery.percent is not None:
        charge = visitor.say("{charge}, charging", charge=charge)
    heat = "–" if battery is None or battery.temperature_c is None else f"{language.number(battery.temperature_c)} °C"
    level = "–" if then.level_dbfs is None else f"{language.number(then.level_dbfs, 1)} dBFS"
    return [level, charge, heat, _wrong(visitor, then) or visitor.say("none")]


def _wrong(visitor: Visitor, then: Then) -> str:
    said = []
    for spell in then.conditions:
        name, detail = condition_name(visitor.language, spell.name), ""
        if spell.name in ("deaf", "faulty", "hot", "low_battery"):
            detail = condition_detail(visitor.language, spell.name, spell.detail)
        said.append(f"{name} ({detail})" if detail else name)
    return " · ".join(dict.fromkeys(said))
