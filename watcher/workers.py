"""The worker processes, as the daemon sees them: a batch in slices in, rows out, whatever a scan does to its worker."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import replace
from math import inf
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watcher.config import worker_count
from watcher.errors import DigitdropError, Stopped, naming
from watcher.results import Row, doubtful_first, failed, now
from watcher.tasks import IDLE, NOTE, SEVERAL, Broken, Doubt, Drawing, Fault, Job, Ready, Slice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from watcher.config import Settings

log = logging.getLogger(__name__)

HERE = str(Path(__file__).parent.parent)  # where the workers find this package too
WALL = 3.0  # times limits.seconds of processor time that a scan may take on the clock
LATE = 10.0  # seconds more, after which the watcher itself ends a worker
WARM = 120.0  # seconds until a new worker is given up that is not ready; TensorFlow alone takes some 10
GRACE = 5.0  # seconds that a batch in work may go on when told to stop
SLICE = 32  # scans at most that one task holds: they are what is done again when a scan kills its worker
SMALLEST = 4  # scans at least: for fewer the way there and back takes longer than the reading
SHEET_LIMIT = 400  # tiles on one contact sheet: more would be too small a picture of too many
WORDS = 500  # characters of what a decoder printed that go into a row
STILLBORN = 3  # workers in a row that end before they begin with a scan: then it is no chance
# Threads of their own would only fight over the processors, and each takes room of limits.memory, more of them on more.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Worker:
    """One process with its channel."""

    def __init__(self, settings: Settings, lock: int | None) -> None:
        ours, theirs = socket.socketpair()
        self.note = os.memfd_create("note")
        self.stderr = os.memfd_create("stderr")
        # The lock on the claims stays open in the worker: nobody takes them over while one of us can still write.
        passed = [theirs.fileno(), self.note, *([lock] if lock is not None else [])]
        # -P: what lies in the folder that somebody stands in is none of our code.
        command = [sys.executable, "-P", "-m", "watcher.worker"]
        command += map(str, (theirs.fileno(), self.note, os.getpid()))
        try:
            with naming("workers"):
                self.process = subprocess.Popen(
                    command,
                    pass_fds=passed,
                    stdin=subprocess.DEVNULL,
                    stdout=self.stderr,
                    stderr=self.stderr,
                    process_group=0,  # Ctrl-C goes to all of a terminal's group, and it could not yet leave that to us
                    env=os.environ
                    | ONE_THREAD
                    | {"PYTHONPATH": os.pathsep.join(filter(None, (HERE, os.environ.get("PYTHONPATH"))))},
                )
        except OSError:  # no more processes or no memory, for now: each try would keep these
            for end in (ours, theirs):
                end.close()
            for file in (self.note, self.stderr):
                os.close(file)
            raise
        theirs.close()
        self.channel = Connection(ours.detach())
        with suppress(ConnectionError):  # it died at once: its closed channel says so next
            self.channel.send(settings)
        self.model = ""  # the network it serves, once it is warm
        self.doubts: tuple[Doubt, ...] = ()  # what cannot be promised with it
        self.deadline = time.monotonic() + WARM  # when its start, or the task in its hands, is given up

    def index(self) -> int:
        """Which of its jobs it has in hand."""
        packed = os.pread(self.note, NOTE.size, 0)
        return int(NOTE.unpack(packed)[0]) if packed else IDLE

    def words(self) -> str:
        """The end of what it and its libraries printed since it was last asked, in one line."""
        return take_words(self.stderr)

    def end(self) -> int:
        """Kill it and let go of what it held; its exit code, negative for a signal."""
        self.process.kill()  # does nothing to one that has ended: its own exit code stands
        code = self.process.wait()
        self.channel.close()
        os.close(self.note)
        os.close(self.stderr)
        return code


class Work:
    """Scans that are read together, and the contact sheet that shows them."""

    def __init__(self, jobs: Sequence[Job], sheet: tuple[str, Path] | None) -> None:
        self.left = len(jobs)  # not read yet
        self.sheet = sheet if jobs else None  # its title and its place; None: there is none to be drawn
        self._jobs = jobs
        self._rows: dict[str, dict[int, Row]] = {}
        self._shown: list[Row] = []

    @property
    def is_done(self) -> bool:
        """Whether all is read, and the sheet drawn."""
        return not self.left and self.sheet is None

    def add(self, rows: Sequence[Row], scans: int) -> None:
        """So many more of its scans are read."""
        self.left -= scans
        for row in rows:
            self._rows.setdefault(row.name, {})[row.page] = row
        if self.sheet is None:
            return
        self._shown += rows
        if len(self._shown) > SHEET_LIMIT:  # of a large batch, only the tiles that its sheet will show are kept
            self._shown = doubtful_first(self._shown)
            for row in self._shown[SHEET_LIMIT:]:
                self._rows[row.name][row.page] = replace(row, tile=b"")
            del self._shown[SHEET_LIMIT:]

    def drawing(self) -> Drawing:
        """Its contact sheet, doubtful first; of a large batch only those."""
        assert self.sheet is not None
        tiles = [row.tile for row in doubtful_first(self._shown) if row.tile]
        for row in self._shown:  # they are large, and the rows stay until they are delivered
            self._rows[row.name][row.page] = replace(row, tile=b"")
        self._shown.clear()
        return Drawing(tiles, Counter(row.reading.status for row in self.all_rows()), *self.sheet)

    def all_rows(self) -> list[Row]:
        """Its rows in the order of the scans."""
        return [row for job in self._jobs for row in self._rows.get(job.name, {}).values()]


class Workers:
    """A fixed number of worker processes, replaced when they die, or something raised in them.

    What is begun goes to them behind what they have, so that no worker waits while one batch ends and the next begins.

    `lock` gives the file descriptor that each new one holds open too.
    """

    def __init__(
        self,
        settings: Settings,
        lock: Callable[[], int] | None = None,
        stop: Callable[[], bool] = lambda: False,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.lock = lock
        self.stop = stop
        self.beat = beat  # called wherever the loop turns
        self.workers: list[Worker] = []
        self._tasks: deque[tuple[Work, Slice | Drawing]] = deque()
        self._busy: dict[Worker, tuple[Work, Slice | Drawing]] = {}
        self._stop_at = inf  # once told to stop
        self._stillborn = 0  # workers that ended before they began with a scan, since one last answered
        self.model = ""  # the network that they serve
        self._card = ""  # and the fingerprint of its card
        self.doubts: tuple[Doubt, ...] = ()  # what cannot be promised with it

    def __enter__(self) -> Workers:
        """Wait until all are warm, or told to stop. Raises DigitdropError where one cannot start."""
        try:
            self._fill()
            while not (self.stop() or all(worker.model for worker in self.workers)):
                self._hear(0.5)
                self._end_late()
                self.beat()
        except BaseException:
            self.__exit__()
            raise
        self.model, self.doubts = self.workers[0].model, self.workers[0].doubts
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.end()

    def read(self, jobs: Sequence[Job], pictures: Path | None) -> list[Row]:
        """Read scans, thumbnails under `pictures`; the rows in the order of `jobs`. Raises as `finish`."""
        return self.finish(self.begin(jobs, pictures))

    def begin(self, jobs: Sequence[Job], pictures: Path | None, sheet: tuple[str, Path] | None = None) -> Work:
        """Hand scans to the workers, behind those that they have: thumbnails under `pictures`.

        `sheet` is the title of their contact sheet, and where it goes.
        """
        work = Work(jobs, sheet)
        self._tasks.extend((work, Slice(part, pictures)) for part in _slices(jobs, worker_count(self.settings)))
        self._hand_out()
        return work

    def finish(self, work: Work, done: Callable[[int, int], None] = lambda *_: None) -> list[Row]:
        """Wait until scans are read and their sheet is drawn; their rows in the order of the jobs.

        `done` is told how many more scans are read, of this work or of what comes behind it, and how many are not yet.

        A scan that ends its worker becomes a failed row; the rest of its slice is read again. Raises OSError where the
        environment is at fault, Stopped when told to stop; then all work is given up.
        """
        try:
            while not work.is_done:
                self._fill()
                self._hand_out()
                for worker, answer in self._hear(timeout=0.5):
                    self._take(*self._busy.pop(worker), answer, done)
                self._end_late()
                self.beat()
                self._heed()
        except BaseException:
            self.give_up()
            raise
        return work.all_rows()

    def give_up(self) -> None:
        """Leave all work undone."""
        self._tasks.clear()
        for worker in self._busy.keys() & set(self.workers):  # one must not write into a stage that is done again
            self._remove(worker)
        self._busy.clear()

    def _take(self, work: Work, task: Slice | Drawing, answer: Any, done: Callable[[int, int], None]) -> None:
        """Put what came of a task where it belongs, and see to what follows from it."""
        match task, answer:
            case Slice(), list():
                work.add(answer, len(task.jobs))
                if not work.left and work.sheet is not None:
                    self._tasks.appendleft((work, work.drawing()))
                waiting = [*self._tasks, *self._busy.values()]
                done(len(task.jobs), sum(len(other.jobs) for _, other in waiting if isinstance(other, Slice)))
            case Slice(jobs=[job]), Broken() if job.fault is not None and _timed_out(answer):
                self._take(work, task, [_unhashed(job)], done)
            case Slice(), _:
                self._tasks.extendleft((work, Slice(part, task.pictures)) for part in _split(task.jobs, answer))
            case Drawing(), Broken() if answer.index == IDLE:  # it was killed before it began
                self._tasks.appendleft((work, task))
            case Drawing(), _:
                if answer is not None:  # the rows are what counts: they are delivered without it
                    log.error("contact sheet of %s: %s", task.title, answer.fault.detail)
                    task.path.unlink(missing_ok=True)  # nor half of it
                work.sheet = None

    def _hand_out(self) -> None:
        """Give idle workers what there is to do, unless they died meanwhile."""
        for worker in self.workers:
            if self._tasks and worker.model and worker not in self._busy and worker.process.poll() is None:
                self._busy[worker] = _, task = self._tasks.popleft()
                scans = len(task.jobs) if isinstance(task, Slice) else 0
                worker.deadline = time.monotonic() + (scans + 1) * WALL * self.settings.limits.seconds + LATE
                with suppress(ConnectionError):  # it died idle: its closed channel says so next
                    worker.channel.send(task)

    def _end_late(self) -> None:
        """Kill those whose time is over, as one that is stopped does not hear its own alarm; `_hear` buries them."""
        for worker in self.workers:
            if (worker in self._busy or not worker.model) and time.monotonic() > worker.deadline:
                worker.process.kill()

    def _heed(self) -> None:
        """Raise Stopped where we were told to stop, and what is in work takes too long."""
        if not self.stop():
            return
        if self._stop_at == inf:
            log.info("told to stop: the batch in work is finished first, if that takes %g s", GRACE)
            self._stop_at = time.monotonic() + GRACE
        if time.monotonic() > self._stop_at:
            raise Stopped

    def _hear(self, timeout: float) -> list[tuple[Worker, Any]]:
        """The workers that answered meanwhile, with their answers; raises what the environment did to them."""
        answers = []
        for channel in wait([worker.channel for worker in self.workers], timeout):
            worker = next(worker for worker in self.workers if worker.channel is channel)
            try:
                answer = worker.channel.recv()
            except (EOFError, OSError):  # the latter where it died in the middle of its answer
                answer = self._bury(worker)
            else:
                if (words := worker.words()) and worker.model:
                    log.info("a worker: %s", words)
                if isinstance(answer, Broken):  # in its state the scans behind may break it too, and be blamed
                    self._remove(worker)
            if isinstance(answer, DigitdropError) and self.model:  # what served once will serve again
                self._remove(worker)
                raise OSError(errno.EAGAIN, str(answer), "workers")
            if isinstance(answer, (OSError, DigitdropError)):
                raise answer
            if isinstance(answer, Ready):
                worker.model, worker.doubts = answer.model, answer.doubts
                self._card = self._card or answer.card
                if answer.card != self._card:  # rows of two networks, or of two thresholds, are not for one delivery
                    path = self.settings.model
                    raise DigitdropError(f"model: {path} was changed while it is in use; start again with the new one")
            elif worker in self._busy:
                self._heed_stillborn(answer)
                answers.append((worker, answer))
        return answers

    def _heed_stillborn(self, answer: Any) -> None:
        """Raise OSError where one worker after the other ends before it begins: what they are given is not to blame."""
        if not (isinstance(answer, Broken) and answer.index == IDLE):
            self._stillborn = 0
            return
        self._stillborn += 1
        if self._stillborn >= STILLBORN:
            raise OSError(errno.EAGAIN, f"before it began, {answer.fault.detail}", "workers")

    def _fill(self) -> None:
        """Start workers in the place of those that died."""
        while len(self.workers) < worker_count(self.settings):
            self.workers.append(Worker(self.settings, self.lock() if self.lock is not None else None))

    def _bury(self, worker: Worker) -> Broken:
        """Let go of a worker that died, and say what of."""
        index, words, was_ready = worker.index(), worker.words(), bool(worker.model)
        code = self._remove(worker)
        death = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if not was_ready:
            text = f"a worker process ended at its start with {death}: {words or 'no word'}"
            if time.monotonic() > worker.deadline:
                text = f"a worker process was not ready after {WARM:g} s: {words or 'no word'}"
            # What served once will serve again, once the system has what it takes.
            raise OSError(errno.EAGAIN, text, "workers") if self.model else DigitdropError(text)
        late = -code in {signal.SIGALRM, signal.SIGPROF} or time.monotonic() > worker.deadline
        reason = "timed_out" if late else "crashed_decoder"
        return Broken(index, Fault(reason, f"the worker ended with {death}. {words}".strip()))

    def _remove(self, worker: Worker) -> int:
        self.workers.remove(worker)
        return worker.end()


def take_words(fd: int) -> str:
    """Take the end of what was printed into a file, in one line, and empty it: it would grow for months."""
    size = os.fstat(fd).st_size
    if not size:
        return ""
    text = os.pread(fd, WORDS, max(0, size - WORDS)).decode(errors="replace")
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    return " ".join(text.split())


def _slices(jobs: Sequence[Job], workers: int) -> Iterator[Sequence[Job]]:
    """Cut a batch into slices, smaller ones towards its end, so that all workers come to it at about the same time."""
    at = 0
    while at < len(jobs):
        size = max(SMALLEST, min(SLICE, (len(jobs) - at) // (2 * workers)))
        yield jobs[at : at + size]
        at += size


def _timed_out(broken: Broken) -> bool:
    return broken.index != IDLE and broken.fault.reason == "timed_out"


def _unhashed(job: Job) -> Row:
    """The row of a scan that failed, and whose bytes alone take longer to read than it has: without their SHA-256."""
    assert job.fault is not None
    status = os.stat(job.path)
    detail = f"{job.fault.detail.rstrip('.')}; nor could its bytes be read within limits.seconds"
    stamp = (status.st_size, status.st_mtime_ns)
    return Row(job.name, 1, failed(job.fault.reason), stamp=stamp, read_at=now(), detail=detail)


def _split(jobs: Sequence[Job], broken: Broken) -> list[Sequence[Job]]:
    """What to try after a slice broke: smaller ones, until the scan that breaks them stands alone, then that once more.

    A scan is blamed the second time: a worker may as well have been killed by somebody else.
    """
    if broken.index == IDLE:  # it was killed before it began
        return [jobs]
    if len(jobs) == 1:
        job = jobs[0]
        if job.fault is not None:  # not even decoded any more: the scan cannot be what breaks it
            raise OSError(errno.EIO, f"cannot be hashed: {broken.fault.detail}", job.path)
        return [[replace(job, fault=broken.fault) if job.suspect else replace(job, suspect=True)]]
    if broken.index == SEVERAL:  # no telling which
        half = len(jobs) // 2
        return [jobs[:half], jobs[half:]]
    suspect = replace(jobs[broken.index], suspect=True)
    return [[suspect], [*jobs[: broken.index], *jobs[broken.index + 1 :]]]
