"""The commands, and what they say when something is wrong."""

import json
import re
import socket
from pathlib import Path

import pytest

from agent.signing import read_key
from base_station.__main__ import main


def run(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as exit_:  # argparse ends so
        return int(exit_.code or 0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "station"


def test_adding_a_device_writes_its_key_for_its_owner_and_shows_it_to_nobody(data, tmp_path, capsys):
    key_file = tmp_path / "ipe.key"
    assert run("device", "add", "ipe-07", "--data", data, "--key-out", key_file) == 0
    out = capsys.readouterr()
    key = read_key(key_file)  # also refuses a file that others may read
    assert str(key_file) in out.out
    assert key.hex() not in out.out + out.err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_without_a_file_name_the_key_goes_here(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("device", "add", "ipe-07", "--data", data) == 0
    assert read_key(tmp_path / "ipe-07.key")


def test_a_name_is_given_once_unless_its_key_is_rotated(data, tmp_path, capsys):
    key_file = tmp_path / "ipe.key"
    run("device", "add", "ipe-07", "--data", data, "--key-out", key_file)
    first = read_key(key_file)
    assert run("device", "add", "ipe-07", "--data", data, "--key-out", tmp_path / "other.key") == 2
    assert "--rotate" in capsys.readouterr().err
    assert not (tmp_path / "other.key").exists()
    assert run("device", "add", "ipe-07", "--data", data, "--key-out", key_file, "--rotate") == 0
    assert read_key(key_file) != first


def test_rotating_a_device_that_is_not_there_adds_it(data, tmp_path):
    assert run("device", "add", "ipe-07", "--data", data, "--key-out", tmp_path / "a.key", "--rotate") == 0


def test_a_key_file_that_is_there_is_left_alone(data, tmp_path, capsys):
    precious = tmp_path / "a.key"
    precious.write_text("precious")
    assert run("device", "add", "ipe-07", "--data", data, "--key-out", precious) == 2
    assert precious.read_text() == "precious"
    assert str(precious) in capsys.readouterr().err
    run("device", "list", "--data", data)
    assert "no devices" in capsys.readouterr().out


def test_a_key_that_cannot_be_written_adds_no_device(data, tmp_path, capsys):
    assert run("device", "add", "ipe-07", "--data", data, "--key-out", tmp_path / "no" / "such" / "a.key") == 2
    run("device", "list", "--data", data)
    assert "no devices" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["Ipe 07", "../x", "", "ipé", "-x", "x" * 64])
def test_names_that_are_none(data, tmp_path, name):
    assert run("device", "add", "--data", data, "--key-out", tmp_path / "a.key", "--", name) == 2


def test_devices_are_listed_and_revoked(data, tmp_path, capsys):
    for name in ("ipe-07", "cedro-01"):
        run("device", "add", name, "--data", data, "--key-out", tmp_path / f"{name}.key")
    assert run("device", "revoke", "ipe-07", "--data", data) == 0
    assert run("device", "revoke", "nobody", "--data", data) == 2
    capsys.readouterr()
    assert run("device", "list", "--data", data) == 0
    assert capsys.readouterr().out == "cedro-01  never called\nipe-07  revoked\n"
    run("device", "list", "--data", data, "--json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["device_id"], line["revoked"]) for line in lines] == [("cedro-01", False), ("ipe-07", True)]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", ""])
def test_serving_beyond_loopback_is_refused_with_the_reason(data, capsys, host):
    assert run("serve", "--data", data, "--host", host) == 2
    assert "TLS" in capsys.readouterr().err
    assert not data.exists()


def test_a_taken_port_is_named(data, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run("serve", "--data", data, "--port", port) == 2
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_a_port_that_is_none(data, port):
    assert run("serve", "--data", data, f"--port={port}") == 2


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    assert run("serve", "--data", in_the_way, "--port", 0) == 2
    assert run("device", "list", "--data", in_the_way / "below") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(line.startswith("error: --data: ") and str(in_the_way) in line for line in errors)


def test_a_lost_station_key_stops_the_station(data, tmp_path, capsys):
    run("device", "add", "ipe-07", "--data", data, "--key-out", tmp_path / "a.key")
    (data / "station.key").unlink()
    assert run("device", "list", "--data", data) == 2
    assert re.search(r"station\.key: cannot read the station key", capsys.readouterr().err)


@pytest.mark.parametrize(
    "arguments", [[], ["serve"], ["device"], ["device", "add"], ["device", "list"], ["device", "revoke"]]
)
def test_help_teaches(capsys, arguments):
    assert run(*arguments, "--help") == 0
    assert len(capsys.readouterr().out) > 200


def test_wrong_use_ends_with_2(capsys):
    assert run() == 2
    assert run("serve", "--prot", "1") == 2
