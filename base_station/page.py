"""The ranger's first page: what was heard, where and when, and who is listening.

NiceGUI carries its scripts and fonts in its wheel, so nothing comes from the internet. The page learns of alerts
through the database alone, from whichever process took them. All texts go through the browser's text nodes, so
that what a device sends is never read as HTML.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fastapi import FastAPI
from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement
from starlette.concurrency import run_in_threadpool

from agent import VERSION
from agent.alert import LogMelImage
from agent.errors import StorageError
from base_station import words
from base_station.picture import frequency_marks, time_marks
from base_station.store import AlertEvent, Store
from base_station.words import DeviceWords, Summary

log = logging.getLogger(__name__)

NEWEST = 20
"""Alerts on the page at first, and how many each press of the button adds."""
LOOK_EVERY_S = 1.0
LOOK_ANYWAY = timedelta(seconds=5)
"""What only time changes (`3 min ago`, a device that falls silent) is brought up to date this often."""

_STYLE = Path(__file__).with_name("page.css")
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#16392b"/>'
    '<path d="M16 5 7 20h5l-3 6h14l-3-6h5z" fill="#8fd19e"/></svg>'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What one look into the database brought."""

    marker: int
    events: list[AlertEvent]
    devices: list[DeviceWords]
    pictures: dict[str, LogMelImage]
    """By alert id; only those that the page has not drawn yet."""


def add_page(app: FastAPI, store: Store, now: Callable[[], datetime]) -> None:
    """Put the page at `/` of the application; once in a process, since NiceGUI knows one application.

    Args:
        app: the API, which keeps its own paths.
        store: the database.
        now: station time, UTC.
    """
    style = _STYLE.read_text(encoding="utf-8")

    @ui.page("/", title="Curupira")
    async def first_page() -> None:
        ui.add_css(style)
        ui.context.client.content.classes("station")
        page = _Page(store, now)
        page.build()
        await page.refresh()  # the first picture comes with the page, not after it
        ui.timer(LOOK_EVERY_S, page.refresh, immediate=False)

    ui.run_with(
        app,
        title="Curupira",
        favicon=_ICON,
        dark=None,  # as the browser has it
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
    )


def look(store: Store, now: datetime, *, limit: int, drawn: frozenset[str]) -> View:
    """Return what the page shows.

    Args:
        store: the database.
        now: station time.
        limit: how many alerts.
        drawn: ids of alerts whose pictures are not needed again.
    """
    marker = store.marker()
    events = store.events(limit=limit)
    pictures: dict[str, LogMelImage] = {}
    for event in events:
        if event.alert_id not in drawn and event.log_mel_revision is not None:
            image = store.log_mel(event.alert_id, event.log_mel_revision)
            if image is not None:
                pictures[event.alert_id] = image
    devices = [words.device_words(device, now) for device in store.devices()]
    return View(marker=marker, events=events, devices=devices, pictures=pictures)


