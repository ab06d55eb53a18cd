"""Device keys at rest, and the station key that guards them."""

import logging
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from agent.errors import ConfigError
from agent.signing import new_key
from base_station.keys import KeyRing, open_ring, write_secret


def test_a_sealed_key_opens_with_the_same_station_key_alone(tmp_path: Path):
    ring = open_ring(tmp_path / "station.key", make=True)
    key = new_key()
    sealed = ring.seal(key)
    assert key not in sealed
    assert open_ring(tmp_path / "station.key", make=False).open(sealed) == key
    with pytest.raises(ConfigError, match=r"station\.key"):
        KeyRing(Fernet.generate_key()).open(sealed)


def test_the_station_key_is_for_its_owner_alone(tmp_path: Path):
    path = tmp_path / "station.key"
    open_ring(path, make=True)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        open_ring(path, make=False)


def test_a_lost_station_key_is_not_replaced_in_silence(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"station\.key: cannot read"):
        open_ring(tmp_path / "station.key", make=False)
    assert not (tmp_path / "station.key").exists()


def test_a_spoilt_station_key_is_named_and_not_shown(tmp_path: Path):
    path = tmp_path / "station.key"
    write_secret(path, b"hush-hush")
    with pytest.raises(ConfigError) as caught:
        open_ring(path, make=True)
    assert str(path) in str(caught.value)
    assert "hush-hush" not in str(caught.value)


def test_a_secret_never_overwrites_another(tmp_path: Path):
    path = tmp_path / "a.key"
    write_secret(path, b"first")
    with pytest.raises(FileExistsError):
        write_secret(path, b"second")
    assert path.read_bytes() == b"first\n"
    assert [found.name for found in tmp_path.iterdir()] == ["a.key"]
    with pytest.raises(ConfigError, match="cannot write"):
        write_secret(tmp_path / "nowhere" / "b.key", b"x")


def test_no_key_is_logged(station, ipe, alert_of, caplog):
    with caplog.at_level(logging.DEBUG):
        station.send(ipe, alert_of("ipe-07"))
        ipe.key = new_key()
        station.post(ipe, "/v1/alerts", alert_of("ipe-07").to_json())
    assert ipe.key.hex() not in caplog.text
