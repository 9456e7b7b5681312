"""Lines of text."""

from __future__ import annotations

from watcher.lettering import printable


def test_printable_shows_what_it_cannot_print() -> None:
    """Escapes stand for control characters and surrogates, a box for what the face lacks; the rest stays."""
    assert printable("a\nb\udcff\u202e é·ß") == r"a\nb\udcff\u202e é·ß"
    assert printable("日.png") == "□.png"
