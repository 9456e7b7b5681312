"""What can go wrong, and the exit code it ends with."""

from __future__ import annotations


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
