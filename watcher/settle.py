"""Which files have come to rest. Pure: told what each scan of the folder saw, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


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

    def observe(self, seen: Mapping[str, Signature], now: float) -> dict[str, float]:
        """The files that looked the same for `quiet` seconds and in two scans, and for how long; longest first."""
        before = self._since
        self._since = {
            name: before[name] if name in before and before[name][0] == signature else (signature, now)
            for name, signature in seen.items()
        }
        settled = {
            name: now - since
            for name, (signature, since) in self._since.items()
            if now - since >= self.quiet and name in before and before[name][0] == signature
        }
        return dict(sorted(settled.items(), key=lambda item: -item[1]))

    def due(self, now: float) -> float | None:
        """Seconds until the next file may have settled; None where all have, or none is there."""
        times = [since + self.quiet - now for _, since in self._since.values() if since + self.quiet > now]
        return min(times, default=None)

    def oldest(self, now: float) -> float:
        """Seconds since the longest waiting file has looked the way it does."""
        return max((now - since for _, since in self._since.values()), default=0.0)

    def signature(self, name: str) -> Signature:
        """How a file looked in the last scan."""
        return self._since[name][0]

    def __len__(self) -> int:
        return len(self._since)
