"""What tests share: drawn crops, and the daemon as a real process with the oracle that judges what it did."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np
import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
ROOT = Path(__file__).parent.parent
PATIENCE = 60.0  # seconds until a test gives up waiting, on a busy machine


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
        self.dropped: dict[str, str] = {}  # name → SHA-256, of what has to come out
        self.processes: list[subprocess.Popen[str]] = []

    def configure(self, **settings: Any) -> None:
        """Write the configuration: the test's settings over those that make tests quick."""
        quick = {"model": str(ROOT / "model"), "settle": 0.1, "scan_every": 0.2, "workers": 1}
        self.config.write_text(yaml.safe_dump(quick | settings))

    def drop(self, name: str, data: bytes) -> None:
        """Put a scan into the inbox the careful way: written elsewhere, renamed in."""
        self.dropped[name] = hashlib.sha256(data).hexdigest()
        target = self.inbox / name
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.root / "half-written"
        fresh.write_bytes(data)
        fresh.rename(target)

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

    def start(self) -> subprocess.Popen[str]:
        """Start a watcher, and wait until it is ready."""
        with (self.root / f"log{len(self.processes)}").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "watcher", "run", "--config", str(self.config)], cwd=ROOT, stderr=log, text=True
            )
        self.processes.append(process)
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
        """What downstream sees."""
        return sorted(path for path in self.outbox.iterdir() if not path.name.startswith("."))

    def rows(self) -> list[dict[str, str]]:
        """All rows of all deliveries."""
        return [row for delivery in self.deliveries() for row in read_csv((delivery / "results.csv").read_bytes())]

    def wait(self, rows: int | None = None) -> list[dict[str, str]]:
        """Wait until so many rows are delivered, else one for each scan dropped."""
        wanted = len(self.dropped) if rows is None else rows
        until(lambda: len(self.rows()) >= wanted, f"{wanted} rows, there are {len(self.rows())}")
        return self.rows()

    def work(self) -> list[str]:
        """What is claimed and not yet cleaned up."""
        work = self.inbox / ".work"
        return [name for name in os.listdir(work) if name.endswith((".open", ".done"))] if work.is_dir() else []

    def check(self) -> None:
        """The oracle: each scan in exactly one delivery with its bytes, nothing left over, nothing half."""
        until(lambda: not self.work(), "the claims to be cleaned up")
        rows = self.rows()
        assert sorted((row["file"], row["sha256"]) for row in rows) == sorted(self.dropped.items())
        staged = self.outbox / ".staging"
        assert not staged.exists() or not os.listdir(staged)
        for delivery in self.deliveries():
            for row in read_csv((delivery / "results.csv").read_bytes()):
                kind = "failed" if row["status"] == "failed" else "scans"
                data = (delivery / kind / row["file"]).read_bytes()
                assert hashlib.sha256(data).hexdigest() == row["sha256"]


def read_csv(data: bytes) -> list[dict[str, str]]:
    """The rows of a results.csv."""
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """An inbox and an outbox; whatever still runs at the end is killed."""
    made = Folder(tmp_path)
    yield made
    for process in made.processes:
        if process.poll() is None:
            made.kill(process)
