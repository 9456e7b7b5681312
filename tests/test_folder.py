"""What counts as a scan."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from watcher.folder import LEVELS, scan

if TYPE_CHECKING:
    from pathlib import Path


def test_only_scans_are_seen(tmp_path: Path) -> None:
    """Hidden, temporary and other files, links, pipes, sockets and folders named like scans are never touched."""
    for name in ("a.png", "X.PNG", "x.jpeg", "scan.TIF", "deep/er/b.webp", "form.pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for name in (".a.png", "._a.png", ".DS_Store", "~$a.png", ".nfs0001", "@eaDir/a.png", ".stfolder/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for name in ("Thumbs.db", "a.png.tmp", "a.png.part", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.png"))
        seen, other, folders, closed = scan(tmp_path)
    assert sorted(seen) == ["X.PNG", "a.png", "deep/er/b.webp", "form.pdf", "scan.TIF", "x.jpeg"]
    assert other == 7
    assert len(folders) == 4  # deep, deep/er, folder.png and the folder itself
    assert closed == {}


def test_folders_too_deep_in_each_other(tmp_path: Path) -> None:
    """What lies under more folders than can be made again elsewhere is left alone; what lies above it is seen."""
    deepest = "/".join(["a"] * LEVELS)
    (tmp_path / deepest / "b/c").mkdir(parents=True)
    for name in ("a.png", f"{deepest}/b.png", f"{deepest}/b/c.png"):
        (tmp_path / name).write_bytes(b"x")
    look = scan(tmp_path)
    assert list(look.scans) == ["a.png", f"{deepest}/b.png"]
    assert look.closed == {f"{deepest}/b": "its path is too long"}


class Entry:
    """An entry of a folder of which the system can tell no more than name and kind."""

    def __init__(self, entry: os.DirEntry[str], number: int) -> None:
        self.name, self.number = entry.name, number
        self.is_dir, self.is_file = entry.is_dir, entry.is_file

    def stat(self, **_: bool) -> os.stat_result:
        """Fail."""
        raise OSError(self.number, os.strerror(self.number), self.name)


@pytest.mark.parametrize("where", ["", "sub/"])
@pytest.mark.parametrize(
    ("number", "closed"),
    [
        (errno.EUCLEAN, "bad.png"),
        (errno.EIO, "bad.png"),
        (errno.EACCES, ""),
        (errno.ESTALE, None),
        (errno.ENOENT, None),
    ],
    ids=[
        "a broken inode",
        "a bad sector",
        "a folder that may not be entered",
        "a mount that has gone",
        "a removed one",
    ],
)
def test_a_file_that_cannot_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int, closed: str | None
) -> None:
    """It alone is named and left out, in the folder itself too; what ails its folder, or the whole, is told as that."""
    (tmp_path / "sub").mkdir()
    for name in ("bad.png", "good.png"):
        (tmp_path / where / name).write_bytes(b"x")
    real = os.scandir

    def scandir(folder: Path) -> list[Any]:
        return [Entry(entry, number) if entry.name == "bad.png" else entry for entry in real(folder)]

    monkeypatch.setattr(os, "scandir", scandir)
    if number == errno.ESTALE or (number == errno.EACCES and not where):
        with pytest.raises(OSError, match=os.strerror(number)):
            scan(tmp_path)
        return
    look = scan(tmp_path)
    assert list(look.closed) == ([] if closed is None else [where + closed if closed else "sub"])
    assert f"{where}good.png" in look.scans or closed == ""
