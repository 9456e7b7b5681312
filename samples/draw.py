"""Draws the sample crops: digits as a hand writes them, with a pen, on paper, scanned or photographed.

`python samples/draw.py` makes all files of this folder again, the same each time. The digits are vector skeletons of
our own, not cut from any data set and not from a font.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Page = NDArray[np.uint8]
"""A picture, (height, width) grey or (height, width, 3) RGB."""
Stroke = NDArray[np.float64]
"""What the pen does until it is lifted: (n, 3) of x and y, in heights of the digit from its top left, and pressure."""
Field = NDArray[np.float32]
RGB = tuple[int, int, int]

_Points = tuple[tuple[float, float], ...]
# Each digit's ways of writing it: strokes, each made of smooth arcs that meet at corners, through points in heights.
_SKELETONS: Final[dict[int, tuple[tuple[tuple[_Points, ...], ...], ...]]] = {
    0: (
        (
            (
                (
                    (0.40, 0.04), (0.24, 0.06), (0.09, 0.26), (0.05, 0.54), (0.12, 0.84), (0.30, 0.97),
                    (0.50, 0.88), (0.61, 0.62), (0.60, 0.34), (0.50, 0.11), (0.37, 0.04), (0.28, 0.07),
                ),
            ),
        ),
    ),
    1: (
        ((((0.12, 0.27), (0.26, 0.16), (0.36, 0.03)), ((0.36, 0.03), (0.35, 0.50), (0.33, 0.98))),),
        ((((0.30, 0.02), (0.29, 0.48), (0.27, 0.98)),),),
    ),
    2: (
        (
            (
                (
                    (0.08, 0.25), (0.15, 0.09), (0.32, 0.02), (0.50, 0.10), (0.53, 0.29), (0.40, 0.55), (0.20, 0.79),
                    (0.05, 0.95),
                ),
                ((0.05, 0.95), (0.22, 0.92), (0.42, 0.96), (0.62, 0.93)),
            ),
        ),
    ),
    3: (
        (
            (
                ((0.09, 0.13), (0.27, 0.03), (0.47, 0.09), (0.50, 0.26), (0.38, 0.41), (0.22, 0.46)),
                ((0.22, 0.46), (0.44, 0.49), (0.57, 0.66), (0.50, 0.89), (0.28, 0.98), (0.06, 0.89)),
            ),
        ),
    ),
    4: (
        (
            (((0.24, 0.04), (0.16, 0.30), (0.06, 0.60)), ((0.06, 0.60), (0.32, 0.61), (0.64, 0.58))),
            (((0.50, 0.30), (0.47, 0.64), (0.43, 0.99)),),
        ),
    ),
    5: (
        (
            (
                ((0.15, 0.06), (0.13, 0.24), (0.10, 0.44)),
                ((0.10, 0.44), (0.29, 0.37), (0.51, 0.46), (0.57, 0.67), (0.46, 0.90), (0.24, 0.98), (0.05, 0.90)),
            ),
            (((0.15, 0.06), (0.33, 0.07), (0.57, 0.03)),),
        ),
    ),
    6: (
        (
            (
                (
                    (0.46, 0.03), (0.27, 0.19), (0.12, 0.46), (0.07, 0.73), (0.16, 0.93), (0.35, 0.98), (0.52, 0.85),
                    (0.52, 0.66), (0.37, 0.55), (0.19, 0.62), (0.09, 0.78),
                ),
            ),
        ),
    ),
    7: (
        ((((0.05, 0.10), (0.28, 0.08), (0.58, 0.06)), ((0.58, 0.06), (0.42, 0.38), (0.29, 0.70), (0.22, 0.98))),),
        (
            (((0.05, 0.10), (0.28, 0.08), (0.58, 0.06)), ((0.58, 0.06), (0.42, 0.38), (0.29, 0.70), (0.22, 0.98))),
            (((0.18, 0.52), (0.34, 0.50), (0.54, 0.47)),),
        ),
    ),
    8: (
        (
            (
                (
                    (0.50, 0.13), (0.36, 0.03), (0.18, 0.09), (0.14, 0.25), (0.29, 0.43), (0.48, 0.60), (0.54, 0.80),
                    (0.38, 0.97), (0.16, 0.92), (0.09, 0.74), (0.25, 0.53), (0.44, 0.34), (0.51, 0.14),
                ),
            ),
        ),
    ),
    9: (
        (
            (
                (
                    (0.51, 0.15), (0.37, 0.04), (0.19, 0.09), (0.10, 0.27), (0.17, 0.44), (0.35, 0.43), (0.48, 0.27),
                    (0.52, 0.13),
                ),
                ((0.52, 0.13), (0.51, 0.45), (0.45, 0.75), (0.38, 0.98)),
            ),
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Style:
    """How a digit is written and how its paper is taken."""

    size: tuple[int, int]  # width and height of the crop, in pixels
    height: float  # of the digit, as a share of the crop's
    paper: RGB
    ink: RGB
    width: float  # of the stroke, as a share of the digit's height
    cover: float = 0.95  # how much of the paper's colour the ink hides
    grain: float = 0.0  # how much of the stroke the paper's grain leaves white, from 0 to 1
    bleed: float = 0.0  # how far the ink runs into the paper, as a share of the stroke's width
    printed: Literal["nothing", "box", "ruled", "squared"] = "nothing"
    line: RGB = (30, 30, 30)  # what is printed on the paper
    fibre: float = 1.5  # unevenness of the paper, in grey levels
    tilt: float = 0.0  # of the paper under the camera, in degrees
    shadow: float = 0.0  # how much of the light a shadow over a part of the paper takes
    vignette: float = 0.0  # how much darker the corners are
    blur: float = 0.5  # of the lens or the scanner, in pixels
    noise: float = 1.0  # of the sensor, in grey levels
    grey: bool = False


STYLES: Final = {
    "box": Style((132, 156), 0.52, (252, 252, 250), (52, 52, 56), 0.072, printed="box", grey=True, grain=0.12),
    "pencil_ruled": Style(
        (190, 220), 0.56, (243, 241, 234), (78, 78, 82), 0.050, cover=0.72, grain=0.55, printed="ruled",
        line=(142, 172, 208), tilt=-1.0, fibre=2.2, noise=1.5,
    ),
    "ballpoint": Style((170, 200), 0.66, (253, 253, 253), (34, 58, 158), 0.048, cover=0.88, grain=0.22, fibre=0.6),
    "marker": Style((220, 240), 0.66, (246, 246, 243), (28, 26, 34), 0.135, cover=0.93, bleed=0.10, blur=0.7),
    "phone_shadow": Style(
        (420, 500), 0.46, (206, 198, 186), (40, 40, 52), 0.056, grain=0.06, tilt=4.0, shadow=0.42, vignette=0.38,
        blur=1.3, noise=3.5, fibre=2.5,
    ),
    "yellow_paper": Style((180, 200), 0.62, (246, 214, 92), (28, 40, 92), 0.060, cover=0.9, grain=0.15, fibre=2.5),
    "chalk": Style(
        (230, 250), 0.62, (44, 62, 56), (226, 228, 220), 0.085, cover=0.86, grain=0.62, fibre=4.0, vignette=0.18,
        blur=0.7, noise=2.5,
    ),
    "squared": Style(
        (180, 190), 0.60, (244, 246, 247), (24, 24, 30), 0.056, printed="squared", line=(158, 196, 216), tilt=1.5,
        grain=0.12,
    ),
    "tiny": Style((28, 28), 0.66, (236, 236, 234), (46, 46, 52), 0.105, grey=True, blur=0.45, noise=2.0),
    "jpeg_noise": Style((150, 170), 0.62, (224, 222, 216), (56, 54, 62), 0.062, blur=0.9, noise=5.0, vignette=0.15),
    "fountain_pen": Style((170, 210), 0.64, (248, 243, 230), (30, 34, 70), 0.062, cover=0.9, bleed=0.12, fibre=2.0),
}  # fmt: skip


def draw_digit(digit: int, rng: np.random.Generator) -> list[Stroke]:
    """Write a digit once: one of its skeletons with a hand's slant, width, unsteadiness and pressure.

    Strokes are in heights of the digit, from its top left; pressure is about 1, and falls where the pen is lifted.
    """
    variants = _SKELETONS[digit]
    skeleton = variants[rng.integers(len(variants))]
    slant, aspect, turn = rng.uniform(-0.04, 0.26), rng.uniform(0.88, 1.12), np.radians(rng.uniform(-4, 4))
    hand = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    hand = hand @ np.array([[aspect, -slant], [0, 1]])
    strokes = []
    for arcs in skeleton:
        path = np.concatenate([_smooth(np.array(arc) + rng.normal(0, 0.011, (len(arc), 2))) for arc in arcs])
        path = path @ hand.T
        path += 0.006 * np.stack([_waver(len(path), 14, rng), _waver(len(path), 14, rng)], axis=1)
        strokes.append(np.column_stack([path, _pressure(path, rng)]))
    origin = np.min([stroke[:, :2].min(axis=0) for stroke in strokes], axis=0)
    tall = max(float(stroke[:, 1].max()) for stroke in strokes) - origin[1]
    for stroke in strokes:
        stroke[:, :2] = (stroke[:, :2] - origin) / tall
    return strokes


def scan(digit: int | None, style: str, rng: np.random.Generator) -> Page:
    """Take a digit, or None for an unused cell, in one of the `STYLES`."""
    look = STYLES[style]
    width, height = look.size
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = look.paper
    for spread in (0.7, 3.0, 14.0):
        canvas += 0.6 * look.fibre * _texture((height, width), spread, rng)[..., None]
    printed = _printed(look, rng)[..., None]
    canvas = canvas * (1 - printed) + np.array(look.line, np.float32) * printed
    if digit is not None:
        ink = _ink(draw_digit(digit, rng), look, rng)[..., None] * look.cover
        canvas = canvas * (1 - ink) + np.array(look.ink, np.float32) * ink
    return _exposed(canvas, look, rng)


def _smooth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lay a Catmull-Rom spline through points: (n, 2), about a hundredth of a height apart."""
    ends = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    pieces = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        steps = max(4, int(np.hypot(*(c - b)) / 0.01))
        t = np.linspace(0, 1, steps, endpoint=False)[:, None]
        pieces.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate([*pieces, points[-1:]])


