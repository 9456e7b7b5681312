"""From a trained network to the file that serves."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from watcher.errors import ModelError
from watcher.model import digit_reader

if TYPE_CHECKING:
    from pathlib import Path

    import keras

    from train.augmentation import Inputs

BATCH = 250
DIFFER = 0.005  # share of digits that an export may read otherwise: the doubtful ones
Probabilities = NDArray[np.float32]
"""(n, classes), each row sums to 1."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How well an exported network agrees with the one it was made from."""

    images: int  # or lines, once for each network that reads them
    same_digit: int  # or the same value
    largest_difference: float  # of any probability

    def check(self, most: float) -> None:
        """Raise ModelError where the two read a larger share of the images differently than 8 bits explain."""
        if self.images - self.same_digit > max(1, most * self.images):
            raise ModelError(
                f"The exported network reads {self.images - self.same_digit} of {self.images} images differently "
                f"(probabilities differ by up to {self.largest_difference:.2g}): this TensorFlow cannot export it "
                "faithfully."
            )


def save(network: keras.Model, folder: Path, name: str) -> None:
    """Save a network into `folder`: as NAME.keras to train on, as NAME.tflite to serve."""
    for weight in network.weights:
        # Rounded to 16 bits: finer they are the chance of one training, and a clone of the project twice as large.
        weight.assign(np.asarray(weight.numpy().astype(np.float16), np.float32))
    network.save(folder / f"{name}.keras")
    (folder / f"{name}.tflite").write_bytes(convert(network))


def convert(network: keras.Model) -> bytes:
    """Convert a Keras network to LiteRT with weights of 8 bits: a quarter of the size, less than half the time.

    What goes through it is quantised image by image (LiteRT's dynamic range), so that no image depends on the others of
    its batch. It moves the probabilities a little: the calibration is of this very file.
    """
    import tensorflow as tf  # noqa: PLC0415 - to predict needs none

    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    with contextlib.redirect_stdout(io.StringIO()):  # Keras describes the temporary export to the user
        return bytes(converter.convert())


def predict(path: Path, inputs: Inputs) -> Probabilities:
    """Run the LiteRT file on (n, 28, 28, 1) inputs, some at a time; return (n, classes) probabilities.

    Raises ModelError where that is no network.
    """
    read = digit_reader(path)
    parts = [read(inputs[start : start + BATCH, ..., 0]) for start in range(0, len(inputs), BATCH)]
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def compare(original: Probabilities, exported: Probabilities) -> Parity:
    """Compare the probabilities of a network and of its export for the same images.

    Raises ModelError where they differ in what they read more than 8 bits explain.
    """
    same = int((original.argmax(axis=1) == exported.argmax(axis=1)).sum())
    parity = Parity(len(original), same, float(np.abs(original - exported).max()))
    parity.check(DIFFER)
    return parity
