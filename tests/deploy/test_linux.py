"""Install, upgrade, downgrade and uninstall under a real systemd, from the bundle alone, without a network.

The machine is a clean Debian root in namespaces of its own, with systemd as its first process (machine.py). What needs
a controller of control groups is not enforced there: memory and tasks are compared with what the unit allows.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import VERSION, journal
from tests.conftest import REPO
from tests.deploy.machine import Machine
from tests.deploy.releases import HELPERS, Laptop, another, found, give, prepared

LINUX = REPO / "deploy" / "linux"
UNITS = sorted(LINUX.glob("*/service/*.service"))
SCRIPTS = sorted(LINUX.glob("*/*.sh"))


# What can be seen without starting anything


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    words = ["shellcheck", "--external-sources", "--shell=sh", str(script)]
    said = subprocess.run(words, cwd=REPO, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 0, said.stdout


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root that holds the units and what they start."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for unit in [*UNITS, *LINUX.glob("*/service/*.timer")]:
        shutil.copy(unit, units)
    for name in ("curupira", "curupira-station"):
        python = tmp_path / "opt" / name / "current/venv/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text("#!/bin/sh\n")
        python.chmod(0o755)
    for target in ("sound", "network", "time-sync", "multi-user", "timers", "sysinit", "basic", "shutdown", "local-fs"):
        (units / f"{target}.target").write_text("[Unit]\n")
    return tmp_path


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_understands_every_line_and_calls_it_safe(unit: Path, installed: Path) -> None:
    words = ["systemd-analyze", f"--root={installed}", "--man=no"]
    verified = subprocess.run(
        [*words, "verify", f"/etc/systemd/system/{unit.name}"], capture_output=True, text=True, check=False, timeout=60
    )
    ours = [line for line in (verified.stdout + verified.stderr).splitlines() if "curupira" in line]
    assert (verified.returncode, ours) == (0, [])
    judged = subprocess.run(
        [*words, "security", "--offline=true", "--threshold=20", unit.name],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert found is not None, judged.stderr
    print(f"{unit.name}: exposure {found[1]}")
    assert float(found[1]) <= 2.0


def settings(unit: Path, section: str = "Service") -> list[str]:
    text = unit.read_text().partition(f"[{section}]")[2].partition("\n[")[0]
    return [line for line in text.splitlines() if "=" in line and not line.startswith("#")]


def test_the_doctor_sees_what_the_agent_sees() -> None:
    agent, doctor = (settings(LINUX / f"agent/service/curupira-agent{part}.service") for part in ("", "-doctor"))
    alone = {"Type", "NotifyAccess", "ExecStart", "Restart", "RestartSec", "WatchdogSec", "TimeoutStartSec"}
    alone |= {"TimeoutStopSec", "Nice", "RuntimeDirectory"}
    box = [line for line in agent if line.partition("=")[0] not in alone]
    assert box == [line for line in doctor if line.partition("=")[0] not in alone]
    assert {"DynamicUser=yes", "SupplementaryGroups=audio", "DeviceAllow=char-alsa rw", "MemoryMax=256M"} <= set(box)


def test_an_agent_that_gives_signs_of_life_is_not_killed_for_want_of_them() -> None:
    from agent.watchdog import FEED_S

    (watchdog,) = [line for line in settings(LINUX / "agent/service/curupira-agent.service") if "WatchdogSec" in line]
    assert float(watchdog.partition("=")[2]) >= 10 * FEED_S


# On a machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return prepared("bookworm", tmp_path)


LIFE = """
/mnt/first/install.sh --config /mnt/fleet
release
systemctl show curupira-agent -p WatchdogUSec -p MemoryMax -p TasksMax
grep -E '^(Uid|Seccomp|NoNewPrivs|CapEff|VmHWM|Threads):' "/proc/$(main)/status"

: killed
old=$(main); kill -9 "$old"; back "$old"

