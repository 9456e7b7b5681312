"""Which files have come to rest. Pure: told what each scan of the folder saw, and when."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping


class Signature(NamedTuple):
    """What tells one state of a file from another."""

    inode: int
    size: int
    mtime: int  # ns; compared, never believed: `cp -p` brings dates of 2001, and of tomorrow

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        """The signature of a file with this status."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


class Settling:
    """Since when each file has looked the same, on the caller's own monotonic clock."""

    def __init__(self, quiet: float) -> None:
        self.quiet = quiet  # seconds
        self._since: dict[str, tuple[Signature, float]] = {}
        self._pending: set[str] = set()  # not settled in the last scan
        # The earliest of all and of the pending; None: to be found, which takes as long as a tenth of a look.
        self._first: float | None = None
        self._next: float | None = None

    def observe(self, seen: Mapping[str, Signature], now: float) -> dict[str, float]:
        """The files that looked the same for `quiet` seconds and in two scans, and for how long; longest first."""
        before, self._since, self._pending = self._since, {}, set()
        self._first = self._next = None
        settled: list[tuple[str, float]] = []
        for name, signature in seen.items():
            known = before.get(name)
            if known is None or known[0] != signature:
                self._since[name] = (signature, now)
                self._pending.add(name)
                continue
            self._since[name] = known
            if now - known[1] >= self.quiet:
                settled.append((name, now - known[1]))
            else:
                self._pending.add(name)
        settled.sort(key=lambda item: -item[1])
        return dict(settled)

    def due(self, now: float) -> float | None:
        """Seconds until the next file may have settled; None where all have, or none is there."""
        if not self._pending:
            return None
        if self._next is None:
            self._next = min(self._since[name][1] for name in self._pending)
        return max(0.0, self._next + self.quiet - now)

    def forget(self, name: str) -> None:
        """A file was taken; one that comes under its name is another."""
        _, since = self._since.pop(name, (None, math.nan))
        self._pending.discard(name)
        if since == self._first:
            self._first = None
        if since == self._next:
            self._next = None

    def oldest(self, now: float) -> float:
        """Seconds since the longest waiting file has looked the way it does."""
        if not self._since:
            return 0.0
        if self._first is None:
            self._first = min(since for _, since in self._since.values())
        return now - self._first

    def since(self, name: str) -> float:
        """Since when a file has looked the way it did in the last scan."""
        return self._since[name][1]

    def signature(self, name: str) -> Signature:
        """How a file looked in the last scan."""
        return self._since[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._since)

    def __len__(self) -> int:
        return len(self._since)
