"""The saved network and its card: checked against each other, then ready to predict."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from watcher import line
from watcher.calibration import Calibration
from watcher.decoding import CLASSES
from watcher.errors import ModelError
from watcher.normalise import VERSION
from watcher.tasks import Doubt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from watcher.calibration import Kind

    Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
    LineReader = Callable[[NDArray[np.float32]], NDArray[np.float32]]

SERVES = "digits.tflite"
FIELDS = "fields.tflite"
FORMAT = 3  # of the card
STRIDE = 4  # pixels: a line's width is brought to a multiple of it


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a saved network: the contract between who trained it and who serves it."""

    file: Path  # the network itself
    name: str  # as in the rows: the recipe and the start of each network's SHA-256
    classes: tuple[str, ...]
    digit: Calibration
    field: Calibration | None  # None: no network that reads fields
    field_file: Path | None = None  # that network

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What can be read."""
        return ("digit",) if self.field is None else ("digit", "field")

    @property
    def fingerprint(self) -> str:
        """The same for cards that say the same."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def calibration(self, kind: Kind) -> Calibration:
        """How values of a kind are judged."""
        found = self.digit if kind == "digit" else self.field
        assert found is not None
        return found

    def doubts(self, max_error: float) -> tuple[Doubt, ...]:
        """What cannot be promised at `max_error`, or not on everything: a line for each kind of value."""
        found = []
        for kind in self.kinds:
            judge = self.calibration(kind)
            if words := (short := judge.shortfall(max_error)) or judge.caveat(max_error):
                found.append(Doubt(f"{kind}s: {words}", stops=bool(short)))
        return tuple(found)


def read_card(model: Path) -> Card:
    """Check the network at `model` against its card.

    `model` is a folder with card.json, or a .keras file beside its card. Raises ModelError.
    """
    keras = model.suffix == ".keras"
    folder = model.parent if keras else model
    path = folder / "card.json"
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise ValueError(f"format {card['format']}, this program reads {FORMAT}")
        file = folder / (model.name if keras else SERVES)
        has_fields = "field" in card["calibration"]
        field_file = folder / (FIELDS if not keras else FIELDS.replace(".tflite", ".keras")) if has_fields else None
        files = [file] + ([field_file] if field_file else [])
        expected = [str(card["files"][one.name]["sha256"]) for one in files]
        actual = [hashlib.sha256(one.read_bytes()).hexdigest() for one in files]
        read = Card(
            file=file,
            name="-".join([str(card["recipe"]), *(sha256[:8] for sha256 in actual)]),
            classes=tuple(str(name) for name in card["classes"]),
            digit=Calibration.of(card["calibration"]["digit"]),
            field=Calibration.of(card["calibration"]["field"]) if has_fields else None,
            field_file=field_file,
        )
        made_for = [("normaliser", int(card["normaliser"]), VERSION)]
        if has_fields:
            made_for.append(("line normaliser", int(card["fields"]["normaliser"]), line.VERSION))
    except OSError as error:
        raise ModelError(
            f"model: {error.filename}: {error.strerror}; "
            "train one with 'make train', or set model: to a folder with a card.json"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"model: {path} is not a model card ({error!r}); make the model again with 'make train'"
        ) from error
    for one, is_, should in zip(files, actual, expected, strict=True):
        if is_ != should:
            raise ModelError(
                f"model: {one} has SHA-256 {is_[:12]}…, its card says {should[:12]}…; "
                "put back the file that belongs to the card, or train again"
            )
    for (what, trained, serves), one in zip(made_for, files, strict=True):
        if trained != serves:
            raise ModelError(
                f"model: {one} was trained for {what} {trained}, this program has {serves}; "
                "train again with 'make train'"
            )
    return read


def load(model: Path) -> tuple[Card, Network]:
    """The card, and the function that predicts: images (n, 28, 28) in [0, 1] → probabilities (n, classes).

    Raises ModelError.
    """
    card = read_card(model)
    predict = digit_reader(card.file)
    classes = _classes(card.file, predict, (1, 28, 28))
    if classes != len(card.classes):
        raise ModelError(
            f"model: {card.file} has {classes} outputs, its card names {len(card.classes)} classes; "
            "make the model again with 'make train'"
        )
    return card, predict


def load_fields(card: Card) -> LineReader | None:
    """The function that reads along a line: (HEIGHT, width) in [0, 1] → (networks, steps, CLASSES) probabilities.

    None where the model has no network for fields. Raises ModelError.
    """
    if card.field is None or card.field_file is None:
        return None
    read = line_reader(card.field_file)
    classes = _classes(card.field_file, read, (line.HEIGHT, 64))
    if classes != CLASSES:
        raise ModelError(
            f"model: {card.field_file} has {classes} outputs, a network for fields has {CLASSES}; "
            "make the model again with 'make train'"
        )
    return read


def digit_reader(file: Path) -> Network:
    """What the digit network in a file says, whatever its card may say: (n, 28, 28) → (n, classes).

    Raises ModelError where that is no network.
    """
    raw = _network(file)

    def read(images: NDArray[np.float32]) -> NDArray[np.float32]:
        # LiteRT refuses a batch of none.
        return raw(images[..., np.newaxis]) if len(images) else raw(np.zeros((1, 28, 28, 1), np.float32))[:0]

    return read


def line_reader(file: Path) -> LineReader:
    """What the field networks in a file say, whatever its card may say: see `load_fields`.

    Raises ModelError where that is no network.
    """
    return partial(read_along, _network(file))


def read_along(network: Network, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What field networks say along the image of a line."""
    height, width = image.shape
    batch = np.zeros((1, height, -(-width // STRIDE) * STRIDE, 1), np.float32)
    batch[0, :, :width, 0] = image
    said: NDArray[np.float32] = network(batch)[0]
    return said


def _network(file: Path) -> Network:
    try:
        return _keras(file) if file.suffix == ".keras" else _litert(file)
    except (ValueError, RuntimeError) as error:
        raise _cannot_run(file, error) from error


def _classes(file: Path, read: Network, shape: tuple[int, ...]) -> int:
    """How many outputs a network has: it is run once."""
    try:
        return int(read(np.zeros(shape, np.float32)).shape[-1])
    except (ValueError, RuntimeError) as error:
        raise _cannot_run(file, error) from error


def _cannot_run(file: Path, error: Exception) -> ModelError:
    return ModelError(f"model: {file} is no network that can be run ({error}); make the model again with 'make train'")


def _litert(file: Path) -> Network:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - not needed where a .keras file serves

    # Two threads are slower than one for a network this small, and there is a worker for each processor.
    interpreter = Interpreter(model_content=file.read_bytes(), num_threads=1)
    inputs, outputs = (
        interpreter.get_input_details()[0]["index"],
        interpreter.get_output_details()[0]["index"],
    )

    def raw(images: NDArray[np.float32]) -> NDArray[np.float32]:
        interpreter.resize_tensor_input(inputs, images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(inputs, images)
        interpreter.invoke()
        result: NDArray[np.float32] = interpreter.get_tensor(outputs)
        return result

    return raw


def _keras(file: Path) -> Network:
    try:
        import keras  # noqa: PLC0415 - TensorFlow is loaded only for a .keras file
    except ImportError as error:
        raise ModelError(
            f"model: {file} needs TensorFlow: {error}; install it with 'make install-train', "
            "or set model: to its folder"
        ) from error
    network = keras.models.load_model(file, compile=False)  # safe: the card pins its SHA-256

    def raw(images: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = network.predict(images, verbose=0)
        return result

    return raw
