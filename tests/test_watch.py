"""What wakes the loop, and where no events are to be had."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from conftest import PATIENCE, ROOT
from test_mounts import mount

from watcher.watch import TOO_DEEP, Watch, on_network

if TYPE_CHECKING:
    from pathlib import Path


def test_more_events_than_anybody_reads(tmp_path: Path) -> None:
    """However often it is woken before it looks, nobody is held up, and the loop is woken once they are read."""
    with Watch(tmp_path, "scan") as watch:
        assert not watch.wait(0)
        for _ in range(os.pathconf(tmp_path, "PC_PIPE_BUF") * 20):  # a pipe holds 16 such
            watch.wake()
        assert watch.wait(0)
        while watch.wait(0):
            pass
        watch.wake()
        assert watch.wait(0)


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        ("ext4", False),
        ("overlay", False),
        ("nfs4", True),
        ("cifs", True),
        ("9p", True),
        ("fuse.sshfs", True),
        ("fuseblk", False),  # a disk of another system's
    ],
)
def test_a_folder_on_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, network: bool) -> None:
    """There others' files come without events, so that `auto` does not count on any; `events` does all the same."""
    mount(monkeypatch, ("/", "ext4"), (tmp_path, kind))
    assert on_network(tmp_path) is network
    for mode, events in (("auto", not network), ("events", True), ("scan", False)):
        with Watch(tmp_path, mode) as watch:
            assert watch.events is events


def test_folders_too_deep_in_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library gives up on them the timer wakes, which is said; once it need not, events come again."""
    with Watch(tmp_path, "events") as watch:
        held = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patch:

            def walk(*_: object, **__: object) -> None:
                raise RecursionError  # before Python 3.12 it calls itself for each folder

            patch.setattr(os, "walk", walk)
            for _ in range(3):
                watch.check()
                assert watch.trouble == f"no file events: {TOO_DEEP}"
                assert len(os.listdir("/proc/self/fd")) == held
        watch.check()
        assert watch.trouble == ""
        (tmp_path / "a.png").touch()
        assert watch.wait(PATIENCE)


WARNED = """
import warnings
import watcher.watch
for module in ("watchdog.observers.inotify_c", "other"):
    warnings.warn_explicit("a callback exists already", RuntimeWarning, module, 1, module)
"""


def test_what_the_library_warns_of() -> None:
    """Its warnings, of folders that come and go, do not reach the journal; those of others do."""
    done = subprocess.run([sys.executable, "-c", WARNED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["other:1: RuntimeWarning: a callback exists already"]
