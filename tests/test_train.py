"""The trainer: its data, its arithmetic, and two real trainings on a handful of images."""

from __future__ import annotations

import csv
import gzip
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from train import augmentation, calibration, evaluate, export, mnist, plots, scans, shipped
from train.__main__ import main
from train.labels import Crop
from train.percent import percent
from train.pool import Task
from watcher import model
from watcher.calibration import Calibration, Trial, log_odds
from watcher.errors import ModelError
from watcher.normalise import normalise
from watcher.results import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Keras asks TensorFlow's variables for an array in a way that NumPy 2 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROOT = Path(__file__).parent.parent
TRAINED = 600  # images: enough for a network that beats guessing by far
FILES = {
    "accuracy.png",
    "card.json",
    "confusion.png",
    "digits.keras",
    "digits.tflite",
    "hardest.png",
    "history.csv",
    "loss.png",
    "reliability-digit.png",
    "risk-coverage-digit.png",
}


def draw(digit: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A digit of a printed font, moved, turned and stretched: bright on black, 28×28."""
    image = np.zeros((28, 28), np.uint8)
    cv2.putText(image, str(digit), (7, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.75, 255, 2, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((14, 14), rng.uniform(-8, 8), rng.uniform(0.85, 1.15))
    move = np.array([[0, 0, 1], [0, 0, 1]]) * rng.uniform(-1.5, 1.5, (2, 1))
    return np.asarray(cv2.warpAffine(image, turn + move, (28, 28)), np.uint8)


def idx(values: NDArray[np.uint8]) -> bytes:
    """An array as an IDX file."""
    return struct.pack(f">I{values.ndim}I", 0x800 + values.ndim, *values.shape) + values.tobytes()


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like MNIST's, with drawn digits."""
    folder = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(7)
    for part, count in (("train", TRAINED), ("t10k", 200)):
        labels = rng.integers(0, 10, count).astype(np.uint8)
        if part == "train":
            labels[23:263:24] = np.arange(10)  # so that each digit is among those held back, of a few images too
        images = np.stack([draw(int(label), rng) for label in labels])
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


@pytest.fixture(scope="session")
def data(drawn: Path) -> Path:
    """The folder that DIGITDROP_MNIST names, else drawn digits."""
    return Path(os.environ.get("DIGITDROP_MNIST") or drawn)


@pytest.fixture(scope="session")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, made by the command line with the reference recipe."""
    pytest.importorskip("tensorflow")
    out = tmp_path_factory.mktemp("fitted") / "reference"
    quick = ["--limit", str(TRAINED), "--epochs", "4", "--seed", "3"]
    assert main(["--recipe", "seed", "--data", str(data), "--out", str(out), *quick]) == 0
    return out


@pytest.fixture(scope="session")
def card(reference: Path) -> dict[str, Any]:
    """Its card."""
    read: dict[str, Any] = json.loads((reference / "card.json").read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty labelled crops, dark on light, with two sources, a blank one and a scribble."""
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(5)
    lines = ["file,value,source"]
    for number in range(30):
        digit = int(rng.integers(0, 10))
        page = 235 - cv2.resize(draw(digit, rng), (112, 112), interpolation=cv2.INTER_CUBIC) // 255 * 200
        save(folder / f"{number}.png", page)
        lines.append(f"{number}.png,{digit},{'kitchen' if number % 3 else 'office:attic'}")
    save(folder / "blank.png", np.full((80, 80), 235, np.uint8))
    cross = np.full((80, 80), 235, np.uint8)
    cv2.line(cross, (20, 20), (60, 60), 30, 4)
    cv2.line(cross, (60, 20), (20, 60), 30, 4)
    save(folder / "cross.png", cross)
    (folder / "labels.csv").write_text("\n".join([*lines, "blank.png,,office", "cross.png,-,office"]) + "\n")
    return folder


def save(path: Path, image: NDArray[Any]) -> None:
    """Write a PNG."""
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of MNIST's four files in a folder, unpacked."""
    paths = {name: next(folder.glob(f"{name}*")) for name in mnist.SHA256}
    unpack: dict[bool, Any] = {True: gzip.decompress, False: bytes}
    return {
        name: hashlib.sha256(unpack[path.suffix == ".gz"](path.read_bytes())).hexdigest()
        for name, path in paths.items()
    }


@pytest.fixture
def mirror(drawn: Path, tmp_path: Path) -> Path:
    """A mirror on the local disk, all of whose files are gzipped."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for path in drawn.iterdir():
        raw = path.read_bytes()
        name = path.name.removesuffix(".gz")
        (folder / f"{name}.gz").write_bytes(raw if path.suffix == ".gz" else gzip.compress(raw))
    return folder


# The data


def test_a_folder_is_read_gzipped_or_not(drawn: Path, tmp_path: Path) -> None:
    """Images and labels come in their shapes, with the hash of the unpacked bytes."""
    read = mnist.load(drawn, tmp_path)
    assert read.train_images.shape == (TRAINED, 28, 28)
    assert read.test_labels.shape == (200,)
    assert read.sha256 == hashes(drawn)
    assert not read.is_original
    assert len(read.limited(50).test_images) == 50


def test_mnist_is_told_from_other_data(data: Path, tmp_path: Path) -> None:
    """Only MNIST to the byte is called so."""
    assert mnist.load(data, tmp_path).is_original == ("DIGITDROP_MNIST" in os.environ)


def test_a_download_is_checked_and_kept(drawn: Path, mirror: Path, tmp_path: Path) -> None:
    """The second mirror serves where the first is gone, and the cache where both are."""
    mirrors = [(tmp_path / "gone").as_uri() + "/", mirror.as_uri() + "/"]
    first = mnist.load(None, tmp_path / "cache", mirrors, hashes(drawn))
    second = mnist.load(None, tmp_path / "cache", [], hashes(drawn))
    assert np.array_equal(first.train_images, second.train_images)


def test_a_damaged_cache_is_fetched_again(drawn: Path, mirror: Path, tmp_path: Path) -> None:
    """A file in the cache that is not what it should be is replaced."""
    cache = tmp_path / "cache"
    cache.mkdir()
    broken = cache / "train-images-idx3-ubyte.gz"
    broken.write_bytes((mirror / broken.name).read_bytes()[:5000])
    read = mnist.load(None, cache, [mirror.as_uri() + "/"], hashes(drawn))
    assert len(read.train_images) == TRAINED
    assert broken.read_bytes() == (mirror / broken.name).read_bytes()


def test_a_download_with_a_wrong_hash_is_refused(mirror: Path, tmp_path: Path) -> None:
    """Bytes that are not MNIST's are neither used nor kept; the message says what to do."""
    with pytest.raises(mnist.DataError, match=r"wrong SHA-256.*--data") as caught:
        mnist.load(None, tmp_path / "cache", [mirror.as_uri() + "/"])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x0d\x01\0\0\0\x01\0", "not an IDX file"),
        (b"\0\0\x08\x03\0\0", "header"),
        (idx(np.zeros((3, 4), np.uint8))[:-1], "11 bytes"),
    ],
)
def test_a_broken_idx_file_is_named(raw: bytes, complaint: str) -> None:
    """What is no IDX file, or ends too early, is an error that names the file."""
    with pytest.raises(mnist.DataError, match=f"train.*{complaint}"):
        mnist.parse_idx(raw, "train")


