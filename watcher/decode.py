"""A scan's bytes become 8-bit pages, within limits.

Pillow decodes: it reads each bit depth and layout that scanners produce, tells a page's size before it decodes it,
and says so when a file ends too early.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from watcher.formats import FORMATS, complete, other, sniff, tiff_begins, tiff_link, tiff_pages
from watcher.tasks import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watcher.config import Limits

Page = NDArray[np.uint8]
"""A picture: (height, width) grey or (height, width, 3) RGB, on white, upright."""

Image.MAX_IMAGE_PIXELS = None  # Limits.pixels is asked before anything is decoded


def decode(data: bytes, limits: Limits) -> Iterator[Page | Fault]:
    """Yield the pages of one scan, each decoded or with the reason why not.

    A file that holds no page at all, or none that can be counted, yields a single Fault.
    """
    if not data:
        yield Fault("empty", "0 bytes")
        return
    kind = sniff(data)
    if kind is None:
        what = f"is {name}" if (name := other(data)) else f"starts with {data[:8].hex(' ')}"
        yield Fault("unsupported", f"{what}, not {', '.join(FORMATS)}; export it as PNG or TIFF")
        return

    def read(offset: int, count: int) -> bytes:
        return data[offset : offset + count]

    # A page of a TIFF that is not there to its end is bad by itself.
    if not (tiff_begins(data, len(data)) if kind == "TIFF" else complete(read, len(data), edge=len(data))):
        yield Fault("truncated", f"the {kind} file ends too early")
        return
    if kind != "TIFF":  # an animated WebP or PNG is one picture; only TIFF has pages
        yield _read(io.BytesIO(data), kind, limits)
        return
    file, (form, first) = io.BytesIO(data), tiff_link(data)
    for directory, there in tiff_pages(read, len(data)):
        # With its first link set to a page's directory the file is that page's own: a bad one takes no other along.
        struct.pack_into(form, file.getbuffer(), first, directory)
        page = _read(file, kind, limits)
        if isinstance(page, Fault) and page.reason == "unreadable" and not there:
            page = Fault("truncated", f"the TIFF file ends too early: {page.detail}")
        yield page


def _read(file: io.BytesIO, kind: str, limits: Limits) -> Page | Fault:
    try:
        file.seek(0)
        return _page(Image.open(file, formats=[kind]), limits)
    except Exception as error:
        return _blame(error, kind)


def _page(image: Image.Image, limits: Limits) -> Page | Fault:
    width, height = image.size
    if width * height > limits.pixels:
        return Fault("too_large", f"{width}×{height} pixels, limits.pixels is {limits.pixels}")
    upright = ImageOps.exif_transpose(image) if _turned(image) else image
    upright.load()
    page = _eight_bit(upright)
    # Of MinIsWhite, Pillow turns round up to 8 bits but not 16.
    inverted = image.mode.startswith("I;16") and isinstance(image, TiffImageFile) and image.tag_v2.get(262) == 0
    return np.ascontiguousarray(255 - page if inverted else page)


def _turned(image: Image.Image) -> bool:
    orientation = image.getexif().get(0x0112, 1)
    return isinstance(orientation, int) and 2 <= orientation <= 8


def _eight_bit(image: Image.Image) -> Page:
    if image.mode in {"L", "RGB"} and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep(np.asarray(image))
    if image.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info:
        rgba = image.convert("RGBA")  # ink on a transparent ground was drawn to be seen on white
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB"))


def _from_deep(values: NDArray[np.generic]) -> Page:
    """Grey of more than 8 bits: the white level is the smallest usual one that no pixel exceeds."""
    deep = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    deep -= min(float(deep.min()), 0.0)
    top = float(deep.max())
    white = next((level for level in (1.0, 255.0, 4095.0, 65535.0) if top <= level), top)
    page: Page = np.rint(deep * (255.0 / white)).astype(np.uint8)
    return page


def _blame(error: Exception, kind: str) -> Fault:
    """Name what a decoder threw at us."""
    if isinstance(error, MemoryError):
        return Fault("too_large", f"the {kind} decoder ran out of memory")
    words = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        words = f"not a {kind} file that can be read"
    reason = "truncated" if "truncated" in words.lower() else "unreadable"
    return Fault(reason, words)
