"""A rule as somebody filled in its form, as the document that `station.yaml` would hold: checked by the same reader."""

from collections.abc import Mapping, Sequence

from base_station.deadman import NAMES
from base_station.notify_rules import Way
from base_station.pages.forms import ticked
from base_station.pages.language import mark

ABOUT_NAMES = {"incident": mark("What was heard"), "condition": mark("What is wrong with devices")}
KIND_NAMES = {"event": mark("Events"), "storm": mark("Storms"), "outage": mark("What came late after an outage")}


def document_of(said: Mapping[str, str], name: str, way: Way | None, labels: Sequence[str]) -> dict[str, object]:
    """Return the document of a rule.

    Args:
        said: the form's fields.
        name: of the rule.
        way: the rule that is changed; its addresses stay where the form has none, and all that the form does not know.
        labels: those that the form offered.
    """
    document: dict[str, object] = {"name": name}
    offered = sorted({*labels, *(way.rule.labels if way else ())})
    for key, choices, prefix in (
        ("about", ABOUT_NAMES, "about_"),
        ("labels", offered, "label_"),
        ("kinds", KIND_NAMES, "kind_"),
        ("conditions", NAMES, "condition_"),
    ):
        if chosen := ticked(said, choices, prefix):
            document[key] = chosen
    document |= dict.fromkeys(ticked(said, ("ends", "drills")), True)
    for key in ("hours", "quiet"):
        if written := "".join(said.get(key, "").split()):
            document[key] = written
    if (share := _number(said, "confidence")) is not None:
        document["confidence"] = share / 100.0 if isinstance(share, float) else share
    if (minutes := _number(said, "digest_minutes")) is not None:
        document["digest_minutes"] = int(minutes) if isinstance(minutes, float) and minutes.is_integer() else minutes
    area = {key: _number(said, key) for key in ("latitude", "longitude", "radius_km")}
    if any(value is not None for value in area.values()):
        document["area"] = {key: value for key, value in area.items() if value is not None}
    return document | _addresses(said, way)


def _addresses(said: Mapping[str, str], way: Way | None) -> dict[str, object]:
    urls = [line.strip() for line in said.get("apprise", "").splitlines() if line.strip()]
    if urls or way is None:
        return {"apprise": urls}
    if way.earthranger is not None:
        site = way.earthranger
        known = {"site": site.site, "token_file": str(site.token_file), "event_type": site.event_type}
        return {"earthranger": known}
    return {"apprise": list(way.apprise)}


def _number(said: Mapping[str, str], key: str) -> float | str | None:
    """Return what somebody typed as a number; what is none stays a text, which the reader of rules refuses by name."""
    written = said.get(key, "").strip().replace("\u2212", "-").replace(",", ".")
    if not written:
        return None
    try:
        return float(written)
    except ValueError:
        return written
