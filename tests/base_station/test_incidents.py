"""Which alerts are one incident, where it was, and how sure: properties, worked values, and forests with truth."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base_station.forest import NOBODY, ForestConfig, grow
from base_station.incidents import Heard, Rules, confidence, groups, incidents
from base_station.locate import Ear, Place, estimate, metres

BEGIN = datetime(2026, 11, 20, tzinfo=UTC)
RULES = Rules()
HERE = Place(-3.1, -60.02)


def at(place: Place, east_m: float, north_m: float = 0.0) -> Place:
    return Place(place.latitude + north_m / 111_195, place.longitude + east_m / 111_195 / 0.99854)


def heard(name: str, begin_s: float = 0.0, **changes) -> Heard:
    first = BEGIN + timedelta(seconds=begin_s)
    alert = Heard(
        seq=1,
        alert_id=f"{name}-{begin_s}",
        device_id=name,
        label="chainsaw",
        drill=False,
        first_utc=first,
        last_utc=first + timedelta(seconds=30),
        received_utc=first + timedelta(seconds=3),
        dated=True,
        score=0.9,
        level_dbfs=-40.0,
        place=HERE,
    )
    return replace(alert, **changes)


@st.composite
def reports(draw: st.DrawFn) -> list[Heard]:
    n_alerts = draw(st.integers(1, 14))
    places = [at(HERE, 700.0 * idx) for idx in range(6)]
    made = []
    for idx in range(n_alerts):
        device = draw(st.integers(0, 5))
        begin_s = draw(st.integers(0, 2000))
        lasted = draw(st.integers(0, 300))
        made.append(
            heard(
                f"d{device}",
                begin_s,
                seq=idx,
                alert_id=f"a{idx}",
                last_utc=BEGIN + timedelta(seconds=begin_s + lasted),
                label=draw(st.sampled_from(["chainsaw", "engine"])),
                drill=draw(st.booleans()),
                score=draw(st.floats(0, 1)),
                place=draw(st.sampled_from([places[device], None])),
            )
        )
    return made


def as_sets(found: list[list[Heard]]) -> set[frozenset[str]]:
    return {frozenset(alert.alert_id for alert in group) for group in found}


@given(alerts=reports())
def test_every_alert_is_in_exactly_one_incident(alerts):
    members = Counter(alert_id for incident in incidents(alerts, {}, RULES) for alert_id in incident.alert_ids)
    assert members == Counter(alert.alert_id for alert in alerts)


@given(alerts=reports(), rnd=st.randoms(use_true_random=False))
def test_the_order_in_which_alerts_come_does_not_matter(alerts, rnd):
    shuffled = list(alerts)
    rnd.shuffle(shuffled)
    assert incidents(shuffled, {}, RULES) == incidents(alerts, {}, RULES)


@given(alerts=reports())
def test_drills_and_labels_never_mix(alerts):
    for group in groups(alerts, RULES):
        assert len({(alert.label, alert.drill) for alert in group}) == 1


@given(alerts=reports(), days=st.integers(-400, 400))
def test_the_hour_does_not_matter(alerts, days):
    later = timedelta(days=days)
    moved = [
        replace(
            alert,
            first_utc=alert.first_utc + later,
            last_utc=alert.last_utc + later,
            received_utc=alert.received_utc + later,
        )
        for alert in alerts
    ]
    assert as_sets(groups(moved, RULES)) == as_sets(groups(alerts, RULES))


@given(alerts=reports())
def test_one_more_alert_never_tears_an_incident_apart(alerts):
    before = as_sets(groups(alerts[:-1], RULES))
    after = as_sets(groups(alerts, RULES))
    assert all(any(small <= large for large in after) for small in before)


@given(alerts=reports())
def test_an_incident_keeps_its_name_when_more_alerts_come(alerts):
    names = {incident.incident_id for incident in incidents(alerts[:-1], {}, RULES)}
    later = incidents(alerts, {}, RULES)
    gone = names - {incident.incident_id for incident in later}
    # a name may go only because two incidents turned out to be one, and then the elder's stays
    assert all(any(name in incident.alert_ids and incident.incident_id != name for incident in later) for name in gone)


@given(alerts=reports())
def test_linking_is_what_a_slow_search_finds(alerts):
    """Oracle: whoever can be reached from an alert by steps between pairs that belong together."""

    def together(one: Heard, other: Heard) -> bool:
        if (one.label, one.drill) != (other.label, other.drill):
            return False
        gap = max(one.first_utc, other.first_utc) - min(one.last_utc, other.last_utc)
        near = one.device_id == other.device_id or (
            one.place is not None and other.place is not None and metres(one.place, other.place) <= RULES.distance_m
        )
        return near and gap <= timedelta(seconds=RULES.window_s)

    rest, slow = set(range(len(alerts))), set()
    while rest:
        reached = {rest.pop()}
        while more := {b for b in rest if any(together(alerts[a], alerts[b]) for a in reached)}:
            reached |= more
            rest -= more
        slow.add(frozenset(alerts[idx].alert_id for idx in reached))
    assert as_sets(groups(alerts, RULES)) == slow


@given(scores=st.lists(st.floats(0.01, 1), min_size=1, max_size=8), more=st.floats(0.01, 1))
def test_every_witness_makes_it_surer_and_none_makes_it_certain(scores, more):
    alone, together = confidence(scores, 0.6), confidence([*scores, more], 0.6)
    assert 0 <= alone < together <= 1
    assert confidence(list(reversed(scores)), 0.6) == pytest.approx(alone)


def test_the_same_device_again_and_one_beside_it_are_no_second_witness():
    alone = incidents([heard("a")], {}, RULES)[0]
    again = incidents([heard("a"), heard("a", 60)], {}, RULES)[0]
    beside = incidents([heard("a"), heard("b", place=at(HERE, 10))], {}, RULES)[0]
    apart = incidents([heard("a"), heard("b", place=at(HERE, 300))], {}, RULES)[0]
    assert (alone.witnesses, again.witnesses, beside.witnesses, apart.witnesses) == (1, 1, 1, 2)
    assert alone.confidence == again.confidence == beside.confidence == pytest.approx(0.54)
    assert apart.confidence == pytest.approx(1 - 0.46**2)


def test_neighbours_in_time_and_place_are_one_and_others_are_not():
    near = heard("b", 60, place=at(HERE, 1000))
    late = heard("b", 600, place=at(HERE, 1000))
    far = heard("b", 60, place=at(HERE, 2000))
    assert [len(incidents([heard("a"), other], {}, RULES)) for other in (near, late, far)] == [1, 2, 2]


def test_devices_that_know_no_place_are_incidents_of_their_own():
    found = incidents([heard("a", place=None), heard("b", place=None), heard("a", 90, place=None)], {}, RULES)
    assert sorted(len(incident.alert_ids) for incident in found) == [1, 2]
    assert all(incident.position is None for incident in found)


def test_a_front_over_the_whole_forest_is_a_storm_and_a_saw_beside_silent_devices_is_not():
    trees = {f"d{idx}": at(HERE, 900.0 * idx) for idx in range(8)}
    storm = [heard(name, 20.0 * idx, place=place) for idx, (name, place) in enumerate(trees.items())]
    assert [incident.kind for incident in incidents(storm, trees, RULES)] == ["storm"]
    silent = {f"s{idx}": at(HERE, 450.0 * idx) for idx in range(12)}
    assert [incident.kind for incident in incidents(storm, {**trees, **silent}, RULES)] == ["event"]
    few = incidents(storm[:2], trees, RULES)
    assert [incident.kind for incident in few] == ["event"]


def test_alerts_without_times_that_a_link_brings_all_at_once_are_an_outage():
    burst = [
        heard(
            f"d{idx}", idx, place=at(HERE, 300.0 * idx), dated=False, received_utc=BEGIN + timedelta(seconds=40 + idx)
        )
        for idx in range(4)
    ]
    (only,) = incidents(burst, {}, RULES)
    assert (only.kind, only.position) == ("outage", None)
    assert only.confidence < confidence([0.9], RULES.trust)
    dated = [replace(alert, dated=True) for alert in burst]
    assert [incident.kind for incident in incidents(dated, {}, RULES)] == ["event"]


def test_a_source_between_two_devices_is_nearer_to_the_louder():
    left, right = at(HERE, -400), at(HERE, 400)
    middle = estimate((Ear(left, -40.0), Ear(right, -40.0)))
    louder = estimate((Ear(left, -30.0), Ear(right, -48.0)))
    assert metres(Place(middle.latitude, middle.longitude), HERE) < 60
    found = Place(louder.latitude, louder.longitude)
    assert metres(found, left) + 150 < metres(found, right)


def test_more_devices_narrow_the_place_down_and_silent_ones_push_it_away():
    alone = estimate((Ear(HERE, -40.0),))
    three = estimate((Ear(HERE, -40.0), Ear(at(HERE, 400), -46.0), Ear(at(HERE, 0, 400), -46.0)))
    helped = estimate((Ear(HERE, -40.0),), (at(HERE, 300), at(HERE, 300, 300), at(HERE, 300, -300)))
    assert three.radius_m < alone.radius_m
    assert abs(alone.longitude - HERE.longitude) < 1e-6
    assert metres(HERE, Place(helped.latitude, helped.longitude)) > 50
    assert helped.longitude < HERE.longitude


def test_the_date_line_and_the_pole_do_no_harm():
    across = estimate((Ear(Place(0.0, 179.999), -40.0), Ear(Place(0.0, -179.999), -40.0)))
    assert abs(abs(across.longitude) - 180.0) < 0.01
    assert estimate((Ear(Place(90.0, 0.0), -40.0),)).latitude <= 90.0


def test_in_simulated_forests_saws_are_whole_storms_are_named_and_places_hold():
    held: list[bool] = []
    for seed in range(6):
        forest = grow(ForestConfig(n_devices=100, hours=8, saws_per_hour=0.5, storms=1), BEGIN, seed)
        found = incidents(forest.heard, forest.devices, RULES)
        for idx, source in enumerate(forest.sources):
            mine = [incident for incident in found if any(forest.truth[a] == idx for a in incident.alert_ids)]
            assert len(mine) <= 1, source
            if mine and source.kind == "storm":
                assert mine[0].kind == "storm"
            pure = mine and {forest.truth[a] for a in mine[0].alert_ids} == {idx}
            if pure and source.kind == "saw" and mine[0].position is not None:
                position = mine[0].position
                where = Place(position.latitude, position.longitude)
                held.append(metres(where, source.place) <= position.radius_m)
        sure = [incident for incident in found if incident.kind == "event" and incident.witnesses >= 3]
        assert all(any(forest.truth[a] != NOBODY for a in incident.alert_ids) for incident in sure)
    assert sum(held) >= 0.75 * len(held) > 0


def test_the_api_lists_incidents(station, alert_of, heartbeat_of):
    for name, east in (("ipe-07", 0), ("cedro-01", 300)):
        device = station.add(name)
        place = at(HERE, east)
        alert = alert_of(name, log_mel=None)
        station.send(device, replace(alert, position=replace(alert.position, longitude=place.longitude)))
    drill = station.add("angelim")
    station.send(drill, alert_of("angelim", drill=True, log_mel=None))
    found = station.get("/v1/incidents")
    assert sorted((i["drill"], i["devices"]) for i in found["incidents"]) == [
        (False, ["cedro-01", "ipe-07"]),
        (True, ["angelim"]),
    ]
    assert len(station.get("/v1/incidents", drills=False)["incidents"]) == 1
    assert station.get("/v1/incidents", label="engine")["incidents"] == []
    real = next(i for i in found["incidents"] if not i["drill"])
    assert real["witnesses"] == 2
    assert real["position"]["radius_m"] > 0
    wrong = station.request("GET", "/v1/incidents", params={"since": "2026-01-01T00:00:00Z"})
    assert wrong.status_code == 422
    assert station.request("GET", "/v1/incidents", params={"since": "yesterday"}).json()["field"] == "since"
