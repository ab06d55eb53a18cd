"""Maps in a real browser: tiles of a local file are drawn, a grid otherwise, and a tap chooses a place."""

import math

import numpy as np
import pytest

from agent.alert import Position
from base_station.picture import indexed_png
from tests.base_station.pages.conftest import PHONE
from tests.base_station.pages.test_devices import enter, ground  # noqa: F401  # a fixture
from tests.base_station.test_accounts import quick_hashes  # noqa: F401  # a fixture
from tests.base_station.test_tiles import mbtiles

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HERE = Position(latitude=-3.1, longitude=-60.02)
GREEN = (60, 120, 80)
TILE = indexed_png(np.zeros((256, 256), np.uint8), np.full((256, 3), GREEN, np.uint8))
DRAWN = """() => {
  const tiles = [...document.querySelectorAll(".map img.leaflet-tile-loaded")];
  if (!tiles.length) return null;
  const canvas = document.createElement("canvas");
  canvas.getContext("2d").drawImage(tiles[0], 0, 0);
  const within = document.querySelector(".map .leaflet-container").getBoundingClientRect();
  return {
    widths: [...new Set(tiles.map((tile) => tile.naturalWidth))],
    colour: [...canvas.getContext("2d").getImageData(9, 9, 1, 1).data].slice(0, 3),
    seen: tiles.some((tile) => {
      const { left, right, top, bottom } = tile.getBoundingClientRect();
      return right > within.left && left < within.right && bottom > within.top && top < within.bottom;
    }),
  };
}"""


def tiles_around(place: Position, zooms: range) -> list[tuple[int, int, int, bytes]]:
    """Return nine tiles of each zoom, rows counted from the south."""
    found = []
    for zoom in zooms:
        x = int((place.longitude + 180) / 360 * 2**zoom)
        up = math.log(math.tan(math.pi / 4 + math.radians(place.latitude) / 2))
        y = int((1 + up / math.pi) / 2 * 2**zoom)
        found += [(zoom, x + dx, y + dy, TILE) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    return found


def test_tiles_of_a_local_file_are_drawn(ground, start_station, visit):  # noqa: F811
    mbtiles(ground.data / "forest.mbtiles", tiles_around(HERE, range(14, 17)), attribution="© our own <i>survey</i>")
    (ground.data / "station.yaml").write_text("page: {tiles: forest.mbtiles}")
    for number in range(3):
        place = Position(latitude=HERE.latitude + 0.0003 * number, longitude=HERE.longitude)
        ground.device(f"ipe-0{number}", position=place)
    station = start_station(data=ground.data)
    tab = visit(station.url, "/devices/ipe-00", width=PHONE)
    tab.page.wait_for_function(DRAWN)
    assert tab.page.evaluate(DRAWN) == {"widths": [256], "colour": list(GREEN), "seen": True}
    tab.says("© our own survey")
    tab.assert_well()
    tab.open("/")  # three that hang too close to be told apart are one mark, until one looks closer
    tab.page.locator(".map .group", has_text="3").click()
    tab.page.wait_for_function("document.querySelectorAll('.map .spot .sign.never').length >= 3")
    tab.assert_well()


def test_a_tap_on_the_map_says_where_a_device_hangs_and_so_does_the_keyboard(ground, start_station, visit):  # noqa: F811
    ground.people()
    ground.device("ipe-07", position=HERE)
    ground.device("cedro-01", position=Position(latitude=-3.1015, longitude=-60.0215))
    station = start_station(data=ground.data)
    tab = enter(visit(station.url, "/login", width=PHONE), "Maria")
    page = tab.page
    tab.open("/devices/ipe-07")
    page.locator(".map .map-grid").first.wait_for(state="attached")
    assert page.locator(".map img.leaflet-tile").count() == 0  # a grid, where there is no file
    page.get_by_role("button", name="Move").click()
    dialog = page.locator(".dialog")
    dialog.locator(".map .sign.chosen").wait_for()
    dialog.locator(".map .sign.never").first.wait_for()  # others are there to go by, and lead nowhere
    width, height = (dialog.locator(".map .leaflet-container").bounding_box()[side] for side in ("width", "height"))
    dialog.locator(".map .leaflet-container").click(position={"x": width * 0.75, "y": height * 0.25})
    latitude, longitude = (float(dialog.get_by_label(name).input_value()) for name in ("Latitude", "Longitude"))
    assert -3.1 < latitude < -3.09  # north...
    assert -60.02 < longitude < -60.01  # ...and east of where it was
    before = dialog.locator(".map .sign.chosen").bounding_box()
    dialog.get_by_label("Longitude").fill("−60,0205")
    assert dialog.locator(".map .sign.chosen").bounding_box()["x"] < before["x"]
    tab.assert_well()
    dialog.get_by_role("button", name="Move").click()
    dialog.wait_for(state="detached")
    device = ground.store.device("ipe-07")
    assert (device.latitude, device.longitude) == (latitude, -60.0205)
