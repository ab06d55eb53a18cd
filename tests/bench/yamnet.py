"""YAMNet as one would use it for this: a patch every 0.5 s, mean over 3 s, 2 of 3 windows at a 1.5 s stride."""

import sys
import wave
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

PATCH = 15_600
HOP = 8_000
STRIDE_HOPS = 3
WINDOW_PATCHES = 5  # patches that lie inside 3 s
CLASSES = {"chainsaw": 341, "engine": 337}  # AudioSet: Chainsaw; Engine
THRESHOLD = 0.3


def main(model: str, wav: str) -> None:
    """Score a recording and print what would be detected."""
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    input_idx = interpreter.get_input_details()[0]["index"]
    output_idx = interpreter.get_output_details()[0]["index"]
    with wave.open(wav) as source:
        samples = np.frombuffer(source.readframes(source.getnframes()), "<i2").astype(np.float32) / 32_768
    scores = []
    for start in range(0, len(samples) - PATCH + 1, HOP):
        interpreter.set_tensor(input_idx, samples[start : start + PATCH])
        interpreter.invoke()
        scores.append(interpreter.get_tensor(output_idx)[0, list(CLASSES.values())])
    recent: list[np.ndarray] = []
    for end in range(WINDOW_PATCHES, len(scores) + 1, STRIDE_HOPS):
        recent = [*recent[-2:], np.mean(scores[end - WINDOW_PATCHES : end], axis=0) >= THRESHOLD]
        if len(recent) == 3 and (np.sum(recent, axis=0) >= 2).any():
            print(end * HOP / 16_000, "detected")
    print(Path(wav).name, len(scores), "patches")


if __name__ == "__main__":
    main(*sys.argv[1:])
