"""The model card is replaced whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from train import card

if TYPE_CHECKING:
    import pytest


def test_a_new_card_is_on_the_disk_before_the_old_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is made durable under another name first, and only then takes its place: a power cut leaves either."""
    path = tmp_path / card.NAME
    path.write_text("the old one")
    happened: list[tuple[str, str, str]] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(fd: int) -> None:
        happened.append(("fsync", Path(os.readlink(f"/proc/self/fd/{fd}")).read_text(), path.read_text()))
        fsync(fd)

    def note_replace(source: Path, target: Path) -> None:
        happened.append(("replace", source.read_text(), target.read_text()))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    card.write(path, {"format": 1, "classes": ["0", "1"]})
    new = path.read_text()
    assert json.loads(new) == {"format": 1, "classes": ["0", "1"]}
    assert happened == [("fsync", new, "the old one"), ("replace", new, "the old one")]
    assert os.listdir(tmp_path) == [card.NAME]
