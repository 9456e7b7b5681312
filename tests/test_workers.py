"""Worker processes that die where no scan is to blame."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from multiprocessing import Pipe
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from conftest import ROOT, crop, until
from PIL import Image
from test_scenarios import marked

from watcher.config import Limits, Settings
from watcher.errors import DigitdropError
from watcher.tasks import IDLE, SEVERAL, Broken, Fault, Job
from watcher.worker import _send
from watcher.workers import SHEET_LIMIT, Work, Worker, Workers, _split

if TYPE_CHECKING:
    from pathlib import Path

PAGES, MEMORY = 1_450, 720_000_000  # the tiles of the pages alone are two fifths of it, and packed too
FAILED, ACCEPTED = (0x1E, 0x2F, 0xC2), (0x6C, 0x7A, 0x00)  # blue, green, red


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
    ((blamed,),) = _split(suspects, Broken(SEVERAL, fault))
    assert blamed == replace(job, suspect=True, fault=fault)


def test_a_scan_that_breaks_workers_though_it_is_only_hashed() -> None:
    """It cannot be the scan: where nothing is decoded any more, the environment is at fault, and it is not for ever."""
    blamed = Job("/in/a.png", "a.png", suspect=True, fault=Fault("crashed_decoder"))
    with pytest.raises(OSError, match="cannot be hashed: the worker ended with SIGKILL") as caught:
        _split([blamed], Broken(0, Fault("crashed_decoder", "the worker ended with SIGKILL")))
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, "/in/a.png")


def test_a_scan_whose_bytes_take_too_long(tmp_path: Path) -> None:
    """It is failed without a SHA-256, and has no tile: from a slow share it would never be delivered otherwise."""
    path = tmp_path / "slow.png"
    path.write_bytes(crop())
    job = Job(str(path), path.name)
    settings = Settings(model=ROOT / "model", workers=1, limits=Limits(seconds=1e-6))
    with Workers(settings) as workers:
        (row,) = workers.read([job], tmp_path / "pictures")
    assert (row.name, row.reading.status, row.reading.reason, row.sha256) == ("slow.png", "failed", "timed_out", "")
    assert row.stamp == (path.stat().st_size, path.stat().st_mtime_ns)
    assert row.detail.endswith("nor could its bytes be read within limits.seconds")
    work = Work([job], ("batch", tmp_path / "contact-sheet.png"))
    work.add([row], 1)
    assert work.drawing().tiles == []


def test_a_scan_that_memory_does_not_hold(tmp_path: Path) -> None:
    """It fails as too large, with the hash of bytes that no worker held at once; the others are read."""
    large = tmp_path / "large.png"
    large.write_bytes(crop())
    os.truncate(large, 400_000_000)
    (tmp_path / "fine.png").write_bytes(crop(7))
    jobs = [Job(str(path), path.name) for path in (large, tmp_path / "fine.png")]
    limits = Limits(bytes=500_000_000, memory=600_000_000)
    with Workers(Settings(model=ROOT / "model", workers=1, limits=limits)) as workers:
        failed, fine = workers.read(jobs, None)
    assert (failed.reading.status, failed.reading.reason) == ("failed", "too_large")
    assert failed.detail == "needs more than limits.memory"
    with large.open("rb") as file:
        assert failed.sha256 == hashlib.file_digest(file, "sha256").hexdigest()
    assert fine.reading.status != "failed"


def test_a_scan_that_leaves_its_worker_unfit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What raised in a worker may raise there for ever: the scans behind it are read by a new one."""
    monkeypatch.setenv("FAULT", "decoder")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "faults"))
    (tmp_path / "spoils.png").write_bytes(marked("SPOIL"))
    (tmp_path / "fine.png").write_bytes(crop())
    jobs = [Job(str(tmp_path / name), name) for name in ("spoils.png", "fine.png")]
    with Workers(Settings(model=ROOT / "model", workers=1)) as workers:
        spoils, fine = workers.read(jobs, None)
    assert (spoils.reading.status, spoils.reading.reason) == ("failed", "crashed_decoder")
    assert "GaussianBlur" in spoils.detail
    assert (fine.reading.status, fine.reading.value) == ("accepted", "7")


