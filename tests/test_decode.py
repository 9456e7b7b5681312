"""Bytes become upright 8-bit pages on white, whatever scanner made them; what cannot be read gives its reason."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from PIL import Image

from watcher.config import Limits
from watcher.decode import decode
from watcher.formats import FORMATS, complete, sniff, tiff_pages
from watcher.tasks import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from watcher.decode import Page

LIMITS = Limits()
RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
"""Grey, 8×8, another level at each pixel."""

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5
"""TIFF's PhotometricInterpretation."""


def pages(data: bytes, limits: Limits = LIMITS) -> list[Page]:
    """The pages of a scan of which all can be read."""
    found = []
    for page in decode(data, limits):
        assert not isinstance(page, Fault), page
        assert page.dtype == np.uint8
        assert page.ndim == 2 or page.shape[2:] == (3,)
        found.append(page)
    return found


def page_of(data: bytes) -> Page:
    """The page of a scan that has one."""
    (page,) = pages(data)
    return page


def fault(data: bytes, limits: Limits = LIMITS) -> Fault:
    """Why a scan of which nothing can be read was refused."""
    (page,) = decode(data, limits)
    assert isinstance(page, Fault), page.shape
    return page


def reasons(data: bytes) -> list[str]:
    """For each page why it was refused; empty for one that was read."""
    return [page.reason if isinstance(page, Fault) else "" for page in decode(data, LIMITS)]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image as Pillow writes it."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def drawn() -> Image.Image:
    """A grey crop with a stroke on paper, and grain that keeps it from compressing to nothing."""
    page = np.random.default_rng(1).normal(230, 6, (60, 48)).clip(0, 255).astype(np.uint8)
    cv2.line(page, (12, 50), (36, 10), 30, 4, cv2.LINE_AA)
    return Image.fromarray(page)


SCANS: Mapping[str, bytes] = {
    "PNG": saved(drawn(), "PNG"),
    "JPEG": saved(drawn(), "JPEG", quality=90),
    "JPEG progressive": saved(drawn(), "JPEG", progressive=True),
    "TIFF": saved(drawn(), "TIFF"),
    "TIFF LZW": saved(drawn(), "TIFF", compression="tiff_lzw"),
    "TIFF JPEG": saved(drawn(), "TIFF", compression="jpeg"),
    "TIFF of OpenCV": cv2.imencode(".tif", np.asarray(drawn()))[1].tobytes(),
    "BigTIFF": saved(drawn(), "TIFF", big_tiff=True),
    "BMP": saved(drawn(), "BMP"),
    "WEBP": saved(drawn(), "WEBP", lossless=True),
    "WEBP lossy": saved(drawn(), "WEBP", quality=90),
}
"""One crop in each format."""


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, bits: int, colour: int, packed: bytes, *more: bytes) -> bytes:
    """A PNG from rows of packed samples without their filter bytes; `more` are chunks before the pixels."""
    step = len(packed) // height
    rows = b"".join(b"\0" + packed[i * step : (i + 1) * step] for i in range(height))
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


Tags = dict[int, tuple[str, "Sequence[int]"]]
"""TIFF tags: struct's code of the type, and the values."""


def tiff(*directories: tuple[Tags, bytes], order: str = "<", loop: bool = False) -> bytes:
    """A TIFF of tags and pixels by hand, also such as no writer would make; `loop`: the last page links to the first.

    Each page is its pixels, then what does not fit into its directory, then its directory.
    """
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0))
    link, first = 4, 0
    for given, pixels in directories:
        tags: Tags = {273: ("I", [len(out)]), 279: ("I", [len(pixels)]), **given}
        out += pixels + b"\0" * (len(pixels) % 2)
        entries = b""
        for tag, (code, values) in sorted(tags.items()):
            packed = struct.pack(f"{order}{len(values)}{code}", *values)
            if len(packed) > 4:
                at, packed = len(out), packed + b"\0" * (len(packed) % 2)
                out += packed
                packed = struct.pack(order + "I", at)
            entries += struct.pack(order + "HHI", tag, {"B": 1, "H": 3, "I": 4}[code], len(values)) + packed.ljust(
                4, b"\0"
            )
        first = first or len(out)
        struct.pack_into(order + "I", out, link, len(out))
        out += struct.pack(order + "H", len(tags)) + entries
        link = len(out)
        out += struct.pack(order + "I", 0)
    if loop:
        struct.pack_into(order + "I", out, link, first)
    return bytes(out)


