"""A soak: many crops through one watcher, with its memory, open files and time per crop, tenth by tenth.

`python -m benchmarks.soak`. A downstream job deletes each delivery, so the disk stays as it is. `--flood` drops all
crops at once instead of keeping some thousand waiting.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from watcher.service import states

ROOT = Path(__file__).parent.parent
SAMPLE = next(path for path in sorted((ROOT / "samples").iterdir()) if path.suffix == ".png" and path.stem[0].isdigit())
WAITING = 2000  # crops kept in the inbox


def soak(scans: int, flood: bool, pictures: bool) -> list[dict[str, float]]:
    """The figures of each tenth, printed as they come."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("inbox", "outbox"):
            (root / folder).mkdir()
        settings = {"model": str(ROOT / "model"), "settle": 0.5, "batch": {"size": 256, "wait": 0.2}}
        if not pictures:
            settings |= {"thumbnails": "none", "contact_sheet": False}
        (root / "config.yaml").write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "watcher", "run", "--config", str(root / "config.yaml")]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            while not states(root / "inbox"):
                time.sleep(0.1)
            figures: list[dict[str, float]] = []
            dropped = delivered = most = 0
            begin, mark = time.monotonic(), 0.0
            while delivered < scans:
                while dropped < scans and (flood or dropped - delivered < WAITING):
                    drop(root, dropped, count := min(WAITING // 4, scans - dropped))
                    dropped += count
                delivered += collect(root / "outbox")
                most = max([most, *(state.in_flight for state in states(root / "inbox"))])
                if delivered >= scans * (len(figures) + 1) / 10:
                    now = time.monotonic() - begin
                    share = delivered - sum(int(figure["crops"]) for figure in figures)
                    processes = [process.pid, *children(process.pid)]
                    figures.append(
                        {
                            "crops": share,
                            "ms a crop": (now - mark) * 1000 / share,
                            "memory MB": sum(map(memory, processes)),
                            "open files": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in processes),
                            "most in flight": most,
                        }
                    )
                    mark = now
                    told = "  ".join(f"{key} {value:,.2f}" for key, value in figures[-1].items())
                    print(f"{len(figures):>2}  {told}", flush=True)
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
        return figures


def drop(root: Path, start: int, count: int) -> None:
    """Move a folder of crops in."""
    outside = root / "outside"
    outside.mkdir()
    data = SAMPLE.read_bytes()
    for number in range(start, start + count):
        (outside / f"{number}.png").write_bytes(data)
    outside.rename(root / "inbox" / f"{start}")


def collect(outbox: Path) -> int:
    """Rows of the deliveries that are there; they are deleted."""
    found = 0
    for path in outbox.glob("[!.]*"):
        found += (path / "results.csv").read_bytes().count(b"\n") - 1
        shutil.rmtree(path)
    return found


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory(pid: int) -> float:
    """Megabytes of memory of a process, shared pages by their share (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def main() -> int:
    """Print a line for each tenth, and the last against the first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--scans", type=int, default=100_000, metavar="N", help="(default: 100000)")
    parser.add_argument("--flood", action="store_true", help="drop them all at once")
    parser.add_argument("--pictures", action="store_true", help="with thumbnails and contact sheets")
    arguments = parser.parse_args()
    figures = soak(arguments.scans, arguments.flood, arguments.pictures)
    print("last against first: " + "  ".join(f"{key} {figures[-1][key] / figures[0][key]:.2f}×" for key in figures[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
