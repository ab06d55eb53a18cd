"""What must not leave a device does not, wherever it stands in a text; the rest stays readable."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.redact import redact

SECRET = "Bem-te-vi 47!x"
secrets = st.text(st.characters(codec="utf-8", categories=("L", "N", "Zs"), include_characters="-_!$%&/"), min_size=6)


@pytest.mark.parametrize(
    "text",
    [
        f"password: {SECRET}",
        f"wifi_password = '{SECRET}'",
        f'{{"psk":"{SECRET}","x":1}}',
        f"  ssid: {SECRET}",
        f'ESSID:"{SECRET}"',
        f"apikey={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"X-Curupira-Signature: {SECRET}",
        f"wifi_name: {SECRET}",
    ],
)
def test_what_has_a_telling_name_goes(text):
    assert SECRET not in redact(text)
    assert "47" not in redact(text)


@pytest.mark.parametrize(
    "secret",
    ["ab" * 32, "AB" * 32, "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=", "3c:5a:b4:01:02:fe", "rangers:jaguar"],
)
def test_what_looks_like_a_secret_goes(secret):
    text = f"https://{secret}@station:8443/" if ":jaguar" in secret else f"seen {secret}, then nothing"
    assert secret not in redact(text)


def test_a_private_key_goes_even_where_its_end_is_cut_off():
    text = "before\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIGl\n"
    assert redact(text) == "before\n[redacted]"


@given(secrets)
def test_no_secret_survives_in_yaml_or_json(secret):
    document = {"station": {"token": secret, "urls": ["https://station:8443"]}}
    for text in (json.dumps(document), json.dumps(document, indent=1, ensure_ascii=False)):
        assert secret not in json.dumps(json.loads(redact(text)), ensure_ascii=False)
        assert "https://station:8443" in redact(text)
    shown = redact(yaml.safe_dump(document, allow_unicode=True, width=10_000))
    assert secret.strip() not in shown.replace("https://station:8443", "")


def test_positions_go_unless_they_may_stay():
    text = '{latitude: -3.10123, longitude: -60.02}\n"lat":-3.10123,"lon":-60.02\nat 3.10123° S, 60.02345° W\n'
    assert "60.02" not in redact(text)
    assert "3.101" not in redact(text)
    assert redact(text, keep_positions=True) == text


def test_what_helps_stays():
    text = (
        '{"kind":"event","utc":"2026-11-23T02:00:46.813Z","event":"link_down","fields":{"reason":"no route"}}\n'
        "model 9c5dca10234e6d66, level -42.5, latency: 12.5 ms, position of the queue: 3\n"
    )
    assert redact(text) == text
