"""What a watcher says of itself: to systemd, to `status`, to Prometheus and in the log."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import metadata
from statistics import quantiles
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from watcher.claims import WORK
from watcher.errors import naming, told
from watcher.results import escape, now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from watcher.claims import Batch
    from watcher.config import Settings
    from watcher.inbox import Inbox
    from watcher.metrics import Metrics
    from watcher.results import Row

log = logging.getLogger(__name__)

EVERY = 1.0  # seconds between reports of a state that changes all the time
QUIET = 30.0  # seconds between reports of one that does not
LATE = 120.0  # seconds without a report after which a watcher is told to hang; the work loop reports in far more often
START = 60  # seconds more that systemd is asked for while start and recovery go on
NAMED = 2  # of what is held for a reason, so many are named
RECENT = 1000  # scans that the usual time to a delivery is told of


@dataclass(slots=True)
class State:
    """What a watcher is doing."""

    pid: int = 0
    since: str = ""  # UTC, ISO 8601
    model: str = ""
    version: str = ""
    inbox: str = ""
    outbox: str = ""
    waiting: int = 0  # scans in the inbox
    oldest: float = 0.0  # seconds since the first of them was last changed
    in_flight: int = 0  # scans claimed and not yet delivered
    held: dict[str, int] = field(default_factory=dict)  # what is not taken yet, scans and folders, by reason
    held_names: dict[str, list[str]] = field(default_factory=dict)  # the first scans of those, by reason
    closed: dict[str, str] = field(default_factory=dict)  # the folders of those, and why
    other: int = 0  # files whose names are not a scan's
    deliveries: int = 0
    scans: int = 0  # delivered
    rows: dict[str, int] = field(default_factory=dict)  # delivered, by status
    reasons: dict[str, int] = field(default_factory=dict)  # the same, by the reason that they were not accepted
    latency: dict[str, float] = field(default_factory=dict)  # seconds from drop to delivery of recent scans: p50, p95
    last_delivery: str = ""
    degraded: list[str] = field(default_factory=list)  # what hinders it
    started: float = 0.0  # seconds since 1970, as the next two
    last_delivered: float = 0.0
    reported: float = 0.0


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


class Service:
    """Keeps the state, and tells whoever wants to know: systemd, `status`, Prometheus, the log."""

    def __init__(self, settings: Settings) -> None:
        self.state = State(
            pid=os.getpid(),
            since=now(),
            version=version(),
            inbox=str(settings.inbox),
            outbox=str(settings.outbox),
            started=time.time(),
        )
        self.metrics: Metrics | None = None
        if settings.metrics is not None:
            from watcher.metrics import Metrics  # noqa: PLC0415 - costs a tenth of a second

            self.metrics = Metrics(settings.metrics)
        self.inbox: Inbox | None = None
        self.ready = False
        self._trouble = ""
        self._silent: list[str] = []
        self._began = self._told = time.monotonic()
        self._written: tuple[float, State | None] = (0.0, None)
        self._recent: deque[float] = deque(maxlen=RECENT)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        notify("STOPPING=1")

    def begin(self, model: str, inbox: Inbox) -> None:
        """The workers are warm: from here on it is the inbox that there is to tell of."""
        self.state.model, self.inbox = model, inbox

    def beat(self) -> None:
        """The work loop turns: told wherever it waits or works for long, and by nothing beside it."""
        if time.monotonic() - self._told >= EVERY:
            self._report()

    def delivered(self, batch: Batch, rows: Sequence[Row], stages: Mapping[str, float], at: float) -> None:
        """Count a delivery, and name what failed in it; `stages` are the seconds that each stage took, `at` its end."""
        assert self.inbox is not None
        for row in rows:
            reading = row.reading
            if reading.status == "failed":
                name, detail = escape(row.name), escape(row.detail)
                fields = {"batch": batch.id, "file": name, "page": row.page, "reason": reading.reason, "detail": detail}
                log.warning("%s: %s: %s", name, reading.reason, detail, extra={"fields": fields})
        state = self.state
        state.deliveries += 1
        state.scans += len({row.name for row in rows})
        state.last_delivery, state.last_delivered = batch.id, time.time()
        state.rows = dict(Counter(state.rows) + Counter(row.reading.status for row in rows))
        state.reasons = dict(Counter(state.reasons) + Counter(r for row in rows if (r := row.reading.reason)))
        latencies = [at - arrived for arrived in self.inbox.arrived.pop(batch.id, [])]
        self.inbox.claimed.pop(batch.id, None)
        self._recent.extend(latencies)
        if len(self._recent) > 1:
            cuts = quantiles(self._recent, n=20, method="inclusive")
            state.latency = {"p50": round(cuts[9], 1), "p95": round(cuts[18], 1)}
        if self.metrics is not None:
            self.metrics.delivered(rows, latencies, stages)
        self._report()

    def tell(self, error: OSError | None) -> None:
        """Note what the environment does to us, or (None) that all is well, and report it."""
        text = "" if error is None else told(error)
        if text and text != self._trouble:
            log.warning("%s; nothing is lost, trying again", text, extra={"fields": {"trouble": text}})
            if self.metrics is not None:
                self.metrics.troubles.inc()
        if self._trouble and not text:
            log.info("all is well again")
        changed, self._trouble = text != self._trouble, text
        if changed or not self.ready:
            self._report()
        else:
            self.beat()

    def _report(self) -> None:
        self._told = time.monotonic()
        state, inbox = self.state, self.inbox
        if inbox is None:
            notify(f"EXTEND_TIMEOUT_USEC={START * 1_000_000}\nSTATUS=starting")
            return
        state.waiting, state.oldest = len(inbox.settling), round(inbox.settling.oldest(self._told), 1)
        state.in_flight = sum(inbox.claimed.values())
        state.held, state.other = dict(Counter(inbox.held.values())), inbox.other
        state.held_names, state.closed = _held(inbox)
        state.degraded = [text for text in (self._trouble, inbox.watch.trouble) if text]
        words = ["WATCHDOG=1", f"STATUS={headline(state)}"]
        if not self.ready and (inbox.looked or self._trouble):
            self.ready = True
            words.append("READY=1")
            log.info("reading with %s, ready after %.1f s", state.model, self._told - self._began)
        if not self.ready:
            words.append(f"EXTEND_TIMEOUT_USEC={START * 1_000_000}")
        notify("\n".join(words))
        when, before = self._written
        if self._told - when >= QUIET or replace(state, reported=0.0) != before:
            self._written = (self._told, replace(state, reported=0.0))
            self._write(inbox.claims.report)

    def _write(self, report: Path) -> None:
        self.state.reported = time.time()
        fresh = report.with_suffix(".new")
        silent = []  # what cannot be told where it should be: a full disk, and the log has to do
        try:
            with naming(fresh):
                fresh.write_text(json.dumps(asdict(self.state)), encoding="utf-8")
            fresh.rename(report)
        except OSError as error:
            silent.append(f"no report for 'status': {told(error)}")
        if self.metrics is not None:
            try:
                self.metrics.write(self.state, self.state.reported)
            except OSError as error:
                silent.append(f"no metrics: {told(error)}")
        for text in silent:
            if text not in self._silent:  # else a full disk would fill the log
                log.warning("%s", text)
        self._silent = silent


class Progress:
    """A progress bar while a terminal watches a backlog of more than a batch."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def done(self, scans: int, left: int) -> None:
        """Count scans that were read; `left` are those on their way that are not yet."""
        if self._bar is None and self.inbox.backlog and sys.stderr.isatty():
            self._bar = tqdm(total=0, unit=" scans", leave=False, dynamic_ncols=True)
        if self._bar is None:
            return
        self._bar.total = self._bar.n + scans + left + self.inbox.backlog
        self._bar.update(scans)
        if self._bar.n >= self._bar.total:
            self._bar.close()
            self._bar = None


