"""A soak: many crops through one watcher, with its memory, open files and time per crop, tenth by tenth.

`python -m benchmarks.soak`. A downstream job deletes each delivery, so the disk stays as it is. `--flood` drops all
crops at once instead of keeping some thousand waiting, `--stopped` does so while the watcher is stopped (SIGSTOP).
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

from watcher.status import states

ROOT = Path(__file__).parent.parent
SAMPLE = next(path for path in sorted((ROOT / "samples").iterdir()) if path.suffix == ".png" and path.stem[0].isdigit())
WAITING = 2000  # crops kept in the inbox
TICKS = os.sysconf("SC_CLK_TCK")
# What may not grow from the first tenth to the last, and by which factor it may all the same: measuring is not exact.
FLAT = {"memory MB": 1.1, "open files": 1.1, "processor ms a crop": 1.15}


def soak(scans: int, flood: bool, stopped: bool, pictures: bool) -> tuple[list[dict[str, float]], list[bytes]]:
    """The figures of each tenth, printed as they come, and the crops that came out."""
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
            processes = [process.pid, *children(process.pid)]
            figures: list[dict[str, float]] = []
            came: list[bytes] = []
            dropped = told = most = 0
            begin, used = time.monotonic(), processor(processes)
            if stopped:
                process.send_signal(signal.SIGSTOP)
            while len(came) < scans or any(state.in_flight for state in states(root / "inbox")):
                while dropped < scans and (flood or dropped - len(came) < WAITING):
                    drop(root, dropped, count := min(WAITING // 4, scans - dropped))
                    dropped += count
                    if dropped == scans and flood:
                        print(f"all {scans:,} are there after {time.monotonic() - begin:.1f} s", flush=True)
                        process.send_signal(signal.SIGCONT)
                came += collect(root / "outbox")
                most = max([most, *(state.in_flight for state in states(root / "inbox"))])
                now, share = time.monotonic(), len(came) - told
                if share and len(came) >= scans * (len(figures) + 1) / 10:
                    processes = [process.pid, *children(process.pid)]
                    figures.append(
                        {
                            "crops": share,
                            "ms a crop": (now - begin) * 1000 / share,
                            "processor ms a crop": (processor(processes) - used) * 1000 / share,
                            "memory MB": sum(map(memory, processes)),
                            "open files": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in processes),
                            "most in flight": most,
                        }
                    )
                    begin, used, told = now, processor(processes), len(came)
                    words = "  ".join(f"{key} {value:,.2f}" for key, value in figures[-1].items())
                    print(f"{len(figures):>2}  {words}", flush=True)
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
        return figures, came


def drop(root: Path, start: int, count: int) -> None:
    """Move a folder of crops in."""
    outside = root / "outside"
    outside.mkdir()
    data = SAMPLE.read_bytes()
    for number in range(start, start + count):
        (outside / f"{number}.png").write_bytes(data)
    outside.rename(root / "inbox" / f"{start}")


def collect(outbox: Path) -> list[bytes]:
    """The files of the rows in the deliveries that are there; they are deleted."""
    found = []
    for path in outbox.glob("[!.]*"):
        found += [line.split(b",")[1] for line in (path / "results.csv").read_bytes().splitlines()[1:]]
        shutil.rmtree(path)
    return found


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory(pid: int) -> float:
    """Megabytes of memory of a process, shared pages by their share (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def processor(pids: list[int]) -> float:
    """Seconds of processor time that processes have used."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(user) + int(system) for _, *more in fields for user, system in [more[10:12]]) / TICKS


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
