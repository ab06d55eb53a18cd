"""The life of a station under a real systemd: install, backup, upgrade, restore, TLS, removal, all from the bundle."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import VERSION
from tests.conftest import REPO
from tests.deploy.releases import HELPERS, another, found, give, prepared

STATION = """
/mnt/first/install.sh
release curupira-station
cat >/usr/local/bin/ask <<'PYTHON'
#!/usr/bin/python3
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2]) if sys.argv[2:] else None
url = ("https" if context else "http") + "://127.0.0.1:8765" + sys.argv[1]
print(urllib.request.urlopen(url, timeout=5, context=context).status)
PYTHON
cat >/usr/local/bin/whole <<'PYTHON'
#!/usr/bin/python3
import sqlite3, sys
print("copy", *sqlite3.connect(sys.argv[1]).execute("PRAGMA integrity_check").fetchone())
PYTHON
cat >/usr/local/bin/looks <<'PYTHON'
#!/usr/bin/python3
import sqlite3, sys
database = sqlite3.connect("file:/var/lib/private/curupira-station/station.db?mode=ro", uri=True)
sys.exit(not database.execute("SELECT 1 FROM leases WHERE name = 'watch'").fetchone())
PYTHON
chmod +x /usr/local/bin/ask /usr/local/bin/whole /usr/local/bin/looks
for _ in $(seq 100); do if ask /v1/alerts 2>/dev/null; then break; fi; sleep 0.2; done
ask /
for _ in $(seq 100); do if looks; then echo 'it looks around'; break; fi; sleep 0.2; done
echo "the look around fell $(journalctl -u curupira-station -o cat | grep -c 'look around ended') times"
systemctl list-timers --all --no-pager | grep curupira-station-backup
systemctl start curupira-station-backup
/mnt/second/install.sh
release curupira-station
ls /var/lib/curupira-station-backups
for copy in /var/lib/curupira-station-backups/*; do whole "$copy"; done
grep -E '^(Uid|Seccomp|CapEff):' "/proc/$(systemctl show curupira-station -p MainPID --value)/status"

: restore and ask, as docs/operations.md says
systemctl stop curupira-station
cd /var/lib/private/curupira-station && rm -f station.db-wal station.db-shm
copies=(../curupira-station-backups/*)
cp "${copies[0]}" station.db && chown --reference=. station.db
systemctl start curupira-station
sudo() { "$@"; }
@STATION@
station device list </dev/null
for _ in $(seq 100); do if ask /v1/alerts 2>/dev/null; then break; fi; sleep 0.2; done
ask /

: devices and browsers from elsewhere, as docs/operations.md says
sed -i 's/^STATION_OPTIONS=.*/STATION_OPTIONS=--host 0.0.0.0 --port 8765/' /etc/curupira-station/station.env
systemctl restart curupira-station || true
for _ in $(seq 300); do if journalctl -u curupira-station -o cat | grep 'error: --host'; then break; fi; sleep 0.2; done
station init --name station.local --name 10.0.0.1 </dev/null
echo 'nine saws and a cedar' | station user add maria --role operator
systemctl restart curupira-station
ca=/var/lib/curupira-station/tls/ca.pem
for _ in $(seq 100); do if ask /healthz "$ca" 2>/dev/null; then break; fi; sleep 0.2; done
stat -c 'tls %a %U %n' /var/lib/curupira-station/tls/*
stat -c 'user %u' /var/lib/curupira-station/tls/authority.pem /var/lib/curupira-station/station.db
station init </dev/null
refused /mnt/first/uninstall.sh
systemctl is-active curupira-station
/mnt/first/uninstall.sh --purge
"""


def shell_of(begin: str) -> str:
    """Return a function of the shell as docs/operations.md gives it."""
    lines = (REPO / "docs" / "operations.md").read_text().split(f"    {begin}\n")[1].splitlines()
    body = [line.removeprefix("    ") for line in lines[: lines.index("    }") + 1]]
    return "\n".join([begin, *body])


@pytest.mark.slow
def test_the_whole_life_of_a_station(tmp_path: Path, unpacked: Callable[[str], Path]) -> None:
    machine = prepared("bookworm", tmp_path)
    first = unpacked("station-x86-64-py311")
    give(machine, first, "first")
    another(give(machine, first, "second"), "9.9.9")
    text = machine.run(HELPERS + STATION.replace("@STATION@", shell_of("station() {"))).checked().text
    links = re.findall(r"^releases/(\S+)-\w+$", text, re.MULTILINE)
    assert links == [VERSION, "9.9.9"]
    assert len(re.findall("^200$", text, re.MULTILINE)) == 5
    assert "it looks around" in text, "the second process lives under the unit too"
    assert "the look around fell 0 times" in text
    assert "no devices; add one" in text
    assert "error: --host" in text, "beyond this machine only with a certificate and an operator"
    assert "authority and certificate made" in text
    assert "good for: station.local, 10.0.0.1" in text
    assert "maria: operator" in text
    assert "all is there: nothing was changed" in text
    secrets = re.findall(r"^tls 600 \S+ \S+/(\w+\.pem)$", text, re.MULTILINE)
    assert sorted(secrets) == ["authority.pem", "ca.pem", "station.pem"]
    assert len(set(re.findall(r"^user (\d+)$", text, re.MULTILINE))) == 1
    assert len(re.findall("^copy ok$", text, re.MULTILINE)) == 2  # one asked for, one before the upgrade
    assert found(r"^Seccomp:\t(\d)", text) == "2"
    assert "holds alerts and evidence; nothing was removed" in text
    assert machine.written() == {"usr/local/bin/mic", "usr/local/bin/ask", "usr/local/bin/whole", "usr/local/bin/looks"}
