"""Which files have come to rest. Pure: told what each scan of the folder saw, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Signature(NamedTuple):
    """What tells one state of a file from another."""

    inode: int
    size: int
    mtime: int  # ns; compared, never believed: `cp -p` brings dates of 2001, and of tomorrow


class Settling:
    """Since when each file has looked the same, on the caller's own monotonic clock."""

    def __init__(self, quiet: float) -> None:
        self.quiet = quiet  # seconds
        self._since: dict[str, tuple[Signature, float]] = {}
        self._pending: set[str] = set()  # not settled in the last scan

    def observe(self, seen: Mapping[str, Signature], now: float) -> dict[str, float]:
        """The files that looked the same for `quiet` seconds and in two scans, and for how long; longest first."""
        before = self._since
        same = {name for name, signature in seen.items() if name in before and before[name][0] == signature}
        self._since = {name: before[name] if name in same else (signature, now) for name, signature in seen.items()}
        waited = {name: now - since for name, (_, since) in self._since.items() if name in same}
        settled = {name: seconds for name, seconds in waited.items() if seconds >= self.quiet}
        self._pending = self._since.keys() - settled.keys()
        return dict(sorted(settled.items(), key=lambda item: -item[1]))

    def due(self, now: float) -> float | None:
        """Seconds until the next file may have settled; None where all have, or none is there."""
        return min((max(0.0, self._since[name][1] + self.quiet - now) for name in self._pending), default=None)

    def forget(self, name: str) -> None:
        """A file was taken; one that comes under its name is another."""
        self._since.pop(name, None)
        self._pending.discard(name)

    def oldest(self, now: float) -> float:
        """Seconds since the longest waiting file has looked the way it does."""
        return max((now - since for _, since in self._since.values()), default=0.0)

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
