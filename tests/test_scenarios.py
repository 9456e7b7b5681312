"""What the folder has to survive: numbered scenarios, on the real watcher as a process, with real files and signals.

The oracle is `Folder.check`. Those that need no folder of their own share one watcher, and the oracle judges all that
went through it at the end. What needs root (mounts, capabilities) says so.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import ROOT, Folder, crop, until
from PIL import Image

from watcher.file import DAMAGED, INCOMPLETE, UNREADABLE, UNTAKABLE, WRITTEN
from watcher.inbox import NO_WAY_BACK
from watcher.names import unescape
from watcher.status import states

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = (60, 50)
PLAIN = {"thumbnails": "none", "contact_sheet": False}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts file systems or drops capabilities")


def small(number: int) -> bytes:
    """A little crop, each with bytes of its own."""
    return crop(number, SMALL)


def marked(word: str, number: int = 0) -> bytes:
    """A crop with a word in its bytes, where a PNG holds comments; see faults/sitecustomize.py."""
    data = small(number)
    chunk = b"tEXtComment\0FAULT:" + word.encode()
    text = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return data[:33] + text + data[33:]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(*pages: Image.Image) -> bytes:
    """A TIFF of some pages, each with its directory behind its pixels."""
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    return file.getvalue()


def directory_first(data: bytes) -> bytes:
    """A grey TIFF whose directory stands before its pixels, which are those of a crop."""
    image = Image.open(io.BytesIO(data)).convert("L")
    pixels = image.tobytes()
    entries = [(256, image.width), (257, image.height), (258, 8), (259, 1), (262, 1), (273, 8 + 2 + 8 * 12 + 4)]
    entries += [(277, 1), (279, len(pixels))]
    head = b"II*\0\x08\0\0\0" + len(entries).to_bytes(2, "little")
    for tag, value in entries:
        head += tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little")
    return head + bytes(4) + pixels


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A watcher that many scenarios share, with a backlog of a thousand scans at its start."""
    folder = Folder(tmp_path_factory.mktemp("house"), settle=0.2, patience=3600, **PLAIN)
    for number in range(1000):
        folder.drop(f"01/{number % 10}/{number}.png", small(number))
    process = folder.start()
    yield folder
    folder.wait()
    assert folder.stop(process) == 0, folder.log(process)
    folder.check()
    assert "Traceback" not in folder.log(process)


def comes(folder: Folder, *names: str) -> None:
    """Wait until scans have come out as what they are."""
    for name in names:
        row = until(lambda: folder.row(name), f"the row of {name}")  # noqa: B023 - called at once
        assert row is not None
        assert (row["sha256"], row["value"]) == (folder.dropped[name], "7"), row


# Arrival


def test_01_a_thousand_files_before_the_start(house: Folder) -> None:
    """What lies there at the start is read like what comes later."""
    house.wait(1000)


def test_02_written_in_place_and_closed(house: Folder) -> None:
    """A file written under its own name comes once it is closed."""
    house.note("02.png", small(2))
    (house.inbox / "02.png").write_bytes(small(2))
    comes(house, "02.png")


def test_03_written_under_a_temporary_name(house: Folder) -> None:
    """Temporary names are not touched; what they are renamed to is read."""
    temporary = {".03a.png": "03a.png", "03b.png.tmp": "03b.png", "03c.png.part": "03c.png"}
    for number, name in enumerate(temporary):
        (house.inbox / name).write_bytes(small(number))
        house.note(temporary[name], small(number))
    house.pulse()
    for name, final in temporary.items():
        assert house.row(final) is None
        (house.inbox / name).rename(house.inbox / final)
    comes(house, *temporary.values())


def test_04_renamed_in_from_outside(house: Folder) -> None:
    """The careful way."""
    house.drop("04/deep/er.png", small(4))
    comes(house, "04/deep/er.png")


def test_05_hard_linked_in(house: Folder) -> None:
    """A file that its user keeps elsewhere under another name is read, and later changes to it reach no delivery."""
    archived = house.root / "05-archived.png"
    archived.write_bytes(small(5))
    house.note("05.png", small(5))
    os.link(archived, house.inbox / "05.png")
    comes(house, "05.png")
    with archived.open("r+b") as file:
        file.write(b"something else")  # the oracle finds the delivered original as it was read


def test_06_a_slow_writer(house: Folder) -> None:
    """Pieces with pauses, the file closed and opened again between them: read once, whole."""
    house.note("06.png", small(6))
    pieces = [small(6)[i : i + 100] for i in range(0, len(small(6)), 100)]
    for number, piece in enumerate(pieces):
        with (house.inbox / "06.png").open("ab") as file:
            file.write(piece)
        if number % 4 == 3 and number + 1 < len(pieces):
            house.pulse()
            assert house.row("06.png") is None
    comes(house, "06.png")


def test_07_a_writer_that_keeps_the_file_open(house: Folder) -> None:
    """As long as a writer has a file open, whole and idle as it may be, it is not taken."""
    house.note("07.png", small(7))
    with (house.inbox / "07.png").open("wb") as file:
        file.write(small(7))
        file.flush()
        for _ in range(3):
            house.pulse()
            assert house.row("07.png") is None
        until(lambda: WRITTEN in house.held(), "status to say so")
    comes(house, "07.png")


def test_08_full_size_at_once_then_filled(house: Folder) -> None:
    """A file that has its size from the start and zeros in it waits until it is filled."""
    house.note("08.png", small(8))
    path = house.inbox / "08.png"
    path.write_bytes(bytes(len(small(8))))
    house.pulse()
    with path.open("r+b") as file:
        file.write(small(8)[:300])
    house.pulse()
    assert house.row("08.png") is None
    path.write_bytes(small(8))
    comes(house, "08.png")


def test_09_half_written_at_the_start(folder: Folder) -> None:
    """A file that is half there when the watcher starts is read when it is whole."""
    folder.configure(patience=3600, **PLAIN)
    folder.note("a.png", small(9))
    with (folder.inbox / "a.png").open("wb") as file:
        file.write(small(9)[:200])
    folder.start()
    folder.pulse()
    assert folder.row("a.png") is None
    with (folder.inbox / "a.png").open("ab") as file:
        file.write(small(9)[200:])
    comes(folder, "a.png")
    folder.check()


