"""One training, from MNIST to a model folder that the watcher can serve."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train import card, export, plots
from train.augmentation import Inputs, as_inputs
from train.judge import judge
from train.percent import percent
from train.pool import pool
from train.processor import compile_for_processor, fast, fused
from train.recipes import DIGITS
from train.shipped import calibrate_shipped
from watcher import normalise
from watcher.model import FORMAT, SERVES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from train.mnist import Images, Labels, Mnist
    from train.recipes import Recipe

RENDERING = 1  # the seed of what is rendered: as MNIST itself, the same for trainings with any seed
MEMBER = 100_000  # added to the seed for each further network of a recipe
History = list[dict[str, float]]
"""One row an epoch: epoch, accuracy, loss, val_accuracy, val_loss, seconds."""
Batch = tuple[Inputs, NDArray[np.float32]]
"""Inputs (n, 28, 28, 1) and one-hot targets (n, classes)."""


def fit(
    recipe: Recipe,
    mnist: Mnist,
    out: Path,
    *,
    epochs: int,
    seed: int,
    bar: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train by `recipe`, measure, plot, calibrate and export into `out`; return the card.

    `bar` shows Keras's progress bar; without it each epoch is one line.
    """
    started = time.monotonic()
    held_back = recipe.held_back(len(mnist.train_images))
    size = f"{recipe.network(len(recipe.classes)).count_params():,} parameters"
    say(
        f"{recipe.name}: {recipe.members} × {size}, {int((~held_back).sum()):,} images to train on, "
        f"{int(held_back.sum()):,} held back, {len(mnist.test_images):,} to test, {epochs} epochs"
    )
    images, labels = mnist.train_images[~held_back], mnist.train_labels[~held_back]
    if recipe.rendered:
        say("putting MNIST on paper, and taking it back through the normaliser; kept in the cache for the next time")
        keras.utils.set_random_seed(seed)
        more, more_labels = pool(images, labels, RENDERING, recipe.rendered, judge(images, labels))
        images = np.concatenate([images] * recipe.plain + [more])
        labels = np.concatenate([labels] * recipe.plain + [more_labels])
        say(f"{len(more):,} rendered images to train on")
    classes = len(recipe.classes)
    validation = as_inputs(mnist.train_images[held_back]), _one_hot(mnist.train_labels[held_back], classes)
    history: History = []
    members = []
    for member in range(recipe.members):
        keras.utils.set_random_seed(seed + MEMBER * member)
        with fast():
            network = fused(recipe.network(classes))
            history += _train(
                network,
                recipe,
                batches=_dataset(_sampler(recipe, images, labels, seed + MEMBER * member), classes),
                steps=_steps(recipe, images),
                epochs=epochs,
                before=len(history),
                validation=validation,
                bar=bar,
                say=say,
            )
        members.append(_exact(network, recipe))
    about = {"seed": seed, "epochs": epochs, "seconds": round(time.monotonic() - started, 1)}
    return publish(_averaged(members), recipe, mnist, out, history=history, about=about, say=say)


