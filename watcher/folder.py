"""What lies in a folder of scans, at one look."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from watcher.file import READING, TOO_LONG, UNREADABLE
from watcher.settle import Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# What scanners and cameras write. The ending says only that a file is meant for us; what it is, its bytes say.
ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".heic", ".jp2", ".pdf")
IGNORED = (".", "~$", "@")  # hidden and half-written files, Office's and a NAS's own
LEVELS = 100  # of folders in each other: what walks and makes them calls itself for each, and may 1,000 times


class Listing(NamedTuple):
    """What a look at a folder saw."""

    scans: dict[str, Signature]  # regular files that are meant for us, by path relative to the folder
    other: int  # files that are not
    folders: set[int]  # it and those under it, by inode
    closed: dict[str, str]  # folders that cannot be looked into, files that cannot be looked at, and why


def scan(root: Path, turn: Callable[[], None] = lambda: None) -> Listing:
    """Look at all that is under a folder, without opening any file; `turn` is called before each folder in it.

    Raises OSError where it cannot be looked into.
    """
    listing = Listing({}, 0, set(), {})
    other = 0
    folders = [("", os.stat(root).st_ino)]
    while folders:
        folder, inode = folders.pop()
        turn()
        try:
            entries = list(os.scandir(root / folder))
            listing.folders.add(inode)
            for entry in entries:
                if entry.name.startswith(IGNORED):
                    continue
                name = f"{folder}/{entry.name}" if folder else entry.name
                with _alone(name, listing.closed):
                    if entry.is_dir(follow_symlinks=False) and name.count("/") >= LEVELS:
                        listing.closed[name] = TOO_LONG
                    elif entry.is_dir(follow_symlinks=False):
                        # Not entry.inode(), which of a mount point is the one beneath the mount.
                        folders.append((name, entry.stat(follow_symlinks=False).st_ino))
                    elif not entry.is_file(follow_symlinks=False) or not entry.name.lower().endswith(ENDINGS):
                        other += 1
                    else:
                        listing.scans[name] = Signature.of(entry.stat(follow_symlinks=False))
        except OSError as error:  # a folder may not be read, or be listed but not entered
            if not folder:
                raise
            if error.errno in READING:
                listing.closed[folder] = READING[error.errno]
            elif not isinstance(error, (FileNotFoundError, NotADirectoryError)):  # removed while we looked
                raise
    return listing._replace(other=other)


@contextmanager
def _alone(name: str, closed: dict[str, str]) -> Iterator[None]:
    """Hold what ails one entry against that alone; what ails its folder, or all, is passed on."""
    try:
        yield
    except FileNotFoundError:  # removed while we looked
        pass
    except OSError as error:
        # Without permission it is the folder that may not be entered.
        if error.errno not in READING or READING[error.errno] == UNREADABLE:
            raise
        closed[name] = READING[error.errno]
