"""`python -m base_station review DIR`: the phones' field logs as one page, and in brief in the terminal.

The page stands alone: its style, its charts and its pictures are within it, and it has no script at all. What devices
say is escaped wherever it stands.
"""

import argparse
import base64
import html
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from agent import VERSION
from agent.alert import LogMelImage
from agent.errors import ConfigError, StorageError
from base_station import charts
from base_station.picture import frequency_marks, png, time_marks
from base_station.review import DEAF, DeviceReview, FieldAlert, Span, gather
from base_station.settings import Settings
from base_station.store import Store
from base_station.words import label_name, minus, span

DONE = 0
_MOST_OUTAGES = 60
_STYLE = Path(__file__).with_name("fieldreport.css")


def page(reviews: Sequence[DeviceReview], zone: tzinfo, made_utc: datetime, *, utc: bool = False) -> str:
    """Return the whole page.

    Args:
        reviews: a review for each device.
        zone: in which times are written.
        made_utc: when the page is made.
        utc: hours of day are UTC's.
    """
    parts = [
        f"<h1>Field review</h1><p class='lead'>{html.escape(_headline(reviews, zone))}</p>",
        _section("Devices compared", _devices(reviews)),
        _section("Uptime", _legend() + charts.timeline(reviews, zone) + _outages(reviews, zone) + _lost(reviews)),
        _section("Never received by the station", _not_received(reviews, zone)),
        _section("Battery and temperature", charts.power(reviews, zone) or "<p>No log has either.</p>"),
        _section("Level by hour of day", _levels(reviews, utc=utc)),
        _section("Scores", _scores(reviews)),
        _section("Alerts", _alerts(reviews, zone)),
    ]
    clock = html.escape(_zone_name(zone, made_utc))
    foot = f"<footer>Curupira {VERSION} · made {_time(made_utc, zone)} · times are {clock}</footer>"
    style = _STYLE.read_text(encoding="utf-8")
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'><title>Curupira field review</title>"
        f"<style>{style}</style></head><body>{''.join(parts)}{foot}</body></html>\n"
    )


def _headline(reviews: Sequence[DeviceReview], zone: tzinfo) -> str:
    firsts = [review.first_utc for review in reviews if review.first_utc is not None]
    lasts = [review.last_utc for review in reviews if review.last_utc is not None]
    if not firsts or not lasts:
        return f"{len(reviews)} devices, and not a line in their logs."
    alerts = sum(len(review.alerts) for review in reviews)
    missing = sum(len(review.not_received) for review in reviews)
    heard_h = sum(review.heard_s for review in reviews) / 3600
    devices = "1 device" if len(reviews) == 1 else f"{len(reviews)} devices"
    return (
        f"{devices}, {_time(min(firsts), zone)} to {_time(max(lasts), zone)}: {heard_h:,.1f} h heard, {alerts} alerts, "
        f"{missing} never received by the station."
    )


def _section(title: str, body: str) -> str:
    return f"<section id='{title.split(maxsplit=1)[0].lower()}'><h2>{title}</h2>{body}</section>"


_COLUMNS = (
    "device", "from", "to", "heard", "up", "off", "deaf", "audio lost", "alerts", "not received", "gate closed",
    "level", "battery min", "hottest", "starts", "drills", "damaged lines", "model",
)  # fmt: skip


def _devices(reviews: Sequence[DeviceReview]) -> str:
    return f"<div class='compare'>{_table(_COLUMNS, (_device_row(review) for review in reviews))}</div>"


def _device_row(review: DeviceReview) -> list[str]:
    off_s = sum(outage.seconds for outage in review.outages)
    levels = sorted(minute.level_dbfs for minute in review.minutes if minute.level_dbfs is not None)
    charges = [minute.percent for minute in review.minutes if minute.percent is not None]
    heats = [minute.temperature_c for minute in review.minutes if minute.temperature_c is not None]
    per_label = {alert.label for alert in review.alerts}
    alerts = ", ".join(f"{sum(alert.label == label for alert in review.alerts)} {label}" for label in sorted(per_label))
    return [
        review.device_id,
        "-" if review.first_utc is None else f"{review.first_utc:%Y-%m-%d}",
        "-" if review.last_utc is None else f"{review.last_utc:%Y-%m-%d}",
        f"{review.heard_s / 3600:.1f} h",
        f"{review.up_share:.1%}",
        f"{span(off_s)}, {len(review.outages)}×" if review.outages else "never",
        span(review.deaf_s) if review.deaf_s else "never",
        span(sum(seconds for _, seconds in review.lost.values())) if review.lost else "none",
        alerts or "none",
        str(len(review.not_received)),
        f"{review.unheard / review.windows:.0%}" if review.windows else "-",
        f"{minus(levels[len(levels) // 2], 0)} dBFS" if levels else "-",
        f"{min(charges):.0f} %" if charges else "-",
        f"{max(heats):.0f} °C" if heats else "-",
        str(len(review.starts)),
        str(review.drills),
        str(review.damaged),
        ", ".join(digest[:8] for digest in review.models) or "-",
    ]


