"""What the documents say is what the code does."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from conftest import ROOT, Folder, crop
from prometheus_client.parser import text_string_to_metric_families as parse_metrics

from watcher import config
from watcher.folder import ENDINGS, IGNORED
from watcher.metrics import DOUBTS, FAULTS, STAGES, STEPS, Metrics
from watcher.model import read_card
from watcher.results import COLUMNS
from watcher.status import State

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text()
FORMAT = (ROOT / "docs" / "format.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
DATA = "/var/lib/digitdrop"


def section(page: str, title: str) -> str:
    """A section of a page, with what is under it."""
    start = re.search(rf"^(#+) {re.escape(title)}$", page, re.MULTILINE)
    assert start, title
    rest = page[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def blocks(page: str, language: str) -> list[str]:
    """The examples in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def table(page: str) -> list[str]:
    """What stands in the first column of the tables of a page, in backticks."""
    return [
        name for cell in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE) for name in re.findall(r"`([^`]+)`", cell)
    ]


@pytest.fixture(scope="module")
def deliveries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outbox with two deliveries: a scan that is accepted and one that failed, then another scan."""
    folder = Folder(tmp_path_factory.mktemp("delivered"), patience=0)
    for names in (("00.png", "broken.png"), ("a,b.png",)):
        for name in names:
            folder.drop(name, crop() if name != "broken.png" else b"text")
        assert folder.command("run", "--once").returncode == 0
    return folder.outbox


@pytest.fixture
def delivered(folder: Folder, deliveries: Path) -> Folder:
    """A folder of its own with those two, and an archive beside them."""
    shutil.copytree(deliveries, folder.outbox, dirs_exist_ok=True)
    (folder.root / "archive").mkdir()
    return folder


def test_each_column_is_explained() -> None:
    """The README's table of columns names those of results.csv, in their order."""
    table = README.split("The columns of `results.csv`")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [name for name, *_ in COLUMNS]


def test_the_file_tree_is_there() -> None:
    """The README's file tree names each module of the watcher, and nothing that is not there."""
    tree = README.split("config.yaml       every")[1].split("```")[0]
    named = re.findall(r"^  (\w+\.py)", tree, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (ROOT / "watcher").glob("*.py") if path.stem != "__init__")


