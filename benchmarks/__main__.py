"""Measure the watcher on this machine, beside the reference path: `make bench`.

The reference path is the way a notebook does it: read the image, resize it to 28×28, invert, `model.predict`, draw a
pyplot figure and save it. Both read the project's samples, over and over, in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
SAMPLES = [  # broken.png would wait for `patience`
    path
    for path in sorted((ROOT / "samples").iterdir())
    if path.suffix in {".png", ".jpg", ".webp", ".bmp"} and path.stem != "broken"
]
SETTLE = 0.5  # seconds


class Watcher:
    """A daemon on folders of its own."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.inbox, self.outbox = root / "inbox", root / "outbox"
        self.outside = root / "outside"
        for folder in (self.inbox, self.outbox, self.outside):
            folder.mkdir()
        config = root / "config.yaml"
        config.write_text(yaml.safe_dump({"model": str(ROOT / "model"), "settle": SETTLE} | settings))
        self.command = [sys.executable, "-m", "watcher", "run", "--config", str(config)]
        self.seen: set[str] = set()
        self.rows = 0

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """Start it, wait until it is ready, stop it at the end."""
        with subprocess.Popen(self.command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if "ready after" in line:
                    break
            yield process
            process.send_signal(signal.SIGTERM)

    def prepare(self, count: int) -> None:
        """Lay out scans beside the inbox."""
        for number, sample in zip(range(count), itertools.cycle(SAMPLES)):
            (self.outside / f"{number:06d}{sample.suffix}").write_bytes(sample.read_bytes())

    def move_in(self) -> None:
        """Rename what was laid out into the inbox, all at once."""
        self.outside.rename(self.inbox / "dropped")
        self.outside.mkdir()

    def wait(self, rows: int) -> None:
        """Until so many rows are delivered."""
        while self.rows < rows:
            for name in os.listdir(self.outbox):
                if name not in self.seen and not name.startswith("."):
                    self.seen.add(name)
                    self.rows += (self.outbox / name / "results.csv").read_bytes().count(b"\n") - 1
            time.sleep(0.002)


def start(runs: int) -> dict[str, float]:
    """Seconds from the command to ready."""
    times = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as root:
            watcher = Watcher(Path(root), workers=2)
            begin = time.perf_counter()
            with watcher.running():
                times.append(time.perf_counter() - begin)
    return {"median_s": statistics.median(times)}


def trickle(runs: int) -> dict[str, float]:
    """Milliseconds from a scan's rename into the inbox to its delivery, beyond `settle`; and the memory meanwhile."""
    times = []
    with tempfile.TemporaryDirectory() as root:
        watcher = Watcher(Path(root), workers=2)
        with watcher.running() as process:
            for number in range(runs):
                watcher.prepare(1)
                begin = time.perf_counter()
                os.rename(watcher.outside / f"000000{SAMPLES[0].suffix}", watcher.inbox / f"{number}.jpg")
                watcher.wait(number + 1)
                times.append((time.perf_counter() - begin - SETTLE) * 1000)
            memory = resident(process.pid)
    return {"p50_ms": statistics.median(times), "max_ms": max(times), "memory_mb": memory}


def flood(count: int, **settings: Any) -> dict[str, float]:
    """Scans a second, of many dropped at once."""
    with tempfile.TemporaryDirectory() as root:
        watcher = Watcher(Path(root), workers=2, **settings)
        watcher.prepare(count)
        with watcher.running() as process:
            watcher.move_in()
            time.sleep(SETTLE)
            begin = time.perf_counter()
            watcher.wait(count)
            rate = count / (time.perf_counter() - begin)
            return {"scans_per_s": rate, "memory_mb": resident(process.pid)}


def reference(count: int) -> dict[str, float]:
    """Scans a second the way of a notebook."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import matplotlib as mpl  # noqa: PLC0415 - only the reference needs it

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    from train.recipes import reference_network  # noqa: PLC0415

    network = reference_network(10)  # untrained: its speed is the same
    with tempfile.TemporaryDirectory() as root:
        paths = list(itertools.islice(itertools.cycle(SAMPLES), count))
        rates = []
        for _ in range(3):
            begin = time.perf_counter()
            for number, path in enumerate(paths):
                grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
                assert grey is not None
                image = 1 - cv2.resize(grey, (28, 28)).astype(np.float32) / 255
                probabilities = network.predict(image[None, ..., None], verbose=0)[0]
                figure, axes = plt.subplots()
                axes.imshow(grey, cmap="gray")
                axes.set_title(f"{probabilities.argmax()} ({probabilities.max():.1%})")
                figure.savefig(Path(root) / f"{number}.png")
                plt.close(figure)
            rates.append(count / (time.perf_counter() - begin))
    return {"scans_per_s": statistics.median(rates)}


def resident(pid: int) -> float:
    """Megabytes of memory of a process and its children, shared pages counted once (PSS)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for process in [pid, *map(int, children)]:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1000


def main() -> int:
    """Measure and print a table; `--json FILE` keeps the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scans", type=int, default=2000, metavar="N", help="in a flood (default: 2000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    arguments = parser.parse_args()
    figures = {
        "start to ready": start(5),
        "one scan, beyond settle": trickle(20),
        "flood, all outputs": flood(arguments.scans),
        "flood, no pictures": flood(arguments.scans, thumbnails="none", contact_sheet=False),
        "reference path": reference(40),
    }
    for name, values in figures.items():
        print(f"{name:<26}" + "  ".join(f"{key} {value:,.2f}" for key, value in values.items()))
    base = figures["reference path"]["scans_per_s"]
    for name in ("flood, all outputs", "flood, no pictures"):
        print(f"{name} against the reference path: {figures[name]['scans_per_s'] / base:.0f}×")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
