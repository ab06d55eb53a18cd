"""Termux' scripts and service tree under Debian's runit, the prefix relocated. Real phones are another matter."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.alert import Alert, Clock
from agent.outbox import Outbox
from tests.deploy.debian import debian_root
from tests.deploy.handset import CONFIG, SCRIPTS, Handset, wait_for

pytestmark = pytest.mark.slow

RUNIT = ("chpst", "runsv", "runsvdir", "sv", "svlogd")
STAND_IN = "#!/bin/sh\n{body}\n"


@pytest.fixture(scope="module")
def runit() -> Path:
    """Return the folder of Debian's runit: as it is installed here, else only extracted."""
    installed = shutil.which("runsvdir")
    if installed is not None:
        return Path(installed).parent
    folder = debian_root("amd64", "bookworm", ["runit"], keep=[f"usr/bin/{name}" for name in RUNIT]) / "usr/bin"
    try:
        subprocess.run([folder / "chpst", "true"], check=True, timeout=60)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"Debian's runit does not run here, and none is installed: {error}")
    return folder


@pytest.fixture
def phone(tmp_path: Path, runit: Path) -> Iterator[Handset]:
    handset = Handset(tmp_path, runit)
    yield handset
    handset.switch_off()


@pytest.fixture
def supervised(phone: Handset) -> Handset:
    """Return a phone whose agent is a stand-in that tests write, with short pauses."""
    phone.configure()
    phone.environment.update(CURUPIRA_FIRST_PAUSE_S="1", CURUPIRA_LONGEST_PAUSE_S="4", CURUPIRA_WATCH_EVERY_S="1")
    phone.install_quickly()
    return phone


def pid_of(phone: Handset, name: str = "curupira") -> str:
    return (phone.service(name) / "supervise" / "pid").read_text().strip()


def an_alert() -> Alert:
    return Alert(
        alert_id="00000000-0000-4000-8000-000000000001",
        revision=0,
        state="open",
        device_id="ipe-07",
        label="chainsaw",
        score=0.9,
        onset_s=1.0,
        raised_s=4.0,
        clock=Clock(boot_id="5d0c9e0a-0000-4000-8000-000000000001", monotonic_s=1.0, utc="", utc_certainty="unset"),
        model_digest="9f2c51d0a7b3e844",
        level_dbfs=-30.0,
    )


# the real agent, from installation to what the watch does about Android's zeros


def test_it_is_installed_listens_gets_its_ears_back_after_zeros_and_leaves_nothing(phone):
    before = phone.files()
    phone.configure()
    phone.environment.update(CURUPIRA_WATCH_EVERY_S="1")
    phone.install("1.0")
    assert (phone.service("curupira") / "run").read_text().startswith(f"#!{phone.prefix}/bin/sh\n")
    alive = phone.home / ".local" / "share" / "curupira" / "alive"
    wait_for(lambda: "listens (first start)" in phone.log() and alive.exists())
    assert phone.status().startswith("run:")
    assert any(call.startswith("pulseaudio -n --daemonize=no") for call in phone.calls())
    phone.hears("zeros")
    wait_for(lambda: any(call == "am start -n com.termux/.app.TermuxActivity" for call in phone.calls()))
    assert "WARNING zeros: " in phone.log()
    wait_for(lambda: sum(call.startswith("pulseaudio") for call in phone.calls()) == 2)  # opened anew, once
    phone.hears("sound")
    wait_for(lambda: "zeros is over" in phone.log())
    assert phone.log("curupira-watch").count("gives zeros") == 1
    shutil.rmtree(phone.home / "curupira")
    phone.sh("sh", phone.prefix / "opt" / "curupira" / "uninstall.sh")
    assert phone.files() == before


# start, crash, back-off, finish, rotation


