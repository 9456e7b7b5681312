"""What is rendered is kept for the next training."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np

from train import cache

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NOTHING = np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.uint8)


def test_arrays_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept comes back; what it depends on tells it from all else, and what nobody used for long goes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, other = (cache.place("rendered", what, *NOTHING, ["train/cache.py"]) for what in ("1", "2"))
    assert one != other
    assert one.parent == other.parent == tmp_path / "digitdrop" / "rendered"
    cache.keep(one, {"images": np.arange(3)})
    month_ago = time.time() - cache.STALE - 60
    os.utime(one, (month_ago, month_ago))
    kept = cache.take(one)  # in use, so that it stays
    assert kept is not None
    assert kept["images"].tolist() == [0, 1, 2]
    cache.keep(other, {"images": np.arange(2)})
    assert sorted(one.parent.iterdir()) == sorted([one, other])
    os.utime(one, (month_ago, month_ago))
    cache.keep(other, {"images": np.arange(2)})
    assert list(one.parent.iterdir()) == [other]
    assert cache.take(one) is None


def test_a_cache_that_cannot_be_written_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be kept is said, once, and what was begun does not stay."""
    (tmp_path / "digitdrop").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = cache.place("rendered", "1", *NOTHING, [])
    cache.keep(path, {"images": np.arange(3)})
    assert capsys.readouterr().err.startswith(f"digitdrop-train: {path}: not kept for the next time: ")
    assert cache.take(path) is None


def test_what_a_full_disk_cuts_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that did not become whole is taken away again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = cache.place("rendered", "1", *NOTHING, [])
    path.parent.mkdir(parents=True)
    path.with_suffix(f".{os.getpid()}").symlink_to("/dev/full")
    cache.keep(path, {"images": np.zeros(1_000_000)})
    assert list(path.parent.iterdir()) == []