class _Page:
    """The page of one browser."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._limit = NEWEST
        self._marker = -1
        self._looked: datetime | None = None
        self._cards: dict[str, _Card] = {}
        self._rows: list[DeviceWords] | None = None
        self._blind = False

    def build(self) -> None:
        """Lay out the page, empty."""
        with Element("header").classes("top"):
            with Element("div").classes("brand"):
                Element("span").classes("leaf")
                _text("span", "Curupira", "name")
            self._clock = _text("span", "", "clock")
        with Element("section").classes("summary") as self._summary:
            self._headline = _text("h1", "…", "headline").props("aria-live=polite")
            self._detail = _text("p", "", "detail")
        with Element("main").classes("columns"):
            with Element("section").classes("alerts"):
                _text("h2", "Alerts", "section")
                self._empty = Element("div").classes("empty")
                self._list = Element("div").classes("list").props("role=list")
                self._older = ui.button("Show older", on_click=self._show_older).classes("older").props("flat no-caps")
            with Element("section").classes("devices"):
                _text("h2", "Devices", "section")
                self._devices = Element("div").classes("rows").props("role=list")
        with Element("footer").classes("foot"):
            _text("span", f"Curupira {VERSION}")
            _text("span", "Times are the station's local time.")

    async def refresh(self) -> None:
        """Look whether something has come; once in a while also without, for what only time changes."""
        now = self._now()
        self._clock.set_text(f"{now.astimezone():%H:%M:%S  %Z}")
        try:
            await self._look(now)
            self._blind = False
        except StorageError as error:
            if not self._blind:
                log.warning("the page shows what it had: %s", error)
            self._blind = True
            self._marker = -1  # when it can be read again, look at once
            self._say(Summary(mood="trouble", headline="The station cannot read its database", detail=str(error)))

    async def _look(self, now: datetime) -> None:
        due = self._looked is None or now - self._looked >= LOOK_ANYWAY
        if not due and await run_in_threadpool(self._store.marker) == self._marker:
            return
        drawn = frozenset(self._cards)
        view = await run_in_threadpool(look, self._store, now, limit=self._limit, drawn=drawn)
        self._marker, self._looked = view.marker, now
        self._show(view, now)

    async def _show_older(self) -> None:
        self._limit += NEWEST
        self._looked = None
        await self.refresh()

    def _show(self, view: View, now: datetime) -> None:
        self._say(words.summary(view.events, view.devices, now))
        self._show_alerts(view, now)
        if view.devices != self._rows:
            self._rows = view.devices
            self._devices.clear()
            with self._devices:
                for device in view.devices:
                    _row(device)
                if not view.devices:
                    _text("p", "None yet.", "hint")
        self._older.set_visibility(len(view.events) >= self._limit)

    def _say(self, summary: Summary) -> None:
        self._summary.classes(replace=f"summary {summary.mood}")
        self._headline.set_text(summary.headline)
        self._detail.set_text(summary.detail)

    def _show_alerts(self, view: View, now: datetime) -> None:
        shown = {event.alert_id for event in view.events}
        for gone in set(self._cards) - shown:
            self._cards.pop(gone).root.delete()
        for place, event in enumerate(view.events):
            card = self._cards.get(event.alert_id)
            if card is None:
                with self._list:
                    card = _Card(event, view.pictures.get(event.alert_id))
                card.root.move(target_index=place)
                self._cards[event.alert_id] = card
            card.update(event, now)
        self._empty.set_visibility(not view.events)
        if not view.events:
            self._empty.clear()
            with self._empty:
                _first_steps(view.devices)


class _Card:
    """One alert."""

    def __init__(self, event: AlertEvent, image: LogMelImage | None) -> None:
        with Element("article").classes(f"card {_kind(event)}").props("role=listitem") as self.root:
            self.root.props["data-alert"] = event.alert_id
            with Element("div").classes("told"):
                if event.drill:
                    _text("p", "Drill – not a real alert", "drill-mark")
                with Element("div").classes("title"):
                    _text("h3", words.label_name(event.label), "label")
                    self._state = _text("span", "", "state")
                _text("p", event.device_id, "where")
                with Element("p").classes("when"):
                    self._time = _text("span", "", "time")
                    self._ago = _text("span", "", "ago")
                self._note = _text("p", "", "note")
                self._measures = _text("p", "", "measures")
                if event.latitude is not None and event.longitude is not None:
                    _text("p", words.place(event.latitude, event.longitude), "place")
            if image is not None:
                _spectrogram(event, image)
            self._clip = Element("audio").classes("clip").props("controls preload=none")
            self._clip.set_visibility(False)

    def update(self, event: AlertEvent, now: datetime) -> None:
        """Write what may have changed; NiceGUI sends only what has."""
        self._state.set_text(words.progress(event))
        if event.has_clip and not self._clip.visible:  # it follows the alert, by a minute or an hour
            self._clip.props["src"] = f"/v1/alerts/{event.alert_id}/clip.wav"
            self._clip.set_visibility(True)
        self._state.classes(add=event.state, remove="closed" if event.state == "open" else "open")
        self._time.set_text(words.local_time(event.onset.utc, now, None))
        self._ago.set_text(words.ago(event.onset.utc, now))
        self._note.set_text(words.onset_note(event, now, None))
        self._measures.set_text(words.measures(event))


def _kind(event: AlertEvent) -> str:
    """Return the class that colours a card; labels come over the wire and only known ones have a colour."""
    colour = event.label if event.label in ("chainsaw", "engine") else "other"
    return f"{colour} drill" if event.drill else colour


def _spectrogram(event: AlertEvent, image: LogMelImage) -> None:
    """Draw the picture with its axes: seconds to the right, kilohertz up."""
    seconds = image.n_frames * image.hop_s
    with Element("figure").classes("spectrogram"):
        with Element("div").classes("frequency").props("aria-hidden=true"):
            _text("span", "kHz", "unit")
            for share, text in frequency_marks(image):
                _text("span", text, "mark").style(f"bottom: {share:.2%}")
        picture = Element("img").classes("picture")
        picture.props["src"] = f"/v1/alerts/{event.alert_id}/log-mel.png?revision={event.log_mel_revision}"
        picture.props["alt"] = (
            f"Spectrogram of the {seconds:.1f} s in which the model heard this, "
            f"{image.mel_min_hz / 1000:g} to {image.mel_max_hz / 1000:g} kHz"
        )
        with Element("div").classes("seconds").props("aria-hidden=true"):
            for share, text in time_marks(image):
                _text("span", text, "mark").style(f"left: {share:.2%}")
            _text("span", "s", "unit")


def _row(device: DeviceWords) -> None:
    """Write one device."""
    with Element("div").classes(f"device {device.condition}").props("role=listitem") as row:
        row.props["data-device"] = device.device_id
        Element("span").classes("dot").props("aria-hidden=true")
        with Element("div").classes("told"):
            with Element("p").classes("line"):
                _text("span", device.device_id, "where")
                _text("span", device.contact, "contact")
            _text("p", device.headline, "condition")
            for trouble in device.troubles:
                _text("p", trouble, "condition")
            if device.facts:
                _text("p", device.facts, "facts")


def _first_steps(devices: list[DeviceWords]) -> None:
    """Say what to do while there is nothing to see."""
    if any(device.condition != "revoked" and device.contact != "never called" for device in devices):
        _text("p", "Nothing has been heard yet.", "lead")
        _text("p", "An alert appears here by itself, within seconds. There is no need to reload.", "hint")
        return
    if devices:
        _text("p", "Waiting for the first call.", "lead")
        _text("p", "Put the key file on the device, name this station in its configuration, and start it:", "hint")
        _text("code", "python -m agent run --config agent.yaml", "command")
        return
    _text("p", "Add a device.", "lead")
    _text("p", "This gives it a name here and writes the key that it signs with:", "hint")
    _text("code", "python -m base_station device add ipe-07", "command")
    _text("p", "If the station was started with --data, name the same folder here.", "hint")


def _text(tag: str, text: str, classes: str = "") -> TextElement:
    """Return an element that holds text and nothing else."""
    element = TextElement(tag=tag, text=text)
    element.classes(classes)
    return element
