"""The `notify` part of station.yaml: who is told what, by which way."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import FieldError
from agent.fields import Fields, shown
from base_station.channels import AppriseChannel, Channel, EarthRanger, EarthRangerChannel
from base_station.deadman import NAMES
from base_station.locate import Place
from base_station.notices import ABOUT, Area, Hours, Rule

MOST_RULES = 50
KINDS = ("event", "storm", "outage")


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """A rule and the way to whom it is for."""

    rule: Rule
    apprise: tuple[str, ...] = ()
    earthranger: EarthRanger | None = None


def parse_ways(document: Fields, key: str) -> tuple[Way, ...]:
    """Read the list of rules; FieldError names what is wrong."""
    if not document.has(key):
        return ()
    ways = [
        parse_way(Fields(each, f"{key}.{idx}")) for idx, each in enumerate(document.sequence(key, longest=MOST_RULES))
    ]
    names = [way.rule.name for way in ways]
    for idx, name in enumerate(names):
        if name in names[:idx]:
            raise FieldError(f"{key}.{idx}.name", f"is {name!r} like the one before, expected a name of its own")
    return tuple(ways)


def open_channels(ways: tuple[Way, ...]) -> Mapping[str, Channel]:
    """Return the way for each rule by its name; ConfigError if an address or a token is wrong."""
    return {way.rule.name: open_channel(f"station.yaml: notify.{idx}", way) for idx, way in enumerate(ways)}


def open_channel(where: str, way: Way) -> Channel:
    """Return one way; ConfigError, which begins with `where`, if an address or a token is wrong."""
    if way.earthranger is not None:
        return EarthRangerChannel(where, way.earthranger)
    return AppriseChannel(where, way.apprise)


def parse_way(fields: Fields) -> Way:
    """Read one rule; FieldError names what is wrong."""
    rule = Rule(
        name=fields.text("name", longest=40, shortest=1),
        about=_words(fields, "about", ABOUT) or ABOUT,
        labels=fields.texts("labels", longest=20) if fields.has("labels") else (),
        kinds=_words(fields, "kinds", KINDS) or ("event",),
        conditions=_words(fields, "conditions", tuple(NAMES)) or tuple(NAMES),
        ends=fields.has("ends") and fields.flag("ends"),
        confidence=fields.number("confidence", 0, 1) if fields.has("confidence") else 0.0,
        hours=_hours(fields, "hours"),
        area=_area(fields.sub("area")) if fields.has("area") else None,
        quiet=_hours(fields, "quiet"),
        digest_minutes=fields.integer("digest_minutes", 1, 1440) if fields.has("digest_minutes") else 0,
        drills=fields.has("drills") and fields.flag("drills"),
    )
    urls = fields.texts("apprise", longest=20) if fields.has("apprise") else ()
    site = _earthranger(fields.sub("earthranger")) if fields.has("earthranger") else None
    fields.done()
    if bool(urls) == (site is not None):
        raise FieldError(fields.name("apprise"), "expected either apprise, a list of URLs, or earthranger")
    return Way(rule=rule, apprise=urls, earthranger=site)


def _words(fields: Fields, key: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if not fields.has(key):
        return ()
    given = fields.texts(key, longest=50)
    for word in given:
        if word not in known:
            raise FieldError(fields.name(key), f"holds {shown(word)}, expected some of {', '.join(known)}")
    return given


def _hours(fields: Fields, key: str) -> Hours | None:
    """Read hours of the day: `18-6`."""
    if not fields.has(key):
        return None
    text = fields.text(key, longest=5)
    begin, dash, end = text.partition("-")
    if not (dash and begin.isdecimal() and end.isdecimal() and int(begin) < 24 and int(end) <= 24 and begin != end):
        raise FieldError(fields.name(key), f"is {text!r}, expected hours such as 18-6")
    return Hours(int(begin), int(end))


def _area(fields: Fields) -> Area:
    area = Area(
        place=Place(fields.number("latitude", -90, 90), fields.number("longitude", -180, 180)),
        radius_km=fields.number("radius_km", 0.01, 20_000),
    )
    fields.done()
    return area


def _earthranger(fields: Fields) -> EarthRanger:
    site = EarthRanger(
        site=fields.text("site", longest=200),
        token_file=Path(fields.text("token_file", longest=500)),
        event_type=fields.text("event_type", longest=100, shortest=1),
    )
    fields.done()
    if not site.site.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise FieldError(fields.name("site"), f"is {shown(site.site)}, expected https://…: the token goes there")
    return site
