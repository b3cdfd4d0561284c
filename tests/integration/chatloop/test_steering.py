"""Turns that wait for a person: questions, plans, limits; and one that goes in circles."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from fakes.script import Usage
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup, ToolHost, said

from steersman_chatloop.chat_tools.agents import AGENT_TOOLS
from steersman_chatloop.loop_guard import NOTICE
from steersman_contracts.chats import Chat, ClientTool, Status
from steersman_contracts.errors import Conflict, InvalidRequest, NotFound
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import JsonPart, TextPart, ToolResultPart
from steersman_contracts.questions import Answer
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc.tools import CallResult, CallTool
from steersman_contracts.terms import LimitReached, TurnLimits

pytestmark = pytest.mark.one_stack

QUESTION = {"question": "Which?", "options": [{"label": "red"}, {"label": "blue"}]}


async def look(_: CallTool) -> CallResult:
    return said("seen")


async def waits(store: StoreDriver, chat_id: ChatId, *, limit: LimitReached | None = None) -> Chat:
    """Wait until the chat waits for somebody; with a limit, because of it."""
    async with asyncio.timeout(40):
        while True:
            count = len(store.log.seen)
            chat = await store.chat(chat_id)
            if chat.action is not None and limit in (None, chat.action.limit):
                return chat
            await store.log.more(count)


async def results(store: StoreDriver, chat_id: ChatId) -> dict[str, object]:
    """Call id → what the model was given."""
    found: dict[str, object] = {}
    for message in await store.messages(chat_id):
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                item = part.content[0]
                assert isinstance(item, JsonPart | TextPart)
                found[part.call_id] = item.value if isinstance(item, JsonPart) else item.text
    return found


@pytest.mark.usefixtures("chatloops")
async def test_a_question_waits_beside_a_client_tool_and_each_is_answered_by_itself(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    tool_host.tools["look"] = look
    bad = QUESTION | {"options": [{"label": "red"}, {"label": "red"}]}
    fakes.script(
        "m",
        Script(
            [
                Turn(
                    [
                        ToolCall("ask_user_question", {"questions": [QUESTION]}, id="q1"),
                        ToolCall("ask_user_question", {"questions": [bad]}, id="q2"),
                        ToolCall("measure", {}, id="m1"),
                        ToolCall("look", {}, id="l1"),
                    ]
                ),
                Turn([Text("thanks")]),
            ]
        ),
    )
    chat = await store.create(
        "go",
        model=await models.add("chat", "m"),
        client_tools=(ClientTool("measure", "Measure.", {"type": "object"}),),
    )
    waiting = await waits(store, chat.id)
    assert waiting.action is not None
    assert [call.call_id for call in waiting.action.calls] == ["q1", "m1"]
    assert (waiting.action.expires_at - waiting.updated_at).days >= 6

    with pytest.raises(InvalidRequest):
        await store.answer(chat.id, Answer(("green",)))
    with pytest.raises(NotFound):
        await store.answer(chat.id, Answer(("red",)), call_id="m1")
    half = await store.answer(chat.id, Answer(("red",), "dark"))
    assert half.action is not None
    assert [call.call_id for call in half.action.calls] == ["m1"]
    with pytest.raises(NotFound):
        await store.answer(chat.id, Answer(("red",)))
    await store.submit(chat.id, {"m1": "3 m"})
    rested = await store.at_rest(chat.id)

    assert rested.last_outcome == "completed"
    assert await results(store, chat.id) == {
        "q1": {"answers": [{"question": "Which?", "selected": ["red"], "text": "dark"}]},
        "q2": "questions[0] has two options of the same label",
        "m1": "3 m",
        "l1": "seen",
    }


@pytest.mark.usefixtures("chatloops", "tool_host")
async def test_results_of_a_client_for_a_question_are_checked_as_answers_are(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    ask = ToolCall("ask_user_question", {"questions": [QUESTION]}, id="q1")
    fakes.script("m", Script([Turn([ask]), Turn([Text("thanks")])]))
    chat = await store.create("go", model=await models.add("chat", "m"))
    await waits(store, chat.id)

    def submitted(value: Any) -> people.SubmitToolResults:
        outcome = people.ToolOutcome("q1", (JsonPart(value),))
        return people.SubmitToolResults(store.actor, chat.id, (outcome,))

    with pytest.raises(InvalidRequest):
        await store.submit(chat.id, {"q1": "red"})
    wrong = submitted({"answers": [{"selected": ["green"]}]})
    with pytest.raises(InvalidRequest) as refused:
        await store.rpc.call(people.SUBMIT_TOOL_RESULTS, wrong)
    assert refused.value.details["field"] == "results[0].json.answers[0].selected"
    right = submitted({"answers": [{"selected": ["blue"]}], "more": 1})
    await store.rpc.call(people.SUBMIT_TOOL_RESULTS, right)
    await store.at_rest(chat.id)

    assert await results(store, chat.id) == {
        "q1": {"answers": [{"question": "Which?", "selected": ["blue"]}]}
    }


@pytest.mark.usefixtures("chatloops")
async def test_a_plan_is_made_without_changing_anything_and_carried_out_once_approved(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    tool_host.tools |= {"look": look, "drop": look}
    tool_host.facts["look"] = {"read_only": True}
    fakes.script(
        "m",
        Script(
            [
                Turn([ToolCall("look", {}, id="1"), ToolCall("drop", {}, id="2")]),
                Turn([ToolCall("propose_plan", {"plan": "# First"}, id="3")], ends=True),
                Turn([ToolCall("propose_plan", {"plan": "# Second"}, id="4")], ends=True),
                Turn([ToolCall("drop", {}, id="5")]),
                Turn([Text("dropped")]),
            ]
        ),
    )
    chat = await store.create("go", model=await models.add("chat", "m"), plan_mode=True)
    planned = await store.at_rest(chat.id)
    assert planned.plan is not None
    assert (planned.plan.text, planned.plan.state, planned.plan_mode) == (
        "# First",
        "proposed",
        True,
    )

    await store.decide_plan(chat.id, approved=False, comment="smaller")
    again = await store.at_rest(chat.id)
    assert again.plan is not None
    assert (again.plan.text, again.plan.state, again.plan_mode) == ("# Second", "proposed", True)
    await store.decide_plan(chat.id, approved=True)
    done = await store.at_rest(chat.id)
    assert done.plan is not None
    assert (done.plan.state, done.plan_mode, done.last_outcome) == ("approved", False, "completed")
    with pytest.raises(Conflict):
        await store.decide_plan(chat.id, approved=True)

    views = [(await fakes.next_request("m")).view for _ in range(5)]
    names = [{tool.name for tool in view.tools} for view in views]
    agents = [tool.spec for tool in AGENT_TOOLS]
    looking = {spec.name for spec in agents if spec.read_only}
    assert names[0] == {"look", "ask_user_question", "propose_plan"} | looking
    assert names[3] == {"look", "drop", "ask_user_question"} | {spec.name for spec in agents}
    assert "# Plan mode" in views[2].system
    assert "# Plan mode" not in views[3].system
    assert "smaller" in views[2].last_user_text
    called = [tool_host.called.get_nowait() for _ in range(tool_host.called.qsize())]
    assert [call.call_id for call in called] == ["1", "5"]
    given = await results(store, chat.id)
    assert str(given["2"]).startswith("not run: this chat is in plan mode")
    assert words_of((await store.messages(chat.id))[-1]) == "dropped"


@pytest.mark.usefixtures("chatloops")
async def test_a_turn_that_has_used_its_limit_waits_for_a_person(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    tool_host.tools["look"] = look
    steps = [Turn([ToolCall("look", {"n": n}), Usage(input=40, output=10)]) for n in range(5)]
    fakes.script("m", Script([*steps, Turn([Text("done")])]))
    chat = await store.create(
        "go", model=await models.add("chat", "m"), limits=TurnLimits(tokens=100)
    )
    waiting = await waits(store, chat.id)
    assert waiting.action is not None
    assert (waiting.action.calls, waiting.action.limit) == ((), LimitReached("tokens", 100, 100))

    await store.set_limits(chat.id, steps=4)
    again = await waits(store, chat.id, limit=LimitReached("steps", 4, 4))
    assert again.status is Status.REQUIRES_ACTION
    await store.set_limits(chat.id)
    rested = await store.at_rest(chat.id)
    assert (rested.last_outcome, rested.limits) == ("completed", None)


@pytest.mark.usefixtures("chatloops")
async def test_a_turn_that_waits_at_a_limit_can_be_ended_and_another_one_begun(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    tool_host.tools["look"] = look
    fakes.script("m", Script([Turn([ToolCall("look")]), Turn([Text("x")]), Turn([Text("two")])]))
    chat = await store.create("go", model=await models.add("chat", "m"), limits=TurnLimits(steps=1))
    await waits(store, chat.id)
    ended = await store.interrupt(chat.id)
    assert (ended.status, ended.last_outcome, ended.action) == (
        Status.WAITING,
        "interrupted",
        None,
    )

    await store.send(chat.id, "more")
    rested = await store.at_rest(chat.id)
    assert rested.last_outcome == "completed"
    assert words_of((await store.messages(chat.id))[-1]) == "two"


@pytest.mark.usefixtures("chatloops")
async def test_a_model_that_goes_in_circles_is_told_and_then_stopped(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    async def fail(_: CallTool) -> CallResult:
        return CallResult((TextPart("no"),), is_error=True)

    tool_host.tools["build"] = fail
    fakes.script("m", lambda _: Turn([ToolCall("build")]))
    chat = await store.create("go", model=await models.add("anthropic", "m"))
    rested = await store.at_rest(chat.id)

    assert rested.last_outcome == "loop"
    views = [(await fakes.next_request("m")).view for _ in range(6)]
    assert [NOTICE in view.last_user_text for view in views] == [False] * 3 + [True] * 3
    assert not any(NOTICE in words_of(m) for m in await store.messages(chat.id))
