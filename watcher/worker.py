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
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from watcher.errors import DigitdropError
from watcher.pipeline import Reader, write
from watcher.results import escape
from watcher.tasks import NOTE, Broken, Drawing, Fault, Ready, Slice
from watcher.thumbnail import Tile

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.config import Settings
    from watcher.results import Row

PR_SET_PDEATHSIG = 1


def main(channel: int, note: int, parent: int) -> None:
    """Serve one task after another until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with(parent)
    connection = Connection(channel)
    settings: Settings = connection.recv()
    limits = settings.limits
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        reader = Reader(settings)
    except DigitdropError as error:
        connection.send(error)
        return
    connection.send(Ready(reader.card.name, reader.doubts))

    index = -1

    def at(number: int, seconds: float = limits.seconds) -> None:
        nonlocal index
        index = number
        os.pwrite(note, NOTE.pack(number), 0)
        # The default action of SIGALRM ends even a decoder that never comes back.
        signal.setitimer(signal.ITIMER_REAL, seconds)

    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        answer: object
        try:
            answer = _do(task, reader, at)
        except OSError as error:
            answer = error
        except Exception as error:
            traceback.print_exc()
            answer = Broken(index, Fault(_reason(error), f"{type(error).__name__}: {error}"))
        at(-1, seconds=0)
        connection.send(answer)


def _do(task: object, reader: Reader, at: Callable[[int], None]) -> list[Row] | None:
    match task:
        case Slice(jobs, pictures):
            return reader.read(jobs, pictures, at)
        case Drawing(rows, title, path):
            at(-1)
            tiles = [Tile(escape(row.name), row.tile, row.reading) for row in rows]
            write(path, reader.painter.sheet(tiles, title))
    return None


def _reason(error: Exception) -> str:
    starved = isinstance(error, MemoryError) or "insufficient memory" in str(error).lower()  # OpenCV's own words
    return "too_large" if starved else "crashed_decoder"


def _die_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent, so that nobody writes into a stage that is made anew."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before we could ask
        sys.exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
