"""What is measured, a function a case: each gives a table, row by row, of figures by their unit."""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.baselines import Floor, Reference, tesseract
from benchmarks.daemon import NO_PICTURES, ROOT, SAMPLES, SETTLE, Watcher, flood, watcher
from samples.draw import encoded, field

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

Table = dict[str, dict[str, float]]


def measure_flood(options: Namespace) -> Table:
    """Many scans dropped at once, beside the reference path and the floor."""
    table = _flood(options, SAMPLES)
    with contextlib.suppress(FileNotFoundError):
        table["Tesseract"] = {
            "scans/s": (rate := tesseract(20)),
            "× reference": rate / table["reference path"]["scans/s"],
        }
    return table


def measure_fields(options: Namespace) -> Table:
    """The same with crops of whole fields, 3 to 8 digits; the reference path takes each of them for one digit."""
    with tempfile.TemporaryDirectory() as root:
        return _flood(options, _drawn_fields(Path(root)))


def _flood(options: Namespace, samples: Sequence[Path]) -> Table:
    reference, floor = Reference(), Floor()
    runs: dict[str, Callable[[], tuple[float, float]]] = {
        "reference path": lambda: reference.run(40, samples),
        "floor: read, decode, hash": lambda: floor.run(options.scans, samples),
        "all outputs": lambda: flood(options.scans, samples),
        "pictures of doubtful ones": lambda: flood(options.scans, samples, thumbnails="review"),
        "no pictures": lambda: flood(options.scans, samples, **NO_PICTURES),
    }
    # In turn, so that what else the machine does meanwhile meets all of them.
    rounds = [{name: run() for name, run in runs.items()} for _ in range(options.runs)]
    table: Table = {}
    for name in runs:
        table[name] = {
            "scans/s": statistics.median(found[name][0] for found in rounds),
            "× reference": statistics.median(found[name][0] / found["reference path"][0] for found in rounds),
            "of the floor": statistics.median(
                found[name][0] / found["floor: read, decode, hash"][0] for found in rounds
            ),
            "CPU ms/scan": statistics.median(found[name][1] for found in rounds),
            "× reference, CPU": statistics.median(found["reference path"][1] / found[name][1] for found in rounds),
            "of the floor, CPU": statistics.median(
                found["floor: read, decode, hash"][1] / found[name][1] for found in rounds
            ),
        }
    return table


def measure_workers(options: Namespace) -> Table:
    """A flood with one worker process and with two."""
    table: Table = {}
    for name, settings in (("all outputs", {}), ("no pictures", NO_PICTURES)):
        rounds = [[flood(options.scans, **settings, workers=n)[0] for n in (1, 2)] for _ in range(options.runs)]
        one, two = (statistics.median(rates) for rates in zip(*rounds, strict=True))
        table[name] = {"1: scans/s": one, "2: scans/s": two, "×": statistics.median(b / a for a, b in rounds)}
    return table


def measure_trickle(options: Namespace) -> Table:
    """One scan a second: from its rename into the inbox to its delivery, beyond `settle`."""
    times = []
    with watcher() as daemon:
        for number in range(options.drops):
            sample = SAMPLES[number % len(SAMPLES)]
            fresh = daemon.outside / sample.name
            fresh.write_bytes(sample.read_bytes())
            begin = time.perf_counter()
            fresh.rename(daemon.inbox / f"{number}{sample.suffix}")
            daemon.wait(number + 1, every=0.001)
            took = time.perf_counter() - begin
            times.append((took - SETTLE) * 1000)
            time.sleep(max(0.0, 1 - took))
    p50, p99 = np.percentile(times, [50, 99])
    return {"one scan": {"p50 ms": float(p50), "p99 ms": float(p99), "max ms": max(times)}}


def measure_start(options: Namespace) -> Table:
    """From the command to ready."""
    times = []
    for _ in range(max(3, options.runs)):
        with tempfile.TemporaryDirectory() as root:
            daemon = Watcher(Path(root))
            begin = time.perf_counter()
            with daemon.running():
                times.append(time.perf_counter() - begin)
    return {"start": {"median s": statistics.median(times), "max s": max(times)}}


def measure_memory(options: Namespace) -> Table:
    """Memory of the watcher and its two workers, as scans go by."""
    table: Table = {}
    with watcher() as daemon:
        table["0 scans"] = {"MB": daemon.memory()}
        for _ in range(4):
            daemon.drop(options.scans)
            daemon.wait(daemon.rows + options.scans)
            table[f"{daemon.rows:,} scans"] = {"MB": daemon.memory()}
    return table


def measure_idle(options: Namespace) -> Table:
    """Processor time while nothing is to do: an empty inbox, and one full of scans that have not settled."""
    table: Table = {}
    for waiting in (0, options.names):
        with watcher(settle=3600.0) as daemon:
            if waiting:
                _many_names(daemon.outside, waiting)
                daemon.outside.rename(daemon.inbox / "names")
            time.sleep(5)  # until it has seen them
            used = daemon.cpu()
            time.sleep(options.seconds)
            table[f"{waiting:,} unsettled"] = {"CPU %": (daemon.cpu() - used) / options.seconds * 100}
    return table


