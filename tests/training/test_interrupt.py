"""Signals as a wish to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from famcli.training import interrupt
from famcli.training.interrupt import SAME, SIGNALS, Interrupt


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time in seconds, to be set; the handlers of before are there again afterwards."""
    now = [100.0]
    before = [signal.getsignal(number) for number in SIGNALS]
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now[0])
    yield now
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_remembered_and_the_second_interrupts(number: signal.Signals, clock: list[float]) -> None:
    """One signal is a wish, told once; another one later ends whatever is being done."""
    told: list[int] = []
    with Interrupt(lambda: told.append(1)) as stopping:
        assert not stopping()
        signal.raise_signal(number)
        assert stopping()
        assert not stopping.forced
        clock[0] += SAME + 0.1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert stopping.forced
    assert told == [1]


def test_a_signal_passed_on_is_the_same(clock: list[float]) -> None:
    """Ctrl-C reaches a process from the terminal and again from torchrun at once: that is one wish."""
    told: list[int] = []
    with Interrupt(lambda: told.append(1)) as stopping:
        assert not stopping()
        signal.raise_signal(signal.SIGINT)
        clock[0] += SAME / 2
        signal.raise_signal(signal.SIGTERM)
        assert stopping()
        assert not stopping.forced
    assert told == [1]


def test_before_the_first_question_a_signal_interrupts(clock: list[float]) -> None:
    """While there is no step to finish, such as when features are computed, nobody has to wait."""
    with Interrupt() as stopping:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not stopping.wanted


def test_the_signals_are_given_back_after_an_error(clock: list[float]) -> None:
    """Whatever ends the context, Ctrl-C is Ctrl-C again."""
    with pytest.raises(ValueError, match="x"), Interrupt():
        raise ValueError("x")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_in_another_thread_nothing_is_taken_over(clock: list[float]) -> None:
    """Python lets only the main thread set handlers; a run in another thread cannot be interrupted, but runs."""
    answers: list[bool] = []

    def work() -> None:
        with Interrupt() as stopping:
            answers.append(stopping())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]
