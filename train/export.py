"""From a trained network to the file that serves."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from watcher.errors import ModelError

if TYPE_CHECKING:
    import os

    import keras

    from train.augmentation import Inputs

BATCH = 250
Probabilities = NDArray[np.float32]
"""(n, classes), each row sums to 1."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How well an exported network agrees with the one it was made from."""

    images: int
    same_digit: int
    largest_difference: float  # of any probability


def convert(network: keras.Model) -> bytes:
    """Convert a Keras network to LiteRT, in full precision: quantising moves the probabilities."""
    import tensorflow as tf  # noqa: PLC0415 - to predict needs none

    with contextlib.redirect_stdout(io.StringIO()):  # Keras describes the temporary export to the user
        return bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())


def predict(path: str | os.PathLike[str], inputs: Inputs) -> Probabilities:
    """Run the LiteRT file on (n, 28, 28, 1) inputs and return (n, classes) probabilities."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    outputs = []
    for start in range(0, len(inputs), BATCH):
        some = np.ascontiguousarray(inputs[start : start + BATCH])
        interpreter.resize_tensor_input(source, some.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source, some)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(sink).copy())
    return np.concatenate(outputs)


def compare(original: Probabilities, exported: Probabilities) -> Parity:
    """Compare the probabilities of a network and of its export for the same images; any other digit is an error."""
    same = int((original.argmax(axis=1) == exported.argmax(axis=1)).sum())
    largest = float(np.abs(original - exported).max())
    if same != len(original):
        raise ModelError(
            f"The exported network reads {len(original) - same} of {len(original)} images differently "
            f"(probabilities differ by up to {largest:.2g}): this TensorFlow cannot export it faithfully."
        )
    return Parity(len(original), same, largest)
