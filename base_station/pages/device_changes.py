"""Adding devices, and what operators change about one: name, place, key, and whether it may speak at all.

Everything goes through `registry`, as the API's changes do, and is written down with who did it. As there, somebody
must have proved who he is: keys are made for nobody.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import ui
from nicegui.element import Element
from starlette.concurrency import run_in_threadpool

from agent.alert import Position
from agent.errors import FieldError, StorageError
from base_station import registry
from base_station.accounts import OPERATOR
from base_station.locate import Place
from base_station.pages.devices import ADD, HOME, device_path
from base_station.pages.forms import Refusal, degrees, field, form
from base_station.pages.frame import Site, Visitor, ask_for, page
from base_station.pages.key_card import key_card
from base_station.pages.language import mark
from base_station.pages.map import Map, around
from base_station.pages.parts import box, button, link, text
from base_station.store import Device


def add_device_adding(site: Site) -> None:
    """Add the page on which a device is admitted."""

    @page(site, ADD, mark("Add a device"), role=OPERATOR)
    async def adding(visitor: Visitor) -> None:
        ask_for("devices.css")
        view = await run_in_threadpool(around, site, None)
        link(HOME, visitor.say("Devices"), "back")
        text("h1", visitor.say("Add a device"))
        _Adding(visitor, view)


async def changer(visitor: Visitor) -> str:
    """Return the name of whoever may change devices at this moment; empty, and he is told why, if he may not."""
    if not await visitor.may(OPERATOR):
        return ""
    if visitor.who is None:
        said = visitor.say("First somebody must be known here: {command}", command=_FIRST_PERSON)
        ui.notify(said, type="warning", multi_line=True)
        return ""
    return visitor.who.name


_FIRST_PERSON = "python -m base_station user add NAME --role operator"


def refused(visitor: Visitor, error: Exception) -> str:
    """Return in the reader's words why a change was not made."""
    say = visitor.say
    if isinstance(error, registry.KnownDeviceError):
        return say("There is a device of this id already. Open it to give it a new key.")
    if isinstance(error, registry.UnknownDeviceError):
        return say("This device is not here any more.")
    if isinstance(error, StorageError):
        return say("The station's database refused; nothing was changed. Try again.")
    key = error.key if isinstance(error, FieldError) else ""
    return {
        "device_id": say(
            "Id: small letters, digits, dots, hyphens and underscores, at most 63; a letter or digit first."
        ),
        "name": say("Name: at most {count} characters that can be printed.", count=registry.LONGEST_NAME),
        "latitude": say("Latitude: a number from −90 to 90, say −3.10452. Leave both empty if nobody knows."),
        "longitude": say("Longitude: a number from −180 to 180, say −60.02531. Leave both empty if nobody knows."),
    }.get(key, str(error))


def position_in(said: Mapping[str, str]) -> Position | None:
    """Return the place that a form names, None if both fields are empty; FieldError names the one that is wrong."""
    latitude, longitude = said.get("latitude", "").strip(), said.get("longitude", "").strip()
    if not latitude and not longitude:
        return None
    north, east = degrees(latitude, "latitude", 90.0), degrees(longitude, "longitude", 180.0)
    return Position(latitude=north, longitude=east)


def _place_fields(visitor: Visitor, view: Sequence[Place], place: Place | None = None) -> None:
    """Lay out the fields of a place, and a map that writes into them where there is something to look at.

    Args:
        visitor: who looks.
        view: what the map shows at first; without any there is no map.
        place: that of now.
    """
    say = visitor.say
    latitude, longitude = (None, None) if place is None else (place.latitude, place.longitude)
    with box("div", "place-fields"):
        for label, name, value in ((say("Latitude"), "latitude", latitude), (say("Longitude"), "longitude", longitude)):
            field(label, name, "" if value is None else f"{value:.6f}".rstrip("0").rstrip("."), inputmode="text")
    if view:
        with box("div"):
            chosen = Map(visitor, say("Map to choose a place on; the fields above say the same"), chooses=True)
            text("p", say("Tap the map where it hangs, or type it above."), "hint")
        chosen.show([], view)


class _Adding:
    """The form, and then the key."""

    def __init__(self, visitor: Visitor, view: Sequence[Place]) -> None:
        self._visitor, self._view = visitor, view
        self._stage = box("div")
        self._form()

    def _form(self) -> None:
        say = self._visitor.say
        with self._stage, box("section", "panel narrow"), form(self._add):
            field(
                say("Id"),
                "device_id",
                hint=say("What it signs with; it cannot be changed later. Say, ipe-07."),
                maxlength="63",
                autocapitalize="none",
                spellcheck="false",
            )
            field(
                say("Name"), "name", hint=say("What people call it, if they do."), maxlength=str(registry.LONGEST_NAME)
            )
            _place_fields(self._visitor, self._view)
            text("p", say("Where it hangs: for alerts that bring no place of their own. May be empty."), "hint")
            self._refusal = Refusal()
            with box("div", "actions"), box("button", "button main", type="submit"):
                text("span", say("Add it and show its key"))

    async def _add(self, said: Mapping[str, str]) -> None:
        visitor = self._visitor
        who = await changer(visitor)
        if not who:
            return
        device_id = said.get("device_id", "").strip()
        try:
            made = await run_in_threadpool(
                lambda: registry.add_device(
                    visitor.site.store,
                    visitor.site.keys,
                    device_id,
                    who=who,
                    now_utc=visitor.now(),
                    name=said.get("name", ""),
                    position=position_in(said),
                )
            )
        except (FieldError, registry.KnownDeviceError, StorageError) as error:
            self._refusal.say(refused(visitor, error))
            return
        self._stage.clear()
        with self._stage:
            key_card(visitor, device_id, made.key, lambda: self._done(device_id))

    def _done(self, device_id: str) -> None:
        ui.navigate.to(device_path(device_id))  # first: the button that was pressed is in what goes now
        self._stage.clear()


