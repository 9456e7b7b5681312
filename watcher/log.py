"""The log on stderr: lines for people, lines with levels for the journal, or JSON for collectors."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping

from watcher.results import ISO_8601

# What the journal takes for the level of a line that begins with it (sd-daemon(3)).
PREFIXES = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"), (logging.DEBUG, "<7>"))


def set_up(as_json: bool = False) -> None:
    """Send the log to stderr, from INFO up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(as_json))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its fonts


def prefix(level: int) -> str:
    """How a line of a level begins: nothing, but in the journal."""
    return next((text for lowest, text in PREFIXES if level >= lowest), "") if to_journal() else ""


def to_journal() -> bool:
    """Whether stderr goes to systemd's journal (systemd.exec(5), $JOURNAL_STREAM)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(2)
    except OSError:  # closed
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class _Formatter(logging.Formatter):
    """One line a record, whatever it holds."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json
        self.journal = to_journal()

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        if self.as_json:
            fields = record.__dict__.get("fields", {})
            assert isinstance(fields, Mapping)
            line = json.dumps(
                {
                    "time": time.strftime(ISO_8601, time.gmtime(record.created)),
                    "level": record.levelname.lower(),
                    "message": message,
                    **fields,
                }
            )
        elif self.journal:
            line = message.replace("\n", "\\n")
        else:
            return f"{record.levelname} {message}"
        return prefix(record.levelno) + line