def notify(message: str) -> None:
    """Tell the service manager, where there is one (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as channel:
        try:
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.sendall(message.encode())
        except OSError as error:  # one that does not listen must not hold up the work; it is told again in a moment
            log.debug("the service manager does not listen: %s", error.strerror)


def states(inbox: Path) -> list[State]:
    """What the living watchers of an inbox last said of themselves. Raises OSError where that cannot be looked at."""
    known = {name.name for name in fields(State)}  # another version may say more
    work = inbox / WORK
    try:
        names = sorted(os.listdir(work))  # glob would take a folder that is closed to us for an empty one
    except FileNotFoundError:
        return []
    return [
        State(
            **{
                key: value
                for key, value in json.loads((work / name).read_text(encoding="utf-8")).items()
                if key in known
            }
        )
        for name in names
        if name.endswith(".json") and _alive((work / name).with_suffix(".lock"))
    ]


def left_behind(inbox: Path) -> str:
    """What is claimed of an inbox on which no watcher runs, in words; empty where that is nothing."""
    claims = [path for ending in (".open", ".done") for path in (inbox / WORK).glob(f"*{ending}")]
    scans = sum(len(names) for claim in claims for _, _, names in os.walk(claim))
    return f"; it ended with {_count(scans, 'scan')} in flight, which the next one sees to first" if claims else ""


def headline(state: State) -> str:
    """A state in one line."""
    failed = state.rows.get("failed", 0)
    words = [f"{state.waiting:,} waiting, {state.in_flight:,} in flight, {sum(state.rows.values()):,} rows delivered"]
    words += [f"{failed:,} failed"] if failed else []
    words += [f"degraded: {text}" for text in state.degraded]
    return "; ".join(words)


def describe(state: State, at: float) -> str:
    """A state for people, at a time (seconds since 1970)."""
    silent = at - state.reported
    late = f"not heard of for {duration(silent)}: it hangs, or cannot write its report; its log says which"
    health = [*([late] if silent > LATE else []), *state.degraded]
    first = f", the first for {duration(state.oldest)}" if state.waiting else ""
    last = f", the last {duration(at - state.last_delivered)} ago" if state.deliveries else ""
    lines = [
        ("watcher", f"process {state.pid}, up {duration(at - state.started)}, version {state.version}"),
        ("model", state.model),
        ("health", f"DEGRADED: {health[0]}" if health else "good"),
        *[("", f"DEGRADED: {text}") for text in health[1:]],
        ("inbox", state.inbox),
        ("", f"{state.waiting:,} waiting{first}"),
        *[("", words) for words in _reasons(state)],
        *([("", f"{_count(state.other, 'file')} left alone, by name no scan")] if state.other else []),
        ("in flight", _count(state.in_flight, "scan")),
        ("outbox", state.outbox),
        ("", f"{_count(state.deliveries, 'delivery', 'deliveries')}, {_count(state.scans, 'scan')}{last}"),
        *_table(state.rows, ("accepted", "review", "blank", "failed"), "rows"),
        *_table(state.reasons, sorted(state.reasons, key=lambda reason: -state.reasons[reason]), "why not"),
    ]
    if state.latency:
        half, most = (duration(state.latency[key]) for key in ("p50", "p95"))
        lines.append(("latency", f"half within {half}, 95% within {most}, from drop to delivery"))
    return "\n".join(f"{name:<11}{text}" for name, text in lines)


def duration(seconds: float) -> str:
    """A time span as people say it."""
    for size, unit, below in ((86400, "d", 3600), (3600, "h", 60)):
        if seconds >= size:
            rest = int(seconds % size // below)
            return f"{int(seconds // size)} {unit} {rest} {'h' if unit == 'd' else 'min'}"
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{max(0.0, seconds):.1f} s" if 0 < seconds < 10 else f"{max(0.0, seconds):.0f} s"


def version() -> str:
    """The version that is installed."""
    try:
        return metadata.version("digitdrop")
    except metadata.PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"


def _held(inbox: Inbox) -> tuple[dict[str, list[str]], dict[str, str]]:
    """What an inbox does not take: the first scans by reason, and folders with theirs; escaped."""
    names: dict[str, list[str]] = {}
    closed: dict[str, str] = {}
    waiting = set(inbox.settling) if inbox.held else set()
    for name, why in inbox.held.items():
        # A scan that was put back is not among those that wait until the next look.
        if name not in waiting and os.path.isdir(inbox.root / name):
            closed[escape(name)] = why
        elif len(first := names.setdefault(why, [])) < NAMED:
            first.append(escape(name))
    return names, closed


def _reasons(state: State) -> list[str]:
    """What is not taken yet, a line for each reason, with the first names."""
    closed: dict[str, list[str]] = {}
    for name, why in state.closed.items():
        closed.setdefault(why, []).append(f"{name}/")
    scans = Counter(state.held) - Counter(state.closed.values())
    return [
        *[
            f"{count:,} of them {why}{_first(state.held_names.get(why, []), count)}"
            for why, count in sorted(scans.items())
        ],
        *[
            f"{_count(len(names), 'folder')} closed, {why}{_first(names, len(names))}"
            for why, names in sorted(closed.items())
        ],
    ]


def _first(names: Sequence[str], count: int) -> str:
    shown = names[:NAMED]
    return f": {', '.join(shown)}{', …' * (count > len(shown))}" if shown else ""


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def _table(counts: Mapping[str, int], names: Sequence[str], title: str) -> list[tuple[str, str]]:
    total = sum(counts.values())
    shown = [(name, counts[name]) for name in names if counts.get(name)]
    width = max((len(name) for name, _ in shown), default=0)
    digits = max((len(f"{count:,}") for _, count in shown), default=0)
    return [
        ("" if index else title, f"{name:<{width}}  {count:>{digits},}  {count / total:6.1%}")
        for index, (name, count) in enumerate(shown)
    ] or [(title, "none yet")] * (title == "rows")


def _alive(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