class Changes:
    """The buttons on a device's page, each with its dialog; `on_change` is called after each change."""

    def __init__(self, visitor: Visitor, device: Device, key_place: Element, on_change: Callable[[], Any]) -> None:
        """Lay them out.

        Args:
            visitor: who looks; only for an operator this is laid out.
            device: as it is now.
            key_place: where a new key is shown.
            on_change: looks again.
        """
        self._visitor, self._device_id, self._on_change = visitor, device.device_id, on_change
        self._key_place = key_place
        say = visitor.say
        with box("div", "changes"):
            button(say("Rename"), self._rename, "", "edit")
            button(say("Move"), self._move, "", "place")
            button(say("New key"), self._new_key, "", "key")
            self._revoke_button = button(say("Revoke"), self._revoke, "danger", "block")
        self._device = device

    def update(self, device: Device) -> None:
        """Take how it is now."""
        self._device = device
        self._revoke_button.set_visibility(device.revoked_utc is None)

    def _rename(self) -> None:
        say = self._visitor.say
        dialog = _Dialog(say("Rename"))
        with dialog.body, form(lambda said: self._do(dialog, lambda who: self._renamed(said, who))):
            field(say("Name"), "name", self._device.name, maxlength=str(registry.LONGEST_NAME))
            dialog.end(self._visitor, say("Rename"))

    def _renamed(self, said: Mapping[str, str], who: str) -> None:
        visitor = self._visitor
        registry.rename_device(
            visitor.site.store, self._device_id, said.get("name", ""), who=who, now_utc=visitor.now()
        )

    async def _move(self) -> None:
        say, device = self._visitor.say, self._device
        north, east = device.latitude, device.longitude
        place = None if north is None or east is None else Place(north, east)
        view = await run_in_threadpool(around, self._visitor.site, place)
        dialog = _Dialog(say("Move"))
        with dialog.body, form(lambda said: self._do(dialog, lambda who: self._moved(said, who))):
            text(
                "p", say("For alerts from now on that bring no place of their own; those before stay where they were.")
            )
            _place_fields(self._visitor, view, place)
            dialog.end(self._visitor, say("Move"))

    def _moved(self, said: Mapping[str, str], who: str) -> None:
        visitor, place = self._visitor, position_in(said)
        registry.move_device(visitor.site.store, self._device_id, place, who=who, now_utc=visitor.now())

    def _revoke(self) -> None:
        say = self._visitor.say
        dialog = _Dialog(say("Revoke {device}?", device=self._device_id))
        with dialog.body, form(lambda _: self._do(dialog, self._revoked)):
            text("p", say("The station refuses it from now on; its alerts stay. A new key admits it again."))
            dialog.end(self._visitor, say("Revoke"), "danger")

    def _revoked(self, who: str) -> None:
        visitor = self._visitor
        registry.revoke_device(visitor.site.store, self._device_id, who=who, now_utc=visitor.now())

    def _new_key(self) -> None:
        say = self._visitor.say
        dialog = _Dialog(say("A new key for {device}?", device=self._device_id))
        with dialog.body, form(lambda _: self._do(dialog, self._key_replaced)):
            text("p", say("Its old key is worthless at once: it is not heard until it has the new one."))
            dialog.end(self._visitor, say("Make a new key"), "danger")

    def _key_replaced(self, who: str) -> bytes:
        visitor, site = self._visitor, self._visitor.site
        return registry.replace_key(site.store, site.keys, self._device_id, who=who, now_utc=visitor.now())

    def _hide_key(self) -> None:
        self._key_place.clear()

    async def _do(self, dialog: "_Dialog", change: Callable[[str], bytes | None]) -> None:
        """Make a change; what it returns is a new key."""
        who = await changer(self._visitor)
        if not who:
            return
        try:
            key = await run_in_threadpool(change, who)
        except (FieldError, registry.UnknownDeviceError, StorageError) as error:
            dialog.refusal.say(refused(self._visitor, error))
            return
        dialog.close()
        if key is not None:
            self._key_place.clear()
            with self._key_place:
                key_card(self._visitor, self._device_id, key, self._hide_key)
        await self._on_change()


class _Dialog:
    """A question over the page; closed, it is gone with what was typed."""

    def __init__(self, title: str) -> None:
        with ui.dialog() as self._dialog, box("div", "dialog") as self.body:
            text("h2", title)
        self._dialog.props["aria-label"] = title
        self._dialog.on("hide", lambda _: self._dialog.delete())
        self._dialog.open()
        self.refusal: Refusal

    def end(self, visitor: Visitor, do: str, classes: str = "main") -> None:
        """Lay out what ends it: within the form, the button that does it comes first."""
        self.refusal = Refusal()
        with box("div", "actions"):
            with box("button", f"button {classes}", type="submit"):
                text("span", do)
            button(visitor.say("Cancel"), self.close)

    def close(self) -> None:
        """Close it."""
        self._dialog.close()
