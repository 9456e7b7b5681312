"""The service end to end under a real systemd: installed, killed, hung, starved, upgraded and removed.

It boots a systemd inside namespaces, over an overlay of this system, so it needs root, Linux and Python with venv. The
service is installed there as README.md says. There is no network inside: pip takes its wheels from a folder that is
filled before, with the network once.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path
from tempfile import mkdtemp
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest
import yaml
from conftest import ROOT, Folder, crop, until
from test_documents import blocks, section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = "/var/lib/digitdrop"
WHEELS = ROOT / "build" / "wheels"
PYTHON = "/usr/bin/python3"  # the service's: others may lie in homes, which it cannot see
SUITABLE = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"


def why_not() -> str:
    """Why no systemd can be booted here; empty where one can."""
    if os.geteuid() != 0:
        return "booting a systemd in namespaces needs root"
    for path in ("/lib/systemd/systemd", "/usr/bin/systemd-tmpfiles", "/usr/bin/systemd-sysusers", PYTHON):
        if not os.path.exists(path):
            return f"{path} is not here"
    if subprocess.run([PYTHON, "-c", SUITABLE], check=False, stderr=subprocess.DEVNULL).returncode != 0:
        return f"{PYTHON} is not Python 3.11 with venv"
    if any(shutil.which(tool) is None for tool in ("unshare", "nsenter", "setpriv", "git", "make")):
        return "needs unshare, nsenter, setpriv, git and make"
    probe = "mount --make-rprivate / && mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w /mnt/r && "
    probe += "mount -t overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w o /mnt/r && mount -t cgroup2 c /mnt/r/sys"
    tried = subprocess.run(["unshare", *NAMESPACES, "sh", "-c", probe], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"this machine lets nobody boot one: {tried.stderr.strip()}"


NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net", "--cgroup")
WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it can")


class Machine(Folder):
    """A booted systemd, and in it the folders of the service."""

    def __init__(self, root: Path) -> None:
        self.group = group_of_its_own()
        boot = ["unshare", *NAMESPACES, "sh", str(ROOT / "tests" / "boot.sh"), str(root)]
        if self.group is not None:
            boot = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.group), *boot]
        self.outer = subprocess.Popen(boot)
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children")
        self.pid = int(until(lambda: children.read_text().split(), "the namespaces")[0])
        until(lambda: self.run("systemctl", "is-active", "basic.target").stdout == "active\n", "systemd to boot")
        self.view = Path(f"/proc/{self.pid}/root")
        self.root = self.view / DATA[1:]
        self.keeps = True
        self.inbox, self.outbox = self.root / "inbox", self.root / "outbox"
        self.config = self.view / "etc/digitdrop/config.yaml"
        self.expect_nothing()
        self.clone = "/root/clone"
        clone = self.view / self.clone[1:]
        shutil.copytree(WHEELS, self.view / "root/wheels")  # /tmp, where this may lie, is another one inside
        names = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
        )
        for name in names.stdout.decode().splitlines():
            if (ROOT / name).is_file():  # or it was deleted, and that is not committed
                (clone / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, clone / name)

    def end(self) -> None:
        """Switch it off."""
        self.outer.kill()
        self.outer.wait()
        if self.group is not None:
            for folder, _, _ in os.walk(self.group, topdown=False):
                until(lambda: removed(Path(folder)), "its last processes to go")  # noqa: B023 - called at once

    def run(self, *command: str, user: str = "root", check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command inside, to its end."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-a", "runuser", "-u", user, "--", *command],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={
                "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": "/root/wheels",
                "PIP_COMPILE": "0",  # a release is tried before it serves, and so compiled as far as it is used
            },
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}{self.journal()}"
        return done

    def make(self, *arguments: str) -> str:
        """Run make in the clone, as root."""
        return self.run("make", "-C", self.clone, *arguments, check=True).stdout

    def show(self, name: str, unit: str = "digitdrop") -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "-P", name, unit).stdout.strip()

    def main(self) -> int:
        """The service's main process, by its number out here."""
        inside = self.show("MainPID")
        for path in Path("/proc").glob("[0-9]*/status"):
            try:
                lines = path.read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue
            numbers = next(line for line in lines if line.startswith("NSpid:")).split()[1:]
            if len(numbers) == 2 and numbers[1] == inside and is_inside(int(numbers[0]), self.pid):
                return int(numbers[0])
        return 0

    def active(self, restarts: int | None = None) -> None:
        """Wait until the service is up, after so many restarts by systemd."""

        def up() -> bool:
            return self.show("ActiveState") == "active" and restarts in {None, int(self.show("NRestarts"))}

        until(up, f"the service to be up\n{self.journal()}")

    def journal(self, unit: str = "digitdrop") -> str:
        """What the service said, with its levels."""
        return self.run("journalctl", "--no-pager", "-o", "short", "-u", unit).stdout

    def feed(self, name: str, count: int) -> None:
        """Drop a flock of scans."""
        for _ in range(count):
            number = len(self.dropped)
            self.drop(f"{name}/{number}.png", crop(number))

    def working(self) -> None:
        """Wait until a batch is in the middle of its work."""
        until(lambda: list(self.outbox.glob(".staging/*/thumbnails/*")), "work in progress")


