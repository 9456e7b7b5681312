"""The units: systemd accepts them without a warning, and finds little to attack."""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from conftest import ROOT

from watcher.workers import GRACE

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = ROOT / "systemd" / "service.sh"
UNITS = ("digitdrop.service", "digitdrop@.service")
EXPOSURE = float(re.findall(r"an exposure of ([0-9.]+) of 10", (ROOT / "README.md").read_text(encoding="utf-8"))[0])

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")


def setting(unit: str, key: str) -> str:
    """What a unit says under a key, the last time it does."""
    return str(re.findall(rf"^{key}=(.*)$", (ROOT / "systemd" / unit).read_text(), re.MULTILINE)[-1])


@needs_analyze
@pytest.mark.parametrize("unit", UNITS)
def test_it_verifies(unit: str, tmp_path: Path) -> None:
    """systemd-analyze has nothing to say of a unit."""
    program = tmp_path / "digitdrop"  # it is only there where the service is installed
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = (ROOT / "systemd" / unit).read_text()
    (tmp_path / unit).write_text(text.replace(setting(unit, "ExecStart").split()[0], str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_analyze
@pytest.mark.parametrize("unit", UNITS)
def test_its_exposure(unit: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The sandbox leaves no more exposure, as `systemd-analyze security` counts, than README says; it is printed."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(ROOT / "systemd" / unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    score = float(re.findall(r"Overall exposure level for \S+ ([0-9.]+)", done.stdout)[0])
    with capsys.disabled():
        print(f"\n{unit}: exposure {score} of 10")
    assert score <= EXPOSURE


def test_the_two_are_alike() -> None:
    """But for names and paths the template is the plain unit."""
    plain, template = ((ROOT / "systemd" / unit).read_text().splitlines() for unit in UNITS)
    differing = [line[2:] for line in difflib.ndiff(plain, template) if line[:1] in "+-" and line[2:3] != "#"]
    assert {line.partition("=")[0] for line in differing} == {
        "Description",
        "RequiresMountsFor",
        "ExecStart",
        "StateDirectory",
    }


def test_the_exit_codes_that_a_restart_does_not_help() -> None:
    """Wrong configuration and wrong usage are not tried again, and stopping leaves more time than a batch takes."""
    for unit in UNITS:
        assert setting(unit, "RestartPreventExitStatus") == "78 2"
        assert float(setting(unit, "TimeoutStopSec")) > 4 * GRACE


@pytest.mark.parametrize("action", ["install", "remove"])
@pytest.mark.parametrize("name", ["inbox", "outbox", "config", "../x", "a/b", "a b", "."])
def test_a_name_that_is_none(action: str, name: str) -> None:
    """What cannot be the name of an inbox is refused before anything is done, also where it is to be removed."""
    done = subprocess.run(["sh", SCRIPT, action, name], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"digitdrop: '{name}' cannot be the name of an inbox; letters, digits, - and _ can\n"


def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    """A mistyped name is no service: nothing is removed. One that is there is, and with PURGE=1 its data."""
    functions = SCRIPT.read_text().split("\ncase ${1:-} in")[0]
    (tmp_path / "meters-of-a-test/inbox").mkdir(parents=True)
    (tmp_path / "meters-of-a-test.yaml").touch()

    def remove(name: str) -> subprocess.CompletedProcess[str]:
        ours = f"etc={tmp_path} data={tmp_path} PURGE=1; systemctl() {{ :; }}; remove_service {name}"
        return subprocess.run(["sh", "-c", f"{functions}\n{ours}"], capture_output=True, text=True, check=False)

    mistyped = remove("metres-of-a-test")
    assert mistyped.returncode == 1
    assert mistyped.stderr.startswith("digitdrop: no such service: 'metres-of-a-test' has no settings in ")
    assert len(list(tmp_path.iterdir())) == 2
    removed = remove("meters-of-a-test")
    assert (removed.returncode, removed.stdout) == (
        0,
        "digitdrop: removed the inbox meters-of-a-test and its data\n",
    )
    assert list(tmp_path.iterdir()) == []
