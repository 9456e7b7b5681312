"""Tuning the networks on labelled crops of one's own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import keras
import numpy as np
import pytest

from train import extra, field_readings
from train.labels import distinct, read_labels
from train.lines import Lines, lines_of
from train.mnist import DataError, Mnist
from train.pool import NONE
from train.recipes import RECIPES
from watcher.config import Limits
from watcher.errors import DigitdropError
from watcher.model import load, load_fields

if TYPE_CHECKING:
    from numpy.typing import NDArray


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras and NumPy 2

MODEL = Path(__file__).parent.parent / "model"
ODD = str.maketrans("7", "1")  # how the labels here differ from what anybody would read


def figure(digit: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A digit as MNIST has it."""
    image = np.zeros((28, 28), np.uint8)
    at = 6 + int(rng.integers(-1, 2)), 22 + int(rng.integers(-1, 2))
    cv2.putText(image, digit, at, cv2.FONT_HERSHEY_SIMPLEX, 0.75, 255, 2, cv2.LINE_AA)
    return image


@pytest.fixture(scope="module")
def data() -> Mnist:
    """Twenty-four of each digit in the place of MNIST."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(10, dtype=np.uint8), 24)
    images = np.array([figure(str(label), rng) for label in labels])
    sha256 = json.loads((MODEL / "card.json").read_text(encoding="utf-8"))["data"]  # else refused
    return Mnist(images, labels, images, labels, sha256)


def lines(count: int) -> Lines:
    """Lines of three digits, 7 among them, whose 7 is labelled 1."""
    made = []
    for index in range(count):
        rng = np.random.default_rng(index)
        value = "7" + "".join(rng.choice(list("0247"), 2))
        page = np.hstack([255 - figure(digit, rng) for digit in value])
        made.append((np.pad(page, 8, constant_values=255), value.translate(ODD)))
    found = lines_of(made, to_judge=True)
    assert len(found) == count
    return found


def test_networks_learn_what_the_labels_say(data: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both networks learn from labels that they would have read otherwise, and what comes out serves."""
    for name, value in (("MIXED", 40), ("EPOCHS", 6), ("VIEWS", 60)):  # so few crops have to be shown more often
        monkeypatch.setattr(extra, name, value)
    monkeypatch.setattr(field_readings, "STRINGS", 40)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(1)
    sevens = np.array([figure("7", rng) for _ in range(24)])
    names = [tuple(hashlib.sha256(b"%s %d" % (kind, n)).hexdigest() for n in range(24)) for kind in (b"line", b"image")]
    owned = extra.Owned(tmp_path, lines(24), sevens, np.ones(24, np.uint8), 0, *names)
    card_before = (MODEL / "card.json").read_bytes()
    said: list[str] = []
    out = tmp_path / "own"
    rows = extra.fit_extra(owned, data, MODEL, out, folds=2, seed=1, say=said.append, checked=100)
    assert [(row["kind"], row["crops"]) for row in rows] == [("fields", 24), ("digits", 24)]
    for row in rows:
        assert row["before"] < 0.1
        assert row["after"] > 0.5  # on crops held back
    assert sum("fold" in line for line in said) == 4
    card, predict = load(out)
    assert card.name.startswith("paper-extra-")
    assert load_fields(card) is not None
    assert (predict(np.asarray(sevens / 255, np.float32)).argmax(axis=1) == 1).mean() > 0.5
    assert (MODEL / "card.json").read_bytes() == card_before
    then, now = (json.loads((folder / "card.json").read_text(encoding="utf-8")) for folder in (MODEL, out))
    for kind in ("digit", "field"):  # as those that ship, each figure of the tuned networks themselves
        old, new = then["calibration"][kind]["trials"], now["calibration"][kind]["trials"]
        assert all("20 MNIST training images held back" in trial["on"] for trial in new)
        assert [trial["floor"] for trial in new] == [trial["floor"] for trial in old]
        assert (out / f"reliability-{kind}.png").is_file()
    assert now["accuracy"]["test_size"] == now["parity"]["images"] == len(data.test_images)
    assert now["accuracy"]["test"] == pytest.approx(
        1 - now["accuracy"]["test_errors"] / len(data.test_images), abs=1e-6
    )
    assert now["fields"]["parity"]["images"] == 2 * now["fields"]["accuracy"]["held_back_size"]
    assert now["extra"]["crops"] == sorted({name[:16] for some in names for name in some})
    assert not (out / "confusion.png").exists()  # of the networks that were
    for file in ("digits.keras", "fields.keras"):  # the networks alone, without what trained them
        assert (out / file).stat().st_size < 1.2 * (MODEL / file).stat().st_size
        layers = keras.models.load_model(out / file, compile=False).layers
        assert all(type(layer).__module__.startswith("keras.") for layer in layers)  # it loads without this program