def sheet(
    width: int, height: int, bits: int, photometric: int, pixels: bytes, *, samples: int = 1, **more: Sequence[int]
) -> tuple[Tags, bytes]:
    """Tags and pixels of one page of a TIFF; `more`: SHORT values of further tags, as `t259`."""
    tags: Tags = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * samples),
        259: ("H", [1]),
        262: ("H", [photometric]),
        277: ("H", [samples]),
        278: ("I", [height]),
    }
    return tags | {int(name[1:]): ("H", values) for name, values in more.items()}, pixels


def packed(values: NDArray[np.integer[Any]], bits: int) -> bytes:
    """Rows of samples of fewer than 16 bits, most significant bit first, each row padded to whole bytes."""
    planes = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.astype(np.uint8).reshape(len(values), -1), axis=1).tobytes()


def levels(bits: int) -> NDArray[np.int64]:
    """An 8×8 page that holds black, white and levels between, at this depth."""
    values: NDArray[np.int64] = np.arange(64).reshape(8, 8) * (2**bits - 1) // 63
    return values


def as_bytes(values: NDArray[np.integer[Any]], bits: int) -> NDArray[np.int64]:
    """Levels of another depth, scaled to 255."""
    grey: NDArray[np.int64] = np.rint(values * 255 / (2**bits - 1)).astype(np.int64)
    return grey


def alike(page: Page, expected: object, slack: int = 0) -> None:
    """Check that a page shows what was meant, to within some grey levels; a grey page may come as RGB."""
    wanted = np.asarray(expected).astype(int)
    if page.ndim == 3 and wanted.ndim == 2:
        wanted = wanted[..., None]
    assert page.shape[:2] == wanted.shape[:2]
    assert np.abs(page.astype(int) - wanted).max() <= slack


# Formats


@pytest.mark.parametrize("name", SCANS)
def test_formats(name: str) -> None:
    """Each format that scanners and cameras write gives the picture that went in."""
    lossy = name in {"JPEG", "JPEG progressive", "TIFF JPEG", "WEBP lossy"}
    alike(page_of(SCANS[name]), np.asarray(drawn()), slack=40 if lossy else 0)


@pytest.mark.parametrize("name", SCANS)
def test_sniff(name: str) -> None:
    """The first bytes tell the format; no ending is asked."""
    assert sniff(SCANS[name]) == name.split(maxsplit=1)[0].replace("Big", "")


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG", b"%PDF-1.7\n", b"GIF89a\1\0\1\0", b"RIFF\0\0\0\0WAVEfmt ", b"Rechnung\n"]
)
def test_sniff_nothing(data: bytes) -> None:
    """What is none of the formats has none."""
    assert sniff(data) is None


def test_formats_are_what_sniff_knows() -> None:
    """Each format that is named to people is told by its bytes, and no other."""
    assert {sniff(data) for data in SCANS.values()} == set(FORMATS)


@pytest.mark.parametrize("compression", ["packbits", "tiff_lzw", "tiff_adobe_deflate", "group3", "group4"])
def test_tiff_compressions(compression: str) -> None:
    """The compressions of scanners and fax machines are read, each of two pages."""
    bilevel = drawn().convert("1", dither=Image.Dither.NONE)
    data = saved(bilevel, "TIFF", compression=compression, save_all=True, append_images=[bilevel.rotate(180)])
    first, second = pages(data)
    alike(first, np.asarray(bilevel) * 255)
    alike(second, np.asarray(bilevel)[::-1, ::-1] * 255)