def group_of_its_own() -> Path | None:
    """A control group (v2) for a machine, so that another's units are not in its; None where there are none."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    top = next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)
    return None if top is None else Path(mkdtemp(prefix="digitdrop-", dir=top))


def removed(group: Path) -> bool:
    """Whether a control group is gone; it cannot go before its processes."""
    try:
        group.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def is_inside(pid: int, init: int) -> bool:
    """Whether two processes live in the same PID namespace."""
    return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{init}/ns/pid")


def fill_wheels() -> None:
    """Put what pip needs into a folder, once for each state of pyproject.toml."""
    stamp = WHEELS / hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists():
        return
    shutil.rmtree(WHEELS, ignore_errors=True)
    maker = WHEELS.parent / "wheel-maker"
    subprocess.run([PYTHON, "-m", "venv", "--clear", str(maker)], check=True)
    wanted = [str(ROOT), "hatchling>=1.25,<2"]
    subprocess.run([maker / "bin" / "pip", "wheel", "--quiet", "-w", WHEELS, *wanted], check=True)
    for wheel in WHEELS.glob("digitdrop-*"):  # the service is built from its own clone
        wheel.unlink()
    shutil.rmtree(maker)
    stamp.touch()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the service freshly installed, made impatient, so that the tests need not wait for it."""
    fill_wheels()
    booted = Machine(tmp_path_factory.mktemp("machine"))
    try:
        booted.run("useradd", "--create-home", "scanner", check=True)
        said = booted.make("install-service")
        assert "digitdrop.service runs: 0 waiting" in said
        assert "NOT FIT" not in said
        quick = {"settle": 0.1, "scan_every": 0.5, "batch": {"size": 64, "wait": 0.1}}
        settings = yaml.safe_load(booted.config.read_text()) | quick
        booted.config.write_text(yaml.safe_dump(settings))
        dropin = booted.view / "etc/systemd/system/digitdrop.service.d/test.conf"
        dropin.parent.mkdir()
        dropin.write_text("[Service]\nWatchdogSec=10\nTimeoutAbortSec=1\nRestartSec=100ms\n")
        booted.run("systemctl", "daemon-reload", check=True)
        booted.run("systemctl", "restart", "digitdrop", check=True)
        booted.run("usermod", "-aG", "digitdrop", "scanner", check=True)
        yield booted
    finally:
        booted.end()


