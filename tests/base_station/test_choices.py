"""What operators choose on the page: sealed in the database, joined to station.yaml, taken up by the look around."""

from datetime import UTC, datetime

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

from agent.errors import ConfigError, FieldError
from base_station import tables
from base_station.accounts import OPERATOR, VIEWER, Accounts, LastOperatorError
from base_station.choices import Choices, Ways
from base_station.config import PageConfig, StationConfig
from base_station.keys import KeyRing
from base_station.notices import Rule
from base_station.notify_rules import Way
from base_station.pages.rule_document import document_of
from base_station.registry import audit_entries
from base_station.retention import Retention

NOW = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
SECRET = "json://ana:hidden-word@127.0.0.1:9/hook"
BY = {"who": "ana", "now_utc": NOW}

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def choices(store) -> Choices:
    return Choices(store.database, KeyRing(Fernet.generate_key()))


def rule(name: str = "rangers", **more: object) -> dict[str, object]:
    return {"name": name, "apprise": [SECRET], **more}


@both
def test_a_rule_is_added_changed_and_removed_and_each_is_written_down_without_its_secrets(store, choices):
    choices.put_rule(rule(labels=["chainsaw"]), **BY)
    choices.put_rule(rule(confidence=0.7), **BY)
    (way,) = choices.joined(StationConfig()).ways
    assert (way.rule, way.apprise) == (Rule(name="rangers", confidence=0.7), (SECRET,))
    assert choices.remove_rule("rangers", **BY)
    assert not choices.remove_rule("rangers", **BY)
    entries = audit_entries(store)
    assert [entry.action for entry in entries] == ["rule_removed", "rule_set", "rule_set"]
    assert "hidden-word" not in str(entries)


def test_whoever_copies_the_database_reads_no_address(store, choices):
    choices.put_rule(rule(), **BY)
    with store.database.read() as connection:
        (row,) = connection.execute(select(tables.choices)).all()
    assert b"hidden-word" not in row.sealed
    foreign = Choices(store.database, KeyRing(Fernet.generate_key()))
    assert foreign.joined(StationConfig()) == StationConfig()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (rule(confidence=7), "rule.confidence: is 7, expected a number from 0 to 1"),
        (rule(hours="evening"), "rule.hours"),
        (rule(name=""), "rule.name"),
        ({"name": "a", "apprise": ["nonsense"]}, "rule.apprise.0: is no address"),
        ({"name": "a", "apprise": []}, "rule.apprise: expected either"),
    ],
)
def test_what_is_no_rule_is_refused_by_name_and_changes_nothing(choices, document, says):
    with pytest.raises((FieldError, ConfigError)) as caught:
        choices.put_rule(document, **BY)
    assert says in str(caught.value)
    assert choices.rules() == {}


def test_the_file_holds_and_choices_fill_what_it_leaves_open(choices):
    choices.put_rule(rule("rangers"), **BY)
    choices.put_rule(rule("map"), **BY)
    choices.set_retention(Retention(alert_days=30, megabytes=500), **BY)
    choices.set_language("pt", **BY)
    by_file = Way(rule=Rule(name="rangers", drills=True), apprise=("json://127.0.0.1",))
    told = StationConfig(ways=(by_file,), retention=Retention(alert_days=90), page=PageConfig(language="fr"))
    joined = choices.joined(told)
    assert [way.rule.name for way in joined.ways] == ["rangers", "map"]
    assert joined.ways[0] == by_file
    assert joined.retention == Retention(alert_days=90, megabytes=500)
    assert (joined.page.language, choices.joined(StationConfig()).page.language) == ("fr", "pt")
    with pytest.raises(FieldError):
        choices.set_language("xx", **BY)


def test_ways_follow_the_rules_without_a_restart(choices):
    ways = Ways(lambda: choices.joined(StationConfig()))
    assert ways() == {}
    choices.put_rule(rule(), **BY)
    first = ways()
    assert set(first) == {"rangers"}
    assert ways() is first  # nothing is opened anew at every look
    choices.remove_rule("rangers", **BY)
    assert ways() == {}


def test_a_form_becomes_the_document_of_a_rule():
    said = {
        "name": "x", "apprise": " json://a \n\n json://b", "about_incident": "on", "label_chainsaw": "on", "ends": "on",
        "confidence": "70", "hours": " 18 - 6 ", "digest_minutes": "30", "latitude": "\u22123,1", "longitude": "-60",
        "radius_km": "20",
    }  # fmt: skip
    assert document_of(said, "rangers", None, ["chainsaw", "engine"]) == {
        "name": "rangers",
        "about": ["incident"],
        "labels": ["chainsaw"],
        "ends": True,
        "hours": "18-6",
        "confidence": 0.7,
        "digest_minutes": 30,
        "area": {"latitude": -3.1, "longitude": -60.0, "radius_km": 20.0},
        "apprise": ["json://a", "json://b"],
    }
    kept = Way(rule=Rule(name="rangers"), apprise=(SECRET,))
    assert document_of({"apprise": " "}, "rangers", kept, []) == {"name": "rangers", "apprise": [SECRET]}


@both
def test_a_station_keeps_an_operator(store):
    accounts = Accounts(store.database)
    with pytest.raises(LastOperatorError):
        accounts.set_person("eva", VIEWER, "long enough", NOW, keep_operator=True)
    with pytest.raises(LastOperatorError):
        accounts.add_token("gis", VIEWER, NOW, keep_operator=True)
    accounts.set_person("ana", OPERATOR, "long enough", NOW, keep_operator=True)
    accounts.set_person("eva", VIEWER, "long enough", NOW, keep_operator=True)
    for refused in (
        lambda: accounts.remove_person("ana", keep_operator=True),
        lambda: accounts.set_person("ana", VIEWER, "long enough", NOW, keep_operator=True),
    ):
        with pytest.raises(LastOperatorError):
            refused()
    assert accounts.people() == [("ana", OPERATOR), ("eva", VIEWER)]
    accounts.set_person("eva", OPERATOR, "long enough", NOW, keep_operator=True)
    assert accounts.remove_person("ana", keep_operator=True)
