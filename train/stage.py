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
from watcher.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

AS_IT_WAS = 0, 0  # ns; the dates of what was copied into a stage: of a file with others, something was written


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A copy of the model folder `out` to work in; what is new or changed in it takes its place there in the end.

    What is interrupted leaves `out` as it was. The copy lies hidden in `out`, so that where nothing may be put there,
    OSError is raised now and not hours later. Raises ModelError where `out` is not ours `alone`.
    """
    new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with alone(out):
            for left in out.glob(".stage-*"):  # by a training that was killed
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix=".stage-", dir=out) as name:
                for path in out.iterdir():
                    if path.is_file():
                        copy = Path(name) / path.name
                        shutil.copyfile(path, copy)
                        os.utime(copy, ns=AS_IT_WAS)
                yield Path(name)
                move_in(Path(name), out)
    finally:
        if new:
            with suppress(OSError):  # unless it is empty
                out.rmdir()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else trains or calibrates what is in a folder meanwhile; raises ModelError where somebody does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelError(
                f"{folder} is being trained or calibrated by another process; wait for that to end, or take a copy"
            ) from None
        except OSError as error:  # NFS locks no folder
            raise ModelError(f"{folder} cannot be locked: {error.strerror}; take a copy on a local disk") from error
        yield
    finally:
        os.close(descriptor)


def move_in(stage: Path, out: Path) -> None:
    """Put what is new or changed in a stage into `out` file by file, the card last: nothing else there is touched.

    A mix, should the machine stop in between, is one that the watcher refuses for its hashes. The card comes only
    once all else is on the disk: it says that it is there.
    """
    files = sorted(path for path in stage.iterdir() if path.stat().st_mtime_ns != AS_IT_WAS[1])
    networks = [path for path in files if path.name != card.NAME]
    for path in networks:
        sync(path)
    for path in networks:
        os.replace(path, out / path.name)
    sync(out)
    if stage / card.NAME in files:
        sync(stage / card.NAME)
        os.replace(stage / card.NAME, out / card.NAME)
        sync(out)
