"""A draft of rules against a history: what would have been decided otherwise."""

from __future__ import annotations

from typing import Any

from steersman_contracts.ids import MessageId
from steersman_contracts.parts import TextPart, ToolCallPart
from steersman_contracts.policies import LevelRules, Rule, WorkspaceFacts
from steersman_contracts.rpc.policies import DryRunReport, JudgedCall, Outcome
from steersman_runtime.conditions import Conditions
from steersman_store.dry_runs import MOST_CALLS, Said, Trial, with_draft

SYSTEM = LevelRules("system", (Rule("ask", tool="write_file"),))


def call(call_id: str, tool: str, **arguments: Any) -> ToolCallPart:
    return ToolCallPart(call_id, tool, arguments)


def said(number: int, role: str, *parts: ToolCallPart | TextPart) -> Said:
    return Said(MessageId(number), role, parts)


HISTORY = [
    said(1, "user", TextPart("go")),
    said(2, "assistant", call("a", "execute", command="ls"), call("b", "write_file", path="x")),
    said(3, "assistant", call("c", "execute", command="rm -r x")),
    said(4, "user", TextPart("more")),
    said(
        5,
        "assistant",
        call("d", "execute", command="rm y"),
        ToolCallPart("e", "web_search", {}, provider_executed=True),
    ),
]


async def dry_run(*arguments: Any, **others: Any) -> DryRunReport:
    trial, conditions = Trial(*arguments, **others), Conditions()
    try:
        return trial.report(await conditions.holding(trial.questions))
    finally:
        await conditions.aclose()


async def run(
    *rules: Rule, needing: frozenset[str] = frozenset(), granted: frozenset[str] = frozenset()
) -> DryRunReport:
    return await dry_run(
        HISTORY,
        chat_id="chat-1",
        present=(SYSTEM,),
        draft=with_draft((SYSTEM,), "chat", rules),
        needing_approval=needing,
        granted=granted,
    )


async def test_every_call_is_judged_by_the_rules_as_they_are_and_as_they_would_be() -> None:
    report = await run(Rule("deny", arguments={"command": "rm *"}, reason="it deletes"))

    allowed, asked = Outcome("allow"), Outcome("ask")
    denied = Outcome("deny", "it deletes")
    assert report == DryRunReport(
        (
            JudgedCall(MessageId(2), "a", "execute", '{"command":"ls"}', allowed, allowed),
            JudgedCall(MessageId(2), "b", "write_file", '{"path":"x"}', asked, asked),
            JudgedCall(MessageId(3), "c", "execute", '{"command":"rm -r x"}', allowed, denied),
            JudgedCall(MessageId(5), "d", "execute", '{"command":"rm y"}', allowed, denied),
        ),
        changed=2,
    )


async def test_a_condition_sees_the_steps_of_the_turn() -> None:
    report = await run(Rule("ask", when='chat.steps > 1 && chat.id == "chat-1"'))

    assert [one.call_id for one in report.calls if one.after.decision != one.before.decision] == [
        "c"
    ]


async def test_a_condition_sees_the_cost_so_far_and_the_workspace() -> None:
    history = [
        said(1, "user", TextPart("go")),
        said(2, "assistant", call("a", "t"))._replace(cost_micros=600),
        said(3, "assistant", call("b", "t"))._replace(cost_micros=500),
    ]
    spent = Rule("ask", when="chat.cost_micros > 1000")
    there = Rule("deny", when='workspace.template == "python"')

    async def decided(*rules: Rule) -> list[str]:
        report = await dry_run(
            history,
            chat_id="c",
            workspace=WorkspaceFacts("w1", template="python"),
            present=(),
            draft=(LevelRules("chat", rules),),
            needing_approval=set(),
            granted=set(),
        )
        return [f"{one.call_id} {one.after.decision}" for one in report.calls]

    assert await decided(spent) == ["a allow", "b ask"]
    assert await decided(there) == ["a deny", "b deny"]


def test_a_draft_takes_the_place_of_its_level_alone() -> None:
    above, chat = LevelRules("chat", (Rule("ask"),)), LevelRules("chat", (Rule("deny"),))

    drafted = with_draft((above, SYSTEM, chat), "chat", (), own=chat.rules)
    assert drafted == (above, SYSTEM, LevelRules("chat", ()))
    assert with_draft((above, SYSTEM), "chat", ()) == (above, SYSTEM, LevelRules("chat", ()))
    assert with_draft((SYSTEM,), "system", ()) == (LevelRules("system", ()),)


async def test_what_tools_want_and_what_people_allowed_counts() -> None:
    report = await run(
        Rule("ask", tool="write_file"),
        needing=frozenset({"execute"}),
        granted=frozenset({"write_file"}),
    )

    decisions = {one.call_id: one.after.decision for one in report.calls}
    assert decisions == {"a": "ask", "b": "allow", "c": "ask", "d": "ask"}
    assert report.changed == 0


async def test_the_newest_calls_are_judged_and_long_arguments_cut() -> None:
    history = [
        said(number, "assistant", call(f"c{number}", "t", text="x" * 10_000))
        for number in range(MOST_CALLS + 5)
    ]

    report = await dry_run(
        history, chat_id="c", present=(), draft=(), needing_approval=set(), granted=set()
    )

    assert report.truncated
    assert len(report.calls) == MOST_CALLS
    assert report.calls[-1].call_id == f"c{MOST_CALLS + 4}"
    assert len(report.calls[0].arguments) == 500
