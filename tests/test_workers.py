"""Worker processes that die where no scan is to blame."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from conftest import ROOT, crop

from watcher.config import Settings
from watcher.tasks import Job
from watcher.workers import Workers

if TYPE_CHECKING:
    from pathlib import Path


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
