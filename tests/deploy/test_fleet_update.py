"""`fleet` against a board that is a machine of its own: the real install.sh, under a real systemd."""

import contextlib
import json
import sqlite3
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import VERSION, journal
from deploy.__main__ import main
from tests.deploy.machine import Machine
from tests.deploy.releases import FLEET, HELPERS, another, give, prepared
from tests.torture.rig import wait_until

pytestmark = pytest.mark.slow

# ssh's last word is the command: run it in the machine, as its root
SSH = """#!/bin/sh
for word; do last=$word; done
exec nsenter --target {pid} --mount --pid --uts --ipc --cgroup --net -- \
    /usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/root /bin/sh -c "$last"
"""
BOARD = """
/mnt/first/install.sh --config /mnt/fleet
: an alert waits
systemctl stop curupira-agent
python3 -c 'import sqlite3, zlib
with sqlite3.connect("/var/lib/curupira/outbox.db") as outbox:
    row = ("a-saw", zlib.crc32(b"a-saw/0"), b"")
    outbox.execute("INSERT INTO messages (alert_id, revision, crc, body) VALUES (?, 0, ?, ?)", row)'
systemctl start curupira-agent
touch /mnt/up
for _ in $(seq 4000); do if [ -e /mnt/enough ]; then break; fi; sleep 0.1; done
"""


def packed(bundle: Path, into: Path) -> Path:
    """Return an unpacked bundle as the file that `fleet update` brings."""
    with tarfile.open(into, "w:gz", compresslevel=1) as tar:
        tar.add(bundle, "curupira")
    return into


class Camp:
    """A laptop, and the board that it reaches by ssh."""

    def __init__(self, folder: Path, unshare: "subprocess.Popen[str]", capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
        self.ssh = folder / "ssh"
        self.ssh.write_text(SSH.format(pid=children[0]))
        self.ssh.chmod(0o700)
        (folder / "fleet.yaml").write_text(
            "station: {urls: ['https://127.0.0.1:9']}\ndevices: {tree: {kind: linux, ssh: root@10.0.0.7}}\n"
        )

    def fleet(self, action: str, *more: object) -> tuple[int, dict[str, Any]]:
        """Return exit code and what was said of the board."""
        words = ["fleet", action, self.folder / "fleet.yaml", "--state", self.folder / "flash", "--ssh", self.ssh]
        code = main([str(word) for word in [*words, "--json", "--patience", 3, *more]])
        return code, json.loads(self._capsys.readouterr().out)


def test_an_update_reaches_a_board_keeps_its_alerts_and_goes_back_from_a_bad_release(
    tmp_path: Path, unpacked: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    machine = prepared("bookworm", tmp_path / "machine")
    first = unpacked("x86-64-py311")
    give(machine, first, "first")
    good, bad = (give(machine, first, name) for name in ("good", "bad"))
    another(good, "9.9.9")
    sick = ("agent/__main__.py", b'"""Listen until told to stop."""', b'raise SystemExit("a fault of the release")')
    another(bad, "9.9.8", sick)
    files = tmp_path / "files" / "tree"
    files.mkdir(parents=True)
    for path in (machine.exchange / "fleet").iterdir():
        (files / path.name).write_bytes(path.read_bytes())
    moved = "device: {id: tree, position: {latitude: -3.5, longitude: -60.25}}"
    (files / "config.yaml").write_text(FLEET.replace("device: {id: tree}", moved))

    with machine.up(HELPERS + BOARD) as unshare:
        up, over = machine.exchange / "up", machine.exchange / "status"
        wait_until(lambda: up.exists() or over.exists(), "the board being up", 400)
        assert up.exists(), (machine.exchange / "said").read_text()[-2_000:]
        camp = Camp(tmp_path, unshare, capsys)
        update = ("--files", files.parent, "--bundle")
        assert VERSION in camp.fleet("status")[1]["version"]
        code, said = camp.fleet("update", *update, packed(good, tmp_path / "good.tar.gz"))
        assert code == 0, said
        assert said["configuration"] == "brought"
        assert said["said"].startswith("installed: /opt/curupira/current is 9.9.9-")
        code, said = camp.fleet("status")
        assert (code, said["service"]) == (0, "active"), said
        assert "9.9.9" in said["version"]

        code, said = camp.fleet("update", *update, packed(bad, tmp_path / "bad.tar.gz"))
        assert code == 1
        assert said["problem"].startswith("error: went back to 9.9.9-")
        code, said = camp.fleet("status")
        assert code == 0, said
        assert "9.9.9" in said["version"]
        assert camp.fleet("pull-journals", "--out", tmp_path / "journals")[0] == 0
        (machine.exchange / "enough").touch()

    starts = [
        line.fields["reason"] for line in journal.read(tmp_path / "journals/tree/journal") if line.event == "start"
    ]
    assert len(starts) >= 4
    upper = machine.folder / "upper"
    assert moved in (upper / "etc/curupira/config.yaml").read_text()
    with contextlib.closing(sqlite3.connect(upper / "var/lib/private/curupira/outbox.db")) as outbox:
        assert [row[0] for row in outbox.execute("SELECT alert_id FROM messages")] == ["a-saw"]
    assert not list((upper / "var/tmp").glob("curupira*"))


def test_a_machine_that_boots_wrongly_is_no_skip(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("proc", "sys/fs/cgroup", "run", "tmp", "dev", "mnt", "srv", "etc"):
        (root / name).mkdir(parents=True)
    machine = Machine(root, tmp_path / "machine")
    with pytest.raises(pytest.fail.Exception, match="did not boot and power off"):
        machine.run("true")
