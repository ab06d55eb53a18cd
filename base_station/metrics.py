"""Figures for Prometheus, all from the database, so that every process of the station gives the same."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import case, func, select

from agent import VERSION
from base_station import tables, tallies
from base_station.deadman import NAMES
from base_station.deliver import Deliveries
from base_station.problems import problem_answers
from base_station.retention import disk_bytes
from base_station.store import Store


class StationCollector(Collector):
    """Reads the figures when somebody asks."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        """Take the database and station time."""
        self._store = store
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield all figures."""
        yield _gauge("curupira_station_info", "Version of the station", {(VERSION,): 1.0}, ("version",))
        yield self._alerts()
        yield _gauge("curupira_newest_alert_seq", "Number of the newest alert", {(): self._newest()})
        yield self._devices()
        yield self._holding()
        outcomes = {(outcome,): float(n) for outcome, n in Deliveries(self._store.database).counts().items()}
        yield _gauge("curupira_deliveries", "Messages to people by what became of them", outcomes, ("outcome",))
        yield _gauge("curupira_database_bytes", "Bytes of the database", {(): float(disk_bytes(self._store.database))})

    def _alerts(self) -> Metric:
        counted = tallies.counts(self._store.database)
        values = {(label, str(drill).lower()): float(n) for (label, drill), n in counted.items()}
        return _gauge("curupira_alerts", "Alerts that are kept", values, ("label", "drill"))

    def _newest(self) -> float:
        with self._store.database.read() as connection:
            return float(connection.execute(select(func.max(tables.alerts.c.seq))).scalar_one() or 0)

    def _devices(self) -> Metric:
        now = self._now()
        contact = tables.contacts.c.last_contact_utc
        called = case(
            (tables.devices.c.revoked_utc.is_not(None), "revoked"),
            (contact.is_(None), "never"),
            (contact > now - timedelta(hours=1), "hour"),
            (contact > now - timedelta(days=1), "day"),
            else_="longer",
        ).label("called")
        query = select(called, func.count()).join_from(tables.devices, tables.contacts).group_by("called")
        with self._store.database.read() as connection:
            found = {row[0]: float(row[1]) for row in connection.execute(query)}
        counts = {(name,): found.get(name, 0.0) for name in ("never", "hour", "day", "longer", "revoked")}
        return _gauge(
            "curupira_devices", "Devices by when they last called: within an hour, a day", counts, ("called",)
        )

    def _holding(self) -> Metric:
        table = tables.conditions
        query = select(table.c.name, func.count()).where(table.c.end_utc.is_(None)).group_by(table.c.name)
        with self._store.database.read() as connection:
            found = {row[0]: float(row[1]) for row in connection.execute(query)}
        values = {(name,): found.get(name, 0.0) for name in NAMES}
        return _gauge("curupira_conditions", "Conditions that hold now", values, ("name",))


def metrics_router(store: Store, now: Callable[[], datetime]) -> APIRouter:
    """Return the route for Prometheus."""
    router = APIRouter()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StationCollector(store, now))

    @router.get(
        "/v1/metrics",
        summary="Figures for Prometheus",
        response_class=Response,
        responses={**problem_answers(401, 403, 503), 200: {"content": {"text/plain": {}}}},
    )
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _gauge(name: str, what: str, values: Mapping[Any, float], labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
    """Return one figure; the keys of `values` are tuples of its labels' values."""
    family = GaugeMetricFamily(name, what, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
