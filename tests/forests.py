"""Incidents against the truth, on simulated forests: `python -m tests.forests`. Figures for docs/incidents.md."""

import argparse
import sys
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime

import numpy as np

from base_station.forest import NOBODY, ForestConfig, grow
from base_station.incidents import Rules, incidents
from base_station.locate import Place, metres

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


def measure(config: ForestConfig, n_forests: int, first_seed: int = 0, rules: Rules | None = None) -> dict[str, object]:
    """Return what became of the truth in a number of forests."""
    rules = rules or Rules()
    counts: Counter[str] = Counter()
    errors_m: list[float] = []
    covered: list[bool] = []
    radii_m: list[float] = []
    right: dict[int, list[bool]] = defaultdict(list)
    believed: dict[int, list[float]] = defaultdict(list)
    errors_by: dict[int, list[float]] = defaultdict(list)
    began = time.perf_counter()
    for seed in range(first_seed, first_seed + n_forests):
        forest = grow(config, BEGIN, seed)
        found = incidents(forest.heard, forest.devices, rules)
        counts["alerts"] += len(forest.heard)
        counts["incidents"] += len(found)
        for idx in {truth for truth in forest.truth.values() if truth != NOBODY}:
            source = forest.sources[idx]
            counts[f"heard {source.kind}"] += 1
            mine = [incident for incident in found if any(forest.truth[a] == idx for a in incident.alert_ids)]
            counts[f"whole {source.kind}"] += len(mine) == 1
            right_kind = {"saw": "event", "storm": "storm", "outage": "outage"}[source.kind]
            largest = max(mine, key=lambda i: sum(forest.truth[a] == idx for a in i.alert_ids))
            counts[f"named {source.kind}"] += largest.kind == right_kind
        for incident in found:
            truths = Counter(forest.truth[alert_id] for alert_id in incident.alert_ids)
            saws = [t for t in truths if t != NOBODY and forest.sources[t].kind == "saw"]
            counts["merged"] += len(saws) > 1
            if incident.kind != "event":
                continue
            key = min(incident.witnesses, 5)
            right[key].append(bool(saws))
            believed[key].append(incident.confidence)
            if len(truths) == 1 and saws and incident.position is not None:
                at = Place(incident.position.latitude, incident.position.longitude)
                error = metres(at, forest.sources[saws[0]].place)
                errors_m.append(error)
                errors_by[key].append(error)
                covered.append(error <= incident.position.radius_m)
                radii_m.append(incident.position.radius_m)
    return {
        "counts": counts,
        "seconds": time.perf_counter() - began,
        "median_error_m": float(np.median(errors_m)),
        "p90_error_m": float(np.quantile(errors_m, 0.9)),
        "median_radius_m": float(np.median(radii_m)),
        "covered": float(np.mean(covered)),
        "by_witnesses": {
            key: (
                len(right[key]),
                float(np.mean(right[key])),
                float(np.mean(believed[key])),
                float(np.median(errors_by[key])) if errors_by[key] else float("nan"),
            )
            for key in sorted(right)
        },
    }


def show(title: str, found: dict[str, object]) -> None:
    """Print one measurement."""
    counts = found["counts"]
    assert isinstance(counts, Counter)
    print(f"\n{title}: {counts['alerts']} alerts, {counts['incidents']} incidents, {found['seconds']:.1f} s")
    for kind in ("saw", "storm", "outage"):
        if n := counts[f"heard {kind}"]:
            print(
                f"  {kind}: {n} heard, {counts[f'whole {kind}'] / n:.1%} one incident, "
                f"{counts[f'named {kind}'] / n:.1%} named right"
            )
    print(f"  incidents that hold two saws: {counts['merged']}")
    print(
        f"  position: median error {found['median_error_m']:.0f} m, nine in ten within {found['p90_error_m']:.0f} m; "
        f"median radius {found['median_radius_m']:.0f} m, holds the truth in {found['covered']:.1%}"
    )
    by_witnesses = found["by_witnesses"]
    assert isinstance(by_witnesses, dict)
    for key, (n, share, mean, error) in by_witnesses.items():
        print(
            f"  {key}{'+' if key == 5 else ' '} witnesses: {n:5d} incidents, real {share:.3f}, "
            f"confidence {mean:.3f}, median error {error:.0f} m"
        )


def main() -> int:
    """Measure a quiet, a busy and a sparse forest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forests", type=int, default=40)
    options = parser.parse_args()
    for title, config in (
        ("200 phones, 400 m apart", ForestConfig(storms=1, outages=1)),
        ("200 phones, 400 m apart, four times the saws", ForestConfig(saws_per_hour=2.0)),
        ("60 phones, 800 m apart", ForestConfig(n_devices=60, spacing_m=800.0, storms=1, outages=1)),
    ):
        show(title, measure(config, options.forests))
    return 0


if __name__ == "__main__":
    sys.exit(main())