def test_it_is_installed(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """One command installs the service: it runs as its user, is enabled, and says what it does."""
    assert machine.show("User") == "digitdrop"
    assert machine.show("UnitFileState") == "enabled"
    assert "0 waiting, 0 in flight, 0 rows delivered" in machine.show("StatusText")
    state = json.loads(machine.run("digitdrop", "status", "--json", user="digitdrop", check=True).stdout)[0]
    assert (state["inbox"], state["degraded"]) == (f"{DATA}/inbox", [])
    assert "health     good" in machine.run("digitdrop", "status", user="digitdrop", check=True).stdout
    # From a folder with a config.yaml too, such as the clone: it is the service that is asked for.
    elsewhere = "cd /var/tmp && echo 'inbox: elsewhere' > config.yaml && digitdrop status; rm config.yaml"
    assert "health     good" in machine.run("sh", "-c", elsewhere, user="digitdrop").stdout
    refused = machine.run("digitdrop", "status", user="nobody")
    assert (refused.returncode, "sudo -u digitdrop digitdrop status" in refused.stderr) == (1, True)
    checked = machine.run("digitdrop", "check", user="digitdrop", check=True).stdout
    assert "NOT FIT" not in checked
    assert sorted(os.listdir(machine.root)) == ["inbox", "outbox"]
    metrics = (machine.view / "run/digitdrop/digitdrop.prom").read_text()
    assert "digitdrop_degraded 0.0" in metrics
    exposure = machine.run("systemd-analyze", "security", "--no-pager", "digitdrop.service").stdout
    with capsys.disabled():
        print(f"\n{exposure.splitlines()[-1]}")


def test_people_of_the_group_drop_and_pick_up(machine: Machine) -> None:
    """A member of the group drops scans, in folders of its own too, and takes deliveries away; others may not."""
    (machine.view / "home/scanner/a.png").write_bytes(crop(1))
    script = f"umask 022; mkdir {DATA}/inbox/mine && cp ~/a.png {DATA}/inbox/mine/a.png"
    machine.run("sh", "-c", script.replace("~", "/home/scanner"), user="scanner", check=True)
    until(machine.deliveries, "the delivery")
    machine.run(
        "sh", "-c", f"mv {DATA}/outbox/2* /home/scanner/ && rmdir {DATA}/inbox/mine", user="scanner", check=True
    )
    (taken,) = (machine.view / "home/scanner").glob("2*")
    assert (taken / "scans/mine/a.png").read_bytes() == crop(1)
    machine.run("sh", "-c", "rm -r /home/scanner/2*", user="scanner", check=True)
    assert machine.run("ls", f"{DATA}/outbox", user="nobody").returncode != 0


def test_a_path_unit_picks_up(machine: Machine, tmp_path: Path) -> None:
    """The path unit of the documents takes each delivery as it appears, into a database, in its own sandbox."""
    page = (ROOT / "docs" / "operations.md").read_text()
    path_unit, service = blocks(section(page, "The moment it appears"), "systemd")
    (script,) = blocks(section(page, "With Python"), "python")
    for name, text in (
        ("etc/systemd/system/pick-up.path", path_unit),
        ("etc/systemd/system/pick-up.service", service),
        ("usr/local/bin/pick-up", script),
    ):
        (machine.view / name).write_text(text)
    (machine.view / "usr/local/bin/pick-up").chmod(0o755)
    machine.run("useradd", "numbers", check=True)
    # A rename does not cross disks: the archive has to be on that of the outbox, as the example says.
    script = f"mkdir -m 770 {DATA}/archive && chown numbers {DATA}/archive && ln -s {DATA}/archive /srv/numbers"
    machine.run("sh", "-c", script, check=True)
    machine.run("systemctl", "daemon-reload", check=True)
    machine.run("systemctl", "enable", "--now", "--quiet", "pick-up.path", check=True)
    archive = machine.root / "archive"
    try:
        for number in range(3):
            (machine.root / "half-written").write_bytes(crop(number))
            (machine.root / "half-written").rename(machine.inbox / f"picked{number}.png")
            until(lambda: len(list(archive.glob("2*/scans/*.png"))) == number + 1, "the pick-up")  # noqa: B023
        assert machine.deliveries() == []
    finally:
        machine.run("systemctl", "disable", "--now", "--quiet", "pick-up.path", "pick-up.service", check=True)
    shutil.copy(archive / "results.db", tmp_path)  # SQLite follows links, and /proc/…/root is one
    with sqlite3.connect(tmp_path / "results.db") as db:
        found = db.execute("SELECT file FROM results ORDER BY file").fetchall()
    db.close()
    assert found == [("picked0.png",), ("picked1.png",), ("picked2.png",)]


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda m: os.kill(m.main(), signal.SIGKILL), id="daemon killed"),
        pytest.param(lambda m: os.kill(m.main(), signal.SIGSTOP), id="daemon hung"),
    ],
)
def test_harm_to_the_daemon(machine: Machine, harm: Callable[[Machine], None]) -> None:
    """Killed or hung in the middle of a batch, it is started again by systemd, and delivers each scan once."""
    before = int(machine.show("NRestarts"))
    machine.feed("harmed", 150)
    machine.working()
    harm(machine)
    machine.active(restarts=before + 1)
    machine.wait()
    machine.check()


