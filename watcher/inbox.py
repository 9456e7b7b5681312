"""The inbox as a stream of batches: look at the folder, wait for files to settle, claim them by rename."""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from watcher.errors import Stopped, told
from watcher.file import CHANGED, DAMAGED, INCOMPLETE, TOO_LONG, UNTAKABLE, WRITTEN, move, put_back, ready, unfit
from watcher.folder import scan
from watcher.mounts import Place
from watcher.names import escape
from watcher.settle import Settling, Signature
from watcher.tasks import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from watcher.claims import Batch, Claims
    from watcher.config import Settings
    from watcher.watch import Watch

log = logging.getLogger(__name__)

REFUSED = "the outbox's file system refuses its name"
NO_WAY_BACK = ", and cannot be put back"  # behind why it should be
LONGEST = 3000  # bytes of a path, escaped: behind the folders that claims and deliveries put before it, it still fits
SELDOM, OFTEN = 30, 4  # times as long as a look at the folder takes: until the next, and at least until then
ON_THEIR_WAY = 2  # batches that are not decided yet when all goes well: one is read, one is delivered
SICK = 60.0  # seconds until a file that the disk does not give is tried again: a bad sector takes long each time
BEAT = 5.0  # seconds between signs of life while there is nothing to do
BACK_OFF = (1.0, 30.0)  # seconds to wait after trouble: the first time, and at most


