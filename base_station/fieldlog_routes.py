"""Journals over HTTP: their events, their files, and bringing them in."""

import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import AwareDatetime, BaseModel, Field
from starlette.exceptions import HTTPException

from agent.errors import FieldError
from agent.journal import SEGMENT_NAME
from base_station import cards, shelf
from base_station.accounts import Who
from base_station.fieldlog import Imported, field_events, import_journal
from base_station.guard import WHO
from base_station.inbox import iso
from base_station.problems import CHANGING, READING
from base_station.registry import audit_row
from base_station.store import LARGEST_PAGE, Store

MOST_FILES = 1000
"""Of one upload; a journal of 64 MB has about 700."""
_PIECE_BYTES = 256 * 1024


class FieldEventOut(BaseModel):
    """One event of a journal that came home."""

    seq: int
    device_id: str
    run: str
    kind: str
    at_utc: str | None
    dated: str = Field(
        description="`device`: by its clock, which network time had set; `station`: by its calls here; `guess`: by its "
        "own idea; `none`: nobody knows."
    )
    alert_id: str | None
    arrived: bool = Field(description="Of an alert: whether it is here.")
    fields: dict[str, Any]


class FieldEventsOut(BaseModel):
    """A page of events, the last imported first."""

    events: list[FieldEventOut]
    before: int | None = Field(description="Give this as `before` for the next page; null on the last one.")


class ImportedOut(BaseModel):
    """What a journal brought."""

    device_id: str
    events: int
    new: int = Field(description="Events that were not here before.")
    minutes: int
    windows: int
    segments: int = Field(description="Files, which are kept whole.")
    new_segments: int = Field(description="Files that were not here before, or are longer now.")
    damaged: int = Field(description="Lines that could not be read.")
    damage: list[str] = Field(description="Where the first of them are: file, line, and what is wrong.")
    undated: int = Field(description="Events of which nobody knows when they were.")
    alerts: int
    never_arrived: int = Field(description="Alerts that are not here.")
    first_utc: str | None
    last_utc: str | None


class ArrivedOut(ImportedOut):
    """What one journal of an archive brought."""

    folder: str = Field(description="Where it was in the archive.")
    problem: str = Field(description="Why nothing was taken; empty if it was.")


class ArchiveOut(BaseModel):
    """What an archive brought, a journal at a time."""

    journals: list[ArrivedOut]


class SegmentOut(BaseModel):
    """One file of a journal."""

    seq: int
    device_id: str
    run: str
    number: int
    first_utc: str | None
    last_utc: str | None
    dated: str
    n_lines: int
    n_windows: int
    n_bytes: int = Field(description="Unpacked.")
    kept_utc: str


class SegmentsOut(BaseModel):
    """A page of files, the last kept first."""

    segments: list[SegmentOut]
    before: int | None = Field(description="Give this as `before` for the next page; null on the last one.")


def fieldlog_router(store: Store, now: Callable[[], datetime]) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    _add_upload(router, store, now)
    _add_segments(router, store)

    @router.get("/v1/journals", summary="Events of journals that came home, the last imported first", responses=READING)
    def journals(
        before: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
        device: Annotated[str | None, Query(max_length=63, pattern=r"^[^\x00]*$")] = None,
        missing: Annotated[bool, Query(description="Only alerts that never arrived.")] = False,
    ) -> FieldEventsOut:
        found = field_events(store, before=before, limit=limit, device_id=device, missing=missing)
        events = [
            FieldEventOut(
                seq=each.seq,
                device_id=each.device_id,
                run=each.run,
                kind=each.kind,
                at_utc=None if each.at_utc is None else iso(each.at_utc),
                dated=each.dated,
                alert_id=each.alert_id,
                arrived=each.arrived,
                fields=each.fields,
            )
            for each in found
        ]
        return FieldEventsOut(events=events, before=found[-1].seq if len(found) == limit else None)

    return router


