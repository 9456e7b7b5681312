"""Delivers a batch while others are read: the workers do not wait for the disk, nor the disk for the workers."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from watcher.errors import told

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

log = logging.getLogger(__name__)


class Courier:
    """A thread of its own with one delivery at a time, in the order in which they come."""

    def __init__(self, beat: Callable[[], None] = lambda: None) -> None:
        self.beat = beat  # called while a delivery is waited for, as long as it moves
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="courier")
        self._last: tuple[Future[None], Callable[[], None]] | None = None
        self._moved = False

    def __enter__(self) -> Courier:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        except OSError as error:  # its claim stays, and is delivered by the next watcher
            log.warning("%s", told(error))
        finally:
            self._thread.shutdown()

    def send(self, deliver: Callable[[], None], landed: Callable[[], None] = lambda: None) -> None:
        """Begin a delivery, once the one before is through; raises what that one raised.

        `landed` is called when it is delivered, in the thread that sends and waits.
        """
        self.wait()
        self._last = self._thread.submit(deliver), landed

    def wait(self) -> None:
        """Wait until no delivery is under way; raises what the last one raised, once."""
        if self._last is None:
            return
        (delivery, landed), self._last = self._last, None
        while wait([delivery], timeout=1.0).not_done:
            if self._moved:  # one that hangs must not look alive
                self._moved = False
                self.beat()
        delivery.result()
        landed()

    def moves(self) -> None:
        """The delivery under way makes progress: called in its thread."""
        self._moved = True
