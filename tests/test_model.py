"""The saved network is what its card says, and its thresholds keep their promise."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from watcher.errors import ModelError
from watcher.model import CONFIDENCE, SERVES, Card, binomial_tail, load, read_card
from watcher.normalise import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MODEL = Path(__file__).parent.parent / "model"


def copied(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    """A copy of the model that ships, its card changed."""
    model = folder / "model"
    model.mkdir()
    for name in ("card.json", SERVES):
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


# The binomial bound


def exact_tail(errors: int, trials: int, rate: Fraction) -> Fraction:
    """The probability of at most `errors`, in whole numbers."""
    terms = (math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(errors + 1))
    return sum(terms, start=Fraction(0))


@pytest.mark.parametrize("rate", [Fraction(1, 1000), Fraction(1, 100), Fraction(1, 7), Fraction(1, 2)])
@pytest.mark.parametrize(
    ("errors", "trials"), [(0, 0), (0, 1), (1, 1), (0, 299), (3, 40), (7, 7), (12, 500), (49, 1000)]
)
def test_binomial_tail(errors: int, trials: int, rate: Fraction) -> None:
    """The probability agrees with exact arithmetic to nine digits."""
    assert binomial_tail(errors, trials, float(rate)) == pytest.approx(
        float(exact_tail(errors, trials, rate)), rel=1e-9
    )


@pytest.mark.parametrize(("trials", "rate"), [(299, 0.01), (598, 0.005), (2995, 0.001)])
def test_how_much_a_promise_takes(trials: int, rate: float) -> None:
    """Without any error 299 images are enough to promise 1%, 598 for 0.5%, 2,995 for 0.1%; one less is not."""
    assert binomial_tail(0, trials, rate) <= 1 - CONFIDENCE < binomial_tail(0, trials - 1, rate)


def test_binomial_tail_of_large_numbers() -> None:
    """A million trials neither overflow nor vanish: about half of them have at most the expected errors."""
    assert 0.5 < binomial_tail(1000, 1_000_000, 0.001) < 0.52


# Thresholds


def threshold(max_error: float, *curve: tuple[float, int, int]) -> float:
    """The threshold on a curve of (threshold, accepted, errors)."""
    return Card(Path("x"), "x", ("0",), 1.0, curve).threshold(max_error)


def test_no_data_no_promise() -> None:
    """Where too few images were held back nothing is accepted, however few were wrong."""
    assert threshold(0.01) == math.inf
    assert threshold(0.01, (0.9, 0, 0)) == math.inf
    assert threshold(0.01, (0.99, 100, 0), (0.5, 298, 0)) == math.inf
    assert threshold(0.01, (0.99, 100, 0), (0.5, 299, 0)) == 0.5


def test_lowest_that_passes() -> None:
    """The lowest threshold that the errors allow is taken."""
    curve = ((0.999, 3000, 0), (0.99, 4000, 2), (0.95, 4500, 10), (0.9, 4800, 20), (0.5, 5000, 100))
    assert threshold(0.01, *curve) == 0.9
    assert threshold(0.002, *curve) == 0.99
    assert threshold(0.001, *curve) == 0.999
    assert threshold(0.0001, *curve) == math.inf
    assert threshold(0.5, *curve) == 0.5


def test_bound_is_exact() -> None:
    """One error too many at the bound, and the threshold does not pass."""
    allowed = max(k for k in range(60) if binomial_tail(k, 5000, 0.01) <= 1 - CONFIDENCE)
    assert 30 < allowed < 50  # less than 1% of 5,000, for what they tell is not certain
    assert threshold(0.01, (0.9, 5000, allowed)) == 0.9
    assert threshold(0.01, (0.9, 5000, allowed + 1)) == math.inf


def test_stops_at_the_first_failure() -> None:
    """What fails once ends the search: a lower threshold that would pass by luck is not looked at."""
    assert threshold(0.01, (0.99, 1000, 2), (0.95, 2000, 30), (0.9, 100_000, 30)) == 0.99
    assert threshold(0.01, (0.99, 1000, 30), (0.9, 100_000, 30)) == math.inf


def test_too_few_is_no_failure() -> None:
    """Thresholds that too few images reach are passed over, even where one of the few is wrong."""
    assert threshold(0.01, (0.9999, 10, 1), (0.999, 200, 1), (0.99, 5000, 5)) == 0.99


def test_promise_holds() -> None:
    """Over many draws of calibration data the promise is broken in at most about one of twenty."""
    random = np.random.default_rng(3)
    grid = np.array([0.99, 0.97, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5])
    many = random.beta(4, 0.25, 200_000)
    broken = 0
    for _ in range(200):
        confidence = random.beta(4, 0.25, 2000)
        wrong = random.random(2000) > confidence
        curve = [(float(t), int((confidence >= t).sum()), int((wrong & (confidence >= t)).sum())) for t in grid]
        chosen = threshold(0.02, *curve)
        if chosen <= 1:
            broken += float((1 - many[many >= chosen]).mean()) > 0.02
    assert broken <= 0.05 * 200 + 3 * math.sqrt(200 * 0.05 * 0.95)


# The card


def test_shipped_model_is_fit() -> None:
    """The model that ships is what its card says, and can promise 1%."""
    card = read_card(MODEL)
    digest = hashlib.sha256((MODEL / SERVES).read_bytes()).hexdigest()
    assert card.file == MODEL / SERVES
    assert card.name.endswith(f"-{digest[:8]}")
    assert set("0123456789") <= set(card.classes)
    assert card.temperature > 0
    assert 0 < card.threshold(0.01) <= 1


def test_shipped_curve_is_in_order() -> None:
    """The curve that ships goes from the safest threshold down, and each step takes in the one before."""
    curve = read_card(MODEL).curve
    for (high, few, fewer_errors), (low, more, errors) in pairwise(curve):
        assert high > low
        assert few <= more
        assert fewer_errors <= errors <= more


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


@pytest.mark.parametrize("key", ["recipe", "classes", "normaliser", "files", "calibration"])
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
    model = copied(tmp_path, lambda card: card["files"].update({"digits.keras": {"sha256": "0" * 64, "bytes": 1}}))
    (model / "digits.keras").unlink(missing_ok=True)
    assert str(model / "digits.keras") in complaint(model / "digits.keras")


def test_keras_file_is_pinned(tmp_path: Path) -> None:
    """A .keras file, which can run code when it is loaded, is refused unless its card names its very bytes."""
    model = copied(tmp_path, lambda card: card["files"].update({"digits.keras": {"sha256": "0" * 64, "bytes": 1}}))
    (model / "digits.keras").write_bytes(b"anything")
    assert "its card says 000000000000" in complaint(model / "digits.keras")


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


def test_temperature(tmp_path: Path) -> None:
    """The card's temperature softens the probabilities, and changes no digit."""
    _, plain = load(copied(tmp_path, lambda card: card["calibration"].update(temperature=1.0)))
    (tmp_path / "soft").mkdir()
    _, soft = load(copied(tmp_path / "soft", lambda card: card["calibration"].update(temperature=2.0)))
    before, after = plain(images(9)), soft(images(9))
    expected = np.sqrt(before.astype(np.float64))
    assert np.allclose(after, expected / expected.sum(axis=1, keepdims=True), atol=1e-4)
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()
    assert (after.max(axis=1) <= before.max(axis=1) + 1e-6).all()
