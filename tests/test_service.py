"""What a watcher says of itself: to systemd, to people, to Prometheus and in the log."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import ROOT, Folder, crop, until
from PIL import Image

from watcher.claims import Claims
from watcher.config import Settings
from watcher.fields import Rule
from watcher.formats import tiff_pages
from watcher.inbox import Inbox
from watcher.metrics import Metrics
from watcher.results import Reading, Row, failed
from watcher.service import EVERY, QUIET, Service, notify
from watcher.status import State
from watcher.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (of Prometheus) is not here")


class Manager:
    """The service manager's end of the socket: what the watcher told it, and when."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.path = folder.root / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)
        self.heard: list[tuple[float, str]] = []

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start a watcher that talks to us, without waiting for anything."""
        log = (self.folder.root / f"log{len(self.folder.processes)}").open("w")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "watcher", "run", *more, "--config", str(self.folder.config)],
                cwd=ROOT,
                env=os.environ | {"NOTIFY_SOCKET": str(self.path)},
                stderr=log,
                text=True,
            )
        self.folder.processes.append(process)
        return process

    def listen(self) -> list[tuple[float, str]]:
        """All lines that were heard so far, with the time we got them."""
        while True:
            try:
                text = self.socket.recv(65536).decode()
            except BlockingIOError:
                return self.heard
            self.heard += [(time.monotonic(), line) for line in text.splitlines()]

    def lines(self) -> list[str]:
        """All lines that were heard so far."""
        return [line for _, line in self.listen()]

    def hear(self, pattern: str, count: int = 1) -> None:
        """Wait until so many lines match."""
        until(lambda: sum(bool(re.search(pattern, line)) for line in self.lines()) >= count, f"{count} of {pattern}")


@pytest.fixture
def manager(folder: Folder) -> Iterator[Manager]:
    """A service manager for the folder's watcher."""
    made = Manager(folder)
    yield made
    made.socket.close()


def test_ready_after_recovery_and_the_first_scan(folder: Folder, manager: Manager) -> None:
    """READY comes once, after what a crash left was read and the folder looked at; until then more time is asked."""
    folder.configure(settle=0)
    for index in range(40):
        folder.drop(f"{index}.png", crop(index))
    process = manager.start()
    until(lambda: list(folder.inbox.glob(".work/*.open/*.png")), "a claim")
    folder.kill(process)
    claimed = {path.name for path in folder.inbox.glob(".work/*.open/*.png")}
    manager.listen()
    manager.heard.clear()
    process = manager.start()
    manager.hear("^READY=1$")
    lines = manager.lines()
    assert claimed <= {row["file"] for row in folder.rows()}
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in lines[: lines.index("READY=1")])
    assert re.search(r"STATUS=\d+ waiting, \d+ in flight, \d+ rows delivered", "\n".join(lines))
    assert folder.stop(process) == 0
    assert manager.lines().count("READY=1") == 1
    assert manager.lines()[-1] == "STOPPING=1"


def test_signs_of_life_at_rest(folder: Folder, manager: Manager) -> None:
    """The watchdog is fed while there is nothing to do, however seldom the folder is scanned."""
    folder.configure(scan_every=600.0)
    manager.start()
    manager.hear("^READY=1$")
    manager.hear("^WATCHDOG=1$", count=3)


def test_signs_of_life_in_a_long_batch(folder: Folder, manager: Manager) -> None:
    """The watchdog is fed while one batch is in work for long, and the status says what is in flight."""
    folder.configure(batch={"size": 1000, "wait": 1.0}, settle=0.5)
    large = crop(size=(1440, 1200))
    for index in range(900):
        folder.drop(f"{index}.png", large)
    manager.start()
    manager.hear(r"^STATUS=\d+ waiting, [1-9]\d* in flight, 0 rows", count=3)
    assert not folder.rows()
    lines = manager.lines()
    busy = [i for i, line in enumerate(lines) if re.search(r"[1-9]\d* in flight, 0 rows", line)]
    assert lines[busy[0] : busy[-1]].count("WATCHDOG=1") >= 2