def _legend() -> str:
    words = (("good", "listening"), ("deaf", "deaf: nothing could be recognised"), ("off", "off"))
    swatches = "".join(f"<span class='swatch {name}'></span>{text} " for name, text in words)
    marks = "".join(
        f"<span style='color:{colour}'>▼</span> {html.escape(label)} " for label, colour in charts.LABEL_COLOURS.items()
    )
    return f"<p class='legend'>{swatches}{marks}</p>"


def _outages(reviews: Sequence[DeviceReview], zone: tzinfo) -> str:
    found = [(review.device_id, outage) for review in reviews for outage in review.outages]
    found += [(review.device_id, state) for review in reviews for state in review.states if state.what in DEAF]
    if not found:
        return "<p>All devices listened all the time.</p>"
    found.sort(key=lambda one: -one[1].seconds)
    rows = [[device, *_span_row(outage, zone)] for device, outage in found[:_MOST_OUTAGES]]
    head = ("device", "from", "to", "for", "what", "reason")
    shown = f"The longest {len(rows)} of {len(found)}" if len(found) > len(rows) else "One by one, the longest first"
    return (
        "<h3>When nothing could be heard</h3>"
        + _table(("device", "what", "times", "in all", "longest", "its reason"), _grouped(found))
        + f"<details><summary>{shown}</summary>{_table(head, rows)}</details>"
    )


def _grouped(found: Sequence[tuple[str, Span]]) -> Iterator[list[str]]:
    """Yield a row for each device and trouble, from spans of which the longest come first."""
    groups: dict[tuple[str, str], list[Span]] = {}
    for device, outage in found:
        groups.setdefault((device, outage.what), []).append(outage)
    for (device, what), spans in sorted(groups.items()):
        total, longest = span(sum(one.seconds for one in spans)), span(spans[0].seconds)
        yield [device, what.replace("_", " "), str(len(spans)), total, longest, spans[0].reason]


def _span_row(outage: Span, zone: tzinfo) -> list[str]:
    what = outage.what.replace("_", " ")
    return [_time(outage.from_utc, zone), _time(outage.to_utc, zone), span(outage.seconds), what, outage.reason]


def _lost(reviews: Sequence[DeviceReview]) -> str:
    rows = [
        [review.device_id, reason, str(often), f"{seconds:.0f} s"]
        for review in reviews
        for reason, (often, seconds) in sorted(review.lost.items())
    ]
    table = _table(("device", "reason", "times", "audio lost"), rows)
    return f"<details><summary>Audio lost while running, by reason</summary>{table}</details>" if rows else ""


def _not_received(reviews: Sequence[DeviceReview], zone: tzinfo) -> str:
    rows = [
        [alert.device_id, _time(alert.utc, zone), alert.label, f"{alert.score:.2f}", alert.fate, alert.alert_id]
        for review in reviews
        for alert in review.not_received
    ]
    return _table(("device", "raised", "label", "score", "why", "alert"), rows) if rows else "<p>None.</p>"


def _levels(reviews: Sequence[DeviceReview], *, utc: bool) -> str:
    drawn, clock = charts.levels(reviews, utc=utc), "UTC" if utc else "local time"
    if not drawn:
        return "<p>No log has a whole minute.</p>"
    return f"<p>The middle of the minutes of each hour ({clock}); eight in ten lie in the band.</p>{drawn}"


def _scores(reviews: Sequence[DeviceReview]) -> str:
    drawn = charts.scores(reviews)
    if not drawn:
        return "<p>The model saw no window.</p>"
    return "<p>Windows by score, as the model saw them; the dashed line is the threshold of a hit.</p>" + drawn


def _alerts(reviews: Sequence[DeviceReview], zone: tzinfo) -> str:
    alerts = sorted((alert for review in reviews for alert in review.alerts), key=lambda alert: alert.utc)
    if not alerts:
        return "<p>None.</p>"
    without = sum(alert.image is None for alert in alerts)
    note = ""
    if without:
        note = (
            f"<p>{without} of {len(alerts)} have no picture here: an alert leaves the phone with its receipt. "
            "The station has it: name its folder with --data.</p>"
        )
    return note + "<div class='cards'>" + "".join(_card(alert, zone) for alert in alerts) + "</div>"


def _card(alert: FieldAlert, zone: tzinfo) -> str:
    colour = alert.label if alert.label in charts.LABEL_COLOURS else "other"
    lasted = "no end in the log" if alert.lasted_s is None else f"{alert.lasted_s:.0f} s"
    picture = "<p class='none'>no picture</p>" if alert.image is None else _spectrogram(alert.image)
    fate = "received" if alert.received else "missing"
    return (
        f"<article class='card {colour}' data-alert='{html.escape(alert.alert_id, quote=True)}'>"
        f"<h3>{html.escape(label_name(alert.label))}</h3>"
        f"<p class='when'>{_time(alert.utc, zone)} · {html.escape(alert.device_id)}</p>"
        f"<p>score {alert.score:.2f} · {lasted}</p>{picture}"
        f"<p class='{fate}'>{html.escape(alert.fate)}</p></article>"
    )


