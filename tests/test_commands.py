"""The command line as a user meets it: one clear line for what is wrong, and the exit code that tells what to do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, ROOT, Folder, crop, read_csv, until

from watcher.__main__ import main
from watcher.service import version

SAMPLES = ROOT / "samples"


def expected(name: str) -> list[str]:
    """What the samples hold: their names begin with it, a value for each page."""
    start = name.partition("_")[0]
    return [""] if start in {"blank", "broken.png"} else start.split("-")


def test_each_sample_is_read_right(folder: Folder) -> None:
    """The samples come out with their values, the blank one as blank, the broken one as failed."""
    folder.configure(patience=1.0, workers=2)
    names = [path.name for path in SAMPLES.iterdir() if path.suffix in {".png", ".jpg", ".webp", ".tif", ".bmp"}]
    for name in names:
        folder.drop(name, (SAMPLES / name).read_bytes())
    done = folder.command("run", "--once")
    assert done.returncode == 0, done.stderr
    read = {name: [row for row in folder.rows() if row["file"] == name] for name in names}
    assert {name: [row["value"] for row in rows] for name, rows in read.items()} == {
        name: expected(name) for name in names
    }
    assert [read[name][0]["status"] for name in ("blank_box.png", "broken.png")] == ["blank", "failed"]
    # Its 7 leans like a 1: the confidence lies at the very threshold, and either status is right.
    clear = {*names} - {"1847_ballpoint.jpg"}
    assert {row["status"] for name in clear for row in read[name] if row["value"]} == {"accepted"}


def test_read(folder: Folder, tmp_path: Path) -> None:
    """`read` takes images and folders of them, prints CSV, draws pictures, and says why one fails: exit code 1."""
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.png").write_bytes(crop())
    (tmp_path / "b.png").write_bytes(b"text")
    pictures = tmp_path / "pictures"
    scans = [tmp_path / "b.png", tmp_path / "scans" / "a.png"]
    done = folder.command("read", str(tmp_path / "scans"), str(tmp_path / "b.png"), "--picture", str(pictures))
    assert done.returncode == 1
    (why,) = done.stderr.splitlines()
    assert why.startswith(f"WARNING {tmp_path / 'b.png'}: unsupported: starts with 74 65 78 74, not PNG"), why
    rows = read_csv(done.stdout.encode())
    assert [(row["status"], row["value"]) for row in rows][1] == ("failed", "")
    assert rows[0]["value"] == "7"
    drawn = sorted(str(path) for path in pictures.rglob("*.png"))
    assert sorted(row["thumbnail"] for row in rows) == drawn == [f"{pictures}{path}.png" for path in scans]
    assert folder.command("read", str(tmp_path / "scans")).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it drops capabilities")
def test_what_may_not_be_read(folder: Folder) -> None:
    """A file or a folder that is closed to us is a line with its name and why; the others are read, and it exits 1."""
    scans = folder.root / "scans"
    for name in ("closed", "listed", "open"):
        (scans / name).mkdir(parents=True)
        (scans / name / "a.png").write_bytes(crop())
    (scans / "b.png").write_bytes(crop())
    (scans / "b.png").chmod(0)
    (scans / "closed").chmod(0)
    (scans / "listed").chmod(0o600)  # may be listed, not entered
    ordinary = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"]
    for files, wanted, held in (
        ([scans], ["open/a.png"], ["closed", "listed", "b.png"]),
        ([scans / "closed", scans / "open" / "a.png", scans / "b.png"], ["open/a.png"], ["closed", "b.png"]),
        ([scans / "closed" / "a.png"], [], ["closed/a.png"]),
    ):
        done = subprocess.run(
            [*ordinary, sys.executable, "-m", "watcher", "read", *map(str, files), "--config", str(folder.config)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert [(row["file"], row["value"]) for row in read_csv(done.stdout.encode())] == [
            (str(scans / name), "7") for name in wanted
        ]
        why = "no permission to read it; it is left out until that is put right"
        assert done.stderr.splitlines() == [f"WARNING {scans / name}: {why}" for name in held]


@pytest.mark.parametrize("thumbnails", ["review", "none"])
def test_pictures_that_were_asked_for(folder: Folder, thumbnails: str) -> None:
    """`read --picture` draws each page, whatever the settings say of the thumbnails of deliveries."""
    folder.configure(thumbnails=thumbnails)
    (folder.root / "a.png").write_bytes(crop())
    done = folder.command("read", str(folder.root / "a.png"), "--picture", str(folder.root / "pictures"))
    (row,) = read_csv(done.stdout.encode())
    assert row["status"] == "accepted"
    assert list((folder.root / "pictures").rglob("*.png"))


def test_steps_in_a_folder_to_come(folder: Folder) -> None:
    """`read --explain` makes the folder with all that leads to it, before it reads."""
    (folder.root / "a.png").write_bytes(crop())
    steps = folder.root / "a" / "new" / "folder"
    done = folder.command("read", str(folder.root / "a.png"), "--explain", str(steps))
    assert done.returncode == 0, done.stderr
    assert list(steps.rglob("*.png"))
    refused = folder.command("read", str(folder.root / "a.png"), "--explain", str(folder.config / "in-a-file"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"digitdrop: {folder.config / 'in-a-file'} is a file; name a folder for the pictures\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean 'run'?"),
        (["read"], "the following arguments are required: FILE"),
        (["read", "nowhere.png"], "nowhere.png: no such file"),
        (["read", ""], "argument FILE: its name is empty"),
        (["read", "samples", "--picture", "README.md"], "README.md is a file; name a folder for the pictures"),
        (["run", "--twice"], "unrecognized arguments: --twice"),
        (
            ["--config", "my folder/c.yaml", "status"],
            "status: the command goes first: digitdrop status --config 'my folder/c.yaml'",
        ),
        (["--config", "c.yaml", "sttaus"], "unrecognized arguments: sttaus"),
        (["run", "status"], "unrecognized arguments: status"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str) -> None:
    """Wrong usage is one line on stderr, and exit code 2."""
    done = subprocess.run(
        [sys.executable, "-m", "watcher", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_promise_that_the_calibration_cannot_keep(folder: Folder) -> None:
    """A promise beyond the calibration is a line for each kind, at the start and in `check`, and accepts nothing."""
    folder.configure(accept={"max_error": 0.00001}, settle=0.0)
    folder.drop("7.png", crop())
    done = folder.command("run", "--once")
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 2  # of digits and of fields
    for warning in warnings:
        assert "accept.max_error 1e-05 cannot be promised" in warning
        assert "more labelled crops are missing" in warning
    assert [row["status"] for row in folder.rows()] == ["review"]
    checked = folder.command("check")
    assert checked.returncode == 1
    assert "more labelled crops are missing" in checked.stdout


@pytest.mark.parametrize("arguments", [["read", str(SAMPLES)], ["status"], ["check"]], ids=["read", "status", "check"])
def test_output_that_cannot_be_written(folder: Folder, arguments: list[str]) -> None:
    """Where the disk that the output goes to is full, that is one line which names the output, and exit code 1."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "watcher", *arguments, "--config", str(folder.config)],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "digitdrop: standard output: No space left on device"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["read", str(SAMPLES / "blank_box.png")], 0), (["status"], 1), (["check"], 0)],
    ids=["read", "status", "check"],
)
def test_output_that_is_closed(folder: Folder, arguments: list[str], code: int) -> None:
    """Where nobody wants the output the exit code alone tells, and there is no traceback."""
    command = [sys.executable, "-m", "watcher", *arguments, "--config", str(folder.config)]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (code, "")


