"""Agents of a chat, with models of the fakes: spawned, waited for, told apart by kind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from fakes.script import Answer, RequestView, Usage
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup, ToolHost, said
from support.services import running_chatloop

from steersman.embedded.nats import NatsServer
from steersman_chatloop.offers import NOT_BELOW_A_PLAN
from steersman_contracts import events
from steersman_contracts.chats import Chat, Role, Status
from steersman_contracts.parts import FilePart, JsonObject, JsonPart, TextPart, ToolResultPart
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc.desktop_chats import FIND_DESKTOP, DesktopOf, FindDesktop
from steersman_contracts.rpc.tools import CallResult, CallTool
from steersman_contracts.terms import LimitReached, TurnLimits

pytestmark = pytest.mark.one_stack

AGENTS = 50
PATIENCE_S = 100.0


async def agents_of(store: StoreDriver, chat: Chat) -> tuple[Chat, ...]:
    request = people.ListChats(store.actor, limit=200, parent_id=chat.id, archived=None)
    return (await store.rpc.call(people.LIST, request)).chats


async def results(store: StoreDriver, chat: Chat) -> list[ToolResultPart]:
    messages = await store.messages(chat.id)
    return [p for m in messages for p in m.parts if isinstance(p, ToolResultPart)]


def value(result: ToolResultPart) -> JsonObject:
    (part,) = result.content
    assert isinstance(part, JsonPart), part
    return part.value


def error(result: ToolResultPart) -> str:
    (part,) = result.content
    assert isinstance(part, TextPart)
    assert result.is_error
    return part.text


def spawned(view: RequestView) -> Sequence[str]:
    """The ids of the agents that the last step spawned."""
    return [json.loads(result.text)["agent_id"] for result in view.results]


def delegating(*prompts: str, **arguments: object) -> Answer:
    """A parent that spawns agents, waits for all of them, and says that it has their reports."""

    def answer(view: RequestView) -> Turn:
        match view.step_index:
            case 0:
                calls = [{"prompt": prompt, **arguments} for prompt in prompts]
                return Turn([ToolCall("spawn_agent", call) for call in calls])
            case 1:
                return Turn([ToolCall("wait_agent", {"agent_ids": spawned(view)})])
            case _:
                return Turn([Text("all reports are here")])

    return answer


def reporting(view: RequestView) -> Turn:
    return Turn([Text(f"report on {view.last_user_text}")])


async def test_a_parent_reads_the_reports_of_its_agents_even_with_room_for_one_chat(
    nats: NatsServer, store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("parent", delegating("one", "two", "three", model="chat/child"))
    fakes.script("child", reporting)
    await models.add("chat", "child")
    async with running_chatloop(nats.url(), max_concurrent_turns=1):
        chat = await store.create("go", model=await models.add("chat", "parent"))
        rested = await store.at_rest(chat.id)

    assert rested.last_outcome == "completed"
    told = value((await results(store, chat))[-1])
    assert [(a["status"], a["report"]) for a in told["agents"]] == [
        ("completed", "report on one"),
        ("completed", "report on two"),
        ("completed", "report on three"),
    ]
    assert words_of((await store.messages(chat.id))[-1]) == "all reports are here"
    found = await agents_of(store, chat)
    assert {c.id for c in found} == {a["agent_id"] for a in told["agents"]}
    asked = [request for request in fakes.requests if request.model == "child"]
    assert all("# You are an agent" in request.view.system for request in asked)
    assert [tool.name for request in asked for tool in request.view.tools] == []


@asynccontextmanager
async def chatloop_process(nats_url: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A worker that can be killed, with room for four chats."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "steersman_chatloop",
        env=os.environ
        | {
            "STEERSMAN_NATS_URL": nats_url,
            "STEERSMAN_LEASE_S": "2",
            "STEERSMAN_MAX_CONCURRENT_TURNS": "4",
            "STEERSMAN_GENERATE_TITLES": "false",
        },
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.own_stack  # a worker that is killed leaves what nobody gives back
async def test_all_reports_of_fifty_agents_arrive_once_though_the_worker_is_killed(
    nats: NatsServer, store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    in_the_middle = asyncio.Event()
    finished: set[str] = set()

    def child(view: RequestView) -> Turn:
        finished.add(view.last_user_text)
        if len(finished) > AGENTS // 3:
            in_the_middle.set()
        return reporting(view)

    prices = {"input": 1_000_000, "output": 2_000_000}
    prompts = [f"part {number}" for number in range(AGENTS)]
    fakes.script("parent", delegating(*prompts, model="chat/child"))
    fakes.script("child", child)
    await models.add("chat", "child", prices=prices)
    async with chatloop_process(nats.url()) as victim:
        chat = await store.create("go", model=await models.add("chat", "parent", prices=prices))
        async with asyncio.timeout(PATIENCE_S):
            await in_the_middle.wait()
        victim.kill()
        await victim.wait()
        async with running_chatloop(nats.url(), max_concurrent_turns=4):
            rested = await store.at_rest(chat.id, PATIENCE_S)

    assert rested.last_outcome == "completed"
    told = value((await results(store, chat))[-1])
    assert [(a["status"], a["report"]) for a in told["agents"]] == [
        ("completed", f"report on {prompt}") for prompt in prompts
    ]
    agents = await agents_of(store, chat)
    assert len(agents) == AGENTS
    for agent in agents:
        roles = [message.role for message in await store.messages(agent.id)]
        assert roles == [Role.USER, Role.ASSISTANT]
    assert all(agent.cost_micros > 0 for agent in agents)
    costs = [rested.cost_micros, *(agent.cost_micros for agent in agents)]
    assert rested.tree_cost_micros == sum(costs)


@pytest.mark.usefixtures("chatloops")
async def test_a_finished_agent_is_told_of_at_once_and_takes_another_message(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    agents: list[str] = []

    def parent(view: RequestView) -> Turn:
        if view.step_index == 0:
            return Turn([ToolCall("spawn_agent", {"prompt": "one", "model": "chat/child"})])
        if view.step_index == 1:
            agents.extend(spawned(view))
        one: dict[str, object] = {"agent_ids": agents}
        calls = {
            1: [ToolCall("wait_agent", one)],
            2: [ToolCall("wait_agent", one), ToolCall("list_agents")],
            3: [ToolCall("message_agent", {"agent_id": agents[0], "message": "two"})],
            4: [ToolCall("wait_agent", one)],
            5: [
                ToolCall("wait_agent", {"agent_ids": ["nobody"]}),
                ToolCall("wait_agent", {"agent_ids": [agents[0][:-4] + "0000"]}),
                ToolCall("spawn_agent", {"prompt": "x", "model": "chat/none"}),
                ToolCall("interrupt_agent", {"agent_id": agents[0]}),
            ],
        }
        return Turn(calls.get(view.step_index, [Text("done")]))

    fakes.script("parent", parent)
    fakes.script("child", reporting)
    await models.add("chat", "child")
    chat = await store.create("go", model=await models.add("chat", "parent"))
    await store.at_rest(chat.id)

    _, first, again, listed, sent, second, *others = await results(store, chat)
    assert value(first)["agents"][0]["report"] == "report on one"
    assert value(again) == value(first)
    without_report = {k: v for k, v in value(first)["agents"][0].items() if k != "report"}
    assert value(listed) == {"agents": [without_report]}
    assert value(sent)["message"] == "started"
    assert value(second)["agents"][0]["report"] == "report on two"
    bad, unknown, no_model, idle = others
    assert "agent_ids" in error(bad)
    assert "this chat has no agent" in error(unknown)
    assert "no enabled model 'chat/none'" in error(no_model)
    assert value(idle)["status"] == "waiting"
    paused = [e for e in store.log.of(chat.id) if isinstance(e, events.ActionRequired)]
    assert len(paused) <= 2, "the second wait was for an agent that was done"


async def nothing(_: CallTool) -> CallResult:
    return said("nothing")


@pytest.mark.usefixtures("chatloops")
async def test_the_kind_of_an_agent_decides_about_its_tools(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    tool_host.tools |= {"look": nothing, "drop": nothing}
    tool_host.facts["look"] = {"read_only": True}

    def parent(view: RequestView) -> Turn:
        if view.step_index == 0:
            kinds = ("explore", "computer_use", "general")
            return Turn(
                [
                    ToolCall("spawn_agent", {"prompt": kind, "type": kind, "model": "chat/child"})
                    for kind in kinds
                ]
            )
        if view.step_index == 1:
            found = [json.loads(r.text)["agent_id"] for r in view.results if r.text[0] == "{"]
            return Turn([ToolCall("wait_agent", {"agent_ids": found})])
        return Turn([Text("done")])

    def child(view: RequestView) -> Turn:
        if view.step_index == 0:
            return Turn([ToolCall("look"), ToolCall("drop")])
        return Turn([Text("; ".join(result.text for result in view.results))])

    fakes.script("parent", parent)
    fakes.script("child", child)
    await models.add("chat", "child")
    chat = await store.create("go", model=await models.add("chat", "parent"))
    await store.at_rest(chat.id)

    _, no_desktop, _, reports = await results(store, chat)
    assert "there is no desktop here" in error(no_desktop)
    assert [a["report"] for a in value(reports)["agents"]] == [
        "nothing; drop is not for you: you may only look, and change nothing",
        "nothing; nothing",
    ]
    offered = {
        r.view.last_user_text: [tool.name for tool in r.view.tools]
        for r in fakes.requests
        if r.model == "child"
    }
    assert offered == {"explore": ["look"], "general": ["drop", "look"]}
    called = [tool_host.called.get_nowait().tool for _ in range(tool_host.called.qsize())]
    assert sorted(called) == ["drop", "look", "look"]


@pytest.mark.usefixtures("chatloops")
async def test_an_agent_on_a_desktop_may_share_it_and_shows_at_its_end_what_it_saw(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    screen = FilePart("image/png", "screen-2x2-d.png", data=b"what it saw last")

    async def look(_: CallTool) -> CallResult:
        return CallResult((TextPart("This is the screen."), screen))

    tool_host.tools["computer"] = look

    def answered(view: RequestView) -> list[str]:
        # Not by steps: a picture goes to this provider as a message of a person.
        return [result.text for message in view.messages for result in message.results]

    def parent(view: RequestView) -> Turn:
        found = answered(view)
        if not found:
            wanted: dict[str, object] = {
                "prompt": "look",
                "model": "chat/child",
                "share_desktop": True,
            }
            kinds = ("general", "computer_use")
            return Turn([ToolCall("spawn_agent", wanted | {"type": kind}) for kind in kinds])
        if len(found) == 2:
            (agent_id,) = (json.loads(text)["agent_id"] for text in found if text[0] == "{")
            return Turn([ToolCall("wait_agent", {"agent_ids": [agent_id]})])
        return Turn([Text("done")])

    def child(view: RequestView) -> Turn:
        if not answered(view):
            return Turn([ToolCall("computer", {"action": "screenshot"})])
        return Turn([Text("I saw it")])

    fakes.script("parent", parent)
    fakes.script("child", child)
    await models.add("chat", "child")
    chat = await store.create("go", model=await models.add("chat", "parent"))
    await store.at_rest(chat.id)

    refused, _, reports = await results(store, chat)
    (agent,) = await agents_of(store, chat)
    found = await store.rpc.call(FIND_DESKTOP, FindDesktop(agent.id))
    assert "uses no desktop" in error(refused)
    told, seen = reports.content
    assert isinstance(told, JsonPart)
    assert told.value["agents"][0]["report"] == "I saw it"
    assert isinstance(seen, FilePart)
    assert seen.data == screen.data
    assert found == DesktopOf(chat.id, (chat.id,), "computer_use")
    prompt = next(r.view.system for r in fakes.requests if r.model == "child")
    assert "Begin with a screenshot" in prompt


@pytest.mark.usefixtures("chatloops")
async def test_an_agent_shares_the_limit_of_its_chat_and_goes_on_once_it_is_raised(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    tool_host.tools["look"] = nothing

    def child(view: RequestView) -> Turn:
        if view.step_index < 2:
            return Turn([ToolCall("look", {"n": view.step_index}), Usage(input=45, output=5)])
        return Turn([*reporting(view).items, Usage(input=45, output=5)])

    fakes.script("parent", delegating("one", model="chat/child"))
    fakes.script("child", child)
    gate = fakes.hold("child")
    await models.add("chat", "child")
    limits = TurnLimits(steps=4)
    chat = await store.create("go", model=await models.add("chat", "parent"), limits=limits)
    await store.log.until(chat.id, events.ActionRequired)
    gate.release()
    reached = LimitReached("steps", 4, 4)
    async with asyncio.timeout(60):
        while not any(
            isinstance(e, events.ActionRequired) and e.action.limit == reached
            for e in store.log.of(chat.id)
        ):
            await store.log.more(len(store.log.seen))
    (agent,) = await agents_of(store, chat)
    assert agent.action is not None
    assert agent.action.limit == LimitReached("steps", 4, 4, chat.id)
    assert len(fakes.requests) == 4  # two of each

    await store.set_limits(chat.id, steps=20)
    rested = await store.at_rest(chat.id)

    assert (rested.last_outcome, len(fakes.requests)) == ("completed", 6)
    (told,) = value((await results(store, chat))[-1])["agents"]
    assert told["report"] == "report on one"


@pytest.mark.usefixtures("chatloops")
async def test_an_agent_at_work_changes_nothing_more_once_its_chat_makes_a_plan(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    tool_host.tools |= {"look": nothing, "drop": nothing}
    tool_host.facts["look"] = {"read_only": True}

    def child(view: RequestView) -> Turn:
        if view.step_index == 0:
            return Turn([ToolCall("look"), ToolCall("drop")])
        return Turn([Text("; ".join(result.text for result in view.results))])

    fakes.script("parent", delegating("one", model="chat/child"))
    fakes.script("child", child)
    gate = fakes.hold("child")
    await models.add("chat", "child")
    chat = await store.create("go", model=await models.add("chat", "parent"))
    async with asyncio.timeout(40):
        await fakes.held("child")

    planning = people.UpdateChat(store.actor, chat.id, plan_mode=True)
    await store.rpc.call(people.UPDATE, planning)
    gate.release()
    await store.at_rest(chat.id)

    (told,) = value((await results(store, chat))[-1])["agents"]
    assert told["report"] == f"nothing; {NOT_BELOW_A_PLAN}"
    first, second = [r.view for r in fakes.requests if r.model == "child"]
    assert [{tool.name for tool in view.tools} for view in (first, second)] == [
        {"drop", "look"},
        {"look"},
    ]
    assert "Whoever gave you this task is planning" in second.system
    assert tool_host.called.qsize() == 1


@pytest.mark.usefixtures("chatloops")
async def test_an_interrupt_of_the_parent_ends_its_agent_in_the_middle_of_a_word(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("parent", delegating("one", model="chat/child"))
    fakes.script("child", Script([Turn([Text("some words that nobody will finish")])]))
    gate = fakes.hold("child", deltas=2)
    await models.add("chat", "child")
    chat = await store.create("go", model=await models.add("chat", "parent"))
    async with asyncio.timeout(40):
        await store.log.until(chat.id, events.ActionRequired)
        await fakes.held("child")
    (agent,) = await agents_of(store, chat)
    await store.log.until(agent.id, events.PartDelta)

    stopped = await store.interrupt(chat.id)

    assert stopped.status is Status.WAITING
    ended = await store.at_rest(agent.id)
    assert ended.last_outcome == "interrupted"
    assert words_of((await store.messages(agent.id))[-1]).startswith("some words")
    assert [r.is_error for r in await results(store, chat)] == [False, True]
    gate.release()