# Depths and layouts


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", [MIN_IS_WHITE, MIN_IS_BLACK])
def test_tiff_depths(bits: int, photometric: int) -> None:
    """Grey TIFFs of up to 8 bits come out from black to white, also where the smallest value means white."""
    values = levels(bits)
    page = page_of(tiff(sheet(8, 8, bits, photometric, packed(values, bits))))
    grey = as_bytes(values, bits)
    alike(page, grey if photometric == MIN_IS_BLACK else 255 - grey)


@pytest.mark.parametrize(("order", "photometric"), [("<", MIN_IS_WHITE), ("<", MIN_IS_BLACK), (">", MIN_IS_BLACK)])
def test_tiff_16_bit(order: str, photometric: int) -> None:
    """16-bit TIFFs come out from black to white, in both byte orders, also where the smallest value means white."""
    values = levels(16)
    data = tiff(sheet(8, 8, 16, photometric, values.astype(order + "u2").tobytes()), order=order)
    grey = as_bytes(values, 16)
    alike(page_of(data), grey if photometric == MIN_IS_BLACK else 255 - grey, slack=1)


def test_tiff_12_bit() -> None:
    """12-bit grey is not taken for a very dark 16-bit scan."""
    values = levels(12)
    alike(page_of(tiff(sheet(8, 8, 12, MIN_IS_BLACK, packed(values, 12)))), as_bytes(values, 12), slack=1)


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_float(white: float) -> None:
    """32-bit floats come out from black to white, whether they run to 1, to 255 or to 65535."""
    values = (levels(8) / 255 * white).astype(np.float32)
    alike(page_of(saved(Image.fromarray(values), "TIFF")), levels(8), slack=1)


def test_float_oddities() -> None:
    """Values that are no numbers, infinite or negative are black, and spoil no other pixel."""
    values = (levels(8) / 255).astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    page = page_of(saved(Image.fromarray(values), "TIFF"))
    expected = levels(8)
    expected[0, :3] = 0
    alike(page, expected, slack=1)


def test_float_nothing() -> None:
    """A float page of one value, or of none that is a number, is still a page."""
    for value in (0.0, -3.0, np.nan, 1e30):
        page = page_of(saved(Image.fromarray(np.full((8, 8), value, np.float32)), "TIFF"))
        assert page.shape == (8, 8)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_png_depths(bits: int) -> None:
    """Grey PNGs of each depth come out from black to white."""
    values = levels(bits)
    samples = values.astype(">u2").tobytes() if bits == 16 else packed(values, bits)
    alike(page_of(png(8, 8, bits, 0, samples)), as_bytes(values, bits), slack=1)