def test_a_worker_is_killed(machine: Machine) -> None:
    """A worker that is killed is replaced; the service goes on, and each scan is delivered."""
    before = machine.show("NRestarts")
    machine.feed("worker", 150)
    machine.working()
    main = machine.main()
    for child in Path(f"/proc/{main}/task/{main}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    machine.wait()
    machine.check()
    assert machine.show("NRestarts") == before


def test_the_disk_is_full(machine: Machine) -> None:
    """On a full disk it waits, says so, blames no scan, and goes on when there is room."""
    hog = machine.root / "hog"
    with hog.open("wb", buffering=0) as file:
        room = os.statvfs(machine.root)
        file.write(bytes(room.f_bavail * room.f_bsize))
        file.truncate(file.tell() - 400_000)  # room for the scans, but not for the delivery
    machine.feed("starved", 64)
    until(lambda: "degraded: " in machine.show("StatusText"), "word of it")
    assert "No space left on device" in machine.show("StatusText")
    hog.unlink()
    machine.wait()
    machine.check()
    assert {row["status"] for row in machine.rows()} <= {"accepted", "review"}
    until(lambda: "degraded" not in machine.show("StatusText"), "all to be well again")


def test_stopped_and_started(machine: Machine) -> None:
    """A restart in the middle of a batch ends it in time, with nothing lost and nothing twice."""
    machine.feed("restarted", 150)
    machine.working()
    machine.run("systemctl", "restart", "digitdrop", check=True)
    assert machine.show("Result") == "success"
    machine.wait()
    machine.check()


def test_a_wrong_configuration(machine: Machine) -> None:
    """With a wrong configuration it stops for good, and the journal says what to put right, as an error."""
    right = machine.config.read_text()
    machine.config.write_text(right + "setle: 1\n")
    machine.run("systemctl", "restart", "digitdrop")
    until(lambda: machine.show("ActiveState") == "failed", "it to give up")
    assert machine.show("ExecMainStatus") == "78"
    errors = machine.run("journalctl", "-u", "digitdrop", "-p", "err", "-o", "cat").stdout
    assert "unknown key 'setle'; did you mean 'settle'?" in errors
    machine.config.write_text(right)
    machine.run("systemctl", "reset-failed", "digitdrop", check=True)
    machine.run("systemctl", "start", "digitdrop", check=True)


def test_a_second_inbox(machine: Machine) -> None:
    """`NAME=meters` sets up an inbox of its own beside the first, with its own configuration, and takes it away."""
    machine.make("install-service", "NAME=meters")
    assert machine.show("ActiveState", "digitdrop@meters") == "active"
    assert machine.show("ActiveState") == "active"
    inbox, outbox = machine.root / "meters/inbox", machine.root / "meters/outbox"
    (machine.root / "half-written").write_bytes(crop(1))
    (machine.root / "half-written").rename(inbox / "meter.png")
    until(lambda: list(outbox.glob("2*/scans/meter.png")), "the delivery")
    until(lambda: "digitdrop_scans_total 1.0" in (machine.view / "run/digitdrop/meters.prom").read_text(), "metrics")
    machine.run(
        "setpriv",
        "--reuid=scanner",
        "--regid=scanner",
        "--init-groups",
        "test",
        "-w",
        f"{DATA}/meters/inbox",
        check=True,
    )
    for wrong in ("metres", "inbox", "../digitdrop"):
        assert machine.run("make", "-C", machine.clone, "remove-service", f"NAME={wrong}", "PURGE=1").returncode != 0
    assert machine.show("ActiveState") == machine.show("ActiveState", "digitdrop@meters") == "active"
    assert machine.inbox.exists()
    machine.make("remove-service", "NAME=meters")
    assert machine.show("ActiveState", "digitdrop@meters") == "inactive"
    assert list(outbox.glob("2*/scans/meter.png"))
    machine.make("remove-service", "NAME=meters", "PURGE=1")
    assert not outbox.exists()
    assert machine.show("ActiveState") == "active"


def test_an_upgrade_that_does_not_fit(machine: Machine) -> None:
    """An upgrade that the configuration does not fit changes nothing, and says what to put right."""
    right = machine.config.read_text()
    machine.config.write_text(right + "setle: 1\n")
    release = os.readlink(machine.view / "opt/digitdrop/current")
    done = machine.run("make", "-C", machine.clone, "install-service")
    assert done.returncode != 0
    assert "unknown key 'setle'; did you mean 'settle'?" in done.stdout + done.stderr
    assert os.readlink(machine.view / "opt/digitdrop/current") == release
    assert os.listdir(machine.view / "opt/digitdrop/releases") == [os.path.basename(release)]
    assert machine.show("ActiveState") == "active"
    machine.config.write_text(right)


def test_an_upgrade_that_does_not_start(machine: Machine) -> None:
    """An upgrade whose service does not come up is taken back: the old release runs again."""
    main = machine.view / machine.clone[1:] / "watcher" / "__main__.py"
    right = main.read_text()
    release = os.readlink(machine.view / "opt/digitdrop/current")
    main.write_text(right.replace("    check_folders(settings)\n", "    raise SystemExit('broken')\n", 1))
    assert main.read_text() != right
    machine.feed("meanwhile", 10)
    done = machine.run("make", "-C", machine.clone, "install-service")
    assert done.returncode != 0
    assert "the new release does not start, the old one runs again" in done.stdout + done.stderr
    assert os.listdir(machine.view / "opt/digitdrop/releases") == [os.path.basename(release)]
    assert machine.show("ActiveState") == "active"
    main.write_text(right)
    machine.wait()
    machine.check()


def test_upgraded(machine: Machine) -> None:
    """The same command again upgrades in the middle of a batch: the configuration stays, no scan is lost."""
    project = machine.view / machine.clone[1:] / "pyproject.toml"
    text = project.read_text()
    version = next(line for line in text.splitlines() if line.startswith("version = "))
    project.write_text(text.replace(version, 'version = "99.0"'))
    before = machine.config.read_text()
    done = Event()

    def feed() -> None:
        while not done.wait(0.5):  # a flow of scans, as from a scanner that knows nothing of upgrades
            machine.feed("upgraded", 5)

    feeder = Thread(target=feed)
    feeder.start()
    try:
        said = machine.make("install-service")
    finally:
        done.set()
        feeder.join()
    assert "keeping /etc/digitdrop/config.yaml" in said
    assert machine.config.read_text() == before
    assert json.loads(machine.run("digitdrop", "status", "--json", user="digitdrop").stdout)[0]["version"] == "99.0"
    assert len(list((machine.view / "opt/digitdrop/releases").iterdir())) == 1
    machine.wait()
    machine.check()


def test_removed(machine: Machine) -> None:
    """Removed, the program is gone and the data stay; with PURGE=1 they go too."""
    assert machine.rows()
    machine.make("remove-service")
    assert machine.show("LoadState") == "not-found"
    assert not (machine.view / "opt/digitdrop").exists()
    assert machine.rows()
    assert machine.config.exists()
    machine.make("remove-service", "PURGE=1")
    assert not machine.config.exists()
    assert not machine.inbox.exists()
    assert machine.run("id", "digitdrop").returncode != 0
    assert machine.run("getent", "group", "digitdrop").returncode != 0  # though the scanner was in it