@pytest.mark.parametrize("when", [978307200, 32503680000], ids=["10-of-2001", "11-of-tomorrow-and-beyond"])
def test_10_11_dates_mean_nothing(house: Folder, when: int) -> None:
    """Files that come with an old date, or with one of the future, are read like any other."""
    name = f"10-{when}.png"
    house.note(name, small(when % 1000))
    fresh = house.root / "dated"
    fresh.write_bytes(small(when % 1000))
    os.utime(fresh, (when, when))
    fresh.rename(house.inbox / name)
    comes(house, name)


def test_12_a_folder_moved_in(house: Folder) -> None:
    """Of a folder of 500 moved in each file is read, and one that comes into it later."""
    outside = house.root / "moved"
    for number in range(500):
        path = outside / str(number % 5) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small(number))
        house.note(f"12/{number % 5}/{number}.png", small(number))
    outside.rename(house.inbox / "12")
    house.drop("12/4/late.png", small(12))
    comes(house, "12/4/late.png", "12/0/0.png", "12/4/499.png")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [("empty.png", b"", "empty"), ("empty.tif", b"II*\0\0\0\0\0", "truncated")],
    ids=["13", "26-a-TIFF-without-pages"],
)
def test_13_26_an_empty_file(folder: Folder, name: str, data: bytes, reason: str) -> None:
    """An empty file waits, and fails only when patience has run out; what is dropped meanwhile does not wait."""
    folder.configure(patience=3600, **PLAIN)
    process = folder.start()
    folder.drop(name, data)
    folder.pulse()
    assert folder.row(name) is None
    until(lambda: INCOMPLETE in folder.held(), "status to say so")
    folder.stop(process)
    folder.configure(patience=0.3, **PLAIN)
    folder.start()
    folder.wait()
    row = folder.row(name)
    assert row is not None
    assert (row["status"], row["reason"]) == ("failed", reason)
    folder.check()


def test_14_deleted_before_it_settles(house: Folder) -> None:
    """A file that its user takes back leaves no row and no complaint."""
    path = house.inbox / "14-taken-back.png"
    with path.open("wb") as file:  # open, so that it cannot be quicker than us
        file.write(small(14))
        house.pulse()
        path.unlink()
    house.pulse()
    assert house.row(path.name) is None
    assert path.name not in house.log(house.processes[0])


def test_15_replaced_while_it_settles(house: Folder) -> None:
    """A file that is replaced before it was taken is one row, with the last content."""
    path = house.inbox / "15.png"
    with path.open("wb") as file:
        file.write(small(14))
        house.pulse()
        house.drop("15.png", small(15))
    comes(house, "15.png")


def test_16_17_the_same_name_again(house: Folder) -> None:
    """A name that comes again, after its delivery or while the first is in work, is a second row."""
    house.drop("16.png", small(16))
    comes(house, "16.png")
    house.drop("16.png", small(17))
    until(lambda: len([r for r in house.rows() if r["file"] == "16.png"]) == 2, "the second")
    for number in range(20):  # quicker than any of them is delivered
        until(lambda: not (house.inbox / "17.png").exists(), "the one before to be claimed")
        house.drop("17.png", small(number))
    until(lambda: len([r for r in house.rows() if r["file"] == "17.png"]) == 20, "all of them")


def test_18_the_same_content_twice(house: Folder) -> None:
    """Two names with the same bytes are two rows."""
    house.drop("18a.png", small(18))
    house.drop("18b.png", small(18))
    comes(house, "18a.png", "18b.png")


def test_19_endings(house: Folder) -> None:
    """Endings of scanners count in any case; the bytes decide what is in the file."""
    for name in ("19.PNG", "19.jpeg", "19.JPG", "19.tif"):
        house.drop(name, small(19))
    house.drop("19-scan.TIF", directory_first(small(20)))
    comes(house, "19.PNG", "19.jpeg", "19.JPG", "19.tif", "19-scan.TIF")


def test_20_touched_while_it_waits(house: Folder) -> None:
    """Touching a waiting file and changing its mode makes no second row."""
    path = house.inbox / "20.png"
    house.note("20.png", small(20))
    with path.open("wb") as file:
        file.write(small(20))
        file.flush()
        house.pulse()
        path.touch()
        path.chmod(0o640)
        house.pulse()
        path.chmod(0o644)
    comes(house, "20.png")


