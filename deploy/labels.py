"""What is stuck on a device: name, id, position, as text and as a QR code. Never the key: the thief reads the label."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import segno
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.lib.utils import simpleSplit
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from deploy.provision import PER_SHEET
from deploy.roster import Member

COLUMNS, ROWS = 3, 7
"""The common sheet of 21 labels, 63.5 × 38.1 mm."""
assert PER_SHEET == COLUMNS * ROWS
_WIDTH, _HEIGHT = 63.5 * mm, 38.1 * mm
_LEFT, _TOP, _GAP = 7.2 * mm, 15.1 * mm, 2.5 * mm
_PAD = 3 * mm
_QR = 27 * mm
_QUIET = 4
"""Modules of white around a QR code, without which readers do not find it."""


def label_text(member: Member) -> str:
    """Return what the QR code says."""
    facts = {"id": member.id, "name": member.name}
    if member.position is not None:
        facts |= {"lat": f"{member.position.latitude:.6f}", "lon": f"{member.position.longitude:.6f}"}
    return f"curupira:1?{urlencode(facts)}"


def qr_code(member: Member) -> segno.QRCode:
    """Return the code; a quarter of it may be dirt."""
    return segno.make_qr(label_text(member), error="q")


def write_labels(path: Path, members: Sequence[Member], first: int = 1) -> None:
    """Write the label sheets, PDF on A4: print at 100 %.

    Args:
        path: the file; replaced.
        members: whose labels, in this order.
        first: the first free label of the first sheet, 1 to 21, row by row.
    """
    draft = path.with_name(f".{path.name}.new")
    canvas = Canvas(str(draft), pagesize=A4, invariant=1, pageCompression=0)
    canvas.setTitle("Curupira labels")
    for place, member in enumerate(members, start=first - 1):
        if place % PER_SHEET == 0 and place >= PER_SHEET:
            canvas.showPage()
        _draw(canvas, member, place % PER_SHEET)
    canvas.save()
    draft.replace(path)


def _draw(canvas: Canvas, member: Member, place: int) -> None:
    row, column = divmod(place, COLUMNS)
    left = _LEFT + column * (_WIDTH + _GAP)
    top = A4[1] - _TOP - row * _HEIGHT
    _draw_qr(canvas, member, left + _PAD, top - (_HEIGHT + _QR) / 2)
    text_left = left + _PAD + _QR + 2 * mm
    room = left + _WIDTH - _PAD - text_left
    line = top - 9 * mm
    for text, font, size in _lines(member, room):
        canvas.setFont(font, _fitting(text, font, size, room))
        canvas.drawString(text_left, line, text)
        line -= size * 1.35


def _lines(member: Member, room: float) -> list[tuple[str, str, float]]:
    fits = stringWidth(member.name, "Helvetica-Bold", 12.0) <= room
    parts = [member.name] if fits else simpleSplit(member.name, "Helvetica-Bold", 8.5, room)
    lines = [(part, "Helvetica-Bold", 12.0 if fits else 8.5) for part in parts]
    if member.name != member.id:
        lines.append((member.id, "Helvetica", 10.0))
    if member.position is not None:
        lines.append((f"{member.position.latitude:.5f}", "Helvetica", 8.5))
        lines.append((f"{member.position.longitude:.5f}", "Helvetica", 8.5))
    if member.serial is not None:
        lines.append((f"phone {member.serial}", "Helvetica", 6.5))
    return [*lines, ("Curupira", "Helvetica", 6.5)]


def _fitting(text: str, font: str, size: float, room: float) -> float:
    """Return the size at which the text fits."""
    return min(size, size * room / float(stringWidth(text, font, size)))


def _draw_qr(canvas: Canvas, member: Member, left: float, bottom: float) -> None:
    matrix = qr_code(member).matrix
    module = _QR / (len(matrix) + 2 * _QUIET)
    path = canvas.beginPath()
    for row_idx, row in enumerate(matrix):
        for column_idx, dark in enumerate(row):
            if dark:
                y = bottom + _QR - (row_idx + 1 + _QUIET) * module
                path.rect(left + (column_idx + _QUIET) * module, y, module, module)
    canvas.drawPath(path, stroke=0, fill=1)