def _add_upload(router: APIRouter, store: Store, now: Callable[[], datetime]) -> None:
    @router.post(
        "/v1/journals",
        status_code=201,
        summary="Bring in the journal of one device, as `import` does from a card",
        description="Files journal-NNNNNNNN.jsonl or .jsonl.gz, of one folder. Twice changes nothing.",
        responses=CHANGING,
    )
    def upload(files: Annotated[list[UploadFile], File(max_length=MOST_FILES)], request: Request) -> ImportedOut:
        with tempfile.TemporaryDirectory(prefix="curupira-upload-") as folder:
            for each in files:
                _write(each, Path(folder))
            result = import_journal(store, Path(folder), now())
        if result.problem:
            raise _wrong("files", result.problem)
        _note(store, result, request, now())
        return ImportedOut(**_fields(result))

    @router.post(
        "/v1/journals/archive",
        status_code=201,
        summary="Bring in the journals of one or many devices, packed in a .zip or .tar",
        description="What is no journal in it is passed over. Twice changes nothing.",
        responses=CHANGING,
    )
    def upload_archive(archive: Annotated[UploadFile, File()], request: Request) -> ArchiveOut:
        with tempfile.TemporaryDirectory(prefix="curupira-upload-") as folder:
            try:
                found = cards.unpack(archive.file, Path(folder))
            except FieldError as error:
                raise _wrong("archive", error.problem) from error
            results = [(one.name, import_journal(store, one.folder, now())) for one in found]
        for _, result in results:
            if not result.problem:
                _note(store, result, request, now())
        journals = [ArrivedOut(**_fields(result), folder=name, problem=result.problem) for name, result in results]
        return ArchiveOut(journals=journals)


def _note(store: Store, result: Imported, request: Request, now_utc: datetime) -> None:
    """Write down who brought a journal in."""
    who: Who | None = request.scope.get(WHO)
    note = audit_row(
        who.name if who else "this machine",
        "journal_taken",
        result.device_id,
        now_utc,
        events=result.events,
        new=result.new,
        segments=result.segments,
    )
    with store.database.write() as connection:
        connection.execute(note)


def _write(each: UploadFile, folder: Path) -> None:
    """Write one uploaded file under its own name and nowhere else: a browser may send a path, a thief any path."""
    name = (each.filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    if not SEGMENT_NAME.fullmatch(name):
        raise _wrong("files", f"{name[:60]!r} is no file of a journal, expected journal-NNNNNNNN.jsonl or .jsonl.gz")
    try:
        with (folder / name).open("xb") as target:
            while piece := each.file.read(_PIECE_BYTES):
                target.write(piece)
    except FileExistsError as error:
        raise _wrong("files", f"{name} is there twice; send the journal of each device by itself") from error


def _wrong(field: str, detail: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", field), "msg": detail}])


def _fields(result: Imported) -> dict[str, Any]:
    fields: dict[str, Any] = {name: getattr(result, name) for name in ImportedOut.model_fields}
    for name in ("first_utc", "last_utc"):
        fields[name] = None if fields[name] is None else iso(fields[name])
    fields["damage"] = list(result.damage)
    return fields


def _add_segments(router: APIRouter, store: Store) -> None:
    @router.get("/v1/journals/segments", summary="Files of journals, the last kept first", responses=READING)
    def segments(
        before: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
        device: Annotated[str | None, Query(max_length=63, pattern=r"^[^\x00]*$")] = None,
        since: Annotated[AwareDatetime | None, Query(description="Only what reaches beyond this.")] = None,
        until: Annotated[AwareDatetime | None, Query(description="Only what begins before this.")] = None,
    ) -> SegmentsOut:
        found = shelf.shelved(store, device_id=device, since=since, until=until, before=before, limit=limit)
        more = len(found) == limit
        return SegmentsOut(segments=_segments(found), before=found[-1].seq if more else None)

    @router.get(
        "/v1/journals/segments/{seq}.jsonl.gz",
        summary="One file of a journal, as `agent why` and `redecide` read it",
        response_class=Response,
        responses={**READING, 200: {"content": {"application/gzip": {}}}},
    )
    def segment(seq: int) -> Response:
        data = shelf.packed(store, seq) if 0 <= seq < 2**63 else None
        if data is None:
            raise HTTPException(404, f"no file {seq} of a journal here")
        return Response(data, media_type="application/gzip")


def _segments(found: Sequence[shelf.Shelved]) -> list[SegmentOut]:
    return [
        SegmentOut(
            seq=one.seq,
            device_id=one.device_id,
            run=one.run,
            number=one.number,
            first_utc=None if one.first_utc is None else iso(one.first_utc),
            last_utc=None if one.last_utc is None else iso(one.last_utc),
            dated=one.dated,
            n_lines=one.n_lines,
            n_windows=one.n_windows,
            n_bytes=one.n_bytes,
            kept_utc=iso(one.kept_utc),
        )
        for one in found
    ]
