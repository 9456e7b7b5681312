"""What a watcher says of itself while it runs: to systemd, to `status`, to Prometheus and in the log."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections import Counter, deque
from dataclasses import asdict, replace
from importlib import metadata
from statistics import quantiles
from typing import TYPE_CHECKING

from watcher.errors import naming, told
from watcher.names import escape
from watcher.results import now
from watcher.status import NAMED, State, headline

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
START = 60  # seconds more that systemd is asked for while start and recovery go on
RECENT = 1000  # scans that the usual time to a delivery is told of


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

            self.metrics = Metrics(settings.metrics, settings)
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
        warn_of_failed(rows, batch.id)
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
        first = not self.ready and (inbox.looked or bool(self._trouble))
        self.ready |= first
        state.starting = not self.ready
        words = ["WATCHDOG=1", f"STATUS={headline(state)}"]
        if first:
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


def warn_of_failed(rows: Sequence[Row], batch: str = "") -> None:
    """Log what was wrong with each scan that failed, once however many of its pages did."""
    failed: dict[str, list[Row]] = {}
    for row in rows:
        if row.reading.status == "failed":
            failed.setdefault(row.name, []).append(row)
    for name, pages in failed.items():
        first, more = pages[0], f", and {len(pages) - 1:,} more of its pages" if len(pages) > 1 else ""
        scan, reason, detail = escape(name), first.reading.reason, escape(first.detail)
        fields = {"batch": batch, "file": scan, "page": first.page, "reason": reason, "detail": detail}
        log.warning("%s: %s: %s%s", scan, reason, detail, more, extra={"fields": fields})


def notify(message: str) -> None:
    """Tell the service manager, where there is one (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as channel:
        try:
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.sendall(message.encode(errors="replace"))  # a path in it need not be UTF-8
        except OSError as error:  # one that does not listen must not hold up the work; it is told again in a moment
            log.debug("the service manager does not listen: %s", error.strerror)


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
