"""What a file's marks tell, without decoding anything: its format, and whether it is there to its end."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
OTHERS = (
    (0, b"%PDF", "a PDF"),
    (0, b"GIF8", "a GIF"),
    (0, b"PK\3\4", "a ZIP archive"),
    (4, b"ftyp", "HEIC, AVIF or a film"),
    (4, b"jP  ", "JPEG 2000"),
)
"""What people take for a scan: the mark of each, and where it stands."""
EDGE = 4096  # bytes at the start and at the end of a file that are looked at for its marks
SEGMENT = re.compile(rb"\xff(?:[\xd9\xda]|[\x02-\xcf\xdb-\xfe](..))", re.DOTALL)
"""The next mark of a JPEG, with the length of its segment; without one where the pixels begin or the file ends."""
SEGMENTS = 1000  # of a JPEG before its pixels that are walked over: no camera writes more
ENTRIES, TABLES = 1000, 1 << 22  # in a directory of a TIFF, and bytes of all: of more the decoder has to judge
POSITIONS = ((273, 279), (324, 325))  # TIFF tags: where the strips are and how long, the same of the tiles
INTEGERS = {3: "H", 4: "I", 16: "Q"}  # TIFF types of these

Read = Callable[[int, int], bytes]
"""Reads a file: at an offset, so many bytes; fewer where it ends."""


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


def other(data: bytes) -> str:
    """What a file is that is none of FORMATS, in words; empty where its mark is not known."""
    return next((name for at, mark, name in OTHERS if data.startswith(mark, at)), "")


def complete(read: Read, size: int, edge: int = EDGE) -> bool:
    """Whether a scan seems to be there to its end: a cheap look at its marks, nothing is decoded.

    `size` is the file's size in bytes, `edge` how many of its last ones may hold the mark of the end. True where the
    format does not tell. What `read` raises is raised.
    """
    head = read(0, EDGE)
    match sniff(head):
        case "PNG":
            return b"IEND\xaeB`\x82" in read(max(0, size - edge), edge)
        case "JPEG":
            # Entropy-coded data never holds the mark. Cameras append previews and films to it.
            last = max(0, size - edge)
            return read(last, edge).find(b"\xff\xd9", max(0, _jpeg_scan(read, head) - last)) >= 0
        case "BMP":
            return len(head) >= 6 and int(struct.unpack_from("<I", head, 2)[0]) <= size
        case "WEBP":
            return len(head) >= 8 and int(struct.unpack_from("<I", head, 4)[0]) + 8 <= size
        case "TIFF":
            return tiff_begins(head, size) and _tiff_complete(read, size)
        case _:
            return size >= 12  # less does not even show what it is going to be


def unfilled(read: Read, size: int) -> bool:
    """Whether a file's end seems to be room made in advance, which reads as zeros until it is filled.

    White or black paper is zeros too, but seldom so many. False where `complete` asks for a mark at the end.
    """
    count = min(size - size // 2, EDGE)
    return sniff(read(0, EDGE)) not in {"PNG", "JPEG"} and not any(read(max(0, size - EDGE), EDGE)[-count:])


def tiff_begins(data: bytes, size: int) -> bool:
    """Whether the first directory of a TIFF is there: writers patch its offset in last."""
    form, first = tiff_link(data)
    if first == 8 or len(data) < 8:  # BigTIFF: told by decoding it
        return len(data) >= 16
    return 8 <= int(struct.unpack_from(form, data, first)[0]) < size


def tiff_link(data: bytes) -> tuple[str, int]:
    """How a TIFF writes an offset, as a form of struct, and where the offset of its first directory stands."""
    order = "<" if data.startswith(b"II") else ">"
    return (order + "Q", 8) if 43 in data[2:4] else (order + "I", 4)


def tiff_pages(read: Read, size: int) -> Iterator[tuple[int, bool]]:
    """For each page of a TIFF the offset of its directory, and whether that, its strips and its tiles are there.

    A chain of directories that comes back to itself ends there; one that leaves the file ends with a page that is not
    there.
    """
    link, first = tiff_link(read(0, 4))
    number = link.replace("I", "H")
    wide, entry = struct.calcsize(link), 4 + 2 * struct.calcsize(link)

    def see(offset: int, count: int) -> bytes:
        data = read(offset, count) if offset + count <= size else b""
        if len(data) < count:
            raise EOFError
        return data

    (at,) = struct.unpack(link, see(first, wide))
    seen: set[int] = set()
    while at not in seen:
        seen.add(at)
        entries = 0
        try:
            start = at + struct.calcsize(number)
            (entries,) = struct.unpack(number, see(at, start - at))
            table = see(start, entries * entry + wide)
        except EOFError:
            yield at, entries > ENTRIES
            return
        # None at all are zeros: room for what is still to be written.
        yield at, entries > ENTRIES or (entries > 0 and _pixels_there(table[:-wide], link, see, size))
        (at,) = struct.unpack(link, table[-wide:])
        if at == 0:
            return


def _pixels_there(table: bytes, link: str, see: Read, size: int) -> bool:
    """Whether all strips and tiles that a directory of a TIFF names lie within the file. `see` raises EOFError."""
    order, wide = link[0], struct.calcsize(link)
    found: dict[int, Iterator[tuple[int, ...]]] = {}
    try:
        for tag, kind, number, value in struct.iter_unpack(f"{order}HH{link[1]}{wide}s", table):
            if kind in INTEGERS and any(tag in pair for pair in POSITIONS):
                form = struct.Struct(order + INTEGERS[kind])
                count = number * form.size
                (place,) = struct.unpack(link, value)
                data = value[:count] if count <= wide else see(place, count)
                found[tag] = form.iter_unpack(data)
    except EOFError:
        return False
    return not any(
        start + length > size
        for starts, lengths in POSITIONS
        for (start,), (length,) in zip(found.get(starts, ()), found.get(lengths, ()), strict=False)
    )


def _tiff_complete(read: Read, size: int) -> bool:
    """Whether all pages of a TIFF are there, as far as TABLES bytes tell."""
    left = TABLES

    def some(offset: int, count: int) -> bytes:
        nonlocal left
        left -= count
        if left < 0:
            raise OverflowError
        return read(offset, count)

    try:
        return all(at > 0 and there for at, there in tiff_pages(some, size))  # of a BigTIFF the first may be 0 yet
    except EOFError:  # became shorter since its size was asked
        return False
    except OverflowError:
        return True


def _jpeg_scan(read: Read, head: bytes) -> int:
    """Where the segments of a JPEG end and its pixels begin: what EXIF holds of pictures lies in segments.

    It may lie beyond the end of the file. Bytes between segments are skipped, as decoders do.
    """
    seen, first, at = head, 0, 2
    for _ in range(SEGMENTS):
        found = SEGMENT.search(seen, at - first)
        if found is None:
            seen, first = read(at, EDGE), at
            found = SEGMENT.search(seen)
        if found is None or found[1] is None:
            return at
        at = first + found.start(1) + int.from_bytes(found[1])
    return at
