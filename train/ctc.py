"""The field network: a line of writing in, for each step along it the probabilities of the ten digits and of none.

Fully convolutional, so that it takes a line of any length, and trained with connectionist temporal classification
(Graves et al. 2006), which needs no word of where a digit stands.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import cv2
import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from watcher.decoding import BLANK, CLASSES, SLASH
from watcher.line import HEIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from train.lines import Lines

WRITTEN = {**{str(digit): digit for digit in range(10)}, "/": SLASH}  # the class of each sign that is to be learnt
MEMBERS = 2  # networks that are trained and served as one
# Filters and pooling of their first convolutions, which they share: these take long and tell strokes, not digits.
TRUNK = (16, (2, 2)), (32, None), (48, (2, 2))
BRANCH = (64, None), (64, (2, 1)), (96, None)  # the same of those behind, each member's own
STRIDE = 4  # pixels of width for each column of the last map
STEPS = 2  # for each such column: narrow digits that are alike stand close
PIXELS = 96 * 128  # of width in a batch, about: long lines come in small batches
ALIKE = 16  # batches that are sorted by width together
CALM = 0.2  # share of samples that are shown as they are

Batch = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
"""Inputs (n, HEIGHT, width, 1), their steps (n,), classes (n, longest) padded with -1, and how many (n,)."""


def field_network() -> keras.Model:
    """Build MEMBERS networks on one trunk (Lee et al. 2015): lines to (n, MEMBERS, steps, CLASSES) probabilities.

    Each learns for itself which steps lie on a digit: they can agree on whole values only, never step by step.
    """
    inputs = layers.Input((HEIGHT, None, 1))
    trunk = _convolutions(inputs, TRUNK)
    members = [layers.Reshape((1, -1, CLASSES))(_member(trunk)) for _ in range(MEMBERS)]
    return keras.Model(inputs, layers.Softmax(dtype="float32")(layers.Concatenate(axis=1)(members)), name="field")


def _member(trunk: Any) -> Any:
    """Four more 3×3 convolutions, then two along the line that see about three digits."""
    x = layers.ZeroPadding2D((0, 1))(_convolutions(trunk, BRANCH))
    x = _normalised(layers.Conv2D(128, (HEIGHT // 8, 3), use_bias=False)(x))
    x = layers.SpatialDropout2D(0.1)(x)
    for _ in range(2):
        x = layers.Add()([x, _normalised(layers.Conv2D(128, (1, 5), padding="same", use_bias=False)(x))])
    x = layers.Dropout(0.2)(x)
    return layers.Conv2D(STEPS * CLASSES, (1, 1))(x)


def _convolutions(x: Any, stack: Sequence[tuple[int, tuple[int, int] | None]]) -> Any:
    for filters, pool in stack:
        x = layers.Conv2D(filters, (3, 3), padding="same", use_bias=False)(x)
        if pool:
            x = layers.MaxPooling2D(pool)(x)
        x = _normalised(x)
    return x


def _normalised(x: Any) -> Any:
    return layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))


def steps_of(width: int) -> int:
    """How many steps the network makes of a plane this wide."""
    return STEPS * (width // STRIDE)


def batches_of(lines: Lines, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """An epoch's batches, as indices: lines of about one width together, the batches in any order."""
    widths = np.array([plane.shape[1] for plane in lines.planes])
    order = rng.permutation(len(widths))
    batches = []
    chunk = ALIKE * PIXELS // 128
    for start in range(0, len(order), chunk):
        some = order[start : start + chunk]
        some = some[np.argsort(widths[some] * rng.uniform(0.95, 1.05, len(some)))]
        while len(some):
            count = max(1, int(PIXELS / widths[some[: max(1, PIXELS // int(widths[some[0]]))]].max()))
            batches.append(some[:count])
            some = some[count:]
    return [batches[i] for i in rng.permutation(len(batches))]


def batch_of(lines: Lines, indices: NDArray[np.int64], rng: np.random.Generator | None) -> Batch:
    """Lay lines out as a batch, each shown a little otherwise with an `rng`."""
    planes = [lines.planes[i] for i in indices]
    if rng is not None:
        planes = [_varied(plane, lines.values[i], rng) for plane, i in zip(planes, indices, strict=True)]
    widths = [-(-plane.shape[1] // STRIDE) * STRIDE for plane in planes]
    inputs = np.zeros((len(planes), HEIGHT, max(widths), 1), np.float32)
    for row, plane in zip(inputs, planes, strict=True):
        row[:, : plane.shape[1], 0] = plane
    inputs /= 255
    values = [lines.values[i] for i in indices]
    digits = np.full((len(values), max(1, *map(len, values), 1)), -1, np.int32)
    for line, value in zip(digits, values, strict=True):
        line[: len(value)] = [WRITTEN[sign] for sign in value]
    steps = np.array([steps_of(width) for width in widths], np.int32)
    return inputs, steps, digits, np.array([len(value) for value in values], np.int32)


def _varied(plane: NDArray[np.uint8], value: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A line as it might have been written, found and scanned instead."""
    if rng.random() < CALM:
        return plane
    height, width = plane.shape
    across, down = np.exp(rng.uniform(-0.2, 0.2)), np.exp(rng.uniform(-0.12, 0.1))
    across = max(across, (2 * len(value) + 2) * STRIDE / STEPS / width)
    shear, tilt = rng.uniform(-0.25, 0.25), rng.uniform(-1.5, 1.5) / width
    wide = max(STRIDE, round(width * across))
    middle = (height - 1) / 2
    shift = middle - down * middle + rng.uniform(-1.5, 1.5) - tilt * width / 2
    matrix = np.array([[across, shear, -shear * middle], [tilt, down, shift]], np.float32)
    varied = cv2.warpAffine(plane, matrix, (wide, height), flags=cv2.INTER_LINEAR)
    kind = rng.random()
    if kind < 0.15:
        varied = cv2.GaussianBlur(varied, (3, 3), rng.uniform(0.4, 1.0))
    elif kind < 0.25:
        varied = (
            cv2.erode(varied, np.ones((2, 2), np.uint8))
            if rng.random() < 0.5
            else cv2.dilate(varied, np.ones((2, 2), np.uint8))
        )
    elif kind < 0.45:
        varied = cv2.add(
            varied, np.asarray(rng.uniform(0, rng.uniform(8, 70), varied.shape), np.uint8), dtype=cv2.CV_8U
        )
    if rng.random() < 0.4:
        table = 255 * rng.uniform(0.8, 1.1) * (np.arange(256) / 255) ** rng.uniform(0.65, 1.6)
        varied = cv2.LUT(varied, np.clip(table, 0, 255).astype(np.uint8))
    return np.asarray(varied, np.uint8)


def loss_of(probabilities: tf.Tensor, steps: tf.Tensor, digits: tf.Tensor) -> tf.Tensor:
    """How surprising the digits are, in nats for a line, to all members together."""
    members = probabilities.shape[1]
    probabilities = tf.reshape(probabilities, (-1, *tf.unstack(tf.shape(probabilities)[2:])))
    steps, digits = tf.repeat(steps, members, axis=0), tf.repeat(digits, members, axis=0)
    logs = tf.math.log(tf.maximum(tf.cast(probabilities, tf.float32), 1e-12))
    # The operation refuses a line without digits: that one is read right where every step is blank.
    empty = digits[:, 0] < 0
    digits = tf.where(empty[:, None] & (tf.range(tf.shape(digits)[1]) == 0)[None], 0, digits)
    sparse = tf.cast(tf.where(digits >= 0), tf.int64)
    labels = tf.SparseTensor(sparse, tf.gather_nd(digits, sparse), tf.cast(tf.shape(digits), tf.int64))
    losses = tf.nn.ctc_loss(labels, tf.transpose(logs, (1, 0, 2)), None, steps, blank_index=BLANK)
    blank = -tf.reduce_sum(logs[:, :, BLANK] * tf.sequence_mask(steps, tf.shape(logs)[1], tf.float32), axis=1)
    return members * tf.reduce_mean(tf.where(empty, blank, losses))


def train(
    network: keras.Model,
    lines: Lines,
    optimiser: Callable[[int], Any],
    *,
    epochs: int,
    seed: int,
    say: Callable[[str], None],
) -> list[dict[str, float]]:
    """Train `network` in place; one row an epoch: epoch, loss, seconds."""
    plan = [
        (epoch, number, indices)
        for epoch in range(epochs)
        for number, indices in enumerate(batches_of(lines, np.random.default_rng([seed, epoch])))
    ]
    rule = optimiser(len(plan))
    rule.build(network.trainable_variables)

    def load(step: NDArray[np.int64]) -> Batch:
        epoch, number, indices = plan[int(step)]
        return batch_of(lines, indices, np.random.default_rng([seed, epoch, number]))

    shapes = ((None, HEIGHT, None, 1), (None,), (None, None), (None,))
    parts = [tf.TensorSpec(shape, tf.int32 if number else tf.float32) for number, shape in enumerate(shapes)]

    def shaped(step: tf.Tensor) -> tuple[tf.Tensor, ...]:
        loaded = tf.numpy_function(load, [step], [part.dtype for part in parts])
        return tuple(tf.ensure_shape(one, part.shape) for one, part in zip(loaded, parts, strict=True))

    def learn(inputs: tf.Tensor, steps: tf.Tensor, digits: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(network(inputs, training=True), steps, digits)
        gradients = tape.gradient(loss, network.trainable_variables)
        rule.apply(tf.clip_by_global_norm(gradients, 5.0)[0], network.trainable_variables)
        return loss

    step = tf.function(learn, input_signature=parts[:-1])  # traced once, for lines of any width
    history, losses, began = [], [], time.monotonic()
    for (epoch, _, _), (inputs, steps, digits, _) in zip(
        plan, tf.data.Dataset.range(len(plan)).map(shaped).prefetch(8), strict=True
    ):
        losses.append(float(step(inputs, steps, digits)))
        last = len(losses) == len(plan) or plan[len(losses)][0] != epoch
        if last or len(losses) % 200 == 0:
            recent = losses[-200:]
            say(
                f"epoch {epoch + 1}/{epochs}  batch {len(losses)}/{len(plan)}  loss {np.mean(recent):.4f}  "
                f"{time.monotonic() - began:.0f} s"
            )
        if last:
            history.append(
                {"epoch": epoch + 1, "loss": float(np.mean(losses[-200:])), "seconds": time.monotonic() - began}
            )
    rule.finalize_variable_values(network.trainable_variables)  # the average of the weights
    return history
