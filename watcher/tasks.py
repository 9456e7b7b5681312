"""What the daemon and its workers say to each other."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from watcher.results import Status

SEVERAL, IDLE = -1, -2  # in the place of an index: a step that serves several scans; no task begun
NOTE = struct.Struct("=i")  # the index of the scan in hand, which a worker notes where its death does not wipe it


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a scan was not read: the short code of its row, and words for a person."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One scan to read: where its bytes lie, its name in the rows, and what it did when it was tried."""

    path: str
    name: str
    suspect: bool = False  # a worker died with it once; that may have been somebody else's doing
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """Task: read these scans and draw their thumbnails under `pictures`. Answer: their rows, or Broken."""

    jobs: Sequence[Job]
    pictures: Path | None


@dataclass(frozen=True, slots=True)
class Drawing:
    """Task: draw a contact sheet of these tiles into `path`. Answer: None, or Broken."""

    tiles: Sequence[bytes]
    counts: Mapping[Status, int]  # of all rows
    title: str
    path: Path


class Doubt(NamedTuple):
    """Something that cannot be promised of a kind of value, in words."""

    words: str
    stops: bool  # nothing of that kind is accepted


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker is warm, and serves this network by this card; what cannot be promised with it."""

    model: str
    card: str  # a fingerprint of all that it says
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """A task was not done: which of its scans was in hand, and what happened."""

    index: int
    fault: Fault
