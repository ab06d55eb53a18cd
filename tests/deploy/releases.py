"""What the tests on a machine share: a machine with a microphone, and bundles of other versions."""

import hashlib
import re
import shutil
import zipfile
from pathlib import Path

import certifi

from agent import VERSION
from deploy.wheels import AS_IT_IS, repacked
from tests.deploy.debian import SYSTEMD, debian_root
from tests.deploy.machine import Machine

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
    for _ in $(seq 300); do
        if [ "$(main)" != 0 ] && [ "$(main)" != "$1" ] && systemctl is-active -q curupira-agent; then return 0; fi
        sleep 0.1
    done
    return 1
}
refused() { if "$@"; then exit 99; fi; }
release() { readlink "/opt/${1:-curupira}/current"; }
"""


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


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, pattern
    return match[1]
