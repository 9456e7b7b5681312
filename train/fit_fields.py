"""The training of the field network, from MNIST to what the watcher serves beside the digit network."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import keras
import numpy as np

from train import card, ctc, export, plots
from train.fields import GAPS, field, plain
from train.fit import move_in
from train.lines import Lines, line_of, pool
from train.recipes import averaged_adamw, every_twelfth
from train.shipped import FLOOR, Tried, draw, made_of
from watcher.decoding import Candidate, candidates
from watcher.errors import ModelError
from watcher.line import HEIGHT, VERSION
from watcher.looks import look
from watcher.model import FIELDS, SERVES, digit_reader, line_reader
from watcher.reading import score_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from train.mnist import Images, Labels, Mnist
    from watcher.model import Network

    Read = Callable[[NDArray[np.uint8]], Candidate]

EPOCHS = 14
FIELDS_MADE, FIELDS_HELD = 160_000, 4_000  # to train on, and of digits held back to calibrate with
CLEAN = 2  # strings of digits held back for each of those fields
STRINGS = 1_000  # of each kind, of test digits
REFRESH = 100  # batches over which batch normalisation is measured again, once the weights are averaged
SHOWN = 48  # fields in the picture of what was trained on
CELL = 240, 60  # pixels, width and height of each


def fit_fields(
    mnist: Mnist, out: Path, *, epochs: int, seed: int, say: Callable[[str], None], count: int = FIELDS_MADE
) -> dict[str, Any]:
    """Train a field network beside the digit network in `out`, and write it into that one's card; return the card."""
    started = time.monotonic()
    if not (out / card.NAME).is_file():
        raise ModelError(f"{out} holds no digit network yet; train one with: fit --only digits --out {out}")
    keras.utils.set_random_seed(seed)
    held = every_twelfth(len(mnist.train_images))
    say(f"making {count:,} fields of MNIST's digits; kept in the cache for the next time")
    lines = pool(mnist.train_images[~held], mnist.train_labels[~held], seed, count)
    network = trained(None, lines, epochs=epochs, seed=seed, say=say)
    about = {"made": len(lines), "epochs": epochs, "seconds": round(time.monotonic() - started, 1)}
    checked = max(100, FIELDS_HELD * count // FIELDS_MADE)
    return publish(network, mnist, out, about=about, seed=seed, checked=checked)


def publish(
    network: keras.Model, mnist: Mnist, out: Path, *, about: dict[str, Any], seed: int, checked: int = FIELDS_HELD
) -> dict[str, Any]:
    """Export, measure and calibrate a trained field network into the model folder `out`; return the card.

    It is measured on strings of test digits, and calibrated on `checked` fields made of digits held back.
    """
    held = every_twelfth(len(mnist.train_images))
    checks = pool(mnist.train_images[held], mnist.train_labels[held], seed + 1000, checked)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as name:
        stage = Path(name)
        network.save(stage / "fields.keras")
        (stage / FIELDS).write_bytes(export.convert(network))
        parity = compare(network, stage / FIELDS, checks)
        read = reader(line_reader(stage / FIELDS), digit_reader(out / SERVES))
        result: dict[str, Any] = json.loads((out / card.NAME).read_text(encoding="utf-8"))
        result["files"] |= {file: card.fingerprint(stage / file) for file in (FIELDS, "fields.keras")}
        result["fields"] = {
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "seed": seed,
            "input": {"shape": [HEIGHT, None, 1], "range": [0, 1], "ink": "bright"},
            "normaliser": VERSION,
            "data": dict(mnist.sha256),
            "libraries": card.libraries(),
            **about,
            "parameters": network.count_params(),
            "accuracy": {name: round(share(read, strings(mnist, STRINGS, gap, seed)), 4) for name, gap in GAPS.items()}
            | {"held_back": round(share(read, checks), 4), "strings": STRINGS, "held_back_size": len(checks)},
            "parity": asdict(parity),
        }
        tried = _calibration(read, mnist, held, checks, seed)
        result["calibration"]["field"] = made_of(tried)
        card.write(stage / card.NAME, result)
        draw(stage, "field", result["calibration"]["field"], tried)
        plots.save(sheet(mnist, seed), stage / "fields.png")
        move_in(stage, out)
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
    with _fast():
        network = ctc.field_network()
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


def strings(mnist: Mnist, count: int, gap: tuple[int, int], seed: int) -> Lines:
    """MNIST's test digits in strings of 2 to 7, as they are, side by side."""
    return _strings(mnist.test_images, mnist.test_labels, count, gap, seed)


def _strings(images: Images, labels: Labels, count: int, gap: tuple[int, int] | None, seed: int) -> Lines:
    planes, values = [], []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        page, value = plain(images, labels, int(rng.integers(2, 8)), rng, gap)
        plane = line_of(page)
        if plane is not None:
            planes.append(plane)
            values.append(value)
    return Lines(tuple(planes), tuple(values))


def reader(read_line: Network, read_digits: Network) -> Read:
    """What the watcher reads on a line, with these networks."""
    return lambda plane: look(as_image(plane), read_line, read_digits)[1][0]


def as_image(plane: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A line in 256 steps as the watcher has it."""
    return np.asarray(plane / np.float32(255), np.float32)


def share(read: Read, lines: Lines) -> float:
    """The share of lines whose likeliest value is right."""
    right = [read(plane).value == value for plane, value in zip(lines.planes, lines.values, strict=True)]
    return float(np.mean(right))


def compare(network: keras.Model, path: Path, lines: Lines, count: int = 200) -> export.Parity:
    """Compare what a network and its export say along some lines; another value is an error."""
    read = line_reader(path)
    same, largest = 0, 0.0
    some = lines.planes[:count]
    for index, plane in enumerate(some):
        exported = read(as_image(plane))
        original = network(ctc.batch_of(lines, np.array([index]), None)[0], training=False).numpy()[0]
        same += candidates(original)[0].value == candidates(exported)[0].value
        largest = max(largest, float(np.abs(original - exported).max()))
    if same != len(some):
        raise ModelError(f"The exported field network reads {len(some) - same} of {len(some)} lines differently.")
    return export.Parity(len(some), same, largest)


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


def _calibration(read: Read, mnist: Mnist, held: NDArray[np.bool_], worn: Lines, seed: int) -> list[Tried]:
    """What the field network's scores are worth, on fields of digits that were never trained on."""
    images, labels = mnist.train_images[held], mnist.train_labels[held]
    name = f"{len(images):,} {'MNIST ' if mnist.is_original else ''}training images held back"
    tried: list[Tried] = []
    clean = _strings(images, labels, CLEAN * len(worn), None, seed)
    for what, floor, lines in (("strings", 0.0, clean), ("fields on made paper", FLOOR, worn)):
        best = [read(plane) for plane in lines.planes]
        # As in the watcher: what is read as one digit or none is for the digit network.
        judged = [(one, value) for one, value in zip(best, lines.values, strict=True) if len(one.value) > 1]
        scores = np.array([score_of(one) for one, _ in judged], np.float64)
        right = np.array([one.value == value for one, value in judged], np.bool_)
        tried.append(Tried(f"{len(judged):,} {what} of {name}", floor, scores, right))
    return tried


@contextmanager
def _fast() -> Iterator[None]:
    """Train in bfloat16 where the processor computes with it: twice as fast, and no worse for it."""
    before = keras.mixed_precision.global_policy()
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        flags = ""
    if "bf16" in flags:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