def test_png_16_bit_colour() -> None:
    """16-bit colour comes out at 8 bits."""
    values = np.stack([levels(16), levels(16)[::-1], levels(16).T], axis=2)
    alike(page_of(png(8, 8, 16, 2, values.astype(">u2").tobytes())), as_bytes(values, 16), slack=1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_palettes(bits: int) -> None:
    """A palette gives its colours, at each depth of its indices."""
    colours = np.random.default_rng(bits).integers(0, 256, (2**bits, 3)).astype(np.uint8)
    indices = np.arange(64).reshape(8, 8) % 2**bits
    data = png(8, 8, bits, 3, packed(indices, bits), chunk(b"PLTE", colours.tobytes()))
    alike(page_of(data), colours[indices])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_colour(kind: str) -> None:
    """Colour stays colour, red first."""
    colours = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=2)
    options = {"lossless": True} if kind == "WEBP" else {}
    alike(page_of(saved(Image.fromarray(colours), kind, **options)), colours)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmp_palettes(bits: int) -> None:
    """A BMP of 1, 4 or 8 bits gives the colours of its palette."""
    colours = np.random.default_rng(bits).integers(0, 256, (2**bits, 3)).astype(np.uint8)
    indices = np.arange(64).reshape(8, 8) % 2**bits
    rows = packed(indices[::-1], bits)  # from the bottom up
    step = len(rows) // 8
    pixels = b"".join(rows[i * step : (i + 1) * step].ljust(-4 * (-step // 4), b"\0") for i in range(8))
    table = b"".join(bytes([*colour[::-1], 0]) for colour in colours)
    start = 54 + len(table)
    head = struct.pack("<2sIII", b"BM", start + len(pixels), 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, bits, 0, len(pixels), 0, 0, len(colours), 0)
    alike(page_of(head + info + table + pixels), colours[indices])


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    """Four inks come out as the colours they print, for JPEG in Adobe's inverted way too."""
    inks = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    inks.paste((0, 255, 255, 0), (0, 0, 4, 8))
    page = page_of(saved(inks, kind))
    alike(page[:, :2], np.broadcast_to([255, 0, 0], (8, 2, 3)), slack=40)
    alike(page[:, 6:], np.broadcast_to([255, 255, 255], (8, 2, 3)), slack=40)


# Transparency


def transparent_ground(mode: str) -> Image.Image:
    """Black ink at the left on a ground that is black too, but transparent; half transparent in the middle."""
    alpha = np.zeros((6, 6), np.uint8)
    alpha[:, :2], alpha[:, 2:4] = 255, 128
    image = Image.new("LA" if mode == "LA" else "RGBA", (6, 6))
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha(mode: str, kind: str) -> None:
    """What is transparent is white paper, not the black that its pixels hide."""
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    page = page_of(saved(transparent_ground(mode), kind, **options))
    alike(page, np.tile(np.array([0, 0, 127, 127, 255, 255]), (6, 1)), slack=1)


def test_palette_with_transparency() -> None:
    """A transparent colour of a palette is white paper."""
    colours = bytes([0, 0, 0, 200, 0, 0, 0, 0, 0])
    indices = np.array([[0, 1, 2]] * 3)
    for bits in (2, 8):
        more = (chunk(b"PLTE", colours), chunk(b"tRNS", bytes([255, 255, 0])))
        page = page_of(png(3, 3, bits, 3, packed(indices, bits), *more))
        assert page[1].tolist() == [[0, 0, 0], [200, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("bits", [1, 8])
def test_transparent_grey(bits: int) -> None:
    """A grey level that stands for transparent is white paper too."""
    values = np.array([[0, 1, 0]] * 3)
    page = page_of(png(3, 3, bits, 0, packed(values, bits), chunk(b"tRNS", struct.pack(">H", 0))))
    alike(page, np.array([[255, 255 if bits == 1 else 1, 255]] * 3))


# Orientation

TURNS: Mapping[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda page: page,
    2: np.fliplr,
    3: lambda page: np.rot90(page, 2),
    4: np.flipud,
    5: lambda page: np.swapaxes(page, 0, 1),
    6: lambda page: np.rot90(page, 1),
    7: lambda page: np.rot90(np.swapaxes(page, 0, 1), 2),
    8: lambda page: np.rot90(page, -1),
}
"""How a camera stores an upright picture under each EXIF orientation."""


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_orientations(orientation: int, kind: str) -> None:
    """All eight ways of holding the camera give the same upright picture."""
    upright = np.kron(np.arange(6).reshape(2, 3) * 40 + 20, np.ones((8, 8))).astype(np.uint8)
    stored = Image.fromarray(np.ascontiguousarray(TURNS[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: Mapping[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}
    data = saved(stored, kind, exif=exif, **options.get(kind, {}))
    assert (b"\x12\x01" in data) or (b"\x01\x12" in data)
    alike(page_of(data), upright, slack=4)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02ab\0\0\0\0\0\0",
    ],
)
def test_broken_exif(exif: bytes) -> None:
    """EXIF that makes no sense does not cost the picture."""
    alike(page_of(saved(drawn(), "JPEG", exif=exif, quality=95)), np.asarray(drawn()), slack=25)


# TIFF has pages


def test_pages() -> None:
    """Each page of a TIFF comes in its order, with its own size and kind."""
    first, second, third = drawn(), Image.new("RGB", (9, 5), "red"), Image.new("1", (17, 3))
    found = pages(saved(first, "TIFF", save_all=True, append_images=[second, third]))
    assert [page.shape for page in found] == [(60, 48), (5, 9, 3), (3, 17)]
    alike(found[0], np.asarray(first))
    assert found[1][0, 0].tolist() == [255, 0, 0]


BAD_PAGES: Mapping[str, tuple[tuple[Tags, bytes], str]] = {
    "compression nobody knows": (sheet(8, 8, 8, MIN_IS_BLACK, bytes(64), t259=[999]), "unreadable"),
    "colour nobody knows": (sheet(8, 8, 8, 999, bytes(64)), "unreadable"),
    "depth nobody knows": (sheet(8, 8, 7, MIN_IS_BLACK, bytes(64)), "unreadable"),
    "no size": (({258: ("H", [8])}, b"x"), "unreadable"),
    "no width": (sheet(0, 8, 8, MIN_IS_BLACK, bytes(64)), "unreadable"),
    "broken LZW": (sheet(8, 8, 8, MIN_IS_BLACK, b"\xff" * 20, t259=[5]), "unreadable"),
    "broken deflate": (sheet(8, 8, 8, MIN_IS_BLACK, b"\xff" * 20, t259=[8]), "unreadable"),
    "pixels beyond the file": (
        ({**sheet(8, 8, 8, MIN_IS_BLACK, b"")[0], 273: ("I", [10**7]), 279: ("I", [64])}, b""),
        "truncated",
    ),
    "huge": (sheet(60_000, 60_000, 8, MIN_IS_BLACK, bytes(64)), "too_large"),
}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", BAD_PAGES)
def test_one_bad_page(name: str, place: int) -> None:
    """A page that cannot be read takes neither those before it along nor those after it."""
    bad, reason = BAD_PAGES[name]
    good = sheet(8, 8, 8, MIN_IS_BLACK, RAMP.tobytes())
    expected = ["", "", ""]
    directories = [good, good, good]
    directories[place], expected[place] = bad, reason
    found = list(decode(tiff(*directories), LIMITS))
    assert [page.reason if isinstance(page, Fault) else "" for page in found] == expected
    for page in found:
        assert isinstance(page, Fault) or np.array_equal(page, RAMP)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_loop_of_directories(count: int) -> None:
    """A TIFF whose last page links back to the first ends after each page came once."""
    good = sheet(8, 8, 8, MIN_IS_BLACK, RAMP.tobytes())
    assert len(pages(tiff(*[good] * count, loop=True))) == count


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
def test_link_beyond_the_end() -> None:
    """A page whose directory lies beyond the end of the file is there, and is cut."""
    good = sheet(8, 8, 8, MIN_IS_BLACK, RAMP.tobytes())
    data = bytearray(tiff(good))
    struct.pack_into("<I", data, len(data) - 4, 10**6)
    assert reasons(bytes(data)) == ["", "truncated"]


@pytest.mark.parametrize("data", [b"II+\0\x08\0\0\0" + b"\0" * 20, b"MM\0+\0\x08\0\0" + b"\xff" * 20])
def test_bigtiff_without_pages(data: bytes) -> None:
    """A BigTIFF that leads nowhere still gets its row."""
    assert fault(data).reason in {"unreadable", "truncated"}


def test_animation_is_one_picture() -> None:
    """Of a moving WebP or PNG only the first frame counts."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("WEBP", "PNG"):
        page = page_of(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert page[0, 0, 0] > 200


# What cannot be read


def test_empty() -> None:
    """An empty file is said to be empty."""
    assert fault(b"").reason == "empty"


@pytest.mark.parametrize(
    "data", [b"no picture at all\n", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", b"GIF89a" + bytes(30), bytes(500)]
)
def test_unsupported(data: bytes) -> None:
    """Text, PDF, GIF and zeros are of no format that is read; the message names those that are, and the remedy."""
    why = fault(data)
    assert why.reason == "unsupported"
    assert all(kind in why.detail for kind in FORMATS)
    assert why.detail.endswith("export it as PNG or TIFF")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7\n", "a PDF"),
        (b"GIF89a" + bytes(30), "a GIF"),
        (b"PK\3\4" + bytes(30), "a ZIP archive"),
        (b"\0\0\0\x18ftypheic", "HEIC, AVIF or a film"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    ],
)
def test_what_people_take_for_a_scan(data: bytes, name: str) -> None:
    """What is often dropped in place of a picture is called by its name."""
    assert fault(data).detail.startswith(f"is {name}, not ")


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
def test_truncated(name: str, share: float) -> None:
    """A file that was cut is never read as if it were whole."""
    data = SCANS[name]
    assert fault(data[: int(share * len(data))]).reason in {"truncated", "unreadable"}


@pytest.mark.parametrize("name", ["PNG", "JPEG", "TIFF LZW"])
def test_zero_filled(name: str) -> None:
    """A file that has its full size already but whose end is still zeros is not read as if it were whole."""
    data = SCANS[name]
    half = len(data) // 2
    assert fault(data[:half] + bytes(len(data) - half)).reason in {"truncated", "unreadable"}


@pytest.mark.parametrize("name", SCANS)
def test_only_the_beginning_is_right(name: str) -> None:
    """A file of which only the first bytes are right is refused with a reason."""
    noise = np.random.default_rng(7).integers(0, 256, 2000).astype(np.uint8).tobytes()
    found = reasons(SCANS[name][:12] + noise)
    assert found
    assert set(found) <= {"truncated", "unreadable", "too_large"}


def huge() -> Mapping[str, bytes]:
    """A few hundred bytes in each format that claim to be a picture of 60,000×60,000 pixels."""
    side = 60_000
    jpeg = bytearray(SCANS["JPEG"])
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, side, side)
    bmp = bytearray(SCANS["BMP"])
    struct.pack_into("<ii", bmp, 18, side, side)
    return {
        "PNG": png(side, side, 8, 2, bytes(side)),
        "JPEG": bytes(jpeg),
        "BMP": bytes(bmp),
        "TIFF": tiff(sheet(side, side, 8, RGB, bytes(64), samples=3)),
        "TIFF LZW": tiff(sheet(side, side, 8, MIN_IS_BLACK, bytes(64), t259=[5])),
    }


@pytest.mark.parametrize("name", huge())
def test_huge_header(name: str) -> None:
    """A header of 60,000×60,000 pixels is refused before any memory is taken for them; the message names the limit."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    why = fault(huge()[name])
    assert why.reason == "too_large"
    assert "60000×60000" in why.detail
    assert f"limits.pixels is {LIMITS.pixels}" in why.detail
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB; the picture would be 3.6 GB


def test_decompression_bomb() -> None:
    """A PNG of a few kilobytes that would unfold to more pixels than allowed is refused by its header."""
    side = 7000
    data = png(side, side, 1, 0, bytes(side * side // 8))
    assert len(data) < 10_000
    assert fault(data).reason == "too_large"


def test_pixel_limit_is_exact() -> None:
    """A page of exactly the limit is read, one pixel row more is not."""
    limits = Limits(pixels=480)
    assert pages(saved(Image.new("L", (48, 10)), "PNG"), limits)
    assert fault(saved(Image.new("L", (48, 11)), "PNG"), limits).reason == "too_large"


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9)),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(50_000_000), 9)),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(50_000_000), 9)),
    ],
    ids=["zTXt", "iCCP", "iTXt"],
)
def test_text_bomb(bomb: bytes) -> None:
    """Text or a profile that unfolds to 50 MB is not unfolded: the page comes without it, or a reason does."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert reasons(png(8, 8, 8, 0, RAMP.tobytes(), bomb)) in (["unreadable"], [""])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kB


@pytest.mark.parametrize("name", SCANS)
def test_flipped_bytes(name: str) -> None:
    """Whatever bytes are wrong, there is at least one page or reason, and never an exception."""
    random = np.random.default_rng(len(name))
    limits = Limits(pixels=1_000_000)
    for _ in range(60):
        data = np.frombuffer(SCANS[name], np.uint8).copy()
        count = int(random.integers(1, 12))
        # Half of them in the first bytes, where the headers are.
        reach = 64 if random.random() < 0.5 else len(data)
        data[random.integers(0, reach, count)] = random.integers(0, 256, count)
        found = list(decode(data.tobytes(), limits))
        assert found
        for page in found:
            if isinstance(page, Fault):
                assert page.reason in {"truncated", "unreadable", "too_large", "unsupported"}
            else:
                assert page.dtype == np.uint8
                assert page.shape[0] * page.shape[1] <= limits.pixels


# Whether a file is there to its end


def whole(data: bytes) -> bool:
    """Whether a file of these bytes seems to be there to its end."""
    return complete(lambda offset, count: data[offset : offset + count], len(data))


def grain(kind: str, **options: Any) -> bytes:
    """A grey page that does not compress, many times the 4 KB that are looked at of either end of its file."""
    page = np.random.default_rng(3).integers(0, 256, (150, 200)).astype(np.uint8)
    return saved(Image.fromarray(page), kind, **options)


@pytest.mark.parametrize("name", SCANS)
def test_complete(name: str) -> None:
    """A whole file is seen to be whole."""
    assert whole(SCANS[name])


@pytest.mark.parametrize("name", ["PNG", "JPEG", "JPEG progressive", "BMP", "WEBP", "WEBP lossy", "TIFF of OpenCV"])
def test_cut_short(name: str) -> None:
    """Wherever a file is cut, it is seen to be cut."""
    data = SCANS[name]
    # The TIFF ends with its directory, so its last bytes are what lies in that.
    end = struct.unpack_from("<I", data, 4)[0] + 1 if name.startswith("TIFF") else len(data)
    for cut in [*range(12, end, 7), end - 1]:
        assert not whole(data[:cut]), cut


@pytest.mark.parametrize("name", ["PNG", "JPEG", "JPEG progressive", "BMP", "WEBP"])
def test_ends_of_a_large_file(name: str) -> None:
    """Of a large file two looks at 4 KB tell as much as the whole."""
    data = grain(name.split(maxsplit=1)[0], **({"progressive": True} if "progressive" in name else {}))
    assert len(data) > 3 * 4096
    looks = []

    def read(offset: int, count: int) -> bytes:
        looks.append(count)
        return data[offset : offset + count]

    assert complete(read, len(data))
    assert len(looks) <= 2
    assert sum(looks) <= 2 * 4096
    for share in (0.5, 0.7, 0.99):
        assert not whole(data[: int(share * len(data)) - 100])


@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
def test_cut_page_of_a_tiff(compression: str, big: bool) -> None:
    """Wherever a TIFF of several pages is cut, it is seen to be cut; what is left of it says so page by page."""
    page = Image.open(io.BytesIO(grain("PNG")))
    data = grain("TIFF", compression=compression, big_tiff=big, save_all=True, append_images=[page, page])
    assert whole(data)
    ends = [at for at, _ in tiff_pages(lambda offset, count: data[offset : offset + count], len(data))]
    assert len(ends) == 3
    padding = 16  # after its last pixels
    for cut in [*range(ends[0] + 1, len(data) - padding, 997), *(end + 1 for end in ends), len(data) - padding - 1]:
        assert not whole(data[:cut]), cut
    for cut in (ends[1] + 1, ends[1] + 60, len(data) - 40):  # in the second directory, behind it, in the last pixels
        found = reasons(data[:cut])
        assert found[0] == "", cut
        assert found[-1] == "truncated", cut


@pytest.mark.parametrize("cut", [2000, 12_000, 18_000, 23_700, 23_800, 23_851])
def test_cut_sample(cut: int) -> None:
    """A TIFF whose directories are out of sight from either end is seen to be cut."""
    data = (Path(__file__).parents[1] / "samples" / "6-3_two_pages.tif").read_bytes()
    assert whole(data)
    assert not whole(data[:cut])


def test_tiff_that_is_still_to_be_written() -> None:
    """A TIFF whose next directory is zeros, or whose first has no place yet, is not whole."""
    good = sheet(8, 8, 8, MIN_IS_BLACK, RAMP.tobytes())
    data = bytearray(tiff(good))
    struct.pack_into("<I", data, len(data) - 4, len(data))
    assert not whole(bytes(data) + bytes(500))
    big = bytearray(SCANS["BigTIFF"])
    struct.pack_into("<Q", big, 8, 0)
    assert not whole(bytes(big))


def test_directories_of_no_scanner() -> None:
    """A TIFF whose directories name more than a file ever holds is looked at for a moment, and left to the decoder."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 250_000, 16) for tag in (273, 279, 324, 325) * 200)
    rows = struct.pack("<H", 800) + entries + struct.pack("<I", 0)
    assert whole(b"II*\0" + struct.pack("<I", 1_000_016) + bytes(1_000_008) + rows)
    assert whole(tiff(*[sheet(8, 8, 8, MIN_IS_BLACK, RAMP.tobytes())] * 3, loop=True))


