"""The fleet file as a reader of anything: a roster, or an error of ours."""

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError
from deploy.roster import Roster, read_roster
from deploy.state import State, assign

WORDS = (
    "schema",
    "station",
    "urls",
    "devices",
    "phone",
    "linux",
    "position",
    "latitude",
    "longitude",
    "kind",
    "serial",
)
WORDS += (
    "kind",
    "serial",
    "ssh",
    "name",
    "capture",
    "storage",
    "folder",
    "source",
    "ipe-07",
    "https://a",
    "~/x",
    "pipe",
    "",
)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS), st.text(max_size=5))
TREES = st.recursive(
    VALUES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(WORDS), VALUES), inner, max_size=4)
    ),
    max_leaves=12,
)


def read(folder: Path, document: Any) -> Roster | str:
    path = folder / "fleet.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document, allow_unicode=True))
    try:
        return read_roster(path)
    except ConfigError as error:
        return str(error)


@given(document=TREES, part=st.sampled_from(("all", "station", "device", "phone")))
@settings(max_examples=150)
def test_whatever_is_in_it_is_a_roster_or_an_error_that_names_the_file(tmp_path_factory, document, part):
    folder = tmp_path_factory.getbasetemp()
    whole: Any = {"station": {"urls": ["https://a:1"]}, "devices": {"ipe-07": {}}}
    if part == "all":
        whole = document
    elif part == "device":
        whole["devices"]["ipe-07"] = document
    else:
        whole[part] = document
    result = read(folder, whole)
    if isinstance(result, str):
        assert result.startswith(f"{folder / 'fleet.yaml'}: ")
        assert "\n" not in result
        assert len(result) < 600


@given(
    serials=st.lists(st.sampled_from(["s1", "s2", "s3", "s4", "s5"]), unique=True),
    n_free=st.integers(0, 5),
    before=st.dictionaries(st.sampled_from(["s1", "s2", "s3", "x9"]), st.sampled_from(["d0", "d1", "fixed", "gone"])),
)
@settings(max_examples=60)
def test_no_two_phones_become_one_device_and_each_stays_what_it_was(tmp_path_factory, serials, n_free, before):
    folder = tmp_path_factory.mktemp("assign")
    devices = "".join(f"  d{n}: {{}}\n" for n in range(n_free))
    roster = read(folder, f"station: {{urls: ['https://a:1']}}\ndevices:\n  fixed: {{serial: s5}}\n{devices}")
    assert isinstance(roster, Roster)
    for serial, device in before.items():
        state = State(folder, serial)
        state.device = device
        state.keep()
    assigned = assign(roster, serials, {serial: State(folder, serial) for serial in serials}, folder)
    assert len(set(assigned.values())) == len(assigned)
    assert all(device == "fixed" for serial, device in assigned.items() if serial == "s5")
    again = assign(roster, serials, {serial: State(folder, serial) for serial in serials}, folder)
    assert again == assigned
    for serial, device in assigned.items():
        alone = [one for one, was in before.items() if was == before.get(serial)] == [serial]
        if alone and before[serial] in {f"d{n}" for n in range(n_free)}:
            assert device == before[serial]
