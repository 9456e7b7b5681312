"""`check` finds what goes wrong in real life before it does, and says what to do."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ROOT, Folder
from test_mounts import mount

from watcher.__main__ import main
from watcher.check import CHECKS, IN_FOLDERS, Advice, check_all
from watcher.claims import STAMP, Claims
from watcher.config import Settings
from watcher.errors import ConfigError, DigitdropError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK = dict(CHECKS)
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Folders that other users can reach."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    (root / "inbox").mkdir()
    (root / "outbox").mkdir()
    yield Settings(inbox=root / "inbox", outbox=root / "outbox", model=ROOT / "model")
    shutil.rmtree(root)


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user without rights."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def check(folder: Folder, *inside: str) -> subprocess.CompletedProcess[str]:
    """`check` as a process, in surroundings that another command makes."""
    return subprocess.run(
        [*inside, sys.executable, "-m", "watcher", "check", "--config", str(folder.config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_thing_has_a_line(folder: Folder) -> None:
    """Each line says fit, or what to do; where nothing stands in the way the exit code is 0."""
    done = folder.command("check")
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]  # which go on
    assert [line.split()[1].rstrip(":") for line in lines] == ["config", *LOOK]
    assert lines[0].split() == ["fit", "config:", str(folder.config)]
    assert all(line.startswith(("fit ", "ADVICE ")) for line in lines)


def test_which_configuration(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the places where it may be, the one in force is named, or that there is none."""
    monkeypatch.chdir(folder.root)
    monkeypatch.setattr("watcher.__main__.CONFIGS", [Path("config.yaml"), Path("service.yaml")])
    for name in ("config.yaml", "service.yaml"):
        assert main(["check"]) == 0
        assert capsys.readouterr().out.splitlines()[0] == f"fit     config:    {folder.root / name}"
        if name == "config.yaml":
            folder.config.rename(folder.root / "service.yaml")
    (folder.root / "service.yaml").unlink()
    main(["check"])
    words = f"none found, neither config.yaml nor service.yaml: defaults, with the folders of {folder.root}"
    assert capsys.readouterr().out.splitlines()[0] == f"fit     config:    {words}"


def test_a_folder_that_is_missing(folder: Folder) -> None:
    """A missing folder is one line with its remedy; what would be looked for in it is left out."""
    folder.outbox.rmdir()
    done = folder.command("check")
    assert done.returncode == 78
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("NOT FIT")]
    assert line.endswith(f"outbox: {folder.outbox} is not a folder; make it, or set outbox: in the configuration")


