"""Pictures of the steps: one for each page that could be read, from the command as a user runs it."""

from __future__ import annotations

import io
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
from conftest import ROOT, read_csv
from PIL import Image

from watcher.__main__ import main
from watcher.explain import STEPS, explain
from watcher.results import blank

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_picture_for_each_page_that_could_be_read(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pages make two pictures, a small digit a second row in its own; a file that cannot be read makes none."""
    monkeypatch.chdir(tmp_path)
    for name in ("6-3_two_pages.tif", "4_box.png", "broken.png"):
        shutil.copy(ROOT / "samples" / name, name)
    assert main(["read", "--config", str(ROOT / "config.yaml"), ".", "--explain", "steps"]) == 1
    assert len(read_csv(capfdbinary.readouterr().out)) == 4
    made = sorted(os.listdir(tmp_path / "steps"))
    assert made == ["4_box.png.png", "6-3_two_pages.tif.2.png", "6-3_two_pages.tif.png"]


def test_each_step_is_shown() -> None:
    """Side by side for a blank page too, for which there is no writing to show, and a row more for a closer look."""
    page = np.full((400, 300), 230, np.uint8)
    empty = np.asarray(Image.open(io.BytesIO(explain(page, blank(), "empty.png"))).convert("L"))
    page[170:230, 140:150] = 20
    small = np.asarray(Image.open(io.BytesIO(explain(page, blank(), "small.png"))).convert("L"))
    assert empty.shape[1] / len(STEPS) > 100
    assert small.shape[0] > 1.7 * empty.shape[0]
    # Something is drawn in each of the columns.
    for picture in (empty, small):
        assert all((column < 200).any() for column in np.array_split(picture[40:], len(STEPS), axis=1))


def test_pages_of_a_scan_are_told_apart() -> None:
    """The title has the number of each page but the first."""
    page = np.full((40, 30), 230, np.uint8)
    assert len({explain(page, blank(), "five_pages.tiff", number) for number in (1, 2, 3)}) == 3
    assert explain(page, blank(), "five_pages.tiff", 1) == explain(page, blank(), "five_pages.tiff")