def test_trailing_bytes() -> None:
    """Some bytes after the end, as cameras and card readers leave them, do not make a file incomplete."""
    for name in ("PNG", "JPEG", "BMP", "WEBP"):
        data = SCANS[name] + bytes(40)
        assert whole(data), name
        assert reasons(data) == [""], name


def test_jpeg_with_a_thumbnail_in_it() -> None:
    """The end of the small picture in a JPEG's EXIF is not taken for the end of the file."""
    exif = b"Exif\0\0" + SCANS["JPEG"]
    data = saved(drawn().resize((480, 600)), "JPEG", exif=exif)
    assert whole(data)
    for earlier, cut in pairwise([data.rindex(b"\xff\xda") + 2, len(data) // 2, len(data) - 2]):
        assert earlier < cut
        assert not whole(data[:cut])


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("fill", [b"", b"\xff\xff\xff"], ids=["", "fill bytes"])
def test_jpeg_whose_pixels_begin_far_behind(progressive: bool, fill: bytes) -> None:
    """Pictures in a JPEG's segments never end it, wherever it is cut; its pixels may begin behind 100 KB of them."""
    jpeg = grain("JPEG", progressive=progressive)
    small = saved(drawn().resize((24, 30)), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 60_000) + b"Exif\0\0" + small.ljust(59_992, b"\xda")
    assert len(small) < 3000
    data = jpeg[:2] + fill + segment + fill + segment + fill + jpeg[2:]
    begin = len(data) - len(jpeg) + 2
    assert whole(data)
    assert reasons(data) == [""]
    for cut in [20, 3500, 6000, 62_000, begin, *range(begin + 1, len(data) - 2, 501), len(data) - 1]:
        assert not whole(data[:cut]), cut
    zeros = data[: begin + 5000]
    assert not whole(zeros + bytes(len(data) - len(zeros)))


def test_jpeg_with_a_film_behind_it() -> None:
    """What cameras append to a JPEG does not make it incomplete: a preview at once, a film once it was waited for."""
    preview = grain("JPEG") + grain("JPEG", quality=30)
    assert whole(preview)
    film = grain("JPEG") + b"ftypmp42" + np.random.default_rng(5).bytes(300_000) + b"\xff\xda" + bytes(5000)
    assert reasons(film) == [""]


@pytest.mark.parametrize("data", [b"II*\0", b"II*\0\0\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0"])
def test_empty_tiff(data: bytes) -> None:
    """A TIFF of which only the header is there is not whole."""
    assert not whole(data)
    assert fault(data).reason == "truncated"


def test_unknown_is_complete() -> None:
    """What is of no known format has nothing to wait for, but for an empty file."""
    assert whole(b"hello, I am text")
    assert not whole(b"")