def test_the_worst_is_the_exit_code(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Where several things are not fit, that which systemd must not start again for is told, whatever comes after."""
    several = settings.model_copy(update={"model": Path("/nowhere"), "metrics": Path("/nowhere/x.prom")})
    assert check_all(several, "config.yaml") == 78
    unfit = [line.split()[2] for line in capsys.readouterr().out.splitlines() if line.startswith("NOT FIT")]
    assert unfit == ["model:", "metrics:"]
    assert check_all(several.model_copy(update={"model": settings.model}), "config.yaml") == 1


def test_a_field_network_that_cannot_be_run(settings: Settings, tmp_path: Path) -> None:
    """What `run` refuses to start with is not fit: both networks are tried."""
    model = Path(shutil.copytree(ROOT / "model", tmp_path / "model"))
    (model / "fields.tflite").write_bytes(b"no network")
    entry = json.loads((model / "card.json").read_text(encoding="utf-8"))
    entry["files"]["fields.tflite"] = {"sha256": hashlib.sha256(b"no network").hexdigest(), "bytes": 10}
    (model / "card.json").write_text(json.dumps(entry), encoding="utf-8")
    assert check_all(settings.model_copy(update={"model": model}), "config.yaml") == 78


@as_root
def test_folders_that_cannot_be_reached(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Where what holds the folders is closed to the service's user, that is one line of the table, which goes on."""
    settings.inbox.parent.chmod(0o700)
    with nobody():
        assert check_all(settings, "config.yaml") == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"NOT FIT folders:   {settings.inbox}: Permission denied" in lines
    assert [line.split()[1 + line.startswith("NOT")].rstrip(":") for line in lines if line[0] != " "] == [
        "config",
        *(name for name in LOOK if name not in IN_FOLDERS),
    ]


@as_root
def test_a_watcher_of_another_user(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Its lock is named by `check`, and once in the log; nothing is taken over from it, and nothing held up by it."""
    for folder in (settings.inbox, settings.inbox / ".work", settings.outbox):
        folder.mkdir(exist_ok=True)
        os.chown(folder, NOBODY, NOBODY)
    (settings.inbox / ".work" / "20261122T153255Z-000001-abcd.open").mkdir()
    lock = settings.inbox / ".work" / "abcd.lock"
    lock.touch(0o644)
    with nobody():
        with pytest.raises(Advice, match=f"{lock} is 0644 of root:root: nobody cannot take over"):
            LOOK["folders"](settings)
        with Claims(settings.inbox) as claims:
            assert claims.adopt() == claims.adopt() == []
            assert claims.undecided() == []
    (line,) = caplog.messages
    assert line.startswith(f"{lock}: Permission denied; it is another user's")


@as_root
def test_folders_of_another_user(settings: Settings) -> None:
    """A folder that the service's user may not write is named, with its mode, its owner and who it is that may not."""
    with nobody(), pytest.raises(ConfigError) as caught:
        LOOK["folders"](settings)
    assert f"inbox: {settings.inbox} cannot be written" in str(caught.value)
    assert "0755 of root:root, and this is nobody" in str(caught.value)
    assert caught.value.exit_code == 78


@as_root
def test_folders_whose_names_begin_alike(settings: Settings) -> None:
    """It is the closed one whose mode is told."""
    outbox = Path(f"{settings.inbox}-read")
    outbox.mkdir(0o750)
    settings.inbox.chmod(0o777)
    with nobody(), pytest.raises(ConfigError, match=rf"; {outbox} is 0750 of root:root, and this is nobody"):
        LOOK["folders"](settings.model_copy(update={"outbox": outbox}))


@as_root
def test_a_folder_in_the_inbox_of_another_user(settings: Settings) -> None:
    """A subfolder that scans cannot be taken out of is named, with the commands that help."""
    for path in (settings.inbox, settings.outbox):
        path.chmod(0o777)
    (settings.inbox / "scanner").mkdir()
    with nobody():
        with pytest.raises(DigitdropError, match=r"scanner is 0755 of root:root: nobody cannot take scans out of it"):
            LOOK["folders"](settings)
        assert "nogroup" in LOOK["user"](settings)
    (settings.inbox / "scanner").chmod(0o777)
    for ignored in (".Trash-1000", "@eaDir"):  # nothing is taken from there
        (settings.inbox / ignored).mkdir(0o700)
    (settings.inbox / "link").symlink_to("/root")
    with nobody():
        assert "can be written" in LOOK["folders"](settings)


@as_root
def test_root_is_told_to_check_as_the_service(settings: Settings) -> None:
    """Root may do everything, so its check proves little."""
    os.chown(settings.inbox, NOBODY, NOBODY)
    with pytest.raises(Advice, match="sudo -u nobody digitdrop check"):
        LOOK["user"](settings)


@as_root
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("size=4m", "outbox: only 4.19 MB free on the disk of"),
        ("size=256m,nr_inodes=500", "inodes free on the disk of"),
    ],
)
def test_a_full_disk(folder: Folder, options: str, words: str) -> None:
    """Little room or few inodes are found, and so is that originals have to be copied to another disk."""
    mount = f'mount -t tmpfs -o {options} t "$0" && exec "$@"'
    done = check(folder, "unshare", "--mount", "sh", "-c", mount, str(folder.outbox))
    assert done.returncode == 1, done.stderr
    assert words in done.stdout
    assert "outbox on tmpfs; originals are copied (Invalid cross-device link)" in done.stdout


@as_root
def test_no_inotify_left(folder: Folder) -> None:
    """Where the system gives no more file events, the key to turn is named."""
    limit = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    done = check(folder, "unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh")
    assert done.returncode == 1
    assert "NOT FIT watch:     no file events: " in done.stdout, done.stdout + done.stderr
    assert "raise fs.inotify.max_user_instances, or set watch: scan" in done.stdout


