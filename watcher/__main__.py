"""The command line: run, read, check, status."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import faulthandler
import json
import logging
import os
import shlex
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from watcher import config
from watcher import log as logs
from watcher.belt import Belt
from watcher.check import check_all
from watcher.claims import Claims
from watcher.courier import Courier
from watcher.errors import DigitdropError, Stopped, UsageError, naming, told
from watcher.file import UNREADABLE
from watcher.folder import scan
from watcher.inbox import Inbox
from watcher.names import escape
from watcher.outbox import Outbox, check_folders
from watcher.progress import Progress
from watcher.results import Delivery, now, to_csv
from watcher.retention import Retention
from watcher.service import Service, version, warn_of_failed
from watcher.status import describe, left_behind, states
from watcher.tasks import Job
from watcher.watch import Watch
from watcher.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from watcher.config import Settings

log = logging.getLogger("digitdrop")

OUTPUT = "standard output"  # as an error names it

# Where the settings are, unless --config says otherwise: here, else those of the service. Its own program asks for the
# service's first: whoever installed it calls it from the clone, where there is a config.yaml too.
CONFIGS = [Path("config.yaml"), Path("/etc/digitdrop/config.yaml")]
if Path(sys.prefix).is_relative_to("/opt/digitdrop"):
    CONFIGS.reverse()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    if sys.stdout is None:  # closed to us: nobody wants the output, and no file of ours is to come in its place
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        arguments = _parse(list(sys.argv[1:] if argv is None else argv))
        logs.set_up(getattr(arguments, "log_json", False))
        path = arguments.config or next((path for path in CONFIGS if path.exists()), None)
        arguments.config = path
        code = int(arguments.command(config.load(path), arguments))
        with naming(OUTPUT):
            sys.stdout.flush()
        return code
    except DigitdropError as error:
        for line in str(error).splitlines():
            print(f"{logs.prefix(logging.ERROR)}digitdrop: {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # before the signals are ours, or in a command that has no use for them
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read what we print has had enough: `digitdrop status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{logs.prefix(logging.ERROR)}digitdrop: {told(error)}", file=sys.stderr)
        return 1


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    """Watch the inbox and deliver until told to stop."""
    check_folders(settings)
    faulthandler.enable()  # the watchdog ends us with SIGABRT: say where we hung
    with Service(settings) as service, Watch(settings.inbox, settings.watch) as watch:
        courier = Courier(service.beat)
        stop = _stop_on_signals(watch)
        outbox = Outbox(settings, courier.moves, stop)
        with (
            Claims(settings.inbox, outbox.place, outbox.holds) as claims,
            Workers(settings, lambda: claims.lock, stop, service.beat) as workers,
        ):
            inbox = Inbox(settings, claims, watch, stop, service.beat, takes=outbox.takes, gives=outbox.gives)
            retention = Retention(settings, service.beat)

            def turn(trouble: OSError | None) -> None:
                service.tell(trouble)
                if trouble is None:
                    retention.turn(arguments.once)

            log.info("watching %s, delivering to %s", settings.inbox, settings.outbox)
            with suppress(OSError, ValueError):  # one that ends just now, or whose report is closed to us
                for other in states(settings.inbox):
                    log.info("another watcher works on this inbox too (process %d)", other.pid)
            for doubt in workers.doubts:
                log.log(logging.WARNING if doubt.stops else logging.INFO, "%s", doubt.words)

            service.begin(workers.model, inbox)
            with Progress(inbox) as progress, suppress(Stopped), courier:
                belt = Belt(workers, outbox, courier, service, progress.done)
                for batch in inbox.batches(belt.finish, turn, arguments.once, landed=belt.clear, forget=belt.forget):
                    try:
                        belt.put(batch)
                    except OSError as error:  # not the scans' fault: the claim stays, and comes again
                        service.tell(error)
                        if arguments.once:
                            raise
        log.info("stopped")
    return 0


def read(settings: Settings, arguments: argparse.Namespace) -> int:
    """Read images given on the command line; CSV on stdout."""
    found, closed = _files(arguments.files)
    for path, why in closed.items():
        _leave_out(str(path), why)
    jobs = [Job(str(path), str(path)) for path in found]
    settings = settings.model_copy(update={"contact_sheet": False})
    for folder in filter(None, (arguments.picture, arguments.explain)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{folder} is a file; name a folder for the pictures") from None
    if arguments.picture is not None:  # asked for, whatever a delivery is to hold
        settings = settings.model_copy(update={"thumbnails": "all"})
    began = now()
    with Workers(settings) as workers:
        while True:
            try:
                rows = workers.read(jobs, arguments.picture)
                break
            except OSError as error:  # of one that vanished or is being written, say: the others can be read
                lost = [job for job in jobs if job.path == error.filename]
                if not lost:
                    raise
                jobs.remove(lost[0])
                closed[Path(lost[0].path)] = str(error.strerror)
                _leave_out(lost[0].path, str(error.strerror))
        delivery = Delivery("", workers.model, began, {}, str(arguments.picture))
    warn_of_failed(rows)
    with naming(OUTPUT):
        sys.stdout.buffer.write(to_csv(rows, delivery))
    if arguments.explain is not None:
        from watcher.explain import explain_rows  # noqa: PLC0415 - brings OpenCV, which this process does without

        explain_rows(rows, settings.limits, arguments.explain)
    return 1 if closed or any(row.reading.status == "failed" for row in rows) else 0


def check(settings: Settings, arguments: argparse.Namespace) -> int:
    """Say whether everything is fit to run, and what is in force."""
    nowhere = f"none found, neither {' nor '.join(map(str, CONFIGS))}: defaults, with the folders of {Path.cwd()}"
    with naming(OUTPUT):  # what it looks at has its line, whatever befalls it
        return check_all(settings, nowhere if arguments.config is None else str(arguments.config.absolute()))


def status(settings: Settings, arguments: argparse.Namespace) -> int:
    """Say what the running watchers are doing."""
    try:
        found = states(settings.inbox)
    except PermissionError as error:
        raise DigitdropError(
            f"{error.filename}: {error.strerror}; ask as the service's user, 'sudo -u digitdrop digitdrop status', "
            "or as a member of its group"
        ) from error
    words = ""
    if arguments.json:
        words = json.dumps([dataclasses.asdict(state) for state in found], indent=1)
    elif found:
        words = "\n\n".join(describe(state, time.time()) for state in found)
    elif settings.inbox.is_dir():
        words = (
            f"no watcher is running on {settings.inbox}{left_behind(settings.inbox)}; start one with 'digitdrop run'"
        )
    if words:
        with naming(OUTPUT):
            print(words)
    if not found and not settings.inbox.is_dir():
        raise DigitdropError(
            f"inbox: {settings.inbox} is not there, and with it what a watcher says of itself: one that runs waits for "
            "it; mount it, make it, or name the configuration of another with --config"
        )
    return 0 if found else 1


def _parse(argv: list[str]) -> argparse.Namespace:
    commands = {"run": run, "read": read, "check": check, "status": status}
    alone = {"-h", "--help", "--version"}
    is_run_implied = not argv or (argv[0].startswith("-") and argv[0] not in alone)
    if is_run_implied:
        argv = ["run", *argv]
    if argv[0] not in {*commands, *alone}:
        close = difflib.get_close_matches(argv[0], commands, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"unknown command {argv[0]!r}; {hint}commands are {', '.join(commands)}")
    parser = _Parser(
        prog="digitdrop",
        description="A hot folder for handwritten numbers.",
        epilog="Without a command: run. "
        "Exit codes: 0 fine, 2 wrong usage, 78 wrong configuration or model, 1 the rest.",
    )
    parser.add_argument("--version", action="version", version=f"digitdrop {version()}")
    common = _Parser(add_help=False)
    common.add_argument(
        "--config", type=Path, metavar="FILE", help=f"settings (default: {CONFIGS[0]}, else {CONFIGS[1]}, if there)"
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    parsers = {}
    for name, command in commands.items():
        meaning = (command.__doc__ or "").strip()
        parsers[name] = subparsers.add_parser(name, help=meaning, description=meaning, parents=[common])
        parsers[name].set_defaults(command=command)
    parsers["run"].add_argument("--once", action="store_true", help="deliver what is there, then exit")
    parsers["run"].add_argument("--log-json", action="store_true", help="log lines as JSON, for collectors")
    parsers["read"].add_argument("files", nargs="+", type=_named, metavar="FILE", help="an image, or a folder of them")
    parsers["read"].add_argument("--picture", type=Path, metavar="DIR", help="put annotated pictures here")
    parsers["read"].add_argument(
        "--explain", type=Path, metavar="DIR", help="put pictures of each step to the value here"
    )
    parsers["status"].add_argument("--json", action="store_true", help="for programs")
    arguments, unknown = parser.parse_known_args(argv)
    late = next((word for word in unknown if word in commands), None)
    if late is not None and is_run_implied:
        rest = argv[1:]
        rest.remove(late)
        raise UsageError(f"{late}: the command goes first: digitdrop {shlex.join([late, *rest])}")
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def _named(text: str) -> Path:
    if not text:  # a variable of the shell that is not set, and Path("") is the current folder
        raise argparse.ArgumentTypeError("its name is empty")
    return Path(text)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see '{self.prog} --help'")


def _files(paths: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """The images that are meant, each once: files as given, the scans under folders; and what is closed to us, and why.

    What is closed are files and folders. Raises UsageError where nothing is meant.
    """
    meant: list[Path] = []
    closed: dict[Path, str] = {}
    for path in paths:
        try:
            look = scan(path)
        except NotADirectoryError:
            meant.append(path)
        except FileNotFoundError:
            raise UsageError(f"{path}: no such file") from None
        except PermissionError:
            closed[path] = UNREADABLE
        else:
            meant += [path / name for name in sorted(look.scans)]
            closed |= {path / name: why for name, why in sorted(look.closed.items())}
    if not meant and not closed:
        raise UsageError(f"no scans in {', '.join(map(str, paths))}")
    found = []
    for path in dict.fromkeys(meant):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))  # a pipe must not hold us up
        except OSError as error:
            closed[path] = UNREADABLE if isinstance(error, PermissionError) else str(error.strerror)
        else:
            if path.is_file():
                found.append(path)
            else:
                closed[path] = "no file"
    return found, closed


def _leave_out(path: str, why: str) -> None:
    log.warning("%s: %s; it is left out until that is put right", escape(path), why)


def _stop_on_signals(watch: Watch) -> Callable[[], bool]:
    """Let SIGTERM and SIGINT set a flag that ends the loop; returns the flag."""
    received: list[int] = []

    def note(number: int, _: object) -> None:
        received.append(number)
        watch.wake()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    return lambda: bool(received)


if __name__ == "__main__":
    sys.exit(main())
