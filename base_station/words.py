"""How the station says numbers, times, labels and places, in English; `pages.language` says them in other languages.

Nothing here loads Babel or the page's toolkit: console commands and messages use it as it is.
"""

from datetime import datetime, tzinfo

SILENT_AFTER_S = 3600.0
"""A device that has not called for so long is silent, in conditions and in gaps: it should every few minutes..."""
SILENT_BEATS = 3.0
"""...unless it said that it would call less often, to save power: then so many of its own intervals."""
LONGEST_BEAT_S = 7200.0
"""No interval that a device names excuses a longer silence: it is late after six hours, whatever it said."""
LATE_S = 300.0
"""An alert that arrives so long after the sound is late: the link was down, or its clock is wrong."""


def mark(text: str) -> str:
    """Return a text as it is; it is translated where it is shown, and this puts it into the catalogues."""
    return text


LABELS = {"chainsaw": mark("Chainsaw"), "engine": mark("Engine")}


class English:
    """Sentences as they are written, numbers and times as English has them; other languages replace what differs."""

    __slots__ = ()

    def say(self, text: str, **values: object) -> str:
        """Return an English sentence in this language.

        Args:
            text: the English one; `{name}` is a place for a value.
            values: what goes there, written already.
        """
        return text.format(**values) if values else text

    def plural(self, one: str, many: str, count: int, **values: object) -> str:
        """Return the sentence that fits a count; `{count}` in it is the count."""
        return (one if count == 1 else many).format(count=self.number(count), **values)

    def number(self, value: float, digits: int = 0) -> str:
        """Return a number with so many digits after the point, and a real minus sign."""
        return f"{rounded(value, digits):,.{digits}f}".replace("-", "\u2212")

    def percent(self, share: float, digits: int = 0) -> str:
        """Return a share as per cent."""
        return f"{self.number(100.0 * share, digits)}\u00a0%"

    def span(self, seconds: float) -> str:
        """Return a length of time, coarser the longer it is: `42 s`, `7 min`, `3 h`, `5 days`."""
        seconds = max(0.0, seconds)
        if seconds < 60:
            return f"{self.number(seconds)} s"
        if seconds < 3600:
            return f"{self.number(seconds // 60)} min"
        if seconds < 48 * 3600:
            return f"{self.number(seconds // 3600)} h"
        return self.plural("{count} day", "{count} days", int(seconds // 86_400))

    def ago(self, moment: datetime, now: datetime) -> str:
        """Return how long ago a moment was; steps of 5 s below a minute, so that the eye is not drawn to it."""
        seconds = (now - moment).total_seconds()
        if seconds < 5:
            return self.say("just now")
        return self.say("{span} ago", span=self.span(seconds // 5 * 5 if seconds < 60 else seconds))

    def time(self, moment: datetime, zone: tzinfo | None = None) -> str:
        """Return a time of day, to the second; None is the station's own zone."""
        return f"{moment.astimezone(zone):%H:%M:%S}"

    def moment(self, moment: datetime, now: datetime, zone: tzinfo | None = None) -> str:
        """Return local wall time, with the day where it is another one.

        Args:
            moment: what to show.
            now: to know today.
            zone: the ranger's; None is the station's own.
        """
        local, today = moment.astimezone(zone), now.astimezone(zone)
        if local.date() == today.date():
            return f"{local:%H:%M:%S}"
        return f"{self.dated(local, with_year=local.year != today.year)} {local:%H:%M}"

    def dated(self, local: datetime, *, with_year: bool) -> str:
        """Return the day of a local time."""
        return f"{local.day} {local:%b}{f' {local.year}' if with_year else ''}"


ENGLISH = English()
span, ago = ENGLISH.span, ENGLISH.ago


def rounded(value: float, digits: int) -> float:
    """Return a number rounded, without a minus before a zero."""
    return round(value, digits) + 0.0


def label_name(label: str) -> str:
    """Return a label as a title, in English; those that everybody knows are in the catalogues."""
    return LABELS.get(label) or label.replace("_", " ").capitalize()


def place(latitude: float, longitude: float, digits: int = 5, language: English = ENGLISH) -> str:
    """Return coordinates as one reads them out over a radio; five decimals are a metre."""
    north = language.say("N") if latitude >= 0 else language.say("S")
    east = language.say("E") if longitude >= 0 else language.say("W")
    return f"{abs(latitude):.{digits}f}° {north}, {abs(longitude):.{digits}f}° {east}"


def minus(value: float, decimals: int) -> str:
    """Return a number with a real minus sign."""
    return ENGLISH.number(value, decimals)
