"""Looking after devices over adb and ssh: truthful answers, host keys checked, nothing trusted that comes back."""

import gzip
import io
import json
import os
import stat
import sys
import tarfile
from pathlib import Path

import pytest

from deploy.__main__ import main

FAKE = Path(__file__).with_name("fake_adb.py")
# ssh's last word is the command: run it here, with the board's root folder in front of every path
FAKE_SSH = """#!/bin/sh
echo "$*" >>"{root}/ssh-calls"
for word; do last=$word; done
[ ! -e "{root}/down" ] || {{ echo "ssh: connect to host 10.0.0.7 port 22: No route to host" >&2; exit 255; }}
PATH="{root}/bin:$PATH" exec sh -c "$last"
"""
COMMANDS = {
    "systemctl": "echo active",
    "journalctl": 'echo "INFO pi-02 listens"',
    "sudo": 'shift; exec "$@"',
}


class Camp:
    """A phone on a cable, a board in the network, and one that nobody can reach."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.state = root / "board"
        self.phone = root / "phones" / "R58"
        self.phone.mkdir(parents=True)
        (self.phone / "profile").write_text("pixel-6")
        (self.phone / "apks").touch()
        monkeypatch.setenv("FAKE_ADB", str(root / "phones"))
        self._script(root / "adb", f'#!/bin/sh\nexec "{sys.executable}" -I -S "{FAKE}" "$@"\n')
        self._script(root / "ssh", FAKE_SSH.format(root=root))
        (root / "bin").mkdir()
        for name, text in COMMANDS.items():
            self._script(root / "bin" / name, f"#!/bin/sh\n{text}\n")
        (root / "fleet.yaml").write_text(
            "station: {urls: ['https://station.local:8765']}\n"
            "devices:\n  ipe-07: {serial: R58}\n  lost-01: {}\n"
            f"  pi-02: {{kind: linux, ssh: pi@10.0.0.7, ssh_port: 2222, storage: {{folder: {self.state}}}}}\n"
        )
        self.journal(self.state, {"journal-1.jsonl.gz": gzip.compress(b"{}\n", mtime=0), "journal.jsonl": b"{}\n"})
        self.pack(self.phone / "journal.tar", {"journal/journal.jsonl": b"{}\n"})
        (self.state / "alive").touch()

    def _script(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o700)

    def journal(self, folder: Path, files: dict[str, bytes]) -> None:
        (folder / "journal").mkdir(parents=True)
        for name, content in files.items():
            (folder / "journal" / name).write_bytes(content)

    def pack(self, path: Path, files: dict[str, bytes]) -> None:
        with tarfile.open(path, "w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))

    def fleet(self, action: str, *more: str) -> int:
        command = ["fleet", action, str(self.root / "fleet.yaml"), "--state", str(self.root / "state")]
        if action == "update":
            command += ["--files", str(self.root / "files")]
        command += ["--adb", str(self.root / "adb"), "--ssh", str(self.root / "ssh")]
        return main([*command, *more])


@pytest.fixture
def camp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Camp:
    return Camp(tmp_path, monkeypatch)


def lines(text: str) -> dict[str, dict]:
    return {line["id"]: line for line in map(json.loads, text.splitlines())}


def test_status_tells_of_each_device_how_it_is(camp, capsys):
    assert camp.fleet("status", "--json") == 1
    said = lines(capsys.readouterr().out)
    assert (said["ipe-07"]["good"], said["ipe-07"]["version"]) == (True, "1.0")
    assert said["pi-02"]["good"]
    assert int(said["pi-02"]["free_mb"]) > 0
    assert "nobody knows how to reach it" in said["lost-01"]["problem"]
    assert camp.fleet("status", "--only", "ipe-07", "--only", "pi-02") == 0
    assert "2 of 2 well" in capsys.readouterr().out


def test_what_does_not_run_hear_or_answer_is_not_well(camp, capsys):
    os.utime(camp.state / "alive", (1, 1))
    assert camp.fleet("status", "--json", "--only", "pi-02") == 1
    assert "no sign of life for " in lines(capsys.readouterr().out)["pi-02"]["problem"]
    (camp.state / "alive").unlink()
    assert camp.fleet("status", "--json", "--only", "pi-02") == 1
    assert "no sign of life yet" in lines(capsys.readouterr().out)["pi-02"]["problem"]
    (camp.root / "bin" / "systemctl").write_text("#!/bin/sh\necho failed\n")
    assert camp.fleet("status", "--json", "--only", "pi-02") == 1
    assert "does not run: failed" in lines(capsys.readouterr().out)["pi-02"]["problem"]
    (camp.root / "down").touch()
    assert camp.fleet("status", "--json", "--only", "pi-02") == 1
    assert "No route to host" in lines(capsys.readouterr().out)["pi-02"]["problem"]


def test_ssh_checks_host_keys_and_asks_nobody(camp):
    camp.fleet("status", "--only", "pi-02")
    (call,) = (camp.root / "ssh-calls").read_text().splitlines()[:1]
    assert "-o BatchMode=yes -o StrictHostKeyChecking=yes" in call
    assert "-p 2222 -- pi@10.0.0.7 " in call


def test_logs_come_from_all(camp, capsys):
    assert camp.fleet("logs", "--lines", "5") == 1
    said = capsys.readouterr().out
    assert "== ipe-07 (adb R58)" in said
    assert "ipe-07 listens" in said
    assert "pi-02 listens" in said
    assert camp.fleet("logs", "--lines", "0") == 2


def test_journals_come_home(camp, capsys, tmp_path):
    out = tmp_path / "journals"
    assert camp.fleet("pull-journals", "--out", str(out), "--only", "ipe-07", "--only", "pi-02") == 0
    assert (out / "ipe-07" / "journal" / "journal.jsonl").read_bytes() == b"{}\n"
    assert (out / "pi-02" / "journal" / "journal-1.jsonl.gz").read_bytes() == gzip.compress(b"{}\n", mtime=0)
    assert {path.name for path in (out / "pi-02" / "journal").iterdir()} == {"journal-1.jsonl.gz", "journal.jsonl"}


def test_an_archive_from_a_stolen_phone_writes_nothing_but_journals(camp, capsys, tmp_path):
    link = tarfile.TarInfo("journal/link")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
    with tarfile.open(camp.phone / "journal.tar", "w") as tar:
        tar.addfile(link)
        for name in ("../../up", "/abs", "journal/../up", "journal/.hidden", "outbox.db", "journal/good.jsonl"):
            member = tarfile.TarInfo(name)
            member.mode = stat.S_ISUID | 0o777
            tar.addfile(member, io.BytesIO())
    out = tmp_path / "journals"
    assert camp.fleet("pull-journals", "--out", str(out), "--only", "ipe-07") == 0
    assert [str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir()] == ["ipe-07/journal/good.jsonl"]
    assert (out / "ipe-07/journal/good.jsonl").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize("content", [b"", b"rubbish" * 100, bytes(10_240)])
def test_a_journal_that_comes_broken_or_empty_is_told(camp, capsys, tmp_path, content):
    (camp.phone / "journal.tar").write_bytes(content)
    assert camp.fleet("pull-journals", "--out", str(tmp_path / "j"), "--only", "ipe-07", "--json") == 1
    assert lines(capsys.readouterr().out)["ipe-07"]["problem"]


def bundle_of(path: Path, target: str, install: bytes) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in (("manifest.json", json.dumps({"target": target}).encode()), ("install.sh", install)):
            member = tarfile.TarInfo(f"curupira/{name}")
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def board(camp: Camp) -> Camp:
    """The camp, its board a PC with Python 3.11."""
    camp._script(camp.root / "bin" / "uname", "#!/bin/sh\necho x86_64\n")
    camp._script(camp.root / "bin" / "python3", "#!/bin/sh\necho '(3, 11)'\n")
    return camp


def test_an_update_goes_to_each_by_its_kind(board, capsys, tmp_path):
    install = b'#!/bin/sh\n[ -z "$2" ] || cat "$2/config.yaml" "$2/device.key"; echo "curupira 2.0 is installed"\n'
    for name in ("ipe-07", "pi-02"):
        (board.root / "files" / name).mkdir(parents=True)
        (board.root / "files" / name / "config.yaml").write_text(f"device: {{id: {name}}}\n")
        (board.root / "files" / name / "device.key").write_text("secret\n")
    bundles = []
    for target in ("termux-aarch64", "x86-64-py311"):
        bundles += ["--bundle", str(bundle_of(tmp_path / f"{target}.tar.gz", target, install))]
    assert board.fleet("update", *bundles, "--json", "--only", "ipe-07", "--only", "pi-02") == 0
    said = lines(capsys.readouterr().out)
    assert said["ipe-07"]["bundle"] == "termux-aarch64.tar.gz"
    assert (board.phone / "update").read_bytes() == (tmp_path / "termux-aarch64.tar.gz").read_bytes()
    assert said["pi-02"]["said"] == "curupira 2.0 is installed"
    assert said["pi-02"]["configuration"] == "brought"
    with tarfile.open(board.phone / "config.tar") as tar:
        assert tar.extractfile("config.yaml").read() == b"device: {id: ipe-07}\n"
    assert "secret" not in (board.root / "ssh-calls").read_text()
    assert not any(Path(f"/var/tmp/curupira-{what}").exists() for what in ("update", "config"))
    assert board.fleet("update", *bundles[:2], "--json", "--only", "pi-02") == 1
    assert "no bundle given for it: x86-64-py311" in lines(capsys.readouterr().out)["pi-02"]["problem"]


PIP_ON_A_FULL_DISK = b"""#!/bin/sh
echo Processing numpy
echo 'ERROR: [Errno 28] No space left on device' >&2
echo 'error: the wheels could not be installed' >&2
exit 1
"""


@pytest.mark.parametrize(
    ("install", "says"),
    [
        (
            b"#!/bin/sh\necho begins; echo 'error: Python is too old' >&2; echo bye >&2; exit 1\n",
            "error: Python is too old",
        ),
        (PIP_ON_A_FULL_DISK, "ERROR: [Errno 28] No space left on device"),
        (b"#!/bin/sh\necho what >&2; echo it was >&2; exit 1\n", "it was"),
    ],
)
def test_an_update_that_fails_says_why(board, capsys, tmp_path, install, says):
    bundle = bundle_of(tmp_path / "bundle.tar.gz", "x86-64-py311", install)
    assert board.fleet("update", "--bundle", str(bundle), "--json", "--only", "pi-02") == 1
    assert lines(capsys.readouterr().out)["pi-02"]["problem"] == says


TAR_ON_A_ROTTEN_CARD = """#!/bin/sh
echo 'tar: curupira/wheels/numpy.whl: Cannot write: Input/output error' >&2
echo 'tar: Exiting with failure status due to previous errors' >&2
exit 2
"""


def test_an_update_that_cannot_be_unpacked_says_what_tar_says_first(board, capsys, tmp_path):
    bundle = bundle_of(tmp_path / "bundle.tar.gz", "x86-64-py311", b"#!/bin/sh\n")
    board._script(board.root / "bin" / "tar", TAR_ON_A_ROTTEN_CARD)
    assert board.fleet("update", "--bundle", str(bundle), "--json", "--only", "pi-02") == 1
    problem = lines(capsys.readouterr().out)["pi-02"]["problem"]
    assert problem == "tar: curupira/wheels/numpy.whl: Cannot write: Input/output error"


def test_a_device_that_is_none_is_wrong_use(camp, capsys):
    assert camp.fleet("status", "--only", "nobody") == 2
    assert "--only: nobody is not in the fleet file" in capsys.readouterr().err
