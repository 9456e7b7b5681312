"""The model card: the contract between the trainer and the watcher, and the record of how a model was made."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

NAME = "card.json"
SHORT = 16  # hexadecimal digits of the SHA-256 of each crop that a model was tuned on
LIBRARIES = ("ai-edge-litert", "keras", "numpy", "opencv-python-headless", "tensorflow")


def folder_of(model: Path) -> Path:
    """Where the card of a model lies: beside a .keras file, which serves too, else in it."""
    return model.parent if model.suffix == ".keras" else model


def fingerprint(path: Path) -> dict[str, Any]:
    """Give the SHA-256 and the size of a file."""
    raw = path.read_bytes()
    return {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}


def libraries(names: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Give the versions of what trained and exported the network."""
    return {name: version(name) for name in names}


def write(path: Path, card: Mapping[str, Any]) -> None:
    """Write the card, one key a line, but lists of numbers and what pins a file each on one.

    Whole or not at all: a card that is there is replaced once the new one is on the disk.
    """
    fresh = path.with_name(f".{path.name}")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(_text(card, "") + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def keep(path: Path) -> Path:
    """Keep a copy of the card beside it, named by the time: its path."""
    kept = path.with_name(f"card-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json")
    kept.write_bytes(path.read_bytes())
    return kept


def _text(value: Any, margin: str) -> str:
    if not isinstance(value, dict) or (len(margin) > 2 and "sha256" in value):
        return json.dumps(value, ensure_ascii=False)
    inner = margin + "  "
    lines = [f"{inner}{json.dumps(key)}: {_text(item, inner)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{margin}}}"
