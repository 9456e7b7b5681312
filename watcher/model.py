"""The saved network and its card: checked against each other, then ready to predict."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from watcher.calibration import Calibration
from watcher.errors import ModelError
from watcher.normalise import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from watcher.calibration import Kind

SERVES = "digits.tflite"
FORMAT = 2  # of the card


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a saved network: the contract between who trained it and who serves it."""

    file: Path  # the network itself
    name: str  # as in the rows: the recipe and the start of the file's SHA-256
    classes: tuple[str, ...]
    digit: Calibration
    field: Calibration | None  # None: no network that reads fields

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What can be read."""
        return ("digit",) if self.field is None else ("digit", "field")

    def calibration(self, kind: Kind) -> Calibration:
        """How values of a kind are judged."""
        found = self.digit if kind == "digit" else self.field
        assert found is not None
        return found

    def doubts(self, max_error: float) -> tuple[str, ...]:
        """What cannot be promised at `max_error`, or not on everything: a line for each kind of value."""
        judges = {kind: self.calibration(kind) for kind in self.kinds}
        found = {kind: judge.shortfall(max_error) or judge.caveat(max_error) for kind, judge in judges.items()}
        return tuple(f"{kind}s: {doubt}" for kind, doubt in found.items() if doubt)


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
        expected = str(card["files"][file.name]["sha256"])
        actual = hashlib.sha256(file.read_bytes()).hexdigest()
        read = Card(
            file=file,
            name=f"{card['recipe']}-{actual[:8]}",
            classes=tuple(str(name) for name in card["classes"]),
            digit=Calibration.of(card["calibration"]["digit"]),
            field=Calibration.of(card["calibration"]["field"]) if "field" in card["calibration"] else None,
        )
        normaliser = int(card["normaliser"])
    except OSError as error:
        raise ModelError(
            f"model: {error.filename}: {error.strerror}; "
            "train one with 'make train', or set model: to a folder with a card.json"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"model: {path} is not a model card ({error!r}); make the model again with 'make train'"
        ) from error
    if actual != expected:
        raise ModelError(
            f"model: {file} has SHA-256 {actual[:12]}…, its card says {expected[:12]}…; "
            "put back the file that belongs to the card, or train again"
        )
    if normaliser != VERSION:
        raise ModelError(
            f"model: {file} was trained for normaliser {normaliser}, this program has {VERSION}; "
            "train again with 'make train'"
        )
    return read


def load(model: Path) -> tuple[Card, Callable[[NDArray[np.float32]], NDArray[np.float32]]]:
    """The card, and the function that predicts: images (n, 28, 28) in [0, 1] → probabilities (n, classes).

    Raises ModelError.
    """
    card = read_card(model)
    try:
        raw = _keras(card.file) if card.file.suffix == ".keras" else _litert(card.file)
        classes = raw(np.zeros((1, 28, 28, 1), np.float32)).shape[-1]
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            f"model: {card.file} is no network that can be run ({error}); make the model again with 'make train'"
        ) from error
    if classes != len(card.classes):
        raise ModelError(
            f"model: {card.file} has {classes} outputs, its card names {len(card.classes)} classes; "
            "make the model again with 'make train'"
        )

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        if not len(images):
            return np.zeros((0, classes), np.float32)
        return raw(images[..., None])

    return card, predict


def _litert(file: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
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


def _keras(file: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    try:
        import keras  # noqa: PLC0415 - TensorFlow is loaded only for a .keras file
    except ImportError as error:
        raise ModelError(
            f"model: {file} needs TensorFlow; install digitdrop[train], or set model: to the folder with {SERVES}"
        ) from error
    network = keras.models.load_model(file, compile=False)  # safe: the card pins its SHA-256

    def raw(images: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = network.predict(images, verbose=0)
        return result

    return raw
