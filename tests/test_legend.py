"""What pictures say of a reading."""

from __future__ import annotations

import pytest

from watcher.legend import percent, plain_reason


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (1.0, ">99.9%"),
        (0.9995, ">99.9%"),
        (0.9989, "99.8%"),
        (0.9908, "99.0%"),
        (0.9872, "98%"),
        (0.9899999, "98%"),
        (0.29, "29%"),
        (0.58, "58%"),
        (0.5, "50%"),
        (0.02, "2%"),
        (0.001, "<1%"),
    ],
)
def test_percent(probability: float, text: str) -> None:
    """A percentage never claims a certainty that is not there."""
    assert percent(probability) == text


def test_reasons_in_plain_words() -> None:
    """A known code has its words, a rule its name, and a code to come reads as it is written."""
    assert plain_reason("low_confidence") == "not sure enough"
    assert plain_reason("unsupported") == "a format that is not read"  # of a PDF too, which is known
    assert "check_digit" in plain_reason("rule:check_digit")
    assert plain_reason("something_new") == "something new"
    assert plain_reason("") == ""
