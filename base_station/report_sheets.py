"""A report as tables for spreadsheets: a row for each day, or for each device that alerted."""

from collections.abc import Iterator

from base_station.reports import Report


def day_rows(made: Report) -> Iterator[dict[str, object]]:
    """Yield a row for each day, as the table on the page."""
    for row in made.days:
        yield {
            "day": row.day.isoformat(),
            **{label: row.alerts.get(label, 0) for label in made.labels},
            "incidents": row.incidents,
            "listened_h": None if row.listened_h is None else round(row.listened_h, 1),
            "possible_h": round(row.possible_h, 1),
        }


def day_columns(made: Report) -> tuple[str, ...]:
    """Return the columns of `day_rows`."""
    return ("day", *made.labels, "incidents", "listened_h", "possible_h")


def device_rows(made: Report) -> Iterator[dict[str, object]]:
    """Yield a row for each device that alerted, the most alerts first."""
    for row in made.devices:
        place = row.place
        yield {
            "device_id": row.name,
            "latitude": None if place is None else place.latitude,
            "longitude": None if place is None else place.longitude,
            **{label: row.alerts.get(label, 0) for label in made.labels},
        }


def device_columns(made: Report) -> tuple[str, ...]:
    """Return the columns of `device_rows`."""
    return ("device_id", "latitude", "longitude", *made.labels)
