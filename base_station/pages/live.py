"""What was heard, where and when, and who is listening: the first page."""

from dataclasses import dataclass
from datetime import datetime

from nicegui import ui
from nicegui.element import Element
from starlette.concurrency import run_in_threadpool

from agent.alert import LogMelImage
from base_station import words
from base_station.pages.frame import Site, Visitor, page
from base_station.pages.language import mark
from base_station.pages.parts import text as _text
from base_station.pages.spectrogram import spectrogram
from base_station.store import AlertEvent, Store
from base_station.words import DeviceWords, Summary

NEWEST = 20
"""Alerts on the page at first, and how many each press of the button adds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What one look into the database brought."""

    marker: int
    events: list[AlertEvent]
    devices: list[DeviceWords]
    pictures: dict[str, LogMelImage]
    """By alert id; only those that the page has not drawn yet."""


def add_live(site: Site) -> None:
    """Add the page."""

    @page(site, "/", mark("Now"))
    async def now(visitor: Visitor) -> None:
        shown = _Page(site.store, visitor)
        shown.build()
        await visitor.live(shown.refresh)


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

    def __init__(self, store: Store, visitor: Visitor) -> None:
        self._store = store
        self._visitor = visitor
        self._limit = NEWEST
        self._cards: dict[str, _Card] = {}
        self._rows: list[DeviceWords] | None = None

    def build(self) -> None:
        """Lay out the page, empty."""
        with Element("section").classes("summary") as self._summary:
            self._headline = _text("h1", "…", "headline").props("aria-live=polite")
            self._detail = _text("p", "", "detail")
        with Element("div").classes("columns"):
            with Element("section").classes("alerts"):
                _text("h2", "Alerts", "section")
                self._empty = Element("div").classes("empty")
                self._list = Element("div").classes("list")
                self._older = ui.button("Show older", on_click=self._show_older).classes("older").props("flat no-caps")
            with Element("section").classes("devices"):
                _text("h2", "Devices", "section")
                self._devices = Element("div").classes("rows")

    async def refresh(self) -> None:
        """Look what has come."""
        now = self._visitor.now()
        drawn = frozenset(self._cards)
        view = await run_in_threadpool(look, self._store, now, limit=self._limit, drawn=drawn)
        self._show(view, now)

    async def _show_older(self) -> None:
        self._limit += NEWEST
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
        with Element("article").classes(f"card {_kind(event)}") as self.root:
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
                spectrogram(event, image, _alt(image))
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


def _alt(image: LogMelImage) -> str:
    return (
        f"Spectrogram of the {image.n_frames * image.hop_s:.1f} s in which the model heard this, "
        f"{image.mel_min_hz / 1000:g} to {image.mel_max_hz / 1000:g} kHz"
    )


def _row(device: DeviceWords) -> None:
    """Write one device."""
    with Element("div").classes(f"device {device.condition}") as row:
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
