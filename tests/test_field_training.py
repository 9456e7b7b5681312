"""The fields that are made to train on, and the network that learns to read along a line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.fields import SEEDS, share
from train import ctc
from train import lines as line_pool
from train import pool as digit_pool
from train.fields import GAPS, field, plain
from train.hands import figure
from train.lines import Task, lines_of, long_enough, make_slice, pool
from train.processor import FusedBatchNormalization, fused
from train.styles import STYLES
from watcher.decoding import BLANK, CLASSES, Candidate
from watcher.errors import ModelError
from watcher.line import HEIGHT, normalise_line
from watcher.model import load_fields, read_card

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from train.mnist import Images, Labels
    from watcher.decode import Page

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "model"


@pytest.fixture(scope="module")
def digits() -> tuple[Images, Labels]:
    """Ten drawn digits of each kind, as MNIST has them."""
    rng = np.random.default_rng(3)
    images, labels = [], []
    for label in range(10):
        for _ in range(10):
            image = np.zeros((28, 28), np.uint8)
            at = 6 + int(rng.integers(-1, 2)), 22 + int(rng.integers(-1, 2))
            cv2.putText(image, str(label), at, cv2.FONT_HERSHEY_SIMPLEX, 0.75, 255, 2, cv2.LINE_AA)
            images.append(image)
            labels.append(label)
    return np.array(images), np.array(labels, np.uint8)


def test_a_seed_makes_the_same_fields(digits: tuple[Images, Labels]) -> None:
    """The same seed gives the same pictures and values, another one others."""
    first, again, other = (
        [field(*digits, np.random.default_rng([seed, index])) for index in range(12)] for seed in (1, 1, 2)
    )
    assert [value for _, value in first] == [value for _, value in again]
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    assert [value for _, value in first] != [value for _, value in other]


def test_a_share_is_counted_over_seeds(digits: tuple[Images, Labels]) -> None:
    """What is measured of strings is pooled over several draws, each of other strings."""
    drawn: list[str] = []

    def made(rng: np.random.Generator) -> tuple[Page, str]:
        page, value = plain(*digits, 6, rng)
        drawn.append(value)
        return page, value

    def seen(_: object) -> tuple[NDArray[np.float32], list[Candidate]]:
        return np.zeros((1, CLASSES), np.float32), [Candidate(drawn[0], 0.0)]

    assert share(made, seen, 4, SEEDS) == (1, 4 * len(SEEDS))
    assert len(SEEDS) > 1
    assert len(set(drawn)) == len(drawn)


def test_fields_are_of_all_kinds(digits: tuple[Images, Labels]) -> None:
    """Among some hundred there are single digits, long numbers, none at all, each digit, bright ink and dark."""
    made = [field(*digits, np.random.default_rng([5, index])) for index in range(300)]
    values = [value for _, value in made]
    assert {len(value) for value in values} >= {0, 1, 2, 3, 4, 5, 6, 7, 8}
    assert set("".join(values)) == set("0123456789/")
    assert all(page.dtype == np.uint8 and min(page.shape[:2]) >= 8 for page, _ in made)
    means = [float(page.mean()) for page, _ in made]
    assert min(means) < 90
    assert max(means) > 200


def test_slashes_are_told_to_learn_from_and_not_to_judge_by(digits: tuple[Images, Labels]) -> None:
    """What a field says has its slashes where they stand; what it is measured by has digits alone, strangely drawn."""
    same = []
    for index in range(120):
        seeds = [np.random.default_rng([5, index]) for _ in "ab"]
        (page, text), (judged, value) = field(*digits, seeds[0]), field(*digits, seeds[1], to_judge=True)
        assert set(value) <= set("0123456789")
        if "/" in text:
            assert value == text.replace("/", "")
            same.append(np.array_equal(page, judged))
    assert len(same) >= 3
    assert not all(same)


def test_hands_to_judge_by_stray_further() -> None:
    """A figure is as far from its skeleton as is asked for, the same way for the same seed."""
    way = STYLES["4"][0]
    still, usual, strange = (np.concatenate(figure((way,), np.random.default_rng(2), stray)) for stray in (0, 1, 1.5))
    assert np.abs(usual - still).max() > 0.005
    assert strange - still == pytest.approx(1.5 * (usual - still))


@pytest.mark.parametrize(("digit", "way"), [(digit, way) for digit, ways in STYLES.items() for way in ways])
def test_each_way_to_write_is_of_about_unit_height(digit: str, way: str) -> None:
    """Each skeleton gives strokes of a figure: as high as a digit, no wider, and of a digit that there is."""
    assert digit in "0123456789"
    points = np.concatenate(figure((way,), np.random.default_rng(1)))
    low, high = points.min(axis=0), points.max(axis=0)
    assert np.abs(points).max() < 1.3
    assert 0.6 < high[1] - low[1] < 1.3
    assert high[0] - low[0] < 1.1


def test_strings_keep_their_gaps(digits: tuple[Images, Labels]) -> None:
    """Spaced digits stand apart in as many pieces; touching ones do not all."""
    pieces = {}
    for name, gap in GAPS.items():
        found = 0
        for index in range(20):
            page, value = plain(*digits, 4, np.random.default_rng(index), gap)
            assert len(value) == 4
            columns = (page < 128).any(axis=0)
            found += int((np.diff(columns.astype(int)) == 1).sum())
        pieces[name] = found
    assert pieces["spaced"] >= 80
    assert pieces["touching"] < pieces["tight"] <= pieces["spaced"]


def test_the_pool_is_what_the_watcher_would_see(digits: tuple[Images, Labels]) -> None:
    """Each line is its page through the line normaliser that serves, and long enough to be learnt."""
    lines = make_slice(Task(*digits, (9,), 15))
    assert 10 <= len(lines) <= 15
    pages = [field(*digits, np.random.default_rng([9, index])) for index in range(15)]
    found = [(normalise_line(page), value) for page, value in pages]
    expected = [
        (np.rint(line.image * 255).astype(np.uint8), value)
        for line, value in found
        if line is not None and long_enough(line.image.shape[1], value)
    ]
    assert [value for _, value in expected] == list(lines.values)
    assert all(np.array_equal(a, b) for (a, _), b in zip(expected, lines.planes, strict=True))


def test_fields_to_judge_by_are_kept_as_the_watcher_has_them(
    digits: tuple[Images, Labels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, or taken from the cache, each has the line that digits are cut from beside what the network sees."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made, kept = pool(*digits, 9, 12, to_judge=True), pool(*digits, 9, 12, to_judge=True)
    pages = [field(*digits, np.random.default_rng([9, 0, index]), to_judge=True) for index in range(12)]
    found = [line for page, _ in pages if (line := normalise_line(page)) is not None]
    assert len(made) == len(found)
    for i, line in enumerate(found):
        for judged in (made[i], kept[i]):
            assert judged.image == pytest.approx(line.image, abs=1 / 500)
            assert judged.finer() == pytest.approx(line.finer(), abs=1 / 500)


def test_kept_fields_are_those_of_the_labels(
    digits: tuple[Images, Labels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other labels the fields are made anew; so they are where what was kept is damaged."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images, labels = digits
    first, other = pool(images, labels, 1, 12), pool(images, 9 - labels, 1, 12)
    assert first.values != other.values
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    assert pool(images, labels, 1, 12).values == first.values


@pytest.mark.parametrize("module", [line_pool, digit_pool])
def test_what_is_kept_is_of_the_code(module: ModuleType) -> None:
    """All that making a sample and taking it back runs is in the name that it is kept under."""
    program = f"import sys, {module.__name__}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    own = {name for name in done.stdout.split() if name.startswith(("train.", "watcher."))} - {"train.cache"}
    assert own == {source.removesuffix(".py").replace("/", ".") for source in module.SOURCES}


def test_the_network_takes_lines_of_any_width() -> None:
    """Two steps for each four pixels of each of its members, each a distribution over the classes."""
    network = ctc.field_network()
    for width in (8, 64, 300):
        said = network(np.random.default_rng(1).random((1, HEIGHT, width, 1), np.float32)).numpy()
        assert said.shape == (1, ctc.MEMBERS, ctc.steps_of(width), CLASSES)
        assert said.sum(axis=3) == pytest.approx(1, abs=1e-4)


def test_members_share_their_trunk_alone() -> None:
    """Any weight behind the trunk changes what one member says and leaves the other; any of the trunk changes both."""
    network = ctc.field_network()
    line = np.random.default_rng(1).random((1, HEIGHT, 64, 1), np.float32)
    before = network(line).numpy()
    changed = []
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kept = layer.get_weights()
            layer.set_weights([np.zeros_like(weights) for weights in kept])
            after = network(line).numpy()
            changed.append(tuple(not np.array_equal(before[:, i], after[:, i]) for i in range(ctc.MEMBERS)))
            layer.set_weights(kept)
    own = len(ctc.BRANCH) + 4
    assert changed.count((True, True)) == len(ctc.TRUNK)
    assert changed.count((True, False)) == changed.count((False, True)) == own


def test_a_fused_network_is_the_same() -> None:
    """In training and after it they give the same, learn the same, and leave the same statistics behind."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(3, 2, (5, 8, 12, 16)).astype(np.float32)
    wanted = rng.normal(0, 1, inputs.shape).astype(np.float32)
    own = keras.Sequential([keras.layers.Input(inputs.shape[1:]), keras.layers.BatchNormalization(momentum=0.95)])
    own.set_weights([np.linspace(0.5, 2, 16), np.linspace(-1, 1, 16), np.zeros(16), np.ones(16)])
    network = fused(own)
    network.set_weights(own.get_weights())
    assert isinstance(network.layers[0], FusedBatchNormalization)
    found = []
    for one in (own, network):
        with tf.GradientTape() as tape:
            variable = tf.Variable(inputs)
            trained = one(variable, training=True)
            loss = tf.reduce_mean(tf.square(trained - wanted))
        learnt = tape.gradient(loss, [variable, *one.trainable_variables])
        found.append([trained, *learnt, *one.get_weights(), one(inputs, training=False)])
    for keras_own, ours in zip(*found, strict=True):
        assert np.asarray(ours) == pytest.approx(np.asarray(keras_own), rel=1e-3, abs=1e-3)


