"""The catalogues: everything that the pages mark is said in every language, with the same places for values."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir, extract_from_file
from babel.messages.pofile import read_po

from base_station import pages
from base_station.pages.language import LANGUAGES, Language, chosen_language

FOLDER = Path(pages.__file__).parent
OTHERS = sorted(set(LANGUAGES) - {"en"})


KEYWORDS = {"say": None, "mark": None, "plural": (1, 2)}
ELSEWHERE = ("words.py", "deadman.py")
"""Beside the pages: what messages and commands say in English too."""


def marked() -> set[str | tuple[str, ...]]:
    found = {message for _, _, message, _, _ in extract_from_dir(str(FOLDER), [("**.py", "python")], keywords=KEYWORDS)}
    for name in ELSEWHERE:
        found |= {message for _, message, _, _ in extract_from_file("python", FOLDER.parent / name, keywords=KEYWORDS)}
    return found


def translated(code: str) -> Catalog:
    whole = Catalog(locale=code)
    for path in sorted((FOLDER / "locale" / code).glob("*.po")):
        with path.open("rb") as stream:
            for message in read_po(stream, locale=code):
                if message.id:
                    whole.add(message.id, message.string, flags=message.flags)
    return whole


def places(text: str) -> list[str]:
    return sorted(re.findall(r"\{\w+\}", text))


@pytest.mark.parametrize("code", OTHERS)
def test_every_marked_text_is_translated_with_the_same_places(code: str) -> None:
    catalogue = translated(code)
    for key in marked():
        message = catalogue.get(key[0] if isinstance(key, tuple) else key)
        assert message is not None, f"{code}: {key!r} is missing"
        said = message.string if isinstance(message.string, (tuple, list)) else (message.string,)
        assert all(said), f"{code}: {key!r} is empty"
        assert not message.fuzzy, f"{code}: {key!r} is fuzzy"
        english = key[0] if isinstance(key, tuple) else key
        assert all(places(one) == places(english) for one in said), f"{code}: {key!r} has other places: {said}"


@pytest.mark.parametrize("code", OTHERS)
def test_nothing_is_translated_that_no_page_says(code: str) -> None:
    known = {key[0] if isinstance(key, tuple) else key for key in marked()}
    ours = {message.id[0] if isinstance(message.id, tuple) else message.id for message in translated(code)}
    assert ours - known - {""} == set()


def test_numbers_plurals_and_spans_follow_the_language() -> None:
    portuguese, indonesian = Language("pt"), Language("id")
    assert portuguese.plural("{count} day", "{count} days", 1) == "1 dia"
    assert portuguese.plural("{count} day", "{count} days", 3) == "3 dias"
    assert indonesian.plural("{count} day", "{count} days", 3) == "3 hari"
    assert portuguese.number(1234.5, 1) == "1.234,5"
    now = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
    assert Language("fr").ago(now, now) == "à l'instant"


@pytest.mark.parametrize(
    ("cookie", "accepted", "usual", "code"),
    [
        ("", "pt-BR,pt;q=0.9,en;q=0.8", "en", "pt"),
        ("fr", "pt-BR", "en", "fr"),
        ("xx", "de-DE,de", "id", "id"),
        ("", "", "nonsense", "en"),
        ("", ";;,,\x00" * 500, "es", "es"),
    ],
)
def test_the_reader_gets_what_he_chose_else_what_his_browser_says(
    cookie: str, accepted: str, usual: str, code: str
) -> None:
    assert chosen_language(cookie, accepted, usual).code == code
