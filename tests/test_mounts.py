"""Which mount a folder lies on, told by a table of mounts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from watcher.mounts import Mount, mount_of

if TYPE_CHECKING:
    import pytest


def mount(monkeypatch: pytest.MonkeyPatch, *mounts: tuple[str | Path, str]) -> None:
    """Have the system tell of these mounts alone, points and kinds, in the order of their mounting."""
    real = Path.read_bytes
    lines = [
        f"{number} 1 8:{number} / {point} rw,relatime shared:{number} - {kind} source rw\n"
        for number, (point, kind) in enumerate(mounts)
    ]

    def read_bytes(path: Path) -> bytes:
        return "".join(lines).encode() if str(path) == "/proc/self/mountinfo" else real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)


def test_the_longest_point_and_of_those_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount hides what it is mounted over, and is itself hidden by the next one in its place."""
    mount(
        monkeypatch,
        (tmp_path / "a/b", "xfs"),
        ("/", "ext4"),
        (tmp_path / "a", "nfs4"),
        (tmp_path / "a", "tmpfs"),
        (tmp_path / "a/bc", "cifs"),
    )
    assert mount_of(tmp_path) == Mount("/", "ext4")
    assert mount_of(tmp_path / "a") == mount_of(tmp_path / "a/c") == Mount(str(tmp_path / "a"), "tmpfs")
    assert mount_of(tmp_path / "a/b/c") == Mount(str(tmp_path / "a/b"), "xfs")
    assert mount_of(tmp_path / "a/bcd") == Mount(str(tmp_path / "a"), "tmpfs")  # a name that only begins alike


def test_a_point_with_odd_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks and backslashes are written by their numbers in the table."""
    mount(monkeypatch, ("/", "ext4"), (f"{tmp_path}/the\\040in\\134box", "nfs"))
    assert mount_of(tmp_path / "the in\\box/a") == Mount(f"{tmp_path}/the in\\box", "nfs")
