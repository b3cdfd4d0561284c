"""Conditions that anybody writes: one that never ends costs its own answer, and nobody else's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from steersman_runtime.conditions import Conditions, Question

TEN = "[0,1,2,3,4,5,6,7,8,9]"


def nested(depth: int) -> str:
    """Looks at ten to the `depth` combinations."""
    condition = "true"
    for level in range(depth):
        condition = f"{TEN}.all(x{level}, {condition})"
    return condition


ENDLESS = nested(14)
HUGE = "[args.s]" + ".map(a, a + a)" * 60 + "[0].size() > 0"


@pytest.fixture
async def conditions() -> AsyncGenerator[Conditions]:
    found = Conditions()
    yield found
    await found.aclose()


def about(*conditions: str, **arguments: Any) -> Question:
    return Question({"tool": "t", "args": arguments}, conditions)


async def test_each_question_gets_its_own_answers(conditions: Conditions) -> None:
    holding = await conditions.holding(
        [about('tool == "t"', "args.n > 2", n=3), about(n=1), about("args.n > 2", n=1)]
    )

    assert holding == [{'tool == "t"': True, "args.n > 2": True}, {}, {"args.n > 2": False}]


@pytest.mark.parametrize(
    "failing", ["args.nothing > 1", "args.s > 1", "args.s", "1", "args.x ==", "unknown()"]
)
async def test_what_cannot_be_evaluated_or_is_neither_true_nor_false_has_no_answer(
    failing: str, conditions: Conditions
) -> None:
    assert await conditions.holding([about(failing, "true", s="x")]) == [{"true": True}]


@pytest.mark.parametrize("bad", [ENDLESS, HUGE], ids=["time", "memory"])
async def test_one_that_takes_all_time_or_memory_costs_its_own_answer_alone(
    bad: str, conditions: Conditions
) -> None:
    questions = [about("1 < 2", bad, "2 < 3", s="x"), about("3 < 4")]
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.create_task(beat())
    holding = await conditions.holding(questions, within_s=60)
    beating.cancel()

    assert holding == [{"1 < 2": True, "2 < 3": True}, {"3 < 4": True}]
    assert beats > 3, "and everything else goes on meanwhile"


async def test_what_comes_after_the_time_for_all_has_no_answer(conditions: Conditions) -> None:
    assert await conditions.holding([about("true")], within_s=0) == [{}]
    assert await conditions.holding([about("true")]) == [{"true": True}]


async def test_whoever_gives_up_leaves_no_answer_to_the_next(conditions: Conditions) -> None:
    asking = asyncio.create_task(conditions.holding([about("true", ENDLESS)]))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await asking
    assert asking.cancelled()

    assert await conditions.holding([about("1 > 2")]) == [{"1 > 2": False}]


async def test_many_ask_at_once(conditions: Conditions) -> None:
    asked = [conditions.holding([about(f"args.n == {n}", n=n)]) for n in range(40)]

    assert await asyncio.gather(*asked) == [[{f"args.n == {n}": True}] for n in range(40)]


async def test_values_of_any_size_and_depth_arrive_or_have_no_answer(
    conditions: Conditions,
) -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    questions = [about("args.s.size() == 2000000", s="x" * 2_000_000), about("true", deep=deep)]

    first, second = await conditions.holding(questions)

    assert first == {"args.s.size() == 2000000": True}
    assert second in ({}, {"true": True})


async def test_what_is_no_condition_is_told_with_its_reason(conditions: Conditions) -> None:
    fine, broken, deep = await conditions.problems(
        ["args.x == 1", "args.x ==", "(" * 900 + "1" + ")" * 900]
    )

    assert fine is None
    assert broken is not None
    assert "args.x ==" in broken
    assert deep is not None


async def test_nothing_of_the_service_is_in_the_environment_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STEERSMAN_SECRET_KEY", "s3cret")
    before = children()
    conditions = Conditions()
    await conditions.holding([about("true")])
    (pid,) = children() - before
    with open(f"/proc/{pid}/environ") as file:  # noqa: ASYNC230, PTH123  # a few bytes
        environment = file.read()
    await conditions.aclose()

    assert "s3cret" not in environment
    assert pid not in children()


def children() -> set[str]:
    """Of this process, other tests' included."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123  # of the kernel
        return set(file.read().split())
