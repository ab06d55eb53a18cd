"""The bundle: best effort, each part on its own, and nothing in it that must not leave the device."""

import gzip
import io
import json
import sqlite3
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import support
from agent.__main__ import main
from agent.support import Scope, parts, write_bundle

KEY = "ab" * 32


@pytest.fixture
def config(tmp_path: Path) -> Path:
    key = tmp_path / "device.key"
    key.write_text(KEY)
    key.chmod(0o600)
    path = tmp_path / "ipe-07.yaml"
    path.write_text(
        "device: {id: ipe-07, position: {latitude: -3.10123, longitude: -60.02345}}\n"
        "station: {urls: ['https://station:8443'], key_file: device.key}\n"
        f"storage: {{folder: ipe-07}}\n# {KEY}\n# wifi password: jaguar\n"
    )
    return path


def files(bundle: Path) -> dict[str, bytes]:
    with tarfile.open(bundle) as tar:
        found = {member.name.removeprefix("support/"): tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() for name, file in found.items() if file is not None}


def opened(content: dict[str, bytes]) -> str:
    """Return all that a reader of the bundle can read."""
    return "\n".join((gzip.decompress(raw) if name.endswith(".gz") else raw).decode() for name, raw in content.items())


def bundle(tmp_path: Path, *arguments: object) -> dict[str, bytes]:
    out = tmp_path / "out.tar.gz"
    assert main(["support-bundle", "--out", str(out), *map(str, arguments)]) == 0
    assert out.stat().st_mode & 0o777 == 0o600
    return files(out)


def test_it_holds_what_helps_and_nothing_that_must_stay(tmp_path, config, field, capsys):
    field.journal.event("link_down", reason=f"https://rangers:jaguar@station:8443: signature v1={KEY}")
    field.hear((60, -60, -60))
    field.stop()
    log = tmp_path / "agent.log"
    log.write_text('wlan0 ESSID:"Posto do Guarda" Mode:Managed\nstarted\n')
    content = bundle(tmp_path, "--config", config, "--log", log)
    assert {"report.txt", "config.yaml", "doctor.json", "system.json", "state.txt", "logs/0-agent.log"} <= set(content)
    assert any(name.startswith("journal/journal-") for name in content)
    text = opened(content)
    for secret in (KEY, "jaguar", "Posto", "60.02345", "3.10123"):
        assert secret not in text, secret
    assert "ipe-07" in text
    assert "link_down" in text
    assert "started" in text
    assert "readable by you alone" in capsys.readouterr().out


def test_positions_may_be_left_in(tmp_path, config):
    assert "60.02345" in opened(bundle(tmp_path, "--config", config, "--keep-positions"))


def test_a_part_that_fails_is_named_and_stops_no_other(tmp_path, config, field):
    field.stop()
    outbox = field.folder / "outbox.db"
    outbox.write_bytes(b"rotten" * 1_000)
    content = bundle(tmp_path, "--config", config)
    report = content["report.txt"].decode()
    assert "outbox       FAILED" in report
    assert "not a database" in report
    assert any(name.startswith("journal/") for name in content)


def test_a_broken_configuration_is_bundled_and_what_is_wrong_with_it_told(tmp_path, config, field):
    field.stop()
    config.write_text("device: {id: ipe-07}\nsation: {}\npassword: jaguar\n")
    content = bundle(tmp_path, "--config", config, "--dir", field.folder)
    assert "sation" in content["config.yaml"].decode()
    assert "config-check FAILED" in content["report.txt"].decode()
    assert "jaguar" not in opened(content)


def test_a_part_that_hangs_does_not_hang_the_bundle(tmp_path):
    free = threading.Event()

    def hangs() -> Iterator[tuple[str, bytes]]:
        yield "first.txt", b"came"
        free.wait(30)

    def works() -> Iterator[tuple[str, bytes]]:
        yield "second.txt", b"came as well"

    scope = Scope(config_file=None, config=None, folder=None, logs=(), keep_positions=False)
    out = tmp_path / "out.tar.gz"
    gathered = write_bundle(out, scope, {"slow": hangs, "quick": works}, longest_s=0.1)
    free.set()
    assert gathered.failed == ["slow"]
    assert {"first.txt", "second.txt"} <= set(files(out))


def test_the_newest_of_the_journal_is_kept_where_it_is_too_long(tmp_path, field, monkeypatch):
    field.stop()
    field.start("killed")
    field.stop()
    monkeypatch.setattr(support, "_JOURNAL_BYTES", 500)
    scope = Scope(config_file=None, config=None, folder=field.folder, logs=(), keep_positions=False)
    assert [name for name, _ in parts(scope)["journal"]()] == ["journal/journal-00000001.jsonl.gz"]


def test_waiting_alerts_are_listed_without_place_and_picture(tmp_path, field):
    field.stop()
    with sqlite3.connect(field.folder / "outbox.db") as db:
        db.execute(
            "CREATE TABLE messages (seq INTEGER, alert_id TEXT, revision INTEGER, crc INTEGER, attempts INTEGER, "
            "parked TEXT, body BLOB)"
        )
        body = json.dumps({"label": "chainsaw", "position": {"latitude": -3.1}, "log_mel": {"data": "AAAA"}}).encode()
        db.execute("INSERT INTO messages VALUES (1, 'a', 0, 0, 7, NULL, ?)", (body,))
    db.close()
    scope = Scope(config_file=None, config=None, folder=field.folder, logs=(), keep_positions=True)
    ((_, told),) = parts(scope)["outbox"]()
    assert json.load(io.BytesIO(told))["newest"][0]["label"] == "chainsaw"
    assert b"AAAA" not in told
    assert b"latitude" not in told


def test_wrong_use_is_said(tmp_path, capsys):
    assert main(["support-bundle"]) == 2
    assert "--config, or its state folder with --dir" in capsys.readouterr().err
    assert main(["support-bundle", "--dir", str(tmp_path), "--out", "/nowhere/x.tar.gz"]) == 1
    assert "name another with --out" in capsys.readouterr().err
