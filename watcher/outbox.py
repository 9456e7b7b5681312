"""Deliveries: staged out of sight, made durable, decided, published in one rename."""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from watcher.claims import WORK, Batch, sync, sync_at_once
from watcher.errors import ConfigError, Stopped, naming, told
from watcher.file import BAD
from watcher.mounts import Place
from watcher.names import fitting, thumbnail_name
from watcher.results import STATUSES, THUMBNAILS, Delivery, from_json, to_csv, to_datapackage, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from watcher.config import Settings
    from watcher.results import Row

log = logging.getLogger(__name__)

STAGING = ".staging"
MARK = "mark-"  # begins the name of the file there that tells this outbox from one that takes its place
ENDING = ".old"  # of a folder there that is on its way out: what a crash leaves of it, `Retention` takes away
ANYWHERE = re.compile(r"[\w ()+-]([\w .()+-]{0,100}[\w()+-])?", re.ASCII)
"""Names that every file system takes."""
CHUNK = 1 << 22  # bytes that are copied between two signs of life
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}  # what a later start may find put right


class Outbox:
    """The folder that downstream picks up from; a delivery in it is whole and never changes."""

    def __init__(
        self,
        settings: Settings,
        beat: Callable[[], None] = lambda: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings = settings
        self.beat = beat  # called while something takes long
        self.stop = stop  # whether to give up what would take long
        self.root = settings.outbox
        self.staging = self.root / STAGING
        self.place = Place(self.root)
        # Of batches in work: the very folders, not only their names. Held open, so that no new one gets their inode.
        self._stages: dict[str, int] = {}
        self._damaged: set[str] = set()  # claimed scans that could not be copied, as the disk does not give them
        self.undropped: set[str] = set()  # batches that are published, and whose claims cannot be deleted yet

    def stage(self, batch: Batch) -> Path:
        """An empty stage for a batch; what an earlier try left there is wiped."""
        self.place.check()
        stage = self.staging / batch.id
        self.staging.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            shutil.rmtree(stage)
        stage.mkdir()
        self._let_go(batch)
        self._stages[batch.id] = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return stage

    def sheet(self, batch: Batch) -> Path:
        """Where the contact sheet of a batch belongs."""
        return self.staging / batch.id / "contact-sheet.png"

    def deliver(self, batch: Batch, rows: Sequence[Row], model: str) -> None:
        """Complete the stage, make it durable, decide, publish; raises OSError, and Stopped while it copies."""
        stage = self.staging / batch.id
        self._check_stage(batch)  # nor is anything put into a mount point whose file system has gone
        with naming(stage):
            for name, folder in self._originals(rows).items():
                self._put(f"{batch.open}/{name}", f"{stage}/{folder}", name)
                self.beat()
            _check_unchanged(rows, batch)
            _clear_pictures(stage / THUMBNAILS, {row.thumbnail for row in rows})
            delivery = Delivery(batch.id, model, batch.received_at, self.settings.model_dump(mode="json"))
            (stage / "results.csv").write_bytes(to_csv(rows, delivery))
            (stage / "results.json").write_bytes(to_json(rows, delivery))
            (stage / "datapackage.json").write_bytes(to_datapackage(batch.id))
        mark = self._mark()
        durable = sync_at_once(stage)
        if durable is None:
            sync_tree(stage, self.beat)
            sync(self.staging)
            sync(self.root)
        self._check_stage(batch)
        self._let_go(batch)  # from here on nothing but its publication may take it away
        self.finish(batch.decide(durable, mark))

    def finish(self, batch: Batch) -> None:
        """Publish a decided batch, unless that was done before, and clean up after it, as far as that can be done.

        A stage that is gone was published, where this is the outbox that it was in; what downstream did with it since
        is none of our business.
        """
        try:
            os.rename(self.staging / batch.id, self.root / batch.id)
        except FileNotFoundError:
            # An outbox that is not mounted, or was made again, looks like one from which all was published.
            self.place.check()
            if not (self.holds(batch) if batch.mark else self.staging.is_dir()):
                words = f"has gone with the delivery {batch.id} in it; bring it back"
                again = f"to have its scans read again, rename {batch.done} to {batch.open.name}"
                raise FileNotFoundError(errno.ENOENT, f"{words}, or, {again}", str(self.staging)) from None
        # Before its claim goes; also where an earlier try got no further than its rename.
        sync(self.root)
        sync(self.staging)
        self._let_go(batch)
        self._drop(batch)

    def holds(self, batch: Batch) -> bool:
        """Whether a decided batch is staged here, or was; of one of an earlier version, that was, no one knows."""
        return (self.staging / batch.id).exists() or bool(batch.mark and (self.staging / (MARK + batch.mark)).exists())

    def rows(self, batch: Batch) -> list[Row]:
        """What a delivery that is still staged says of its scans: their names, pages, status, reasons and details."""
        try:
            return from_json((self.staging / batch.id / "results.json").read_bytes())
        except (FileNotFoundError, ValueError, KeyError):  # published before, or of a version that wrote other things
            return []

    def takes(self, name: str) -> bool:
        """Whether a scan can keep its name in the outbox: some file systems refuse a colon, or what is not UTF-8."""
        picture = "" if self.settings.thumbnails == "none" else thumbnail_name(name, 1)
        odd = {part for part in f"{name}/{picture}".split("/") if part and not ANYWHERE.fullmatch(part)}
        if odd:
            self.place.check()  # nothing is made in a bare mount point
            self.staging.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(ENDING, dir=self.staging, ignore_cleanup_errors=True) as folder:
                return all(_takes(folder, part) for part in sorted(odd))
        return True

    def gives(self, path: str) -> bool:
        """Whether the disk gave all of a claimed scan when it was last copied; says no once for each time."""
        gave = path not in self._damaged
        self._damaged.discard(path)
        return gave

    def abandon(self, batch: str) -> None:
        """Take away the stage of a batch that will not be delivered; that of a decided one stays.

        Also one that a watcher made that was killed since, while the batch's claim tells that it is undecided.
        """
        stage = self._stages.pop(batch, None)
        if stage is not None:
            os.close(stage)
        elif Batch(batch, self.settings.inbox / WORK).open.is_dir():
            self.place.check()  # else the stage is not here to be taken away
        else:
            return
        with suppress(FileNotFoundError):
            shutil.rmtree(self.staging / batch)

    def _drop(self, batch: Batch) -> None:
        """Delete a claim; one that cannot be deleted yet hinders nobody, and comes again with the decided."""
        try:
            batch.drop()
        except OSError as error:
            if batch.id not in self.undropped:
                words = "it is tried again; its scans are delivered"
                log.warning("%s: cannot be deleted: %s; %s", batch.done, told(error), words)
            self.undropped.add(batch.id)
        else:
            self.undropped.discard(batch.id)

    def _check_stage(self, batch: Batch) -> None:
        """Raise OSError where the stage is not the folder that was made for the batch."""
        stage = self.staging / batch.id
        self.place.check()
        if not os.path.samestat(os.stat(stage), os.fstat(self._stages[batch.id])):
            raise FileNotFoundError(errno.ENOENT, "was replaced while it was filled", str(stage))

    def _mark(self) -> str:
        """What tells this outbox from any other, for as long as it is there: random, and made with the first delivery.

        A device and an inode would not: they are given again, and change when a disk is mounted or copied.
        """
        for name in sorted(os.listdir(self.staging)):
            if name.startswith(MARK):
                return name.removeprefix(MARK)
        mark = secrets.token_hex(4)
        os.close(os.open(self.staging / (MARK + mark), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        return mark

    def _let_go(self, batch: Batch) -> None:
        stage = self._stages.pop(batch.id, None)
        if stage is not None:
            os.close(stage)

    def _put(self, source: str, folder: str, name: str) -> None:
        """Put a scan into a folder of the stage: by its path, or marked where another one has its place."""
        try:
            self._link(source, f"{folder}/{name}")
        except (FileExistsError, NotADirectoryError):  # on a file system that ignores case, say
            ending = os.path.splitext(name)[1]
            self._link(source, f"{folder}/{fitting(name.replace('/', '-'), ending, marked=True)}")

    def _link(self, source: str, target: str) -> None:
        """The same file under a second name, or a copy where that cannot be."""
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            if os.stat(source).st_nlink > 1:  # its user has it under another name too, and may write to it there
                raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
            os.link(source, target)
        except OSError as error:
            # Another file system, one without hard links, one link too many, or a file of another user's.
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}:
                raise
            self._copy(source, target)

    def _copy(self, source: str, target: str) -> None:
        """Copy a file, with its holes, and never over another one."""
        with naming(target), open(source, "rb") as original, open(target, "xb") as copy:  # a full disk names neither
            while chunk := self._part(original, source):
                if chunk == bytes(len(chunk)):
                    copy.seek(len(chunk), os.SEEK_CUR)
                else:
                    copy.write(chunk)
                self.beat()
                if self.stop():
                    raise Stopped
            copy.truncate()

    def _part(self, original: BinaryIO, source: str) -> bytes:
        """The next bytes of a scan; one that the disk does not give is remembered, for its claim to let it go."""
        try:
            with naming(source):
                return original.read(CHUNK)
        except OSError as error:
            if error.errno in BAD:
                self._damaged.add(source)
            raise

    def _originals(self, rows: Sequence[Row]) -> dict[str, str]:
        """Which scans go into the delivery, and into which folder of it."""
        failed = {row.name for row in rows if row.reading.status == "failed"}
        kept = {row.name: "scans" for row in rows} if self.settings.originals == "keep" else {}
        return kept | dict.fromkeys(failed, "failed")


def check_folders(settings: Settings) -> None:
    """Refuse folders that will not do, and make what is ours in them.

    Raises ConfigError; OSError where it is the disk that stands in the way.
    """
    for key, ours in (("inbox", WORK), ("outbox", STAGING)):
        folder: Path = getattr(settings, key)
        try:
            if not folder.is_dir():
                raise ConfigError(f"{key}: {folder} is not a folder; make it, or set {key}: in the configuration")
            (folder / ours).mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=folder / ours):
                pass
        except OSError as error:
            if error.errno in PASSING:
                error.filename = str(folder)
                raise
            raise ConfigError(
                f"{key}: {folder} cannot be written: {error.strerror}; let its user in, or set {key}: to another"
            ) from error


def _takes(folder: str, name: str) -> bool:
    """Whether a file can be made in a folder under this name."""
    try:
        os.close(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC))
    except OSError as error:
        # CIFS has other answers too, which of a folder that is there and open to us are about the name.
        answers = {errno.ENOENT, errno.EACCES} if os.access(folder, os.W_OK | os.X_OK) else set()
        if error.errno not in {errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG, *answers}:
            raise
        return False
    return True


