"""The station's certificate authority: what devices and browsers make of its certificates, as OpenSSL judges."""

import os
import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn

from agent.errors import ConfigError
from base_station import serve
from base_station.__main__ import main
from base_station.authority import ca_file, prepare, renew, server_file
from base_station.settings import Settings

NOW = datetime(2027, 3, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tls"


def trusts(ca: Path, server: Path, host: str) -> str:
    """Shake hands with whoever uses this certificate; return "" or why not."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(server)
    return shake_hands(ca, serving, host)


def shake_hands(ca: Path, serving: ssl.SSLContext, host: str) -> str:
    """Shake hands in memory as a strict client does; return "" or why not."""
    asking = ssl.create_default_context(cafile=str(ca))
    asking.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 and newer ask for
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server, server_hostname=host)
    answering = serving.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (client, answering):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return str(error)
    return ""


def verified_at(moment: datetime, folder: Path, host: str) -> bool:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command, which can judge at another time than now")
    command = ["openssl", "verify", "-x509_strict", "-attime", str(int(moment.timestamp())), "-verify_hostname", host]
    command += ["-CAfile", str(ca_file(folder)), str(server_file(folder))]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("host", ["station.local", "192.168.4.1", "fd00::7", "localhost", "127.0.0.1"])
def test_a_device_that_pins_the_authority_trusts_the_station_under_all_its_names(folder, host):
    prepare(folder, ["station.local", "192.168.4.1", "fd00::7"], NOW)
    assert trusts(ca_file(folder), server_file(folder), host) == ""


def test_it_trusts_no_other_name_and_no_other_authority(folder, tmp_path):
    prepare(folder, ["station.local"], NOW)
    other = prepare(tmp_path / "other", ["station.local"], NOW)
    assert "Hostname mismatch" in trusts(ca_file(folder), server_file(folder), "other.local")
    assert "certificate verify failed" in trusts(other.ca_file, server_file(folder), "station.local")


@pytest.mark.parametrize("year", [1970, 2001, 2026, 2028])
def test_a_phone_with_a_wrong_clock_trusts_it_all_the_same(folder, year):
    prepare(folder, ["station.local"], NOW)
    assert verified_at(datetime(year, 1, 2, tzinfo=UTC), folder, "station.local")


def test_after_its_end_nobody_trusts_the_servers_certificate(folder):
    standing = prepare(folder, ["station.local"], NOW)
    assert not verified_at(standing.ends + timedelta(days=1), folder, "station.local")


def test_a_station_whose_clock_says_2001_makes_certificates_that_are_good_today(folder):
    prepare(folder, ["station.local"], datetime(2001, 1, 1, tzinfo=UTC))
    assert verified_at(datetime(2028, 10, 1, tzinfo=UTC), folder, "station.local")
    assert not renew(folder, datetime(2001, 1, 2, tzinfo=UTC))  # and not a new one at each start


def test_it_is_renewed_a_year_before_its_end_under_the_same_pin(folder):
    first = prepare(folder, ["station.local"], NOW)
    pinned = ca_file(folder).read_bytes()
    assert not renew(folder, NOW + timedelta(days=300))
    assert renew(folder, NOW + timedelta(days=400))
    assert ca_file(folder).read_bytes() == pinned
    assert "station.local" in first.names
    assert trusts(ca_file(folder), server_file(folder), "station.local") == ""
    assert verified_at(NOW + timedelta(days=1000), folder, "station.local")


def test_a_running_station_takes_a_new_certificate_into_use(tmp_path):
    settings = Settings(data=tmp_path)
    prepare(settings.tls_folder, ["station.local"], NOW)
    config = uvicorn.Config("none:none", ssl_certfile=server_file(settings.tls_folder))
    config.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    config.ssl.load_cert_chain(server_file(settings.tls_folder))
    prepare(settings.tls_folder, ["10.1.2.3"], NOW)  # `init` beside it, with another name
    assert shake_hands(ca_file(settings.tls_folder), config.ssl, "10.1.2.3") != ""
    serve._renew(settings, config, NOW)
    assert shake_hands(ca_file(settings.tls_folder), config.ssl, "10.1.2.3") == ""


def test_again_with_the_same_names_it_changes_nothing(folder):
    prepare(folder, ["station.local"], NOW)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert prepare(folder, ["STATION.local."], NOW).made == ()
    assert prepare(folder, [], NOW).made == ()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_other_names_make_another_certificate_under_the_same_authority(folder):
    prepare(folder, ["station.local"], NOW)
    assert prepare(folder, ["10.1.2.3"], NOW).made == ("certificate",)
    assert trusts(ca_file(folder), server_file(folder), "10.1.2.3") == ""
    assert trusts(ca_file(folder), server_file(folder), "station.local") != ""


def test_the_authority_vouches_for_nothing_but_what_is_local_or_was_named_first(folder):
    prepare(folder, ["post.example.org", "203.0.113.5"], NOW)
    prepare(folder, ["www.post.example.org", "203.0.113.5"], NOW)
    for name in ("example.org", "bank.example", "203.0.113.6"):
        with pytest.raises(ConfigError, match="may not vouch for"):
            prepare(folder, [name], NOW)


def test_even_a_stolen_authority_cannot_play_another_site(folder, monkeypatch):
    prepare(folder, ["station.local"], NOW)
    monkeypatch.setattr("base_station.authority._check_permitted", lambda *_: None)
    prepare(folder, ["bank.example"], NOW)
    assert "permitted subtree violation" in trusts(ca_file(folder), server_file(folder), "bank.example")


def test_what_is_secret_is_for_the_owner_alone(folder):
    prepare(folder, ["station.local"], NOW)
    modes = {path.name: path.stat().st_mode & 0o077 for path in folder.iterdir()}
    assert modes["authority.pem"] == modes["station.pem"] == 0
    assert b"PRIVATE" not in ca_file(folder).read_bytes()
    (folder / "authority.pem").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        renew(folder, NOW)


@pytest.mark.parametrize("name", ["", "a b", "-x", "1.2.3", "*.local", "x" * 64, "http://x", "é.local"])
def test_names_that_are_none(folder, name):
    with pytest.raises(ConfigError, match="expected a host name"):
        prepare(folder, [name], NOW)


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_damaged_file_is_named(folder, content):
    prepare(folder, ["station.local"], NOW)
    (folder / "authority.pem").write_bytes(content)
    with pytest.raises(ConfigError, match=r"authority\.pem: is damaged"):
        renew(folder, NOW)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what the service cannot read")
def test_what_root_makes_belongs_to_the_service(tmp_path):
    data = tmp_path / "station"
    data.mkdir()
    os.chown(data, 12_345, 23_456)
    prepare(data / "tls", ["station.local"], NOW)
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (data / "tls", *(data / "tls").iterdir())}
    assert owners == {(12_345, 23_456)}


def test_a_changed_pin_is_put_right(folder):
    prepare(folder, ["station.local"], NOW)
    pinned = ca_file(folder).read_bytes()
    ca_file(folder).write_bytes(b"rubbish")
    prepare(folder, [], NOW)
    assert ca_file(folder).read_bytes() == pinned


def test_init_says_what_it_made(tmp_path, capsys):
    data = tmp_path / "station"
    assert main(["init", "--data", str(data), "--name", "station.local"]) == 0
    assert main(["init", "--data", str(data)]) == 0
    said = capsys.readouterr().out
    assert "authority and certificate made" in said
    assert "nothing was changed" in said
    assert "PRIVATE" not in said
    assert main(["init", "--data", str(data), "--name", "a b"]) == 2
