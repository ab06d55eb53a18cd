"""Ways to people: everything that Apprise speaks, by URL, and EarthRanger's events."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import requests

from agent.errors import AgentError, ConfigError
from base_station.inbox import iso
from base_station.notices import Notice

PATIENCE_S = 15.0
_LONGEST = 300
_EVENTS = "/api/v1.0/activity/events"


class DeliveryError(AgentError):
    """Nobody was told; try again later."""


class RefusedDeliveryError(DeliveryError):
    """The other side will not take this notice, now or later."""


class Channel(Protocol):
    """A way to people."""

    def send(self, notice: Notice) -> str:
        """Tell it and return what the other side calls it, or nothing; DeliveryError if it was not taken."""
        ...


class AppriseChannel:
    """One or more addresses in Apprise's form: `ntfys://…`, `tgram://…`, `mailtos://…`, `mqtts://…`."""

    def __init__(self, where: str, urls: tuple[str, ...]) -> None:
        """Take the addresses; ConfigError names a wrong one by its place, for it holds secrets."""
        from apprise import Apprise  # takes half a second, and a station without rules needs none of it

        self._apprise = Apprise()
        for idx, url in enumerate(urls):
            if not self._apprise.add(url):
                raise ConfigError(f"{where}.apprise.{idx}: is no address that Apprise knows; it begins {url[:8]!r}")

    def send(self, notice: Notice) -> str:
        """Tell all addresses; when one fails, all are told again."""
        try:
            told = self._apprise.notify(title=notice.title, body=notice.body)
        except TypeError as error:
            raise DeliveryError(f"Apprise: {error}") from error
        if not told:
            raise DeliveryError("Apprise: at least one address did not take it")
        return ""


def masked(url: str) -> str:
    """Return an address as it may be shown: Apprise knows what of it is secret."""
    from apprise import Apprise

    known = Apprise.instantiate(url)
    shown = "" if known is None or isinstance(known, list) else str(known.url(privacy=True))  # type: ignore[no-untyped-call]
    return shown.partition("?")[0] or f"{url.partition('://')[0][:20]}://…"


@dataclass(frozen=True, kw_only=True, slots=True)
class EarthRanger:
    """A site of EarthRanger and what an incident is called there."""

    site: str
    """`https://park.pamdas.org`"""
    token_file: Path
    """A file with the token, for its owner alone."""
    event_type: str
    """An event type that the site has."""


class EarthRangerChannel:
    """Reports incidents as events, on the rangers' own map."""

    def __init__(self, where: str, site: EarthRanger) -> None:
        """Read the token; ConfigError if there is none."""
        try:
            self._token = site.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}.earthranger.token_file: {site.token_file} cannot be read: {error}") from error
        if not self._token or any(character.isspace() for character in self._token):
            raise ConfigError(f"{where}.earthranger.token_file: {site.token_file} holds no token")
        self._site = site

    def send(self, notice: Notice) -> str:
        """Post one event and return its id there."""
        try:
            answer = requests.post(
                self._site.site.rstrip("/") + _EVENTS,
                json=event_of(notice, self._site.event_type),
                headers={"Authorization": f"Bearer {self._token}", "Accept": "application/json"},
                timeout=PATIENCE_S,
                allow_redirects=False,  # the token must not go to whoever a redirect names
            )
        except requests.RequestException as error:
            raise DeliveryError(f"EarthRanger: not reached: {type(error).__name__}") from error
        if answer.status_code == 201:
            return _event_id(answer)
        reason = f"EarthRanger: answered {answer.status_code}: {' '.join(answer.text.split())}"[:_LONGEST]
        if answer.status_code in (400, 422):
            raise RefusedDeliveryError(reason)
        raise DeliveryError(reason)


def event_of(notice: Notice, event_type: str) -> dict[str, Any]:
    """Return an event as EarthRanger's API takes it."""
    event: dict[str, Any] = {
        "event_type": event_type,
        "title": notice.title,
        "time": iso(notice.at_utc),
        "priority": 300 if notice.confidence >= 0.8 else 200 if notice.confidence >= 0.5 else 100,
        "state": "new",
        "event_details": {
            "curupira_subject": notice.subject,
            "kind": notice.kind,
            "label": notice.label,
            "confidence": round(notice.confidence, 3),
            "devices": ", ".join(notice.devices),
            "radius_m": notice.radius_m,
            "text": notice.body,
        },
    }
    if notice.latitude is not None and notice.longitude is not None:
        event["location"] = {"latitude": notice.latitude, "longitude": notice.longitude}
    return event


def _event_id(answer: requests.Response) -> str:
    try:
        return str(answer.json()["data"]["id"])[:64]
    except (ValueError, KeyError, TypeError):
        return ""
