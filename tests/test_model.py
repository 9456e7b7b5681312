"""The saved network is what its card says."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from watcher.decoding import CLASSES
from watcher.errors import ModelError
from watcher.model import FIELDS, SERVES, load, load_fields, read_card
from watcher.normalise import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MODEL = Path(__file__).parent.parent / "model"


def copied(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    """A copy of the model that ships, its card changed."""
    model = folder / "model"
    model.mkdir()
    for name in ("card.json", SERVES, FIELDS):
        shutil.copy(MODEL / name, model)
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    change(card)
    (model / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return model


def complaint(model: Path) -> str:
    """What is said of a model that will not do: one line, that names the setting."""
    with pytest.raises(ModelError) as caught:
        load(model)
    assert caught.value.exit_code == 78
    message = str(caught.value)
    assert message.startswith("model: ")
    assert "\n" not in message
    return message


# The card


def test_shipped_model_is_fit() -> None:
    """The model that ships is what its card says, and can promise 1%."""
    card = read_card(MODEL)
    digest = hashlib.sha256((MODEL / SERVES).read_bytes()).hexdigest()
    assert card.file == MODEL / SERVES
    assert f"-{digest[:8]}-" in card.name
    assert set("0123456789") <= set(card.classes)
    assert 0 < card.digit.threshold(0.01) <= 1


def test_other_format(tmp_path: Path) -> None:
    """A card of another format is refused, with both numbers and what to do."""
    message = complaint(copied(tmp_path, lambda card: card.update(format=1)))
    assert "format 1, this program reads 3" in message
    assert "make train" in message


def without_fields(card: dict[str, Any]) -> None:
    """Make a card one of a model that reads digits alone."""
    del card["calibration"]["field"], card["fields"]


def test_a_network_for_fields_is_optional(tmp_path: Path) -> None:
    """A network for fields brings its calibration; without it there is neither."""
    assert read_card(MODEL).kinds == ("digit", "field")
    card = read_card(copied(tmp_path, without_fields))
    assert card.kinds == ("digit",)
    assert load_fields(card) is None


def test_a_network_for_fields_is_checked(tmp_path: Path) -> None:
    """Its bytes and the version of its normaliser have to be those of the card."""
    model = copied(tmp_path, lambda card: card["fields"].update(normaliser=0))
    assert "was trained for line normaliser 0" in complaint(model)
    with (model / "fields.tflite").open("ab") as file:
        file.write(b"x")
    assert "fields.tflite has SHA-256" in complaint(model)


def test_a_line_is_read_step_by_step() -> None:
    """A line of any width gives two steps for each four pixels from each network, each a distribution."""
    read = load_fields(read_card(MODEL))
    assert read is not None
    for width in (8, 301, 30):
        said = read(np.zeros((32, width), np.float32))
        assert said.shape == (2, 2 * -(-width // 4), CLASSES)
        assert said.sum(axis=2) == pytest.approx(1, abs=1e-3)


def test_missing_folder(tmp_path: Path) -> None:
    """A model that is not there is told by its name, with how to get one."""
    message = complaint(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere" / "card.json") in message
    assert "make train" in message


def test_file_instead_of_a_folder(tmp_path: Path) -> None:
    """A file that is no .keras is no model."""
    (tmp_path / "model").write_bytes(b"")
    assert "make train" in complaint(tmp_path / "model")


def test_missing_card(tmp_path: Path) -> None:
    """A network without its card is not served."""
    model = copied(tmp_path)
    (model / "card.json").unlink()
    assert str(model / "card.json") in complaint(model)


def test_missing_network(tmp_path: Path) -> None:
    """A card without its network is told by the network's name."""
    model = copied(tmp_path)
    (model / SERVES).unlink()
    message = complaint(model)
    assert str(model / SERVES) in message
    assert "make train" in message


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "{}", '{"files": []}', '{"files": {"digits.tflite": 1}}'])
def test_broken_card(tmp_path: Path, text: str) -> None:
    """A card that is no JSON, or lacks what it should hold, is told by its name, with what to do."""
    model = copied(tmp_path)
    (model / "card.json").write_text(text, encoding="utf-8")
    message = complaint(model)
    assert str(model / "card.json") in message
    assert "make train" in message


@pytest.mark.parametrize("key", ["format", "recipe", "classes", "normaliser", "files", "calibration"])
def test_incomplete_card(tmp_path: Path, key: str) -> None:
    """Each thing that the watcher needs of a card is missed by its name."""
    assert repr(key) in complaint(copied(tmp_path, lambda card: card.pop(key)))


