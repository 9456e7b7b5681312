"""Rendered samples: strokes, pens and paper, and what the normaliser makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from train import hands, nothing, pool, render
from watcher.normalise import Ink, normalise

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from train.mnist import Images, Labels


def mnist_like(count: int) -> tuple[Images, Labels]:
    """Digits in MNIST's format, written with strokes of our own: (n, 28, 28) and labels."""
    rng = np.random.default_rng(5)
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = np.zeros((count, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        ink = render.drawn(hands.digit(str(label), rng), rng)
        scale = 20 / max(ink.shape)
        size = max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale))
        small = cv2.resize(ink, size, interpolation=cv2.INTER_AREA)
        top, left = (28 - size[1]) // 2, (28 - size[0]) // 2
        image[top : top + size[1], left : left + size[0]] = np.rint(255 * small)
    return images, labels


def on_plain_paper(ink: render.Ink) -> Ink | None:
    """What the normaliser finds of writing in black on white, with paper all round."""
    margin = render.TALL // 3
    canvas = cv2.copyMakeBorder(ink, margin, margin, margin, margin, cv2.BORDER_CONSTANT)
    return normalise(np.rint(245 - 205 * canvas).astype(np.uint8))


def holes(picture: NDArray[np.float32]) -> int:
    """How many patches of paper the ink encloses, at four times the size."""
    large = cv2.resize(picture, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    paper = (cv2.copyMakeBorder(large, 4, 4, 4, 4, cv2.BORDER_CONSTANT) < 0.4).astype(np.uint8)
    areas = cv2.connectedComponentsWithStats(paper, connectivity=4)[2][1:, cv2.CC_STAT_AREA]
    return int((areas > 12).sum()) - 1


def never(images: Images) -> NDArray[np.floating]:
    """A judge that sees no digit anywhere."""
    return np.zeros(len(images))


@pytest.mark.parametrize("digit", list("0123456789"))
def test_every_hand_s_digit_is_found_where_it_was_written(digit: str) -> None:
    """Whatever the pen, slant and aspect: the normaliser finds ink, all of it, and fills its frame with it."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        ink = render.drawn(hands.digit(digit, rng), rng)
        found = on_plain_paper(ink)
        assert found is not None
        height, width = ink.shape
        margin = render.TALL // 3
        assert render.agree(found.box, (margin, margin, width, height))
        rows, columns = np.flatnonzero(found.image.max(axis=1) > 0.2), np.flatnonzero(found.image.max(axis=0) > 0.2)
        assert 17 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 21


@pytest.mark.parametrize(("digit", "expected"), [("1", 0), ("2", 0), ("5", 0), ("7", 0), ("3", 0)])
def test_strokes_without_a_loop_close_none(digit: str, expected: int) -> None:
    """Most ways of writing a digit keep its topology through pen, paper and normaliser."""
    counts = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        found = on_plain_paper(render.drawn(hands.digit(digit, rng), rng))
        assert found is not None
        counts.append(holes(found.image))
    assert np.mean([count == expected for count in counts]) >= 0.6


def test_a_zero_keeps_its_loop_and_an_eight_both() -> None:
    """A 0 encloses paper in nearly every hand; an 8 mostly twice."""
    counts: dict[str, list[int]] = {"0": [], "8": []}
    for digit, found in counts.items():
        for seed in range(30):
            rng = np.random.default_rng(seed)
            ink = on_plain_paper(render.drawn(hands.digit(digit, rng), rng))
            assert ink is not None
            found.append(holes(ink.image))
    assert np.mean(np.array(counts["0"]) >= 1) > 0.8
    assert np.mean(np.array(counts["8"]) >= 1) > 0.6


def test_the_flag_of_a_one_rises_to_its_top() -> None:
    """The flag starts at the top of the stem and goes down to the left of it: so it is no bar of a 7."""
    for seed in range(200):
        flag, stem = hands.one(np.random.default_rng(seed))[:2]
        assert tuple(flag[-1]) == tuple(stem[0]) == (0, 0)
        assert flag[0, 0] < 0 < flag[0, 1] < stem[-1, 1]


def test_the_bar_of_a_seven_is_level() -> None:
    """However wavy: it ends far to the right of its start, and about as high."""
    for seed in range(200):
        bar, stem = hands.seven(np.random.default_rng(seed))[:2]
        assert abs(bar[-1, 1] - bar[0, 1]) < 0.5 * (bar[-1, 0] - bar[0, 0])
        assert tuple(bar[-1]) == tuple(stem[0])


def test_the_same_generator_renders_the_same_page() -> None:
    """Everything random comes from the generator that is passed."""
    images, labels = mnist_like(10)
    pages = []
    for _ in range(2):
        rng = np.random.default_rng(3)
        ink = render.written(images[7], int(labels[7]), rng)
        pages.append(render.page(ink, [ink], rng))
    assert pages[0][1] == pages[1][1]
    assert np.array_equal(pages[0][0], pages[1][0])


def test_pages_are_of_many_kinds() -> None:
    """Grey and coloured, dark on light and light on dark, small and large; and the box lies on the page."""
    images, labels = mnist_like(10)
    seen: set[str] = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        page, (x, y, w, h) = render.page(render.written(images[seed % 10], int(labels[seed % 10]), rng), [], rng)
        assert page.dtype == np.uint8
        assert x >= 0 <= y
        assert x + w <= page.shape[1] + 1
        assert y + h <= page.shape[0] + 1
        seen.add("colour" if page.ndim == 3 else "grey")
        seen.add("small" if page.shape[0] < 60 else "large" if page.shape[0] > 150 else "middling")
        seen.add("light" if page.mean() > 128 else "dark")
    assert seen == {"colour", "grey", "small", "middling", "large", "light", "dark"}


@pytest.mark.parametrize("kind", list(nothing.KINDS))
def test_every_kind_of_nothing_is_written(kind: str) -> None:
    """Each kind leaves ink, and most of it comes back from the normaliser."""
    images, labels = mnist_like(40)
    found = []
    for seed in range(20):
        ink = nothing.nothing(images, labels, np.random.default_rng(seed), kind)
        assert ink.max() > 0.5
        found.append(on_plain_paper(ink) is not None)
    assert np.mean(found) > 0.6


def test_an_unknown_kind_of_nothing_is_an_error() -> None:
    """The message names the kinds there are."""
    images, labels = mnist_like(10)
    with pytest.raises(ValueError, match=r"stamp is none of letter, .*pair"):
        nothing.nothing(images, labels, np.random.default_rng(1), "stamp")


def test_a_slice_has_digits_of_all_hands_and_nothings() -> None:
    """A slice rendered twice is the same: images as the network takes them, mostly digits, some of no digit."""
    images, labels = mnist_like(80)
    task = pool.Task(images, labels, (1, 0, 0))
    first, second = pool.render_slice(task), pool.render_slice(task)
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(first.classes, second.classes)
    assert first.images.shape[1:] == (28, 28)
    assert first.images.dtype == np.uint8
    assert set(range(10)) | {pool.NONE} == set(first.classes.tolist())
    assert 0.05 < float((first.classes == pool.NONE).mean()) < 0.3
    assert (first.classes[first.doubtful] == pool.NONE).all()


def test_what_looks_like_a_digit_is_no_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubtful samples that the judge takes for a digit are left out, all else is kept; the cache serves both."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images, labels = mnist_like(60)
    kept, classes = pool.pool(images, labels, 1, 1, never)
    fewer, others = pool.pool(images, labels, 1, 1, lambda some: np.ones(len(some)))
    assert len(list((tmp_path / "digitdrop" / "rendered").iterdir())) == 1
    assert 0 < int((others == pool.NONE).sum()) < int((classes == pool.NONE).sum())
    assert np.array_equal(fewer[others != pool.NONE], kept[classes != pool.NONE])
