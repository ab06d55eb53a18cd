"""The lists on a device's page: gaps, conditions, alerts, and what people changed."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from base_station.condition_log import Spell
from base_station.device_past import DevicePast
from base_station.pages.device_charts import kind_of
from base_station.pages.device_words import condition_detail, condition_name, gap_reason
from base_station.pages.frame import Visitor
from base_station.pages.judging import HEARD
from base_station.pages.language import mark
from base_station.pages.parts import Table, box, button, text
from base_station.registry import AuditEntry
from base_station.store import AlertEvent
from base_station.words import label_name

_ACTIONS = {
    "device_added": mark("added it"),
    "key_replaced": mark("gave it a new key"),
    "device_revoked": mark("revoked it"),
    "device_renamed": mark("renamed it"),
    "device_moved": mark("moved it"),
    "journal_taken": mark("brought its journal"),
}
"""Of `registry.AuditEntry`."""


def show_gaps(visitor: Visitor, past: DevicePast, now: datetime) -> None:
    """List when a device did not hear, with the reasons."""
    say, language = visitor.say, visitor.language
    if not past.gaps:
        text("p", say("No gap: it heard all the time."), "hint") if past.points else text("p", "–", "hint")
        return
    table = Table([say("From"), say("Until"), say("For"), say("Why")], say("When it did not hear, and why"))
    table.root.classes("gaps-table")
    for gap in past.gaps:
        end = gap.end_utc
        lasted_s = ((end or now) - gap.begin_utc).total_seconds()
        row = table.row(
            [
                language.moment(gap.begin_utc, now),
                say("goes on") if end is None else language.moment(end, now),
                language.span(lasted_s),
                gap_reason(visitor, gap, now),
            ],
            classes=f"gap {kind_of(gap)}",
        )
        row.props["data-reason"] = gap.reason


def show_conditions(visitor: Visitor, spells: Sequence[Spell], now: datetime, more: Callable[[], Any] | None) -> None:
    """List what was wrong with a device, the latest first and what is alike as one; `more` fetches older ones."""
    say, language = visitor.say, visitor.language
    if not spells:
        text("p", say("Nothing so far."), "hint")
        return
    table = Table([say("What"), say("From"), say("Until"), say("Details")], say("What was wrong"))
    for (name, detail), alike in _alike(visitor, spells).items():
        times = visitor.plural("{count} time", "{count} times", len(alike))
        table.row(
            [
                name if len(alike) == 1 else f"{name} · {times}",
                language.moment(min(spell.begin_utc for spell in alike), now),
                _end(visitor, alike, now),
                detail,
            ]
        )
    if more is not None:
        button(say("Show older"), more)


def _alike(visitor: Visitor, spells: Sequence[Spell]) -> Mapping[tuple[str, str], list[Spell]]:
    """Return spells by what is said of them, in the order of the latest of each."""
    found: dict[tuple[str, str], list[Spell]] = defaultdict(list)
    for spell in spells:
        detail = condition_detail(visitor.language, spell.name, spell.detail)
        found[condition_name(visitor.language, spell.name), detail].append(spell)
    return found


def _end(visitor: Visitor, alike: Sequence[Spell], now: datetime) -> str:
    ends = [spell.end_utc for spell in alike if spell.end_utc is not None]
    return visitor.say("goes on") if len(ends) < len(alike) else visitor.language.moment(max(ends), now)


def show_alerts(visitor: Visitor, events: Sequence[AlertEvent], now: datetime) -> None:
    """List a device's last alerts; each leads to its incident."""
    say, language = visitor.say, visitor.language
    if not events:
        text("p", say("It has not reported anything."), "hint")
        return
    table = Table([say("When"), say("Heard"), say("Score")], say("Last alerts"))
    for event in events:
        name = say(HEARD[event.label]) if event.label in HEARD else label_name(event.label)
        table.row(
            [
                language.moment(event.onset.utc, now),
                say("{label} (drill)", label=name) if event.drill else name,
                language.number(event.score, 2),
            ],
            href=f"/incidents/{event.alert_id}",
        )


def show_changes(visitor: Visitor, entries: Sequence[AuditEntry], now: datetime) -> None:
    """List what people changed about a device, the latest first."""
    say, language = visitor.say, visitor.language
    if not entries:
        text("p", say("Nobody changed anything."), "hint")
        return
    with box("ul", "changes-list"):
        for entry in entries:
            with box("li"):
                text("span", language.moment(entry.at_utc, now), "hint num")
                text("span", entry.who, "strong")
                action = say(_ACTIONS[entry.action]) if entry.action in _ACTIONS else entry.action.replace("_", " ")
                text("span", action)
                text("span", _change(entry), "hint")


def _change(entry: AuditEntry) -> str:
    """Return what became what, where the entry says it."""
    before, after = entry.detail.get("before"), entry.detail.get("after")
    if before is None and after is None:
        return ""
    return f"{_short(before)} → {_short(after)}"


def _short(value: object) -> str:
    if isinstance(value, dict):
        numbers = [part for part in (value.get("latitude"), value.get("longitude")) if isinstance(part, (int, float))]
        return ", ".join(f"{part:.5f}" for part in numbers) or "–"
    return str(value or "–")[:100]