def test_a_promise_that_holds_less_for_other_writing(folder: Folder) -> None:
    """What the shipped settings promise less of is told at the start, the number first, and is no warning."""
    done = folder.command("run", "--once")
    (line,) = [line for line in done.stderr.splitlines() if "may be wrong" in line]
    assert re.match(
        r"INFO fields: up to \d\.\d\d% of the accepted may be wrong in other writing of the same people; ", line
    )
    assert "WARNING" not in done.stderr


def test_what_is_no_file_is_left_out(folder: Folder) -> None:
    """A pipe that is called like a scan holds nothing up: the others are read."""
    (folder.root / "a.png").write_bytes(crop())
    os.mkfifo(folder.root / "pipe.png")
    done = folder.command("read", str(folder.root / "a.png"), str(folder.root / "pipe.png"))
    assert done.returncode == 1
    assert [row["value"] for row in read_csv(done.stdout.encode())] == ["7"]
    assert f"{folder.root / 'pipe.png'}: no file; it is left out" in done.stderr


def test_what_vanishes_while_it_is_read(folder: Folder) -> None:
    """It is a line with its name and why; the others are read, and it exits 1."""
    paths = [folder.root / name for name in ("a.png", "b.png", "c.png")]
    for path in paths:
        path.write_bytes(crop())
    command = [sys.executable, "-m", "watcher", "read", *map(str, paths), "--config", str(folder.config)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        begun = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        worker = int(until(begun.read_text, "a worker").split()[0])
        os.kill(worker, signal.SIGSTOP)  # what there is was listed, and nothing is read
        for path in paths[:2]:
            path.unlink()
        os.kill(worker, signal.SIGCONT)
        out, err = process.communicate()
    assert process.returncode == 1
    assert [row["file"] for row in read_csv(out)] == [str(paths[2])]
    why = "No such file or directory; it is left out until that is put right"
    assert sorted(err.decode().splitlines()) == [f"WARNING {path}: {why}" for path in paths[:2]]


def test_interrupted_at_its_start(folder: Folder) -> None:
    """Ctrl-C while the workers are on their way, to all of the terminal's group, is no error and no traceback."""
    process = folder.launch("setsid")
    begun = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(begun.read_text, "its workers")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(PATIENCE) in {0, 128 + signal.SIGINT}
    assert "Traceback" not in folder.log(process)
    assert "ended at its start" not in folder.log(process)


def test_help() -> None:
    """`--help` names each command with what it does, which one is meant without any, and the exit codes."""
    done = subprocess.run(
        [sys.executable, "-m", "watcher", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for command in ("run", "read", "check", "status"):
        assert f"\n    {command}" in done.stdout
    said = " ".join(done.stdout.split())
    assert "Without a command: run. Exit codes: 0 fine, 2 wrong usage, 78 wrong configuration or model, 1 the" in said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` names the program and what is installed."""
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"digitdrop {version()}\n"
