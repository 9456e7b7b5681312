"""What a watcher says of itself: to systemd, to `status` and in the log."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from watcher.claims import WORK
from watcher.results import escape, now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from watcher.inbox import Inbox
    from watcher.results import Row

log = logging.getLogger(__name__)

EVERY = 1.0  # seconds between reports of a state that changes all the time


@dataclass(slots=True)
class State:
    """What a watcher is doing."""

    pid: int
    since: str
    model: str
    waiting: int = 0  # scans in the inbox
    oldest: float = 0.0  # seconds since the first of them was seen
    in_flight: int = 0  # scans claimed and not yet delivered
    held: dict[str, int] = field(default_factory=dict)  # scans that are not taken yet, by reason
    other: int = 0  # files whose names are not a scan's
    deliveries: int = 0
    rows: dict[str, int] = field(default_factory=dict)  # delivered, by status
    last_delivery: str = ""
    degraded: list[str] = field(default_factory=list)  # what hinders it


class Service:
    """Keeps the state, and tells whoever wants to know."""

    def __init__(self, model: str, inbox: Inbox) -> None:
        self.inbox = inbox
        self.state = State(os.getpid(), now(), model)
        self._trouble = ""
        self._told = -EVERY

    def ready(self) -> None:
        """Tell systemd that the watcher is up."""
        notify("READY=1")

    def delivered(self, batch: str, rows: Sequence[Row]) -> None:
        """Count a delivery, and name what failed in it."""
        for row in rows:
            if row.reading.status == "failed":
                log.warning("%s: %s: %s", escape(row.name), row.reading.reason, escape(row.detail))
        self.state.deliveries += 1
        self.state.last_delivery = batch
        self.state.rows = dict(Counter(self.state.rows) + Counter(row.reading.status for row in rows))

    def tell(self, error: OSError | None) -> None:
        """Note what the environment does to us, or (None) that all is well, and report it."""
        text = "" if error is None else f"{error.filename or 'the system'}: {error.strerror or error}"
        if text and text != self._trouble:
            log.warning("%s; nothing is lost, trying again", text)
        if self._trouble and not text:
            log.info("all is well again")
        changed, self._trouble = text != self._trouble, text
        if changed or time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            self._report()

    def _report(self) -> None:
        state, inbox = self.state, self.inbox
        state.waiting, state.oldest = len(inbox.settling), round(inbox.settling.oldest(time.monotonic()), 1)
        state.in_flight = inbox.in_flight
        state.held, state.other = dict(Counter(inbox.held.values())), inbox.other
        state.degraded = [text for text in (self._trouble, inbox.watch.trouble) if text]
        notify(
            f"WATCHDOG=1\nSTATUS={state.waiting} waiting, {state.in_flight} in flight, "
            f"{sum(state.rows.values())} rows delivered{''.join(f'; degraded: {text}' for text in state.degraded)}"
        )
        path = inbox.claims.report
        fresh = path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(asdict(state)), encoding="utf-8")
            fresh.rename(path)
        except OSError as error:  # a full disk: the log has to do
            log.warning("no report for 'status': %s: %s", error.filename, error.strerror)


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

    def done(self, scans: int) -> None:
        """Count scans that were read."""
        if self._bar is None and self.inbox.backlog and sys.stderr.isatty():
            self._bar = tqdm(total=0, unit=" scans", leave=False, dynamic_ncols=True)
        if self._bar is None:
            return
        self._bar.total = max(self._bar.n + self.inbox.in_flight + self.inbox.backlog, self._bar.n + scans)
        self._bar.update(scans)
        if self._bar.n >= self._bar.total:
            self._bar.close()
            self._bar = None


def notify(message: str) -> None:
    """Tell the service manager, where there is one (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(message.encode())


def states(inbox: Path) -> list[State]:
    """What the living watchers of an inbox last said of themselves."""
    return [
        State(**json.loads(path.read_text(encoding="utf-8")))
        for path in sorted((inbox / WORK).glob("*.json"))
        if _alive(path.with_suffix(".lock"))
    ]


def describe(state: State) -> str:
    """A state for people."""
    rows = ", ".join(f"{count} {status}" for status, count in sorted(state.rows.items())) or "none yet"
    lines = {
        "watcher": f"process {state.pid}, since {state.since}, reading with {state.model}",
        "health": "; ".join(state.degraded) or "good",
        "waiting": f"{state.waiting} scans" + (f", the first for {state.oldest:.0f} s" if state.waiting else ""),
        "held": ", ".join(f"{count} {why}" for why, count in sorted(state.held.items())) or "none",
        "in flight": f"{state.in_flight} scans",
        "delivered": f"{state.deliveries} batches, the last {state.last_delivery or '–'}",
        "rows": rows,
        "left alone": f"{state.other} files that are no scans by their names",
    }
    return "\n".join(f"{name + ':':<12}{text}" for name, text in lines.items())


def _alive(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
