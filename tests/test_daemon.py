"""The daemon as a real process: real files, real signals, real workers."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from conftest import Folder, crop, read_csv, until

if TYPE_CHECKING:
    from collections.abc import Callable


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


def test_the_backlog_and_what_comes_later(folder: Folder) -> None:
    """What lies there before the start is read like what comes after it, in subfolders and moved-in folders too."""
    for number in range(30):
        folder.drop(f"before/{number}.png", crop(number))
    folder.start()
    folder.wait()
    outside = folder.root / "moved"
    outside.mkdir()
    for number in range(30, 50):
        folder.drop(f"x{number}.png", crop(number))
        (folder.inbox / f"x{number}.png").rename(outside / f"{number}.png")
        folder.dropped[f"after/{number}.png"] = folder.dropped.pop(f"x{number}.png")
    outside.rename(folder.inbox / "after")
    folder.wait()
    folder.drop("after/late.png", crop(99))
    folder.wait()
    folder.check()


def test_once(folder: Folder) -> None:
    """`run --once` delivers what is there, in as many batches as it takes, and exits with 0."""
    folder.configure(batch={"size": 4, "wait": 0})
    for number in range(10):
        folder.drop(f"{number}.png", crop(number))
    done = folder.command("run", "--once")
    assert done.returncode == 0, done.stderr
    folder.check()
    assert len(folder.deliveries()) >= 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop(folder: Folder, number: int) -> None:
    """SIGTERM and Ctrl-C end the watcher with 0, under load too; what was left is delivered by the next one."""
    for index in range(60):
        folder.drop(f"{index}.png", crop(index))
    process = folder.start()
    assert folder.stop(process, number) == 0
    folder.start()
    folder.wait()
    folder.check()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(lambda f: any(name.endswith(".open") for name in f.work()), id="claimed"),
        pytest.param(lambda f: list(f.outbox.glob(".staging/*/thumbnails/*")), id="reading"),
        pytest.param(lambda f: list(f.outbox.glob(".staging/*/contact-sheet.png")), id="read"),
        pytest.param(lambda f: list(f.outbox.glob(".staging/*/results.csv")), id="staged"),
        pytest.param(lambda f: f.deliveries(), id="published"),
    ],
)
def test_killed(folder: Folder, moment: Callable[[Folder], object]) -> None:
    """Killed in the middle of a batch, whenever that is, the next watcher delivers each scan exactly once."""
    for index in range(60):
        folder.drop(f"{index}.png", crop(index))
    process = folder.start()
    until(lambda: moment(folder), "the moment to kill")
    folder.kill(process)
    folder.start()
    folder.wait()
    folder.check()


def test_taken_over_by_another_watcher(folder: Folder) -> None:
    """Two watchers share an inbox, each scan comes once, and the living one takes over what the dead one claimed."""
    first, _ = folder.start(), folder.start()
    for index in range(80):
        folder.drop(f"{index}.png", crop(index))
    until(folder.work, "a claim")
    folder.kill(first)
    folder.wait()
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


def test_bad_scans_among_good_ones(folder: Folder) -> None:
    """What cannot be read costs its own row: a bomb, a hog, a sloth, a text; the good ones around them are read."""
    folder.configure(limits={"seconds": 1.0, "pixels": 900_000_000, "memory": 800_000_000}, patience=0)
    grey = np.zeros((20_000, 20_000), np.uint8)
    bad = {
        "hog.png": bytes(cv2.imencode(".png", grey)[1]),
        "text.png": b"seven",
        "empty.png": b"",
        "cut.png": crop()[:-40],
    }
    for name, data in bad.items():
        folder.drop(name, data)
    for index in range(20):
        folder.drop(f"{index}.png", crop(index))
    process = folder.start()
    rows = {row["file"]: row for row in folder.wait()}
    folder.check()
    assert {name: rows[name]["reason"] for name in bad if name != "hog.png"} == {
        "text.png": "unsupported",
        "empty.png": "empty",
        "cut.png": "truncated",
    }
    assert rows["hog.png"]["reason"] in {"too_large", "timed_out"}
    assert all(f"WARNING {name}: {rows[name]['reason']}: " in folder.log(process) for name in bad)
    assert all(rows[f"{index}.png"]["value"] == "7" for index in range(20))


def test_a_downstream_that_takes_at_once(folder: Folder) -> None:
    """Deliveries that vanish the moment they appear do not come again, not even after a kill."""
    seen: list[dict[str, str]] = []
    takeaway = folder.root / "taken"
    takeaway.mkdir()

    def take() -> bool:
        for delivery in folder.deliveries():
            target = takeaway / delivery.name
            assert not target.exists()
            delivery.rename(target)
            seen.extend(read_csv((target / "results.csv").read_bytes()))
        return len(seen) >= len(folder.dropped)

    folder.configure(batch={"size": 8, "wait": 0})
    for index in range(64):
        folder.drop(f"{index}.png", crop(index))
    for _ in range(3):
        process = folder.start()
        before = len(seen)
        until(lambda: take() or len(seen) > before, "a delivery")  # noqa: B023 - called at once
        folder.kill(process)
    folder.start()
    until(take, "all deliveries")
    until(lambda: not folder.work(), "the claims to be cleaned up")
    take()
    assert sorted(row["file"] for row in seen) == sorted(folder.dropped)


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
