"""What can go wrong, and the exit code it ends with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from watcher.names import escape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class DigitdropError(Exception):
    """Something a person can put right; its message names the thing, the value and the remedy."""

    exit_code = 1


class UsageError(DigitdropError):
    """The command line asks for something that makes no sense."""

    exit_code = 2


class ConfigError(DigitdropError):
    """The configuration, or a folder it names, is not fit; systemd must not restart."""

    exit_code = 78


class ModelError(DigitdropError):
    """The saved network is missing, or is not what its card says."""

    exit_code = 78


class Stopped(Exception):  # noqa: N818 - not an error: the way out of a batch when told to stop
    """Told to stop while a batch was in work; its claim stays and is done again at the next start."""


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Give an OSError that names no file this one: of a full disk, write(2) does not say which."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def told(error: OSError) -> str:
    """An OSError in one line: what it befell, and what it is."""
    return f"{escape(str(error.filename)) if error.filename else 'the system'}: {escape(str(error.strerror or error))}"
