"""What a station is told in `station.yaml`, in its data folder: every key optional, an unknown one stops the start."""

import stat
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from agent.errors import ConfigError, FieldError
from agent.fields import Fields
from base_station.deadman import Limits
from base_station.incidents import Rules
from base_station.notify_rules import Way, parse_ways
from base_station.retention import Retention

LANGUAGES = ("en", "es", "fr", "id", "pt")

FILE = "station.yaml"
_LARGEST_BYTES = 256 * 1024
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class PageConfig:
    """What the pages are told."""

    language: str = ""
    """Of readers whose browser asks for none that the station has; empty: as chosen on the page, else English."""
    tiles: Path | None = None
    """An MBTiles file with raster tiles of the map; without one the map is a grid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StationConfig:
    """Everything that a station is told beyond its command line."""

    limits: Limits = field(default_factory=Limits)
    rules: Rules = field(default_factory=Rules)
    retention: Retention = field(default_factory=Retention)
    ways: tuple[Way, ...] = ()
    """Who is told what."""
    page: PageConfig = field(default_factory=PageConfig)


def read_config(data: Path) -> StationConfig:
    """Return what `station.yaml` in a folder says; the defaults where there is none.

    Raises:
        ConfigError: it cannot be read, or a key or value is wrong; the text names file, key and what was expected.
    """
    path = data / FILE
    if not path.exists():
        return StationConfig()
    try:
        text = path.read_bytes()
        if len(text) > _LARGEST_BYTES:
            raise ConfigError(f"{path}: has {len(text)} bytes, expected at most {_LARGEST_BYTES}")
        document = yaml.safe_load(text)
        config = parse_config(Fields({} if document is None else document))
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    except FieldError as error:
        raise ConfigError(f"{path}: {error}") from error
    mode = path.stat().st_mode
    if config.ways and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"{path}: others may read it (mode {mode & 0o777:o}), and it holds secrets; run: chmod 600 {path}"
        )
    return config


def parse_config(document: Fields) -> StationConfig:
    """Read the document; FieldError names what is wrong."""
    config = StationConfig(
        limits=_numbers(document, "conditions", Limits),
        rules=_numbers(document, "incidents", Rules),
        retention=_numbers(document, "retention", Retention),
        ways=parse_ways(document, "notify"),
        page=_page(document),
    )
    document.done()
    return config


def _page(document: Fields) -> PageConfig:
    if not document.has("page"):
        return PageConfig()
    section = document.sub("page")
    language = section.choice("language", LANGUAGES) if section.has("language") else ""
    tiles = Path(section.text("tiles", longest=4096, shortest=1)) if section.has("tiles") else None
    section.done()
    return PageConfig(language=language, tiles=tiles)


def _numbers(document: Fields, key: str, kind: type[_T]) -> _T:
    """Read a section of which every value is a number that must not be negative."""
    if not document.has(key):
        return kind()
    section = document.sub(key)
    given: dict[str, Any] = {}
    for each in fields(kind):  # type: ignore[arg-type]  # a dataclass
        if section.has(each.name):
            whole = isinstance(each.default, int)
            given[each.name] = section.integer(each.name, 1, 1_000_000) if whole else section.number(each.name, 0, 1e9)
    section.done()
    return kind(**given)
