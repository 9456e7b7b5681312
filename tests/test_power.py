"""Power cuts: what a disk may hold after one, at each moment of several batches, and what is made of it.

A run is recorded, operation by operation. What no fsync or syncfs had made durable when the power failed may be there
or not: names (each operation for itself, a rename in whole or not at all) as well as bytes (all, some or none). From
each of a bounded set of such states a new watcher has to go on, and the oracle judges.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from conftest import read_csv
from world import CROPS, World, opener, real

from watcher import claims

if TYPE_CHECKING:
    from collections.abc import Iterator, Set
    from pathlib import Path


SYNCS = {"fsync", "syncfs"}


@dataclass(frozen=True)
class Operation:
    """One change, or (SYNCS) what makes changes durable; paths are relative to the world's root."""

    name: str
    paths: tuple[str, ...]
    inode: int  # of the file, or of the folder that is synced
    folders: frozenset[int] = frozenset()  # the folders whose names it changes, by inode
    data: bytes = b""
    seen: dict[str, bytes] = field(default_factory=dict, compare=False)  # each results.csv visible by then


class Recorder(World):
    """A world that notes what happens to its folders."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.replace = False
        self.trace: list[Operation] = []
        self.before, self.after = self.prepare_note, self.note
        self._unread: tuple[str, int] | None = None
        self._next: Operation | None = None

    def prepare(self) -> None:
        """Drop the scans, none of which is replaced."""
        super().prepare()
        self.dropped["late.png"] = hashlib.sha256(CROPS[3]).hexdigest()
        self.initial = {inode_of(path): str(path.relative_to(self.root)) for path in self.root.rglob("*.png")}

    def prepare_note(self, name: str, arguments: tuple[Any, ...], more: dict[str, Any]) -> None:
        """Before an operation: what it is about, while that can still be told."""
        self._next = None
        with self.reality():
            if self._unread is not None:  # the file written last has its bytes by now
                path, inode = self._unread
                with opener(self.root / path, "rb") as file:
                    self.trace.append(Operation("write", (path,), inode, data=file.read()))
                self._unread = None
            if name in SYNCS:
                self._next = Operation(name, (), os.fstat(arguments[0]).st_ino)
                return
            if name not in {"rename", "link", "mkdir", "unlink", "rmdir", "put_back", "create", "open"}:
                return
            if name == "open" and not (
                len(arguments) > 1 and isinstance(arguments[1], int) and arguments[1] & os.O_CREAT
            ):
                return
            folder = os.readlink(f"/proc/self/fd/{more['dir_fd']}") if more.get("dir_fd") is not None else ""
            count = 2 if name in {"rename", "link", "put_back"} else 1
            paths = [os.path.join(folder, os.fspath(path)) for path in arguments[:count]]
            if not all(path.startswith(str(self.root)) for path in paths):
                return
            name = {"put_back": "rename", "open": "create"}.get(name, name)
            inode = (
                inode_of(paths[0]) if name in {"rename", "link", "unlink", "rmdir"} and os.path.lexists(paths[0]) else 0
            )
            changed = paths[1:] if name == "link" else paths
            folders = frozenset(
                inode_of(os.path.dirname(path)) for path in changed if os.path.isdir(os.path.dirname(path))
            )
            relative = tuple(os.path.relpath(path, self.root) for path in paths)
            self._next = Operation(name, relative, inode, folders)

    def note(self, name: str, *_: object) -> None:
        """After an operation that went well."""
        operation = self._next
        if operation is None:
            return
        with self.reality():
            if operation.name == "create":
                operation = Operation(
                    "create", operation.paths, inode_of(self.root / operation.paths[0]), operation.folders
                )
                self._unread = operation.paths[0], operation.inode
            visible = {path.name: (path / "results.csv").read_bytes() for path in self.settings.outbox.glob("[!.]*")}
        self.trace.append(Operation(operation.name, operation.paths, operation.inode, operation.folders, seen=visible))


def inode_of(path: Path | str) -> int:
    """The number of a file or folder."""
    return int(real["lstat"](path).st_ino)


def durable(trace: list[Operation], index: int) -> bool:
    """Whether an operation was made durable by those that follow it."""
    operation = trace[index]
    if any(later.name == "syncfs" for later in trace[index + 1 :]):  # inbox and outbox lie on one file system here
        return True
    synced = {later.inode for later in trace[index + 1 :] if later.name == "fsync"}
    return operation.inode in synced if operation.name == "write" else operation.folders <= synced


def outcomes(trace: list[Operation], chance: random.Random) -> Iterator[tuple[Set[int], float]]:
    """Which operations the disk may hold after a power cut at the end of a trace, and how much of unsynced bytes."""
    changes = [index for index, operation in enumerate(trace) if operation.name not in SYNCS]
    sure = {index for index in changes if durable(trace, index)}
    open_ones = [index for index in changes if index not in sure]
    names = {index for index in open_ones if trace[index].name != "write"}
    yield sure, 0.0
    if open_ones:
        yield sure | set(open_ones), 1.0
        yield sure | names, 0.0  # the names, but not the bytes
        yield sure | set(open_ones), 0.5  # the bytes in part
        yield sure | set(open_ones[: len(open_ones) // 2]), 1.0
    renames = [index for index in names if trace[index].name == "rename"]
    for index in {*renames[-2:], *chance.sample(open_ones, min(2, len(open_ones)))}:
        # A journal writes a folder before what is in it.
        above = {i for i in names if trace[i].name == "mkdir" and lies_in(trace[index], trace[i].paths[0])}
        below = {i for i in open_ones if trace[index].name == "mkdir" and lies_in(trace[i], trace[index].paths[0])}
        yield sure | {index} | above, 1.0
        yield sure | (set(open_ones) - {index} - below), 1.0


def lies_in(operation: Operation, folder: str) -> bool:
    """Whether an operation is about something in a folder."""
    return any(path.startswith(folder + "/") for path in operation.paths)


def length_held(trace: list[Operation], index: int, share: float) -> int:
    """How many of the bytes that an operation wrote the disk holds."""
    length = len(trace[index].data)
    return length if durable(trace, index) else int(share * length)


def rebuild(recorder: Recorder, trace: list[Operation], kept: Set[int], share: float, root: Path) -> World:
    """A world whose folders are what the disk holds."""
    world = World(root)
    world.replace = False
    world.prepare()
    world.dropped = recorder.dropped
    store = root / "inodes"  # each file under the number that it has in the trace, whatever becomes of its names
    store.mkdir()
    for inode, path in recorder.initial.items():
        os.link(root / path, store / str(inode))
    for index in sorted(kept):
        operation = trace[index]
        file = store / str(operation.inode)
        paths = [root / path for path in operation.paths]
        # What lies in a folder that is not there is not there either.
        with suppress(FileNotFoundError, FileExistsError, NotADirectoryError):
            if operation.name == "write":
                file.write_bytes(operation.data[: length_held(trace, index, share)])
            elif operation.name == "create":
                file.touch()
                os.link(file, paths[0])
            elif operation.name == "mkdir":
                paths[0].mkdir()
            elif operation.name == "rmdir":
                shutil.rmtree(paths[0])
            elif operation.name == "unlink":
                paths[0].unlink()
            elif not file.exists():
                os.rename(paths[0], paths[1])  # a folder
            else:
                if operation.name == "rename":
                    paths[0].unlink(missing_ok=True)
                os.link(file, paths[1])
    shutil.rmtree(store)
    return world


@pytest.mark.parametrize("at_once", [True, False], ids=["one commit", "file by file"])
def test_power_cuts(memory: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    """Whatever of the unsynced is lost, at whichever moment: each scan comes out once, and what was seen stays."""
    if not at_once:
        monkeypatch.setattr(claims, "COMMIT_AS_ONE", set())
    recorder = Recorder(memory / "recorded")
    recorder.prepare()
    recorder.run()
    recorder.check()
    chance = random.Random(1)
    states = 0
    tried = set()
    for length in range(1, len(recorder.trace) + 1):
        trace = recorder.trace[:length]
        if trace[-1].name == "create":
            continue  # its bytes come with the next one
        seen = next((operation.seen for operation in reversed(trace) if operation.name != "write"), {})
        for kept, share in outcomes(trace, chance):
            states += 1
            held = frozenset((index, length_held(trace, index, share)) for index in kept)
            if (held, frozenset(seen.items())) in tried:
                continue  # an earlier power cut left the same
            tried.add((held, frozenset(seen.items())))
            world = rebuild(recorder, trace, kept, share, memory / "rebuilt")
            world.run()
            world.check(stages_may_stay=True)  # of a batch whose claim the power cut undid
            for name, data in seen.items():  # by then somebody may have read it: it must not change
                assert read_csv((world.settings.outbox / name / "results.csv").read_bytes()) == read_csv(data)
            shutil.rmtree(memory / "rebuilt")
    assert states > 500