def test_the_clock(settings: Settings) -> None:
    """A delivery from the future shows that the clock is wrong, or was."""
    for seconds, wrong in ((-60, False), (3 * 3600, True)):
        stamp = time.strftime(STAMP, time.gmtime(time.time() + seconds))
        (settings.outbox / f"{stamp}-000001-abcd").mkdir()
        said = ""
        try:
            LOOK["clock"](settings)
        except DigitdropError as error:  # without a time server it is advice
            said = str(error)
        assert ("the last delivery is 3.0 hours from now" in said) == wrong


@pytest.mark.parametrize(
    ("change", "thing", "words"),
    [
        ({"workers": 256, "limits": {"memory": 600_000_000}}, "limits", "256 workers need some 30.7 GB"),
        (
            {"workers": 1, "limits": {"bytes": 2_000_000_000, "memory": 600_000_000}},
            "limits",
            r"of limits\.memory 600 MB some 200 MB are left for a scan, limits\.bytes is 2 GB; lower that",
        ),
        ({"metrics": Path("/nowhere/x.prom")}, "metrics", "/nowhere is not a folder"),
        ({"accept": {"max_error": 0.000001}}, "model", "no digits, no fields\ndigits: .* cannot be promised"),
        (
            {"accept": {"max_error": 0.005}},
            "model",
            r" on\ndigits: up to 1\.00% of the accepted may be wrong on .* 0\.005 holds on",
        ),
    ],
)
def test_settings_that_will_not_do(settings: Settings, change: dict[str, Any], thing: str, words: str) -> None:
    """What can be known of a setting before it is needed is said."""
    changed = Settings.model_validate(settings.model_dump() | change)
    if "need" in words and os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > 30e9:
        pytest.skip("this machine has the memory")
    with pytest.raises(DigitdropError, match=words):
        LOOK[thing](changed)


def test_the_field_rules(settings: Settings) -> None:
    """Each rule has its line, with a value that keeps it; one that no value seems to keep makes it advice."""
    assert LOOK["fields"](settings) == "none, so that a value may have any number of digits"
    card = {"name": "card", "files": "*_card.*", "length": 16, "check": "luhn"}
    code = {"name": "code", "files": "*_code.*", "length": [1, 5], "pattern": "[A-Z]+"}
    fit = Settings.model_validate(settings.model_dump() | {"fields": [card]})
    assert re.fullmatch(r"card, for \*_card\.\*: 16 digits, check digit of luhn; such as \d{16}", LOOK["fields"](fit))
    with pytest.raises(Advice) as caught:
        LOOK["fields"](Settings.model_validate(settings.model_dump() | {"fields": [card, code]}))
    assert str(caught.value).splitlines()[1] == (
        "code, for *_code.*: 1 to 5 digits, pattern [A-Z]+; none of 1,000 made-up values keeps it: see whether one can"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "deliveries stay whole, as keep_days: is not set"),
        (
            {"keep_days": 30.0},
            "the originals of what was read and the thumbnails of a delivery are removed after 30 days",
        ),
        ({"keep_days": 0.5, "originals": "delete"}, "the thumbnails of a delivery are removed after 0.5 days"),
    ],
)
def test_what_is_removed_of_old_deliveries(settings: Settings, change: dict[str, Any], words: str) -> None:
    """What `keep_days` deletes, and after how long, is said before it does."""
    assert LOOK["keep_days"](settings.model_copy(update=change)).startswith(words)


def test_events_where_there_are_none(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inbox on the network is told of by its kind; file events that are asked for there are not fit."""
    mount(monkeypatch, ("/", "ext4"), (settings.inbox, "nfs4"))
    assert LOOK["watch"](settings).startswith("the inbox is on the network (nfs4), whence no events come: a scan every")
    with pytest.raises(DigitdropError, match="watch: events, but on nfs4 others' files come without events"):
        LOOK["watch"](settings.model_copy(update={"watch": "events"}))


def test_a_missing_system_library(folder: Folder) -> None:
    """A library that cannot be loaded is named as the system names it."""
    broken = folder.root / "broken" / "matplotlib"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libfreetype.so.77: cannot open shared object file')")
    done = check(folder, "env", f"PYTHONPATH={broken.parent}")
    assert done.returncode == 1, done.stderr
    assert "NOT FIT libraries: matplotlib cannot be loaded: libfreetype.so.77: cannot open" in done.stdout
