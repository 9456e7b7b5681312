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
            # Writers patch the offset of the first directory in last; a cut file often ends before it.
            if len(data) < 8 or data[2] == 43 or data[3] == 43:  # BigTIFF: told by decoding it
                return len(data) >= 16
            order = "<I" if data.startswith(b"II") else ">I"
            return 8 <= int(struct.unpack_from(order, data, 4)[0]) < size
        case _:
            return size >= 12  # less does not even show what it is going to be