def test_card_that_is_no_text(tmp_path: Path) -> None:
    """A card of other bytes than UTF-8 is refused as such."""
    model = copied(tmp_path)
    (model / "card.json").write_bytes(b"\xff\xfe\0")
    assert "is not a model card" in complaint(model)


def test_wrong_hash(tmp_path: Path) -> None:
    """A network of which one bit is not what the card says is refused, with both hashes and what to do."""
    model = copied(tmp_path)
    data = bytearray((model / SERVES).read_bytes())
    data[len(data) // 2] ^= 1
    (model / SERVES).write_bytes(data)
    message = complaint(model)
    assert hashlib.sha256(data).hexdigest()[:12] in message
    assert hashlib.sha256((MODEL / SERVES).read_bytes()).hexdigest()[:12] in message
    assert "put back" in message
    assert "train again" in message


def test_other_normaliser(tmp_path: Path) -> None:
    """A network that was trained behind another normaliser is refused, with both versions and what to do."""
    message = complaint(copied(tmp_path, lambda card: card.update(normaliser=VERSION + 1)))
    assert f"normaliser {VERSION + 1}" in message
    assert f"has {VERSION};" in message
    assert "make train" in message


def test_other_classes(tmp_path: Path) -> None:
    """A card that names another number of classes than the network has is refused, with both numbers and what to do."""
    names = read_card(MODEL).classes
    message = complaint(copied(tmp_path, lambda card: card.update(classes=["0", "1", "2"])))
    assert f"{len(names)} outputs" in message
    assert "3 classes" in message
    assert "make train" in message


def test_missing_keras_file(tmp_path: Path) -> None:
    """A .keras file that is not there is told by its name, before TensorFlow is thought of."""

    def change(card: dict[str, Any]) -> None:
        without_fields(card)
        card["files"].update({"digits.keras": {"sha256": "0" * 64, "bytes": 1}})

    model = copied(tmp_path, change)
    (model / "digits.keras").unlink(missing_ok=True)
    assert str(model / "digits.keras") in complaint(model / "digits.keras")


def test_keras_file_is_pinned(tmp_path: Path) -> None:
    """A .keras file, which can run code when it is loaded, is refused unless its card names its very bytes."""

    def change(card: dict[str, Any]) -> None:
        without_fields(card)
        card["files"].update({"digits.keras": {"sha256": "0" * 64, "bytes": 1}})

    model = copied(tmp_path, change)
    (model / "digits.keras").write_bytes(b"anything")
    assert "its card says 000000000000" in complaint(model / "digits.keras")


def test_a_keras_file_without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TensorFlow is not installed the message says how to get it, from here."""
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ModelError, match=r"needs TensorFlow: .*; install it with 'make install-train', or set model:"):
        load(MODEL / "digits.keras")


# Predictions


def images(count: int) -> NDArray[np.float32]:
    """Strokes as the normaliser gives them, and one empty image."""
    drawn = np.zeros((count, 28, 28), np.float32)
    for i in range(1, count):
        stroke = np.array([[8 + i % 5, 5], [19, 5 + i % 4], [12, 23]])
        cv2.polylines(drawn[i], [stroke], isClosed=False, color=1.0, thickness=2)
    return drawn


def test_probabilities() -> None:
    """Each image gets a probability for each class, and they sum to one."""
    card, predict = load(MODEL)
    found = predict(images(7))
    assert found.shape == (7, len(card.classes))
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)


def test_reads_a_seven() -> None:
    """A 7 drawn with a pen's width is read as one."""
    card, predict = load(MODEL)
    picture = np.zeros((1, 28, 28), np.float32)
    cv2.polylines(picture[0], [np.array([[7, 5], [20, 5], [12, 23]])], isClosed=False, color=1.0, thickness=2)
    assert card.classes[int(predict(picture)[0].argmax())] == "7"


def test_no_images() -> None:
    """Nothing to read is nothing read."""
    card, predict = load(MODEL)
    assert predict(np.zeros((0, 28, 28), np.float32)).shape == (0, len(card.classes))


def test_alone_or_together() -> None:
    """An image is read the same in whatever batch it comes, and in whatever order the batches do."""
    _, predict = load(MODEL)
    batch = images(9)
    together = predict(batch)
    for i in (8, 0, 3):
        assert np.allclose(predict(batch[i : i + 1])[0], together[i], atol=1e-5)
    assert np.allclose(predict(batch), together, atol=1e-6)
