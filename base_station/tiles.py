"""Map tiles from a local MBTiles file, read only: the post has no internet to fetch them from.

MBTiles is an SQLite file of tiles by zoom, column and row, rows counted from the south
(https://github.com/mapbox/mbtiles-spec).
"""

import html
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from agent.errors import ConfigError, StorageError

DEEPEST_ZOOM = 22
LARGEST_TILE_BYTES = 2 * 1024 * 1024
_LONGEST_ATTRIBUTION = 300
_KINDS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
"""By how a picture begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiles:
    """One file of tiles."""

    path: Path
    lowest_zoom: int
    highest_zoom: int
    bounds: tuple[float, float, float, float] | None
    """West, south, east, north in degrees; None where the file does not say."""
    attribution: str
    """Whose map it is, as plain text."""

    def tile(self, zoom: int, x: int, y: int) -> tuple[bytes, str] | None:
        """Return a picture and its media type; None where the file has none.

        Args:
            zoom: 0 is the world in one tile.
            x: column from the west.
            y: row from the north, as browsers ask.

        Raises:
            StorageError: the file cannot be read any more.
        """
        if not (0 <= zoom <= DEEPEST_ZOOM and 0 <= x < 1 << zoom and 0 <= y < 1 << zoom):
            return None
        query = (
            "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ? "
            "AND length(tile_data) <= ?"
        )
        try:
            with closing(_opened(self.path)) as file:
                row = file.execute(query, (zoom, x, (1 << zoom) - 1 - y, LARGEST_TILE_BYTES)).fetchone()
        except sqlite3.Error as error:
            raise StorageError(f"{self.path}: tiles cannot be read: {error}") from error
        data: object = None if row is None else row[0]
        kind = _kind(data)
        return (data, kind) if isinstance(data, bytes) and kind is not None else None


def open_tiles(path: Path) -> Tiles:
    """Return the tiles of a file.

    Raises:
        ConfigError: it is no MBTiles file with raster tiles; the text names the file and what was expected.
    """
    if not path.is_file():
        raise ConfigError(
            f"page.tiles: there is no file {path}; give the path of an MBTiles file, or take the key away"
        )
    try:
        with closing(_opened(path)) as file:
            about = dict(file.execute("SELECT name, value FROM metadata LIMIT 100").fetchall())
            zooms = file.execute("SELECT min(zoom_level), max(zoom_level) FROM tiles").fetchone()
            sample = file.execute("SELECT tile_data FROM tiles LIMIT 1").fetchone()
    except (sqlite3.Error, ValueError) as error:
        raise ConfigError(f"page.tiles: {path}: is no MBTiles file: {error}") from error
    if sample is None:
        raise ConfigError(f"page.tiles: {path}: has no tiles in it")
    if _kind(sample[0]) is None:
        said = str(about.get("format", "unknown"))[:20]
        raise ConfigError(
            f"page.tiles: {path}: has tiles of format {said!r}, expected raster ones: png, jpg or webp; "
            "vector tiles (pbf) have to be rendered first"
        )
    return Tiles(
        path=path,
        lowest_zoom=max(0, int(zooms[0])),
        highest_zoom=min(DEEPEST_ZOOM, int(zooms[1])),
        bounds=_bounds(about),
        attribution=_plain(str(about.get("attribution", ""))),
    )


def _opened(path: Path) -> sqlite3.Connection:
    # immutable: a file on a read-only medium has no room for the journal that SQLite would want to look for
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)


def _kind(data: object) -> str | None:
    if not isinstance(data, bytes):
        return None
    return next((kind for magic, kind in _KINDS.items() if data.startswith(magic)), None)


def _bounds(about: Mapping[str, object]) -> tuple[float, float, float, float] | None:
    try:
        west, south, east, north = (float(part) for part in str(about["bounds"]).split(","))
    except (KeyError, ValueError):
        return None
    inside = -180 <= west < east <= 180 and -90 <= south < north <= 90
    return (west, south, east, north) if inside else None


def _plain(attribution: str) -> str:
    """Return an attribution without its markup: it comes from a stranger's file."""
    return html.unescape(re.sub(r"<[^>]*>", "", attribution[: 4 * _LONGEST_ATTRIBUTION])).strip()[:_LONGEST_ATTRIBUTION]