# The arithmetic


def test_augmented_digits_stay_digits() -> None:
    """Inputs keep their shape and range, most of their ink, and differ from draw to draw but not from run to run."""
    image = draw(4, np.random.default_rng(1))
    many = np.repeat(image[np.newaxis], 64, axis=0)
    first, again = (augmentation.augment(many, np.random.default_rng(2)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == (64, 28, 28, 1)
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    ink = first.sum(axis=(1, 2, 3)) / (image.sum() / 255)
    assert ink.min() > 0.2
    assert ink.max() < 2.5
    assert len(np.unique(first, axis=0)) == 64


def drawn_scores(slope: float, shift: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores whose log-odds of being right are `slope` times the score and `shift`, and what came of them."""
    rng = np.random.default_rng(3)
    scores = rng.normal(2, 3, 20000)
    return scores, rng.random(20000) < 1 / (1 + np.exp(-(slope * scores + shift)))


@pytest.mark.parametrize(("slope", "shift"), [(0.5, 0.0), (1.0, -1.0), (1.7, 0.6)])
def test_the_map_is_found(slope: float, shift: float) -> None:
    """A network that is too sure or not sure enough gets the line that makes its scores honest."""
    (low, p), (high, q) = calibration.platt(*drawn_scores(slope, shift))
    found = (log_odds(q) - log_odds(p)) / (high - low)
    assert found == pytest.approx(slope, rel=0.05)
    assert log_odds(p) - found * low == pytest.approx(shift, abs=0.08)


def test_a_map_rises_whatever_the_scores() -> None:
    """Scores that tell nothing, all right, all wrong, or a handful still make a map that a card can hold."""
    rng = np.random.default_rng(1)
    for scores, right in (
        (rng.normal(0, 1, 200), rng.random(200) < 0.5),
        (rng.normal(0, 1, 200), np.ones(200, np.bool_)),
        (rng.normal(0, 1, 200), np.zeros(200, np.bool_)),
        (np.array([1.0, 2.0]), np.array([False, True])),
        (np.array([-5.0, 5.0, 40.0] * 50), np.array([False, True, True] * 50)),
    ):
        entry = {"map": calibration.platt(scores, right), "trials": [calibration.trial("drawn", scores, right)]}
        assert Calibration.of(entry).probability(1e3) > Calibration.of(entry).probability(0)


def test_a_map_says_no_more_than_there_is() -> None:
    """Where the surest are wrong, the map cannot fall with the score, but its mean is the share of right ones."""
    scores = np.linspace(2, 9, 120)
    right = np.arange(120) < 117
    judge = Calibration(tuple(calibration.platt(scores, right)), ())
    assert np.mean([judge.probability(score) for score in scores.tolist()]) == pytest.approx(0.975, abs=0.02)


def test_mapped_confidence_is_the_share_of_right_ones() -> None:
    """After the map, confidence and accuracy agree, where they did not before."""
    scores, right = drawn_scores(0.4, 0.5)
    honest = Calibration(tuple(calibration.platt(scores, right)), ())
    before = 1 / (1 + np.exp(-scores))
    after = np.array([honest.probability(score) for score in scores.tolist()])
    assert calibration.expected_error(before, right) > 0.05
    assert calibration.expected_error(after, right) < 0.01


def test_the_curve_counts_from_the_strictest_score_down() -> None:
    """Each point counts what reaches the score and what of it is wrong; the last takes everything."""
    points = calibration.curve(np.array([12.0, 3.0, 1.0, -7.0]), np.array([True, False, True, False]))
    assert [point[0] for point in points] == sorted({point[0] for point in points}, reverse=True)
    assert points[0] == (12.0, 1, 0)
    assert points[-1][1:] == (4, 2)
    assert all(later[1] >= earlier[1] for earlier, later in itertools.pairwise(points))


def test_the_figures_of_selective_classification() -> None:
    """Risk against coverage and its area, by hand on five values."""
    scores, right = np.array([5.0, 4.0, 3.0, 3.0, 1.0]), np.array([True, True, False, True, False])
    assert calibration.risk_coverage(scores, right) == [(0.2, 0.0), (0.4, 0.0), (0.8, 0.25), (1.0, 0.4)]
    assert calibration.aurc(scores, right) == pytest.approx((0 + 0 + 0.5 / 3 + 1 / 4 + 2 / 5) / 5)
    assert calibration.aurc(scores[::-1], right[::-1]) == pytest.approx(calibration.aurc(scores, right))


def test_expected_calibration_error() -> None:
    """Confidence that says 0.9 where all are right is 0.1 off; bins count by their size."""
    confidence = np.repeat([0.5, 0.9], [150, 150])
    right = np.concatenate([np.tile([True, False], 75), np.ones(150, np.bool_)])
    assert calibration.expected_error(confidence, right) == pytest.approx(0.05, abs=0.02)
    assert calibration.reliability(confidence, right) == [(0.5, 0.5, 150), (pytest.approx(0.9), 1.0, 150)]
    assert calibration.reliability(confidence[:19], right[:19]) == []
    assert calibration.expected_error(np.zeros(0), np.zeros(0, np.bool_)) == 0.0


def test_wilson_is_the_textbook_interval() -> None:
    """The bounds are those of the published examples, and those of no data at all."""
    assert calibration.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert calibration.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert calibration.wilson(0, 0) == (0.0, 1.0)


def test_a_clean_scan_is_the_digit_that_was_scanned() -> None:
    """A scan is dark on light and larger; the normaliser finds the digit in it again, each time the same one."""
    rng = np.random.default_rng(6)
    images = np.stack([draw(digit, rng) for digit in range(10)])
    page = scans.scan(images[3], rng)
    assert page.dtype == np.uint8
    assert min(page.shape) > 50
    assert np.median(page) > 200
    task = Task(images, np.arange(10, dtype=np.uint8), (1, 2))
    found, again = scans.scan_slice(task), scans.scan_slice(task)
    assert np.array_equal(found.images, again.images)
    assert found.classes.tolist() == list(range(10))
    for image, original in zip(found.images, images, strict=True):
        plain = normalise(original)
        assert plain is not None
        alike = np.corrcoef(image.ravel() / 255, plain.image.ravel())[0, 1]
        assert alike > 0.9


# Fitting


def test_the_reference_network_is_the_reference_to_the_letter() -> None:
    """Layers, sizes, activations, data split, optimiser, epochs and batch are as published."""
    pytest.importorskip("tensorflow")
    from train.recipes import RECIPES  # noqa: PLC0415

    recipe = RECIPES["seed"]
    network = recipe.network(10)
    shapes = [(layer.__class__.__name__, *layer.output.shape[1:]) for layer in network.layers]
    assert network.input_shape == (None, 28, 28, 1)
    assert shapes == [
        ("Conv2D", 26, 26, 32),
        ("MaxPooling2D", 13, 13, 32),
        ("Conv2D", 11, 11, 64),
        ("MaxPooling2D", 5, 5, 64),
        ("Flatten", 1600),
        ("Dense", 128),
        ("Dense", 10),
    ]
    activations = [layer.activation.__name__ for layer in network.layers if hasattr(layer, "activation")]
    assert activations == ["relu", "relu", "relu", "softmax"]
    assert (recipe.epochs, recipe.batch) == (5, 64)
    assert recipe.optimiser(100).__class__.__name__ == "Adam"
    assert np.flatnonzero(recipe.held_back(60000)).tolist() == list(range(54000, 60000))


def test_held_back_are_digits_of_both_groups_of_writers() -> None:
    """MNIST's writers take turns: as many are of even as of odd number."""
    pytest.importorskip("tensorflow")
    from train.recipes import RECIPES  # noqa: PLC0415

    held_back = RECIPES["paper"].held_back(60000)
    assert held_back[::2].sum() == held_back[1::2].sum() == 2500


def test_a_fit_leaves_a_model_that_the_watcher_serves(reference: Path, data: Path) -> None:
    """All files are there, and the watcher's own loader takes them and reads digits well above chance."""
    assert {path.name for path in reference.iterdir()} == FILES
    assert [path.name for path in reference.parent.iterdir()] == [reference.name]
    read, predict = model.load(reference)
    tested = mnist.load(data, data).limited(200)
    probabilities = predict(augmentation.as_inputs(tested.test_images)[..., 0])
    assert read.classes == tuple("0123456789")
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (probabilities.argmax(axis=1) == tested.test_labels).mean() > 0.5


def test_the_card_says_what_was_done(reference: Path, card: Mapping[str, Any], data: Path) -> None:
    """Its hashes are those of the files, its figures fit together, and its export reads as it does."""
    for name, file in card["files"].items():
        raw = (reference / name).read_bytes()
        assert file == {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    assert card["data"] == hashes(data)
    assert (card["recipe"], card["seed"], card["epochs"], card["parameters"]) == ("seed", 3, 4, 225034)
    accuracy, parity, calibrated = card["accuracy"], card["parity"], card["calibration"]["digit"]
    assert accuracy["test"] == pytest.approx(1 - accuracy["test_errors"] / accuracy["test_size"], abs=1e-6)
    assert parity["images"] == accuracy["test_size"]
    assert 0 <= parity["images"] - parity["same_digit"] <= 0.005 * parity["images"]
    assert 0 < parity["largest_difference"] < 0.2  # of 8 bits
    (trial,) = calibrated["trials"]
    assert trial["size"] == accuracy["validation_size"] == TRAINED // 10
    assert "training images held back" in trial["on"]
    wrong = round((1 - accuracy["validation"]) * trial["size"])
    assert trial["curve"][-1][1:] == [trial["size"], wrong]


def test_an_export_that_reads_otherwise_is_refused() -> None:
    """Of 1,000 digits five may come out differently, which are the doubtful ones; a sixth is a fault of the export."""
    original = np.eye(10, dtype=np.float32)[np.arange(1000) % 10]
    for differ in (0, 5, 6):
        exported = original.copy()
        exported[:differ] = np.roll(exported[:differ], 1, axis=1)
        if differ <= 5:
            assert export.compare(original, exported).same_digit == 1000 - differ
        else:
            with pytest.raises(ModelError, match="6 of 1000 images differently"):
                export.compare(original, exported)


def test_what_may_be_none_helps_no_threshold() -> None:
    """Thresholds hold without the rule that bars what may be none: of the barred the wrong count, the right do not."""
    random = np.random.default_rng(4)
    scores = random.normal(4, 4, 5000)
    right = random.random(5000) < 1 / (1 + np.exp(-scores))
    barred = random.random(5000) < np.where(right, 0.1, 0.6)
    made = shipped.made_of([shipped.Tried("drawn", 0.0, scores, right, barred)])
    (trial,) = Calibration.of(made).trials
    assert trial.size == 5000 - (barred & right).sum()
    for start, reached, wrong in trial.curve:
        high = scores >= start
        assert wrong == (high & ~right).sum()
        assert reached == (high & ~barred).sum() + (high & barred & ~right).sum()
        accepted = high & ~barred
        assert (accepted & ~right).sum() * reached <= wrong * accepted.sum()  # the share accepted wrongly is no larger
    assert made["map"] == calibration.platt(scores, right)
    poor = shipped.made_of([shipped.Tried("drawn", 0.0, scores, right, right, writings=5000)])
    assert Calibration.of(poor).trials[0].writings == Calibration.of(poor).trials[0].size == (~right).sum()
    free = shipped.made_of([shipped.Tried("drawn", 0.0, scores, right, np.zeros(5000, np.bool_))])
    assert trial.start(0.02) >= Calibration.of(free).trials[0].start(0.02)


def test_a_calibration_is_made_again_without_a_training(
    reference: Path, card: Mapping[str, Any], data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`calibrate --shipped` gives a saved network the calibration that its fit gave it, and leaves the rest alone."""
    again = Path(shutil.copytree(reference, tmp_path / "again"))
    entry = json.loads((again / "card.json").read_text())
    entry["calibration"]["digit"]["map"] = [[0, 0.1], [1, 0.2]]
    (again / "card.json").write_text(json.dumps(entry))
    assert main(["calibrate", "--shipped", "--model", str(again), "--data", str(data)]) == 0
    made = json.loads((again / "card.json").read_text())
    assert made["calibration"]["digit"]["map"] != entry["calibration"]["digit"]["map"]
    assert made | {"calibration": card["calibration"]} == card
    assert "digit: calibrated on" in capfd.readouterr().out
    # Of all of MNIST more is held back than of what the fit was limited to.
    shipped.calibrate_shipped(again, mnist.load(data, data).limited(TRAINED), print)
    assert json.loads((again / "card.json").read_text()) == card


def test_a_calibration_on_what_was_trained_on_is_refused(
    reference: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A network for which other images were held back than its recipe holds back now knows those."""
    old = Path(shutil.copytree(reference, tmp_path / "old"))
    entry = json.loads((old / "card.json").read_text(encoding="utf-8"))
    assert entry.pop("held_back") == "last_tenth"
    fields = {"held_back": "last_tenth", "fields": {"data": entry["data"], "held_back": "every_twelfth"}}
    for before in ({}, {"held_back": "every_twelfth"}, fields):
        (old / "card.json").write_text(json.dumps(entry | before), encoding="utf-8")
        assert main(["calibrate", "--shipped", "--model", str(old), "--data", str(data)]) == 1
        assert "other images were held back" in capfd.readouterr().err
        assert json.loads((old / "card.json").read_text(encoding="utf-8")) == entry | before


def test_a_calibration_on_other_data_is_refused(
    reference: Path, drawn: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A network is not calibrated on data that it may have been trained on: other MNIST files than its card names."""
    other = Path(shutil.copytree(drawn, tmp_path / "other"))
    labels = other / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\0")
    (other / "t10k-labels-idx1-ubyte").write_bytes(idx(np.ones(200, np.uint8)))
    assert main(["calibrate", "--shipped", "--model", str(reference), "--data", str(other)]) == 1
    assert "trained on other data" in capfd.readouterr().err


def test_the_history_has_a_row_for_each_epoch(reference: Path) -> None:
    """Training and validation, accuracy and loss, each epoch; the loss falls."""
    with (reference / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss", "seconds"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_the_pictures_are_pictures(reference: Path) -> None:
    """Each figure is a PNG of a size that can be read, and not empty."""
    for path in reference.glob("*.png"):
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        assert min(image.shape) > 300
        assert image.std() > 5


def test_a_fit_stopped_between_its_networks_changes_nothing(reference: Path, drawn: Path, tmp_path: Path) -> None:
    """The default fit, until its digits are done: a model in itself, with a line for each epoch of each network.

    They do not come in before their fields are: Ctrl-C in between leaves the model that was there.
    """
    out = Path(shutil.copytree(reference, tmp_path / "model"))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    few = ["--data", str(drawn), "--out", str(out), "--limit", "240", "--epochs", "1"]
    with subprocess.Popen(
        # Tests that run in the background of a script ignore the signal, and so would what they start.
        ["env", "--default-signal=INT", sys.executable, "-m", "train", "fit", *few],
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = list(itertools.takewhile(lambda line: not line.startswith("making"), process.stdout))
        assert any(line.startswith("test ") for line in said)  # the digits are done
        (stage,) = out.glob(".stage-*")
        digits = shutil.copytree(stage, tmp_path / "digits")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 1
    assert "Stopped." in error
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [line.split()[:2] for line in said if line.startswith("epoch")] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert list((tmp_path / "cache" / "digitdrop" / "rendered").glob("*.npz"))
    read, _ = model.load(digits)
    assert read.name.startswith("paper-")
    assert read.classes == (*"0123456789", "none")
    clean, worn = read.digit.trials
    assert (clean.floor, worn.floor) == (0.0, shipped.FLOOR)
    for trial, least in ((clean, 0.9 * shipped.SCANS * 20), (worn, 0.7 * shipped.WORN * 20)):
        made = int(trial.on.split()[0])
        assert made > least
        assert 0 < trial.size <= made  # those that may be none, and are read right, are not counted


# The command line


def test_data_that_is_not_there_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The message names the folder and the remedy, and the exit code is 1."""
    assert main(["fit", "--data", str(tmp_path), "--out", str(tmp_path / "model")]) == 1
    error = capfd.readouterr().err
    assert str(tmp_path) in error
    assert "--data" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--recipe", "seed", "--extra", "own"], "--recipe is not for fit with --extra"),
        (["--only", "fields", "--epochs", "3", "--extra", "own"], "--only and --epochs are not for fit with --extra"),
        (["--model", "model", "--folds", "3"], "--model and --folds are not for fit without --extra"),
        (["--only", "fields", "--recipe", "seed"], "--recipe seed is of digits"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    options: list[str], why: str, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What `fit` would not heed, with or without --extra, is wrong usage: the exit code is 2."""
    assert main(["fit", "--data", str(data), *options]) == 2
    assert why in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--recipe", "large"], "(choose from paper, compact, seed)"),
        (["--seed", "-1"], "-1 is not from 0 to 2147483647"),
    ],
)
def test_what_no_option_takes(options: list[str], why: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The exit code is 2 before anything is loaded, and the message names what there is."""
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--data", "nowhere", *options])
    assert stopped.value.code == 2
    assert why in capfd.readouterr().err.replace("'", "")


def test_the_recipes_are_those_there_are() -> None:
    """The command line names them without TensorFlow."""
    pytest.importorskip("tensorflow")
    from train.__main__ import RECIPES as NAMED  # noqa: PLC0415
    from train.recipes import RECIPES  # noqa: PLC0415

    assert tuple(RECIPES) == NAMED


def test_too_few_images_for_fields(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a held-back image of each digit there is nothing to calibrate fields with: said with what to do."""
    pytest.importorskip("tensorflow")
    assert main(["fit", "--data", str(data), "--out", str(tmp_path / "model"), "--limit", "100"]) == 2
    assert "--only digits" in capfd.readouterr().err


def test_networks_that_cannot_stand_side_by_side(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What stays in a folder has to have learnt of the same images: said by the folder's own name, before hours."""
    pytest.importorskip("tensorflow")
    out = tmp_path / "model"
    fit = ["fit", "--data", str(data), "--out", str(out), "--limit", "1000", "--only"]
    assert main([*fit, "fields"]) == 78
    assert f"{out} holds no digit network yet" in capfd.readouterr().err
    assert not out.exists()
    shutil.copytree(ROOT / "model", out)
    card = json.loads((out / "card.json").read_text(encoding="utf-8"))
    card["data"] = card["fields"]["data"] = hashes(data)
    others = {"data": {"train-images-idx3-ubyte": "of others"}, "held_back": "every_twelfth"}
    for name, said in (("data", "was trained on other data"), ("held_back", "was trained when other images were held")):
        for part, only, why in (
            (card["fields"], "digits", "holds a network for fields of other data"),
            (card, "fields", said),
        ):
            kept, part[name] = part[name], others[name]
            (out / "card.json").write_text(json.dumps(card), encoding="utf-8")
            before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
            assert main([*fit, only]) == 1
            assert f"{out} {why}" in capfd.readouterr().err
            assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
            part[name] = kept


@pytest.mark.parametrize(("held_back", "kept"), [("every_twelfth_pair", True), ("last_tenth", False)])
def test_fields_stay_where_the_same_is_held_back(held_back: str, kept: bool, tmp_path: Path) -> None:
    """A digit network takes over the fields that were beside the last one only if both know the same images."""
    pytest.importorskip("tensorflow")
    from train.fit import _keep_fields  # noqa: PLC0415

    path = Path(shutil.copy(ROOT / "model" / "card.json", tmp_path))
    data = json.loads(path.read_text(encoding="utf-8"))["data"]
    entry: dict[str, Any] = {"data": data, "held_back": held_back, "files": {}, "calibration": {}}
    _keep_fields(path, entry)
    assert ("fields" in entry, "field" in entry["calibration"], "fields.tflite" in entry["files"]) == (kept,) * 3


@pytest.mark.parametrize("command", [["fit"], ["calibrate", "--shipped", "--model", str(ROOT / "model")]])
def test_without_tensorflow(command: list[str], drawn: Path) -> None:
    """What needs it says in one line how to get it: from here, not by its name from wherever pip looks."""
    program = "import sys; sys.modules.update(tensorflow=None, keras=None); from train.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command, "--data", str(drawn)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.fullmatch(r"digitdrop-train: .* needs \w+; install it with 'make install-train', .*\n", done.stderr)


@pytest.mark.parametrize("module", ["benchmarks.paper", "benchmarks.fields", "train"])
def test_what_needs_no_tensorflow(module: str) -> None:
    """What only reads runs where `make run` alone was installed."""
    program = (
        f"import sys; sys.modules.update(tensorflow=None, keras=None); sys.argv[1:] = ['--help']\n"
        f"import runpy; runpy.run_module({module!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--limit", "many"], ["bake"], ["evaluate"]])
def test_wrong_usage_ends_with_2(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """What argparse refuses ends with its usage and exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: digitdrop-train" in capfd.readouterr().err


def test_too_small_a_limit_is_wrong_usage(capfd: pytest.CaptureFixture[str]) -> None:
    """A training on five images is refused before anything is loaded."""
    assert main(["fit", "--limit", "5"]) == 2
    assert "--limit 5" in capfd.readouterr().err


# Evaluating


def test_labelled_crops_are_evaluated(
    crops: Path, reference: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The report counts by source, the reference stands beside, and the files agree with what is printed."""
    out = tmp_path / "report"
    arguments = ["--model", str(reference), "--reference", str(reference), "--out", str(out)]
    assert main(["evaluate", str(crops), *arguments]) == 0
    report = json.loads((out / "report.json").read_text())
    assert {path.name for path in out.iterdir()} == set(evaluate.FILES)
    assert report["crops"] == 32
    assert report["numbers"]["size"] == report["reference"]["numbers"]["size"] == 30
    assert {name: part["size"] for name, part in report["by_source"].items()} == {"kitchen": 20, "office": 10}
    assert report["blank"] == {"blank": 1}
    assert sum(report["not_digits"].values()) == 1
    counts = np.array(report["confusion"]["counts"])
    assert counts.sum() == 30
    assert np.trace(counts) == report["numbers"]["right"]
    with (out / "crops.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 32
    assert sum(row["right"] == "1" for row in rows if row["value"].isdigit()) == report["numbers"]["right"]
    assert [row["right"] for row in rows] == sorted(row["right"] for row in rows)  # the misses first
    printed = capfd.readouterr().out
    assert f"{report['numbers']['accuracy']:.2%}" in printed
    assert f"{report['reference']['numbers']['accuracy']:.2%}" in printed


@pytest.mark.parametrize(
    ("share", "shown"), [(1.0, "100.0%"), (0.99996, "99.9%"), (0.9994, "99.9%"), (0.995, "99.5%"), (0.0, "0.0%")]
)
def test_all_is_said_of_all_alone(share: float, shown: str) -> None:
    """Where one is wrong, or a confidence is not full, no rounding makes 100% of it."""
    assert percent(share, 1) == shown


def test_the_table_says_where_a_name_is_cut() -> None:
    """A source that is too long for its column ends in an ellipsis; of 25,000 with one wrong none has all right."""
    results = [
        evaluate.Result(Crop("1.png", "1", source), Reading("accepted", "7" if number == 0 else "1", 0.999, score=7.0))
        for source in ("kitchen-upstairs", "kitchen-cellars")
        for number in range(25_000)
    ]
    lines = evaluate.table(
        evaluate.report(results, 0.01, card_with(Trial("drawn", 9, 0.0, ((4.0, 9, 0),))))
    ).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["kitchen-cellars", "kitchen-upstai…", "all"]
    assert [line.split()[3] for line in lines[1:4]] == ["99.99%"] * 3


def test_pictures_say_what_they_show() -> None:
    """The confusion is one of single digits, and its title says so; a legend has the marks that are in its plot."""
    counts, rows, columns = evaluate.confusion([evaluate.Result(Crop("12.png", "12"), Reading("accepted", "12", 0.9))])
    (axes,) = plots.confusion(counts, rows, columns, evaluate.CONFUSION).axes
    assert "single digit" in axes.get_title(loc="left")
    assert "there are none" in {text.get_text() for text in axes.texts}
    line = np.array([0.9, 0.8, 0.7]), np.array([True, True, False])
    marks = {0.001: (0.0, 0.0), 0.01: (2 / 3, 0.0)}
    (axes,) = plots.risk_coverage({"now": line}, {"now": marks}, "drawn").axes
    legend = axes.get_legend_handles_labels()[1]
    assert [label for label in legend if "max_error" in label] == ["accepted at max_error 1%"]


def card_with(*trials: Trial) -> model.Card:
    """A card of nothing but a calibration of digits on some trials."""
    return model.Card(Path("x"), "x", ("0",), Calibration(((-4.0, 0.02), (4.0, 0.98)), trials), None)


def test_coverage_and_error_are_counted_by_what_was_accepted() -> None:
    """Accepted values count as they were judged; promises by the threshold that each would have had."""
    readings = (
        Reading("accepted", "1", 0.999, score=7.0),
        Reading("accepted", "7", 0.99, score=5.0),
        Reading("review", "1", 0.9, score=3.0),
        Reading("review", "1", 0.999, reason="rule:length"),
        Reading("failed"),
    )
    results = [
        evaluate.Result(Crop("1.png", "1"), reading, field) for reading, field in zip(readings, "aabbb", strict=True)
    ]
    card = card_with(Trial("drawn", 10_000, 0.0, ((4.0, 5000, 5), (2.0, 10_000, 300))))
    summary = evaluate.report(results, 0.01, card)
    assert summary["numbers"]["right"] == 3
    accepted = summary["numbers"]["accepted"]
    assert (accepted["size"], accepted["share"], accepted["wrong"], accepted["error"]) == (2, 0.4, 1, 0.5)
    assert accepted["error_interval"] == pytest.approx(calibration.wilson(1, 2), abs=1e-6)
    assert {name: part["size"] for name, part in summary["by_field"].items()} == {"a": 2, "b": 3}
    assert [row["size"] for row in summary["promises"]] == [0, 0, 2, 2, 2, 3]
    assert summary["promises"][0]["threshold"] == {"digit": None}
    # What cannot be accepted counts as the least sure, in no order: of the two one is right.
    assert summary["area_under_risk_coverage"] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1.5 / 4 + 2 / 5) / 5, abs=1e-6)
    assert summary["status"] == {"accepted": 2, "failed": 1, "review": 2}
    assert summary["reason"] == {"rule:length": 1}


def test_a_missing_model_ends_with_78(crops: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As in the watcher, a model that is not there is a wrong set-up."""
    assert main(["evaluate", str(crops), "--model", str(tmp_path)]) == 78
    assert str(tmp_path) in capfd.readouterr().err
