"""`python -m model_export data get NAME`: a data set's archive, with progress, resume, checksum and licence.

Only by this command: nothing is fetched behind anybody's back. What an archive should be is written here where it is
known; where it is not, the hash that was found is noted at the first time and must be the same ever after.
"""

import argparse
import hashlib
import json
import logging
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from agent.errors import ConfigError
from model_export.errors import DataError

log = logging.getLogger(__name__)

Add = Callable[[str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]

_TIMEOUT_S: Final = 30.0
_BLOCK: Final = 1 << 16
_TRIES: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """What is known of a data set's archive."""

    url: str
    file: str
    """What it is called here."""
    folder: str
    """What it unpacks to; files that lie loose in it are put into a folder of this name."""
    checksum: str
    """`md5:...` or `sha256:...`; nothing where none is known to us."""
    licence: str
    about: str


ARCHIVES: Final[Mapping[str, Archive]] = {
    "esc50": Archive(
        url="https://github.com/karolpiczak/ESC-50/archive/master.zip",
        file="ESC-50-master.zip",
        folder="ESC-50-master",
        checksum="md5:7771e4b9d86d0945acce719c7a59305a",
        licence="CC BY-NC 3.0 (the ESC-10 part: CC BY)",
        about="2,000 clips of 5 s in 50 classes, among them chainsaw, engine, rain and thunderstorm; 600 MB. Cite: "
        "K. J. Piczak, ESC: Dataset for Environmental Sound Classification, 2015",
    ),
    "urbansound8k": Archive(
        url="https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz",
        file="UrbanSound8K.tar.gz",
        folder="UrbanSound8K",
        checksum="md5:9aa69802bbf37fb986f71ec1483a196e",
        licence="CC BY-NC 3.0",
        about="8,732 clips of at most 4 s in 10 classes, ten folds; 6 GB. Cite: J. Salamon, C. Jacoby, J. P. Bello, A "
        "Dataset and Taxonomy for Urban Sound Research, 2014",
    ),
    "yamnet": Archive(
        url="https://www.kaggle.com/api/v1/models/google/yamnet/tfLite/classification-tflite/1/download",
        file="yamnet.tar.gz",
        folder="yamnet",
        checksum="",
        licence="Apache-2.0",
        about="no data set: Google's YAMNet, trained on AudioSet, whose weights `rainforest` begins with "
        "(--weights yamnet/1.tflite); 4 MB",
    ),
}


def describe(add: Add) -> None:
    """Add the command."""
    data = add("data", "fetch a data set: `data get esc50 --into DIR`; `data list` says which", command)
    data.add_argument("action", choices=("get", "list"))
    data.add_argument("name", nargs="?", choices=sorted(ARCHIVES), metavar="NAME", help=", ".join(sorted(ARCHIVES)))
    data.add_argument("--into", type=Path, default=Path("var/data"), metavar="DIR", help="where it goes (%(default)s)")
    data.add_argument("--from", dest="source", metavar="SOURCE", help="an archive on disk, or the URL of a mirror")
    data.add_argument("--checksum", metavar="KIND:HEX", help="md5:... or sha256:..., instead of the one that is known")
    data.add_argument("--keep", action="store_true", help="keep the archive when it is unpacked")


def command(options: argparse.Namespace) -> int:
    """List the data sets, or get one."""
    if options.action == "list":
        for name, archive in sorted(ARCHIVES.items()):
            print(f"{name}: {archive.about}\n  licence: {archive.licence}\n  {archive.url}")
        return 0
    if options.name is None:
        raise ConfigError(f"data get: name a data set; there are {', '.join(sorted(ARCHIVES))}")
    folder = get(
        ARCHIVES[options.name], options.into, source=options.source, checksum=options.checksum, keep=options.keep
    )
    print(f"{folder}\ntrain with: python -m model_export train RECIPE --data {folder}")
    return 0


def get(
    archive: Archive, into: Path, *, source: str | None = None, checksum: str | None = None, keep: bool = False
) -> Path:
    """Fetch, check and unpack an archive; return its folder. What is there already is not fetched again.

    Args:
        archive: which.
        into: where it goes.
        source: a file or a mirror's URL instead of its own.
        checksum: `md5:...` or `sha256:...` instead of its own.
        keep: whether the archive stays when it is unpacked.

    Raises:
        DataError: it could not be fetched, is not what it should be, or cannot be unpacked.
    """
    print(f"{archive.folder}: {archive.about}\nlicence: {archive.licence}")
    folder = into / archive.folder
    if folder.is_dir():
        log.info("%s is there already", folder)
        return folder
    into.mkdir(parents=True, exist_ok=True)
    wanted = _wanted(checksum or archive.checksum)
    given = source or archive.url
    is_url = urlsplit(given).scheme in ("http", "https")
    path = _fetched(given, into / archive.file) if is_url else Path(given)
    if not path.is_file():
        raise DataError(f"{path}: there is no such archive; give a file or an address after --from")
    try:
        _check(path, wanted, into / "checksums.json", archive.file)
    except DataError:
        if is_url:
            path.unlink()
        raise
    _unpack(path, into, archive.folder)
    if is_url and not keep:
        path.unlink()
    return folder


def _wanted(text: str) -> tuple[str, str]:
    kind, _, value = text.partition(":")
    if text and (kind not in ("md5", "sha256") or len(value) != {"md5": 32, "sha256": 64}[kind]):
        raise ConfigError(f"--checksum is {text!r}, expected md5: and 32 or sha256: and 64 hexadecimal digits")
    return (kind, value.lower()) if text else ("sha256", "")


def _fetched(url: str, path: Path) -> Path:
    """Fetch a file, going on behind what an earlier try left."""
    import requests

    if path.is_file():
        return path
    partial = path.with_name(path.name + ".partial")
    problem = ""
    for _ in range(_TRIES):
        begun = partial.stat().st_size if partial.is_file() else 0
        try:
            if _append(url, partial, begun):
                partial.replace(path)
                return path
            problem = "the connection ended before the file did"
        except requests.RequestException as error:
            problem = " ".join(str(error).split())[:200]
        if partial.is_file() and partial.stat().st_size == begun:
            break  # not a byte further: trying at once again would not help
    raise DataError(f"{url}: {problem}; the same command goes on, or give a mirror or a file with --from")


def _append(url: str, partial: Path, begun: int) -> bool:
    """Fetch what is missing and say whether it is whole."""
    import requests
    from tqdm import tqdm

    headers = {"Range": f"bytes={begun}-"} if begun else {}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
        if answer.status_code == 416:  # nothing is missing
            return True
        answer.raise_for_status()
        # a server that does not know ranges begins anew
        begun = begun if answer.status_code == 206 else 0
        length = answer.headers.get("Content-Length")
        total = begun + int(length) if length else None
        with (
            partial.open("ab" if begun else "wb") as file,
            tqdm(total=total, initial=begun, unit="B", unit_scale=True, desc=partial.stem) as bar,
        ):
            for block in answer.iter_content(_BLOCK):
                file.write(block)
                bar.update(len(block))
    return total is None or partial.stat().st_size == total


def _check(path: Path, wanted: tuple[str, str], notes: Path, name: str) -> None:
    kind, value = wanted
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    found = digest.hexdigest()
    known: dict[str, Any] = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else {}
    value = value or str(known.get(name, ""))
    if not value:
        log.warning("%s: no checksum is known for it; %s:%s is noted and must be the same next time", name, kind, found)
        notes.write_text(json.dumps({**known, name: found}, indent=1) + "\n", encoding="utf-8")
    elif found != value:
        raise DataError(
            f"{path}: {kind} is {found}, expected {value}: it is damaged, or another version than the one we know; "
            f"fetch it again, or look at it and say --checksum {kind}:{found}"
        )


def _unpack(path: Path, into: Path, folder: str) -> None:
    """Unpack beside its place and move it there, so that half an archive is never taken for a whole one."""
    partial = into / f".{folder}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    log.info("unpacking %s", path.name)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(partial)  # noqa: S202  # it takes no member outside
        else:
            with tarfile.open(path) as archive_tar:
                archive_tar.extractall(partial, filter="data")  # nor does this filter
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(f"{path}: cannot be unpacked: {error}") from error
    members = sorted(partial.iterdir())
    inner = partial if members and all(one.is_file() for one in members) else partial / folder
    if not inner.is_dir():
        names = [one.name for one in members]
        shutil.rmtree(partial)
        raise DataError(f"{path}: holds {', '.join(names[:5])}, expected the folder {folder}; is it another archive?")
    inner.replace(into / folder)
    shutil.rmtree(partial, ignore_errors=True)
