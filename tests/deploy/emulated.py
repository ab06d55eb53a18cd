"""What the emulated device and this machine do alike, in one Python: doctor, replay, golden answers. Prints JSON.

Run as a file, with the agent on the path: `python emulated.py RECORDING [--no-vad]`.
"""

import contextlib
import io
import json
import sys

import agent.__main__ as agent
from agent.classify import load_classifier
from agent.manifest import BUNDLED_MODEL, load_model


def said(*words: str) -> tuple[int, str]:
    """Run the agent's command and return its exit code and what it printed."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(output):
        code = agent.main(words)
    output.seek(0)
    return code, output.read()


code, screen = said("doctor", "--offline")
played, lines = said("replay", *sys.argv[1:], "--json", "--scores")
manifest, content = load_model(BUNDLED_MODEL)
classifier = load_classifier(manifest, content)
document = {
    "doctor": code,
    "screen": screen,
    "replay": played,
    "lines": [json.loads(line) for line in lines.splitlines()],
    "runtime": classifier.runtime,
    "xnnpack": classifier.xnnpack,
    "outputs": [classifier._answer(window).tolist() for window in manifest.golden_inputs],  # the bytes, not the verdict
}
print(json.dumps(document))
