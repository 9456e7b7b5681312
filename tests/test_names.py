"""Names of any bytes become text, and files' names, that do no harm."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest

from watcher.names import NAME_MAX, escape, thumbnail_name, unescape

NASTY = [
    b"plain.png",
    b"\xff.png",
    b"\xe9t\xe9.png",  # Latin-1
    b"line\nbreak.png",
    b"carriage\rreturn.png",
    b"comma, and more.png",
    b'a "quoted" name.png',
    b"'single'.png",
    b"=HYPERLINK(A1).png",
    b"+1.png",
    b"-1.png",
    b"@SUM.png",
    b"\tindented.png",
    b"\r=1.png",
    b" leading and trailing .png ",
    b"back\\slash.png",
    b"back\\xff.png",
    b"back\\\\u0085.png",
    b"\\x3d1.png",
    b"ends with \\",
    b"a;b|c.png",
    "🖊️ 7️⃣.png".encode(),
    "ⅷ٣三.png".encode(),
    "gnp.\u202eexe.png".encode(),
    "\u2066isolated\u2069.png".encode(),
    "line\u2028separator.png".encode(),
    "next\u0085line.png".encode(),
    "\u009bcontrol.png".encode(),
    b"\x85raw.png",
    b"\x7f.png",
    b"\x01\x02\x1b[31m.png",
    b"\xed\xa0\x80.png",  # a surrogate in UTF-8's clothes
    b"\xf0\x9f\x96.png",  # an emoji cut short
    b"x" * 251 + b".png",
    b"\xff" * 255,
    "é".encode() * 127,
    b"sub folder/=deep/\xff/a.png",
]
"""File names as bytes that have broken somebody's files."""


@pytest.mark.parametrize("name", NASTY)
def test_names_come_back(name: bytes) -> None:
    """A name of any bytes is written as printable text of one line, and comes back from it byte for byte."""
    text = escape(os.fsdecode(name))
    assert os.fsencode(unescape(text)) == name
    assert text.encode("utf-8").decode("utf-8") == text
    assert text[0] not in "=+-@\t\r\n"
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)


def test_any_bytes_come_back() -> None:
    """Names of random bytes and of random characters come back, and no two become the same text."""
    random = np.random.default_rng(5)
    pieces = [b"\\", b"x", b"u", b"0", b"8", b"5", b"=", b"\xff", b"\xc2\x85", b"\xe2\x80\xae", b"\x85", b"a", b"\n"]
    names = set()
    for _ in range(3000):
        names.add(random.integers(1, 256, int(random.integers(1, 40))).astype(np.uint8).tobytes())
        names.add(b"".join(pieces[i] for i in random.integers(0, len(pieces), int(random.integers(1, 12)))))
    texts = {escape(os.fsdecode(name)): name for name in names}
    assert len(texts) == len(names)
    for text, name in texts.items():
        assert os.fsencode(unescape(text)) == name


def test_any_characters_come_back() -> None:
    """Each character there is comes back, at the start of a name and within it."""
    for code in [*range(1, 0x3000), *range(0xD7F0, 0x10000), 0x1F58A, 0x10FFFF]:
        for name in (chr(code), f"a{chr(code)}b"):
            if 0xDC00 <= code < 0xDC80:
                continue  # stands for no byte: no file system gives it
            assert unescape(escape(name)) == name, hex(code)


def test_plain_names_stay() -> None:
    """Names that do no harm are written as they are, in any script."""
    for name in ("a.png", "ZIP 00501_zip.png", "Müller/三.tif", "a=b+c-d@e.png", "~x", "🖊️.png"):
        assert escape(name) == name


def test_empty_name() -> None:
    """Nothing stays nothing."""
    assert escape("") == ""
    assert unescape("") == ""


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_thumbnail_names(page: int) -> None:
    """Each nasty name gets a thumbnail of its own, whose name is printable and fits a file system."""
    names = [thumbnail_name(os.fsdecode(name), page) for name in NASTY]
    assert len(set(names)) == len(names)
    for name in names:
        assert name.endswith(".png")
        assert name.isprintable()
        assert max(len(part.encode("utf-8")) for part in name.split("/")) <= NAME_MAX


def test_long_names_stay_apart() -> None:
    """Long names that only differ at their ends, and the pages of each, have thumbnails of their own."""
    scans = [f"{'é' * 120}{number:04}.tif" for number in range(50)] + ["\udcff" * 250 + f"{i}.tif" for i in range(9)]
    names = {thumbnail_name(scan, page) for scan in scans for page in (1, 2, 3)}
    assert len(names) == 3 * len(scans)