def _waver(count: int, period: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Unsteadiness along a stroke: `count` smooth random values of about unit size."""
    knots = rng.normal(0, 1.4, count // period + 5)
    bell = np.hanning(period + 2) / np.hanning(period + 2).sum()  # a hand has no corners either
    values = np.interp(np.arange(-period, count + period) / period + 1, np.arange(len(knots)), knots)
    return np.convolve(values, bell, mode="same")[period : period + count]


def _pressure(path: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """How hard the pen is pressed: heavier downwards, lighter where it lands and leaves."""
    direction = np.gradient(path, axis=0)
    down = direction[:, 1] / np.maximum(np.hypot(*direction.T), 1e-9)
    down = np.convolve(np.pad(down, 6, mode="edge"), np.ones(13) / 13, mode="valid")
    along = np.linspace(0, 1, len(path))
    lift = 1 - 0.45 * np.clip((along - 0.86) / 0.14, 0, 1) ** 2 - 0.15 * np.clip((0.04 - along) / 0.04, 0, 1)
    return (0.94 + 0.12 * down + 0.07 * _waver(len(path), 18, rng)) * lift


def _ink(strokes: list[Stroke], look: Style, rng: np.random.Generator) -> Field:
    """How much of each pixel a digit's ink hides, 0 to 1."""
    width, height = look.size
    tall = look.height * height
    wide = max(float(stroke[:, 0].max()) for stroke in strokes) * tall
    left = (width - wide) / 2 + rng.uniform(-0.04, 0.04) * width
    top = (height - tall) / 2 + rng.uniform(-0.03, 0.03) * height
    fine = 4  # drawn four times as large, for smooth edges and widths between whole pixels
    clear = np.ones((height * fine, width * fine), np.float32)
    for stroke in strokes:
        layer = np.zeros_like(clear)
        points = np.round((stroke[:, :2] * tall + (left, top)) * fine * 16).astype(int)
        radii = np.maximum(stroke[:, 2] * look.width * tall * fine / 2, 1) * 16
        for (x, y), radius in zip(points.tolist(), np.round(radii).astype(int).tolist(), strict=True):
            cv2.circle(layer, (x, y), radius, 1.0, -1, shift=4)
        clear *= 1 - layer * (1 if look.bleed == 0 else 0.86)  # a wet pen is darker where strokes cross
    cover = np.asarray(cv2.resize(1 - clear, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    if look.bleed:
        run = np.where(cover > 0.02, cover + 0.05 * _texture(cover.shape, 1.2, rng), 0)
        cover = 1.4 * cv2.GaussianBlur(run, (0, 0), look.bleed * look.width * tall).astype(np.float32) - 0.1
    if look.grain:
        cover = cover * (1 - look.grain * np.clip(0.7 + 0.4 * _texture(cover.shape, 0.8, rng), 0, 1))
    return np.asarray(np.clip(cover, 0, 1), np.float32)


def _printed(look: Style, rng: np.random.Generator) -> Field:
    """What stands on the paper before anybody writes: how much of each pixel it hides, 0 to 1."""
    width, height = look.size
    fine = 4
    layer = np.zeros((height * fine, width * fine), np.float32)
    tilt = np.tan(np.radians(look.tilt + rng.uniform(-0.3, 0.3)))

    def line(x0: float, y0: float, x1: float, y1: float, thick: float) -> None:
        ends = [(round(x * fine * 16), round(y * fine * 16)) for x, y in ((x0, y0), (x1, y1))]
        cv2.line(layer, ends[0], ends[1], 1.0, max(1, round(thick * fine)), shift=4)

    if look.printed == "box":
        left, top, right, bottom = 11.0, 13.0, width - 12.0, height - 14.0
        for y in (top, bottom):
            line(0, y, width, y + tilt * width, 3.2)  # the comb goes on to the next cell
        for x in (left, right):
            line(x, top, x - tilt * height, bottom, 3.2)
    elif look.printed == "ruled":
        for y in np.array([0.17, 0.85]) * height:
            line(0, y, width, y + tilt * width, 1.3)
    elif look.printed == "squared":
        step = width / 4.6
        for place in np.arange(-1, 7) * step + 0.4 * step:
            line(place, 0, place - tilt * height, height, 1.1)
            line(0, place, width, place + tilt * width, 1.1)
    cover = cv2.resize(layer, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(cover * (0.9 + 0.1 * _texture((height, width), 1.5, rng)), 0, 1), np.float32)


def _texture(shape: tuple[int, ...], spread: float, rng: np.random.Generator) -> Field:
    """Random unevenness of unit size whose grains are about `spread` pixels."""
    field = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), spread)
    return np.asarray(field / np.std(field), np.float32)


def _exposed(canvas: NDArray[np.float32], look: Style, rng: np.random.Generator) -> Page:
    """Take paper as the camera or the scanner does: light, lens, sensor."""
    height, width = canvas.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / width - 0.5, y / height - 0.5
    light = 1 - look.vignette * 2 * ((x - 0.08) ** 2 + (y + 0.05) ** 2)
    edge = 0.75 * x + 0.66 * y - 0.1 + 0.05 * np.sin(5 * y)  # a hand's soft edge from the lower right
    light *= 1 - look.shadow / (1 + np.exp(-edge / 0.045))
    taken = cv2.GaussianBlur(canvas * light[..., None], (0, 0), look.blur)
    taken += rng.normal(0, look.noise, taken.shape).astype(np.float32)
    picture = np.clip(np.round(taken), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8) if look.grey else picture


def encoded(pages: list[Page], ending: str, quality: int = 92) -> bytes:
    """Encode pages for a file with this ending; only TIFF holds more than one."""
    blue_first = [page if page.ndim == 2 else cv2.cvtColor(page, cv2.COLOR_RGB2BGR) for page in pages]
    if ending == ".tif":
        _, data = cv2.imencodemulti(ending, blue_first)
    else:
        quality_of = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}.get(ending)
        _, data = cv2.imencode(ending, blue_first[0], [] if quality_of is None else [quality_of, quality])
    return data.tobytes()


