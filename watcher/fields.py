"""What each field may hold: length, pattern, range, date, check digit; and how that steers what is read. Pure."""

from __future__ import annotations

import importlib
import math
import re
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from stdnum.exceptions import InvalidLength, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from watcher.decoding import Candidate

PLAUSIBLE = math.log(0.01)  # a value that fits is taken down to this share of the best one's probability
LONGEST = 99  # digits
EVERYTHING = ("*", "**", "**/*")  # patterns that each path matches
TRIES = 1000  # values that are made up to find one that keeps a rule
MORE = 18  # digits more than the least that these have: no check digit of python-stdnum stands behind more

_Pair = Annotated[tuple[int, int], Field(strict=False)]


class Rule(BaseModel):
    """What one kind of field may hold. A field is of the first kind whose `files` its path matches."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    files: Annotated[str, Field(min_length=1)]
    length: _Pair | None = None
    pattern: str | None = None
    range: _Pair | None = None
    date: str | None = None
    check: str | None = None

    @field_validator("files")
    @classmethod
    def _under_the_inbox(cls, value: str) -> str:
        if {"", ".", ".."} & {*value.split("/")}:
            raise ValueError(
                "should match paths under the inbox, as marks/** does: no / at its start or end, no . or .."
            )
        return value

    @field_validator("length", mode="before")
    @classmethod
    def _length(cls, value: object) -> object:
        pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, list) else value
        if pair is not None and not (
            isinstance(pair, tuple)
            and len(pair) == 2
            and all(type(number) is int for number in pair)
            and 1 <= pair[0] <= pair[1] <= LONGEST
        ):
            raise ValueError(f"should be a number of digits from 1 to {LONGEST}, or [least, most]")
        return pair

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"should be a regular expression ({error})") from None
        return value

    @field_validator("range")
    @classmethod
    def _range(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 0 <= value[0] <= value[1]:
            raise ValueError("should be [least, most], neither below 0")
        return value

    @field_validator("date")
    @classmethod
    def _date(cls, value: str | None) -> str | None:
        sample = datetime(2026, 11, 23, 12)
        if value is not None and not (_is_digits(sample.strftime(value)) and _is_date(sample.strftime(value), value)):
            raise ValueError("should be a date of digits alone, as in %d%m%Y")
        return value

    @field_validator("check")
    @classmethod
    def _check(cls, value: str | None) -> str | None:
        if value is not None and _checker(value) is None:
            raise ValueError("should be a module of python-stdnum for numbers, as luhn, verhoeff, ean or isbn")
        return value

    @model_validator(mode="after")
    def _can_be_kept(self) -> Rule:
        digits = len(datetime(2026, 11, 23, 12).strftime(self.date)) if self.date else self.least
        if not self.least <= digits <= self.most:
            raise ValueError(f"a date as {self.date} has {digits} digits, which its length does not allow")
        if self.range is not None and self.range[0] >= 10**self.most:
            raise ValueError(f"no number of {self.most} digits is as large as {self.range[0]}")
        if self.check and self.length and not any(_takes(self.check, n) for n in range(self.least, self.most + 1)):
            raise ValueError(f"no number for {self.check} has {self.digits}, says python-stdnum")
        return self

    @property
    def least(self) -> int:
        """The fewest digits."""
        return self.length[0] if self.length else 1

    @property
    def most(self) -> int:
        """The most digits."""
        return self.length[1] if self.length else LONGEST

    @property
    def digits(self) -> str:
        """How many digits, in words."""
        if self.length is None:
            return "any number of digits"
        count = str(self.least) if self.least == self.most else f"{self.least} to {self.most}"
        return f"{count} digit{'s' if self.most > 1 else ''}"

    @property
    def is_digit(self) -> bool:
        """Whether it holds a single digit."""
        return self.most == 1

    def hides(self, other: Rule) -> bool:
        """Whether it surely matches each path that `other` matches."""
        return self.files in {other.files, *EVERYTHING}

    def example(self) -> str:
        """A value that keeps the rule, made up; empty where none of those that were tried does.

        That says little of a rule that very few values keep.
        """
        dice = Random(0)  # the same values each time
        endings: tuple[str, ...] = ("", *"0123456789") if self.check else ("",)
        for _ in range(TRIES):
            value = _made_up(self, dice)
            for ending in endings:
                if not self.broken(tried := value[: len(value) - len(ending)] + ending):
                    return tried
        return ""

    def broken(self, value: str) -> str:
        """Why `value` cannot be in this field, as the short code of a reason; empty where it can."""
        if not self.least <= len(value) <= self.most:
            return "wrong_length"
        number = int(value) if value else -1
        fits = (
            (self.pattern is None or re.fullmatch(self.pattern, value))
            and (self.range is None or self.range[0] <= number <= self.range[1])
            and (self.date is None or _is_date(value, self.date))
            and (self.check is None or _passes(self.check, value))
        )
        return "" if fits else f"rule:{self.name}"

    @cached_property
    def _files(self) -> re.Pattern[str]:
        return re.compile(_glob(self.files), re.DOTALL)

    def matches(self, path: str) -> bool:
        """Whether a path under the inbox is of this kind; a pattern without a slash is for the file's name alone."""
        name = path if "/" in self.files else path.rpartition("/")[2]
        return self._files.fullmatch(name) is not None


