"""Whether everything is fit to run: a line for each thing, fit or what to do about it."""

from __future__ import annotations

import ctypes
import grp
import importlib
import os
import pwd
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from watcher.claims import WORK, claimed_at
from watcher.config import worker_count
from watcher.errors import ConfigError, DigitdropError, told
from watcher.fields import TRIES
from watcher.folder import IGNORED, LEVELS
from watcher.mounts import mount_of
from watcher.outbox import STAGING, check_folders
from watcher.watch import Watch, on_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from watcher.config import Settings
    from watcher.fields import Rule

ROOM = 100_000_000  # bytes that should be free, at least
RESIDENT = 120_000_000  # bytes of memory that a worker really uses
TAKEN = 400_000_000  # bytes of its address space that a worker has taken before it opens the first scan
AHEAD = 300  # seconds that a delivery may be from the future
LIBRARIES = ("numpy", "cv2", "PIL.Image", "ai_edge_litert.interpreter", "matplotlib.backends.backend_agg")
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


class Advice(DigitdropError):  # noqa: N818 - no error: all works
    """It runs, but could run better."""

    exit_code = 0


def check_all(settings: Settings, source: str) -> int:
    """Print what is in force and whether it is fit; returns the exit code of the worst.

    `source` says where the settings are from.
    """
    worst = 0
    # Not Path.is_dir, which raises where what holds the folder is closed to us.
    there = os.path.isdir(settings.inbox) and os.path.isdir(settings.outbox)
    print(f"{'fit':<8}{'config:':<11}{source}")
    for name, look in CHECKS:
        if name in IN_FOLDERS and not there:  # as is said under folders
            continue
        try:
            verdict, words = "fit", look(settings)
        except Advice as advice:
            verdict, words = "ADVICE", str(advice)
        except DigitdropError as error:
            verdict, words, worst = "NOT FIT", str(error), max(worst, error.exit_code)
        except OSError as error:
            verdict, words, worst = "NOT FIT", told(error), max(worst, 1)
        print(f"{verdict:<8}{name + ':':<11}{words}".replace("\n", f"\n{'':19}"))
    return worst


def _user(settings: Settings) -> str:
    user = _user_name(os.geteuid())
    if os.geteuid() == 0:
        owner = _user_name(os.stat(settings.inbox).st_uid) if settings.inbox.is_dir() else "digitdrop"
        who = f"with 'sudo -u {owner} digitdrop check'" if owner != "root" else "as that user"
        raise Advice(f"root may do everything, the service's user may not; check {who}")
    groups = sorted(_group_name(group) for group in {os.getegid(), *os.getgroups()})
    return f"{user}, of the groups {', '.join(groups)}"


def _folders(settings: Settings) -> str:
    try:
        check_folders(settings)
    except ConfigError as error:
        folder = settings.outbox if str(error).startswith("outbox:") else settings.inbox
        if not folder.is_dir():
            raise
        raise ConfigError(f"{error}; {_mode(folder)}, and this is {_user_name(os.geteuid())}") from error
    closed = [path for path in _subfolders(settings.inbox) if not _may(path, os.R_OK | os.W_OK | os.X_OK)]
    if closed:
        raise DigitdropError(
            f"{_mode(closed[0])}: {_user_name(os.geteuid())} cannot take scans out of it"
            + (f", nor out of {len(closed) - 1} more folders" if len(closed) > 1 else "")
            + "; chmod g+rwx, and for folders to come: "
            + f"setfacl -d -m g:{_group_name(os.getegid())}:rwx {settings.inbox}"
        )
    others = [path for path in sorted((settings.inbox / WORK).glob("*.lock")) if not _may(path, os.R_OK | os.W_OK)]
    if others:
        raise Advice(
            f"{_mode(others[0])}: {_user_name(os.geteuid())} cannot take over what that watcher leaves unfinished; "
            "run all watchers of an inbox as one user"
        )
    return f"{settings.inbox} → {settings.outbox}, both can be written"


