"""Tiles of a local MBTiles file: rows as browsers count them, bounded, and refused at the start where they are none."""

import sqlite3
from pathlib import Path

import httpx
import numpy as np
import pytest

from agent.errors import ConfigError
from base_station.picture import indexed_png, palette
from base_station.tiles import open_tiles

PNG = indexed_png(np.full((256, 256), 200, np.uint8), palette())


def mbtiles(path: Path, tiles=((0, 0, 0, PNG),), **metadata: str) -> Path:
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE metadata (name text, value text)")
    raw.execute("CREATE TABLE tiles (zoom_level integer, tile_column integer, tile_row integer, tile_data blob)")
    raw.executemany("INSERT INTO tiles VALUES (?, ?, ?, ?)", tiles)
    raw.executemany("INSERT INTO metadata VALUES (?, ?)", list(metadata.items()))
    raw.commit()
    raw.close()
    return path


def test_rows_are_counted_from_the_north(tmp_path):
    tiles = open_tiles(mbtiles(tmp_path / "forest.mbtiles", [(1, 0, 1, PNG), (1, 1, 0, PNG + b"south")]))
    assert tiles.tile(1, 0, 0) == (PNG, "image/png")
    assert tiles.tile(1, 1, 1) == (PNG + b"south", "image/png")
    assert tiles.tile(1, 0, 1) is None
    assert (tiles.lowest_zoom, tiles.highest_zoom) == (1, 1)


@pytest.mark.parametrize("at", [(-1, 0, 0), (23, 0, 0), (0, 1, 0), (0, 0, -1), (1, 0, 2), (10**9, 0, 0)])
def test_what_no_map_has_is_not_looked_for(tmp_path, at):
    assert open_tiles(mbtiles(tmp_path / "forest.mbtiles")).tile(*at) is None


def test_what_the_file_says_of_itself_is_plain_text_and_checked(tmp_path):
    path = mbtiles(
        tmp_path / "forest.mbtiles",
        bounds="-61,-4,-59,-2",
        attribution='&copy; <a href="https://example.org"><script>alert(1)</script>OpenStreetMap</a>',
    )
    tiles = open_tiles(path)
    assert tiles.bounds == (-61.0, -4.0, -59.0, -2.0)
    assert tiles.attribution == "© alert(1)OpenStreetMap"
    assert open_tiles(mbtiles(tmp_path / "odd.mbtiles", bounds="9,9,1,1")).bounds is None


@pytest.mark.parametrize(
    ("tiles", "said"),
    [
        ((), "has no tiles"),
        (((0, 0, 0, b"\x1f\x8b\x08pbf"),), "vector tiles (pbf)"),
        (((0, 0, 0, "text"),), "expected raster"),
    ],
)
def test_a_file_without_raster_tiles_is_refused(tmp_path, tiles, said):
    path = mbtiles(tmp_path / "vector.mbtiles", tiles, format="pbf")
    with pytest.raises(ConfigError, match=r"page\.tiles") as refused:
        open_tiles(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_file_that_is_no_database_and_one_that_is_not_there_are_refused(tmp_path):
    (tmp_path / "text.mbtiles").write_text("no tiles here, but long enough to be looked at as a database" * 20)
    for name in ("text.mbtiles", "none.mbtiles"):
        with pytest.raises(ConfigError, match=name):
            open_tiles(tmp_path / name)


@pytest.mark.slow
def test_a_station_serves_its_tiles_and_nothing_else(start_station, tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    mbtiles(data / "forest.mbtiles", [(2, 1, 1, PNG)])
    (data / "station.yaml").write_text("page: {tiles: forest.mbtiles}")
    station = start_station(data=data)
    answer = httpx.get(f"{station.url}/tiles/2/1/2")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/png", PNG)
    for path in ("2/1/1", "3/99/0", "2/-1/0", "-1/0/0", "2/1/2.png", "99999999999999999999/0/0"):
        assert httpx.get(f"{station.url}/tiles/{path}").status_code in (404, 422), path
