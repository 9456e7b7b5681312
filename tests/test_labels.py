"""Labelled crops: what their table has to be, and how it is told what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from train.__main__ import main
from train.labels import LabelError, read_labels

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"file,value\n1.png,1249,50\n", "the line of 1.png has more cells than the header"),
        (b"file;value\n1.png;1\n", "it is parted by semicolons: save it with commas"),
        (b"file,value\n\xfc.png,1\n", "save it as UTF-8"),
        (b"", "should have a header with the columns file and value, and a line for each crop"),
        (b"file,value\n", "should have a header with the columns file and value, and a line for each crop"),
    ],
)
def test_what_a_spreadsheet_makes_of_it(tmp_path: Path, table: bytes, words: str) -> None:
    """A decimal comma, semicolons, another encoding, an empty table: told with what to do, taken for nothing else."""
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / "labels.csv").write_bytes(table)
    with pytest.raises(LabelError, match=words):
        read_labels(tmp_path)


def test_a_crop_without_its_label_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A line with no value at all is no blank crop."""
    (tmp_path / "labels.csv").write_text("file,value\na.png\n")
    (tmp_path / "a.png").write_bytes(b"")
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "the line of a.png has no value" in capfd.readouterr().err


def test_a_label_without_its_crop_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Labels that cannot be used are one line that names the file; the exit code is 1."""
    assert main(["evaluate", str(tmp_path)]) == 1
    (tmp_path / "labels.csv").write_text("name,digit\n1.png,1\n")
    with pytest.raises(LabelError, match="columns file and value"):
        read_labels(tmp_path)
    (tmp_path / "labels.csv").write_text("file,value\n1.png,1\n")
    with pytest.raises(LabelError, match=r"1 files .* 1\.png"):
        read_labels(tmp_path)
    assert capfd.readouterr().err.count("\n") == 1
