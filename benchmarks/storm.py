"""A storm of kills: watchers are killed and started again for a minute under a feed, then everything is counted.

`python -m benchmarks.storm`; each watcher is killed (SIGKILL) a random moment after it is up, on average `--every`
seconds. At the end each scan has to have exactly one row, with `--take` also where a downstream job takes each
delivery the moment it appears.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
SAMPLE = next(path for path in sorted((ROOT / "samples").iterdir()) if path.suffix == ".png" and path.stem[0].isdigit())
LIMIT = 600.0  # seconds after the storm until everything has to be delivered


class Victim:
    """A watcher that is killed and started again."""

    def __init__(self, config: Path, number: int) -> None:
        self.command = [sys.executable, "-m", "watcher", "run", "--config", str(config)]
        self.address = str(config.with_name(f"notify{number}"))
        self.log = config.with_name(f"log{number}")
        self.kills = 0
        self.start()

    def start(self) -> None:
        """Start it; it is not up yet."""
        Path(self.address).unlink(missing_ok=True)
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.channel.bind(self.address)
        self.up = 0.0  # since when, monotonic
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, stderr=log, env=os.environ | {"NOTIFY_SOCKET": self.address}
            )

    def is_up(self) -> bool:
        """Whether it has said so."""
        with suppress(BlockingIOError):
            while True:
                if b"READY=1" in self.channel.recv(4096):
                    self.up = time.monotonic()
        return bool(self.up)

    def kill(self) -> None:
        """End it as a power cut would, but for the disk."""
        self.process.kill()
        self.process.wait()
        self.channel.close()
        self.kills += 1


def storm(seconds: float, scans: int, every: float, watchers: int, take: bool) -> dict[str, int]:
    """Run one storm and count what came out of it."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("inbox", "outbox", "taken"):
            (root / folder).mkdir()
        settings = {
            "model": str(ROOT / "model"),
            "settle": 0.1,
            "scan_every": 0.5,
            "workers": 1,
            "thumbnails": "review",
        }
        (root / "config.yaml").write_text(yaml.safe_dump(settings | {"batch": {"size": 64, "wait": 0.1}}))
        end = time.monotonic() + seconds
        stop = threading.Event()

        def feed() -> None:
            data = SAMPLE.read_bytes()
            for number in range(scans):
                stop.wait(max(0.0, end - time.monotonic()) / (scans - number))
                (root / "fresh").write_bytes(data)
                (root / "fresh").rename(root / "inbox" / f"{number}.png")

        def consume() -> None:
            while not stop.wait(0.005):
                for path in (root / "outbox").iterdir():
                    if not path.name.startswith("."):
                        os.rename(path, root / "taken" / path.name)  # fails where one of that name came before

        threads = [threading.Thread(target=feed), *([threading.Thread(target=consume)] if take else [])]
        for thread in threads:
            thread.start()
        victims = [Victim(root / "config.yaml", number) for number in range(watchers)]
        lives = {victim: random.uniform(0, 2 * every) for victim in victims}
        while time.monotonic() < end:
            for victim in victims:
                if victim.is_up() and time.monotonic() - victim.up > lives[victim]:
                    victim.kill()
                    victim.start()
                    lives[victim] = random.uniform(0, 2 * every)
            time.sleep(0.005)
        threads[0].join()
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline and (len(rows(root)) < scans or unfinished(root)):
            time.sleep(0.2)
        kills = sum(victim.kills for victim in victims)
        for victim in victims:
            victim.kill()
        stop.set()  # what is counted must not be on its way from the outbox meanwhile
        for thread in threads:
            thread.join()
        found = Counter(rows(root))
        figures = {
            "kills": kills,
            "deliveries": len(list(deliveries(root))),
            "rows": found.total(),
            "missing": scans - len(found),
            "twice": sum(count > 1 for count in found.values()),
            "left over": unfinished(root),
        }
        if figures["missing"] or figures["twice"]:
            kept = Path(tempfile.mkdtemp(prefix="storm-"))
            shutil.copytree(root, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("notify*"))  # sockets
            print(f"kept for inspection: {kept}")
        return figures


def deliveries(root: Path) -> list[Path]:
    """All that came out, taken or not."""
    return [path for name in ("taken", "outbox") for path in (root / name).glob("[!.]*")]


def rows(root: Path) -> list[str]:
    """The scans that have a row, once for each row."""
    found = []
    for delivery in deliveries(root):
        try:
            with (delivery / "results.csv").open(newline="") as file:
                found += [row["file"] for row in csv.DictReader(file)]
        except FileNotFoundError:  # it is being taken
            continue
    return found


def unfinished(root: Path) -> int:
    """Scans and claims that are still there."""
    return len(list((root / "inbox").glob("*.png"))) + sum(
        path.suffix.startswith((".open", ".done")) for path in (root / "inbox" / ".work").glob("*")
    )


def main() -> int:
    """Run storms, one line each; 1 where any of them lost or doubled a scan."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="of a storm (default: 60)")
    parser.add_argument("--scans", type=int, default=2000, metavar="N", help="fed during a storm (default: 2000)")
    parser.add_argument("--every", type=float, default=0.3, metavar="S", help="mean life once up (default: 0.3)")
    parser.add_argument("--watchers", type=int, default=2, metavar="N", help="at the same time (default: 2)")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="storms (default: 1)")
    parser.add_argument("--take", action="store_true", help="a downstream job takes deliveries as they appear")
    arguments = parser.parse_args()
    good = True
    for _ in range(arguments.runs):
        figures = storm(arguments.seconds, arguments.scans, arguments.every, arguments.watchers, arguments.take)
        print("  ".join(f"{name} {value}" for name, value in figures.items()), flush=True)
        good = good and not (figures["missing"] or figures["twice"] or figures["left over"])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
