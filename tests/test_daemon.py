"""The daemon as a real process, in everyday use; test_scenarios.py has what it has to survive."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from conftest import Folder, crop, until


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_scan_becomes_a_delivery(folder: Folder) -> None:
    """A scan renamed into a running watcher's inbox comes out whole: rows, pictures, the original."""
    folder.start()
    folder.drop("box/seven.png", crop())
    (row,) = folder.wait()
    assert (row["file"], row["page"], row["value"]) == ("box/seven.png", "1", "7")
    (delivery,) = folder.deliveries()
    assert sorted(os.listdir(delivery)) == [
        "contact-sheet.png",
        "datapackage.json",
        "results.csv",
        "results.json",
        "scans",
        "thumbnails",
    ]
    assert cv2.imdecode(np.frombuffer((delivery / row["thumbnail"]).read_bytes(), np.uint8), 1) is not None
    assert json.loads((delivery / "results.json").read_bytes())["rows"][0]["digits"][0]["value"] == "7"
    folder.check()


def test_the_workers_alone_hold_the_heavy_libraries(folder: Folder) -> None:
    """What comes back from the workers brings neither OpenCV nor NumPy into the daemon: some 30 MB for months."""
    process = folder.start()
    folder.drop("seven.png", crop())
    folder.wait()
    held = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in (process.pid, *children(process.pid))}
    heavy = {pid for pid, maps in held.items() if "/cv2/" in maps or "/numpy/" in maps}
    assert heavy == set(children(process.pid))
    assert heavy


def test_once(folder: Folder) -> None:
    """`run --once` delivers what is there, in as many batches as it takes, and exits with 0."""
    folder.configure(batch={"size": 4, "wait": 0})
    for number in range(10):
        folder.drop(f"{number}.png", crop(number))
    done = folder.command("run", "--once")
    assert done.returncode == 0, done.stderr
    folder.check()
    assert len(folder.deliveries()) >= 3


def test_a_service_manager_that_does_not_listen(folder: Folder) -> None:
    """Work goes on where nobody reads what the watcher tells the service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        deaf.bind(str(folder.root / "notify"))
        process = folder.start(NOTIFY_SOCKET=str(folder.root / "notify"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as other:
            other.connect(str(folder.root / "notify"))
            with suppress(BlockingIOError):
                while True:
                    other.send(b"STATUS=full")
        folder.drop("a.png", crop())
        folder.wait()
        assert folder.stop(process) == 0
    folder.check()


def test_half_a_contact_sheet_is_not_delivered(folder: Folder) -> None:
    """Where the worker that draws it is killed, the delivery comes without it, and the log says so."""
    folder.drop("a.png", crop())
    process = folder.start(fault="sheet")
    folder.wait()
    (delivery,) = folder.deliveries()
    assert not (delivery / "contact-sheet.png").exists()
    assert f"contact sheet of {delivery.name}: the worker ended with SIGKILL" in folder.log(process)
    folder.check()


def test_a_worker_that_dies(folder: Folder) -> None:
    """A worker that is killed is replaced, and its scans are read all the same."""
    for index in range(60):
        folder.drop(f"{index}.png", crop(index))
    process = folder.start()
    until(lambda: list(folder.outbox.glob(".staging/*/thumbnails/*")), "work in progress")
    for child in children(process.pid):
        os.kill(child, signal.SIGKILL)
    folder.wait()
    folder.drop("later.png", crop(99))
    folder.wait()
    folder.check()
    assert {row["status"] for row in folder.rows()} <= {"accepted", "review"}


def test_status_and_check(folder: Folder) -> None:
    """`status` tells what a running watcher does and that none runs; `check` names what is in force."""
    assert folder.command("status").returncode == 1
    process = folder.start()
    folder.drop("seven.png", crop())
    folder.wait()
    told = until(
        lambda: [s for s in json.loads(folder.command("status", "--json").stdout) if s["deliveries"]], "status"
    )
    assert (told[0]["pid"], told[0]["rows"]) in [(process.pid, {"accepted": 1}), (process.pid, {"review": 1})]
    assert f"process {process.pid}" in folder.command("status").stdout
    checked = folder.command("check")
    assert checked.returncode == 0, checked.stdout
    assert "NOT FIT" not in checked.stdout
