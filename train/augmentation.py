"""MNIST digits as other hands, pens and scanners would have made them. Pure: arrays in, arrays out."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Inputs = NDArray[np.float32]
"""(n, 28, 28, 1), 0 paper to 1 ink: what the network is given."""

SIZE = 28
ROTATION = np.deg2rad(17)  # at most, to either side
SLANT = 0.3  # at most, as the tangent of the angle
ZOOM = 0.18  # at most, of width and of height, each on its own
SHIFT = 2.2  # pixels at most: the normaliser centres by mass, so more would be wasted
ELASTIC = 0.9  # pixels of standard deviation at most, of the nodes of a bent grid
NODES = 6  # of that grid, along each side
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def as_inputs(images: Images) -> Inputs:
    """Scale images to the network's input, (n, 28, 28) of 0 to 255 to (n, 28, 28, 1) of 0 to 1."""
    return np.divide(images[..., np.newaxis], 255, dtype=np.float32)


def augment(images: Images, rng: np.random.Generator) -> Inputs:
    """Bend, thicken, thin, blur and damage each image at random.

    Geometry is one resampling for all of it, since each resampling blurs the strokes. What it may do was
    chosen by what a normaliser leaves of real scans, not by any test set.
    """
    x, y = _geometry(len(images), rng)
    bent = np.stack(
        [
            cv2.remap(image, x[i], y[i], cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
            for i, image in enumerate(images)
        ]
    )
    return as_inputs(np.stack([_scanned(image, rng) for image in bent]))


def _geometry(count: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where each pixel of each of `count` images is taken from: two arrays (count, 28, 28) of pixels."""
    angle, slant = rng.uniform(-ROTATION, ROTATION, count), rng.uniform(-SLANT, SLANT, count)
    zoom_x, zoom_y = np.exp(rng.uniform(-ZOOM, ZOOM, (2, count)))
    cos, sin = np.cos(angle), np.sin(angle)
    # Rotation after slant after zoom, all about the centre.
    matrix = np.stack([cos / zoom_x, (cos * slant - sin) / zoom_y, sin / zoom_x, (sin * slant + cos) / zoom_y])
    centre = (SIZE - 1) / 2
    grid_y, grid_x = np.mgrid[:SIZE, :SIZE] - centre
    a, b, c, d = matrix[:, :, np.newaxis, np.newaxis]
    shift_x, shift_y = rng.uniform(-SHIFT, SHIFT, (2, count, 1, 1))
    strength = rng.uniform(0, ELASTIC, (count, 1, 1))
    bend_x, bend_y = (_smooth(rng.standard_normal((count, NODES, NODES)) * strength) for _ in "xy")
    x = a * grid_x + b * grid_y + shift_x + bend_x + centre
    y = c * grid_x + d * grid_y + shift_y + bend_y + centre
    return x.astype(np.float32), y.astype(np.float32)


def _smooth(nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spread displacements at the nodes of a grid over all pixels, by cubic interpolation."""
    return _basis() @ nodes @ _basis().T


@cache
def _basis() -> NDArray[np.float64]:
    """How much each of 28 pixels takes from each node, (28, NODES)."""
    return np.asarray(cv2.resize(np.eye(NODES), (NODES, SIZE), interpolation=cv2.INTER_CUBIC))


def _scanned(image: Images, rng: np.random.Generator) -> Images:
    """One image as another pen and a poorer scan would show it."""
    pen, blur, damage, fade = rng.random(4)
    if pen < 0.25:
        image = _towards(image, cv2.dilate(image, _CROSS), rng.uniform(0, 1))
    elif pen < 0.5:
        image = _towards(image, cv2.erode(image, _CROSS), rng.uniform(0, 0.8))
    if damage < 0.08:
        image = _speckled(image, rng)
    elif damage < 0.18:
        image = _broken(image, rng)
    if blur < 0.15:
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.9)), np.uint8)
    if fade < 0.2:
        image = np.asarray(cv2.LUT(image, _tone(rng.uniform(0.7, 1.5), rng.uniform(0.7, 1))), np.uint8)
    return image


def _towards(image: Images, other: cv2.typing.MatLike, share: float) -> Images:
    return np.asarray(cv2.addWeighted(image, 1 - share, other, share, 0), np.uint8)


def _speckled(image: Images, rng: np.random.Generator) -> Images:
    """Up to three specks of dirt."""
    speckled = image.copy()
    for _ in range(rng.integers(1, 4)):
        x, y = rng.integers(0, SIZE, 2).tolist()
        width, height = rng.integers(1, 3, 2).tolist()
        speckled[y : y + height, x : x + width] = rng.integers(80, 256)
    return speckled


def _broken(image: Images, rng: np.random.Generator) -> Images:
    """A thin straight gap through the writing, as a removed form line or a skipping pen leaves it."""
    broken = image.copy()
    x, y = rng.uniform(8, 20, 2)
    angle = rng.uniform(0, np.pi)
    reach = rng.uniform(2, 14)
    dx, dy = reach * np.cos(angle), reach * np.sin(angle)
    start, end = (round(x - dx), round(y - dy)), (round(x + dx), round(y + dy))
    cv2.line(broken, start, end, int(rng.integers(0, 90)), 1)
    return np.minimum(broken, image)


def _tone(gamma: float, brightness: float) -> Images:
    """A lookup table for ink that is fainter or has harder or softer edges."""
    return (255 * brightness * (np.arange(256) / 255) ** gamma).astype(np.uint8)