def rule_for(path: str, rules: Iterable[Rule]) -> Rule | None:
    """The first rule that a path under the inbox matches."""
    return next((rule for rule in rules if rule.matches(path)), None)


def steer(found: Sequence[Candidate], rule: Rule | None) -> tuple[Candidate, str, str]:
    """Choose among values, the likeliest first: the one to take, why it or the likeliest is doubtful, the next best.

    Where the likeliest breaks the rule, the likeliest that does not is taken, if it is likely enough; the alternative
    is the value that it stands in for.
    """
    best = found[0]
    second = next((other.value for other in found[1:] if other.value), "")
    if rule is None or not (why := rule.broken(best.value)):
        return best, "", second
    for other in found[1:]:
        if other.score >= best.score + PLAUSIBLE and not rule.broken(other.value):
            return other, f"rule:{rule.name}", best.value
    return best, why, second


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_date(value: str, form: str) -> bool:
    if not re.search(r"%[yYGcx]", form):  # any year will do, one with 29 February too
        value, form = f"2024{value}", f"%Y{form}"
    try:
        return datetime.strptime(value, form).strftime(form) == value
    except ValueError:
        return False


def _made_up(rule: Rule, dice: Random) -> str:
    """A value as a rule may have it: a date, a number of its range, or digits with some of its pattern among them."""
    length = dice.randint(rule.least, min(rule.most, rule.least + MORE))
    if rule.date is not None:
        return (datetime(1950, 1, 1) + timedelta(minutes=dice.randrange(100 * 365 * 1440))).strftime(rule.date)
    if rule.range is not None:
        return str(dice.randint(rule.range[0], min(rule.range[1], 10**rule.most - 1))).zfill(length)
    digits = "".join(dice.choices("0123456789", k=length))
    parts: list[str] = ["", *re.findall("[0-9]+", rule.pattern or "")]
    part = dice.choice(parts)
    return (part + digits)[:length] if dice.random() < 0.5 else (digits + part)[-length:]


def _takes(check: str, length: int) -> bool:
    """Whether python-stdnum refuses not each number of so many digits for its length."""
    for digit in "0123456789":
        try:
            _checker(check).validate(digit * length)
        except InvalidLength:
            continue
        except ValidationError:
            pass
        return True
    return False


def _passes(check: str, value: str) -> bool:
    module = _checker(check)
    return module is not None and bool(module.is_valid(value))


@lru_cache
def _checker(name: str) -> Any:
    """The module of python-stdnum with this name; None where there is none that checks numbers."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?", name):
        return None
    try:
        module = importlib.import_module(f"stdnum.{name}")
    except ModuleNotFoundError:
        return None
    return module if callable(getattr(module, "is_valid", None)) else None


def _glob(pattern: str) -> str:
    """A pattern for paths as a regular expression: `*` and `?` within a name, `**` through folders."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(meaning.get(part, re.escape(part)) for part in parts)
