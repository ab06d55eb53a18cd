"""Maps: devices by state, incidents with how far off they may be; on tiles of the station's own, or on a plain grid.

A map shows; it is never the only way: whatever is on it stands in a list beside it, with the same names and links.
`map.js` draws, from the attributes that are written here, and asks for the devices of the part that is seen.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

from fastapi import FastAPI, Query
from nicegui import ui
from pydantic import BaseModel
from starlette.responses import Response

from base_station.incidents import Incident
from base_station.locate import Place
from base_station.pages.device_words import STATE_NAMES
from base_station.pages.frame import Site, Visitor, ask_for
from base_station.pages.parts import box, text
from base_station.roll import LISTENING, REVOKED, SILENT, STATES, TROUBLE, Roll, Window, grouped
from base_station.tiles import DEEPEST_ZOOM

KINDS = ("chainsaw", "engine")
"""Labels with a shape of their own; others share one."""
MOST_SPOTS = 60
_CELL_PX = 56
_TELL_APART_ZOOM = 17
"""From here on devices are told apart, however close they hang."""
_MOST_MARKS = 600
_LEAST_VIEW_DEG = 0.004
_METRES_PER_DEG = 111_320.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """One incident on the map."""

    kind: str
    """Its shape: one of KINDS, or `other`."""
    latitude: float
    longitude: float
    radius_m: float
    """It lies within this."""
    title: str
    """What it is, for pointer and screen reader."""
    href: str = ""
    """Where it leads; empty where one is there already."""
    drill: bool = False


class Mark(BaseModel):
    """One device, or several that lie too close to be told apart."""

    latitude: float
    longitude: float
    state: str
    """Of several the worst that is not `revoked`."""
    count: int
    device_id: str
    """Empty for several."""
    title: str


class Marks(BaseModel):
    """What a part of the map shows of the devices."""

    marks: list[Mark]


class Map:
    """One map on a page."""

    def __init__(
        self,
        visitor: Visitor,
        label: str,
        *,
        classes: str = "",
        only: Sequence[str] | None = None,
        chooses: bool = False,
    ) -> None:
        """Lay it out, empty.

        Args:
            visitor: who looks.
            label: what it shows, for screen readers.
            classes: further ones.
            only: ids of the devices that it shows, at most 200; None shows all, an empty one none.
            chooses: whether a tap writes the place into the fields `latitude` and `longitude` of the form around it.
        """
        ask_for("map.css", "map.js")
        say, tiles = visitor.say, visitor.site.tiles
        with box("div", f"map {classes}") as self.root:
            self._leaflet = ui.leaflet(
                options={"attributionControl": False, "zoomControl": False, "scrollWheelZoom": False}
            )
            self._leaflet.clear_layers()  # NiceGUI's own would fetch tiles from the internet
            self._leaflet.props["aria-label"] = label
            self._leaflet.props["role"] = "region"
            self._leaflet.on("init", js_handler=f"() => window.curupiraMap.begin({self._leaflet.id})")
            if not chooses:
                with box("p", "legend hint"):
                    self._legend(visitor, only)
            if tiles is not None and tiles.attribution:
                text("p", tiles.attribution, "attribution hint")
        self.root.props["data-words"] = json.dumps(
            {"in": say("Zoom in"), "out": say("Zoom out"), "north": say("N"), "within": say("within {metres} m")}
        )
        if chooses:
            self.root.props["data-chooses"] = "yes"
        if tiles is not None:
            self.root.props["data-tiles"] = json.dumps(
                {"lowest": tiles.lowest_zoom, "highest": tiles.highest_zoom, "bounds": tiles.bounds}
            )
        if only is None or only:
            self.root.props["data-devices"] = ",".join(only or ())

    def _legend(self, visitor: Visitor, only: Sequence[str] | None) -> None:
        """Say what the shapes mean."""
        entries = [("chainsaw", visitor.say("Chainsaw")), ("engine", visitor.say("Engine"))]
        if only is None or only:
            entries += [(state, visitor.say(STATE_NAMES[state])) for state in (LISTENING, TROUBLE, SILENT)]
        for shape, name in entries:
            with box("span", "entry"):
                box("span", f"sign {shape}", aria_hidden="true")
                text("span", name)

    def show(self, spots: Sequence[Spot], view: Sequence[Place] = ()) -> None:
        """Show incidents, and what is to be seen at first, until the reader moves the map.

        Args:
            spots: at most MOST_SPOTS of them are drawn.
            view: the places that shall be seen beside the spots.
        """
        self.root.props["data-spots"] = json.dumps([asdict(spot) for spot in spots[:MOST_SPOTS]])
        seen = [*view, *(corner for spot in spots for corner in _corners(spot))]
        self.root.props["data-view"] = json.dumps(_bounds(seen)) if seen else ""
        self.root.update()

    def look_again(self) -> None:
        """Let the devices be asked for once more: their states may have changed."""
        self.root.props["data-turn"] = str(int(self.root.props.get("data-turn", "0")) + 1)
        self.root.update()


def spot_of(incident: Incident, title: str, href: str = "") -> Spot | None:
    """Return an incident for the map; None where nobody knows where it is."""
    if incident.position is None:
        return None
    return Spot(
        kind=incident.label if incident.label in KINDS else "other",
        latitude=incident.position.latitude,
        longitude=incident.position.longitude,
        radius_m=incident.position.radius_m,
        title=title,
        href=href,
        drill=incident.drill,
    )


def most_of(roll: Roll) -> list[Place]:
    """Return two corners between which most devices hang; a stray position must not shrink the forest to a dot."""
    places = [one.place for one in roll.devices if one.place is not None and one.state != REVOKED]
    if not places:
        return []
    latitudes, longitudes = sorted(p.latitude for p in places), sorted(p.longitude for p in places)
    low, high = len(places) // 50, len(places) - 1 - len(places) // 50
    return [Place(latitudes[low], longitudes[low]), Place(latitudes[high], longitudes[high])]


def around(site: Site, place: Place | None) -> list[Place]:
    """Return what to look at where somebody chooses a place: around that of now, else all devices, else the map's own.

    Args:
        site: the station.
        place: that of now.

    Returns:
        Places between which to look; empty where nobody knows of any.
    """
    if place is not None:
        return [place]
    known = most_of(site.roll.take(site.now()))
    if not known and site.tiles is not None and site.tiles.bounds is not None:
        west, south, east, north = site.tiles.bounds
        known = [Place(south, west), Place(north, east)]
    return known


def _corners(spot: Spot) -> tuple[Place, Place]:
    """Return the corners of the square around the circle that it lies in: a circle cut off hides how sure it is."""
    higher = spot.radius_m / _METRES_PER_DEG
    wider = higher / max(0.01, math.cos(math.radians(spot.latitude)))  # towards the poles degrees shrink to nothing
    return (
        Place(spot.latitude - higher, spot.longitude - wider),
        Place(spot.latitude + higher, spot.longitude + wider),
    )


def _bounds(places: Sequence[Place]) -> list[list[float]]:
    """Return south-west and north-east, not closer than one can make out where one is."""
    south, north = min(place.latitude for place in places), max(place.latitude for place in places)
    west, east = min(place.longitude for place in places), max(place.longitude for place in places)
    wider, higher = max(0.0, _LEAST_VIEW_DEG - (east - west)) / 2, max(0.0, _LEAST_VIEW_DEG - (north - south)) / 2
    return [[south - higher, west - wider], [north + higher, east + wider]]


def add_map(app: FastAPI, site: Site) -> None:
    """Add what maps ask for: tiles, and the devices of the part that is seen. Both want a session, as all pages do."""

    @app.get("/tiles/{zoom}/{x}/{y}", include_in_schema=False)
    def tile(zoom: int, x: int, y: int) -> Response:
        found = None if site.tiles is None else site.tiles.tile(zoom, x, y)
        if found is None:
            return Response(status_code=404)
        data, kind = found
        return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=86400"})

    @app.get("/map/devices", include_in_schema=False)
    def devices(
        zoom: Annotated[int, Query(ge=0, le=DEEPEST_ZOOM)],
        west: Annotated[float, Query(ge=-180, le=180)],
        south: Annotated[float, Query(ge=-90, le=90)],
        east: Annotated[float, Query(ge=-180, le=180)],
        north: Annotated[float, Query(ge=-90, le=90)],
        only: Annotated[str, Query(max_length=200 * 64)] = "",
    ) -> Marks:
        window = Window(west=west, south=south, east=east, north=north)
        return Marks(marks=marks_in(site.roll.take(site.now()), window, zoom, only=frozenset(only.split(",")) - {""}))


def marks_in(roll: Roll, window: Window, zoom: int, *, only: frozenset[str] = frozenset()) -> list[Mark]:
    """Return the marks for a part of the map, at most as many as one can look at.

    Args:
        roll: all devices.
        window: the part that is seen.
        zoom: as of web maps.
        only: ids of the devices that are wanted; empty wants all.
    """
    wanted = [one for one in roll.devices if one.device_id in only] if only else roll.devices
    found: list[Mark] = []
    for group in grouped(wanted, window, zoom, _CELL_PX if zoom < _TELL_APART_ZOOM else 1)[:_MOST_MARKS]:
        worst = max(group.counts, key=lambda state: (state != REVOKED, STATES.index(state)))
        alone = group.devices[0] if len(group.devices) == 1 else None
        found.append(
            Mark(
                latitude=round(group.middle.latitude, 6),
                longitude=round(group.middle.longitude, 6),
                state=worst,
                count=len(group.devices),
                device_id="" if alone is None else alone.device_id,
                title="" if alone is None else (alone.name or alone.device_id),
            )
        )
    return found
