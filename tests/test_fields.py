"""What a field may hold, and how that steers what is read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from watcher.config import load
from watcher.decoding import Candidate
from watcher.errors import ConfigError
from watcher.fields import Rule, rule_for, steer

if TYPE_CHECKING:
    from pathlib import Path


def rule(**what: object) -> Rule:
    """A rule called `it` for every file."""
    return Rule.model_validate({"name": "it", "files": "*"} | what)


def likely(**values: float) -> list[Candidate]:
    """Values with their probabilities, given as _123=0.9."""
    found = [Candidate(value.removeprefix("_"), math.log(p)) for value, p in values.items()]
    return sorted(found, key=lambda one: -one.score)


@pytest.mark.parametrize(
    ("what", "fits", "breaks"),
    [
        ({"length": 5}, "01234", "1234"),
        ({"length": [1, 3]}, "7", "1234"),
        ({"pattern": "[1-9][0-9]*"}, "90", "090"),
        ({"range": [0, 6]}, "6", "7"),
        ({"range": [100, 250]}, "100", "99"),
        ({"date": "%d%m%Y"}, "29022024", "29022023"),
        ({"date": "%d%m%Y"}, "01112026", "1112026"),  # a date without its first zero
        ({"date": "%d%m%y"}, "311299", "310299"),
        ({"date": "%d%m"}, "2902", "3002"),
        ({"date": "%m%d%H"}, "022907", "023007"),
        ({"check": "luhn"}, "4111111111111111", "4111111111111112"),
        ({"check": "verhoeff"}, "2363", "2364"),
        ({"check": "ean"}, "4006381333931", "4006381333932"),
        ({"check": "iso7064.mod_11_10"}, "794623", "794624"),
        ({"length": 2, "range": [1, 12]}, "07", "13"),
    ],
)
def test_a_rule_tells_what_fits(what: dict[str, object], fits: str, breaks: str) -> None:
    """Each part of a rule is checked."""
    assert rule(**what).broken(fits) == ""
    assert rule(**what).broken(breaks) == ("wrong_length" if "length" in what and what["length"] != 2 else "rule:it")


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ({}, True),
        ({"length": 5}, True),
        ({"length": 99}, True),
        ({"pattern": "2026[0-9]{4}"}, True),
        ({"pattern": "[0-9]{4}2026"}, True),
        ({"length": 4, "range": [4711, 4711]}, True),
        ({"length": [16, 19], "check": "luhn"}, True),
        ({"check": "iso7064.mod_97_10"}, True),
        ({"date": "%d%m"}, True),
        ({"pattern": "[A-Z]+"}, False),
        ({"length": 5, "pattern": "[0-9]{6}"}, False),
        ({"date": "%d%m%y", "range": [0, 5]}, False),
    ],
)
def test_an_example_of_what_fits(what: dict[str, object], found: bool) -> None:
    """A value that keeps a rule is made up, the same each time; of a rule that none can keep there is none."""
    example = rule(**what).example()
    assert bool(example) is found
    assert not found or rule(**what).broken(example) == ""
    assert rule(**what).example() == example


@pytest.mark.parametrize(
    ("files", "path", "matches"),
    [
        ("*_zip.*", "a_zip.png", True),
        ("*_zip.*", "deep/in/a_zip.png", True),
        ("*_zip.*", "a_zip.d/b.png", False),
        ("marks/**", "marks/a.png", True),
        ("marks/**", "marks/a/b.png", True),
        ("marks/**", "marks/a\nb.png", True),
        ("marks/**", "other/marks/a.png", False),
        ("**/marks/*", "other/marks/a.png", True),
        ("**/marks/*", "marks/a.png", True),
        ("marks/*", "marks/a/b.png", False),
        ("a?.png", "ab.png", True),
        ("a?.png", "abc.png", False),
        ("a+(1).png", "a+(1).png", True),
        ("*", "a\nb.png", True),
    ],
)
def test_files_are_matched_by_path(files: str, path: str, matches: bool) -> None:
    """Stars stay within a name, double stars go through folders."""
    assert rule(files=files).matches(path) is matches


def test_the_first_rule_wins() -> None:
    """Of two rules that match, the first one in the list holds."""
    first, second = rule(name="first", files="a*"), rule(name="second", files="*")
    assert rule_for("x/ab.png", (first, second)) is first
    assert rule_for("x/b.png", (first, second)) is second
    assert rule_for("x/b.png", (first,)) is None


def test_without_a_rule_the_likeliest_is_taken() -> None:
    """No rule, no change; the next best is the alternative."""
    assert steer(likely(_12=0.9, _13=0.1), None) == (Candidate("12", math.log(0.9)), "", "13")


def test_a_value_that_fits_stays() -> None:
    """A rule says nothing of what fits it."""
    assert steer(likely(_12=0.9, _13=0.1), rule(length=2)) == (Candidate("12", math.log(0.9)), "", "13")


def test_a_rule_takes_the_best_that_fits() -> None:
    """What breaks the rule gives way to the likeliest that does not, and stays the alternative."""
    best, why, alternative = steer(likely(_123=0.7, _12=0.2, _17=0.1), rule(length=2))
    assert (best.value, why, alternative) == ("12", "rule:it", "123")


def test_a_rule_does_not_make_values_up() -> None:
    """What is too unlikely is not taken: the likeliest stays, with what is wrong about it."""
    best, why, _ = steer(likely(_123=0.9999, _12=1e-9), rule(length=2))
    assert (best.value, why) == ("123", "wrong_length")
    best, why, _ = steer(likely(_7=0.9999, _1=1e-9), rule(range=[0, 6]))
    assert (best.value, why) == ("7", "rule:it")


@pytest.mark.parametrize(("share", "value"), [(0.011, "12"), (0.009, "123")])
def test_how_unlikely_a_value_may_be_that_fits(share: float, value: str) -> None:
    """What fits is taken where it is at least a hundredth as likely as the likeliest."""
    best, why, _ = steer(likely(_123=0.5, _12=0.5 * share), rule(length=2))
    assert (best.value, why) == (value, "rule:it" if value == "12" else "wrong_length")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{name: a, files: '*', lenght: 3}]", "unknown key 'fields[0].lenght'; did you mean 'length'?"),
        ("[{name: a, files: '*', length: 0}]", "fields[0].length is 0: should be a number of digits"),
        ("[{name: a, files: '*', length: [3, 1]}]", "fields[0].length is [3, 1]: should be a number of digits"),
        ("[{name: a, files: '*', length: true}]", "fields[0].length is True: should be"),
        ("[{name: a, files: '*', pattern: '('}]", "fields[0].pattern is '(': should be a regular expression"),
        ("[{name: a, files: '*', range: [5, 1]}]", "fields[0].range is [5, 1]: should be [least, most]"),
        ("[{name: a, files: '*', range: [-1, 5]}]", "fields[0].range is [-1, 5]: should be [least, most], neither"),
        ("[{name: a, files: '*', date: '%B'}]", "fields[0].date is '%B': should be a date of digits alone"),
        ("[{name: a, files: '*', check: lun}]", "fields[0].check is 'lun': should be a module of python-stdnum"),
        ("[{name: a, files: '*', check: os.path}]", "fields[0].check is 'os.path': should be a module"),
        ("[{name: a}]", "fields[0].files is missing; an entry of its list holds name, files, length"),
        ("[{name: a, files: ''}]", "fields[0].files is '': string should have at least 1 character"),
        ("[{name: 5, files: '*'}]", "fields[0].name is 5: input should be a valid string"),
        ("[{name: 'a b', files: '*'}]", "fields[0].name is 'a b': "),
        ("3", "fields is 3: should be a list"),
        ("[3]", "fields[0] is 3: should hold keys of its own: name, files, length"),
    ],
)
def test_a_wrong_rule_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    """Each mistake names the key, its value and what it should be."""
    path = tmp_path / "config.yaml"
    path.write_text(f"fields: {text}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_rule_is_frozen() -> None:
    """Nothing changes a rule once it was read."""
    with pytest.raises(ValidationError):
        rule().name = "other"
