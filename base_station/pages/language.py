"""The languages of the station: what is written in English here, said as the reader says it.

The English text is the key; `locale/LANGUAGE/PAGE.po` has the others, one file for each page. Babel knows how dates
and numbers are written; what languages have in common is in `base_station.words`.
"""

import functools
import gettext
import io
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from babel import Locale, negotiate_locale
from babel.dates import format_skeleton
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

from base_station.words import English, mark, rounded

__all__ = ["LANGUAGES", "Language", "chosen_language", "mark"]

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


@dataclass(frozen=True, slots=True)
class Language(English):
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
        pattern = "#,##0" + ("." + "0" * digits if digits else "")
        return format_decimal(rounded(value, digits), pattern, locale=self.locale).replace("-", "\u2212")

    def day(self, day: date, skeleton: str = "yMMMd") -> str:
        """Return a day, by default with its month as a word and its year.

        Args:
            day: which.
            skeleton: what of it, as Babel knows it: `MMMd`, `MMMEd`.
        """
        return format_skeleton(skeleton, day, locale=self.locale)

    def dated(self, local: datetime, *, with_year: bool) -> str:
        """Return the day of a local time."""
        return self.day(local.date(), "yMMMd" if with_year else "MMMd")


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
