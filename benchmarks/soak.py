"""A soak: many crops through one watcher, with its memory, open files and time per crop, tenth by tenth.

`python -m benchmarks.soak`. A downstream job deletes each delivery, so the disk stays as it is. `--flood` drops all
crops at once instead of keeping some thousand waiting, `--stopped` does so while the watcher is stopped (SIGSTOP).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.daemon import NO_PICTURES, SAMPLES, watcher
from watcher.status import states

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.daemon import Watcher

SAMPLE = next(path for path in SAMPLES if path.suffix == ".png" and path.stem[0].isdigit())
WAITING = 2000  # crops kept in the inbox
# What may not grow from the first tenth to the last, and by which factor it may all the same: measuring is not exact.
FLAT = {"memory MB": 1.1, "open files": 1.1, "processor ms a crop": 1.15}


def soak(scans: int, flood: bool, stopped: bool, pictures: bool) -> tuple[list[dict[str, float]], list[bytes]]:
    """The figures of each tenth, printed as they come, and the crops that came out."""
    with watcher(batch={"size": 256, "wait": 0.2}, **({} if pictures else NO_PICTURES)) as daemon:
        figures: list[dict[str, float]] = []
        came: list[bytes] = []
        dropped = told = most = 0
        begin, used = time.monotonic(), daemon.cpu()
        if stopped:
            os.kill(daemon.pid, signal.SIGSTOP)
        while len(came) < scans or any(state.in_flight for state in states(daemon.inbox)):
            daemon.check()
            while dropped < scans and (flood or dropped - len(came) < WAITING):
                drop(daemon, dropped, count := min(WAITING // 4, scans - dropped))
                dropped += count
                if dropped == scans and flood:
                    print(f"all {scans:,} are there after {time.monotonic() - begin:.1f} s", flush=True)
                    os.kill(daemon.pid, signal.SIGCONT)
            came += collect(daemon.outbox)
            most = max([most, *(state.in_flight for state in states(daemon.inbox))])
            now, share = time.monotonic(), len(came) - told
            if share and len(came) >= scans * (len(figures) + 1) / 10:
                figures.append(
                    {
                        "crops": share,
                        "ms a crop": (now - begin) * 1000 / share,
                        "processor ms a crop": (daemon.cpu() - used) * 1000 / share,
                        "memory MB": daemon.memory(),
                        "open files": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in daemon.processes()),
                        "most in flight": most,
                    }
                )
                begin, used, told = now, daemon.cpu(), len(came)
                words = "  ".join(f"{key} {value:,.2f}" for key, value in figures[-1].items())
                print(f"{len(figures):>2}  {words}", flush=True)
            time.sleep(0.02)
        return figures, came


def drop(daemon: Watcher, start: int, count: int) -> None:
    """Move a folder of crops in."""
    outside = daemon.outside / f"{start}"
    outside.mkdir()
    data = SAMPLE.read_bytes()
    for number in range(start, start + count):
        (outside / f"{number}.png").write_bytes(data)
    outside.rename(daemon.inbox / f"{start}")


def collect(outbox: Path) -> list[bytes]:
    """The files of the rows in the deliveries that are there; they are deleted."""
    found = []
    for path in outbox.glob("[!.]*"):
        found += [line.split(b",")[1] for line in (path / "results.csv").read_bytes().splitlines()[1:]]
        shutil.rmtree(path)
    return found


def main() -> int:
    """Print a line for each tenth, and the last against the first; 1 where crops were lost, doubled, or it grew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--scans", type=int, default=100_000, metavar="N", help="(default: 100000)")
    parser.add_argument("--flood", action="store_true", help="drop them all at once")
    parser.add_argument("--stopped", action="store_true", help="the same, while the watcher is stopped")
    parser.add_argument("--pictures", action="store_true", help="with thumbnails and contact sheets")
    arguments = parser.parse_args()
    figures, came = soak(arguments.scans, arguments.flood or arguments.stopped, arguments.stopped, arguments.pictures)
    first, last = figures[0], figures[-1]
    for key, factor in FLAT.items():
        grown = last[key] / first[key]
        verdict = "flat" if grown <= factor else "NOT FLAT"
        print(f"{key}: first tenth {first[key]:,.2f}, last tenth {last[key]:,.2f} ({grown:.2f}×): {verdict}")
    missing, twice = arguments.scans - len(set(came)), len(came) - len(set(came))
    print(f"{len(came):,} rows for {arguments.scans:,} crops: {missing} missing, {twice} twice")
    return int(bool(missing or twice) or any(last[key] > factor * first[key] for key, factor in FLAT.items()))


if __name__ == "__main__":
    sys.exit(main())
