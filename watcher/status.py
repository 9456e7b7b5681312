"""What a watcher is doing: as it writes it down, and as people read it."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from watcher.claims import WORK
from watcher.folder import IGNORED
from watcher.results import STATUSES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LATE = 120.0  # seconds without a report after which a watcher is told to hang; the work loop reports in far more often
NAMED = 2  # of what is held for a reason, so many are named


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
    starting: bool = False  # the inbox was not looked at yet
    degraded: list[str] = field(default_factory=list)  # what hinders it
    started: float = 0.0  # seconds since 1970, as the next two
    last_delivered: float = 0.0
    reported: float = 0.0


def states(inbox: Path) -> list[State]:
    """What the living watchers of an inbox last said of themselves. Raises OSError where that cannot be looked at."""
    known = {name.name for name in fields(State)}  # another version may say more
    work = inbox / WORK
    try:
        names = sorted(os.listdir(work))  # glob would take a folder that is closed to us for an empty one
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        if name.endswith(".json") and _alive((work / name).with_suffix(".lock")):
            # A power cut may have left it empty: the next report comes soon. Or its watcher ends just now.
            with suppress(ValueError, FileNotFoundError):
                said: dict[str, Any] = json.loads((work / name).read_text(encoding="utf-8"))
                found.append(State(**{key: value for key, value in said.items() if key in known}))
    return found


def left_behind(inbox: Path) -> str:
    """What is claimed of an inbox on which no watcher runs, in words; empty where that is nothing."""
    claims = [path for ending in (".open", ".done*") for path in (inbox / WORK).glob(f"*{ending}")]
    names = [name for claim in claims for _, _, names in os.walk(claim) for name in names]
    scans = sum(not name.startswith(IGNORED) for name in names)
    return f"; it ended with {_count(scans, 'scan')} in flight, which the next one sees to first" if claims else ""


def headline(state: State) -> str:
    """A state in one line."""
    failed = state.rows.get("failed", 0)
    words = ["starting"] if state.starting else []
    words += [f"{state.waiting:,} waiting, {state.in_flight:,} in flight, {sum(state.rows.values()):,} rows delivered"]
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
        ("health", f"DEGRADED: {health[0]}" if health else "starting" if state.starting else "good"),
        *[("", f"DEGRADED: {text}") for text in health[1:]],
        ("inbox", state.inbox),
        ("", f"{state.waiting:,} waiting{first}"),
        *[("", words) for words in _reasons(state)],
        *([("", f"{_count(state.other, 'file')} left alone, by name no scan")] if state.other else []),
        ("in flight", _count(state.in_flight, "scan")),
        ("outbox", state.outbox),
        ("", f"{_count(state.deliveries, 'delivery', 'deliveries')}, {_count(state.scans, 'scan')}{last}"),
        *_table(state.rows, STATUSES, "rows"),
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