def test_each_crash_waits_longer_and_says_so(supervised):
    supervised.command("curupira", STAND_IN.format(body="echo born; exit 1"))
    supervised.start()
    wait_for(lambda: supervised.log().count("born") == 3)
    said = [line.split(" ", 1)[1] for line in supervised.log().splitlines()]
    assert said[:5] == [
        "born",
        "ended with code 1, signal 0; starts again in 1 s",
        "born",
        "ended with code 1, signal 0; starts again in 2 s",
        "born",
    ]


def test_what_is_killed_is_started_again(supervised):
    supervised.command("curupira", STAND_IN.format(body="echo born; exec sleep 1000"))
    supervised.start()
    wait_for(lambda: "born" in supervised.log())
    os.kill(int(pid_of(supervised)), 9)
    wait_for(lambda: supervised.log().count("born") == 2)
    assert "code -1, signal 9; starts again in 1 s" in supervised.log()


@pytest.mark.parametrize(
    ("failures", "lasted_s", "pause"),
    [("", 3, "1"), ("1", 3, "2"), ("7", 3, "4"), ("7", 700, "1"), ("x", 3, "1"), ("2", -900, "4")],
)
def test_the_pause_grows_to_its_bound_and_a_run_of_ten_minutes_is_no_crash_loop(tmp_path, failures, lasted_s, pause):
    (tmp_path / "failures").write_text(failures)
    (tmp_path / "again").touch()  # nobody waits
    (tmp_path / "started").touch()
    os.utime(tmp_path / "started", (time.time() - lasted_s, time.time() - lasted_s))
    environment = {**os.environ, "CURUPIRA_FIRST_PAUSE_S": "1", "CURUPIRA_LONGEST_PAUSE_S": "4"}
    command = ["sh", str(SCRIPTS / "back-off.sh"), "1", "0"]
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert said == f"ended with code 1, signal 0; starts again in {pause} s\n"


def test_a_wrong_configuration_waits_longest_and_a_person_ends_the_wait(supervised):
    supervised.command("curupira", STAND_IN.format(body="exit 2"))
    supervised.start({"CURUPIRA_LONGEST_PAUSE_S": "600"})
    wait_for(lambda: "code 2, signal 0; starts again in 600 s" in supervised.log())
    supervised.command("curupira", STAND_IN.format(body="echo well; exec sleep 1000"))
    (supervised.service("curupira") / "again").touch()
    wait_for(lambda: "well" in supervised.log())


def test_the_log_is_rotated_and_bounded(supervised):
    body = (
        "i=0; while [ $i -lt 40 ]; do head -c 49152 /dev/zero | tr '\\0' 'x' | fold -w 96; i=$((i+1)); done; sleep 1000"
    )
    supervised.command("curupira", STAND_IN.format(body=body))
    supervised.start()
    folder = supervised.prefix / "var" / "log" / "sv" / "curupira"
    wait_for(lambda: len(list(folder.glob("@*"))) == 5)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 7 * 262_144


def test_an_agent_that_gives_no_sign_of_life_is_started_again(supervised):
    supervised.command("curupira", STAND_IN.format(body="echo born; exec sleep 1000"))
    alive = supervised.home / ".local" / "share" / "curupira" / "alive"
    alive.parent.mkdir(parents=True)
    alive.touch()
    supervised.start()
    wait_for(lambda: "watching" in supervised.log("curupira-watch") and "born" in supervised.log())
    first = pid_of(supervised)
    os.utime(alive, (time.time() - 600, time.time() - 600))
    wait_for(lambda: "the agent is started again" in supervised.log("curupira-watch"))
    alive.touch()
    wait_for(lambda: pid_of(supervised) not in ("", first))


def test_after_a_boot_termux_comes_to_the_front_between_two_locks(phone):
    phone.install_quickly()
    phone.sh("sh", phone.home / ".termux" / "boot" / "10-curupira")
    assert phone.calls() == [
        "termux-wake-lock ",
        "am start -n com.termux/.app.TermuxActivity",
        "termux-wake-lock ",
    ]
    wait_for(lambda: phone.status("curupira").startswith("down:"))  # no configuration yet


