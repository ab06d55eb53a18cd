"""From a fleet file to devices that the station knows: keys, configurations, labels."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from agent.config import read_config
from agent.signing import KEY_BYTES, read_key
from base_station.__main__ import main as station_main
from base_station.accounts import OPERATOR, Accounts
from base_station.opened import opened_store
from base_station.registry import audit_entries
from base_station.settings import default_database
from deploy.__main__ import main
from deploy.enrol import RemoteRegistrar
from deploy.labels import PER_SHEET, label_text, qr_code
from deploy.roster import read_roster

FLEET = """
schema: 1
station: {urls: ["https://station.local:8765"]}
devices:
  ipe-07:
    name: Ipê at the river
    position: {latitude: -3.1019, longitude: -60.025}
    serial: R58M1234
  cedro-01: {}
  pi-02: {kind: linux, ssh: pi@10.0.0.7, capture: {source: pipe, command: [arecord], sample_rate: 16000}}
"""


class Post:
    """A station's data folder, a fleet file, and where the devices' files go."""

    def __init__(self, root: Path) -> None:
        self.data, self.out, self.fleet = root / "station", root / "fleet", root / "fleet.yaml"
        self.fleet.write_text(FLEET)

    def provision(self, *more: object) -> int:
        arguments = ["provision", self.fleet, "--data", self.data, "--out", self.out, *more]
        return main([str(argument) for argument in arguments])

    def change(self, old: str, new: str) -> None:
        text = self.fleet.read_text()
        assert old in text
        self.fleet.write_text(text.replace(old, new))

    def keys(self) -> dict[str, bytes]:
        return {path.parent.name: read_key(path) for path in self.out.glob("*/device.key")}

    def station_keys(self) -> dict[str, bytes]:
        with opened_store(self.data) as (store, ring):
            return {device.device_id: ring.open(device.sealed_key) for device in store.devices()}


@pytest.fixture
def post(tmp_path: Path) -> Post:
    return Post(tmp_path)


def test_the_station_s_database_may_be_elsewhere(post, tmp_path, monkeypatch):
    monkeypatch.setenv("CURUPIRA_DATABASE", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    assert post.provision() == 0
    assert not (post.data / "station.db").exists()
    with opened_store(post.data, default_database()) as (store, _):
        assert {device.device_id for device in store.devices()} == set(post.keys())


def test_every_device_gets_a_key_that_the_station_knows_and_a_configuration_that_the_agent_takes(post):
    assert post.provision() == 0
    assert post.keys() == post.station_keys()
    assert len(set(post.keys().values())) == 3
    config = read_config(post.out / "ipe-07" / "config.yaml")
    assert (config.device.id, config.device.position.latitude) == ("ipe-07", -3.1019)
    assert config.capture.command[0] == "parec"
    assert config.station.ca_file.read_bytes() == (post.data / "tls" / "ca.pem").read_bytes()
    assert read_key(config.station.key_file)
    assert read_config(post.out / "pi-02" / "config.yaml").capture.command == ("arecord",)
    assert str(read_config(post.out / "pi-02" / "config.yaml").storage.folder) == "/var/lib/curupira"
    assert post.out.stat().st_mode & 0o077 == 0


def test_again_it_keeps_the_keys_and_says_what_changed(post, capsys):
    post.provision()
    keys = post.keys()
    before = {path: path.read_bytes() for path in post.out.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert post.provision() == 0
    assert {path: path.read_bytes() for path in post.out.rglob("*") if path.is_file()} == before
    assert "ipe-07    key kept, configuration unchanged" in capsys.readouterr().out
    post.change("-60.025", "-60.5")
    post.change("  cedro-01: {}", "  cedro-01: {}\n  angelim-03: {}")
    assert post.provision() == 0
    said = capsys.readouterr().out
    assert "ipe-07      key kept, configuration changed: device.position.longitude" in said
    assert "angelim-03  key new, configuration new" in said
    assert keys.items() <= post.keys().items()
    assert post.keys() == post.station_keys()


def test_keys_that_were_removed_here_come_back_from_the_station(post, capsys):
    post.provision()
    keys = post.keys()
    (post.out / "ipe-07" / "device.key").unlink()
    assert post.provision() == 0
    assert "ipe-07    key restored" in capsys.readouterr().out
    assert post.keys() == keys


def test_a_station_that_lost_its_database_gets_the_devices_keys(post):
    post.provision()
    keys = post.keys()
    for path in post.data.glob("station.*"):
        path.unlink()
    assert post.provision() == 0
    assert post.station_keys() == keys


def test_one_device_in_disorder_stops_no_other(post, capsys):
    post.provision()
    (post.out / "ipe-07" / "device.key").write_text("00" * 32)
    station_main(["device", "revoke", "cedro-01", "--data", str(post.data)])
    post.change("-60.025", "-60.5")
    capsys.readouterr()
    assert post.provision("--json") == 1
    results = {line["id"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {name: line["good"] for name, line in results.items()} == {
        "ipe-07": False,
        "cedro-01": False,
        "pi-02": True,
    }
    assert "is not the key that the station has" in results["ipe-07"]["problem"]
    assert "--rotate" in results["cedro-01"]["problem"]
    assert post.keys()["ipe-07"] == bytes(32)  # nothing is overwritten


def test_a_device_that_is_no_longer_in_the_file_is_named_and_not_revoked(post, capsys):
    post.provision()
    post.change("  cedro-01: {}\n", "")
    assert post.provision() == 0
    assert "cedro-01  the station admits it, the fleet file has it not" in capsys.readouterr().out
    assert "cedro-01" in post.station_keys()


def test_the_stations_certificate_is_good_for_every_address_of_the_fleet(post, capsys):
    station_main(["init", "--data", str(post.data), "--name", "10.9.8.7"])
    pinned = (post.data / "tls" / "ca.pem").read_bytes()
    post.provision()
    capsys.readouterr()
    station_main(["init", "--data", str(post.data)])
    said = capsys.readouterr().out
    assert "10.9.8.7" in said
    assert "station.local" in said
    assert (post.data / "tls" / "ca.pem").read_bytes() == pinned


# labels


def test_a_label_has_name_id_and_position_and_nothing_of_the_key(post, capsys):
    post.provision()
    drawn = (post.out / "labels.pdf").read_bytes()
    for text in (
        b"Ip\\352 at the river",
        b"(ipe-07)",
        b"(-3.10190)",
        b"(-60.02500)",
        b"(phone R58M1234)",
        b"(cedro-01)",
    ):
        assert text in drawn, text
    everything = drawn + capsys.readouterr().out.encode()
    everything += b"".join(path.read_bytes() for path in post.out.glob("*/label.svg"))
    for member in read_roster(post.fleet).members:
        key = post.keys()[member.id]
        everything += label_text(member).encode()
        assert key.hex().encode() not in everything
        assert key not in everything


def test_the_qr_code_says_the_same(post):
    member = read_roster(post.fleet).members[0]
    facts = parse_qs(urlsplit(label_text(member)).query)
    assert facts == {"id": ["ipe-07"], "name": ["Ipê at the river"], "lat": ["-3.101900"], "lon": ["-60.025000"]}
    assert qr_code(member).error == "Q"


def test_labels_go_on_with_a_sheet_that_was_begun(post):
    devices = "".join(f"  d-{n:02d}: {{}}\n" for n in range(PER_SHEET))
    post.fleet.write_text(f"station: {{urls: ['http://127.0.0.1:8765']}}\ndevices:\n{devices}")
    post.provision()
    assert (post.out / "labels.pdf").read_bytes().count(b"/Type /Page\n") == 1
    post.provision("--first-label", 2)
    assert (post.out / "labels.pdf").read_bytes().count(b"/Type /Page\n") == 2
    assert post.provision("--first-label", PER_SHEET + 1) == 2


# bad fleet files: file, key, value, expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("latitude: -3.1019", "latitude: -93", "devices.ipe-07.position.latitude: is -93, expected a number from -90"),
        ("latitude: -3.1019", "lattitude: -3", "devices.ipe-07.position.latitude: is missing"),
        ("cedro-01: {}", "Cedro 1: {}", "devices.'Cedro 1': is no device id, expected small letters"),
        ("cedro-01: {}", "ipe-07: {}", "line 9: the key 'ipe-07' is there twice"),
        ("cedro-01: {}", "cedro-01: {knd: phone}", "devices.cedro-01.knd: is not a known key; did you mean kind?"),
        (
            "cedro-01: {}",
            "cedro-01: {kind: tablet}",
            "devices.cedro-01.kind: is 'tablet', expected one of phone, linux",
        ),
        (
            "cedro-01: {}",
            "cedro-01: {serial: R58M1234}",
            "devices.cedro-01.serial: is 'R58M1234', which ipe-07 has too",
        ),
        ("cedro-01: {}", "cedro-01: {storage: {outbox_mb: 0}}", "devices.cedro-01.storage.outbox_mb: is 0, expected"),
        ("cedro-01: {}", "cedro-01: {storage: {folder: /x}}", "devices.cedro-01.storage.folder: is '/x', expected ~/"),
        ("cedro-01: {}", "cedro-01: {name: 森}", "devices.cedro-01.name: is '森', expected letters that a label"),
        ("cedro-01: {}", "cedro-01: *x", "is not YAML for a fleet: it holds an alias"),
        ("pi@10.0.0.7", "-oProxyCommand=x", "devices.pi-02.ssh: is '-oProxyCommand=x', expected user@host"),
        (
            "https://station.local",
            "http://station.local",
            "station.urls: holds 'http://station.local:8765', expected https",
        ),
        ('["https://station.local:8765"]', "[]", "station.urls: is empty, expected at least one address"),
        ("devices:", "device:", "devices: is missing"),
    ],
)
def test_a_bad_fleet_file_is_refused_and_nothing_is_made(post, capsys, old, new, expected):
    post.change(old, new)
    assert post.provision() == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {post.fleet}: ")
    assert expected in said
    assert not post.out.exists()
    assert not post.data.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"[1, 2]", b"a: !!python/object:os.system x", b"x: [[[[[[[[[[[[1]]]]]]]]]]]]"]
)
def test_what_is_no_fleet_file(post, capsys, content):
    post.fleet.write_bytes(content)
    assert post.provision() == 2
    assert str(post.fleet) in capsys.readouterr().err


@pytest.mark.slow
def test_a_provisioned_device_speaks_to_the_station_over_tls(post, tmp_path):
    post.fleet.write_text("station: {urls: ['https://127.0.0.1:8765']}\ndevices: {ipe-07: {}}\n")
    post.provision()
    command = [sys.executable, "-m", "base_station", "serve", "--data", str(post.data), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as station:
        assert station.stdout is not None
        url = station.stdout.readline().removeprefix("page: ").strip()
        config = post.out / "ipe-07" / "config.yaml"
        document = yaml.safe_load(config.read_text())
        document["station"]["urls"] = [url.rstrip("/")]
        document["storage"]["folder"] = str(tmp_path / "state")
        config.write_text(yaml.safe_dump(document))
        asked = [sys.executable, "-m", "agent", "doctor", "--config", str(config)]
        said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        station.terminate()
    assert url.startswith("https://127.0.0.1:")
    assert "station     signed answer in" in said, said


@pytest.fixture
def remote(post, tmp_path):
    """A station in a process of its own, a token for it, and the arguments that name both."""
    from tests.base_station.conftest import StationProcess

    assert station_main(["token", "add", "rig", "--role", "operator", "--data", str(post.data)]) == 0
    station = StationProcess(post.data).wait_ready()
    yield station
    station.stop()


def test_a_fleet_is_registered_over_the_api_of_a_station_elsewhere(post, tmp_path, remote, capsys):
    with opened_store(post.data) as (store, _):
        token = tmp_path / "token"
        token.write_text(Accounts(store.database).add_token("desk", OPERATOR, datetime.now(UTC)))
        token.chmod(0o600)
    ca = tmp_path / "ca.pem"
    ca.write_text("the station's authority")
    words = ["provision", post.fleet, "--out", post.out, "--station", remote.url, "--token-file", token, "--ca", ca]

    def provision() -> list[dict]:
        capsys.readouterr()
        code = main([str(word) for word in [*words, "--json"]])
        results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert code == (0 if all(result["good"] for result in results) else 1)
        return results

    assert [result["key"] for result in provision()] == ["new", "new", "new"]
    assert post.keys() == post.station_keys()
    assert (post.out / "ipe-07" / "ca.pem").read_text() == ca.read_text()
    post.change("latitude: -3.1019", "latitude: -3.2")
    assert [result["key"] for result in provision()] == ["kept", "kept", "kept"]
    with opened_store(post.data) as (store, _):
        assert (store.device("ipe-07").name, store.device("ipe-07").latitude) == ("Ipê at the river", -3.2)
        assert [entry.action for entry in audit_entries(store)][:2] == ["device_moved", "device_added"]
        # an answer that was lost: the station has the key, the device's folder only the draft of it
        (post.out / "pi-02" / "device.key").rename(post.out / "pi-02" / ".device.key.new")
        (post.out / "cedro-01" / "device.key").unlink()
        store.revoke_device("ipe-07", datetime.now(UTC))
    revoked, lost, resumed = provision()
    assert (resumed["key"], resumed["good"]) == ("new", True)
    assert not revoked["good"]
    assert "refused since" in revoked["problem"]
    assert not lost["good"]
    assert "its key is another" in lost["problem"]
    assert not (post.out / "cedro-01" / "device.key").exists()


def test_every_device_of_a_station_elsewhere_is_known_however_many_there_are(post, remote):
    with opened_store(post.data) as (store, ring):
        token = Accounts(store.database).add_token("desk", OPERATOR, datetime.now(UTC))
        sealed = ring.seal(bytes(KEY_BYTES))
        names = [f"tree-{number:03d}" for number in range(130)]
        for name in names:
            store.add_device(name, sealed, datetime.now(UTC))
    assert RemoteRegistrar(remote.url, token, None).admitted() == names


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--station", "https://post:8765"], "needs --token-file"),
        (["--station", "http://post:8765", "--token-file", "TOKEN"], "expected https://"),
        (["--station", "https://post:8765", "--token-file", "TOKEN"], "--ca: is missing"),
        (["--station", "https://post:8765", "--token-file", "OPEN", "--ca", "TOKEN"], "chmod 600"),
        (["--station", "https://post:8765", "--token-file", "NONE", "--ca", "TOKEN"], "cannot be read"),
        (["--station", "https://post:8765", "--token-file", "TOKEN", "--data", "."], "--data"),
        (["--token-file", "TOKEN"], "--token-file: goes with --station"),
    ],
)
def test_what_a_station_elsewhere_needs_is_named(post, tmp_path, capsys, words, says):
    for name, mode in (("TOKEN", 0o600), ("OPEN", 0o644)):
        (tmp_path / name).write_text("crp_x")
        (tmp_path / name).chmod(mode)
    given = [str(tmp_path / word) if word in ("TOKEN", "OPEN", "NONE") else word for word in words]
    assert main(["provision", str(post.fleet), "--out", str(post.out), *given]) == 2
    assert says in capsys.readouterr().err