def test_each_dependency_has_its_reason() -> None:
    """The README says why each package is there."""
    listed = re.findall(r'^  "([A-Za-z-]+)>=', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    table = README.split("## What it stands on")[1].split("\n## ")[0]
    runtime = listed[: listed.index("watchdog") + 1]
    assert [name for name in runtime if name not in table] == []


def test_the_figures_of_the_model() -> None:
    """What the page says of the networks that ship is what their card says."""
    entry = json.loads((ROOT / "model" / "card.json").read_text(encoding="utf-8"))
    assert f"| MNIST's 10,000 test digits | {entry['accuracy']['test']:.2%} |" in README
    card = read_card(ROOT / "model")
    assert card.field is not None
    digits, fields_ = (
        calibration.trials[0].beyond(calibration.trials[0].start(max_error))
        for calibration, max_error in ((card.digit, 0.001), (card.field, 0.01))
    )
    assert f"{digits:.1%} for digits, {fields_:.0%} for fields" in " ".join(README.split())


def test_the_names_that_are_taken() -> None:
    """The README names each ending that is taken from the inbox, and what the names of temporary files begin with."""
    page = section(README, "What it reads")
    named = set(re.findall(r"`(\.\w+)`", page))
    assert named == set(ENDINGS)
    assert [start for start in IGNORED if f"`{start}`" not in page] == []


def test_what_is_linked_is_there() -> None:
    """Each file and picture that the README links to is in the repository."""
    for target in re.findall(r"\]\(([^):]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_each_target_exists() -> None:
    """Each `make` target that the README names is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)(?:sudo )?make ([a-z-]+)", README + OPERATIONS, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_format_of_the_csv() -> None:
    """The page on the format says of each column what the program says of it, in its order."""
    page = section(FORMAT, "results.csv").split("| `status` | what")[0]
    found = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", page, re.MULTILINE)
    assert found == [(name, kind, meaning) for name, kind, _, meaning in COLUMNS]


def test_the_format_of_the_json(delivered: Folder) -> None:
    """The page on the format names each key of a real results.json, and none that is not there."""
    page = section(FORMAT, "results.json")
    outer, inner = page.split("A row has each column")
    for delivery in delivered.deliveries():
        document = json.loads((delivery / "results.json").read_bytes())
        assert list(document) == table(outer)
        for row in document["rows"]:
            digits = {f"digits.{key}" for digit in row["digits"] for key in digit}
            own = {key for key in row if key not in {name for name, *_ in COLUMNS}}
            told = {name for name in table(inner) if digits or "." not in name}
            assert own | digits == told
            assert set(row["milliseconds"]) <= set(re.findall(r"`(\w+)`", inner))


def test_the_format_of_the_status() -> None:
    """The page on the format names each key of `status --json` with its type, in their order."""
    kinds = {"int": "integer", "str": "string", "float": "number", "bool": "boolean", "list": "array", "dict": "object"}
    found = re.findall(r"^\| `(\w+)` \| (\w+) \| .+ \|$", section(FORMAT, "status --json"), re.MULTILINE)
    assert found == [(field.name, kinds[str(field.type).partition("[")[0]]) for field in fields(State)]


def test_the_codes(delivered: Folder) -> None:
    """The page on the format explains each status, and each reason that the program's text holds."""
    page = section(FORMAT, "results.csv")
    (enum,) = [more["enum"] for name, _, more, _ in COLUMNS if name == "status"]
    told = table(page)
    assert [name for name in enum if name not in told] == []
    source = "".join(path.read_text() for path in (ROOT / "watcher").glob("*.py"))
    reasons = set(told) - set(enum) - {name for name, *_ in COLUMNS} - {"status", "reason"}
    assert [reason for reason in reasons - {"rule:<name>"} if f'"{reason}"' not in source] == []
    assert {"low_confidence", "clipped", "not_promised", "not_digits", "wrong_length", "audit", "rule:<name>"} <= set(
        told
    )
    assert [r for r in re.findall(r'(?:Fault|failed)\(\s*"(\w+)"', source) if r not in told] == []
    # What is explained is what is counted.
    counted = {*DOUBTS, *FAULTS, "audit", "wrong_length", "rule:<name>"}
    assert reasons == counted


def test_the_files_of_a_delivery(delivered: Folder) -> None:
    """The page on the format and the README name each file of a delivery."""
    for page in (section(FORMAT, "The folder"), section(README, "What lands in the outbox")):
        told = {name.partition("/")[0] for name in table(page)}
        for delivery in delivered.deliveries():
            assert [name for name in os.listdir(delivery) if name not in told] == []


def test_picking_up_with_python(delivered: Folder) -> None:
    """The Python example imports each delivery exactly once, also one that comes again; what is none it leaves alone.

    It comes again whether the example was killed before it moved it away, or it lies in the archive already.
    """
    (script,) = blocks(section(OPERATIONS, "With Python"), "python")
    path = delivered.root / "pick-up"
    path.write_text(script)
    database = delivered.root / "results.db"
    kept = delivered.root / "kept"
    shutil.copytree(delivered.outbox, kept)
    wanted = sorted((row["batch"], row["file"], row["page"], row["value"]) for row in delivered.rows())

    def pick_up() -> str:
        folders = (str(delivered.outbox), str(delivered.root / "archive"), str(database))
        return subprocess.run([sys.executable, path, *folders], capture_output=True, text=True, check=True).stdout

    assert len(pick_up().splitlines()) == 2
    assert delivered.deliveries() == []
    assert pick_up() == ""
    for delivery in kept.iterdir():  # as after a kill between the import and the move
        if not delivery.name.startswith("."):
            shutil.rmtree(delivered.root / "archive" / delivery.name)
            delivery.rename(delivered.outbox / delivery.name)
    assert len(pick_up().splitlines()) == 2
    archive = delivered.root / "archive"
    first, second = sorted(archive.iterdir())
    shutil.copytree(first, delivered.outbox / first.name)  # as after a power cut
    second.rename(delivered.outbox / second.name)
    (delivered.outbox / "1.db").write_bytes(b"")  # what file managers leave, and what people make
    (delivered.outbox / "1 new folder").mkdir()
    assert [line.partition(":")[0] for line in pick_up().splitlines()] == [second.name]
    assert [path.name for path in delivered.deliveries()] == ["1 new folder", "1.db"]
    assert sorted(archive.iterdir()) == [first, second]
    with sqlite3.connect(database) as db:
        found = db.execute("SELECT batch, file, page, value FROM results ORDER BY batch, file, page").fetchall()
    db.close()
    assert found == wanted


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not here")
def test_picking_up_from_cron(delivered: Folder) -> None:
    """The line for cron has five fields and a user, and its command picks up."""
    (line,) = blocks(section(OPERATIONS, "From cron"), "cron")
    *when, user, command = line.strip().split(None, 6)
    assert (len(when), user) == (5, "numbers")
    (script,) = blocks(section(OPERATIONS, "With Python"), "python")
    path = delivered.root / "pick-up"
    path.write_text(script.replace("#!/usr/bin/python3", f"#!{sys.executable}"))
    path.chmod(0o755)
    command = command.replace("/tmp/", f"{delivered.root}/")  # noqa: S108 - the example's, replaced
    command = command.replace(DATA, str(delivered.root)).replace("/srv/numbers", str(delivered.root / "archive"))
    assert "/usr/local/bin/pick-up" in command
    command = command.replace("/usr/local/bin/pick-up", str(path))
    surroundings = {"PATH": "/usr/bin:/bin"}  # cron's
    subprocess.run(["sh", "-c", command], env=surroundings, check=True, capture_output=True)
    assert delivered.deliveries() == []
    assert (delivered.root / "archive" / "results.db").exists()


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="sqlite3 is not here")
def test_picking_up_with_sql(delivered: Folder) -> None:
    """The SQL example imports a results.csv as it is, once however often it runs or is killed; leading zeros stay."""
    (script,) = blocks(section(OPERATIONS, "With SQL alone"), "sql")
    database = delivered.root / "results.db"
    said = ""
    with sqlite3.connect(database) as db:
        db.execute("CREATE TABLE incoming (batch)")  # as where it was killed
    db.close()
    for delivery in delivered.deliveries() * 2:
        done = subprocess.run(
            ["sqlite3", database], cwd=delivery, input=script, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        said = done.stdout
    assert [row[:2] for row in csv.reader(said.splitlines())] == [["00.png", "7"], ["a,b.png", "7"]]
    with sqlite3.connect(database) as db:
        assert db.execute("SELECT count(*) FROM results").fetchone() == (3,)
    db.close()


def test_picking_up_in_a_shell(delivered: Folder) -> None:
    """The shell example prints the accepted values of all deliveries, and of none nothing."""
    (script,) = blocks(section(OPERATIONS, "In a shell"), "sh")
    script = script.replace(DATA, str(delivered.root))
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True)
    # Two deliveries of one second come in any order.
    assert sorted(done.stdout.splitlines()) == ["00.png\t7", "a,b.png\t7"]
    for delivery in delivered.deliveries():
        shutil.rmtree(delivery)
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_dropping_from_a_script(folder: Folder) -> None:
    """The example that writes under a hidden name and renames leaves one scan, which is read."""
    (script,) = blocks(section(OPERATIONS, "A scanner box"), "sh")
    (folder.root / "crop.png").write_bytes(crop())
    script = script.replace(DATA, str(folder.root))
    subprocess.run(["sh", "-ec", script], cwd=folder.root, check=True)
    assert os.listdir(folder.inbox) == ["crop.png"]


def test_the_settings_in_the_examples(tmp_path: Path) -> None:
    """Each configuration in the documents is accepted."""
    examples = blocks(OPERATIONS, "yaml") + blocks(README, "yaml")
    assert examples
    for example in examples:
        (tmp_path / "config.yaml").write_text(example)
        config.load(tmp_path / "config.yaml")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_the_units_in_the_examples(tmp_path: Path) -> None:
    """The units and drop-ins in the documents are accepted by systemd; tests/test_systemd.py runs the pick-up."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)

    def put(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(re.sub(r"ExecStart=/\S+", f"ExecStart={program}", text))

    path_unit, service = blocks(section(OPERATIONS, "The moment it appears"), "systemd")
    put("pick-up.path", path_unit)
    put("pick-up.service", service)
    put("digitdrop.service", (ROOT / "systemd" / "digitdrop.service").read_text())
    dropins = blocks(section(OPERATIONS, "An SMB share"), "systemd") + blocks(
        section(OPERATIONS, "Watching it"), "systemd"
    )
    assert len(dropins) == 2
    for number, text in enumerate(dropins):
        put(f"digitdrop.service.d/{number}.conf", text)
    units = ["pick-up.path", "pick-up.service", "digitdrop.service"]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *(str(tmp_path / unit) for unit in units)],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("testparm") is None, reason="testparm (of Samba) is not here")
def test_the_samba_example(tmp_path: Path) -> None:
    """Samba accepts the shares in the documents."""
    (example,) = blocks(OPERATIONS, "ini")
    (tmp_path / "smb.conf").write_text(example)
    done = subprocess.run(["testparm", "-s", tmp_path / "smb.conf"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Loaded services file OK." in done.stderr
    assert not re.search("unknown|ignoring|deprecated", done.stderr.lower()), done.stderr
    assert "[scans]" in done.stdout


def test_each_metric_is_explained(tmp_path: Path) -> None:
    """The table of metrics names each that is written, with its labels, and none that is not."""
    metrics = Metrics(tmp_path / "x.prom", config.Settings())
    metrics.held.labels("incomplete").set(1)
    metrics.write(State(model="x", held={"incomplete": 1}), 0.0)
    written = {family.name for family in parse_metrics((tmp_path / "x.prom").read_text())}
    told = {name.partition("{")[0].removesuffix("_total") for name in table(section(OPERATIONS, "Watching it"))}
    assert told == {name.removesuffix("_total") for name in written}
    for name, values in (("digitdrop_work_seconds_total", STEPS), ("digitdrop_batch_seconds", STAGES)):
        (line,) = re.findall(rf"^\| `{name}.*$", OPERATIONS, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", line)) == set(values)


def test_the_commands_run_as_they_stand() -> None:
    """What the README's examples call is in the environment that it says to activate, or in that of every shell."""
    assert "`. .venv/bin/activate`" in section(README, "Commands")
    programs = set(
        re.findall(r"^([a-z-]+) = \"[a-z]+\.__main__:main\"$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    )
    called = {line.split()[0] for block in blocks(README, "sh") for line in block.splitlines()}
    assert called - programs == {"make", "cp", "sudo"}
    for module in re.findall(r"`python -m ([a-z.]+)", README):
        assert importlib.util.find_spec(module), module


def test_each_setting_has_its_default() -> None:
    """config.yaml names each setting, with its default."""
    text = (ROOT / "config.yaml").read_text()
    settings: dict[str, Any] = config.Settings.model_validate(yaml.safe_load(text)).model_dump()
    assert settings == config.Settings().model_dump()
    assert set(yaml.safe_load(text)) == set(settings)
