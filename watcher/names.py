"""Names of scans as text: printable, without harm to a spreadsheet, and short enough to be a file's."""

from __future__ import annotations

import hashlib
import os
import re

NAME_MAX = 255  # bytes of a file name on the usual file systems
# C0, C1 and lone surrogates break files; line, paragraph and direction marks make a name look like another.
_ODD = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4})")


def escape(name: str) -> str:
    r"""A file name as printable text that no spreadsheet runs; `unescape` gives it back.

    Bytes that are no UTF-8 and control characters become \xhh, direction and line marks \uhhhh, a backslash two.
    A first character that makes a cell a formula (= + - @) is escaped too.
    """
    text = _ODD.sub(lambda match: _code(match[0]), name)
    return _code(text[0]) + text[1:] if text[:1] in {"=", "+", "-", "@"} else text


def unescape(text: str) -> str:
    """The name, surrogate-escaped as the file system has it, that `escape` made `text` of."""

    def char(match: re.Match[str]) -> str:
        code = match[1]
        if code == "\\":
            return "\\"
        number = int(code[1:], 16)
        # \x80 and up stand for raw bytes, which Python keeps as surrogates; real C1 characters are written \u00hh.
        return chr(0xDC00 + number) if code[0] == "x" and number >= 0x80 else chr(number)

    return _ESCAPE.sub(char, text)


def thumbnail_name(name: str, page: int) -> str:
    """Where the picture of a page lies in a folder of them: printable, unlike any other, short enough to be a file."""
    *folders, file = [part for part in name.split("/") if part not in {"", "."}]
    tail = f".{page}.png" if page > 1 else ".png"
    # A folder called like another scan's thumbnail must not stand in its way, nor may one lead out of theirs.
    kept = [fitting(part, ".d" if part == ".." or part.endswith((".png", ".d")) else "") for part in folders]
    return "/".join([*kept, fitting(file, tail)])


def fitting(part: str, tail: str, *, marked: bool = False) -> str:
    """A part of a path, printable and with a tail; `marked`, or shortened, it bears a hash that keeps it apart."""
    text = escape(part)
    if not marked and len((text + tail).encode()) <= NAME_MAX:
        return text + tail
    mark = "~" + hashlib.sha256(os.fsencode(part)).hexdigest()[:8]
    return text.encode()[: NAME_MAX - len((mark + tail).encode())].decode(errors="ignore") + mark + tail


def _code(char: str) -> str:
    if char == "\\":
        return "\\\\"
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}"
