"""`station.yaml`: what it may say, and how its mistakes are told."""

import pytest

from agent.errors import ConfigError
from base_station.config import FILE, StationConfig, read_config


def test_without_a_file_the_defaults_hold(tmp_path):
    assert read_config(tmp_path) == StationConfig()


def test_values_are_taken(tmp_path):
    (tmp_path / FILE).write_text(
        "retention: {alert_days: 90}\nconditions: {late_s: 7200, together_devices: 4}\nincidents: {distance_m: 800}\n"
    )
    config = read_config(tmp_path)
    assert (config.retention.alert_days, config.limits.late_s, config.limits.together_devices) == (90, 7200, 4)
    assert config.rules.distance_m == 800


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("retention: {alert_day: 90}", "retention.alert_day: is not a known key; did you mean alert_days"),
        ("retention: {alert_days: 0.1}", "retention.alert_days: is 0.1, expected at least 1"),
        ("conditions: {together_devices: 2.5}", "conditions.together_devices: is 2.5, expected a whole number"),
        ("incidents: {window_s: long}", "incidents.window_s: is 'long', expected a number"),
        ("conditons: {}", "conditons: is not a known key; did you mean conditions"),
        ("[1", "cannot be read"),
        ("7", "expected a mapping"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(tmp_path, text, says):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
