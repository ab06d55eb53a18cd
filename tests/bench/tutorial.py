"""The way that the tutorials show: a picture of each window on disk, then an image classifier over the picture."""

import sys
import tempfile
from pathlib import Path

import keras
import librosa
import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

WINDOW_S = 3.0


def main(wav: str) -> None:
    """Classify every 3 s of a recording."""
    model = keras.applications.MobileNetV2(weights=None, classes=4)
    samples, rate = librosa.load(wav, sr=None)
    length = int(WINDOW_S * rate)
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(samples) - length + 1, length):
            mel = librosa.feature.melspectrogram(y=samples[start : start + length], sr=rate)
            picture = Path(folder) / "window.png"
            figure = plt.figure(figsize=(4, 4))
            librosa.display.specshow(librosa.power_to_db(mel, ref=np.max), sr=rate)
            figure.savefig(picture)
            plt.close(figure)
            image = keras.utils.img_to_array(keras.utils.load_img(picture, target_size=(224, 224)))
            scores = model.predict(image[None] / 127.5 - 1.0, verbose=0)[0]
            print(start / rate, scores.tolist())


if __name__ == "__main__":
    main(sys.argv[1])
