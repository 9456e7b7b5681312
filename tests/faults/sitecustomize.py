"""Faults for a watcher process and its workers, put in the place of what lies under them: the system and the decoder.

Python imports this at its start where its folder is in PYTHONPATH; the watcher's own code is left as it is.
FAULT="kill before rename .done" kills the watcher at the first such call whose arguments hold the last word;
FAULT="kill before sync .staging/" at the first fsync, or syncfs, of what has that word in its path;
FAULT="refuse :" has the outbox refuse names that hold a colon, as VFAT and NTFS do;
FAULT="decoder" makes the decoder do what a scan's bytes say: DIE, HANG, SLEEP, EAT, PRINT or SPOIL, after
which its process reads nothing more; "decoder patient" does so where only processor time counts;
FAULT="sheet" kills a worker halfway through the file of a contact sheet;
FAULT="sector" has the disk not give the middle of a file called sector.png;
FAULT="slow" makes a look at each folder of the inbox take a fifth of a second, as on a busy file server;
FAULT="events" ends the threads that bring file events, on SIGUSR1.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

words = os.environ.get("FAULT", "").split()
is_worker = "watcher.worker" in sys.orig_argv
is_watcher = "watcher" in sys.orig_argv and "run" in sys.orig_argv

if words[:1] == ["kill"] and is_watcher:
    _, moment, operation, match = [*words, ""][:4]

    def fatal(real: Callable[..., Any], told: Callable[..., object] = str) -> Callable[..., Any]:
        """An operation, and the end; `told` says what an argument stands for."""

        def wrapped(*arguments: Any, **more: Any) -> Any:
            meant = match in " ".join(str(told(argument)) for argument in arguments)
            if meant and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **more)
            if meant:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    def path_of(fd: int) -> str:
        """What a file descriptor is open on."""
        return os.readlink(f"/proc/self/fd/{fd}")

    if operation == "sync":
        real_function = ctypes.CDLL.__getattr__

        def function(library: ctypes.CDLL, name: str) -> Any:
            """A function of a C library."""
            found = real_function(library, name)
            return fatal(found, path_of) if name == "syncfs" else found

        type.__setattr__(ctypes.CDLL, "__getattr__", function)
        vars(os)["fsync"] = fatal(os.fsync, path_of)
    else:
        vars(os)[operation] = fatal(getattr(os, operation))

if words[:1] == ["sheet"] and is_worker:
    import pathlib

    real_write = pathlib.Path.write_bytes

    def write_half(path: pathlib.Path, data: bytes) -> int:
        """Write a file, of a contact sheet no more than half."""
        if path.name != "contact-sheet.png":
            return real_write(path, data)
        real_write(path, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    vars(pathlib)["Path"].write_bytes = write_half

if words[:1] == ["refuse"] and (is_watcher or is_worker):

    def refusing(operation: str) -> None:
        """Refuse a name in the outbox."""
        real = getattr(os, operation)

        def refuse(*arguments: Any, **more: Any) -> Any:
            path = str(arguments[-1] if operation == "link" else arguments[0])
            if "/.staging/" in path and words[1] in path:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
            return real(*arguments, **more)

        setattr(os, operation, refuse)

    for name in ("open", "link", "mkdir"):
        refusing(name)

if words == ["sector"] and (is_watcher or is_worker):
    import builtins
    import io

    real_opener, real_pread = io.open, os.pread

    class Damaged(io.BufferedReader):
        """A file that opens, and says how large it is."""

        def read(self, _: int | None = -1, /) -> bytes:
            """Read past the bad sector."""
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def opener(file: Any, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        """Open a file, damaged or not."""
        if mode == "rb" and os.path.basename(str(file)) == "sector.png":
            return Damaged(io.FileIO(file))
        return real_opener(file, mode, *arguments, **more)

    def pread(fd: int, count: int, at: int) -> bytes:
        """Read what both ends of a file hold, and no more of a damaged one."""
        if count > 65536 and os.readlink(f"/proc/self/fd/{fd}").endswith("/sector.png"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real_pread(fd, count, at)

    vars(builtins)["open"], vars(os)["pread"] = opener, pread

if words == ["slow"] and is_watcher:
    real_scandir = os.scandir

    def scandir(path: Any = ".") -> Any:
        """Look at a folder, slowly where it is in the inbox."""
        if "/inbox/" in str(path) and "/.work" not in str(path):
            time.sleep(0.2)
        return real_scandir(path)

    vars(os)["scandir"] = scandir

if words[:1] == ["decoder"] and is_worker:
    from PIL import Image

    if words[1:] == ["patient"]:
        from watcher import workers

        workers.WALL = 1000.0

    real_open = Image.open

    def spoiled(file: Any, *arguments: Any, **more: Any) -> Any:
        """Decode, or misbehave."""
        data = file.getvalue()
        if b"FAULT:DIE" in data:
            os.kill(os.getpid(), signal.SIGSEGV)
        while b"FAULT:HANG" in data:
            pass
        while b"FAULT:SLEEP" in data:
            time.sleep(1)
        if b"FAULT:EAT" in data:
            bytearray(2_000_000_000)
        if b"FAULT:PRINT" in data:
            os.write(1, b"libcolour: a profile\n")
            os.write(2, b"libscan: an odd tag\n")
        if b"FAULT:SPOIL" in data:
            import cv2  # noqa: PLC0415 - a worker has it by now

            vars(cv2).pop("GaussianBlur", None)
        return real_open(file, *arguments, **more)

    vars(Image)["open"] = spoiled

if words == ["events"] and is_watcher:

    def end_events(*_: object) -> None:
        """Stop the threads that bring file events."""
        from watchdog.utils import BaseThread  # noqa: PLC0415 - only where events are to end

        for thread in threading.enumerate():
            if isinstance(thread, BaseThread):
                thread.stop()

    signal.signal(signal.SIGUSR1, end_events)
