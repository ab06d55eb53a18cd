"""`python -m deploy` as a whole."""

import subprocess
import sys

import pytest

from deploy.__main__ import main


def test_running_the_demo_needs_nothing_of_what_only_fleets_need():
    code = (
        "import sys, deploy.__main__; print({'rich', 'reportlab', 'segno', 'sqlalchemy', 'nicegui'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("command", [[], ["run"], ["provision"], ["flash"], ["fleet"], ["fleet", "update"]])
def test_help_teaches(capsys, command):
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    assert len(capsys.readouterr().out) > 200