def test_only_what_gets_faster_is_fused() -> None:
    """Channels in sixteens."""
    shape = keras.layers.Input((8, 12, 24))
    (layer,) = fused(keras.Sequential([shape, keras.layers.BatchNormalization()])).layers
    assert not isinstance(layer, FusedBatchNormalization)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own, as it saves
def test_a_network_with_other_classes_is_refused(tmp_path: Path) -> None:
    """A network from before slashes had a class is told by what it has and what is needed, with what to do."""
    inputs = keras.layers.Input((HEIGHT, None, 1))
    steps = keras.layers.Conv2D(4 * 11, (HEIGHT, 4), strides=(1, 4))(inputs)
    old = keras.Model(inputs, keras.layers.Softmax()(keras.layers.Reshape((2, -1, 11))(steps)))
    old.save(tmp_path / "fields.keras")
    card = read_card(MODEL)
    with pytest.raises(ModelError, match="has 11 outputs, a network for fields has 12; make the model again"):
        load_fields(replace(card, field_file=tmp_path / "fields.keras"))


def test_the_loss_is_that_of_all_paths() -> None:
    """Of two steps the loss of "1" is that of the paths 1-, -1 and 11, and of no digit that of two blanks."""
    odds = np.full((2, 1, 2, CLASSES), 1e-9, np.float32)
    odds[..., 1], odds[..., BLANK] = 0.3, 0.7
    steps = np.array([2, 2], np.int32)
    one = ctc.loss_of(odds[:1], steps[:1], np.array([[1]], np.int32))
    assert float(one) == pytest.approx(-np.log(2 * 0.3 * 0.7 + 0.3 * 0.3), abs=1e-3)
    none = ctc.loss_of(odds[:1], steps[:1], np.array([[-1]], np.int32))
    assert float(none) == pytest.approx(-2 * np.log(0.7), abs=1e-3)


