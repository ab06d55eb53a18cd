"""A drill against a real station: it comes, and it never counts as real."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("ai_edge_litert", reason="no TFLite runtime for this Python: a drill needs one")


@pytest.mark.slow
def test_a_drill_arrives_as_a_drill(start_station, tmp_path):
    station = start_station()
    station.add_device("ipe-07")  # its key lies beside the configuration
    config = tmp_path / "ipe-07.yaml"
    config.write_text(
        f"device: {{id: ipe-07}}\nstation: {{urls: ['{station.url}'], key_file: ipe-07.key}}\n"
        "storage: {folder: state}\n"
    )
    command = [sys.executable, "-m", "agent", "drill", "--config", str(config), "--json"]
    drill = subprocess.run(command, capture_output=True, text=True, check=False)
    assert drill.returncode == 0, drill.stdout + drill.stderr
    (alert,) = station.alerts()
    assert (alert["alert_id"], alert["drill"], alert["state"]) == (json.loads(drill.stdout)["alert_id"], True, "closed")