def field(value: str, style: str, rng: np.random.Generator) -> Page:
    """A number written digit by digit; an empty one is a blank crop."""
    crops = [scan(int(digit) if digit else None, style, rng) for digit in value or [""]]
    aside = 0 if style == "box" or len(crops) == 1 else crops[0].shape[1] // 5  # a hand does not keep its digits apart
    return np.concatenate([crop[:, aside : crop.shape[1] - aside] for crop in crops], axis=1)


# Name, values (one a page; empty: nothing is written), style, JPEG or WebP quality, seed.
FILES: Final[tuple[tuple[str, tuple[str, ...], str, int, int], ...]] = (
    ("0_chalk.jpg", ("0",), "chalk", 90, 1),
    ("1_tiny.bmp", ("1",), "tiny", 0, 2),
    ("2_ballpoint.jpg", ("2",), "ballpoint", 92, 3),
    ("3_jpeg_noise.jpg", ("3",), "jpeg_noise", 14, 4),
    ("4_box.png", ("4",), "box", 0, 5),
    ("5_marker.webp", ("5",), "marker", 88, 6),
    ("6_yellow_paper.jpg", ("6",), "yellow_paper", 90, 7),
    ("7_pencil_ruled.png", ("7",), "pencil_ruled", 0, 8),
    ("8_phone_shadow.jpg", ("8",), "phone_shadow", 85, 9),
    ("9_squared.jpg", ("9",), "squared", 92, 10),
    ("2_fountain_pen.webp", ("2",), "fountain_pen", 90, 11),
    ("6-3_two_pages.tif", ("6", "3"), "box", 0, 12),
    ("90210_boxes.png", ("90210",), "box", 0, 15),
    ("1847_ballpoint.jpg", ("1847",), "ballpoint", 92, 16),
    ("blank_box.png", ("",), "box", 0, 13),
)


def main() -> None:
    """Make all files of this folder again."""
    folder = Path(__file__).parent
    for name, values, style, quality, seed in FILES:
        rng = np.random.default_rng(seed)
        pages = [field(value, style, rng) for value in values]
        (folder / name).write_bytes(encoded(pages, Path(name).suffix, quality))
    whole = encoded([scan(5, "box", np.random.default_rng(14))], ".png")
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])  # as left by a copy that was broken off


if __name__ == "__main__":
    main()