def test_each_member_answers_for_itself() -> None:
    """The loss of several members is the sum of theirs, line by line: none learns to rely on the others."""
    odds = np.random.default_rng(1).dirichlet(np.ones(CLASSES), (3, 2, 9)).astype(np.float32)
    steps, digits = np.array([9, 7, 8], np.int32), np.array([[1, 2], [3, -1], [-1, -1]], np.int32)
    alone = [float(ctc.loss_of(odds[:, [member]], steps, digits)) for member in range(2)]
    assert float(ctc.loss_of(odds, steps, digits)) == pytest.approx(sum(alone), rel=1e-5)


def test_batches_hold_each_line_once(digits: tuple[Images, Labels]) -> None:
    """An epoch shows each line once, padded on the right and never cut."""
    lines = make_slice(Task(*digits, (4,), 60))
    batches = ctc.batches_of(lines, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lines)))
    for indices in batches:
        inputs, steps, values, counts = ctc.batch_of(lines, indices, np.random.default_rng(1))
        assert inputs.shape[1:] == (HEIGHT, inputs.shape[2], 1)
        assert (steps <= ctc.steps_of(inputs.shape[2])).all()
        assert (values >= 0).sum(axis=1).tolist() == counts.tolist()
        assert [len(lines.values[i]) for i in indices] == counts.tolist()
        assert (steps >= counts).all()


def test_a_network_learns_to_read(digits: tuple[Images, Labels]) -> None:
    """Some hundred steps on short strings bring the loss down to a fraction."""
    keras.utils.set_random_seed(1)
    lines = lines_of(plain(*digits, 2, np.random.default_rng(index), GAPS["spaced"]) for index in range(96))
    assert len(lines) == 96
    history = ctc.train(
        ctc.field_network(), lines, lambda _: keras.optimizers.Adam(2e-3), epochs=12, seed=1, say=lambda _: None
    )
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