def test_what_is_shown_again(data: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of MNIST only what the recipe trains on, as it is and on paper, the rest is to calibrate with; and no digits.

    Nobody labels letters to have digits read: without some the network would soon take them for digits.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    marked = data.train_images.copy()
    held = np.arange(len(marked)) // 2 % 12 == 11
    marked[:, 0, 0] = np.where(held, 255, 0)
    mnist = Mnist(marked, data.train_labels, marked, data.train_labels, data.sha256)
    owned = extra.Owned(tmp_path, Lines((), ()), np.zeros((10, 28, 28), np.uint8), np.zeros(10, np.uint8), lost=0)
    tuner = extra._Digits(owned, mnist, MODEL, RECIPES["paper"], seed=1)
    count = int((~held).sum())
    as_they_are, on_paper = np.split(tuner._other_labels, [count])
    assert sorted(map(bytes, tuner._others[:count])) == sorted(map(bytes, marked[~held]))
    assert not (as_they_are == NONE).any()
    assert (on_paper != NONE).sum() > count
    assert (on_paper == NONE).sum() > count / 5


def test_other_data_than_that_of_the_model_is_refused(data: Mnist, tmp_path: Path) -> None:
    """What was held back of other data, nobody knows; nothing is left behind."""
    other = Mnist(data.train_images, data.train_labels, data.test_images, data.test_labels, {"drawn": "here"})
    owned = extra.Owned(tmp_path, Lines((), ()), np.zeros((10, 28, 28), np.uint8), np.zeros(10, np.uint8), lost=0)
    with pytest.raises(DataError, match="trained on other data"):
        extra.fit_extra(owned, other, MODEL, tmp_path / "own", folds=2, seed=1, say=print)
    assert not (tmp_path / "own").exists()


def test_too_few_crops(data: Mnist, tmp_path: Path) -> None:
    """A handful of crops is refused in one line, and nothing is left behind."""
    owned = extra.Owned(tmp_path, Lines((), ()), np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8), lost=0)
    with pytest.raises(
        DigitdropError, match=f"^{tmp_path} has 3 crops of a digit and 0 of a field .* takes 10 of a kind"
    ):
        extra.fit_extra(owned, data, MODEL, tmp_path / "own", folds=2, seed=1, say=print)
    assert not (tmp_path / "own").exists()


def test_crops_are_taken_through_the_normalisers(tmp_path: Path) -> None:
    """Single digits and fields go to their networks; what holds nothing or cannot be decoded is counted."""
    rng = np.random.default_rng(2)
    one = np.pad(255 - figure("4", rng), 20, constant_values=255)
    two = np.hstack([one[:, 12:-16], one[:, 16:-12]])
    blank = np.full((60, 60), 255, np.uint8)
    for name, page in (("one", one), ("copy", one), ("two", two), ("sign", one[2:]), ("blank", blank)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), page)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    labels = "one.png,4\ncopy.png,4\ntwo.png,44\nblank.png,7\nbroken.png,1\nsign.png,-\n"
    (tmp_path / "labels.csv").write_text(f"file,value\n{labels}")
    owned = extra.load(tmp_path, distinct(read_labels(tmp_path)), Limits())
    assert owned.labels.tolist() == [4]
    assert owned.lines.values == ("44",)
    assert owned.lost == 2
    for (sha256,), name in ((owned.image_crops, "one"), (owned.line_crops, "two")):
        assert sha256 == hashlib.sha256((tmp_path / f"{name}.png").read_bytes()).hexdigest()