: hung, under a watchdog that the test can wait for
mkdir /run/systemd/system/curupira-agent.service.d
printf '[Service]\nWatchdogSec=8\nRestartSec=1\n' >/run/systemd/system/curupira-agent.service.d/short.conf
systemctl daemon-reload; systemctl restart curupira-agent
old=$(main); kill -STOP "$old"; back "$old"
rm -r /run/systemd/system/curupira-agent.service.d; systemctl daemon-reload

: an alert waits
systemctl stop curupira-agent
python3 -c 'import sqlite3, zlib
with sqlite3.connect("/var/lib/curupira/outbox.db") as outbox:
    row = ("a-saw", zlib.crc32(b"a-saw/0"), b"")
    outbox.execute("INSERT INTO messages (alert_id, revision, crc, body) VALUES (?, 0, ?, ?)", row)'
systemctl start curupira-agent

: upgrade from afar, by fleet
afar
release
grep latitude /etc/curupira/config.yaml
ls -A /etc/curupira /var/tmp
python3 -c 'import sqlite3
print("waits:", *sqlite3.connect("/var/lib/curupira/outbox.db").execute("SELECT alert_id FROM messages").fetchone())'

: the same again, downgrade
systemctl stop curupira-agent
echo '# by hand' >>/etc/curupira/config.yaml; sha256sum /etc/curupira/* /var/lib/curupira/outbox.db >/mnt/sums
journal=$(cat /var/lib/curupira/journal/* | wc -c)
systemctl start curupira-agent
/mnt/second/install.sh; release
/mnt/first/install.sh; release
systemctl stop curupira-agent
sha256sum -c /mnt/sums
[ "$(cat /var/lib/curupira/journal/* | wc -c)" -gt "$journal" ]
systemctl start curupira-agent
ls /opt/curupira/releases | wc -l

: what is refused
refused /mnt/damaged/install.sh; release
cp /etc/curupira/config.yaml /tmp/good
echo 'stranger: 1' >>/etc/curupira/config.yaml
refused /mnt/second/install.sh; release
cp /tmp/good /etc/curupira/config.yaml
systemctl is-active curupira-agent

: uninstall
refused /mnt/first/uninstall.sh
systemctl is-active curupira-agent
/mnt/first/uninstall.sh --keep
refused test -e /opt/curupira
ls /etc/curupira /var/lib/curupira/outbox.db
/mnt/first/uninstall.sh --purge
"""


def update_from_afar(laptop: Laptop, good: Path, bad: Path) -> None:
    """Look after the machine by `fleet`: a good release, a bad one with a configuration that goes back with it."""
    assert VERSION in laptop.fleet("status")[1]["version"]
    code, said = laptop.update(good, -3)
    assert code == 0, said
    assert said["configuration"] == "brought"
    assert said["said"].startswith("installed: /opt/curupira/current is 9.9.9-")

    code, said = laptop.update(bad, -4)
    assert code == 1
    assert said["problem"].startswith("error: went back to 9.9.9-")

    code, said = laptop.fleet("status")
    assert (code, said["service"]) == (0, "active"), said
    assert "9.9.9" in said["version"]
    assert laptop.fleet("pull-journals", "--out", laptop.folder / "journals")[0] == 0
    lines = list(journal.read(laptop.folder / "journals/tree/journal"))
    assert [line.fields["reason"] for line in lines if line.event == "start"][-1] == "clean stop"
    laptop.leave()


@pytest.mark.slow
def test_the_whole_life_of_an_agent(
    machine: Machine, unpacked: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = unpacked("x86-64-py311")
    give(machine, first, "first")
    second, damaged, broken = (give(machine, first, name) for name in ("second", "damaged", "broken"))
    another(second, "9.9.9")
    sick = ("agent/__main__.py", b'"""Listen until told to stop."""', b'raise SystemExit("a fault of the release")')
    another(broken, "9.9.8", sick)
    with next((damaged / "wheels").glob("numpy*.whl")).open("r+b") as wheel:
        wheel.seek(1_000)
        wheel.write(b"rot")
    with machine.up(HELPERS + LIFE) as unshare:
        update_from_afar(Laptop(tmp_path, machine, unshare, capsys), second, broken)
    said = machine.said().checked()
    text = said.text
    Path("/tmp/h5_life.txt").write_text(text)

    assert "with XNNPACK: golden answers right" in text
    assert "WatchdogUSec=3min" in text
    assert int(found(r"^Uid:\t(\d+)", text)) >= 60_000  # a user of systemd's own making
    assert found(r"^Seccomp:\t(\d)", text) == "2"
    assert found(r"^NoNewPrivs:\t(\d)", text) == "1"
    assert int(found(r"^CapEff:\t(\S+)", text), 16) == 0
    assert int(found(r"^VmHWM:\s+(\d+) kB", text)) < 0.8 * int(found(r"^MemoryMax=(\d+)", text)) / 1_024
    assert int(found(r"^Threads:\s+(\d+)", text)) <= int(found(r"^TasksMax=(\d+)", text)) / 2

    assert "tree listens (first start)" in said.journal
    assert "Watchdog timeout" in said.journal
    assert said.journal.count("tree listens (killed)") == 2  # by the test, and by the watchdog

    versions = [link.rpartition("-")[0] for link in re.findall(r"^releases/(\S+)$", text, re.MULTILINE)]
    assert versions == [VERSION, "9.9.9", "9.9.9", VERSION, VERSION, VERSION]
    assert "the bundle is damaged, nothing was changed" in text
    assert re.search(r"error: .*config.yaml: stranger: ", text)
    assert "a fault of the release" in said.journal
    assert re.findall(r"latitude: \S+,", text) == ["latitude: -3,"]
    assert "waits: a-saw" in text
    assert f"{VERSION}-{found(r'^releases/[^-]+-(.+)$', text)} is here already" in text, (
        "what went back kept the one before"
    )
    assert not {".replaced", ".staged", "curupira-update", "curupira-config"} & set(text.split())
    assert "1 alerts wait in /var/lib/curupira that no station has; nothing was removed" in text
    assert machine.written() == {"usr/local/bin/mic"}


@pytest.mark.slow
def test_a_newer_systemd_and_a_read_only_root_do_as_well(tmp_path: Path, unpacked: Callable[[str], Path]) -> None:
    machine = prepared("trixie", tmp_path)
    give(machine, unpacked("x86-64-py313"), "bundle")
    said = machine.run(
        HELPERS
        + """
/mnt/bundle/install.sh --config /mnt/fleet --state /srv/curupira
stat -c 'mode %a' /run/credentials/curupira-agent.service/device.key
refused systemctl start curupira-agent-doctor
journalctl -u curupira-agent-doctor -o cat
"""
    ).checked()
    assert "mode 440" in said.text  # an access list; where this changes, agent.signing can be stricter again
    assert "ok   model" in said.text
    assert "ok   microphone" in said.text
    assert re.search(r"^NO-GO: station$", said.text, re.MULTILINE)
    shutil.rmtree(machine.folder / "data" / "curupira" / "journal")
    said = machine.run(
        HELPERS + "refused touch /etc/x; systemctl start curupira-agent; ls /srv/curupira", readonly=True
    ).checked()
    assert {"outbox.db", "journal"} <= set(said.text.split())
    machine.run("/mnt/bundle/uninstall.sh").checked()
    assert machine.written() == {"usr/local/bin/mic"}
    assert not any((machine.folder / "data").iterdir())


def test_a_machine_that_boots_wrongly_is_no_skip(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("proc", "sys/fs/cgroup", "run", "tmp", "dev", "mnt", "srv", "etc"):
        (root / name).mkdir(parents=True)
    machine = Machine(root, tmp_path / "machine")
    with pytest.raises(pytest.fail.Exception, match="did not boot and power off"):
        machine.run("true")