# install, upgrade, downgrade, uninstall


def test_upgrade_and_downgrade_keep_what_the_phone_has_and_a_bad_version_is_not_taken(phone):
    phone.configure()
    phone.install("1.0", "--no-start")
    state = phone.home / ".local" / "share" / "curupira"
    state.mkdir(parents=True)
    kept = {state / "counter": "7000\n", state / "outbox.db": "alerts", phone.home / ".config/curupira/device.key": "k"}
    for path, text in kept.items():
        path.write_text(text)
    for version, breakage in (("2.0", ""), ("3.0", "raise RuntimeError('no')"), ("1.0", "")):
        result = phone.install(version, "--no-start", check=int(bool(breakage)), breakage=breakage)
        if breakage:
            assert "does not pass its own check" in result.stderr
            assert "by hand: " in result.stderr
            assert phone.sh("curupira", "--version").stdout == "2.0\n"
        else:
            assert f"curupira {version} is installed" in result.stdout
        assert {path: path.read_text() for path in kept} == kept
        assert phone.home.joinpath(".config/curupira/config.yaml").read_text() == CONFIG
    assert len(list((phone.prefix / "opt" / "curupira" / "releases").iterdir())) == 1


def test_a_damaged_bundle_and_an_old_pulseaudio_are_refused(phone):
    (phone.root / "files" / "pulseaudio-version").write_text("17.0-3")
    assert "before 17.0-4" in phone.install(check=1).stderr
    folder = phone.home / "curupira"
    (folder / "curupira.sh").write_text("changed")
    assert "damaged" in phone.sh("sh", folder / "install.sh", check=1).stderr
    assert not (phone.prefix / "opt").exists()


def test_missing_packages_are_installed_or_named(phone):
    (phone.root / "files" / "missing").write_text("python-numpy\npulseaudio\n")
    assert "pkg install python-numpy pulseaudio" in phone.install("1.0", "--no-packages", check=1).stderr
    phone.install_quickly()
    assert "pkg install -y python-numpy pulseaudio" in phone.calls()
    folder = phone.prefix / "opt" / "curupira"
    assert "pkg uninstall python-numpy pulseaudio" in phone.sh("sh", folder / "uninstall.sh").stdout


def test_uninstalling_does_not_throw_alerts_away_without_a_word(phone):
    phone.configure()
    phone.install("1.0", "--no-start")
    state = phone.home / ".local" / "share" / "curupira"
    state.mkdir(parents=True)
    with Outbox(state / "outbox.db") as outbox:
        outbox.put(an_alert())
    uninstall = phone.prefix / "opt" / "curupira" / "uninstall.sh"
    result = phone.sh("sh", uninstall, check=1)
    assert "has not receipted: 1; nothing was removed" in result.stderr
    phone.sh("sh", uninstall, "--keep")
    assert (state / "outbox.db").exists()
    assert not phone.service("curupira").exists()
    uninstall = phone.home / "curupira" / "uninstall.sh"  # the program is gone: nobody can count
    assert "has not receipted: unknown" in phone.sh("sh", uninstall, check=1).stderr
    phone.sh("sh", uninstall, "--discard-alerts")
    assert not state.exists()


def test_wrong_use_is_2(phone):
    folder = phone.install("1.0", "--frobnicate", check=2)
    assert "usage: " in folder.stderr
    assert phone.sh("sh", phone.home / "curupira" / "uninstall.sh", "--frobnicate", check=2).stderr.startswith(
        "usage: "
    )


def test_a_new_version_is_taken_into_use_by_a_running_agent_at_once(supervised):
    supervised.command("curupira", STAND_IN.format(body="echo born; exec sleep 1000"))
    supervised.start()
    wait_for(lambda: "born" in supervised.log())
    first = pid_of(supervised)
    supervised.command("python", "#!/bin/sh\nexit 0\n")
    supervised.install("2.0", "--no-start")
    wait_for(lambda: pid_of(supervised) not in ("", first))
