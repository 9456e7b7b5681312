"""Deliveries beside the loop: one at a time, in order, and nothing that went wrong is forgotten."""

from __future__ import annotations

import threading

import pytest

from watcher.courier import Courier


def test_the_loop_goes_on_while_a_delivery_is_under_way() -> None:
    """`send` returns at once; the next one waits for the last, and each is told of in the loop's own thread."""
    happened: list[str] = []
    told: list[threading.Thread] = []
    gate = threading.Event()

    def deliver() -> None:
        gate.wait()
        happened.append("first")

    with Courier() as courier:
        courier.send(deliver, lambda: told.append(threading.current_thread()))
        assert happened == []
        gate.set()
        courier.send(lambda: happened.append("second"), lambda: told.append(threading.current_thread()))
        assert happened[0] == "first"
        courier.wait()
        courier.wait()  # nothing is under way any more
    assert happened == ["first", "second"]
    assert told == [threading.current_thread()] * 2


def test_what_went_wrong_is_raised_once() -> None:
    """An error is met by the next call, which does not begin its own delivery; then the courier is free again."""
    happened: list[str] = []

    def fail() -> None:
        raise OSError("full")

    with Courier() as courier:
        courier.send(fail, lambda: happened.append("told"))
        with pytest.raises(OSError, match="full"):
            courier.send(lambda: happened.append("second"))
        courier.wait()
        courier.send(lambda: happened.append("third"))
    assert happened == ["third"]


def test_an_error_at_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Told to stop, it waits for the delivery under way, and says what hindered it: the next watcher does it again."""

    def fail() -> None:
        raise OSError(28, "No space left on device", "outbox")

    with Courier() as courier:
        courier.send(fail)
    assert "outbox: No space left on device" in caplog.text


def test_signs_of_life_only_while_it_moves() -> None:
    """One who waits gives a sign of life for a delivery that moves, and none for one that hangs."""
    beats: list[int] = []
    gate = threading.Event()

    def deliver() -> None:
        courier.moves()
        gate.wait()

    def beat() -> None:
        beats.append(1)
        gate.set()

    courier = Courier(beat)
    with courier:
        courier.send(deliver)
        courier.wait()
    assert beats == [1]
