"""Fine-tuning on labelled crops of one's own: measured on folds that were held back, then on all of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from train import card, export
from train.augmentation import as_inputs, augment
from train.field_readings import HELD, calibrate_fields, held_back, reading_with
from train.fit import RENDERING, measure
from train.fit_fields import compare, trained
from train.judge import judge
from train.lines import Lines, in_steps, long_enough
from train.lines import pool as pool_of_lines
from train.percent import percent
from train.pool import pool
from train.processor import compile_for_processor
from train.recipes import DIGITS, TUNED
from train.shipped import calibrate_shipped, recipe_of
from train.stage import staged
from watcher.decode import decode
from watcher.errors import DigitdropError
from watcher.line import HEIGHT, normalise_line
from watcher.model import FIELDS, SERVES, digit_reader, read_along
from watcher.normalise import normalise
from watcher.pipeline import read_whole
from watcher.tasks import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from train.labels import Crop
    from train.mnist import Images, Labels, Mnist
    from train.recipes import Recipe
    from watcher.config import Limits

LEAST = 10  # crops of a kind, from which on it is worth it
EPOCHS = 4
VIEWS = 20  # times that each crop is shown
MIXED = 2_500  # made fields, and digits of MNIST, that are shown among them: nothing is to be unlearned
LINE = tf.TensorSpec((1, HEIGHT, None, 1), tf.float32)  # what a field network is given of a line
RATE = 8e-4


@dataclass(frozen=True, slots=True)
class Owned:
    """Labelled crops as the networks see them."""

    folder: Path
    lines: Lines  # of two digits and more
    images: Images  # of one digit: (n, 28, 28)
    labels: Labels
    lost: int  # crops in which the normalisers found nothing
    line_crops: tuple[str, ...] = ()  # the SHA-256 of the crops with the lines, and of those with the images
    image_crops: tuple[str, ...] = ()


def load(folder: Path, crops: Sequence[Crop], limits: Limits) -> Owned:
    """Take labelled crops through the normalisers; what is no number is left out."""
    planes, values, finer, images, labels, lost = [], [], [], [], [], 0
    line_crops, image_crops = [], []
    for crop in crops:
        if not crop.is_number:
            continue
        data, _, _ = read_whole(str(folder / crop.file), limits.bytes)
        page = None if isinstance(data, Fault) else next(decode(data, limits), None)
        if page is None or isinstance(page, Fault):
            lost += 1
        elif len(crop.value) == 1:
            ink = normalise(page)
            if ink is None:
                lost += 1
            else:
                images.append(np.rint(ink.image * 255).astype(np.uint8))
                labels.append(int(crop.value))
                image_crops.append(crop.sha256)
        else:
            line = normalise_line(page)
            if line is None or not long_enough(line.image.shape[1], crop.value):
                lost += 1
            else:
                planes.append(in_steps(line.image))
                finer.append(in_steps(line.finer()))
                values.append(crop.value)
                line_crops.append(crop.sha256)
    shown = np.array(images, np.uint8).reshape(-1, 28, 28)
    return Owned(
        folder,
        Lines(tuple(planes), tuple(values), tuple(finer)),
        shown,
        np.array(labels, np.uint8),
        lost,
        tuple(line_crops),
        tuple(image_crops),
    )


def fit_extra(
    owned: Owned,
    mnist: Mnist,
    model: Path,
    out: Path,
    *,
    folds: int,
    seed: int,
    say: Callable[[str], None],
    checked: int = HELD,
) -> list[dict[str, Any]]:
    """Fine-tune the networks of `model` on crops of one's own into `out`; return a row for each kind: before, after.

    After is measured on each fold with a network that was tuned on the others. The networks in `out` are tuned on all,
    and measured and calibrated as those of any training: on digits of MNIST held back, and `checked` fields made of
    them. Raises DataError where `mnist` is not what `model` was trained on, DigitdropError where the crops are too few.
    """
    entry: dict[str, Any] = json.loads((model / card.NAME).read_text(encoding="utf-8"))
    recipe = recipe_of(entry, model, mnist)
    files = [file for file in entry["files"] if (model / file).is_file()]
    counts = {"fields": len(owned.lines), "digits": len(owned.images)}
    for kind, count in counts.items():
        if count >= LEAST and f"{kind}.keras" not in files:
            say(f"{kind}: left out, {model} has no {kind}.keras to tune")
    kinds = [kind for kind, count in counts.items() if count >= LEAST and f"{kind}.keras" in files]
    if not kinds:
        raise DigitdropError(
            f"{owned.folder} has {counts['digits']} crops of a digit and {counts['fields']} of a field on which it is "
            f"found; tuning takes {LEAST} of a kind that {model} has a network of to tune; label more."
        )
    rows = []
    crops = set(entry.get("extra", {}).get("crops", ()))  # of an earlier tuning: the networks still know them
    with staged(out) as stage:
        for file in files:  # no pictures: they show the networks that were
            shutil.copyfile(model / file, stage / file)
        for kind in kinds:
            count = counts[kind]
            tuner = (_Fields if kind == "fields" else _Digits)(owned, mnist, model, recipe, seed)
            parts = np.array_split(np.random.default_rng(seed).permutation(count), min(folds, count))
            before, after = tuner.right(None, np.arange(count)), np.zeros(count, np.bool_)
            for number, part in enumerate(parts, start=1):
                network = tuner.tuned(np.setdiff1d(np.arange(count), part))
                after[part] = tuner.right(network, part)
                shares = f"{percent(before[part].mean())} right before, {percent(after[part].mean())} after"
                say(f"{kind}: fold {number}/{len(parts)}, {shares}")
            tuner.publish(tuner.tuned(np.arange(count)), stage, entry, checked)
            crops |= {sha256[: card.SHORT] for sha256 in (owned.line_crops if kind == "fields" else owned.image_crops)}
            rows.append({"kind": kind, "crops": count, "before": float(before.mean()), "after": float(after.mean())})
        entry["recipe"] = recipe.name + TUNED
        entry["files"] = {file: card.fingerprint(stage / file) for file in files}
        entry["extra"] = {
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "libraries": card.libraries(),
            "seed": seed,
            "folds": folds,
            "rows": rows,
            "crops": sorted(crops),  # not to be calibrated on
        }
        card.write(stage / card.NAME, entry)
        if "digits" in kinds:
            calibrate_shipped(stage, mnist, say)
        if "field" in entry["calibration"]:  # fields are read with the help of the digit network
            calibrate_fields(stage, mnist, say, checked)
    return rows


class _Fields:
    """Tunes the field network."""

    def __init__(self, owned: Owned, mnist: Mnist, model: Path, recipe: Recipe, seed: int) -> None:
        self._lines, self._mnist, self._seed = owned.lines, mnist, seed
        self._read_digits = digit_reader(model / SERVES)
        self._start = keras.models.load_model(model / "fields.keras", compile=False)
        held = recipe.held_back(len(mnist.train_images))
        self._made = pool_of_lines(mnist.train_images[~held], mnist.train_labels[~held], seed + 2000, MIXED)

    def tuned(self, chosen: NDArray[np.int64]) -> keras.Model:
        keras.utils.set_random_seed(self._seed)
        again = VIEWS // EPOCHS
        planes = tuple(self._lines.planes[i] for i in chosen) * again + self._made.planes
        values = tuple(self._lines.values[i] for i in chosen) * again + self._made.values
        return trained(
            self._start, Lines(planes, values), epochs=EPOCHS, seed=self._seed, say=_nothing, optimiser=_gentle
        )

    def right(self, network: keras.Model | None, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
        network = network or self._start
        # Traced once, for lines of any width: layer by layer each would take ten times as long.
        run = tf.function(lambda line: network(line, training=False), input_signature=[LINE])
        read = reading_with(partial(read_along, lambda line: run(line).numpy()), self._read_digits)
        found = [read(self._lines[i]).value == self._lines.values[i] for i in chosen]
        return np.array(found)

    def publish(self, network: keras.Model, stage: Path, entry: dict[str, Any], checked: int) -> None:
        export.save(network, stage, "fields")
        checks = held_back(self._mnist, entry["fields"]["seed"], checked)
        entry["fields"]["parity"] = asdict(compare(network, stage / FIELDS, checks))


class _Digits:
    """Tunes the digit network."""

    def __init__(self, owned: Owned, mnist: Mnist, model: Path, recipe: Recipe, seed: int) -> None:
        self._images, self._labels, self._seed = owned.images, owned.labels, seed
        self._mnist, self._recipe = mnist, recipe
        self._path = model / "digits.keras"
        self._start = keras.models.load_model(self._path, compile=False)
        held = recipe.held_back(len(mnist.train_images))  # to calibrate with
        images, labels = mnist.train_images[~held], mnist.train_labels[~held]
        some = np.random.default_rng(seed).permutation(len(images))[:MIXED]
        self._others, self._other_labels = images[some], labels[some]
        if recipe.rendered:  # it would unlearn what is no digit
            keras.utils.set_random_seed(seed)
            more, classes = pool(images[some], labels[some], RENDERING, 1, judge(images, labels))
            self._others, self._other_labels = np.concatenate([images[some], more]), np.append(labels[some], classes)

    def tuned(self, chosen: NDArray[np.int64]) -> keras.Model:
        keras.utils.set_random_seed(self._seed)
        network = keras.models.load_model(self._path, compile=False)
        rng = np.random.default_rng(self._seed)
        again = VIEWS // EPOCHS
        images = np.concatenate([*[self._images[chosen]] * again, self._others])
        labels = np.concatenate([*[self._labels[chosen]] * again, self._other_labels])
        optimiser = _gentle(EPOCHS * -(-len(images) // 128))
        compile_for_processor(network, optimizer=optimiser, loss="sparse_categorical_crossentropy")
        for _ in range(EPOCHS):
            network.fit(augment(images, rng), labels, batch_size=128, epochs=1, verbose=0)
        return network

    def right(self, network: keras.Model | None, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
        odds = (network or self._start).predict(as_inputs(self._images[chosen]), batch_size=export.BATCH, verbose=0)
        return np.asarray(odds[:, : len(DIGITS)].argmax(axis=1) == self._labels[chosen])

    def publish(self, network: keras.Model, stage: Path, entry: dict[str, Any], _: int) -> None:
        bare = keras.models.load_model(self._path, compile=False)  # without the optimiser's own numbers
        bare.set_weights(network.get_weights())
        export.save(bare, stage, "digits")
        entry |= measure(bare, stage / SERVES, self._recipe, self._mnist)[0]


def _gentle(steps: int) -> Any:
    """AdamW at a small rate that falls to nothing."""
    rate = keras.optimizers.schedules.CosineDecay(
        RATE / 10, max(1, steps - steps // 10), alpha=1e-2, warmup_target=RATE, warmup_steps=steps // 10
    )
    return keras.optimizers.AdamW(rate, weight_decay=2e-3)


def _nothing(_: str) -> None:
    pass
