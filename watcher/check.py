"""Whether everything is fit to run, a line for each thing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from watcher.config import worker_count
from watcher.errors import DigitdropError
from watcher.outbox import check_folders
from watcher.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.config import Settings


def check_all(settings: Settings) -> int:
    """Print what is in force and whether it is fit; returns the exit code of the worst."""
    worst = 0
    for name, look in CHECKS:
        try:
            print(f"fit     {name + ':':<10}{look(settings)}")
        except DigitdropError as error:
            print(f"NOT FIT {name + ':':<10}{error}")
            worst = max(worst, error.exit_code)
    return worst


def _folders(settings: Settings) -> str:
    check_folders(settings)
    same = os.stat(settings.inbox).st_dev == os.stat(settings.outbox).st_dev
    how = "linked" if same else "copied, they lie on different file systems"
    return f"{settings.inbox} → {settings.outbox}, writable; originals are {how}"


def _model(settings: Settings) -> str:
    from watcher.model import load  # noqa: PLC0415 - brings OpenCV and LiteRT, which the rest does without

    card, _ = load(settings.model)
    max_error = settings.accept.max_error
    doubts = "; ".join(card.doubts(max_error))
    starts = {kind: card.calibration(kind).threshold(max_error) for kind in card.kinds}
    if max(starts.values()) > 1:
        raise DigitdropError(f"{card.name}; {doubts}")
    accepted = " and ".join(f"{kind}s of {start:.4f}" for kind, start in starts.items())
    return f"{card.name}; at most {max_error:.2%} wrong among {accepted} and more{doubts and '; '}{doubts}"


def _watch(settings: Settings) -> str:
    with Watch(settings.inbox, settings.watch) as watch:
        watch.check()
        if watch.trouble:
            raise DigitdropError(f"{watch.trouble}; raise fs.inotify.max_user_instances, or set watch: scan")
        events = "file events, and " if watch.events else ""
        return f"{events}a scan every {settings.scan_every:g} s; a file settles in {settings.settle:g} s"


def _limits(settings: Settings) -> str:
    limits = settings.limits
    return (
        f"{worker_count(settings)} workers of at most {limits.memory / 1e9:g} GB; a scan of at most "
        f"{limits.bytes / 1e6:g} MB, {limits.pixels / 1e6:g} megapixels, {limits.seconds:g} s"
    )


CHECKS: tuple[tuple[str, Callable[[Settings], str]], ...] = (
    ("folders", _folders),
    ("model", _model),
    ("watch", _watch),
    ("limits", _limits),
)