def test_a_worker_that_cannot_be_started_keeps_no_file_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no process to give, each try leaves all files closed: it may go on for days."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            Workers(Settings(workers=1)).__enter__()
    assert len(os.listdir("/proc/self/fd")) == before


def test_rows_that_are_too_much_to_send(tmp_path: Path) -> None:
    """A scan of so many pages that its rows cannot be sent ends as a failed row, and stops nobody else."""
    pages = [Image.fromarray(np.full((20, 80), 255, np.uint8))] * PAGES
    pages[0].save(tmp_path / "many.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "a.png").write_bytes(crop())
    jobs = [Job(str(tmp_path / name), name) for name in ("a.png", "many.tif")]
    settings = Settings(model=ROOT / "model", workers=1, limits=Limits(memory=MEMORY), thumbnails="none")
    with Workers(settings) as workers:
        rows = workers.read(jobs, tmp_path / "pictures")
    assert [(row.name, row.reading.status, row.reading.reason) for row in rows[1:]] == [
        ("many.tif", "failed", "too_large")
    ]
    assert rows[0].reading.value


def test_an_answer_that_is_too_much_to_pack() -> None:
    """Where there is no memory to send rows, that is sent."""

    class Rows:
        def __reduce__(self) -> str:
            raise MemoryError

    ours, theirs = Pipe()
    _send(theirs, [Rows()])
    answer = ours.recv()
    assert (answer.index, answer.fault.reason) == (SEVERAL, "too_large")


def test_a_model_that_is_changed_while_it_is_in_use(tmp_path: Path) -> None:
    """A worker that comes with other thresholds ends the watcher, to be started again; half a model is waited for."""
    model = shutil.copytree(ROOT / "model", tmp_path / "model")
    (tmp_path / "a.png").write_bytes(crop())
    jobs = [Job(str(tmp_path / "a.png"), "a.png")]
    network, card = (model / "digits.tflite").read_bytes(), json.loads((model / "card.json").read_text())
    with Workers(Settings(model=model, workers=1)) as workers:
        (model / "digits.tflite").write_bytes(b"half of another")
        workers.workers[0].process.kill()
        with pytest.raises(OSError, match=r"digits\.tflite has SHA-256"):
            workers.read(jobs, None)
        (model / "digits.tflite").write_bytes(network)
        assert len(workers.read(jobs, None)) == 1
        card["calibration"]["digit"]["map"][0][0] -= 1
        (model / "card.json").write_text(json.dumps(card))
        workers.workers[0].process.kill()
        with pytest.raises(DigitdropError, match=r"model was changed while it is in use") as caught:
            workers.read(jobs, None)
        assert caught.value.exit_code == 1  # systemd starts it again


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


def test_workers_that_end_before_they_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one after the other ends before its first scan, that is told, with their own words."""
    (tmp_path / "a.png").write_bytes(crop())
    jobs = [Job(str(tmp_path / "a.png"), "a.png")]
    monkeypatch.setenv("MPLBACKEND", "no such thing")  # matplotlib is loaded once a worker is ready
    with Workers(Settings(model=ROOT / "model", workers=2)) as workers:
        for _ in range(2):
            with pytest.raises(OSError, match=r"before it began, the worker ended with .*no such thing"):
                workers.read(jobs, tmp_path / "pictures")
        monkeypatch.delenv("MPLBACKEND")
        while True:
            try:
                (row,) = workers.read(jobs, tmp_path / "pictures")
            except OSError:  # those that had been started before
                continue
            break
    assert (row.reading.status, row.reading.value) == ("accepted", "7")


def test_workers_that_hang_at_their_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not ready in time is ended: at the start that is told; later another one takes its place."""
    (tmp_path / "a.png").write_bytes(crop())
    jobs = [Job(str(tmp_path / "a.png"), "a.png")]
    monkeypatch.setattr("watcher.workers.WARM", 0.5)
    workers = Workers(Settings(model=ROOT / "model", workers=1))
    workers.workers.append(Worker(workers.settings, None))
    workers.workers[0].process.send_signal(signal.SIGSTOP)
    with pytest.raises(DigitdropError, match=r"a worker process was not ready after 0\.5 s"), workers:
        pytest.fail("it was ready")
    monkeypatch.setattr("watcher.workers.WARM", 120.0)
    workers.workers.clear()
    with workers:
        monkeypatch.setattr("watcher.workers.WARM", 0.5)
        workers.workers[0].process.kill()
        workers.workers[0].process.wait()
        workers.workers[0] = Worker(workers.settings, None)
        workers.workers[0].process.send_signal(signal.SIGSTOP)
        with pytest.raises(OSError, match=r"a worker process was not ready after 0\.5 s"):
            workers.read(jobs, None)
        monkeypatch.setattr("watcher.workers.WARM", 120.0)
        (row,) = workers.read(jobs, None)
    assert row.reading.value == "7"


def test_told_to_stop_while_workers_start() -> None:
    """A worker that hangs at its start does not hold up the stop."""
    told: list[bool] = []
    workers = Workers(
        Settings(model=ROOT / "model", workers=1), stop=lambda: bool(told), beat=lambda: told.append(True)
    )
    workers.workers.append(Worker(workers.settings, None))
    workers.workers[0].process.send_signal(signal.SIGSTOP)
    with workers:
        assert not workers.model


def test_idle_workers_that_were_killed_are_replaced(tmp_path: Path) -> None:
    """Whatever killed them, and however many, had nothing to do with what comes next: nobody is told of trouble."""
    (tmp_path / "a.png").write_bytes(crop())
    with Workers(Settings(model=ROOT / "model", workers=4)) as workers:
        for worker in workers.workers:
            worker.process.kill()
            worker.process.wait()
        jobs = [Job(str(tmp_path / "a.png"), f"{number}.png") for number in range(40)]
        assert [row.reading.value for row in workers.read(jobs, None)] == ["7"] * 40


def test_workers_have_one_thread_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries with a thread for each processor would need more than `limits.memory` on large machines."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "a.png").write_bytes(crop())
    with Workers(Settings(model=ROOT / "model", workers=1)) as workers:
        workers.read([Job(str(tmp_path / "a.png"), "a.png")], tmp_path / "pictures")
        assert len(os.listdir(f"/proc/{workers.workers[0].process.pid}/task")) == 1


def test_workers_run_no_code_of_the_folder_they_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in an inbox that others may write to is not imported, whatever its name."""
    monkeypatch.chdir(tmp_path)
    for name in ("resource.py", "cv2.py"):
        (tmp_path / name).write_text("raise SystemExit('not ours')")
    (tmp_path / "a.png").write_bytes(crop())
    with Workers(Settings(model=ROOT / "model", workers=1)) as workers:
        (row,) = workers.read([Job(str(tmp_path / "a.png"), "a.png")], None)
    assert row.reading.value == "7"


def test_a_keras_file_serves(tmp_path: Path) -> None:
    """A network that was just trained reads as the exported one, under the limits that are set."""
    (tmp_path / "a.png").write_bytes(crop())
    with Workers(Settings(model=ROOT / "model" / "digits.keras", workers=1)) as workers:
        (row,) = workers.read([Job(str(tmp_path / "a.png"), "a.png")], None)
    assert (row.reading.status, row.reading.value) == ("accepted", "7")


def test_the_sheet_of_a_large_batch_shows_the_doubtful(tmp_path: Path) -> None:
    """Of more scans than a sheet has room for, the tiles of the doubtful ones are kept, wherever they stood."""
    (tmp_path / "source").write_bytes(crop())
    jobs = [Job(str(tmp_path / "source"), f"{number:03d}.png") for number in range(SHEET_LIMIT + 40)]
    (tmp_path / "last.png").write_bytes(b"no picture")
    jobs.append(Job(str(tmp_path / "last.png"), "last.png"))
    with Workers(Settings(model=ROOT / "model", workers=2, thumbnails="none")) as workers:
        work = workers.begin(jobs, tmp_path / "pictures", ("a large batch", tmp_path / "sheet.png"))
        rows = workers.finish(work)
    assert [row.name for row in rows] == [job.name for job in jobs]
    assert not any(row.tile for row in rows)  # they are on the sheet
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    edges = sheet[66, :, :]  # the upper edges of the first row's tiles say their status
    red, green = (np.flatnonzero(np.abs(edges - np.array(colour)).max(axis=1) < 3) for colour in (FAILED, ACCEPTED))
    assert 90 < len(red) < 110  # one tile: the broken scan, which came last
    assert red.max() < green.min()


def test_a_sheet_whose_worker_was_killed_before_it_began(tmp_path: Path) -> None:
    """It is not to blame: another one draws it."""
    (tmp_path / "a.png").write_bytes(crop())
    job, sheet = Job(str(tmp_path / "a.png"), "a.png"), tmp_path / "sheet.png"
    turns = 0

    def done(*_: int) -> None:
        until(lambda: worker.index() == IDLE, "the worker to wait for the sheet")
        worker.process.send_signal(signal.SIGSTOP)

    def beat() -> None:
        nonlocal turns
        turns += bool(work and not work.left)
        if turns == 2:  # in the first, what to draw was not handed out yet
            worker.process.kill()

    with Workers(Settings(model=ROOT / "model", workers=1)) as workers:
        (worker,) = workers.workers
        work = workers.begin([job], tmp_path / "pictures", ("a batch", sheet))
        workers.beat = beat
        workers.finish(work, done)
        assert worker not in workers.workers
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_what_comes_behind_is_begun_at_once(tmp_path: Path) -> None:
    """While one worker is held up with a batch, the other reads all that comes behind; each gets its rows and sheet."""
    (tmp_path / "source").write_bytes(crop())
    batches = [
        [Job(str(tmp_path / "source"), f"{b}-{n:02d}.png") for n in range(size)] for b, size in (("a", 1), ("b", 40))
    ]
    heard: list[tuple[int, int]] = []
    with Workers(Settings(model=ROOT / "model", workers=2, thumbnails="none")) as workers:
        held_up = workers.workers[0].process
        held_up.send_signal(signal.SIGSTOP)
        works = [workers.begin(jobs, tmp_path, (jobs[0].name, tmp_path / jobs[0].name)) for jobs in batches]

        def done(scans: int, left: int) -> None:
            heard.append((scans, left))
            if left == 1:  # that of the first batch
                held_up.send_signal(signal.SIGCONT)

        found = [workers.finish(work, done) for work in works]
    assert [[row.name for row in rows] for rows in found] == [[job.name for job in jobs] for jobs in batches]
    assert all((tmp_path / jobs[0].name).read_bytes().startswith(b"\x89PNG") for jobs in batches)
    assert [left for _, left in heard] == [41 - read for read in np.cumsum([scans for scans, _ in heard])]
    assert heard[-1] == (1, 0)  # the first batch came last


def test_work_that_is_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    """After that no worker has any of it in hand, and what is begun next is read as ever."""
    (tmp_path / "source").write_bytes(crop())
    jobs = [Job(str(tmp_path / "source"), f"{number:02d}.png") for number in range(200)]
    with Workers(Settings(model=ROOT / "model", workers=2, contact_sheet=False)) as workers:
        busy = [worker.process for worker in workers.workers]
        workers.begin(jobs, tmp_path / "pictures")
        workers.give_up()
        assert all(process.poll() is not None for process in busy)
        (row,) = workers.read(jobs[:1], tmp_path / "others")
    assert (row.reading.status, row.reading.value) == ("accepted", "7")
    assert not (tmp_path / "pictures" / "199.png.png").exists()
