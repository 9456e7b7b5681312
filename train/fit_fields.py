"""The training of the field network, from MNIST to what the watcher serves beside the digit network."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import cv2
import keras
import numpy as np

from train import card, ctc, export, plots
from train.field_readings import HELD, accuracy, held_back, reader, tried_on_fields
from train.fields import field
from train.lines import Lines, as_image, pool
from train.mnist import DataError, every_twelfth_pair
from train.processor import fast, fused
from train.recipes import averaged_adamw
from train.shipped import draw, made_of, recipe_of
from watcher.decoding import candidates
from watcher.errors import ModelError
from watcher.line import HEIGHT, VERSION
from watcher.model import FIELDS, SERVES, line_reader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from train.mnist import Mnist

EPOCHS = 9
FIELDS_MADE = 240_000  # to train on
DIFFER = 0.04  # share of readings, a line by one network, in which the export may differ: half as many do, the doubtful
REFRESH = 100  # batches over which batch normalisation is measured again, once the weights are averaged
SHOWN = 48  # fields in the picture of what was trained on
CELL = 240, 60  # pixels, width and height of each


def check_beside(out: Path, mnist: Mnist, only: str | None) -> None:
    """Raise where a network that stays in `out` cannot stand beside the `only` one that is to be trained on `mnist`.

    Fields are calibrated on digits that neither of the two was trained on: ModelError, DataError.
    """
    path = out / card.NAME
    entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    anew = f"train both, or the digits first: fit --only digits --out {out}"
    if only == "fields" and not entry:
        raise ModelError(f"{out} holds no digit network yet; {anew}")
    digits = {name: value for name, value in entry.items() if name != "fields"}  # those are to be replaced
    if only == "fields" and recipe_of(digits, out, mnist).held_back is not every_twelfth_pair:
        recipe = entry["recipe"]
        raise ModelError(
            f"{out} holds a digit network by the recipe {recipe}, which knows images that fields are calibrated with; "
            f"{anew}"
        )
    if only == "digits" and "fields" in entry:
        fields = entry["fields"]
        if fields["data"] != dict(mnist.sha256) or fields.get("held_back") != every_twelfth_pair.__name__:
            raise DataError(
                f"{out} holds a network for fields of other data, or for which other images were held back; "
                "train both, or name another --out"
            )


def fit_fields(
    mnist: Mnist, out: Path, *, epochs: int, seed: int, say: Callable[[str], None], count: int = FIELDS_MADE
) -> dict[str, Any]:
    """Train a field network beside the digit network in `out`, and write it into that one's card; return the card.

    See `check_beside`.
    """
    started = time.monotonic()
    keras.utils.set_random_seed(seed)
    held = every_twelfth_pair(len(mnist.train_images))
    say(f"making {count:,} fields of MNIST's digits; kept in the cache for the next time")
    lines = pool(mnist.train_images[~held], mnist.train_labels[~held], seed, count)
    network = trained(None, lines, epochs=epochs, seed=seed, say=say)
    about = {"made": len(lines), "epochs": epochs, "seconds": round(time.monotonic() - started, 1)}
    checked = max(100, HELD * count // FIELDS_MADE)
    return publish(network, mnist, out, about=about, seed=seed, checked=checked)


def publish(
    network: keras.Model, mnist: Mnist, out: Path, *, about: dict[str, Any], seed: int, checked: int = HELD
) -> dict[str, Any]:
    """Export, measure and calibrate a trained field network into `out`, best a `staged` one; return the card.

    It is measured on strings of test digits, and calibrated on `checked` fields made of digits held back.
    """
    checks = held_back(mnist, seed, checked)
    export.save(network, out, "fields")
    parity = compare(network, out / FIELDS, checks)
    read = reader(out / FIELDS, out / SERVES)
    result: dict[str, Any] = json.loads((out / card.NAME).read_text(encoding="utf-8"))
    result["files"] |= {file: card.fingerprint(out / file) for file in (FIELDS, "fields.keras")}
    result["fields"] = {
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seed": seed,
        "input": {"shape": [HEIGHT, None, 1], "range": [0, 1], "ink": "bright"},
        "normaliser": VERSION,
        "data": dict(mnist.sha256),
        "held_back": every_twelfth_pair.__name__,
        "libraries": card.libraries(),
        **about,
        "parameters": network.count_params(),
        "accuracy": accuracy(read, mnist, checks, seed),
        "parity": asdict(parity),
    }
    tried = tried_on_fields(read, mnist, checks, seed)
    result["calibration"]["field"] = made_of(tried)
    card.write(out / card.NAME, result)
    draw(out, "field", result["calibration"]["field"], tried)
    plots.save(sheet(mnist, seed), out / "fields.png")
    return result


def trained(
    start: keras.Model | None,
    lines: Lines,
    *,
    epochs: int,
    seed: int,
    say: Callable[[str], None],
    optimiser: Callable[[int], Any] = averaged_adamw,
) -> keras.Model:
    """Train a field network, from `start` or anew."""
    with fast():
        network = fused(ctc.field_network())
        if start is not None:
            network.set_weights(start.get_weights())
        ctc.train(network, lines, optimiser, epochs=epochs, seed=seed, say=say)
        # The batch statistics still belong to the last of the weights that were averaged.
        rng = np.random.default_rng(seed)
        for indices in ctc.batches_of(lines, rng)[:REFRESH]:
            network(ctc.batch_of(lines, indices, rng)[0], training=True)
    exact = ctc.field_network()
    exact.set_weights(network.get_weights())
    return exact


def compare(network: keras.Model, path: Path, lines: Lines, count: int = 200) -> export.Parity:
    """Compare what each network and its export read on some lines; raises ModelError where they hardly agree."""
    read = line_reader(path)
    same, largest = 0, 0.0
    some = lines.planes[:count]
    for index, plane in enumerate(some):
        exported = read(as_image(plane))
        original = network(ctc.batch_of(lines, np.array([index]), None)[0], training=False).numpy()[0]
        same += sum(candidates(a)[0].value == candidates(b)[0].value for a, b in zip(original, exported, strict=True))
        largest = max(largest, float(np.abs(original - exported).max()))
    parity = export.Parity(len(some) * ctc.MEMBERS, same, largest)
    parity.check(DIFFER)
    return parity


def sheet(mnist: Mnist, seed: int) -> Any:
    """A picture of what the network was trained on."""
    made = [field(mnist.train_images, mnist.train_labels, np.random.default_rng([seed, i])) for i in range(SHOWN)]
    pictures = [_fitted(page) for page, _ in made]
    captions = [(value or "nothing", plots.INK) for _, value in made]
    return plots.gallery(
        pictures, captions, "Fields that the network was trained on: made of MNIST's digits", columns=6
    )


def _fitted(page: NDArray[np.uint8]) -> NDArray[np.uint8]:
    width, height = CELL
    grey = page if page.ndim == 2 else np.asarray(cv2.cvtColor(page, cv2.COLOR_RGB2GRAY), np.uint8)
    scale = min(width / grey.shape[1], height / grey.shape[0])
    size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    canvas = np.full((height, width), 255, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return canvas