def publish(
    network: keras.Model,
    recipe: Recipe,
    mnist: Mnist,
    out: Path,
    *,
    history: History,
    about: dict[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Export, measure, calibrate and draw a trained digit network into `out`, best a `staged` one; return the card."""
    _write_history(out / "history.csv", history)
    export.save(network, out, "digits")
    measured, tested = measure(network, out / SERVES, recipe, mnist)
    result = {
        "format": FORMAT,
        "recipe": recipe.name,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "classes": list(recipe.classes),
        "input": {"shape": [28, 28, 1], "range": [0, 1], "ink": "bright"},
        "normaliser": normalise.VERSION,
        "files": {file: card.fingerprint(out / file) for file in (SERVES, "digits.keras")},
        "data": dict(mnist.sha256),
        "held_back": recipe.held_back.__name__,
        "libraries": card.libraries(),
        **about,
        "parameters": network.count_params(),
        **measured,
        "calibration": {},
    }
    _keep_fields(out / card.NAME, result)
    card.write(out / card.NAME, result)
    result = calibrate_shipped(out, mnist, say)
    plots.draw(
        out,
        recipe,
        history=history,
        accuracy=result["accuracy"],
        images=mnist.test_images,
        labels=mnist.test_labels,
        probabilities=_digits(tested),
    )
    return result


def measure(
    network: keras.Model, path: Path, recipe: Recipe, mnist: Mnist
) -> tuple[dict[str, Any], export.Probabilities]:
    """What the card says of the digit network exported to `path`: accuracy and parity; and its word on the test images.

    Raises ModelError where the export reads otherwise than the network.
    """
    held_back = recipe.held_back(len(mnist.train_images))
    inputs = as_inputs(mnist.test_images)
    tested = export.predict(path, inputs)
    parity = export.compare(network.predict(inputs, batch_size=export.BATCH, verbose=0), tested)
    held = export.predict(path, as_inputs(mnist.train_images[held_back]))
    accuracy = _accuracy(_digits(tested), mnist.test_labels, _digits(held), mnist.train_labels[held_back])
    return {"accuracy": accuracy, "parity": asdict(parity)}, tested


def _sampler(recipe: Recipe, images: Images, labels: Labels, seed: int) -> Callable[[int], Batch]:
    """The batch of any step: each epoch in an order of its own, the same for the same seed."""
    steps = _steps(recipe, images)
    order_of = cache(lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(images)))

    def batch(step: int) -> Batch:
        epoch, position = divmod(int(step), steps)
        some = order_of(epoch)[position * recipe.batch :][: recipe.batch]
        rng = np.random.default_rng([seed, epoch, position])
        inputs, classes = recipe.samples(images[some], labels[some], rng)
        return inputs, _one_hot(classes, len(recipe.classes))

    return batch


def _dataset(batch: Callable[[int], Batch], classes: int) -> tf.data.Dataset:
    """Endless batches, made in a thread while the network computes, so that they cost next to nothing.

    Not `from_generator`, nor a Keras PyDataset, which uses it: it makes the allocator give memory back at once,
    which doubles the time of a training.
    """

    def load(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inputs, targets = tf.numpy_function(batch, [step], (tf.float32, tf.float32))
        return tf.ensure_shape(inputs, (None, 28, 28, 1)), tf.ensure_shape(targets, (None, classes))

    return tf.data.Dataset.counter().map(load).prefetch(8)


def _steps(recipe: Recipe, images: Images) -> int:
    return -(-len(images) // recipe.batch)


def _one_hot(labels: Labels, classes: int) -> NDArray[np.float32]:
    return np.eye(classes, dtype=np.float32)[labels]


def _train(
    network: keras.Model,
    recipe: Recipe,
    *,
    batches: tf.data.Dataset,
    steps: int,
    epochs: int,
    before: int,
    validation: Batch,
    bar: bool,
    say: Callable[[str], None],
) -> History:
    """Train `network` in place for `epochs` of `steps` batches; `before` is the number of epochs that others took."""
    compile_for_processor(
        network, optimizer=recipe.optimiser(steps * epochs), loss="categorical_crossentropy", metrics=["accuracy"]
    )
    history: History = []
    began = time.monotonic()

    def record(epoch: int, logs: dict[str, float]) -> None:
        seconds = time.monotonic() - began - sum(row["seconds"] for row in history)
        names = ("accuracy", "loss", "val_accuracy", "val_loss")
        row = {"epoch": before + epoch + 1, **{name: float(logs[name]) for name in names}, "seconds": round(seconds, 1)}
        history.append(row)
        if not bar:
            say(
                f"epoch {before + epoch + 1:>2}/{epochs * recipe.members}  "
                f"loss {row['loss']:.4f}  accuracy {percent(row['accuracy'])}  "
                f"validation {percent(row['val_accuracy'])}  {seconds:.0f} s"
            )

    network.fit(
        batches,
        epochs=epochs,
        steps_per_epoch=steps,
        shuffle=False,
        validation_data=validation,
        validation_batch_size=export.BATCH,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=record)],
        verbose=1 if bar else 0,
    )
    # The optimiser leaves the average of the weights in the network, but the batch statistics still belong
    # to the last of them.
    for inputs, _ in batches.take(min(recipe.refresh, steps * epochs)):
        network(inputs, training=True)
    return history


def _averaged(members: Sequence[keras.Model]) -> keras.Model:
    """One network that gives the mean of what several give."""
    if len(members) == 1:
        return members[0]
    for number, member in enumerate(members, start=1):
        member.name = f"{member.name}_{number}"
    inputs = keras.Input((28, 28, 1))
    return keras.Model(inputs, keras.layers.Average()([member(inputs) for member in members]))


def _exact(network: keras.Model, recipe: Recipe) -> keras.Model:
    """The same network in full precision, without its optimiser: nobody resumes a training from it."""
    exact = recipe.network(len(recipe.classes))
    exact.set_weights(network.get_weights())
    return exact


def _accuracy(
    tested: export.Probabilities, labels: Labels, held: export.Probabilities, held_labels: Labels
) -> dict[str, Any]:
    errors = int((tested.argmax(axis=1) != labels).sum())
    return {
        "test": round(1 - errors / len(labels), 6),
        "test_errors": errors,
        "test_size": len(labels),
        "validation": round(float((held.argmax(axis=1) == held_labels).mean()), 6),
        "validation_size": len(held_labels),
    }


def _digits(probabilities: NDArray[Any]) -> NDArray[Any]:
    """The probabilities of the ten digits alone."""
    return probabilities[:, : len(DIGITS)]


def _write_history(path: Path, history: History) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def _keep_fields(path: Path, entry: dict[str, Any]) -> None:
    """Take over what the card at `path` says of the field network in its folder, if that has the same images held back.

    Else it would be calibrated on what it, or the digit network, was trained on.
    """
    if not path.is_file():
        return
    before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    fields = before.get("fields") if before.get("format") == FORMAT and "field" in before["calibration"] else None
    if fields is not None and all(fields.get(name) == entry[name] for name in ("data", "held_back")):
        entry["files"] |= {name: file for name, file in before["files"].items() if name.startswith("fields.")}
        entry["fields"], entry["calibration"]["field"] = fields, before["calibration"]["field"]
        if "extra" in before:  # the crops that it was tuned on
            entry["extra"] = before["extra"]
