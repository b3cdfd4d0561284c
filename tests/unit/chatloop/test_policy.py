"""Rules about tool calls: which one decides, and that an error never opens a door."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from steersman_chatloop.policy import SortedCalls, sort_out
from steersman_contracts.judging import Circumstances, Verdict, conditions_of, judge, values_of
from steersman_contracts.parts import TextPart, ToolCallPart
from steersman_contracts.policies import (
    Decision,
    Level,
    LevelRules,
    PendingApproval,
    Rule,
    RuleFacts,
    WorkspaceFacts,
)
from steersman_runtime.conditions import Conditions, Question

Judge = Callable[..., Awaitable[Verdict]]
HERE = Circumstances(
    "chat-1",
    steps=3,
    facts=RuleFacts(500, WorkspaceFacts("w1", "mine", template="python", driver="container")),
)


@pytest.fixture
async def conditions() -> AsyncGenerator[Conditions]:
    found = Conditions()
    yield found
    await found.aclose()


@pytest.fixture
def verdict(conditions: Conditions) -> Judge:
    async def judged(
        *levels: LevelRules, needs_approval: bool = False, **arguments: Any
    ) -> Verdict:
        asked = conditions_of(levels, "execute", arguments)
        question = Question(values_of("execute", arguments, HERE), asked)
        (holding,) = await conditions.holding([question])
        return judge(levels, "execute", arguments, holding=holding, needs_approval=needs_approval)

    return judged


def at(level: Level, *rules: Rule) -> LevelRules:
    return LevelRules(level, rules)


@pytest.mark.parametrize(("needs_approval", "decision"), [(False, "allow"), (True, "ask")])
async def test_without_a_rule_the_tool_decides(
    needs_approval: bool, decision: Decision, verdict: Judge
) -> None:
    assert await verdict(needs_approval=needs_approval) == Verdict(decision)


async def test_the_first_rule_that_fits_decides_for_its_level(verdict: Judge) -> None:
    rules = at(
        "system",
        Rule("allow", tool="read_*"),
        Rule("ask", arguments={"command": "rm *"}, reason="it deletes"),
        Rule("allow"),
        Rule("deny"),
    )

    assert await verdict(rules, command="rm -r x") == Verdict("ask", "it deletes")
    assert await verdict(rules, command="ls") == Verdict("allow")


async def test_the_strictest_level_decides(verdict: Judge) -> None:
    assert (
        await verdict(
            at("system", Rule("ask")), at("user", Rule("deny")), at("chat", Rule("allow"))
        )
    )[0] == "deny"
    assert (await verdict(at("system", Rule("ask")), at("chat", Rule("allow"))))[0] == "ask"


@pytest.mark.parametrize(
    ("when", "arguments", "fits"),
    [
        ('args.command.startsWith("rm")', {"command": "rm x"}, True),
        ('args.command.startsWith("rm")', {"command": "ls"}, False),
        ("args.files.size() > 2", {"files": ["a", "b", "c"]}, True),
        ('tool == "execute" && workspace.id == "w1"', {}, True),
        ('workspace.driver == "container" && workspace.template in ["go", "python"]', {}, True),
        ('workspace.name == ""', {}, False),
        ("chat.steps > 2 && chat.cost_micros > 100", {}, True),
        ("chat.steps > 5", {}, False),
    ],
)
async def test_a_condition_sees_the_call_and_where_it_is(
    when: str, arguments: dict[str, Any], fits: bool, verdict: Judge
) -> None:
    decision = (await verdict(at("system", Rule("deny", when=when)), **arguments)).decision
    assert decision == ("deny" if fits else "allow")


@pytest.mark.parametrize(
    ("rule", "decision"),
    [
        (Rule("allow", when="args.nothing.here > 1"), "ask"),
        (Rule("deny", when="args.nothing.here > 1"), "deny"),
        (Rule("ask", when="args.nothing.here > 1"), "ask"),
    ],
)
async def test_a_condition_that_fails_never_allows(
    rule: Rule, decision: Decision, verdict: Judge
) -> None:
    assert (await verdict(at("system", rule), needs_approval=True)).decision == decision


async def test_values_that_are_no_text_are_compared_as_json(verdict: Judge) -> None:
    rules = at("system", Rule("deny", arguments={"force": "true"}))

    assert (await verdict(rules, force=True)).decision == "deny"
    assert (await verdict(rules, force=False)).decision == "allow"
    assert (await verdict(rules)).decision == "allow"


def test_calls_are_sorted_by_what_is_to_be_done_with_them() -> None:
    calls = [ToolCallPart(str(n), f"tool_{n}", {"n": n}) for n in range(5)]
    levels = (
        at(
            "system",
            Rule("deny", tool="tool_0", reason="never"),
            Rule("ask", tool="tool_[123]", reason="ask first"),
        ),
    )

    result = sort_out(
        calls,
        levels=levels,
        needing_approval=frozenset(),
        granted=frozenset({"tool_0", "tool_2"}),
        approved=frozenset({"3"}),
        holding={},
    )

    assert result.allowed == (calls[2], calls[3], calls[4])
    assert result.asked == (PendingApproval("1", "tool_1", {"n": 1}, "ask first"),)
    (refused,) = result.refused
    assert refused.content == (TextPart("this call is not allowed: never"),)
    assert isinstance(result, SortedCalls)


def test_what_a_model_wants_confirmed_is_asked_whatever_rules_and_grants_say() -> None:
    buy = ToolCallPart("1", "computer", {"action": "key", "confirm": "Buy it for 9 euros?"})
    other = ToolCallPart("2", "execute", {"confirm": "no question of ours"})

    def sorted_with(*levels: LevelRules, approved: frozenset[str] = frozenset()) -> SortedCalls:
        return sort_out(
            (buy, other),
            levels=levels,
            needing_approval=frozenset(),
            granted=frozenset({"computer"}),
            approved=approved,
            holding={},
        )

    asked = PendingApproval("1", "computer", buy.arguments, "Buy it for 9 euros?")
    assert sorted_with(at("chat", Rule("allow"))) == SortedCalls((other,), (asked,), ())
    assert sorted_with(approved=frozenset({"1"})) == SortedCalls((buy, other), (), ())
    assert len(sorted_with(at("system", Rule("deny"))).refused) == 2