def measure_growth(options: Namespace) -> Table:
    """Time for each scan, without pictures, as more of them wait: of the first ones delivered."""
    table: Table = {}
    sizes = [size for size in (1_000, 10_000, 100_000) if size <= options.waiting]
    for size in sizes:
        with watcher(**NO_PICTURES) as daemon:
            sample = SAMPLES[-1]
            daemon.outside.rmdir()
            _many_names(daemon.outside, size, sample.read_bytes(), sample.suffix)
            daemon.outside.rename(daemon.inbox / "many")
            daemon.wait(1)
            first, begin, used = daemon.rows, time.perf_counter(), daemon.cpu()
            daemon.wait(size if size == sizes[0] else min(size, 20_000))
            many = daemon.rows - first
            table[f"{size:,} waiting"] = {
                "ms/scan": (time.perf_counter() - begin) * 1000 / many,
                "CPU ms/scan": (daemon.cpu() - used) * 1000 / many,
            }
    for row in table.values():
        row["× smallest"] = row["ms/scan"] / table[f"{sizes[0]:,} waiting"]["ms/scan"]
        row["× smallest, CPU"] = row["CPU ms/scan"] / table[f"{sizes[0]:,} waiting"]["CPU ms/scan"]
    return table


def measure_names(options: Namespace) -> Table:
    """One look at an inbox tree with very many names: its time, and the memory that it takes."""
    program = (
        "import resource, sys, time; from pathlib import Path; from watcher.folder import scan; "
        "from watcher.settle import Settling; settling = Settling(2.0)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for _ in range(2):\n"
        " begin = time.process_time(); settling.observe(scan(Path(sys.argv[1])).scans, 0.0)\n"
        " took = time.process_time() - begin\n"
        "print(took, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000)"
    )
    with tempfile.TemporaryDirectory() as root:
        _many_names(Path(root, "names"), options.names)
        done = subprocess.run(
            [sys.executable, "-c", program, root], cwd=ROOT, capture_output=True, text=True, check=True
        )
    took, megabytes = map(float, done.stdout.split())
    return {f"{options.names:,} names": {"CPU s": took, "µs/name": took * 1e6 / options.names, "MB": megabytes}}


def measure_stages(options: Namespace) -> Table:
    """Where a scan's time goes in one process, by the timings that results.json holds: milliseconds for each scan."""
    from watcher.config import Settings  # noqa: PLC0415 - brings OpenCV and LiteRT, which the other cases do without
    from watcher.pipeline import Reader  # noqa: PLC0415
    from watcher.tasks import Job  # noqa: PLC0415

    reader = Reader(Settings(model=ROOT / "model"))
    table: Table = {}
    for name, samples in (("samples", SAMPLES), ("132×156 crop", [ROOT / "samples" / "4_box.png"])):
        jobs = [Job(str(path), f"{at}{path.suffix}") for at, path in zip(range(256), itertools.cycle(samples))]
        rounds: list[dict[str, float]] = []
        for _ in range(max(3, options.runs)):
            with tempfile.TemporaryDirectory() as root:
                used = time.process_time()
                rows = [row for at in range(0, 256, 32) for row in reader.read(jobs[at : at + 32], Path(root))]
                used = (time.process_time() - used) * 1000 / len(rows)
            steps = {step for row in rows for step in row.milliseconds}
            spent = {step: statistics.fmean(row.milliseconds.get(step, 0.0) for row in rows) for step in steps}
            reading = sum(spent.values()) - spent["draw"]
            rounds.append(spent | {"to the reading": reading, "all, CPU": used})
        order = sorted(rounds[0], key=lambda step: (step not in {"decode", "normalise"}, step == "all, CPU", step))
        table[name] = {step: statistics.median(found[step] for found in rounds) for step in order}
    return table


CASES: dict[str, Callable[[Namespace], Table]] = {
    "stages": measure_stages,
    "start": measure_start,
    "trickle": measure_trickle,
    "flood": measure_flood,
    "fields": measure_fields,
    "workers": measure_workers,
    "memory": measure_memory,
    "idle": measure_idle,
    "names": measure_names,
    "growth": measure_growth,
}


def _drawn_fields(root: Path) -> list[Path]:
    """Crops of fields in the styles of `samples/`, drawn into a folder."""
    paths = []
    for number, style in zip(range(24), itertools.cycle(("ballpoint", "box", "fountain_pen", "yellow_paper"))):
        rng = np.random.default_rng(number)
        value = "".join(map(str, rng.integers(0, 10, rng.integers(3, 9))))
        paths.append(root / f"{value}.jpg")
        paths[-1].write_bytes(encoded([field(value, style, rng)], ".jpg"))
    return paths


def _many_names(root: Path, count: int, data: bytes = b"", suffix: str = ".png") -> None:
    """Very many names, a thousand in each folder, for as few files as the file system allows: quick to make."""
    root.mkdir(exist_ok=True)
    for number in range(count):
        if number % 1000 == 0:
            folder = root / f"{number // 1000:04d}"
            folder.mkdir()
        if number % 30_000 == 0:
            (source := root / f".{number}").write_bytes(data)
        os.link(source, folder / f"{number:07d}{suffix}")
