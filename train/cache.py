"""What takes minutes to render, kept for the next training: arrays in files named by all that they depend on."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from train.mnist import Images, Labels

STALE = 30 * 86400  # seconds unused, until a file goes: each change of the code behind it makes another
ROOT = Path(__file__).parent.parent


def folder() -> Path:
    """The user's cache, as the XDG base directory specification has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "digitdrop"


def place(kind: str, what: str, images: Images, labels: Labels, sources: Sequence[str]) -> Path:
    """Where that is kept which these sources make of these images; `what` says all else that it depends on."""
    key = hashlib.sha256(f"{what} {version('numpy')} {version('opencv-python-headless')}".encode())
    key.update(images.tobytes())
    key.update(labels.tobytes())
    for source in sources:
        key.update((ROOT / source).read_bytes())
    return folder() / kind / f"{key.hexdigest()[:16]}.npz"


def take(path: Path) -> dict[str, Any] | None:
    """What was kept there; None where nothing is, or it cannot be read: then it is made again."""
    with suppress(OSError, BadZipFile, ValueError, KeyError), path.open("rb") as file, np.load(file) as kept:
        os.utime(path)
        return {name: kept[name] for name in kept.files}
    return None


def keep(path: Path, arrays: Mapping[str, Any]) -> None:
    """Keep arrays there, and take away what nobody used for long; where that cannot be, a line on stderr says so."""
    fresh = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.iterdir():
            if time.time() - other.stat().st_mtime > STALE:
                other.unlink(missing_ok=True)
        with fresh.open("wb") as file:
            np.savez(file, **arrays)
        fresh.replace(path)
    except OSError as error:  # a full disk must not cost the training
        with suppress(OSError):
            fresh.unlink()
        print(f"digitdrop-train: {path}: not kept for the next time: {error}", file=sys.stderr)
