"""Archives of field logs: what is a journal in them is taken, and nothing that they name is a path here."""

import io
import tarfile
import zipfile

import pytest

from base_station import cards
from tests.base_station.test_fieldlog import Phone
from tests.base_station.test_shelf import listen

KINDS = ["zip", "tar", "tar.gz"]


def pack(kind, files):
    """Return an archive of (name, bytes) pairs."""
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files:
                archive.writestr(name, data)
    else:
        with tarfile.open(fileobj=content, mode="w:gz" if kind == "tar.gz" else "w") as archive:
            for name, data in files:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def send(station, content, name="card.zip"):
    return station.request("POST", "/v1/journals/archive", files=[("archive", (name, content))])


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_of_two_phones_brings_both_and_a_stranger_is_named(station, ipe, tmp_path, kind):
    station.add("cedro-01")
    files = [("card/readme.txt", b"x" * 5_000_000)]
    for name in ("ipe-07", "cedro-01", "nobody"):
        folder = listen(tmp_path / name, Phone(), device_id=name)
        files += [(f"card/{name}/journal/{path.name}", path.read_bytes()) for path in folder.iterdir()]
    for new in (1, 0):
        answer = send(station, pack(kind, files))
        assert answer.status_code == 201, answer.text
        journals = answer.json()["journals"]
        assert [(one["device_id"], one["new_segments"]) for one in journals[:2]] == [("ipe-07", new), ("cedro-01", new)]
        assert journals[2]["folder"] == "card/nobody/journal"
        assert "does not know" in journals[2]["problem"]
    assert {one["device_id"] for one in station.get("/v1/journals/segments")["segments"]} == {"ipe-07", "cedro-01"}


@pytest.mark.parametrize("kind", KINDS)
def test_names_in_an_archive_are_no_paths_here(kind, tmp_path):
    name = "journal-00000000.jsonl"
    names = [f"../../{name}", f"/etc/{name}", f"C:\\x\\{name}", f"a/../../b/{name}"]
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    found = cards.unpack(io.BytesIO(pack(kind, [(one, b"{}\n") for one in names])), target)
    assert len(found) == len(names)
    assert sorted(path.name for path in tmp_path.rglob("journal-*") if target in path.parents) == [name] * len(names)
    assert len(list(tmp_path.rglob("journal-*"))) == len(names)


def test_links_in_a_tar_lead_nowhere(tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        entry = tarfile.TarInfo("journal-00000000.jsonl")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    content.seek(0)
    with pytest.raises(cards.FieldError, match="holds no journal"):
        cards.unpack(content, tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no archive at all", "damaged or encrypted"),
        (pack("zip", [("journal-00000000.jsonl", b"x" * 9_000)])[:-40], "damaged or encrypted"),
        (pack("tar.gz", [("journal-00000000.jsonl", bytes(range(256)) * 40)])[:-30], "damaged or encrypted"),
        (pack("zip", [("notes.txt", b"x")]), "holds no journal"),
        (pack("zip", [("journal-00000000.jsonl", b"\0" * 5_000_000)]), "more than 4000000 bytes"),
        (pack("tar", [("journal-00000000.jsonl", b"x")] * 2), "twice"),
    ],
)
def test_what_is_wrong_with_an_archive_is_said(station, ipe, content, said):
    answer = send(station, content)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_all_files_of_an_archive_together_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "LARGEST_BYTES", 1500)
    files = [(f"{n}/journal-00000000.jsonl", b"x" * 1000) for n in range(2)]
    with pytest.raises(cards.FieldError, match="more than 1500 bytes"):
        cards.unpack(io.BytesIO(pack("zip", files)), tmp_path)


def test_damaged_lines_are_named_by_file_and_line(station, ipe, tmp_path):
    folder = listen(tmp_path / "journal", Phone())
    (path,) = folder.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"level_dbfs":-50', b'"level_dbfs":-51')
    name = "journal-00000000.jsonl"
    answer = station.request("POST", "/v1/journals", files=[("files", (name, b"".join(lines)))])
    assert answer.json()["damaged"] == 1
    assert answer.json()["damage"] == [f"{name}:3: line: is damaged: its checksum is another"]