def summary(rows: Sequence[Row]) -> str:
    """A batch in a few words."""
    counts = Counter(row.reading.status for row in rows)
    words = [f"{counts[status]} {status}" for status in STATUSES if counts[status]]
    scans = len({row.name for row in rows})
    pages = f", {len(rows)} pages" if len(rows) > scans else ""
    return f"{scans} scan{'s' if scans > 1 else ''}{pages}: {', '.join(words)}"


def sync_tree(root: Path, beat: Callable[[], None] = lambda: None) -> None:
    """Make all files and folders under `root` durable, in one round at the end: one by one, the disk is waited for."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            sync(os.path.join(folder, name))
            beat()
        sync(folder)


def _clear_pictures(folder: Path, named: set[str]) -> None:
    """Take away what no row names: pictures of a scan's first pages, where a later one made it fail as a whole."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.relpath(path, folder) not in named:
                os.unlink(path)


def _check_unchanged(rows: Sequence[Row], batch: Batch) -> None:
    """The originals are what was read: a rename does not stop a writer that has the file open."""
    for row in rows:
        status = os.stat(path := f"{batch.open}/{row.name}")
        if (status.st_size, status.st_mtime_ns) != row.stamp:
            raise BlockingIOError(errno.EAGAIN, "is still being written", path)
