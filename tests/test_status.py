"""What a watcher is doing, as people read it."""

from __future__ import annotations

import fcntl
import json
import re
import signal
from typing import TYPE_CHECKING

import pytest
from conftest import PATIENCE, Folder, crop, until

from watcher.claims import WORK
from watcher.status import State, describe, duration, states

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_held_is_named(folder: Folder) -> None:
    """`status` names the first files that are not taken, by reason; a closed folder is none of the scans that wait."""
    for name in ("a\x1b.png", "b.png", "c.png"):
        (folder.inbox / name).write_bytes(crop()[:-20])
    folder.start()

    def told() -> str:
        said = folder.command("status").stdout
        return said if "3 of them incomplete" in said else ""

    names = re.search(r"3 of them incomplete: (.*)", until(told, "the status"))
    assert names
    first, second, rest = names[1].split(", ")
    assert {first, second} < {"a\\x1b.png", "b.png", "c.png"}
    assert rest == "…"
    (state,) = json.loads(folder.command("status", "--json").stdout)
    assert state["held"] == {"incomplete": 3}
    assert state["held_names"] == {"incomplete": [first, second]}


def test_a_closed_folder() -> None:
    """A folder that cannot be looked into has its own line, with its name and why."""
    why = "no permission to read it"
    state = State(waiting=1, held={why: 2}, held_names={why: ["a.png"]}, closed={"locked": why})
    lines = [line.strip() for line in describe(state, 0.0).splitlines()]
    assert f"1 of them {why}: a.png" in lines
    assert f"1 folder closed, {why}: locked/" in lines


def test_an_inbox_that_is_not_there(folder: Folder) -> None:
    """Where the inbox is missing nobody can tell whether a watcher runs: it says so, not that none does."""
    folder.start()
    folder.inbox.rename(folder.root / "elsewhere")
    for options, output in (((), ""), (("--json",), "[]\n")):
        done = folder.command("status", *options)
        assert (done.returncode, done.stdout) == (1, output)
        assert done.stderr.startswith(f"digitdrop: inbox: {folder.inbox} is not there, ")


def test_nobody_runs(folder: Folder) -> None:
    """Where no watcher runs, status says so, and how many scans one had in flight when it was killed."""
    nobody = f"no watcher is running on {folder.inbox}; "
    assert folder.command("status").stdout == f"{nobody}start one with 'digitdrop run'\n"
    for number in range(3):
        folder.drop(f"{number}.png", crop(number))
    assert folder.launch(fault="kill before rename .done").wait(PATIENCE) == -signal.SIGKILL
    done = folder.command("status")
    assert done.returncode == 1
    words = "it ended with [1-3] scans? in flight, which the next one sees to first; start one with"
    assert re.match(re.escape(nobody) + words, done.stdout), done.stdout
    folder.start()
    folder.wait()
    folder.check()


def test_a_report_that_vanishes(tmp_path: Path) -> None:
    """Where a watcher takes its report away while it is looked at, that of another one is told all the same."""
    work = tmp_path / WORK
    work.mkdir()
    (work / "a.json").symlink_to("gone")  # it is listed, and is not there to be read
    (work / "b.json").write_text('{"pid": 1}')
    with (work / "a.lock").open("w") as first, (work / "b.lock").open("w") as second:
        for lock in (first, second):
            fcntl.flock(lock, fcntl.LOCK_EX)
        assert [state.pid for state in states(tmp_path)] == [1]


def test_a_watcher_that_hangs() -> None:
    """A watcher that lives but has not reported for long is told to hang; what hinders it is listed."""
    state = State(pid=1, reported=1000.0, started=0.0, degraded=["/out: No space left on device"])
    assert "health     DEGRADED: /out: No space left on device" in describe(state, 1060.0)
    assert "health     DEGRADED: not heard of for 5 min 0 s" in describe(state, 1300.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (3.21, "3.2 s"), (59, "59 s"), (61, "1 min 1 s"), (3 * 3600 + 60, "3 h 1 min"), (1e6, "11 d 13 h")],
)
def test_durations(seconds: float, words: str) -> None:
    """Time spans are said as people say them."""
    assert duration(seconds) == words
