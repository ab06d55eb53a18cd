"""A data set's archive from a server on this machine: resume, checksum, what is wrong with it."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model_export import download
from model_export.__main__ import main
from model_export.download import ARCHIVES, Archive, get
from model_export.errors import DataError


def zipped(folder: str = "ESC-50-master") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{folder}/meta/esc50.csv", "filename,fold,target,category,esc10,src_file,take\n")
        archive.writestr(f"{folder}/audio/1-1-A-0.wav", bytes(range(256)) * 400)
    return out.getvalue()


def tarred(folder: str = "UrbanSound8K", name: str = "metadata/UrbanSound8K.csv") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo(f"{folder}/{name}")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
    return out.getvalue()


class Server(ThreadingHTTPServer):
    content = b""
    cut_after = 0
    """Bytes of the first answer behind which the connection ends; 0: it does not."""
    knows_ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.asked.append(asked)
        begun = int(asked[6:-1]) if asked and self.server.knows_ranges else 0
        if begun and begun >= len(self.server.content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        rest = self.server.content[begun:]
        self.send_response(206 if begun else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        cut, self.server.cut_after = self.server.cut_after, 0
        self.wfile.write(rest[:cut] if cut else rest)
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def archive_of(content: bytes, name: str = "esc50") -> Archive:
    return replace(ARCHIVES[name], checksum=f"md5:{hashlib.md5(content).hexdigest()}")


def test_an_archive_is_fetched_checked_unpacked_and_its_licence_shown(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.content = zipped()
    folder = get(archive_of(server.content), tmp_path, source=server.url)
    assert (folder / "audio/1-1-A-0.wav").stat().st_size == 256 * 400
    assert "licence: CC BY-NC 3.0" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ESC-50-master"]
    assert get(archive_of(server.content), tmp_path, source=server.url) == folder
    assert len(server.asked) == 1  # what is there is not fetched again


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_connection_that_ends_early_is_taken_up_where_it_ended(
    server: Server, tmp_path: Path, *, knows_ranges: bool
) -> None:
    server.content, server.cut_after, server.knows_ranges = zipped(), 70_000, knows_ranges
    folder = get(archive_of(server.content), tmp_path, source=server.url)
    assert server.asked == ["", "bytes=65536-"]
    assert (folder / "meta/esc50.csv").is_file()


def test_a_stopped_fetch_goes_on_in_another_call(server: Server, tmp_path: Path) -> None:
    server.content = tarred()
    (tmp_path / "UrbanSound8K.tar.gz.partial").write_bytes(server.content[:40])
    folder = get(archive_of(server.content, "urbansound8k"), tmp_path, source=server.url, keep=True)
    assert server.asked == ["bytes=40-"]
    assert (folder / "metadata/UrbanSound8K.csv").read_text() == "hello"
    assert (tmp_path / "UrbanSound8K.tar.gz").read_bytes() == server.content


def test_a_partial_that_is_whole_already_is_taken(server: Server, tmp_path: Path) -> None:
    server.content = zipped()
    (tmp_path / "ESC-50-master.zip.partial").write_bytes(server.content)
    assert get(archive_of(server.content), tmp_path, source=server.url).is_dir()


def test_a_wrong_checksum_unpacks_nothing_and_fetches_anew_next_time(server: Server, tmp_path: Path) -> None:
    server.content = zipped()
    wanted = archive_of(b"another")
    with pytest.raises(DataError, match=r"md5 is \w+, expected \w+: it is damaged, or another version"):
        get(wanted, tmp_path, source=server.url)
    assert list(tmp_path.iterdir()) == []


def test_without_a_known_checksum_the_first_one_is_noted_and_held_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = replace(ARCHIVES["esc50"], checksum="")
    path = tmp_path / "mine.zip"
    path.write_bytes(zipped())
    folder = get(unknown, tmp_path / "data", source=str(path))
    assert "no checksum is known for it" in caplog.text
    assert path.is_file()  # a file of the user's own is left alone
    for member in sorted(folder.rglob("*"), reverse=True):
        member.unlink() if member.is_file() else member.rmdir()
    folder.rmdir()
    path.write_bytes(zipped("ESC-50-other"))
    with pytest.raises(DataError, match="sha256 is"):
        get(unknown, tmp_path / "data", source=str(path))


def test_another_archive_under_this_name_is_told_by_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zipped("birds"))
    with pytest.raises(DataError, match="holds birds, expected the folder ESC-50-master"):
        get(archive_of(path.read_bytes()), tmp_path / "data", source=str(path))
    assert list((tmp_path / "data").iterdir()) == []


def test_files_that_lie_loose_in_an_archive_get_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("1.tflite")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
    folder = get(ARCHIVES["yamnet"], tmp_path / "data", source=str(path))
    assert [one.name for one in folder.iterdir()] == ["1.tflite"]
    assert sorted(one.name for one in folder.parent.iterdir()) == ["checksums.json", "yamnet"]


def test_a_member_that_climbs_out_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(tarred(name="../../../evil"))
    with pytest.raises(DataError, match="cannot be unpacked"):
        get(archive_of(path.read_bytes(), "urbansound8k"), tmp_path / "data", source=str(path))
    assert not list(tmp_path.rglob("evil"))


def test_a_server_that_is_not_there_says_what_to_do(tmp_path: Path, server: Server) -> None:
    url = server.url.replace(str(server.server_address[1]), "1")
    with pytest.raises(DataError, match="the same command goes on, or give a mirror"):
        get(ARCHIVES["esc50"], tmp_path, source=url)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["data", "get"], "name a data set; there are esc50, urbansound8k"),
        (["data", "get", "esc50", "--from", "nowhere.zip"], "nowhere.zip: there is no such archive"),
        (["data", "get", "esc50", "--checksum", "md5:12"], "--checksum is 'md5:12'"),
    ],
)
def test_wrong_use_is_named(
    arguments: list[str],
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert problem in capsys.readouterr().err


def test_every_archive_says_its_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    told = capsys.readouterr().out
    assert all(archive.licence and f"licence: {archive.licence}" in told for archive in download.ARCHIVES.values())
