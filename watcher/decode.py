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

from watcher.tasks import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watcher.config import Limits

Page = NDArray[np.uint8]
"""A picture: (height, width) grey or (height, width, 3) RGB, on white, upright."""

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
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
        yield Fault("unsupported", f"starts with {data[:8].hex(' ')}: not {', '.join(FORMATS)}")
        return
    if not complete(data, len(data)):
        yield Fault("truncated", f"the {kind} file ends too early")
        return
    try:
        image = Image.open(io.BytesIO(data), formats=[kind])
        # An animated WebP or PNG is one picture; only TIFF has pages.
        pages = getattr(image, "n_frames", 1) if kind == "TIFF" else 1
    except Exception as error:
        yield _blame(error, kind)
        return
    for number in range(pages):
        try:
            yield _page(image, number, limits)
        except Exception as error:
            yield _blame(error, kind)


def sniff(data: bytes) -> str | None:
    """The format that the first bytes tell, whatever the file is called; None where it is not one of FORMATS."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def complete(data: bytes, size: int) -> bool:
    """Whether a scan seems to be there to its end: a cheap look at its marks, nothing is decoded.

    `data` is the whole file, or its first and last kilobytes joined; `size` is the file's size in bytes. True where
    the format does not tell.
    """
    match sniff(data):
        case "PNG":
            return b"IEND\xaeB`\x82" in data[-4096:]
        case "JPEG":
            # Entropy-coded data never holds either marker, so the end must stand behind the last start of scan.
            return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") or b"\xff\xd9" in data[-64:]
        case "BMP":
            return len(data) >= 6 and int(struct.unpack_from("<I", data, 2)[0]) <= size
        case "WEBP":
            return len(data) >= 8 and int(struct.unpack_from("<I", data, 4)[0]) + 8 <= size
        case "TIFF":
            # Writers patch the offset of the first directory in last; a cut file often ends before it.
            if len(data) < 8 or data[2] == 43 or data[3] == 43:  # BigTIFF: told by decoding it
                return len(data) >= 16
            order = "<I" if data.startswith(b"II") else ">I"
            return 8 <= int(struct.unpack_from(order, data, 4)[0]) < size
        case _:
            return size > 0


def _page(image: Image.Image, number: int, limits: Limits) -> Page | Fault:
    if number:
        image.seek(number)
    width, height = image.size
    if width * height > limits.pixels:
        return Fault("too_large", f"{width}×{height} pixels, limits.pixels is {limits.pixels}")
    upright = ImageOps.exif_transpose(image) if _turned(image) else image
    upright.load()
    return np.ascontiguousarray(_eight_bit(upright))


def _turned(image: Image.Image) -> bool:
    orientation = image.getexif().get(0x0112, 1)
    return isinstance(orientation, int) and 2 <= orientation <= 8


def _eight_bit(image: Image.Image) -> Page:
    if image.mode == "L":
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