def test_signs_of_life_in_trouble(folder: Folder, manager: Manager) -> None:
    """The watchdog is fed while it backs off from an outbox that cannot be written; it says so, and that it is over."""
    process = manager.start()
    manager.hear("^READY=1$")
    staging = folder.outbox / ".staging"
    staging.rmdir()
    staging.write_text("in the way")
    folder.drop("seven.png", crop())
    manager.hear(r"^STATUS=.*; degraded: .*\.staging.*: (Not a directory|File exists)")
    since = len(manager.lines())
    until(lambda: manager.lines()[since:].count("WATCHDOG=1") >= 2, "signs of life")
    status = folder.command("status").stdout
    assert "DEGRADED: " in status
    staging.unlink()
    manager.hear(r"^STATUS=0 waiting, 0 in flight, 1 rows delivered$")
    folder.check()
    log = folder.log(process)
    said = [line for line in log.splitlines() if "nothing is lost, trying again" in line]
    assert 1 <= len(said) == len(set(said)), log  # once for each way in which it shows
    assert "INFO all is well again" in log


def test_names_in_what_it_says(folder: Folder, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a file or a folder is called, it cannot give orders to the service manager, nor end the watcher."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    settings = Settings(inbox=folder.inbox, outbox=folder.outbox)
    service = Service(settings)
    with Watch(folder.inbox, "scan") as watch, Claims(folder.inbox) as claims:
        service.begin("model", Inbox(settings, claims, watch, lambda: True))
        service.tell(OSError(errno.ENOSPC, "No space left on device", "/a/\udcff\nWATCHDOG=trigger\nx.png"))
        service.tell(OSError(errno.ENODEV, "is claimed for the outbox /b/\udcff\nWATCHDOG=trigger", "x"))
        notify("STATUS=\udcff")  # of the words of a library, say
    assert "WATCHDOG=trigger" not in manager.lines()
    manager.hear(r"^STATUS=.*degraded: x: is claimed for the outbox /b/\\xff\\x0aWATCHDOG=trigger$")
    manager.hear(r"^STATUS=\?$")
    manager.hear(r"^STATUS=.*degraded: /a/\\xff\\x0aWATCHDOG=trigger\\x0ax\.png: No space left on device$")


def test_a_full_disk_is_told_once(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """A report that cannot be written fills the log no more than the disk, and is told again when it was not so."""
    settings = Settings(inbox=folder.inbox, outbox=folder.outbox)
    service = Service(settings)
    with Watch(folder.inbox, "scan") as watch, Claims(folder.inbox) as claims:
        service.begin("model", Inbox(settings, claims, watch, lambda: True))
        fresh = claims.report.with_suffix(".new")
        said = f"no report for 'status': {fresh}: No space left on device"

        def told() -> int:
            service.state.scans += 1
            service.tell(OSError(errno.EIO, f"trouble {service.state.scans}"))
            return caplog.messages.count(said)

        fresh.symlink_to("/dev/full")
        assert [told(), told()] == [1, 1]
        fresh.unlink()
        assert told() == 1
        fresh.symlink_to("/dev/full")
        assert told() == 2


def test_a_state_that_does_not_change_is_told_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is not written for nothing, but often enough to show that the watcher lives."""
    real, ahead = time.monotonic, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead)
    settings = Settings(inbox=folder.inbox, outbox=folder.outbox)
    service = Service(settings)
    with Watch(folder.inbox, "scan") as watch, Claims(folder.inbox) as claims:
        service.begin("model", Inbox(settings, claims, watch, lambda: True))
        service.tell(None)
        claims.report.unlink()
        for ahead, written in ((EVERY + 1, False), (QUIET + 1, True)):  # noqa: B007 - by the clock
            service.beat()
            assert claims.report.exists() is written


def test_another_watcher_on_the_inbox(folder: Folder) -> None:
    """A watcher that starts on an inbox where one works says so; that is allowed, but may be a mistake."""
    first = folder.start()
    words = f"INFO another watcher works on this inbox too (process {first.pid})"
    assert "another watcher" not in folder.log(first)
    assert words in folder.command("run", "--once").stderr
    assert folder.stop(first) == 0
    assert "another watcher" not in folder.command("run", "--once").stderr


def test_a_reader_that_has_had_enough(folder: Folder) -> None:
    """Output that nobody reads to its end, as with `| head`, is no error to be told."""
    command = f"{sys.executable} -m watcher check --config {folder.config} | true"
    surroundings = os.environ | {"PYTHONUNBUFFERED": ""}  # then the pipe breaks at the very end
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False
    )
    assert "Broken pipe" not in done.stderr
    assert "Traceback" not in done.stderr


def pages_of_which_two_are_bad() -> bytes:
    """A TIFF of four pages, the second and the third without their pixels."""
    file = io.BytesIO()
    first, *others = [Image.fromarray(np.full((60, 50), 255, np.uint8))] * 4
    first.save(file, "TIFF", save_all=True, append_images=others)
    data = file.getvalue()
    offsets = [at for at, _ in tiff_pages(lambda start, count: data[start : start + count], len(data))]
    spoiled = bytearray(data)
    for at in offsets[1:3]:
        (entries,) = struct.unpack_from("<H", data, at)
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            if struct.unpack_from("<H", data, entry)[0] == 273:  # where its strips are
                struct.pack_into("<I", spoiled, entry + 8, 1 << 30)
    return bytes(spoiled)


def test_the_log_as_json(folder: Folder) -> None:
    """With --log-json each line is an object; a failed scan is named once, with its reason, a delivery is counted."""
    folder.configure(patience=0)
    folder.drop("seven.png", crop())
    folder.drop("a,b\n.png", b"text")
    folder.drop("pages.tif", pages_of_which_two_are_bad())
    done = folder.command("run", "--once", "--log-json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["time"]) for line in lines)
    failed, pages = sorted(
        (line for line in lines if line["level"] == "warning" and "file" in line), key=lambda line: str(line["file"])
    )
    assert (pages["file"], pages["page"]) == ("pages.tif", 2)
    assert pages["message"].endswith(", and 1 more of its pages")  # and not a line for each
    assert (failed["file"], failed["page"], failed["reason"]) == ("a,b\\x0a.png", 1, "unsupported")
    delivered = [line for line in lines if "rows" in line]
    assert sum(line["scans"] for line in delivered) == 3
    assert {stage for line in delivered for stage in line["seconds"]} == {"read", "deliver"}
    assert {line["batch"] for line in delivered} == {path.name for path in folder.deliveries()}


def test_the_log_in_the_journal(folder: Folder) -> None:
    """Where stderr is the journal, each line begins with its level, errors of the configuration too; else none does."""
    folder.configure(patience=0)
    folder.drop("broken.png", b"text")
    path = folder.root / "journal"
    for settings, levels in (({"patience": 0}, {"<6>", "<4>"}), ({"setle": 1, "bacth": 2}, {"<3>"})):
        folder.configure(**settings)
        for stream in (True, False):
            with path.open("w") as file:
                status = os.fstat(file.fileno())
                named = f"{status.st_dev}:{status.st_ino}" if stream else "1:1"
                subprocess.run(
                    [sys.executable, "-m", "watcher", "run", "--once", "--config", str(folder.config)],
                    cwd=ROOT,
                    env=os.environ | {"JOURNAL_STREAM": named},
                    stderr=file,
                    check=False,
                )
            lines = path.read_text().splitlines()
            assert lines
            if stream:
                assert {line[:3] for line in lines} == levels
                folder.drop("broken.png", b"text")
            else:
                assert not [line for line in lines if line.startswith("<")]


def test_the_metrics(folder: Folder) -> None:
    """The metrics file is whole at any time, can be read by others, and counts what was delivered."""
    path = folder.root / "x.prom"
    folder.configure(metrics=str(path), patience=0)
    before = os.umask(0o007)  # the service's, and node_exporter is in no group of ours
    try:
        process = folder.start()
    finally:
        os.umask(before)
    for index in range(3):
        folder.drop(f"{index}.png", crop(index))
    folder.drop("broken.png", b"text")
    folder.wait()

    def text() -> str:
        found = path.read_text()
        assert found.endswith("\n")
        assert "digitdrop_report_timestamp_seconds " in found
        return found

    until(lambda: "digitdrop_scans_total 4.0" in text(), "the metrics")
    found = text()
    for line in (
        'digitdrop_rows_total{reason="",status="accepted"} 3.0',
        'digitdrop_rows_total{reason="unsupported",status="failed"} 1.0',
        'digitdrop_latency_seconds_bucket{le="+Inf"} 4.0',
        "digitdrop_in_flight_scans 0.0",
        "digitdrop_degraded 0.0",
    ):
        assert line in found
    assert re.search(r'^digitdrop_model_info\{model="\w+-[0-9a-f]{8}(-[0-9a-f]{8})?"\} 1\.0$', found, re.MULTILINE)
    assert set(re.findall(r'^digitdrop_batch_seconds_sum\{stage="(\w+)"\}', found, re.MULTILINE)) == {
        "read",
        "deliver",
    }
    assert path.stat().st_mode & 0o777 == 0o644
    assert folder.stop(process) == 0


def test_counters_begin_at_zero(tmp_path: Path) -> None:
    """Each counter that may grow is there before it does, at 0, and none for what the settings rule out."""
    names = r'digitdrop_rows_total\{reason="([^"]*)",status="(\w+)"\} 0\.0'
    rule = Rule(name="zip", files="*")
    counted = {}
    for settings in (Settings(), Settings(fields=(rule,), audit=0.1)):
        Metrics(tmp_path / "x.prom", settings).write(State(), 0.0)
        text = (tmp_path / "x.prom").read_text()
        counted[settings.audit] = {(status, reason) for reason, status in re.findall(names, text)}
        for step in ("decode", "draw"):
            assert f'digitdrop_work_seconds_total{{step="{step}"}} 0.0' in text
    assert {("failed", "truncated"), ("review", "low_confidence"), ("accepted", "")} < counted[0.0]
    assert counted[0.1] - counted[0.0] == {("review", "audit"), ("review", "wrong_length"), ("review", "rule:zip")}
    assert not {("failed", ""), ("review", "")} & counted[0.1]


@needs_promtool
def test_prometheus_takes_the_metrics(tmp_path: Path) -> None:
    """It has nothing to say of them."""
    metrics = Metrics(tmp_path / "x.prom", Settings())
    rows = [
        Row("a.png", 1, Reading("accepted", "7", 0.99), milliseconds={"decode": 0.3}),
        Row("b.png", 1, failed("unsupported")),
    ]
    metrics.delivered(rows, [0.3, 400.0], {"read": 0.2, "deliver": 0.1})
    metrics.troubles.inc()
    metrics.write(State(model="model", held={"incomplete": 2}, degraded=["a full disk"]), 1.8e9)
    text = (tmp_path / "x.prom").read_text()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_metrics_that_cannot_be_written(folder: Folder) -> None:
    """A place for metrics that is not there costs a warning, and no scan."""
    folder.configure(metrics=str(folder.root / "nowhere" / "x.prom"))
    folder.drop("seven.png", crop())
    done = folder.command("run", "--once")
    assert done.returncode == 0
    assert "WARNING no metrics: " in done.stderr
    folder.check()


@needs_promtool
def test_the_alert_rules(folder: Folder) -> None:
    """Prometheus accepts the example rules, and they go off when they should and only then."""
    rules = ROOT / "docs" / "digitdrop.rules.yml"
    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True, check=False)
    assert (done.returncode, "SUCCESS: 6 rules found" in done.stdout) == (0, True), done.stdout + done.stderr
    test = {
        "rule_files": [str(rules)],
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": 'digitdrop_report_timestamp_seconds{instance="good"}', "values": "0+60x600"},
                    {"series": 'digitdrop_report_timestamp_seconds{instance="silent"}', "values": "0x600"},
                    {"series": 'digitdrop_degraded{instance="good"}', "values": "0x600"},
                    {"series": 'digitdrop_degraded{instance="full"}', "values": "1x600"},
                    {"series": 'digitdrop_rows_total{instance="good",status="accepted"}', "values": "0+10x600"},
                    {"series": 'digitdrop_rows_total{instance="good",status="failed"}', "values": "0x600"},
                    {"series": 'digitdrop_rows_total{instance="bad",status="accepted"}', "values": "0+10x600"},
                    {"series": 'digitdrop_rows_total{instance="bad",status="failed"}', "values": "0+1x600"},
                ],
                "promql_expr_test": [
                    {
                        "eval_time": "2h",
                        "expr": 'count by (alertname, instance) (ALERTS{alertstate="firing"})',
                        "exp_samples": [
                            {"labels": f'{{alertname="Digitdrop{name}", instance="{instance}"}}', "value": 1}
                            for name, instance in (("Silent", "silent"), ("Degraded", "full"), ("Failing", "bad"))
                        ],
                    }
                ],
            },
            {
                "interval": "1m",
                "input_series": [{"series": 'up{instance="rebooted"}', "values": "1x600"}],  # and nothing of ours
                "alert_rule_test": [
                    {
                        "eval_time": "2h",
                        "alertname": "DigitdropSilent",
                        "exp_alerts": [
                            {
                                "exp_labels": {"severity": "critical"},
                                "exp_annotations": {
                                    "summary": "Digitdrop has not reported for 5 minutes",
                                    "description": "It is stopped, or hangs. "
                                    "See: systemctl status digitdrop; journalctl -u digitdrop.",
                                },
                            }
                        ],
                    }
                ],
            },
        ],
    }
    path = folder.root / "test.yml"
    path.write_text(json.dumps(test))
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
