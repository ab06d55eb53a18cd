"""The languages of the station: what is written in English here, said as the reader says it.

The English text is the key; `locale/LANGUAGE/PAGE.po` has the others, one file for each page. Babel knows how dates,
numbers and lengths of time are written.
"""

import functools
import gettext
import io
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from pathlib import Path

from babel import Locale, negotiate_locale
from babel.dates import format_skeleton
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

ENGLISH_CODE = "en"
LANGUAGES = {
    "en": "English",
    "pt": "Português",
    "es": "Español",
    "fr": "Français",
    "id": "Bahasa Indonesia",
}
"""By code, each named as its own speakers name it."""

_LOCALES = {"en": "en_GB", "pt": "pt_BR", "es": "es_419", "fr": "fr_FR", "id": "id_ID"}
_QUASAR = {"en": "en-US", "pt": "pt-BR", "es": "es", "fr": "fr", "id": "id"}
_FOLDER = Path(__file__).with_name("locale")


def mark(text: str) -> str:
    """Return a text as it is; it is translated where it is shown, and this puts it into the catalogues."""
    return text


@dataclass(frozen=True, slots=True)
class Language:
    """One language: sentences from the catalogues, numbers and times by Babel."""

    code: str

    @property
    def quasar(self) -> str:
        """Its name for the page's toolkit, and for `<html lang>`."""
        return _QUASAR[self.code]

    @property
    def locale(self) -> Locale:
        """Its name for Babel."""
        return _locale(self.code)

    def say(self, text: str, **values: object) -> str:
        """Return an English sentence in this language.

        Args:
            text: the English one; `{name}` is a place for a value.
            values: what goes there, written already.
        """
        said = _catalogue(self.code).gettext(text)
        return said.format(**values) if values else said

    def plural(self, one: str, many: str, count: int, **values: object) -> str:
        """Return the sentence that fits a count; `{count}` in it is the count."""
        said = _catalogue(self.code).ngettext(one, many, count)
        return said.format(count=self.number(count), **values)

    def number(self, value: float, digits: int = 0) -> str:
        """Return a number with so many digits after the point, and a real minus sign."""
        rounded = round(value, digits) + 0.0  # no minus before a zero
        pattern = "#,##0" + ("." + "0" * digits if digits else "")
        return format_decimal(rounded, pattern, locale=self.locale).replace("-", "\u2212")

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

    def day(self, day: date, skeleton: str = "yMMMd") -> str:
        """Return a day, by default with its month as a word and its year.

        Args:
            day: which.
            skeleton: what of it, as Babel knows it: `MMMd`, `MMMEd`.
        """
        return format_skeleton(skeleton, day, locale=self.locale)

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
        skeleton = "MMMd" if local.year == today.year else "yMMMd"
        return f"{format_skeleton(skeleton, local.replace(tzinfo=None), locale=self.locale)} {local:%H:%M}"


def chosen_language(cookie: str, accepted: str, usual: str = ENGLISH_CODE) -> Language:
    """Return the language of a reader.

    Args:
        cookie: what he chose; empty if he did not.
        accepted: the header Accept-Language of his browser.
        usual: the station's.
    """
    if cookie in LANGUAGES:
        return Language(cookie)
    wanted = [part.partition(";")[0].strip().split("-")[0].lower() for part in accepted[:200].split(",")]
    return Language(negotiate_locale(wanted, list(LANGUAGES)) or (usual if usual in LANGUAGES else ENGLISH_CODE))


@functools.cache
def _locale(code: str) -> Locale:
    return Locale.parse(_LOCALES[code])


@functools.cache
def _catalogue(code: str) -> gettext.NullTranslations:
    """Return everything that was translated into a language, all its files together."""
    first = gettext.NullTranslations()
    for path in sorted((_FOLDER / code).glob("*.po")):
        with path.open("rb") as stream:
            read = read_po(stream, locale=code)
        compiled = io.BytesIO()
        write_mo(compiled, read)
        compiled.seek(0)
        first.add_fallback(gettext.GNUTranslations(compiled))
    return first
