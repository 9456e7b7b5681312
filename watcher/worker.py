"""A worker process: reads the slices that `workers` hands it, under limits, until the other end closes.

Run as `python -m watcher.worker CHANNEL NOTE PARENT`: a socket, a file that notes the scan in hand, and the process to
die with.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from watcher.errors import DigitdropError, naming
from watcher.pipeline import Reader
from watcher.tasks import IDLE, NOTE, SEVERAL, Broken, Drawing, Fault, Ready, Slice
from watcher.workers import WALL, take_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.config import Settings
    from watcher.results import Row

PR_SET_PDEATHSIG = 1


def main(channel: int, note: int, parent: int) -> None:
    """Serve one task after another until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    _die_with(parent)
    connection = Connection(channel)
    settings: Settings = connection.recv()
    limits = settings.limits
    if settings.model.suffix != ".keras":  # TensorFlow alone takes several times as much as any scan should
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        reader = Reader(settings)
    except DigitdropError as error:
        connection.send(error)
        return
    connection.send(Ready(reader.card.name, reader.card.fingerprint, reader.doubts))
    reader.warm()  # before the first scan comes, which has to settle anyway

    index = IDLE
    said: dict[int, str] = {}  # what decoders printed, by the scan that was in hand

    def at(number: int, seconds: float = limits.seconds) -> None:
        nonlocal index
        if index >= 0 and (words := take_words(sys.stderr.fileno())):
            said[index] = words
        index = number
        os.pwrite(note, NOTE.pack(number), 0)
        # The default action of both signals ends even a decoder that never comes back; processor time is what a scan
        # costs, on the clock it may be that others keep the machine busy.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, WALL * seconds)

    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        answer: object
        said.clear()
        try:
            answer = _do(task, reader, at)
            if said and isinstance(task, Slice) and isinstance(answer, list):
                words = {task.jobs[number].name: text for number, text in said.items()}
                answer = [_with_words(row, words.get(row.name, "")) for row in answer]
        except OSError as error:
            answer = error
        except Exception as error:
            answer = Broken(max(index, SEVERAL), _fault(error))
        index = IDLE
        at(SEVERAL, seconds=0)  # until it is sent: a slice whose rows end the worker must not come again as it is
        _send(connection, answer)
        del answer  # with all its tiles: the next slice needs the memory
        at(IDLE, seconds=0)


def _send(connection: Connection, answer: object) -> None:
    """Send an answer, or that it is too much: rows come with their tiles, and a scan may have very many pages."""
    try:
        connection.send(answer)
    except MemoryError:
        connection.send(Broken(SEVERAL, Fault("too_large", "its rows need more than limits.memory")))


def _with_words(row: Row, words: str) -> Row:
    return replace(row, detail="; ".join(filter(None, (row.detail, words))))


def _do(task: object, reader: Reader, at: Callable[[int], None]) -> list[Row] | None:
    match task:
        case Slice(jobs, pictures):
            return reader.read(jobs, pictures, at)
        case Drawing(tiles, counts, title, path):
            at(SEVERAL)
            picture = reader.contact_sheets.sheet(tiles, counts, title)
            with naming(path):
                path.write_bytes(picture)
    return None


def _fault(error: Exception) -> Fault:
    """What a scan did to its decoder; of what nobody foresaw the traceback goes to the log."""
    if isinstance(error, MemoryError) or "insufficient memory" in str(error).lower():  # OpenCV's own words
        return Fault("too_large", "needs more than limits.memory")
    traceback.print_exception(error)
    return Fault("crashed_decoder", f"{type(error).__name__}: {error}")


def _die_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent, so that nobody writes into a stage that is made anew."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before we could ask
        sys.exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
