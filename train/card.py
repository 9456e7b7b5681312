"""The model card: the contract between the trainer and the watcher, and the record of how a model was made."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FORMAT = 1
NAME = "card.json"
LIBRARIES = ("ai-edge-litert", "keras", "numpy", "opencv-python-headless", "tensorflow")


def fingerprint(path: Path) -> dict[str, Any]:
    """Give the SHA-256 and the size of a file."""
    raw = path.read_bytes()
    return {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}


def libraries(names: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Give the versions of what trained and exported the network."""
    return {name: version(name) for name in names}


def write(path: Path, card: Mapping[str, Any]) -> None:
    """Write the card, one key a line, but lists of numbers each on one."""
    lines = [f"  {json.dumps(key)}: {_value(value)}" for key, value in card.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _value(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    inner = [f"    {json.dumps(key)}: {json.dumps(item, ensure_ascii=False)}" for key, item in value.items()]
    return "{\n" + ",\n".join(inner) + "\n  }"