@pytest.mark.parametrize("kind", ["png", "tif", "bmp", "jpg"])
def test_21_a_stalled_upload(house: Folder, kind: str) -> None:
    """An upload that stalls, closed and quiet, and is completed later is one good row, whatever the format."""
    data = small(21)
    if kind == "tif":
        data = directory_first(data)
    elif kind != "png":
        data = saved(Image.open(io.BytesIO(small(21))).convert("L"), "JPEG" if kind == "jpg" else "BMP", quality=95)
    name = f"21.{kind}"
    house.note(name, data)
    (house.inbox / name).write_bytes(data[: len(data) * 3 // 4])
    house.pulse()
    assert house.row(name) is None
    with (house.inbox / name).open("ab") as file:
        file.write(data[len(data) * 3 // 4 :])
    comes(house, name)


# Names and kinds


def test_22_names_that_are_not_ours(house: Folder) -> None:
    """Files that systems and programs put beside others are left alone."""
    names = ["._a.png", ".DS_Store", "Thumbs.db", "@eaDir/a.png", ".nfs0001", "~$x.png", ".stfolder/b.png"]
    for name in names:
        path = house.inbox / "22" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small(22))
    house.pulse()
    assert all((house.inbox / "22" / name).exists() for name in names)
    assert not [row for row in house.rows() if row["file"].startswith("22/")]


def test_23_things_that_are_no_files(house: Folder) -> None:
    """Links, pipes, sockets, devices and folders called like scans are never opened; the scan does not hang."""
    corner = house.inbox / "23"
    (corner / "folder.png").mkdir(parents=True)
    (house.root / "23-target.png").write_bytes(small(23))
    (corner / "link.png").symlink_to(house.root / "23-target.png")
    (corner / "loop.png").symlink_to(corner)
    os.mkfifo(corner / "pipe.png")
    if os.geteuid() == 0:
        os.mknod(corner / "device.png", 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero: to read it never ends
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(corner)  # the path of a socket is short
        listener.bind("socket.png")
        os.chdir(ROOT)
        house.drop("23/folder.png/in.png", small(23))
        comes(house, "23/folder.png/in.png")
        house.pulse()
    assert sorted(path.name for path in corner.iterdir() if path.name != "device.png") == [
        "folder.png",
        "link.png",
        "loop.png",
        "pipe.png",
        "socket.png",
    ]


NASTY = [b"\xff\xfe.png", b"new\nline.png", b'com,ma".png', b"=1+1.png", b"+cmd|' /C calc'!A0.png", b"-1.png"]
NASTY += [b"\xf0\x9f\x8e\xb2.png", b"a\\b.png", b"tab\t.png", b"x" * 251 + b".png", b" .png", b"'quoted'.png"]


def test_24_nasty_names(house: Folder) -> None:
    """Whatever a name holds, its row comes back to it."""
    for number, raw in enumerate(NASTY):
        house.drop("24/" + os.fsdecode(raw), small(number))
    until(lambda: sum(row["file"].startswith("24/") for row in house.rows()) == len(NASTY), "their rows")
    names = [os.fsencode(unescape(row["file"])) for row in house.rows() if row["file"].startswith("24/")]
    assert sorted(names) == sorted(b"24/" + raw for raw in NASTY)


def test_24_a_name_that_the_outbox_refuses(folder: Folder) -> None:
    """A scan that cannot be delivered under its name stays in the inbox and is told of; the others go on."""
    process = folder.start(fault="refuse :")
    name = "2026-11-26 14:18:31.png"
    folder.drop(name, small(1))
    folder.pulse()
    why = "the outbox's file system refuses its name"
    until(lambda: folder.held() == {why: 1}, "status to say so")
    assert f"{name}: {why}; it stays in the inbox" in folder.log(process)
    (folder.inbox / name).rename(folder.inbox / "2026-11-26 14.18.31.png")
    folder.note("2026-11-26 14.18.31.png", small(1))
    del folder.dropped[name]
    folder.wait()
    folder.check()


def test_25_the_same_name_in_two_folders(house: Folder) -> None:
    """Each keeps its own row and its own original."""
    house.drop("25/a/scan.png", small(25))
    house.drop("25/b/scan.png", small(26))
    comes(house, "25/a/scan.png", "25/b/scan.png")


def test_26_files_that_are_something_else(house: Folder) -> None:
    """A text and a PDF called like scans fail, for what they are."""
    house.drop("26/text.png", b"seven, I tell you")
    house.drop("26/form.pdf", b"%PDF-1.7 and so on, to the end")
    for name in ("26/text.png", "26/form.pdf"):
        row = until(lambda: house.row(name), f"the row of {name}")  # noqa: B023 - called at once
        assert row is not None
        assert (row["status"], row["reason"]) == ("failed", "unsupported")


# Floods


def memory(process: subprocess.Popen[str]) -> int:
    """Bytes of memory that a watcher holds, without its workers."""
    (line,) = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "VmRSS" in line]
    return int(line.split()[1]) * 1024


def pour(folder: Folder, name: str, count: int) -> None:
    """Have many scans at once: written beside the inbox, moved in with their folder."""
    outside = folder.root / f"outside-{name}"
    outside.mkdir()
    for number in range(count):
        (outside / f"{number}.png").write_bytes(data := small(number))
        folder.dropped[f"{name}/{number}.png"] = hashlib.sha256(data).hexdigest()
    outside.rename(folder.inbox / name)


def test_27_28_floods(folder: Folder) -> None:
    """A flood comes out whole, with memory and work in flight bounded; so does one that comes while it is stopped."""
    folder.configure(originals="delete", workers=2, **PLAIN)
    process = folder.start()
    folder.pulse()
    before = memory(process)
    process.send_signal(signal.SIGSTOP)
    pour(folder, "28", FLOOD)
    process.send_signal(signal.SIGCONT)
    most = flying = 0
    for name in ("27", ""):
        while (found := len(folder.rows())) < len(folder.dropped):
            until(lambda: len(folder.rows()) > found, "more rows")
            most = max(most, memory(process))
            flying = max([flying, *(state.in_flight for state in states(folder.inbox))])
        if name:
            pour(folder, name, FLOOD)
    # A batch that is read, the one behind it, for which no worker is to wait, and one that is delivered meanwhile.
    assert 0 < flying <= 3 * 256
    assert most - before < 100e6
    folder.check()


FLOOD = 2_000  # `python -m benchmarks.soak --flood` is the long one


def test_29_watches_used_up(folder: Folder) -> None:
    """With too few inotify watches all files come by the timer, and status says what is missing and what to raise."""
    for number in range(9):
        (folder.inbox / f"box{number}").mkdir()
    limited = 'echo 5 > /proc/sys/user/max_inotify_watches && exec "$@"'
    prefix = ["unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs user namespaces with limits of their own for inotify")
    folder.configure(watch="events", **PLAIN)
    process = folder.start(*prefix)
    for number in range(9):
        folder.drop(f"box{number}/a.png", small(number))
    folder.wait()
    until(lambda: any("no file events from" in text for text in folder.degraded()), "status to say so")
    assert "max_user_watches" in folder.log(process)
    for number in range(2, 9):
        (folder.inbox / f"box{number}").rmdir()
    until(lambda: not folder.degraded(), "it to heal")
    folder.check()


def test_29_instances_used_up(folder: Folder) -> None:
    """With no inotify instance to be had all files come by the timer, and status says so."""
    prefix = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    prefix += ['echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"', "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs user namespaces with limits of their own for inotify")
    folder.configure(watch="events", **PLAIN)
    folder.start(*prefix)
    folder.pulse()
    assert any("no file events" in text for text in folder.degraded())
    folder.check()


def test_29_an_inbox_behind_a_link(folder: Folder) -> None:
    """An inbox that is a symbolic link brings events from its own files and from those of its folders."""
    (folder.inbox / "box").mkdir()
    link = folder.root / "link"
    link.symlink_to(folder.inbox)
    folder.configure(watch="events", inbox=str(link), **PLAIN)
    process = folder.start()
    inodes = {path.stat().st_ino for path in (folder.inbox, folder.inbox / "box")}
    until(lambda: watched_by(process) >= inodes, "events from both")
    folder.pulse()
    assert not folder.degraded()
    folder.check()


def test_30_the_threads_of_events_end(folder: Folder) -> None:
    """When the threads that bring file events end, files still flow, the log says so, and events come again."""
    folder.configure(watch="events", scan_every=0.5, **PLAIN)
    process = folder.start(fault="events")
    folder.pulse()
    process.send_signal(signal.SIGUSR1)
    folder.pulse()
    until(lambda: "had ended, starting them again" in folder.log(process), "the log to say so")
    folder.pulse()
    assert not folder.degraded()
    folder.check()


# Crashes


MOMENTS = {
    "before the first is claimed": "kill before rename .open/",
    "after it is decided": "kill after rename .done",
    "after the first is claimed": "kill after rename .open/",
    "before it is decided": "kill before rename .done",
    "while it reads": "",
    "before it is published": "kill before rename .staging/",
    "before the originals are staged": "kill before link .staging/",
    "after it is published": "kill after rename .staging/",
    "while the stage is made durable": "kill before sync .staging/",
    "while it cleans up": "kill after unlink .png",
}


@pytest.mark.parametrize("downstream", [False, True], ids=["31", "32-taken-at-once"])
def test_31_32_killed_at_each_step(folder: Folder, downstream: bool) -> None:
    """Killed at any step, the next watcher, itself to be killed at another, goes on from there: each scan comes once.

    Also where deliveries vanish the moment they appear.
    """
    folder.configure(batch={"size": 8, "wait": 0})
    if downstream:
        folder.taken.mkdir()
    for moment, fault in MOMENTS.items():
        for number in range(10):
            folder.drop(f"{moment}/{number % 3}/{number}.png", small(number))
        process = folder.launch(fault=fault)
        if not fault:
            until(lambda: list(folder.outbox.glob(".staging/*/thumbnails/*")), moment)
            folder.kill(process)

        def ended() -> bool:
            folder.rows()
            return process.poll() is not None  # noqa: B023 - called at once

        until(ended, f"the watcher to be killed {moment}")
        assert process.returncode == -signal.SIGKILL
    folder.start()
    folder.wait()
    folder.check()


@pytest.mark.parametrize("downstream", [False, True], ids=["left", "taken at once"])
def test_33_a_storm_of_kills(folder: Folder, downstream: bool) -> None:
    """Killed again and again under a feed, each scan comes out once; `python -m benchmarks.storm` is the long one."""
    folder.configure(batch={"size": 32, "wait": 0}, **PLAIN)
    if downstream:
        folder.taken.mkdir()
    for kill in range(4):
        pour(folder, str(kill), 40)
        process = folder.start()
        delivered = len(folder.rows())
        until(lambda: len(folder.rows()) > delivered, "something to be delivered")  # noqa: B023 - called at once
        folder.kill(process)
    folder.start()
    folder.wait()
    folder.check()


def test_34_35_scans_that_spoil_their_worker(folder: Folder) -> None:
    """What kills, hangs, sleeps in or starves its worker fails alone, and the others of its batch are read.

    What decoders print is in the row's detail, not on the terminal.
    """
    folder.configure(limits={"seconds": 0.5}, workers=2)
    reasons = {"DIE": "crashed_decoder", "HANG": "timed_out", "SLEEP": "timed_out", "EAT": "too_large"}
    for number, word in enumerate([*reasons, "PRINT"]):
        folder.drop(f"{word}.png", marked(word, number))
    for number in range(55):
        folder.drop(f"{number}.png", small(number))
    process = folder.start(fault="decoder")
    rows = {row["file"]: row for row in folder.wait()}
    folder.check()
    for word, reason in reasons.items():
        row = rows[f"{word}.png"]
        assert (row["status"], row["reason"]) == ("failed", reason), word
    assert all(rows[f"{name}.png"]["value"] == "7" for name in [*range(55), "PRINT"])
    details = {
        row["file"]: row["detail"]
        for delivery in folder.deliveries()
        for row in json.loads((delivery / "results.json").read_bytes())["rows"]
    }
    assert details["PRINT.png"] == "libcolour: a profile libscan: an odd tag"
    assert "SIGSEGV" in details["DIE.png"]
    assert "SIGALRM" in details["SLEEP.png"]
    assert "libscan" not in folder.log(process)


def test_35_processor_time(folder: Folder) -> None:
    """A scan may cost so much processor time and no more, whatever the clock says."""
    folder.configure(limits={"seconds": 0.3})
    folder.drop("a.png", marked("HANG"))
    folder.start(fault="decoder patient")
    (row,) = folder.wait()
    assert row["reason"] == "timed_out"
    detail = json.loads((folder.deliveries()[0] / "results.json").read_bytes())["rows"][0]["detail"]
    assert "SIGPROF" in detail
    folder.check()


def test_34_a_worker_that_others_kill(folder: Folder) -> None:
    """A scan whose worker is killed by somebody else is not blamed for it, not even when it is alone."""
    folder.configure(workers=2)
    process = folder.start()
    for number in range(3):
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        folder.drop(f"{number}.png", small(number))
        comes(folder, f"{number}.png")
    folder.check()


def test_35_a_worker_that_is_stopped(folder: Folder) -> None:
    """A worker that does not even hear its alarm is ended by the watcher, and its scan is read by another."""
    folder.configure(limits={"seconds": 0.1})
    process = folder.start()
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGSTOP)
    folder.drop("a.png", small(1))
    comes(folder, "a.png")
    folder.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_36_told_to_stop_under_load(folder: Folder, number: int) -> None:
    """SIGTERM and Ctrl-C end the watcher with 0, in time; what was left is delivered by the next one."""
    for index in range(200):
        folder.drop(f"{index}.png", small(index))
    process = folder.start()
    until(folder.work, "work")
    process.send_signal(number)
    assert process.wait(20) == 0
    folder.rows()
    folder.start()
    folder.wait()
    folder.check()


def test_36_told_to_stop_in_the_first_look(folder: Folder) -> None:
    """While a large, slow inbox is looked at for the first time, it says that it starts, and can be stopped."""
    folder.configure(watch="scan")
    for number in range(600):
        (folder.inbox / str(number)).mkdir()
    process = folder.launch(fault="slow")
    until(lambda: states(folder.inbox), "a report")
    assert "health     starting" in folder.command("status").stdout
    assert folder.stop(process) == 0
    assert "ready after" not in folder.log(process)
    assert "Traceback" not in folder.log(process)


def test_36_told_to_stop_while_a_scan_hangs(folder: Folder) -> None:
    """A scan that its worker does not come to an end with does not hold up the stop, and is left to the next one."""
    folder.configure(limits={"seconds": 60})
    folder.drop("a.png", marked("SLEEP"))
    process = folder.start(fault="decoder")
    until(folder.work, "work")
    assert folder.stop(process) == 0
    assert folder.work()
    assert not folder.rows()
    folder.start()
    comes(folder, "a.png")
    folder.check()


def test_37_several_watchers(folder: Folder) -> None:
    """Three watchers share an inbox: each scan comes once, also those that one claimed and died over."""
    folder.configure(batch={"size": 16, "wait": 0}, **PLAIN)
    first, *_ = [folder.start() for _ in range(3)]
    pour(folder, "a", 300)
    until(folder.work, "a claim")
    folder.kill(first)
    pour(folder, "b", 100)
    folder.wait()
    folder.check()
    assert len(states(folder.inbox)) == 2


# The world around


@contextmanager
def mounted(target: Path, *arguments: str) -> Iterator[None]:
    """Have a file system mounted."""
    subprocess.run(["mount", *arguments, str(target)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(target)], check=False, capture_output=True)


def fill(target: Path) -> None:
    """Use up all the room there is on a small file system, its inodes too."""
    (target / ".filler").mkdir()
    for number in itertools.count():
        try:
            (target / ".filler" / str(number)).write_bytes(bytes(65536))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            if number and not (target / ".filler" / str(number)).exists():
                return


@as_root
@pytest.mark.parametrize("where", ["outbox", "inbox"])
def test_38_no_room(folder: Folder, where: str) -> None:
    """A full disk leaves nothing partial and blames no scan, says so, and things go on when there is room."""
    target: Path = getattr(folder, where)
    with mounted(target, "-t", "tmpfs", "-o", "size=3m,nr_inodes=300", "tmpfs"):
        process = folder.start()
        folder.pulse()
        names = [f"{number}.png" for number in range(5)]
        for number, name in enumerate(names):
            folder.drop(f".{name}", small(number))
            folder.note(name, small(number))
            del folder.dropped[f".{name}"]
        until(lambda: not folder.work(), "all to be cleaned up")  # or that would make room
        fill(target)
        for name in names:
            (folder.inbox / f".{name}").rename(folder.inbox / name)
        until(lambda: "No space left on device" in folder.log(process), "the log to say so")
        if where == "outbox":
            until(lambda: any("No space" in text for text in folder.degraded()), "status to say so")
        assert not any(folder.row(name) for name in names)
        shutil.rmtree(target / ".filler")
        folder.wait()
        until(lambda: not folder.degraded(), "it to heal")
        folder.check()
        assert {row["status"] for row in folder.rows()} <= {"accepted", "review"}
        folder.stop(process)


def test_38_what_comes_meanwhile(folder: Folder) -> None:
    """While something hinders it, the watcher counts what comes, and claims none of it."""
    process = folder.start()
    staging = folder.outbox / ".staging"
    staging.rmdir()
    staging.write_text("in the way")
    folder.drop("first.png", small(1))
    until(folder.degraded, "the trouble")
    for number in range(3):
        folder.drop(f"{number}.png", small(number))
    until(lambda: [state.waiting for state in states(folder.inbox)] == [3], "them to be counted")
    assert len(folder.work()) == 1
    staging.unlink()
    folder.wait()
    assert folder.stop(process) == 0
    folder.check()


@as_root
@pytest.mark.parametrize("where", ["inbox", "outbox"])
def test_39_read_only(folder: Folder, where: str) -> None:
    """A read-only folder is refused by name at the start; later it is waited for, and said."""
    target: Path = getattr(folder, where)
    with mounted(target, "-t", "tmpfs", "-o", "ro", "tmpfs"):
        done = folder.command("run")
        assert done.returncode == 78
        assert f"{where}: {target} cannot be written: Read-only file system" in done.stderr


@as_root
def test_39_read_only_later(folder: Folder) -> None:
    """An outbox that becomes read-only is waited for, and said; an inbox cannot become so while our lock is open."""
    with mounted(folder.outbox, "-t", "tmpfs", "tmpfs"):
        process = folder.start()
        folder.pulse()
        subprocess.run(["mount", "-o", "remount,ro", folder.outbox], check=True)
        folder.drop("a.png", small(40))
        until(lambda: any("Read-only file system" in text for text in folder.degraded()), "status to say so")
        subprocess.run(["mount", "-o", "remount,rw", folder.outbox], check=True)
        comes(folder, "a.png")
        until(lambda: not folder.degraded(), "it to heal")
        folder.check()
        folder.stop(process)


@as_root
@pytest.mark.parametrize("where", ["inbox", "outbox"])
def test_38_no_room_at_the_start(folder: Folder, where: str) -> None:
    """A disk that is full when it starts is no wrong configuration: the service is started again until there is room.

    Each try leaves nothing behind.
    """
    target: Path = getattr(folder, where)
    with mounted(target, "-t", "tmpfs", "-o", "size=1m,nr_inodes=50", "tmpfs"):
        (target / (".work" if where == "inbox" else ".staging")).mkdir()
        fill(target)
        for _ in range(2):
            done = folder.command("run")
            assert done.returncode == 1, done.stderr
            assert str(target) in done.stderr
            assert done.stderr.rstrip().endswith("No space left on device")
        assert not list(target.glob(".*/*.lock"))
        shutil.rmtree(target / ".filler")
        folder.start()
        folder.pulse()
        folder.check()


ORDINARY = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", "--"]


@as_root
def test_39_not_ours(folder: Folder) -> None:
    """An outbox that we may not write to is refused by name at the start; later it is waited for, and said."""
    process = folder.start(*ORDINARY)
    folder.pulse()
    (folder.outbox / ".staging").chmod(0o500)
    folder.outbox.chmod(0o500)
    folder.drop("a.png", small(39))
    until(lambda: any("Permission denied" in text for text in folder.degraded()), "status to say so")
    assert folder.row("a.png") is None
    refused = folder.launch(*ORDINARY)
    assert refused.wait(60) == 78
    assert f"outbox: {folder.outbox} cannot be written: Permission denied" in folder.log(refused)
    folder.outbox.chmod(0o700)
    (folder.outbox / ".staging").chmod(0o700)
    comes(folder, "a.png")
    folder.check()
    folder.stop(process)


@as_root
def test_40_without_permission(folder: Folder) -> None:
    """A file and a folder that may not be read are reported once and do not stop the others; read after a chmod."""
    folder.configure(**PLAIN)
    process = folder.start(*ORDINARY)
    folder.note("a.png", small(40))
    (folder.root / "a.png").write_bytes(small(40))
    (folder.root / "a.png").chmod(0)
    (folder.root / "a.png").rename(folder.inbox / "a.png")
    (folder.root / "closed").mkdir()
    (folder.root / "closed" / "b.png").write_bytes(small(41))
    (folder.root / "closed").chmod(0)
    folder.note("closed/b.png", small(41))
    (folder.root / "closed").rename(folder.inbox / "closed")
    (folder.root / "theirs").mkdir()
    (folder.root / "theirs" / "c.png").write_bytes(small(42))
    (folder.root / "theirs").chmod(0o500)
    folder.note("theirs/c.png", small(42))
    (folder.root / "theirs").rename(folder.inbox / "theirs")
    (folder.root / "listed").mkdir()  # may be listed, not entered
    (folder.root / "listed" / "d.png").write_bytes(small(43))
    (folder.root / "listed").chmod(0o600)
    folder.note("listed/d.png", small(43))
    (folder.root / "listed").rename(folder.inbox / "listed")
    folder.pulse()
    folder.pulse()
    until(lambda: folder.held() == {UNREADABLE: 3, UNTAKABLE: 1}, "status to say so")
    said = folder.command("status").stdout
    assert f"1 of them {UNREADABLE}: a.png" in said
    assert f"1 of them {UNTAKABLE}: theirs/c.png" in said
    assert f"2 folders closed, {UNREADABLE}: " in said
    for name in ("a.png", "closed", "listed"):
        assert folder.log(process).count(f"WARNING {name}: {UNREADABLE}") == 1
    assert folder.log(process).count(f"WARNING theirs/c.png: {UNTAKABLE}") == 1
    (folder.inbox / "a.png").chmod(0o600)
    (folder.inbox / "closed").chmod(0o700)
    (folder.inbox / "theirs").chmod(0o700)
    (folder.inbox / "listed").chmod(0o700)
    comes(folder, "a.png", "closed/b.png", "theirs/c.png", "listed/d.png")
    folder.check()


@as_root
def test_40_a_claimed_file_that_is_closed(folder: Folder) -> None:
    """A claimed scan that is closed to us, and its folder too, waits alone, and is read after a chmod."""
    folder.configure(**PLAIN)
    (folder.inbox / "sub").mkdir()
    folder.drop("sub/a.png", small(40))
    os.link(folder.inbox / "sub" / "a.png", folder.root / "its owners.png")
    os.chown(folder.root / "its owners.png", 65534, 65534)
    os.chown(folder.inbox / "sub", 65534, 65534)
    (folder.inbox / "sub").chmod(0o777)
    killed = folder.launch(*ORDINARY, fault="kill after rename inbox/sub")
    assert killed.wait() == -signal.SIGKILL
    (folder.root / "its owners.png").chmod(0o600)
    (folder.inbox / "sub").chmod(0o755)
    folder.drop("other.png", small(41))
    process = folder.start(*ORDINARY)
    comes(folder, "other.png")
    folder.pulse()
    why = UNREADABLE + NO_WAY_BACK
    assert folder.held() == {why: 1}
    assert not folder.degraded()
    assert f"1 of them {why}: sub/a.png" in folder.command("status").stdout
    assert folder.log(process).count(f"WARNING sub/a.png: {why}; it stays in {folder.inbox}/.work until") == 1
    (folder.root / "its owners.png").chmod(0o644)
    comes(folder, "sub/a.png")
    folder.check()


def test_40_a_bad_sector(folder: Folder) -> None:
    """A scan that the disk does not give goes back and is named; no row blames it, and the others are delivered."""
    folder.configure(**PLAIN, batch={"size": 256, "wait": 1.0})
    process = folder.start(fault="sector")
    for number, name in enumerate(("a.png", "sector.png", "z.png")):
        folder.drop(name, small(number))
    comes(folder, "a.png", "z.png")
    folder.pulse()
    assert (folder.inbox / "sector.png").read_bytes() == small(1)
    assert folder.held() == {DAMAGED: 1}
    assert not folder.degraded()
    assert folder.log(process).count(f"WARNING sector.png: {DAMAGED}") == 1
    assert re.search(r"WARNING .*/sector\.png: Input/output error; nothing is lost", folder.log(process))
    assert folder.stop(process) == 0
    folder.start()
    comes(folder, "sector.png")
    folder.check()


def test_40_a_path_that_is_too_long(folder: Folder) -> None:
    """A path that fits in the inbox but not in a claim is reported once, and does not stop the others."""
    folder.configure(**PLAIN)
    process = folder.start()
    room = 4090 - len(os.fsencode(folder.inbox)) - len("//a.png")
    place = folder.inbox
    while room > 0:
        place /= "d" * min(200, room)
        room -= 201
    place.mkdir(parents=True)
    (folder.root / "a.png").write_bytes(small(44))
    (folder.root / "a.png").rename(place / "a.png")
    folder.pulse()
    folder.pulse()
    until(lambda: folder.held().get("its path is too long") == 1, "status to say so")
    assert folder.log(process).count("its path is too long") == 1
    os.rename(place / "a.png", folder.inbox / "short.png")
    folder.note("short.png", small(44))
    comes(folder, "short.png")
    folder.check()


@pytest.mark.parametrize("how", ["renamed", "deleted"])
def test_41_a_new_inbox_in_the_old_ones_place(folder: Folder, how: str) -> None:
    """An inbox that is renamed or deleted, and made again, is watched again, with events; the old one's files stay."""
    folder.configure(watch="events", **PLAIN)
    process = folder.start()
    folder.pulse()
    until(lambda: not folder.work(), "all to be cleaned up")
    if how == "renamed":
        folder.inbox.rename(folder.root / "old")
    else:

        def is_deleted() -> bool:
            shutil.rmtree(folder.inbox, ignore_errors=True)  # the watcher may be writing its report into it
            return not folder.inbox.exists()

        until(is_deleted, "the inbox to go")
    until(lambda: f"{folder.inbox}: No such file or directory" in folder.log(process), "the log to say so")
    folder.inbox.mkdir()
    folder.pulse()
    until(lambda: not folder.degraded(), "it to heal")
    until(lambda: watched_by(process) >= {folder.inbox.stat().st_ino}, "events from the new one")
    folder.pulse()
    folder.check()
    assert folder.stop(process) == 0


def watched_by(process: subprocess.Popen[str]) -> set[int]:
    """The inodes that a process has inotify watches on."""
    lines: list[str] = []
    for path in Path(f"/proc/{process.pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # it has closed that one meanwhile
            lines += path.read_text().splitlines()
    return {int(line.split("ino:")[1].split()[0], 16) for line in lines if line.startswith("inotify wd:")}


@as_root
@pytest.mark.parametrize("where", ["inbox", "outbox"])
def test_42_unmounted(folder: Folder, where: str) -> None:
    """While a folder is not mounted nothing is written where it was, and that is said; mounted again, all goes on."""
    target: Path = getattr(folder, where)
    store = folder.root / "store"
    store.mkdir()
    with mounted(target, "--bind", str(store)):
        process = folder.start()
        folder.pulse()
        if where == "inbox":
            folder.note("a.png", small(42))
            (store / "a.png.part").write_bytes(small(42))
        subprocess.run(["umount", "--lazy", str(target)], check=True)
        if where == "outbox":
            folder.drop("a.png", small(42))
        until(lambda: "mount it again" in folder.log(process), "the log to say so")
        if where == "outbox":
            until(lambda: any("mount it again" in text for text in folder.degraded()), "status to say so")
        assert list(target.iterdir()) == []
        subprocess.run(["mount", "--bind", str(store), str(target)], check=True)
        if where == "inbox":
            (target / "a.png.part").rename(target / "a.png")
        comes(folder, "a.png")
        until(lambda: not folder.degraded(), "it to heal")
        folder.check()
        assert folder.stop(process) == 0


@as_root
def test_42_unmounted_between_two_watchers(folder: Folder) -> None:
    """A batch decided on an outbox that is not mounted at the next start is waited for, not taken for published."""
    store = folder.root / "store"
    store.mkdir()
    with mounted(folder.outbox, "--bind", str(store)):
        folder.drop("a.png", small(42))
        process = folder.launch(fault="kill after rename .done")
        assert process.wait(60) == -signal.SIGKILL
        subprocess.run(["umount", "--lazy", str(folder.outbox)], check=True)
        process = folder.start()
        until(lambda: "is claimed for the outbox" in folder.log(process), "the log to say so")
        assert len(folder.work()) == 1
        assert folder.stop(process) == 0
        assert folder.deliveries() == []
        subprocess.run(["mount", "--bind", str(store), str(folder.outbox)], check=True)
        folder.start()
        comes(folder, "a.png")
        folder.check()


def test_42_another_outbox(folder: Folder) -> None:
    """A batch decided for one outbox is not taken for published when another one is configured."""
    folder.drop("a.png", small(42))
    process = folder.launch(fault="kill after rename .done")
    assert process.wait(60) == -signal.SIGKILL
    (folder.root / "elsewhere").mkdir()
    folder.configure(outbox="elsewhere")
    done = folder.command("run", "--once")
    assert done.returncode == 1
    assert f"is claimed for the outbox {folder.outbox} " in done.stderr
    folder.configure()
    folder.start()
    comes(folder, "a.png")
    folder.check()


@as_root
@pytest.mark.parametrize("where", ["inbox", "outbox"])
def test_43_on_different_file_systems(folder: Folder, where: str) -> None:
    """Inbox and outbox may lie on different file systems: originals are copied then."""
    with mounted(getattr(folder, where), "-t", "tmpfs", "tmpfs"):
        process = folder.start()
        for number in range(3):
            folder.note(f"{number}.png", small(number))
            (folder.inbox / f"{number}.png").write_bytes(small(number))
        folder.wait()
        folder.check()
        folder.stop(process)


@as_root
def test_43_a_part_of_the_inbox_on_another(folder: Folder) -> None:
    """What lies on another file system within the inbox cannot be claimed: that is said, and the rest is read."""
    (folder.inbox / "other").mkdir()
    with mounted(folder.inbox / "other", "-t", "tmpfs", "tmpfs"):
        process = folder.start()
        (folder.inbox / "other" / "a.png").write_bytes(small(43))
        folder.pulse()
        until(lambda: "lies on another file system than the inbox" in folder.held(), "status to say so")
        for _ in range(3):
            folder.pulse()
        assert not folder.degraded()
        assert folder.stop(process) == 0
    folder.check()


@pytest.mark.parametrize(("inbox", "outbox"), [("inbox", "inbox/out"), ("outbox/in", "outbox"), ("inbox", "inbox")])
def test_44_within_each_other(folder: Folder, inbox: str, outbox: str) -> None:
    """An outbox in the inbox, or the other way round, is refused at the start."""
    for path in (inbox, outbox):
        (folder.root / path).mkdir(exist_ok=True)
    folder.configure(inbox=inbox, outbox=outbox)
    done = folder.command("run")
    assert done.returncode == 78
    assert "lie within each other" in done.stderr


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) { struct stat s; return stat(CLOCK_FILE, &s) ? 0 : s.st_size ? -3600 : 3600; }
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += shift();
    return result;
}
time_t time(time_t *t) { struct timespec n; clock_gettime(CLOCK_REALTIME, &n); if (t) *t = n.tv_sec; return n.tv_sec; }
int gettimeofday(struct timeval *t, void *z) {
    struct timespec n; clock_gettime(CLOCK_REALTIME, &n); t->tv_sec = n.tv_sec; t->tv_usec = n.tv_nsec / 1000; return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: for a clock that jumps in one process only")
def test_45_the_clock_jumps(folder: Folder) -> None:
    """When the clock jumps an hour ahead and an hour back, files settle and are delivered as before."""
    jump = folder.root / "jump"
    (folder.root / "clock.c").write_text(CLOCK.replace("CLOCK_FILE", json.dumps(str(jump))))
    library = folder.root / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, folder.root / "clock.c", "-ldl"], check=True)
    folder.configure(settle=0.5, **PLAIN)
    folder.start(LD_PRELOAD=str(library))
    folder.pulse()
    names = [folder.deliveries()[-1].name]
    for content in (b"", b"back"):
        folder.drop(f"{len(content)}.png", small(len(content)))
        jump.write_bytes(content)
        folder.pulse()
        names.append(folder.deliveries()[0 if content else -1].name)
    folder.check()
    hours = [int(name[9:11]) for name in names]
    assert [(hour - hours[0]) % 24 for hour in hours] in ([0, 1, 23], [0, 2, 23], [0, 1, 0], [0, 1, 24])


