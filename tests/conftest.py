"""What tests share: drawn crops, and the daemon as a real process with the oracle that judges what it did."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np
import pytest
import yaml

from watcher.folder import scan
from watcher.names import unescape
from watcher.status import states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
ROOT = Path(__file__).parent.parent
SHARED = Path("/dev/shm")  # noqa: S108 - a file system in memory, where there is one
PATIENCE = 120.0  # seconds until a test gives up waiting, on a busy machine
LONGEST = (
    "test_systemd.py",
    "test_scenarios.py",
    "test_extra.py",
    "test_train.py",
    "test_faults.py",
    "test_workers.py",
    "test_field_training.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no processor is left waiting for another at the end."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def until(condition: Callable[[], T], what: str) -> T:
    """Wait until a condition holds; returns what it returned."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(0.01)
    return found


def crop(number: int = 0, size: tuple[int, int] = (120, 100)) -> bytes:
    """A PNG of a 7 in pen strokes on paper; each number gives other bytes."""
    height, width = size
    page = np.full((height, width), 235, np.uint8)
    shift = number % 7
    points = np.array([[30 + shift, 30], [70, 30 + number % 3], [45 + shift, 95]], np.float32)
    scaled = (points * [width / 100, height / 120]).astype(np.int32)
    cv2.polylines(page, [scaled], isClosed=False, color=40, thickness=max(2, width // 18), lineType=cv2.LINE_AA)
    page[0, :4] = np.frombuffer(np.uint32(number).tobytes(), np.uint8) // 8 + 220  # each its own bytes, no ink
    return bytes(cv2.imencode(".png", page)[1])


class Folder:
    """An inbox and an outbox with a configuration, and watchers on them as processes."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        self.inbox, self.outbox = root / "inbox", root / "outbox"
        self.inbox.mkdir()
        self.outbox.mkdir()
        self.config = root / "config.yaml"
        self.configure(**settings)
        self.expect_nothing()

    def expect_nothing(self) -> None:
        """Have an oracle that has seen nothing yet."""
        self.dropped: dict[str, str] = {}  # name → SHA-256, of what has to come out
        self.earlier: list[tuple[str, str]] = []  # the same, of names that were dropped again since
        self.pages: dict[str, int] = {}  # of scans with more than one
        self.processes: list[subprocess.Popen[str]] = []
        self.taken = self.root / "taken"  # where a downstream job moves deliveries to
        self._seen: dict[str, bytes] = {}  # each results.csv as it was when it was first seen
        self._rows: dict[str, list[dict[str, str]]] = {}

    def configure(self, **settings: Any) -> None:
        """Write the configuration: the test's settings over those that make tests quick."""
        quick = {"model": str(ROOT / "model"), "settle": 0.1, "scan_every": 0.2, "workers": 1}
        self.config.write_text(yaml.safe_dump(quick | settings))
        self.keeps = settings.get("originals") != "delete"

    def drop(self, name: str, data: bytes) -> None:
        """Put a scan into the inbox the careful way: written elsewhere, renamed in."""
        self.note(name, data)
        target = self.inbox / name
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.root / "half-written"
        fresh.write_bytes(data)
        try:
            fresh.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # The inbox lies on another file system: from a hidden name in it, then.
            shutil.move(fresh, self.inbox / ".half-written")
            (self.inbox / ".half-written").rename(target)

    def note(self, name: str, data: bytes) -> None:
        """Have the oracle expect a scan that comes in another way."""
        if name in self.dropped:
            self.earlier.append((name, self.dropped[name]))
        self.dropped[name] = hashlib.sha256(data).hexdigest()

    def command(self, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "watcher", *arguments, "--config", str(self.config)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def launch(self, *prefix: str, fault: str = "", **environment: str) -> subprocess.Popen[str]:
        """Start a watcher, under another command where `prefix` says so; `fault`: see faults/sitecustomize.py."""
        injected = {"FAULT": fault, "PYTHONPATH": str(ROOT / "tests" / "faults")} if fault else {}
        with (self.root / f"log{len(self.processes)}").open("w") as log:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "watcher", "run", "--config", str(self.config)],
                cwd=ROOT,
                stderr=log,
                text=True,
                env=os.environ | injected | environment,
            )
        self.processes.append(process)
        return process

    def start(self, *prefix: str, fault: str = "", **environment: str) -> subprocess.Popen[str]:
        """Start a watcher, and wait until it is ready."""
        process = self.launch(*prefix, fault=fault, **environment)
        until(lambda: "ready after" in self.log(process) or process.poll() is not None, "the watcher to be ready")
        assert process.poll() is None, self.log(process)
        return process

    def log(self, process: subprocess.Popen[str]) -> str:
        """What a watcher has said so far."""
        return (self.root / f"log{self.processes.index(process)}").read_text()

    def kill(self, process: subprocess.Popen[str]) -> None:
        """As a power cut would, but for the disk."""
        process.kill()
        process.wait()

    def stop(self, process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
        """As systemd would; returns the exit code."""
        process.send_signal(number)
        return process.wait(PATIENCE)

    def deliveries(self) -> list[Path]:
        """What downstream has: as a job that takes each delivery the moment it appears where there is `taken`."""
        if not self.taken.is_dir():
            return sorted(path for path in self.outbox.iterdir() if not path.name.startswith("."))
        for path in self.outbox.iterdir():
            if not path.name.startswith("."):
                assert not (self.taken / path.name).exists(), f"{path.name} came twice"
                path.rename(self.taken / path.name)
        return sorted(self.taken.iterdir())

    def rows(self) -> list[dict[str, str]]:
        """All rows of all deliveries, each of which parses in full from the first time that it is seen."""
        for delivery in self.deliveries():
            if delivery.name not in self._seen:
                self._seen[delivery.name] = data = (delivery / "results.csv").read_bytes()
                self._rows[delivery.name] = read_csv(data)
                assert all(
                    None not in row.values() and row["batch"] == delivery.name for row in self._rows[delivery.name]
                )
        return [row for name in sorted(self._rows) for row in self._rows[name]]

    def row(self, name: str) -> dict[str, str] | None:
        """The row of a scan, once it is delivered."""
        return next((row for row in self.rows() if unescape(row["file"]) == name), None)

    def pulse(self) -> None:
        """Drop a scan and wait for its row: what lay in the inbox before could have been taken too, had it settled."""
        for _ in range(2):
            name = f"pulse/{len(self.dropped)}.png"
            self.drop(name, crop(len(self.dropped), (60, 50)))
            until(lambda: self.row(name), f"the row of {name}")  # noqa: B023 - called at once

    def held(self) -> dict[str, int]:
        """What the watchers say they hold back, by reason."""
        return {why: count for state in states(self.inbox) for why, count in state.held.items()}

    def degraded(self) -> list[str]:
        """What the watchers say hinders them."""
        return [text for state in states(self.inbox) for text in state.degraded]

    def wait(self, rows: int | None = None) -> list[dict[str, str]]:
        """Wait until so many rows are delivered, else one for each scan dropped."""
        wanted = len(self.dropped) + len(self.earlier) if rows is None else rows
        while (found := len(self.rows())) < wanted:  # a flood may take long, but it has to flow
            until(lambda: len(self.rows()) > found, f"more than {found} of {wanted} rows")
        return self.rows()

    def work(self) -> list[str]:
        """What is claimed and not yet cleaned up."""
        work = self.inbox / ".work"
        return (
            [name for name in os.listdir(work) if os.path.splitext(name)[1].startswith((".open", ".done"))]
            if work.is_dir()
            else []
        )

    def check(self) -> None:
        """The oracle, once things have gone quiet.

        Each scan dropped is in one delivery and nowhere else, with a row for each page and the SHA-256 of its bytes,
        unless it was read and originals are not kept; each results.csv is what it was when it was first seen; nothing
        of the watcher's is left over.
        """
        until(lambda: not self.work(), "the claims to be cleaned up")
        wanted = Counter([*self.dropped.items(), *self.earlier])
        for (name, sha256), count in list(wanted.items()):
            wanted[name, sha256] = count * self.pages.get(name, 1)
        found = Counter((unescape(row["file"]), row["sha256"]) for row in self.rows())
        assert found == wanted, f"missing {wanted - found}, too many {found - wanted}"
        left = scan(self.inbox).scans
        assert not left, f"still in the inbox: {list(left)}"
        assert not stages(self.outbox)
        for delivery in self.deliveries():
            assert (delivery / "results.csv").read_bytes() == self._seen[delivery.name]
            failed = {row["file"] for row in self._rows[delivery.name] if row["status"] == "failed"}
            for row in self._rows[delivery.name]:
                path = delivery / ("failed" if row["file"] in failed else "scans") / unescape(row["file"])
                if row["file"] in failed or self.keeps:
                    assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]
            assert self.keeps or not (delivery / "scans").exists()


def stages(outbox: Path) -> list[str]:
    """What is staged in an outbox: all that is there beside its mark."""
    staging = outbox / ".staging"
    return [name for name in os.listdir(staging) if not name.startswith("mark-")] if staging.exists() else []


def read_csv(data: bytes) -> list[dict[str, str]]:
    """The rows of a results.csv."""
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder that no disk is waited for, where there is such: for tests that make and remove thousands."""
    if not os.access(SHARED, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(prefix="digitdrop-", dir=SHARED) as name:
        yield Path(name)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """An inbox and an outbox; whatever still runs at the end is killed."""
    made = Folder(tmp_path)
    yield made
    for process in made.processes:
        if process.poll() is None:
            made.kill(process)
