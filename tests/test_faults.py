"""The fault harness: each file-system operation of several batches fails, in each way, and nothing may be lost."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from world import LOOKS, Killed, World

from watcher import claims

if TYPE_CHECKING:
    from pathlib import Path


class Faulty(World):
    """A world in which some operations fail, from the `first` on."""

    def __init__(
        self, root: Path, first: int, lasting: int, failure: int | None, downstream: bool, *, courier: bool = False
    ) -> None:
        super().__init__(root, downstream, courier)
        self.fails = range(first, first + lasting)
        self.failure = failure  # None: killed
        self.count = 0
        self.dead = False
        self.before = self.fail

    def fail(self, name: str, arguments: tuple[Any, ...], _: dict[str, Any]) -> None:
        """Fail where it is time to; only to look at something changes nothing, and needs no room."""
        if self.dead:
            raise Killed
        if name in LOOKS and (self.failure != errno.EIO or not str(arguments[0]).startswith(str(self.root))):
            return
        self.count += 1
        if self.count in self.fails:
            if self.failure is None:
                self.dead = True
                raise Killed
            raise OSError(self.failure, os.strerror(self.failure), str(arguments[0]))


@pytest.mark.parametrize("downstream", [False, True], ids=["left", "taken at once"])
@pytest.mark.parametrize(
    ("failure", "lasting"),
    [(None, 1), (errno.ENOSPC, 1), (errno.EIO, 1), (errno.EROFS, 12), (errno.ENOSPC, 12)],
    ids=["kill", "ENOSPC", "EIO", "EROFS for a while", "ENOSPC for a while"],
)
@pytest.mark.usefixtures("file_by_file")
def test_each_operation_fails(memory: Path, failure: int | None, lasting: int, downstream: bool) -> None:
    """Whichever operation fails, and however: each scan is delivered exactly once in the end."""
    each_fails(memory, failure, lasting, downstream, least=200 if failure == errno.EIO else 80)


@pytest.mark.parametrize("downstream", [False, True], ids=["left", "taken at once"])
@pytest.mark.parametrize("failure", [None, errno.ENOSPC, errno.EIO], ids=["kill", "ENOSPC", "EIO"])
def test_each_operation_fails_with_one_commit(memory: Path, failure: int | None, downstream: bool) -> None:
    """The same on a file system that is made durable as a whole: there are fewer operations."""
    each_fails(memory, failure, 1, downstream, least=150 if failure == errno.EIO else 60)


@pytest.mark.parametrize("failure", [None, errno.ENOSPC, errno.EIO], ids=["kill", "ENOSPC", "EIO"])
def test_each_operation_fails_while_the_next_batch_is_read(memory: Path, failure: int | None) -> None:
    """The same as the daemon does it, with a delivery on its way while the next batch is claimed and read."""
    each_fails(memory, failure, 1, True, least=150 if failure == errno.EIO else 60, courier=True)


@pytest.fixture
def file_by_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system whose syncfs is not trusted."""
    monkeypatch.setattr(claims, "COMMIT_AS_ONE", set())


def each_fails(
    memory: Path, failure: int | None, lasting: int, downstream: bool, *, least: int, courier: bool = False
) -> None:
    """Let one operation after the other fail, of which there have to be so many."""
    for number in itertools.count(1):
        world = Faulty(memory / str(number), number, lasting, failure, downstream, courier=courier)
        world.prepare()
        try:
            world.run()
        except Killed:
            world.dead, world.fails = False, range(0)
            world.run()
        world.check()
        shutil.rmtree(memory / str(number))
        if world.count < number:
            break
    assert number > least, "the harness has to meet the operations of whole batches"


@pytest.mark.parametrize("downstream", [False, True], ids=["left", "taken at once"])
def test_killed_again_and_again(tmp_path: Path, downstream: bool) -> None:
    """Killed at each Nth operation, over and over, also in recovery, it gets through as soon as it can."""
    for number in itertools.count(1):
        world = Faulty(tmp_path / str(number), number, 1, None, downstream)
        world.prepare()
        for allowance in itertools.count(number, max(1, number // 4)):  # each life a little longer than the last
            try:
                world.dead, world.count, world.fails = False, 0, range(allowance, allowance + 1)
                world.run()
            except Killed:
                continue
            break
        world.check()
        shutil.rmtree(tmp_path / str(number))
        if allowance == number:
            break
