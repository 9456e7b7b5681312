"""Worker processes that die where no scan is to blame."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from conftest import ROOT, crop

from watcher.config import Settings
from watcher.tasks import IDLE, SEVERAL, Broken, Fault, Job
from watcher.workers import SHEET_LIMIT, Workers, _split

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("index", "parts"),
    [(IDLE, ["abcd"]), (SEVERAL, ["ab", "cd"]), (0, ["A", "bcd"]), (2, ["C", "abd"])],
    ids=["before it began", "several in hand", "the first in hand", "one in hand"],
)
def test_what_is_tried_next(index: int, parts: list[str]) -> None:
    """A slice that broke is split around the scan in hand, which is under suspicion then (upper case)."""
    jobs = [Job(name, name) for name in "abcd"]
    split = _split(jobs, Broken(index, Fault("crashed_decoder")))
    assert ["".join(job.name.upper() if job.suspect else job.name for job in part) for part in split] == parts
    assert all(job.fault is None for part in split for job in part)


def test_blamed_for_the_second_time() -> None:
    """A scan that breaks a worker alone is tried once more, and blamed after that; not where none began with it."""
    fault = Fault("crashed_decoder")
    job = Job("a", "a")
    (suspects,) = _split([job], Broken(0, fault))
    assert [suspects] == [[replace(job, suspect=True)]]
    assert _split(suspects, Broken(IDLE, fault)) == [suspects]
    assert _split(suspects, Broken(SEVERAL, fault)) == [[replace(job, suspect=True, fault=fault)]]


def test_workers_that_cannot_be_replaced_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While new workers end at their start that is the environment's fault; once they can start, all is read."""
    (tmp_path / "a.png").write_bytes(crop())
    jobs = [Job(str(tmp_path / "a.png"), "a.png")]
    with Workers(Settings(model=ROOT / "model", workers=2)) as workers:
        busy, dead = workers.workers
        busy.process.send_signal(signal.SIGSTOP)  # it will have the scan in hand
        dead.process.kill()
        dead.process.wait()
        monkeypatch.setenv("PYTHONHOME", str(tmp_path))  # where no Python is
        for _ in range(3):
            with pytest.raises(OSError, match="ended at its start"):
                workers.read(jobs, None)
        monkeypatch.delenv("PYTHONHOME")
        while True:
            try:
                (row,) = workers.read(jobs, None)
            except OSError:  # one that had been started before
                continue
            break
    assert (row.reading.status, row.reading.value) == ("accepted", "7")


def test_the_sheet_of_a_large_batch_shows_the_doubtful(tmp_path: Path) -> None:
    """Of more scans than a sheet has room for, the tiles of the doubtful ones are kept, wherever they stood."""
    (tmp_path / "source").write_bytes(crop())
    jobs = [Job(str(tmp_path / "source"), f"{number:03d}.png") for number in range(SHEET_LIMIT + 40)]
    (tmp_path / "last.png").write_bytes(b"no picture")
    jobs.append(Job(str(tmp_path / "last.png"), "last.png"))
    with Workers(Settings(model=ROOT / "model", workers=2, thumbnails="none")) as workers:
        rows = workers.read(jobs, tmp_path / "pictures")
        workers.sheet(rows, "a large batch", tmp_path / "sheet.png")
    assert [row.name for row in rows] == [job.name for job in jobs]
    assert [row.name for row in rows if row.tile] == [*(f"{n:03d}.png" for n in range(SHEET_LIMIT - 1)), "last.png"]
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
