"""The guides name what there is: states, steps, options."""

import re
from pathlib import Path

import pytest

from deploy.__main__ import main
from deploy.steps import STEPS

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def test_the_field_guide_has_every_state_that_operations_knows():
    table = (DOCS / "operations.md").read_text().split("| state |")[1].split("\n\n")[0]
    states = {name for line in table.splitlines() if line.startswith("| `") for name in named(line.split("|")[1])}
    assert len(states) > 10
    guide = (DOCS / "field-guide.md").read_text()
    assert {state for state in states if f"`{state}`" not in guide} == set()


def named(text: str) -> list[str]:
    return re.findall(r"`([a-z_]+)`", text)


def test_the_fleet_guide_has_every_step_of_flash():
    guide = (DOCS / "fleet.md").read_text()
    assert [step.name for step in STEPS if f"`{step.name}`" not in guide] == []


def test_the_fleet_guide_names_no_option_that_is_none(capsys):
    for command in (["provision"], ["flash"], *(["fleet", action] for action in ("status", "logs", "update"))):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
    with pytest.raises(SystemExit):
        main(["fleet", "pull-journals", "--help"])
    helps = capsys.readouterr().out
    scripts = (DOCS.parent / "deploy" / "termux" / "uninstall.sh").read_text()
    elsewhere = {"--name", "--host", "--config"}  # of station and agent
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (DOCS / "fleet.md").read_text()))
    assert {option for option in options - elsewhere if option not in helps + scripts} == set()
