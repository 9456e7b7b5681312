"""Which files have come to rest, told scan by scan on a plain clock."""

from __future__ import annotations

import pytest

from watcher.settle import Settling, Signature

A = Signature(1, 100, 1_000)
GROWN = Signature(1, 200, 1_000)
TOUCHED = Signature(1, 100, 2_000)
REPLACED = Signature(2, 100, 1_000)
EMPTY = Signature(1, 0, 1_000)

History = list[tuple[float, Signature | None]]
"""When the folder was scanned, and how the file looked; None where it was not there."""


def settled_at(history: History, quiet: float = 2.0) -> list[float]:
    """The times of the scans that found the file settled."""
    settling = Settling(quiet)
    found = []
    for now, signature in history:
        if "a.png" in settling.observe({"a.png": signature} if signature else {}, now):
            found.append(now)
    return found


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([(0, A)], []),
        ([(0, A), (1, A)], []),
        ([(0, A), (2, A)], [2]),
        ([(0, A), (1, A), (2, A), (3, A)], [2, 3]),
        ([(0, A), (1.999, A)], []),
        ([(0, A), (100, A)], [100]),
        ([(0, A), (1, GROWN), (2, GROWN)], []),
        ([(0, A), (1, GROWN), (3, GROWN)], [3]),
        ([(0, A), (100, GROWN)], []),
        ([(0, A), (1, TOUCHED), (2, TOUCHED), (3, TOUCHED)], [3]),
        ([(0, A), (1, REPLACED), (2, REPLACED), (3, REPLACED)], [3]),
        ([(0, A), (1, GROWN), (2, A), (3, A), (4, A)], [4]),
        ([(0, A), (2, A), (3, GROWN), (4, GROWN), (5, GROWN)], [2, 5]),
        ([(0, A), (1, None), (2, A), (3, A), (4, A)], [4]),
        ([(0, A), (2, None), (4, A)], []),
        ([(0, EMPTY), (2, EMPTY)], [2]),
        ([(1e9, A), (1e9 + 2, A)], [1e9 + 2]),
    ],
)
def test_settled(history: History, expected: list[float]) -> None:
    """A file has settled once it looked the same for two seconds and in two scans; any change starts it anew."""
    assert settled_at(history) == expected


def test_two_scans_even_without_quiet() -> None:
    """With no quiet time at all a file still has to look the same in two scans."""
    assert settled_at([(0, A), (0, A)], quiet=0) == [0]
    assert settled_at([(0, A), (1, GROWN), (2, GROWN)], quiet=0) == [2]


@pytest.mark.parametrize("date", [-1, 0, 10**18, 4 * 10**18])
def test_dates_are_not_believed(date: int) -> None:
    """A date of long ago or of tomorrow neither hastens nor delays a file."""
    old = Signature(1, 100, date)
    assert settled_at([(0, old), (1, old), (2, old)]) == [2]


def test_how_long_and_longest_first() -> None:
    """Those that settled come with the seconds they have been quiet, the longest first."""
    settling = Settling(2.0)
    settling.observe({"late": A}, 0.0)
    settling.observe({"late": GROWN, "early": A}, 1.0)
    settling.observe({"late": TOUCHED, "early": A, "young": A}, 2.0)
    found = settling.observe({"young": A, "late": TOUCHED, "early": A}, 4.5)
    assert list(found.items()) == [("early", 3.5), ("young", 2.5), ("late", 2.5)]


def test_files_do_not_disturb_each_other() -> None:
    """One that keeps growing holds up no other."""
    settling = Settling(2.0)
    for now in range(5):
        found = settling.observe({"a": A, "b": Signature(9, now, now)}, float(now))
    assert list(found) == ["a"]


def test_due() -> None:
    """The loop is told when the next file may have settled, and that there is nothing to wait for."""
    settling = Settling(2.0)
    assert settling.due(0.0) is None
    settling.observe({"a": A}, 10.0)
    assert settling.due(10.0) == 2.0
    assert settling.due(11.5) == 0.5
    settling.observe({"a": A, "b": A}, 11.5)
    assert settling.due(11.5) == 0.5
    settling.observe({"a": A, "b": A}, 12.0)
    assert settling.due(12.0) == 1.5
    settling.observe({"a": A, "b": A}, 13.5)
    assert settling.due(13.5) is None


def test_due_after_a_change() -> None:
    """A file that changed is due its full quiet time later."""
    settling = Settling(2.0)
    settling.observe({"a": A}, 0.0)
    settling.observe({"a": GROWN}, 1.5)
    assert settling.due(1.5) == 2.0


def test_oldest() -> None:
    """The age told is that of the file that has looked the same for longest; nothing is no age."""
    settling = Settling(2.0)
    assert settling.oldest(5.0) == 0.0
    settling.observe({"a": A}, 1.0)
    settling.observe({"a": A, "b": A}, 4.0)
    assert settling.oldest(7.0) == 6.0
    settling.observe({"b": A}, 8.0)
    assert settling.oldest(8.0) == 4.0


def test_the_oldest_is_taken() -> None:
    """Once a file is taken, the age and the time to wait that are told are those of the files that are left."""
    settling = Settling(2.0)
    settling.observe({"a": A}, 0.0)
    settling.observe({"a": A, "b": A}, 1.0)
    assert (settling.oldest(1.0), settling.due(1.0)) == (1.0, 1.0)
    settling.forget("a")
    assert (settling.oldest(2.0), settling.due(2.0)) == (1.0, 1.0)
    settling.forget("b")
    assert (settling.oldest(2.0), settling.due(2.0)) == (0.0, None)


def test_what_is_gone_is_forgotten() -> None:
    """Only what the last scan saw is remembered, so that memory does not grow over months."""
    settling = Settling(2.0)
    for number in range(100):
        settling.observe({f"{number}.png": A, "stays.png": A}, float(number))
    assert len(settling) == 2
    assert settling.signature("stays.png") == A
    with pytest.raises(KeyError):
        settling.signature("0.png")


def test_signature_is_the_latest() -> None:
    """A file's signature is how it looked in the last scan."""
    settling = Settling(2.0)
    settling.observe({"a": A}, 0.0)
    settling.observe({"a": GROWN}, 1.0)
    assert settling.signature("a") == GROWN


def test_overdue_is_due_at_once() -> None:
    """A file whose quiet time has passed but which was seen only once needs another look now, not never."""
    settling = Settling(2.0)
    settling.observe({"a": A}, 0.0)
    assert settling.due(5.0) == 0.0
    settling.observe({"a": A}, 5.0)
    assert settling.due(5.0) is None


def test_forget() -> None:
    """A file that was taken is forgotten: one that comes under its name has to settle from the beginning."""
    settling = Settling(2.0)
    settling.observe({"a": A, "b": A}, 0.0)
    assert list(settling) == ["a", "b"]
    assert list(settling.observe({"a": A, "b": A}, 2.0)) == ["a", "b"]
    settling.forget("a")
    settling.forget("a")
    assert list(settling) == ["b"]
    assert list(settling.observe({"a": A, "b": A}, 3.0)) == ["b"]
    assert settling.due(3.0) == 2.0
    assert list(settling.observe({"a": A, "b": A}, 5.0)) == ["b", "a"]
