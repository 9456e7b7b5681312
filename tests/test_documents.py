"""What the documents say is what the code does."""

from __future__ import annotations

import re

from conftest import ROOT

from watcher.results import COLUMNS

README = (ROOT / "README.md").read_text()


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


def test_what_is_linked_is_there() -> None:
    """Each file and picture that the README links to is in the repository."""
    for target in re.findall(r"\]\(([^):]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_each_target_exists() -> None:
    """Each `make` target that the README names is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (run|test|check|bench|train|install)\b", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
