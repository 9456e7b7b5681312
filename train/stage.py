"""A model folder that is worked on aside, and takes its place whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from train import card
from watcher.claims import sync

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A copy of the model folder `out` to work in, which takes its place in the end; what is interrupted leaves `out`.

    It lies hidden in `out`, so that where nothing may be put there, OSError is raised now and not hours later. It is
    locked while it is in use: one that is not was left by a training that was killed, and goes.
    """
    new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(".stage-*"):
        with suppress(BlockingIOError, FileNotFoundError, NotADirectoryError), _locked(left):
            shutil.rmtree(left)
    try:
        with tempfile.TemporaryDirectory(prefix=".stage-", dir=out) as name, _locked(Path(name)):
            for path in out.iterdir():
                if path.is_file():
                    shutil.copyfile(path, Path(name) / path.name)
            yield Path(name)
            move_in(Path(name), out)
    finally:
        if new:
            with suppress(OSError):  # unless it is empty
                out.rmdir()


def move_in(stage: Path, out: Path) -> None:
    """Replace what `out` holds file by file, the card last: nothing else that lies there is touched.

    A mix, should the machine stop in between, is one that the watcher refuses for its hashes. The card comes only
    once all else is on the disk: it says that it is there.
    """
    files = sorted(path for path in stage.iterdir() if path.name != card.NAME)
    for path in files:
        sync(path)
    for path in files:
        os.replace(path, out / path.name)
    sync(out)
    if (stage / card.NAME).exists():
        sync(stage / card.NAME)
        os.replace(stage / card.NAME, out / card.NAME)
        sync(out)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; BlockingIOError where another one does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