# Bad images


def test_46_bad_images_among_good_ones(folder: Folder) -> None:
    """Among sixty good scans the odd ones are read like them, and each bad one fails with its reason, alone."""
    drawn = Image.open(io.BytesIO(crop(46))).convert("L")
    whole = {"png": crop(46), "jpg": saved(drawn, "JPEG", quality=95), "tif": tiff(drawn)}
    header = bytearray(whole["png"])
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    pages = bytearray(tiff(drawn, Image.new("L", (30, 30), 200), drawn))
    link = int.from_bytes(pages[4:8], "little")
    second = int.from_bytes(pages[link + 2 + 12 * int.from_bytes(pages[link : link + 2], "little") :][:4], "little")
    for entry in range(second + 2, second + 2 + 12 * int.from_bytes(pages[second : second + 2], "little"), 12):
        if int.from_bytes(pages[entry : entry + 2], "little") == 259:
            pages[entry + 8 : entry + 10] = (7777).to_bytes(2, "little")  # a compression that nobody knows
    text = zlib.compress(bytes(300_000_000), 9)
    chunk = b"zTXtComment\0\0" + text
    comment = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    bad = {
        "cut.png": (whole["png"][:-60], "truncated"),
        "cut.jpg": (whole["jpg"][: len(whole["jpg"]) // 2], "truncated"),
        "zeros.png": (whole["png"][:300] + bytes(len(whole["png"]) - 300), "truncated"),
        "zeros.jpg": (whole["jpg"][:300] + bytes(len(whole["jpg"]) - 300), "truncated"),
        "wide.png": (bytes(header), "too_large"),
        "bomb.png": (saved(Image.new("1", (30_000, 30_000)), "PNG"), "too_large"),
        "comment.png": (whole["png"][:33] + comment + whole["png"][33:], None),  # read or failed, but not eaten up by
        "text.png": (b"hello, I am a text", "unsupported"),
    }
    rgb = Image.merge("RGB", (drawn, drawn, drawn))
    alpha = rgb.copy()
    alpha.putalpha(255)
    exif = Image.Exif()
    exif[0x0112] = 6
    odd = {
        "grey.jpg": whole["jpg"],
        "grey.tif": whole["tif"],
        "16.png": saved(Image.fromarray(np.asarray(drawn).astype(np.uint16) * 257), "PNG"),
        "1.png": saved(drawn.point(lambda value: 255 * (value > 128)).convert("1"), "PNG"),
        "palette.png": saved(drawn.convert("P"), "PNG"),
        "alpha.png": saved(alpha, "PNG"),
        "cmyk.jpg": saved(rgb.convert("CMYK"), "JPEG", quality=95),
        "turned.jpg": saved(drawn.rotate(90, expand=True), "JPEG", quality=95, exif=exif),
    }
    for name, (data, _) in bad.items():
        folder.drop(name, data)
    for name, data in odd.items():
        folder.drop(name, data)
    folder.drop("pages.tif", bytes(pages))
    folder.pages["pages.tif"] = 3
    for number in range(60):
        folder.drop(f"good/{number}.png", small(number))
    folder.configure(patience=0, workers=2, batch={"size": 256, "wait": 2}, limits={"seconds": 5})
    folder.start()
    folder.wait(len(folder.dropped) + 2)
    folder.check()
    rows = {(unescape(row["file"]), row["page"]): row for row in folder.rows()}
    for name, (_, reason) in bad.items():
        row = rows[name, "1"]
        if reason is not None:
            assert (row["status"], row["reason"]) == ("failed", reason), name
    for name in [*odd, *(f"good/{number}.png" for number in range(60))]:
        assert (rows[name, "1"]["status"] != "failed", rows[name, "1"]["value"]) == (True, "7"), name
    assert [rows["pages.tif", page]["status"] == "failed" for page in "123"] == [False, True, False]
    assert rows["pages.tif", "3"]["value"] == "7"


# Configuration


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"setle": 1}, "unknown key 'setle'; did you mean 'settle'?"),
        ({"settle": "soon"}, "settle is 'soon'"),
        ({"limits": {"memory": 5}}, "limits.memory is 5"),
        ({"inbox": "nowhere"}, "nowhere is not a folder; make it, or set inbox:"),
        ({"model": "nowhere"}, "No such file or directory; train one with 'make train'"),
    ],
)
def test_47_wrong_configuration(folder: Folder, settings: dict[str, object], words: str) -> None:
    """A configuration that will not do is one line on stderr, and exit code 78: systemd must not restart."""
    folder.configure(**settings)
    done = folder.command("run")
    assert done.returncode == 78
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_48_a_model_that_is_not_what_its_card_says(folder: Folder) -> None:
    """A network with other bytes than its card names is refused at the start, with exit code 78 and one line."""
    shutil.copytree(ROOT / "model", folder.root / "model")
    with (folder.root / "model" / "digits.tflite").open("ab") as file:
        file.write(b"!")
    folder.configure(model=str(folder.root / "model"))
    done = folder.command("run")
    assert done.returncode == 78
    assert "put back the file that belongs to the card" in done.stderr
    assert len(done.stderr.splitlines()) == 1
