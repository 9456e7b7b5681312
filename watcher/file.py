"""One file between the inbox and its claim: whether it is ready, the way into the claim, and the way back."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
from functools import lru_cache
from typing import TYPE_CHECKING

from watcher.formats import complete, unfilled
from watcher.mounts import kind_of
from watcher.settle import Signature

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UNREADABLE, WRITTEN, INCOMPLETE, CHANGED = "no permission to read it", "open for writing", "incomplete", "changed"
UNTAKABLE, DAMAGED = "no permission to take it out of its folder", "cannot be read from the disk"
TOO_LONG = "its path is too long"
# A bad sector, or an entry of the file system that is broken. Not ESTALE: a whole mount may be stale.
BAD = dict.fromkeys((errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.EREMOTEIO, errno.ENODATA), DAMAGED)
# Not even to be opened: under a lease for writing, as Samba takes it, or by Windows on a share.
IN_USE = dict.fromkeys((errno.EAGAIN, errno.EBUSY, errno.ETXTBSY), WRITTEN)
# What hinders one file, or folder, and not the others: it stays where it is, and the rest goes on.
READING = {
    errno.EACCES: UNREADABLE,
    errno.EPERM: UNREADABLE,
    errno.ENAMETOOLONG: TOO_LONG,
    errno.ELOOP: "became a symbolic link",
    **IN_USE,
    **BAD,
}
MOVING = {
    errno.EACCES: UNTAKABLE,
    errno.EPERM: UNTAKABLE,
    errno.EXDEV: "lies on another file system than the inbox",
    errno.ENAMETOOLONG: TOO_LONG,
    errno.EBUSY: "in use by the system",
    **BAD,
}
RENAME_NOREPLACE = 1  # renameat2(2)
OWN_LEASES = {"nfs", "nfs4", "cifs", "smb3"}  # file systems that refuse a lease where their server gives none
CHUNK = 1 << 20  # bytes that are read at once


def ready(path: Path, signature: Signature, patient: bool) -> str:
    """Why a settled file should not be taken yet; empty where it should.

    `patient`: it was waited for long enough, so that an incomplete file is taken as it is.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in READING:
            return READING[error.errno]
        raise
    try:
        if Signature.of(os.fstat(fd)) != signature:
            return CHANGED
        if written_by_others(fd):
            return WRITTEN
        if patient:
            return ""
        read = lru_cache(maxsize=2)(lambda offset, count: os.pread(fd, count, offset))  # both ends, once
        if not complete(read, signature.size) or unfilled(read, signature.size):
            return INCOMPLETE
        return ""
    except OSError as error:
        if error.errno in READING:
            return READING[error.errno]
        raise
    finally:
        os.close(fd)


def unfit(path: str, limit: float, turn: Callable[[], None] = lambda: None) -> str:
    """Why a claimed file has to go back; empty where all is well.

    Somebody has it open, or we cannot even look; of one that is no larger than `limit`, each byte is looked at, and
    `turn` is called now and then.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if written_by_others(fd):
                return WRITTEN
            at = 0
            while os.fstat(fd).st_size <= limit and (data := os.pread(fd, CHUNK, at)):
                at += len(data)
                turn()
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in READING:
            return READING[error.errno]
        raise
    return ""


def written_by_others(fd: int) -> bool:
    """Whether some process has the file open for writing, where the system can tell (fcntl(2), F_SETLEASE)."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # sent when somebody opens it while we look
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        # EAGAIN is the answer; anything else (not ours, a file system without leases) is no answer.
        return error.errno == errno.EAGAIN and kind_of(os.fstat(fd).st_dev) not in OWN_LEASES
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def move(source: Path, target: Path) -> str:
    """Rename a file into its claim; why it stays where it is, empty where it moved.

    Raises OSError where it is gone, or where it is not this file alone that cannot.
    """
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno not in MOVING:
            raise
        return MOVING[error.errno]
    return ""


def put_back(target: Path | str, source: Path | str) -> bool:
    """Undo the claim of one file, in one step, and never over a newer one of its name; whether it went back.

    Raises OSError where it is not this file alone that cannot.
    """
    try:
        os.makedirs(os.path.dirname(source), exist_ok=True)
        if renameat2(-100, os.fsencode(target), -100, os.fsencode(source), RENAME_NOREPLACE) == 0:
            return True
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
    except OSError as error:
        # NFS and others cannot: a link and an unlink would leave it in both places if we died between them.
        if error.errno not in {errno.EEXIST, errno.ENOTDIR, errno.EINVAL, errno.ENOSYS, *MOVING}:
            raise
        return False


renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
