"""What the tests on a machine share: a machine with a microphone, and bundles of other versions."""

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import certifi
import pytest

from agent import VERSION
from deploy.__main__ import main
from deploy.wheels import AS_IT_IS, repacked
from tests.deploy.debian import SYSTEMD, debian_root
from tests.deploy.machine import Machine
from tests.torture.rig import wait_until

FLEET = """
schema: 1
device: {id: tree}
capture: {source: pipe, command: [/usr/local/bin/mic], sample_rate: 48000}
station: {urls: ["https://127.0.0.1:9"], key_file: device.key, ca_file: ca.pem, heartbeat_s: 3600}
storage: {folder: /var/lib/curupira}
"""
MIC = """#!/usr/bin/python3
import os, sys, time
while True:
    sys.stdout.buffer.write(os.urandom(9_600))  # a tenth of a second at 48 kHz
    sys.stdout.buffer.flush()
    time.sleep(0.1)
"""
HELPERS = """
main() { systemctl show curupira-agent -p MainPID --value; }
back() {
    for _ in $(seq 120); do
        if [ "$(main)" != 0 ] && [ "$(main)" != "$1" ] && systemctl is-active -q curupira-agent; then return 0; fi
        sleep 0.25
    done
    return 1
}
refused() { if "$@"; then exit 99; fi; }
release() { readlink "/opt/${1:-curupira}/current"; }
afar() { touch /mnt/up; for _ in $(seq 1600); do if [ -e /mnt/enough ]; then return; fi; sleep 0.25; done; return 1; }
"""
SSH = """#!/bin/sh
for word; do last=$word; done
exec nsenter --target {pid} --mount --pid --uts --ipc --cgroup --net -- \
    /usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/root /bin/sh -c "$last"
"""
"""Runs ssh's last word, the command, in the machine, as its root."""


def prepared(suite: str, folder: Path) -> Machine:
    """Return a machine with a microphone, and with what provisioning gives a device in /mnt/fleet."""
    machine = Machine(debian_root("amd64", suite, SYSTEMD), folder)
    fleet = machine.exchange / "fleet"
    fleet.mkdir()
    (fleet / "config.yaml").write_text(FLEET)
    (fleet / "device.key").write_text("5a" * 32)
    end = "-----END CERTIFICATE-----\n"
    (fleet / "ca.pem").write_text(Path(certifi.where()).read_text().partition(end)[0] + end)  # some authority's
    authorities = (
        machine.folder / "upper/etc/ssl/certs/ca-certificates.crt"
    )  # Debian's pip wants it; a postinst makes it
    authorities.parent.mkdir(parents=True)
    shutil.copy(certifi.where(), authorities)
    mic = machine.folder / "upper/usr/local/bin/mic"
    mic.write_text(MIC)
    mic.chmod(0o755)
    return machine


def give(machine: Machine, bundle: Path, name: str) -> Path:
    return shutil.copytree(bundle, machine.exchange / name)


def another(bundle: Path, version: str, change: tuple[str, bytes, bytes] | None = None) -> None:
    """Turn an unpacked bundle into one of another version, by its own wheel; perhaps with a fault in a file of it."""
    (wheel,) = (bundle / "wheels").glob("curupira-*.whl")
    with zipfile.ZipFile(wheel) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members["agent/__init__.py"] = members["agent/__init__.py"].replace(VERSION.encode(), version.encode())
    if change is not None:
        name, before, after = change
        assert before in members[name]
        members[name] = members[name].replace(before, after)
    info = f"curupira-{VERSION}.dist-info/"
    moved = {name.replace(info, f"curupira-{version}.dist-info/"): content for name, content in members.items()}
    metadata = f"curupira-{version}.dist-info/METADATA"
    moved[metadata] = moved[metadata].replace(f"Version: {VERSION}".encode(), f"Version: {version}".encode())
    wheel.unlink()
    draft = bundle / f"curupira-{version}-py3-none-any.whl"
    with zipfile.ZipFile(draft, "w") as new:
        for name, content in moved.items():
            new.writestr(name, content)
    repacked(draft, bundle / "wheels", AS_IT_IS)
    draft.unlink()
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"version": "{VERSION}"', f'"version": "{version}"'))
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(bundle)}\n" for path in files]
    (bundle / "SHA256SUMS").write_text("".join(lines))


def packed(bundle: Path, into: Path) -> Path:
    """Return an unpacked bundle as the file that `fleet update` brings."""
    with tarfile.open(into, "w:gz", compresslevel=1) as tar:
        tar.add(bundle, "curupira")
    return into


class Laptop:
    """A computer far from the machine, with `fleet` on it; the machine lets it in with `afar`."""

    def __init__(
        self, folder: Path, machine: Machine, unshare: "subprocess.Popen[str]", capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Wait until the machine lets it in."""
        self.folder, self._machine, self._capsys = folder, machine, capsys
        up, over = machine.exchange / "up", machine.exchange / "status"
        wait_until(lambda: up.exists() or over.exists(), "the machine letting in who is far", 400)
        assert up.exists(), (machine.exchange / "said").read_text()[-2_500:]
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
        self._ssh = folder / "ssh"
        self._ssh.write_text(SSH.format(pid=children[0]))
        self._ssh.chmod(0o700)
        fleet = "station: {urls: ['https://127.0.0.1:9']}\ndevices: {tree: {kind: linux, ssh: root@10.0.0.7}}\n"
        (folder / "fleet.yaml").write_text(fleet)

    def fleet(self, action: str, *more: object) -> tuple[int, dict[str, Any]]:
        """Return exit code and what was said of the machine."""
        words = ["fleet", action, self.folder / "fleet.yaml", "--state", self.folder / "flash", "--ssh", self._ssh]
        code = main([str(word) for word in [*words, "--json", "--patience", 3, *more]])
        return code, json.loads(self._capsys.readouterr().out)

    def update(self, bundle: Path, latitude: int) -> tuple[int, dict[str, Any]]:
        """Bring an unpacked bundle, and what provisioning gives a device that hangs somewhere else now."""
        files = self.folder / f"files-{latitude}" / "tree"
        shutil.copytree(self._machine.exchange / "fleet", files)
        moved = f"device: {{id: tree, position: {{latitude: {latitude}, longitude: -60}}}}"
        (files / "config.yaml").write_text(FLEET.replace("device: {id: tree}", moved))
        archive = packed(bundle, self.folder / f"{latitude}.tar.gz")
        return self.fleet("update", "--files", files.parent, "--bundle", archive)

    def leave(self) -> None:
        """Let the machine's task go on."""
        (self._machine.exchange / "enough").touch()


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, pattern
    return match[1]
