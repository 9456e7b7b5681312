"""A model folder is worked on aside, and takes its place whole."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest
from conftest import ROOT

from train.stage import staged
from watcher.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_stage_comes_in_whole_or_not_at_all(tmp_path: Path) -> None:
    """What is interrupted leaves the folder as it was; what is not replaces it, on any file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        (tmp_path / "link").symlink_to(elsewhere)
        for folder in (tmp_path / "model", tmp_path / "link"):
            folder.mkdir(exist_ok=True)
            before = {"card.json": b"{}", "digits.tflite": b"a network", "notes.txt": b"of one's own"}
            for name, data in before.items():
                (folder / name).write_bytes(data)

            def stop(folder: Path = folder) -> None:
                with staged(folder) as stage:
                    assert (stage / "card.json").read_bytes() == b"{}"
                    (stage / "card.json").write_text("half")
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                stop()
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
            with staged(folder) as stage:
                (stage / "card.json").write_bytes(b"{1}")
                (stage / "new").write_bytes(b"whole")
            after = before | {"card.json": b"{1}", "new": b"whole"}
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == after


def test_what_comes_to_nothing_leaves_no_folder(tmp_path: Path) -> None:
    """A folder that was made for a training that failed goes again; one that was there stays."""
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        with pytest.raises(ModelError), staged(tmp_path / name):
            raise ModelError("refused")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_what_changes_meanwhile_stays(tmp_path: Path) -> None:
    """Only what the work itself made or changed comes in: not what lay there, and was edited or removed in hours."""
    for name in ("card.json", "notes.txt", "old.txt", "same.tflite"):
        (tmp_path / name).write_text("before")
    (tmp_path / "same.tflite").chmod(0o640)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("kept")
    with staged(tmp_path) as stage:
        (tmp_path / "notes.txt").write_text("edited")
        (tmp_path / "old.txt").unlink()
        (stage / "card.json").write_text("behind")  # as long as it was
    found = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {
        "card.json": "behind",
        "notes.txt": "edited",
        "own/notes.txt": "kept",
        "same.tflite": "before",
    }
    assert (tmp_path / "same.tflite").stat().st_mode & 0o777 == 0o640


def test_one_at_a_time(tmp_path: Path) -> None:
    """Two that work on one folder would undo what the other one did: the second is told so at once."""
    with staged(tmp_path) as stage:
        with pytest.raises(ModelError, match="is being trained or calibrated by another process"), staged(tmp_path):
            pass
        assert stage.is_dir()
    with staged(tmp_path):
        pass


def test_what_a_killed_training_left_goes(tmp_path: Path) -> None:
    """The next training removes the stage of one that was killed."""
    (tmp_path / "card.json").write_text("kept")
    program = "import os, signal, sys; from pathlib import Path; from train.stage import staged\n"
    program += "with staged(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    (left,) = tmp_path.glob(".stage-*")
    with staged(tmp_path):
        assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]