def _disks(settings: Settings) -> str:
    for folder in (settings.inbox / WORK, settings.outbox / STAGING):
        if not _may(folder, os.W_OK | os.X_OK):
            raise DigitdropError(f"{folder} cannot be written, as said under folders")
    kinds = mount_of(settings.inbox).kind, mount_of(settings.outbox).kind
    with (
        tempfile.NamedTemporaryFile(dir=settings.inbox / WORK) as scan,
        tempfile.TemporaryDirectory(dir=settings.outbox / STAGING, prefix=".check-") as stage,
    ):
        try:
            os.link(scan.name, os.path.join(stage, "scan"))
        except OSError as error:
            how = f"copied ({error.strerror}): each is twice on disk until its delivery is out"
        else:
            how = "linked, which costs nothing"
    return f"inbox on {kinds[0]}, outbox on {kinds[1]}; originals are {how}"


def _room(settings: Settings) -> str:
    words = []
    for key in ("inbox", "outbox"):
        folder: Path = getattr(settings, key)
        disk = os.statvfs(folder)
        room, files = disk.f_bavail * disk.f_frsize, disk.f_favail
        if room < ROOM:
            raise DigitdropError(
                f"{key}: only {_size(room)} free on the disk of {folder}; take deliveries away, or set keep_days:"
            )
        if disk.f_files and files < 10 * settings.batch.size:
            raise DigitdropError(
                f"{key}: only {files:,} inodes free on the disk of {folder}; "
                "take deliveries away, or set thumbnails: none"
            )
        words.append(f"{key} {_size(room)}" + (f" and {files:,} inodes" if disk.f_files else ""))
    return f"{', '.join(words)} free"


def _libraries(settings: Settings) -> str:
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise DigitdropError(
                f"{name.partition('.')[0]} cannot be loaded: {error}; "
                "install the program again, or the system library that this names"
            ) from error
    return "numpy, OpenCV, Pillow, LiteRT and matplotlib can be loaded"


def _model(settings: Settings) -> str:
    from watcher.model import load, load_fields  # noqa: PLC0415 - brings OpenCV and LiteRT, not needed by the rest

    with _quiet():
        card, _ = load(settings.model)
        load_fields(card)
    max_error = settings.accept.max_error
    starts = {kind: card.calibration(kind).threshold(max_error) for kind in card.kinds}
    kept = [f"{kind}s from a confidence of {start:.4f} on" for kind, start in starts.items() if start <= 1]
    never = [f"no {kind}s" for kind, start in starts.items() if start > 1]
    doubts = card.doubts(max_error)
    if not doubts:
        return f"{card.name}; accepted are {' and '.join(kept)}, at most {max_error:.2%} of them wrong"
    words = "\n".join([f"{card.name}; accepted are {', '.join(kept + never)}", *(doubt.words for doubt in doubts)])
    raise DigitdropError(words) if never else Advice(words)


def _watch(settings: Settings) -> str:
    every = f"a scan every {settings.scan_every:g} s; a file settles in {settings.settle:g} s"
    if on_network(settings.inbox):
        kind = mount_of(settings.inbox).kind
        if settings.watch == "events":
            raise DigitdropError(f"watch: events, but on {kind} others' files come without events; set watch: auto")
        return f"the inbox is on the network ({kind}), whence no events come: {every}"
    with Watch(settings.inbox, settings.watch) as watch:
        if not watch.events:
            return every
        folders = 1 + len(_subfolders(settings.inbox))
        allowed = _kernel_limit("inotify/max_user_watches")
        if allowed is not None and folders > allowed:
            raise DigitdropError(
                f"the inbox holds {folders:,} folders, fs.inotify.max_user_watches is {allowed:,}: "
                f"in some only the timer sees new files; "
                f"sysctl -w fs.inotify.max_user_watches={2 * folders}, or set watch: scan"
            )
        watch.check()
        if watch.trouble:
            raise DigitdropError(f"{watch.trouble}; raise fs.inotify.max_user_instances, or set watch: scan")
    watches = "" if allowed is None else f" ({folders:,} of at most {allowed:,} watches)"
    return f"file events{watches}, and {every}"


def _limits(settings: Settings) -> str:
    limits, workers = settings.limits, worker_count(settings)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if workers * RESIDENT > memory:
        raise DigitdropError(
            f"{workers} workers need some {_size(workers * RESIDENT)} of memory, this machine has {_size(memory)}; "
            f"set workers: {max(1, memory // RESIDENT // 2)}"
        )
    words = (
        f"{workers} workers of at most {_size(limits.memory)}; a scan of at most "
        f"{_size(limits.bytes)}, {limits.pixels / 1e6:g} megapixels, {limits.seconds:g} s"
    )
    room = limits.memory - TAKEN
    if limits.bytes > room:
        raise Advice(
            f"{words}\nof limits.memory {_size(limits.memory)} some {_size(room)} are left for a scan, limits.bytes is "
            f"{_size(limits.bytes)}; lower that, or raise limits.memory: what is between fails as too_large"
        )
    return words


