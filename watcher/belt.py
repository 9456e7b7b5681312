"""Batches on their way: while one is delivered the next is read, and behind that one the workers find another."""

from __future__ import annotations

import errno
import logging
import time
from collections import Counter, deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from watcher.claims import sync
from watcher.outbox import summary
from watcher.results import THUMBNAILS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from watcher.claims import Batch
    from watcher.courier import Courier
    from watcher.outbox import Outbox
    from watcher.results import Row
    from watcher.service import Service
    from watcher.workers import Work, Workers

log = logging.getLogger("digitdrop")

FULL = {errno.ENOSPC, errno.EDQUOT}


class Stopwatch:
    """How long each stage of a batch took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """A stage is over."""
        self.seconds[stage] = time.monotonic() - self._last
        self._last += self.seconds[stage]

    @property
    def end(self) -> float:
        """When the last lap was, monotonic seconds."""
        return self._last

    @property
    def total(self) -> float:
        """Seconds up to the last lap."""
        return self._last - self._start


class Belt:
    """Takes each batch through the workers to the courier, in the order in which they come."""

    def __init__(
        self,
        workers: Workers,
        outbox: Outbox,
        courier: Courier,
        service: Service,
        done: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        self.workers, self.outbox, self.courier, self.service = workers, outbox, courier, service
        self.done = done  # told how many more scans are read, and how many that are on their way are not
        self._reading: deque[tuple[Batch, Work, Stopwatch]] = deque()
        self._untold: dict[str, tuple[list[Row], Stopwatch]] = {}  # sent off, by batch, and not known to be delivered

    def put(self, batch: Batch) -> None:
        """Have a batch read, and send off the one before it. Raises as `Workers.finish` and `Courier.send`."""
        with self._all_or_none():
            clock = Stopwatch()
            stage = self.outbox.stage(batch)
            sheet = (batch.id, self.outbox.sheet(batch)) if self.workers.settings.contact_sheet else None
            work = self.workers.begin(batch.jobs(), stage / THUMBNAILS, sheet)
            self._reading.append((batch, work, clock))
            self._send_off(but=1)

    def clear(self) -> None:
        """Wait until nothing is on its way; raises what hindered it."""
        with self._all_or_none():
            self._send_off(but=0)
        self.courier.wait()

    def finish(self, batch: Batch) -> None:
        """Publish a batch that was decided before something hindered it; raises as `Outbox.finish`."""
        was_told = batch.id in self.outbox.undropped
        rows = [] if batch.id in self._untold else self.outbox.rows(batch)  # decided by a watcher that has ended
        sync(batch.work)  # whoever decided it may have ended before that was durable
        self.outbox.finish(batch)
        if was_told:
            return
        if batch.id in self._untold:
            _, clock = self._untold[batch.id]
            clock.lap("deliver")
            self._tell(batch)
        elif rows:
            self.service.delivered(batch, rows, {}, time.monotonic())
            log.info("%s: %s, read by a watcher that ended before it was published", batch.id, summary(rows))
        else:
            log.info("%s: published by a watcher that ended before it could say so", batch.id)

    def forget(self, batch: str) -> None:
        """Let go of a batch whose claim has gone: its scans were taken away, with the inbox."""
        self._untold.pop(batch, None)
        self.outbox.abandon(batch)

    def _send_off(self, but: int) -> None:
        """Send what is read to the outbox, until no more than so many batches are left to be read."""
        while len(self._reading) > but:
            batch, work, clock = self._reading[0]
            rows = self.workers.finish(work, self.done)
            clock.lap("read")
            self._untold[batch.id] = rows, clock
            self.courier.send(partial(self._deliver, batch, rows, clock), partial(self._tell, batch))
            self._reading.popleft()

    @contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """Where something goes wrong, all that is being read is left undone: its claims stay, and come again."""
        try:
            yield
        except BaseException as error:
            self.workers.give_up()
            given_up = [batch for batch, *_ in self._reading]
            self._reading.clear()
            self._make_room(error, *given_up)
            raise

    def _make_room(self, error: BaseException, *batches: Batch) -> None:
        """On a full disk, leave no stages until they come again: others need room there too."""
        if isinstance(error, OSError) and error.errno in FULL:
            for batch in batches:
                self.outbox.abandon(batch.id)

    def _deliver(self, batch: Batch, rows: list[Row], clock: Stopwatch) -> None:
        try:
            self.outbox.deliver(batch, rows, self.workers.model)
        except OSError as error:
            self._make_room(error, batch)
            raise
        clock.lap("deliver")

    def _tell(self, batch: Batch) -> None:
        rows, clock = self._untold.pop(batch.id)
        self.service.delivered(batch, rows, clock.seconds, clock.end)
        words = summary(rows)
        log.info("%s: %s, in %.1f s", batch.id, words, clock.total, extra=_fields(batch.id, rows, clock))


def _fields(batch: str, rows: Sequence[Row], clock: Stopwatch) -> dict[str, object]:
    """What a collector wants to know of a delivery."""
    counts = Counter(row.reading.status for row in rows)
    seconds = {stage: round(time, 3) for stage, time in clock.seconds.items()}
    return {"fields": {"batch": batch, "scans": len({row.name for row in rows}), "rows": counts, "seconds": seconds}}
