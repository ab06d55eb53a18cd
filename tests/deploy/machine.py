"""A machine whose first process is systemd: a Debian root in namespaces of its own, without a network.

The root is the lower layer of an overlay, so that every machine begins clean and what it wrote can be looked at. What
this computer does not allow (root, namespaces, mounts) is a skip that names it; what comes after that is a failure.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

BOOT_S = 600
_NOT_HERE = 77
"""Exit code of a boot that this computer does not allow."""
_BOOT = r"""
set -e
lower=$1 upper=$2 readonly=$3
root=$upper/root
# only what the kernel must allow: a mistake further down is no reason to skip
allowed() { "$@" || { echo "not allowed here: $*" >&2; exit 77; }; }
allowed mount -t overlay -o "lowerdir=$lower,upperdir=$upper/upper,workdir=$upper/work" overlay "$root"
allowed mount -t proc proc "$root/proc"
allowed mount -t sysfs -o ro sysfs "$root/sys"
allowed mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
allowed mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
allowed mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount --bind "$upper/exchange" "$root/mnt"
mount --bind "$upper/data" "$root/srv"
[ -z "$readonly" ] || mount -o remount,ro "$root"
cd "$root"
pivot_root . mnt/old
umount -l /mnt/old
mount --make-rshared /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --log-target=journal
"""
_UNIT = """
[Unit]
Description=what the test does
[Service]
Type=oneshot
ExecStart=/bin/bash /mnt/task.sh
StandardOutput=file:/mnt/said
StandardError=inherit
ExecStopPost=/bin/sh -c 'echo $EXIT_STATUS >/mnt/status; journalctl --no-pager >/mnt/journal 2>&1'
ExecStopPost=/bin/systemctl --force poweroff
TimeoutStartSec=580
"""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a task did."""

    status: int
    text: str
    journal: str

    def checked(self) -> "Said":
        """Return itself if the task did all it should, else fail with what to look at."""
        if self.status:
            pytest.fail(f"status {self.status}\n{self.text[-2_500:]}\njournal:\n{self.journal[-4_000:]}", pytrace=False)
        return self


class Machine:
    """A root that boots, does one task as root, and goes off."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Prepare it.

        Args:
            root: a Debian root with systemd; never written.
            folder: for what the machine writes.
        """
        if os.geteuid() != 0 or not shutil.which("unshare"):
            pytest.skip("systemd in a namespace needs root and unshare; not tried")
        self.root, self.folder = root, folder
        for name in ("upper/mnt", "upper/srv", "upper/usr/local/bin", "work", "root", "exchange/old", "data"):
            (folder / name).mkdir(parents=True)
        self.exchange = folder / "exchange"
        """Seen inside as /mnt."""
        etc = folder / "upper" / "etc"
        (etc / "systemd/system/multi-user.target.wants").mkdir(parents=True)
        (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n")
        (etc / "group").write_text("root:x:0:\naudio:x:29:\ntty:x:5:\nnogroup:x:65534:\n")
        (etc / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        (etc / "systemd/system/default.target").symlink_to("/lib/systemd/system/multi-user.target")
        (etc / "systemd/system/task.service").write_text(_UNIT)
        (etc / "systemd/system/multi-user.target.wants/task.service").symlink_to("../task.service")

    def run(self, task: str, *, readonly: bool = False) -> Said:
        """Boot, run a bash script, power off; skip where the computer allows no machine, fail where one boots wrong."""
        with self.up(task, readonly=readonly):
            pass
        return self.said()

    def said(self) -> Said:
        """Return what the task did, once the machine is off."""
        ended = (self.exchange / "status").read_text().strip()
        return Said(
            status=int(ended) if ended.isdecimal() else 124,  # a signal's name: it took too long
            text=(self.exchange / "said").read_text(),
            journal=(self.exchange / "journal").read_text(),
        )

    @contextlib.contextmanager
    def up(self, task: str, *, readonly: bool = False) -> "Generator[subprocess.Popen[str]]":
        """Boot and give the machine while its task runs; its only child is systemd. Wait in the end until it is off."""
        for name in ("said", "status", "journal"):
            (self.exchange / name).unlink(missing_ok=True)
        (self.exchange / "task.sh").write_text(f"PS4='+ $SECONDS s: '; set -eux\n{task}\n")
        words = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--net", "--kill-child"]
        probed = subprocess.run([*words, "true"], capture_output=True, text=True, check=False, timeout=60)
        if probed.returncode:
            pytest.skip(f"no namespaces for systemd here: {probed.stderr.strip()}")
        arguments = [str(self.root), str(self.folder), "yes" if readonly else ""]
        with subprocess.Popen(
            [*words, "--propagation", "private", "bash", "-c", _BOOT, "boot", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as unshare:
            try:
                yield unshare
                screen, _ = unshare.communicate(timeout=BOOT_S)
            except subprocess.TimeoutExpired:
                unshare.kill()
                screen = f"it is not off after {BOOT_S} s\n{unshare.communicate()[0]}"
            except BaseException:
                unshare.kill()
                raise
        self._judge(unshare.returncode, screen)

    def _judge(self, code: int, screen: str) -> None:
        """Tell a machine that cannot be had here from one that booted wrongly."""
        if (self.exchange / "status").exists():
            return
        if code == _NOT_HERE:
            pytest.skip(f"systemd cannot be the first process of a namespace: {screen.strip()[-300:]}")
        said = self.exchange / "said"
        did = said.read_text()[-2_500:] if said.exists() else "the task was never begun"
        pytest.fail(f"the machine did not boot and power off: {code}\n{screen[-2_500:]}\n{did}", pytrace=False)

    def written(self) -> set[str]:
        """Return what was written into the root, but for what every machine writes for itself."""
        upper = self.folder / "upper"
        found = {
            path.relative_to(upper).as_posix() for path in upper.rglob("*") if not path.is_dir() or path.is_symlink()
        }
        own = ("etc/", "var/log/", "var/lib/systemd/", "var/lib/dbus/", "var/cache/", "var/.updated")
        found = {name for name in found if "/__pycache__/" not in name or "curupira" in name}  # Debian's own Python
        return {name for name in found if not name.startswith(own) or "curupira" in name}
