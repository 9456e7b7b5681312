"""Which mount a folder lies on, and whether that is still the one of the start (Linux, mountinfo(5))."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import NamedTuple


class Mount(NamedTuple):
    """Where a file system is mounted, and its kind."""

    point: str
    kind: str


class Place:
    """A folder that must not be mistaken for the bare mount point that an unmounted file system leaves behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mount = mount_of(folder).point
        self._seen: tuple[int, int] | None = None

    def check(self) -> None:
        """Raise OSError while the folder is gone or lies on another mount than at the start."""
        status = os.stat(self.folder)
        if (status.st_dev, status.st_ino) == self._seen:  # the same folder: no need to ask for its mount
            return
        point = mount_of(self.folder).point
        if point != self.mount:
            words = f"lay on the mount {self.mount} at the start, lies on {point} now; mount it again, or restart"
            raise OSError(errno.ENODEV, words, str(self.folder))
        self._seen = (status.st_dev, status.st_ino)


def kind_of(device: int) -> str:
    """The kind of file system that a device number (`st_dev`) stands for; empty where no mount tells."""
    number = f"{os.major(device)}:{os.minor(device)}".encode()
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        left, _, right = line.partition(b" - ")
        if left.split()[2] == number:
            return os.fsdecode(right.split()[0])
    return ""


def mount_of(folder: Path) -> Mount:
    """The mount that a folder lies on: of the mount points above it the longest, of those the last."""
    path = str(folder.resolve())
    best = Mount("", "")
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        left, _, right = line.partition(b" - ")
        point = os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), left.split()[4]))
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best.point):
            best = Mount(point, os.fsdecode(right.split()[0]))
    return best
