"""A picture being drawn: text, boxes and pictures on matplotlib's Agg renderer, without pyplot or a Figure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path
from matplotlib.transforms import IdentityTransform

from watcher.lettering import DPI
from watcher.png import to_png

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watcher.lettering import Pixels, Type
    from watcher.normalise import Page
    from watcher.plane import Box

Colour = tuple[float, float, float]
Align = Literal["left", "centre", "right"]


def from_hex(code: str) -> Colour:
    """`#rrggbb` as red, green and blue from 0 to 1."""
    red, green, blue = bytes.fromhex(code[1:])
    return red / 255, green / 255, blue / 255


class Canvas:
    """A picture being drawn; everything is in pixels from the top left."""

    def __init__(self, width: int, height: int, type_: Type) -> None:
        self.width, self.height, self.type = width, height, type_
        self._renderer = RendererAgg(width, height, DPI)
        self._rgba = np.asarray(self._renderer.buffer_rgba())  # the renderer's own memory, to draw boxes right into
        self._pixels = self._rgba.view(np.uint32)[..., 0]
        self._pen = self._renderer.new_gc()

    def clear(self, colour: Colour) -> None:
        """Take everything off and leave the ground."""
        self._pixels.fill(_packed(colour))

    def kept(self) -> Pixels:
        """What was drawn so far, to be restored."""
        return self._rgba.copy()

    def restore(self, kept: Pixels) -> None:
        """Go back to what was drawn then."""
        np.copyto(self._rgba, kept)

    def fill(self, box: Box, colour: Colour, radius: float = 0) -> None:
        """Fill a box, with round corners where it has a radius."""
        left, top, width, height = box
        if radius:
            self._path(_rounded(left, top, width, height, min(radius, width / 2)), face=colour)
        else:
            self._pixels[max(top, 0) : top + height, max(left, 0) : left + width] = _packed(colour)

    def outline(self, box: Box, colour: Colour) -> None:
        """Draw a line of one pixel just inside a box."""
        left, top, width, height = box
        for side in (
            (left, top, width, 1),
            (left, top + height - 1, width, 1),
            (left, top, 1, height),
            (left + width - 1, top, 1, height),
        ):
            self.fill(side, colour)

    def polygon(self, points: Sequence[tuple[float, float]], face: Colour, edge: Colour) -> None:
        """Draw a closed polygon with a thin edge."""
        self._path([(*point, _TO) for point in points], face=face, edge=edge)

    def picture(self, left: int, top: int, page: Page) -> None:
        """Place an RGB picture that lies within the canvas."""
        height, width = page.shape[:2]
        self._rgba[top : top + height, left : left + width] = cv2.cvtColor(page, cv2.COLOR_RGB2RGBA)

    def write(
        self,
        x: float,
        baseline: float,
        text: str,
        size: float,
        colour: Colour,
        *,
        bold: bool = False,
        align: Align = "left",
    ) -> float:
        """Write one line of printable text at its left end, middle or right end; returns its width."""
        if not text:
            return 0.0
        mask, width = self.type.line(text, size, bold=bold)
        left = round(x - {"left": 0.0, "centre": width / 2, "right": width}[align]) - self.type.air(size)
        ink = np.full(mask.shape, _packed(colour), np.uint32).view(np.uint8).reshape(*mask.shape, 4)
        ink[..., 3] = mask
        bottom = round(baseline) - self.type.ascent(size) + mask.shape[0]
        # The renderer counts an image's place from the bottom left, with the first row lowest.
        self._renderer.draw_image(self._pen, left, self.height - bottom, ink[::-1].copy())
        return width

    def rgb(self) -> Pixels:
        """Give what was drawn as an RGB picture."""
        return np.asarray(cv2.cvtColor(self._rgba, cv2.COLOR_RGBA2RGB), np.uint8)

    def png(self) -> bytes:
        """Give what was drawn as a PNG."""
        return to_png(self.rgb())

    def _path(self, steps: Sequence[tuple[float, float, int]], face: Colour, edge: Colour | None = None) -> None:
        self._pen.set_linewidth(1.2 if edge else 0)
        self._pen.set_foreground(edge or face, isRGBA=True)
        self._renderer.draw_path(self._pen, _closed(tuple(steps), self.height), _AS_IT_IS, face)


_AS_IT_IS = IdentityTransform()
_START, _TO, _AROUND, _BACK = (int(code) for code in (Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CLOSEPOLY))


@lru_cache(maxsize=64)
def _packed(colour: Colour) -> int:
    """An opaque colour as one number, as a pixel lies in the renderer's memory: faster to fill with than four."""
    return int(np.array([*(round(255 * part) for part in colour), 255], np.uint8).view(np.uint32)[0])


@lru_cache(maxsize=1024)
def _closed(steps: tuple[tuple[float, float, int], ...], height: int) -> Path:
    """The outline that goes through points from the top left, as the renderer counts them: from the bottom left."""
    points = [(x, height - y) for x, y, _ in steps]
    return Path([*points, points[0]], [_START, *(code for _, _, code in steps[1:]), _BACK])


@lru_cache(maxsize=1024)
def _rounded(
    left: float, top: float, width: float, height: float, radius: float
) -> tuple[tuple[float, float, int], ...]:
    """Go around a box with round corners: points with how each is reached."""
    right, bottom = left + width, top + height
    steps = [(left + radius, top, _TO)]
    for corner, before, after in (
        ((right, top), (right - radius, top), (right, top + radius)),
        ((right, bottom), (right, bottom - radius), (right - radius, bottom)),
        ((left, bottom), (left + radius, bottom), (left, bottom - radius)),
        ((left, top), (left, top + radius), (left + radius, top)),
    ):
        steps += [(*before, _TO), (*corner, _AROUND), (*after, _AROUND)]
    return tuple(steps)


def as_page(picture: Page) -> Page:
    """Give grey its three channels."""
    return picture if picture.ndim == 3 else np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), np.uint8)


def fitted(page: Page, width: int, height: int) -> Page:
    """Scale a page to fit into width × height, as RGB; small ones enlarge, up to eight times."""
    high, wide = page.shape[:2]
    scale = min(width / wide, height / high, 8.0)
    size = (min(max(1, round(wide * scale)), width), min(max(1, round(high * scale)), height))
    if scale >= 1:
        return as_page(np.asarray(cv2.resize(page, size, interpolation=cv2.INTER_CUBIC), np.uint8))
    # The average of all that a pixel covers takes up to ten times as long as that of a whole number of samples, each
    # between its four neighbours, and looks the same.
    samples = 2 if scale >= 1 / 4 else 4 if scale >= 1 / 8 else 8
    page = np.asarray(
        cv2.resize(page, (samples * size[0], samples * size[1]), interpolation=cv2.INTER_LINEAR), np.uint8
    )
    return as_page(np.asarray(cv2.resize(page, size, interpolation=cv2.INTER_AREA), np.uint8))