def _spectrogram(image: LogMelImage) -> str:
    """Return the picture with its axes: kilohertz up, seconds to the right."""
    data = base64.b64encode(png(image)).decode()
    up = "".join(f"<span style='bottom:{share:.1%}'>{text}</span>" for share, text in frequency_marks(image))
    right = "".join(f"<span style='left:{share:.1%}'>{text}</span>" for share, text in time_marks(image))
    return (
        f"<figure><div class='up'>{up}</div><img alt='What the model saw, {image.n_frames * image.hop_s:.1f} s' "
        f"src='data:image/png;base64,{data}'><div class='right'>{right}</div></figure>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"


def _time(moment: datetime, zone: tzinfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def _zone_name(zone: tzinfo, moment: datetime) -> str:
    return "UTC" if zone is UTC else f"local time ({moment.astimezone(zone):%Z})"


def brief(reviews: Sequence[DeviceReview], zone: tzinfo) -> Iterator[str]:
    """Yield the same in brief, for a terminal."""
    yield _headline(reviews, zone)
    yield ""
    head = ("heard", "up", "off", "deaf", "alerts", "missing", "battery", "hottest")
    yield f"{'device':<16}" + "".join(f"{name:>9}" for name in head)
    for review in reviews:
        yield f"{review.device_id[:15]:<16}" + "".join(f"{cell:>9}" for cell in _brief_row(review))
    longest = sorted(
        ((review.device_id, outage) for review in reviews for outage in review.outages), key=lambda one: -one[1].seconds
    )
    for device, outage in longest[:3]:
        yield f"  off: {device}, {_time(outage.from_utc, zone)}, for {span(outage.seconds)}: {outage.reason}"
    for alert in [alert for review in reviews for alert in review.not_received][:5]:
        told = f"{alert.device_id}, {_time(alert.utc, zone)}, {alert.label} {alert.score:.2f}"
        yield f"  never received: {told}: {alert.fate}"
    damaged = sum(review.damaged for review in reviews)
    if damaged:
        yield f"  {damaged} damaged lines or files were passed over"


def _brief_row(review: DeviceReview) -> tuple[str, ...]:
    charges = [minute.percent for minute in review.minutes if minute.percent is not None]
    heats = [minute.temperature_c for minute in review.minutes if minute.temperature_c is not None]
    return (
        f"{review.heard_s / 3600:.1f} h",
        f"{review.up_share:.1%}",
        f"{len(review.outages)}×",
        span(review.deaf_s),
        str(len(review.alerts)),
        str(len(review.not_received)),
        f"{min(charges):.0f} %" if charges else "-",
        f"{max(heats):.0f} °C" if heats else "-",
    )


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "review",
        help="phones' field logs as one page",
        description="Reads the journals of one phone or many and writes one HTML page that stands alone: uptime and "
        "gaps with their reasons, battery and temperature, levels by hour, scores, every alert with its picture, what "
        "the station never received, the devices compared. In brief it is printed.",
        epilog="Example: python -m base_station review copies/ --data var/station --out march.html",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a phone's storage.folder, a copy, or many of them")
    parser.add_argument("--out", type=Path, default=Path("review.html"), metavar="FILE", help="default: %(default)s")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the station's folder: pictures of alerts, and what it has received"
    )
    parser.add_argument("--utc", action="store_true", help="times in UTC, not in local time")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Gather, write the page, print the brief."""
    now = datetime.now(UTC)
    zone = UTC if options.utc else (now.astimezone().tzinfo or UTC)
    with ExitStack() as stack:
        reviews = gather(options.folder, _station(options.data, stack))
    try:
        import matplotlib  # noqa: F401  # said before the work, not in the midst of it
    except ImportError as error:
        raise ConfigError("matplotlib is missing: install curupira[station]") from error
    text = page(reviews, zone, now, utc=options.utc)
    try:
        options.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{options.out}: cannot be written: {error.strerror}; name another with --out") from error
    for line in brief(reviews, zone):
        print(line)
    print(f"page: {options.out} ({len(text) / 1e6:.1f} MB)")
    return DONE


def _station(data: Path | None, stack: ExitStack) -> Callable[[str], tuple[bool, LogMelImage | None]] | None:
    """Return what looks an alert up at the station, if there is one to ask."""
    if data is None:
        return None
    settings = Settings(data=data)
    if settings.database_url.database is None or not Path(settings.database_url.database).is_file():
        raise ConfigError(f"--data: {data} holds no station's database; name the folder that `serve` uses")
    store = stack.enter_context(closing(Store(settings.database_url)))

    def look_up(alert_id: str) -> tuple[bool, LogMelImage | None]:
        event = store.event(alert_id)
        if event is None:
            return False, None
        revision = event.log_mel_revision
        return True, None if revision is None else store.log_mel(alert_id, revision)

    return look_up
