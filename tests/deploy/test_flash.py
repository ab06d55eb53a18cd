"""Flashing a table full of phones, some of which refuse, hang, are full, old, or pulled off the cable."""

import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from deploy.__main__ import main
from deploy.state import State

FAKE = Path(__file__).with_name("fake_adb.py")
HEALTHY = ("galaxy-s21", "pixel-6", "moto-g5", "galaxy-j5", "redmi-9", "huawei-p20", "nokia-7")


class Table:
    """Phones on a table, an adb, a fleet file, APKs and bundles."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.phones = root, root / "phones"
        self.phones.mkdir()
        monkeypatch.setenv("FAKE_ADB", str(self.phones))
        self.adb = root / "adb"
        self.adb.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{FAKE}" "$@"\n')
        self.adb.chmod(0o700)
        self.devices: list[str] = []
        self.apks = root / "apks"
        self.apks.mkdir()
        for name in ("app_v1_arm64-v8a", "app_v1_armeabi-v7a", "app_v1_x86_64", "api-app_v1", "boot-app_v1"):
            (self.apks / f"termux-{name}.apk").write_text(name)
        for processor in ("aarch64", "arm"):
            self.make_bundle(processor, b"first")

    def make_bundle(self, processor: str, content: bytes) -> None:
        with tarfile.open(self.root / f"{processor}.tar.gz", "w:gz") as tar:
            for name, text in (("manifest.json", f'{{"target": "termux-{processor}"}}'.encode()), ("wheel", content)):
                member = tarfile.TarInfo(f"curupira/{name}")
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))

    def put(self, serial: str, *traits: str) -> str:
        folder = self.phones / serial
        folder.mkdir()
        (folder / "profile").write_text("\n".join(traits))
        return serial

    def change(self, serial: str, *traits: str) -> None:
        (self.phones / serial / "profile").write_text("\n".join(traits))

    def provision(self, devices: str) -> None:
        fleet = self.root / "fleet.yaml"
        fleet.write_text(f"station: {{urls: ['https://station.local:8765']}}\ndevices:\n{devices}")
        where = ["--data", str(self.root / "station"), "--out", str(self.root / "files")]
        assert main(["provision", str(fleet), *where]) == 0

    def flash(self, *more: str) -> int:
        return main([*self.command(), *more])

    def command(self) -> list[str]:
        command = ["flash", str(self.root / "fleet.yaml"), "--apks", str(self.apks), "--adb", str(self.adb)]
        command += ["--files", str(self.root / "files"), "--state", str(self.root / "state"), "--patience", "0.2"]
        for processor in ("aarch64", "arm"):
            command += ["--bundle", str(self.root / f"{processor}.tar.gz")]
        return command

    def calls(self, serial: str) -> list[str]:
        path = self.phones / serial / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def forget_calls(self) -> None:
        for path in self.phones.glob("*/calls"):
            path.unlink()


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    return Table(tmp_path, monkeypatch)


def results(text: str) -> dict[str, dict]:
    return {phone["serial"]: phone for phone in json.loads(text)["phones"]}


def step(phone: dict, name: str) -> tuple[str, str]:
    return next((done["result"], done["detail"]) for done in phone["steps"] if done["step"] == name)


@pytest.mark.slow
def test_forty_phones_side_by_side_end_in_a_truthful_table_and_a_second_run_goes_on(table, capsys):
    troubles = {
        "old-1": (["lg-k10"], "FAILED at phone"),
        "full-1": (["galaxy-j5", "full"], "FAILED at space"),
        "full-2": (["redmi-9", "fills-up"], "FAILED at install"),
        "refuse-1": (["redmi-note-11", "refuses"], "by hand: microphone, battery"),
        "refuse-2": (["redmi-note-11", "refuses"], "by hand: microphone, battery"),
        "forget-1": (["pixel-6", "forgets"], "by hand: processes"),
        "hang-1": (["huawei-p20", "hangs"], "by hand: battery"),
        "pulled-1": (["galaxy-s21", "unplugged"], "FAILED at install"),
        "pulled-2": (["moto-g5", "unplugged"], "FAILED at install"),
        "fdroid-1": (["nokia-7", "f-droid"], "FAILED at apks"),
        "locked-1": (["nokia-7", "unauthorized"], "FAILED at phone"),
        "deaf-1": (["galaxy-s21", "deaf"], "by hand: doctor"),
        "nodrill-1": (["pixel-6", "no-drill"], "by hand: drill"),
        "nohome-1": (["pixel-6", "no-way-home"], "by hand: drill"),
        "offline-1": (["redmi-9", "no-internet"], "FAILED at install"),
    }
    expected = {table.put(serial, *traits): verdict for serial, (traits, verdict) in troubles.items()}
    expected["slow-1"] = "ready"
    table.put("slow-1", "nokia-7", "slow")
    for n in range(40 - len(expected)):
        expected[table.put(f"well-{n:02d}", HEALTHY[n % len(HEALTHY)])] = "ready"
    assert len(expected) == 40
    table.provision("".join(f"  d-{n:02d}: {{}}\n" for n in range(40)))
    capsys.readouterr()

    assert table.flash("--json") == 1
    first = results(capsys.readouterr().out)
    assert {serial: phone["verdict"] for serial, phone in first.items()} == expected
    assert {serial for serial, phone in first.items() if phone["ready"]} == {
        s for s, v in expected.items() if v == "ready"
    }
    assert len({phone["device"] for phone in first.values()}) == 40
    for phone in first.values():
        for done in phone["steps"]:  # whatever was not done is told how to do by hand
            assert (done["by_hand"] != "") == (done["result"] in ("failed", "by hand")), done

    # a person mends some of it; what was done is not done again
    table.change("pulled-1", "galaxy-s21")
    table.change("pulled-2", "moto-g5")
    (table.phones / "refuse-1" / "granted-by-hand").touch()
    table.forget_calls()
    some = [
        word for serial in ("pulled-1", "pulled-2", "refuse-1", "refuse-2", "well-00") for word in ("--only", serial)
    ]
    assert table.flash("--json", "--skip", "battery", *some) == 1
    second = results(capsys.readouterr().out)
    assert second["pulled-1"]["ready"]
    assert second["pulled-2"]["ready"]
    assert second["refuse-1"]["ready"]
    assert second["refuse-2"]["verdict"] == "by hand: microphone"
    assert all(phone["device"] == first[serial]["device"] for serial, phone in second.items())
    assert step(second["pulled-1"], "apks")[0] == step(second["pulled-1"], "bundle")[0] == "kept"
    assert not any(call.startswith(("install", "push")) for call in table.calls("pulled-1"))
    assert step(second["well-00"], "install")[0] == "kept"


def test_a_single_phone_is_flashed_and_its_key_is_never_on_a_command_line(table, capsys):
    table.put("R58", "pixel-6")
    table.provision("  ipe-07: {serial: R58}\n")
    assert table.flash() == 0
    said = capsys.readouterr()
    assert "1 of 1 ready" in said.out
    assert "Google Pixel 6" in said.out
    with tarfile.open(table.phones / "R58" / "config.tar") as tar:
        assert {member.name: member.mode for member in tar} == {
            "config.yaml": 0o600,
            "device.key": 0o600,
            "ca.pem": 0o600,
        }
    key = (table.root / "files" / "ipe-07" / "device.key").read_text().strip()
    assert key not in "".join(table.calls("R58")) + said.out + said.err
    assert key not in "".join(path.read_text() for path in (table.root / "state").iterdir())


def test_each_takes_its_own_apk_bundle_and_settings(table, capsys):
    table.put("new", "pixel-6")
    table.put("old", "galaxy-j5")
    table.put("twelve", "redmi-note-11")
    table.provision("  a: {}\n  b: {}\n  c: {}\n")
    capsys.readouterr()
    assert table.flash("--json") == 0
    phones = results(capsys.readouterr().out)
    calls = {serial: "\n".join(table.calls(serial)) for serial in phones}
    assert "termux-app_v1_arm64-v8a.apk" in calls["new"]
    assert "termux-app_v1_armeabi-v7a.apk" in calls["old"]
    assert "aarch64.tar.gz" in calls["new"]
    assert "arm.tar.gz" in calls["old"]
    assert step(phones["old"], "overlay")[0] == step(phones["old"], "processes")[0] == "not needed"
    assert "settings put global settings_enable_monitor_phantom_procs false" in calls["new"]
    assert "max_phantom_processes 2147483647" in calls["twelve"]


def test_another_bundle_or_configuration_is_brought_and_a_reset_phone_begins_anew(table, capsys):
    table.put("R58", "pixel-6")
    table.provision("  ipe-07: {}\n")
    assert table.flash() == 0
    table.make_bundle("aarch64", b"second")
    table.forget_calls()
    assert table.flash() == 0
    assert any(call.startswith("push") for call in table.calls("R58"))
    assert not any(call.startswith("install") for call in table.calls("R58"))
    table.provision("  ipe-07: {position: {latitude: 1, longitude: 2}}\n")
    table.forget_calls()
    assert table.flash() == 0
    assert any("-xf -" in call for call in table.calls("R58"))
    assert not any("install.sh" in call for call in table.calls("R58"))
    (table.phones / "R58" / "reset").write_text("1")
    table.forget_calls()
    assert table.flash() == 0
    assert any(call.startswith("install") for call in table.calls("R58"))


def test_a_dry_run_touches_nothing(table, capsys):
    table.put("R58", "pixel-6")
    table.provision("  ipe-07: {}\n")
    capsys.readouterr()
    assert table.flash("--dry-run", "--json") == 1
    phone = results(capsys.readouterr().out)["R58"]
    assert step(phone, "apks") == ("to do", "would be done")
    assert phone["verdict"].startswith("to do: apks, ")
    assert len(table.calls("R58")) == 1  # it was asked what it is
    assert not (table.root / "state").exists()


def test_only_the_named_phone_is_touched_and_one_that_is_not_there_is_told(table, capsys):
    table.put("R58", "pixel-6")
    table.put("R59", "pixel-6")
    table.provision("  a: {}\n  b: {}\n")
    capsys.readouterr()
    assert table.flash("--json", "--only", "R59", "--only", "R60") == 1
    phones = results(capsys.readouterr().out)
    assert phones["R59"]["ready"]
    assert step(phones["R60"], "phone") == ("failed", "not connected")
    assert table.calls("R58") == []


def test_a_phone_too_many_gets_no_device(table, capsys):
    table.put("R58", "pixel-6")
    table.put("R59", "pixel-6")
    table.provision("  a: {}\n")
    capsys.readouterr()
    assert table.flash("--json") == 1
    phones = results(capsys.readouterr().out)
    assert phones["R58"]["ready"]
    assert step(phones["R59"], "phone") == ("failed", "no device of the fleet file is left for it")


@pytest.mark.parametrize("damage", ["", "[]", '{"schema": 9}', '{"schema": 1, "device": 7}'])
def test_a_damaged_state_is_nothing_done(tmp_path, damage):
    state = State(tmp_path, "10.0.0.5:5555")
    state.device, state.done = "ipe-07", {"apks": "1"}
    state.keep()
    (written,) = tmp_path.iterdir()
    assert State(tmp_path, "10.0.0.5:5555").done == {"apks": "1"}
    written.write_text(damage)
    assert State(tmp_path, "10.0.0.5:5555").done == {}


def test_what_cannot_begin_is_wrong_use(table, capsys, monkeypatch):
    table.provision("  a: {}\n")
    assert table.flash() == 1
    assert "no phone is connected" in capsys.readouterr().err
    table.put("R58", "pixel-6")
    assert table.flash("--jobs", "0") == 2
    assert table.flash("--adb", str(table.root / "none")) == 2
    assert table.flash("--bundle", str(table.root / "fleet.yaml")) == 2
    assert "is no bundle" in capsys.readouterr().err
    (table.apks / "termux-api-app_v1.apk").unlink()
    assert table.flash() == 2
    assert "has no termux-api*.apk" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_ends_all_and_the_table_says_how_far_each_came(table):
    table.put("R58", "huawei-p20", "hangs")
    table.provision("  a: {}\n")
    command = [sys.executable, "-m", "deploy", *table.command(), "--patience", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flash:
        end_s = time.monotonic() + 30
        while not any("deviceidle" in call for call in table.calls("R58")):
            assert time.monotonic() < end_s
            time.sleep(0.05)
        flash.send_signal(signal.SIGINT)
        said = flash.communicate(timeout=20)[0]
    assert flash.returncode == 1
    assert step(results(said)["R58"], "battery") == ("failed", "interrupted")
    assert step(results(said)["R58"], "apks")[0] == "done"
