"""What the bytes at a file's ends tell, without decoding anything: its format, and whether it is there to its end."""

from __future__ import annotations

import struct

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")


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
            return _tiff_complete(data, size)
        case _:
            return size >= 12  # less does not even show what it is going to be


def tiff_begins(data: bytes, size: int) -> bool:
    """Whether the first directory of a TIFF is there: writers patch its offset in last."""
    big, order = _tiff_layout(data)
    if big or len(data) < 8:  # BigTIFF: told by decoding it
        return len(data) >= 16
    return 8 <= int(struct.unpack_from(order + "I", data, 4)[0]) < size


def _tiff_layout(data: bytes) -> tuple[bool, str]:
    return 43 in data[2:4], "<" if data.startswith(b"II") else ">"


def _tiff_complete(data: bytes, size: int) -> bool:
    """Whether all strips and tiles lie within the file, as far as the directories are among what we see of it."""
    if not tiff_begins(data, size):
        return False
    big, order = _tiff_layout(data)
    count, pointer, width, first = ("Q", "Q", 8, 8) if big else ("H", "I", 4, 4)
    edge = len(data) if len(data) == size else len(data) // 2

    def see(form: str, offset: int) -> tuple[int, ...] | None:
        """Numbers at an offset of the file; None where we do not see it. Raises EOFError beyond the end."""
        form = order + form
        if offset + struct.calcsize(form) > size:
            raise EOFError
        at = offset if offset + struct.calcsize(form) <= edge else offset - size + len(data)
        return struct.unpack_from(form, data, at) if at == offset or at >= edge else None

    try:
        links, seen = see(pointer, first), set[int]()
        while links and links[0] not in {0, *seen}:
            seen.add(links[0])
            (entries,) = see(count, links[0]) or (0,)
            if entries > 1000:  # no scanner's: let the decoder judge it
                return True
            at = links[0] + struct.calcsize(order + count)
            links = see(pointer, at + entries * (4 + 2 * width)) if entries else None
            arrays: dict[int, tuple[int, ...]] = {}
            for entry in range(at, at + entries * (4 + 2 * width), 4 + 2 * width):
                tag, kind, number = see("HH" + pointer, entry) or (0, 0, 0)
                if tag in {273, 324, 279, 325} and kind in {3, 4, 16} and number:  # where they are, and how long
                    form = f"{number}{ {3: 'H', 4: 'I', 16: 'Q'}[kind] }"
                    inline = struct.calcsize(order + form) <= width
                    places = (entry + 4 + width,) if inline else see(pointer, entry + 4 + width)
                    arrays[tag] = (places and see(form, places[0])) or ()
            for offsets, lengths in ((273, 279), (324, 325)):
                pairs = zip(arrays.get(offsets, ()), arrays.get(lengths, ()), strict=False)
                if any(offset + length > size for offset, length in pairs):
                    return False
    except EOFError:
        return False
    except struct.error:  # numbers beyond all files: let the decoder judge it
        return True
    return True
