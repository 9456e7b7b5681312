"""The progress bar."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

if TYPE_CHECKING:
    from watcher.inbox import Inbox


class Progress:
    """A progress bar while a terminal watches a backlog of more than a batch."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def done(self, scans: int, left: int) -> None:
        """Count scans that were read; `left` are those on their way that are not yet."""
        if self._bar is None and self.inbox.backlog and sys.stderr.isatty():
            self._bar = tqdm(total=0, unit=" scans", leave=False, dynamic_ncols=True)
        if self._bar is None:
            return
        self._bar.total = self._bar.n + scans + left + self.inbox.backlog
        self._bar.update(scans)
        if self._bar.n >= self._bar.total:
            self._bar.close()
            self._bar = None
