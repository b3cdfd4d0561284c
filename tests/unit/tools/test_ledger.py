from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from steersman_contracts.errors import Conflict
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import TextPart
from steersman_contracts.rpc.tools import CallResult
from steersman_tools.ledger import FORGOTTEN, CallKey, MemoryLedger

A = CallKey(ChatId("chat"), "a")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ledger(clock: Clock, **limits: int) -> MemoryLedger:
    bounds: dict[str, int] = {"kept": 3, "kept_s": 60, "kept_bytes": 10_000} | limits
    return MemoryLedger(**bounds, clock=clock)


def key(number: int) -> CallKey:
    return CallKey(ChatId("chat"), str(number))


def result(text: str = "done") -> CallResult:
    return CallResult((TextPart(text),))


async def test_a_call_is_given_out_once_and_then_its_result(clock: Clock) -> None:
    calls = ledger(clock)

    assert await calls.reserve(A, "f", running=True, repeatable=False) is None
    with pytest.raises(Conflict):
        await calls.reserve(A, "f", running=True, repeatable=False)
    await calls.finish(A, result())

    assert await calls.reserve(A, "f", running=True, repeatable=False) == result()
    with pytest.raises(Conflict):
        await calls.reserve(A, "other", running=True, repeatable=False)


async def test_a_refused_call_has_its_result_whatever_it_would_have_been(clock: Clock) -> None:
    calls = ledger(clock)

    await calls.refuse(A, result("cancelled"))

    assert await calls.reserve(A, "anything", running=True, repeatable=False) == result("cancelled")
    assert await calls.reserve(A, "something else", running=True, repeatable=False) == result(
        "cancelled"
    )


async def test_refusing_changes_nothing_once_a_call_was_taken(clock: Clock) -> None:
    calls = ledger(clock)
    await calls.reserve(A, "f", running=True, repeatable=False)

    await calls.refuse(A, result("cancelled"))
    await calls.finish(A, result())
    await calls.refuse(A, result("cancelled"))

    assert await calls.reserve(A, "f", running=True, repeatable=False) == result()


async def test_the_oldest_results_go_first_and_all_go_in_time(clock: Clock) -> None:
    calls = ledger(clock)
    for number in range(5):
        clock.now = number
        await calls.reserve(key(number), "f", running=True, repeatable=False)
        await calls.finish(key(number), result())

    assert len(calls) == 3
    clock.now = 62
    assert await calls.reserve(key(4), "f", running=True, repeatable=False) == result()
    assert len(calls) == 2
    clock.now = 64
    assert await calls.reserve(key(4), "f", running=True, repeatable=False) is None


async def test_too_many_bytes_cost_the_content_but_not_the_memory_of_the_call(
    clock: Clock,
) -> None:
    calls = ledger(clock, kept=100, kept_bytes=2_500)
    for number in range(10):
        await calls.reserve(key(number), "f", running=True, repeatable=False)
        await calls.finish(key(number), result("x" * 1000))

    results = [
        await calls.reserve(key(number), "f", running=True, repeatable=False)
        for number in range(10)
    ]

    assert results == [FORGOTTEN] * 8 + [result("x" * 1000)] * 2
    assert FORGOTTEN.is_error


class LedgerMachine(RuleBasedStateMachine):
    """No key is ever given out twice while it is remembered."""

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.calls = ledger(self.clock, kept=5, kept_bytes=300)
        self.running: set[CallKey] = set()

    def drive(self, key: CallKey) -> CallResult | None:
        step = self.calls.reserve(key, "f", running=True, repeatable=False)
        try:
            step.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("the memory ledger waits for nothing")

    @rule(target=keys, number=st.integers(0, 8))
    def name(self, number: int) -> CallKey:
        return key(number)

    @rule(key=keys)
    def reserve(self, key: CallKey) -> None:
        if key in self.running:
            with pytest.raises(Conflict):
                self.drive(key)
        elif self.drive(key) is None:
            self.running.add(key)

    @rule(key=keys, size=st.integers(0, 100))
    def finish(self, key: CallKey, size: int) -> None:
        if key in self.running:
            self.running.remove(key)
            with pytest.raises(StopIteration):
                self.calls.finish(key, result("x" * size)).send(None)
            assert self.drive(key) in (result("x" * size), FORGOTTEN)

    @rule(seconds=st.integers(0, 40))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def bounded(self) -> None:
        assert len(self.calls) <= 5


LedgerMachine.TestCase.settings = settings(deadline=None, max_examples=50)
TestLedgerMachine = LedgerMachine.TestCase