class Inbox:
    """What is in the folder, what it waits for, and what comes out of it as batches."""

    def __init__(
        self,
        settings: Settings,
        claims: Claims,
        watch: Watch,
        stop: Callable[[], bool],
        beat: Callable[[], None] = lambda: None,
        *,
        takes: Callable[[str], bool] = lambda _: True,
        gives: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.root = settings.inbox
        self.settings = settings
        self.claims = claims
        self.watch = watch
        self.stop = stop
        self.place = Place(self.root)
        self.beat = beat  # called wherever the loop turns
        self.takes = takes  # tells whether a scan can be delivered under its name
        self.gives = gives  # tells whether the disk gave all of a claimed scan, by its path, when it was last copied
        self.settling = Settling(settings.settle)
        self.held: dict[str, str] = {}  # settled files that are not taken, folders that cannot be looked into, and why
        self.other = 0  # files whose names are not a scan's: left alone
        self.backlog = 0  # settled files that wait to be claimed
        self._stuck: dict[str, list[str]] = {}  # batch that cannot be read yet, nor put back → its scans
        self._undeletable: set[str] = set()  # emptied claims that cannot be deleted, as was said
        self._damaged: dict[str, float] = {}  # file that the disk does not give → until when it is left alone
        self.claimed: dict[str, int] = {}  # batch that was handed out and is not delivered → its scans
        self.arrived: dict[str, list[float]] = {}  # batch → when each of its scans last changed, monotonic seconds
        self.looked = False  # the folder was scanned at least once
        self._took = 0.0  # seconds that the last scan took

    def batches(
        self,
        finish: Callable[[Batch], None],
        trouble: Callable[[OSError | None], None],
        once: bool = False,
        landed: Callable[[], None] = lambda: None,
        forget: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Batch]:
        """Yield claimed batches until told to stop; with `once`, until nothing is left that could be read.

        What was claimed earlier and not delivered comes first, and comes again until it is. Decided batches go to
        `finish`. What the environment does to us goes to `trouble` (None: all is well), and is tried again. The next
        batch may be asked for while `ON_THEIR_WAY` others are not decided: `landed` waits for them, and raises what
        hindered them. Whose claim was taken away, with the inbox, goes to `forget` by its name.

        Raises Stopped when told to stop while the folder is looked at: a large one takes long.
        """
        pause = BACK_OFF[0]
        while not self.stop():
            try:
                self.place.check()
                self.claims.ensure()
                self.watch.check()
                self.claims.adopt()
                landed()
                self._miss(forget)
                for batch in self.claims.decided():
                    finish(batch)
                self._stuck.clear()
                for batch in self.claims.undecided():
                    yield from self._hand_out(batch, forget, again=True)
                landed()
                if not self._under_way():
                    self.claims.release()
                    yield from self._fresh(forget)
                    landed()
                if self._under_way():  # could not be delivered, and `trouble` was told
                    pause = self._back_off(pause)
                    continue
                trouble(None)
                pause = BACK_OFF[0]
                if once and all(self.held.get(name, CHANGED) not in {INCOMPLETE, CHANGED} for name in self.settling):
                    for name, why in self.held.items():  # its end is up to others
                        log.warning("%s: left in the inbox: %s", escape(name), why)
                    return
                if not self.backlog:
                    self._rest()
            except OSError as error:
                trouble(error)
                if once:
                    raise
                pause = self._back_off(pause)

    def _back_off(self, seconds: float) -> float:
        """Wait after trouble, and know what comes meanwhile; how long to wait the next time."""
        with suppress(OSError):  # the trouble may be the inbox's own
            self._look()
        self._pause(seconds)
        return min(2 * seconds, BACK_OFF[1])

    def _miss(self, forget: Callable[[str], None]) -> None:
        """Notice the batches that were handed out, and whose claims have gone without being delivered."""
        there = {batch.id for batch in [*self.claims.undecided(), *self.claims.decided()]}
        for batch in self.claimed.keys() - there:
            log.warning("%s: its %d scans were taken away, with the inbox", batch, self.claimed.pop(batch))
            self.arrived.pop(batch, None)
            forget(batch)

    def _under_way(self) -> int:
        """How many batches are to be read."""
        return sum(batch.id not in self._stuck for batch in self.claims.undecided())

    def _fresh(self, forget: Callable[[str], None]) -> Iterator[Batch]:
        """Claim what has settled, batch by batch; of a backlog the rest is left after `scan_every`, to look again."""
        size, wait = self.settings.batch.size, self.settings.batch.wait
        settled = self._look()
        end = time.monotonic() + wait
        while 0 < len(settled) < size and not self.stop():
            due = self.settling.due(now := time.monotonic())
            if due is None or now + due > end:
                break
            self._pause(max(due, OFTEN * self._took))
            settled = self._look()
        waiting = list(settled.items())
        deadline = time.monotonic() + max(self.settings.scan_every, SELDOM * self._took)
        for first in range(0, len(waiting), size):
            if self.stop() or time.monotonic() > deadline:
                return
            batch = self._claim(waiting[first : first + size])
            self.backlog = max(0, len(waiting) - first - size)
            if batch is not None:
                yield from self._hand_out(batch, forget)
                if self._under_way() > ON_THEIR_WAY:
                    return

    def _hand_out(self, batch: Batch, forget: Callable[[str], None], again: bool = False) -> Iterator[Batch]:
        jobs, stuck = batch.jobs(), []
        for job in list(jobs):
            # What is claimed before we are told to stop is begun; what comes again stays for the next start.
            (self._turn if again else self.beat)()
            # Nobody can open it for writing under its claim's name, so who does not have it open now never will.
            # What hindered a batch that comes again may be one file that the disk does not give.
            why = unfit(job.path, self.settings.limits.bytes if again else 0, self._turn)
            if why := why or ("" if self.gives(job.path) else DAMAGED):
                jobs.remove(job)
                if why == DAMAGED:
                    self._damaged[job.name] = time.monotonic() + SICK
                if put_back(job.path, os.path.join(self.root, job.name)):
                    self._hold(job.name, why)
                else:
                    stuck.append(job)
                    self._hold(job.name, why + NO_WAY_BACK, batch.work)
        if stuck:
            self._set_aside(stuck, batch if not jobs else self.claims.new())
        if not jobs:  # all were put back, or a crash came before the first
            self.arrived.pop(batch.id, None)
            self.claimed.pop(batch.id, None)
            forget(batch.id)  # before the claim goes: it tells that nothing was decided
            if not batch.jobs():
                self._discard(batch)
            return
        self.claimed[batch.id] = len(jobs)
        yield batch

    def _discard(self, batch: Batch) -> None:
        """Delete a claim without scans; one that cannot be deleted, for what a NAS put into it, say, hinders nobody."""
        try:
            shutil.rmtree(batch.open)
        except OSError as error:
            self._stuck[batch.id] = []
            if batch.id not in self._undeletable:
                words = "no scan is in it; it is tried again"
                log.warning("%s: cannot be deleted: %s; %s", batch.open, told(error), words)
            self._undeletable.add(batch.id)

    def _set_aside(self, stuck: list[Job], claim: Batch) -> None:
        """Keep what can be neither read nor put back in a claim where it is in nobody's way, to be tried again."""
        self._stuck[claim.id] = [job.name for job in stuck]
        for job in stuck:
            target = claim.open / job.name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(job.path, target)

    def _look(self) -> dict[str, float]:
        """Scan the folder; the files that settled, and for how many seconds."""
        start = time.monotonic()
        seen, self.other, folders, closed = scan(self.root, self._turn)
        settled = self.settling.observe(seen, time.monotonic())
        self._damaged = {name: until for name, until in self._damaged.items() if name in seen}
        stuck = {name for names in self._stuck.values() for name in names}
        kept = settled.keys() | closed.keys() | stuck | self._damaged.keys()
        self.held = {name: why for name, why in self.held.items() if name in kept}
        for folder, why in closed.items():
            self._hold(folder, why)
        self.backlog = sum(name not in self.held for name in settled)
        self.watch.covers(folders)
        self._took, self.looked = time.monotonic() - start, True
        return settled

    def _turn(self) -> None:
        """Give a sign of life; raises Stopped when told to stop."""
        self.beat()
        if self.stop():
            raise Stopped

    def _claim(self, settled: list[tuple[str, float]]) -> Batch | None:
        """Move files into a claim of our own; None where none of them is ready."""
        batch: Batch | None = None
        arrived: list[float] = []
        replaced: list[Job] = []
        made: set[Path] = set()
        for name, quiet in settled:
            self.beat()
            why = TOO_LONG if len(escape(name).encode()) > LONGEST else "" if self.takes(name) else REFUSED
            patient = quiet >= self.settings.patience
            try:
                why = why or self._hindrance(name) or ready(self.root / name, self.settling.signature(name), patient)
            except FileNotFoundError:
                self.settling.forget(name)
                continue  # its user took it back: no row, no error
            if why:
                self._hold(name, why)
                continue
            batch = batch or self.claims.new()
            target = batch.open / name
            if target.parent not in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(target.parent)
            try:
                why = move(self.root / name, target)
            except FileNotFoundError:
                self.settling.forget(name)
                continue
            if why:
                self._hold(name, why)
                continue
            if Signature.of(os.lstat(target)) != self.settling.signature(name):
                # Replaced in the last moment: it has to settle as what it is now.
                if not put_back(target, self.root / name):
                    replaced.append(Job(str(target), name))
                    self._hold(name, CHANGED + NO_WAY_BACK, self.claims.work)
            else:
                arrived.append(self.settling.since(name))
                self.held.pop(name, None)
                self.settling.forget(name)
        if batch is not None:
            self.arrived[batch.id] = arrived
        if replaced:
            self._set_aside(replaced, self.claims.new())
        return batch

    def _hindrance(self, name: str) -> str:
        """What is known to hinder a file, and still does; empty where it has a fresh start."""
        if name in self._damaged:
            if time.monotonic() < self._damaged[name]:
                return DAMAGED
            if why := unfit(str(self.root / name), math.inf, self._turn):
                self._damaged[name] = time.monotonic() + SICK
                return why
            del self._damaged[name]
        # Else a claim would be made for it and removed again at each look.
        if self.held.get(name) == UNTAKABLE and not os.access((self.root / name).parent, os.W_OK):
            return UNTAKABLE
        return ""

    def _hold(self, name: str, why: str, where: Path | str = "the inbox") -> None:
        if why not in {WRITTEN, INCOMPLETE, CHANGED} and self.held.get(name) != why:
            log.warning("%s: %s; it stays in %s until that is put right", escape(name), why, where)
        self.held[name] = why

    def _rest(self) -> None:
        """Wait for an event, for the next file to settle, or for the timer."""
        # A large folder is looked at less often, a little more while files in it are about to settle.
        due = self.settling.due(time.monotonic())
        woken = self._pause(min(SELDOM * self._took, max(OFTEN * self._took, math.inf if due is None else due)))
        if not woken:
            due = self.settling.due(time.monotonic())
            self._wait(self.settings.scan_every if due is None else min(due, self.settings.scan_every))

    def _pause(self, seconds: float) -> bool:
        """Wait, whatever events come; only being told to stop ends it. Whether any came."""
        end = time.monotonic() + seconds
        woken = False
        while not self.stop() and (left := end - time.monotonic()) > 0:
            woken |= self._wait(left)
        return woken

    def _wait(self, seconds: float) -> bool:
        """Wait until woken, at most so long, giving signs of life; whether it was woken."""
        end = time.monotonic() + seconds
        while not (woken := self.watch.wait(min(BEAT, left := end - time.monotonic()))) and left > BEAT:
            self.beat()
        return woken
