"""The watcher as a process on folders of its own, and what it costs."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parent.parent
SAMPLES = [  # broken.png would wait for `patience`, and a TIFF has rows for each page
    path
    for path in sorted((ROOT / "samples").iterdir())
    if path.suffix in {".png", ".jpg", ".webp", ".bmp"} and path.stem != "broken"
]
SETTLE = 0.5  # seconds
PATIENCE = 900.0  # seconds after which a benchmark gives up
TICKS = os.sysconf("SC_CLK_TCK")
NO_PICTURES: dict[str, Any] = {"thumbnails": "none", "contact_sheet": False}


class Watcher:
    """A running daemon with its folders."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.inbox, self.outbox, self.outside = root / "inbox", root / "outbox", root / "outside"
        for folder in (self.inbox, self.outbox, self.outside):
            folder.mkdir()
        config = root / "config.yaml"
        config.write_text(yaml.safe_dump({"model": str(ROOT / "model"), "settle": SETTLE, "workers": 2} | settings))
        self.command = [sys.executable, "-m", "watcher", "run", "--config", str(config)]
        self.log = root / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.seen: set[str] = set()
        self.rows = 0  # delivered

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start it, wait until it is ready, stop it at the end."""
        with self.log.open("w") as words, subprocess.Popen(self.command, cwd=ROOT, stderr=words) as self.process:
            while "ready after" not in self.log.read_text():
                self.check()
                time.sleep(0.005)
            try:
                yield
            finally:
                self.process.send_signal(signal.SIGTERM)

    def check(self) -> None:
        """Raise RuntimeError, with its log, where it has ended."""
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(self.log.read_text())

    @property
    def pid(self) -> int:
        """Of the daemon itself."""
        assert self.process is not None
        return self.process.pid

    def drop(self, count: int, samples: Sequence[Path] = SAMPLES) -> None:
        """Move so many scans in, all at once."""
        for number, sample in zip(range(count), itertools.cycle(samples)):
            (self.outside / f"{number:06d}{sample.suffix}").write_bytes(sample.read_bytes())
        self.outside.rename(self.inbox / f"dropped{self.rows}")
        self.outside.mkdir()

    def wait(self, rows: int, every: float = 0.02) -> None:
        """Until so many rows are delivered."""
        deadline = time.monotonic() + PATIENCE
        while self.rows < rows:
            self.check()
            for name in os.listdir(self.outbox):
                if name not in self.seen and not name.startswith("."):
                    self.seen.add(name)
                    self.rows += (self.outbox / name / "results.csv").read_bytes().count(b"\n") - 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.rows} of {rows} rows after {PATIENCE:g} s")
            time.sleep(every)

    def processes(self) -> list[int]:
        """It and its workers."""
        return [self.pid, *map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())]

    def cpu(self) -> float:
        """Seconds of processor time that they used so far."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.processes()]
        return sum(int(user) + int(system) for _, *more in fields for user, system in [more[10:12]]) / TICKS

    def memory(self) -> float:
        """Megabytes of memory that they hold, shared pages counted once (PSS)."""
        lines = [
            line
            for pid in self.processes()
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            if line.startswith("Pss:")
        ]
        return sum(int(line.split()[1]) for line in lines) / 1000


@contextmanager
def watcher(**settings: Any) -> Iterator[Watcher]:
    """A running watcher on temporary folders."""
    with tempfile.TemporaryDirectory(prefix="bench") as root:
        made = Watcher(Path(root), **settings)
        with made.running():
            yield made


def flood(count: int, samples: Sequence[Path] = SAMPLES, **settings: Any) -> tuple[float, float]:
    """Scans a second of so many dropped at once, and milliseconds of processor time for each."""
    with watcher(**settings) as daemon:
        daemon.drop(count, samples)
        time.sleep(SETTLE)
        begin, used = time.perf_counter(), daemon.cpu()
        daemon.wait(count)
        return count / (time.perf_counter() - begin), (daemon.cpu() - used) * 1000 / count