def _clock(settings: Settings) -> str:
    now = time.time()
    latest = max((claimed_at(name) or 0 for name in os.listdir(settings.outbox)), default=0)
    if latest > now + AHEAD:
        ago = f"{(latest - now) / 3600:.1f} hours"
        raise DigitdropError(
            f"the last delivery is {ago} from now, so the clock is or was wrong; set it by a time server"
        )
    said = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if said < 0:
        return f"{told}; whether a time server keeps it right we may not ask"
    if said == TIME_ERROR:
        raise Advice(f"{told}, which no time server keeps right: deliveries are named by it; set up NTP")
    return f"{told}, kept by a time server"


def _metrics(settings: Settings) -> str:
    if settings.metrics is None:
        return "none, as metrics: is not set"
    folder = settings.metrics.parent
    if not _may(folder, os.W_OK | os.X_OK):
        why = _mode(folder) if folder.is_dir() else f"{folder} is not a folder"
        raise DigitdropError(f"{settings.metrics} cannot be written: {why}; set metrics: to where it can")
    return str(settings.metrics)


def _fields(settings: Settings) -> str:
    if not settings.fields:
        return "none, so that a value may have any number of digits"
    examples = [rule.example() for rule in settings.fields]
    words = "\n".join(_rule(rule, example) for rule, example in zip(settings.fields, examples, strict=True))
    if not all(examples):
        raise Advice(words)
    return words


def _rule(rule: Rule, example: str) -> str:
    parts = [
        rule.digits,
        f"pattern {rule.pattern}" if rule.pattern is not None else "",
        f"{rule.range[0]} to {rule.range[1]}" if rule.range is not None else "",
        f"a date as {rule.date}" if rule.date is not None else "",
        f"check digit of {rule.check}" if rule.check is not None else "",
    ]
    tried = f"such as {example}" if example else f"none of {TRIES:,} made-up values keeps it: see whether one can"
    return f"{rule.name}, for {rule.files}: {', '.join(filter(None, parts))}; {tried}"


def _keep_days(settings: Settings) -> str:
    if settings.keep_days is None:
        return "deliveries stay whole, as keep_days: is not set"
    of_read = "the originals of what was read and " if settings.originals == "keep" else ""
    return f"{of_read}the thumbnails of a delivery are removed after {settings.keep_days:g} days; its results stay"


CHECKS: tuple[tuple[str, Callable[[Settings], str]], ...] = (
    ("user", _user),
    ("folders", _folders),
    ("disks", _disks),
    ("room", _room),
    ("libraries", _libraries),
    ("model", _model),
    ("watch", _watch),
    ("limits", _limits),
    ("clock", _clock),
    ("fields", _fields),
    ("keep_days", _keep_days),
    ("metrics", _metrics),
)
IN_FOLDERS = {"disks", "room", "watch", "clock"}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what LiteRT tells on stderr of how it computes."""
    ours = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(ours, 2)
        os.close(ours)


def _subfolders(inbox: Path) -> list[str]:
    """The folders in the inbox that scans are taken from: links are left alone."""
    found = []
    for folder, names, _ in os.walk(inbox):
        within = folder.count("/") - str(inbox).count("/")
        names[:] = [name for name in names if within < LEVELS and not name.startswith(IGNORED)]
        paths = [os.path.join(folder, name) for name in names]
        found += [path for path in paths if not os.path.islink(path)]
    return found


def _may(path: Path | str, what: int) -> bool:
    return os.access(path, what, effective_ids=True)


def _mode(path: Path | str) -> str:
    status = os.stat(path)
    mode = f"{status.st_mode & 0o7777:04o}"
    return f"{path} is {mode} of {_user_name(status.st_uid)}:{_group_name(status.st_gid)}"


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _kernel_limit(name: str) -> int | None:
    try:
        with open(f"/proc/sys/fs/{name}", encoding="ascii") as file:
            return int(file.read())
    except FileNotFoundError:  # hidden from a service
        return None


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
