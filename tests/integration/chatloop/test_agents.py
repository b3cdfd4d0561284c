"""Agents of a chat, with real models of the fakes: spawned, waited for, told apart by kind."""

from __future__ import annotations

from collections.abc import Sequence

from fakes import FakeProviders, Text, ToolCall, Turn
from fakes.script import RequestView
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup
from support.services import running_chatloop

from steersman.embedded.nats import NatsServer
from steersman_contracts.chats import Chat
from steersman_contracts.parts import JsonObject, JsonPart, ToolResultPart
from steersman_contracts.rpc import chats as people


async def children(store: StoreDriver, chat: Chat) -> tuple[Chat, ...]:
    request = people.ListChats(store.actor, limit=200, parent_id=chat.id, archived=None)
    return (await store.rpc.call(people.LIST, request)).chats


async def results(store: StoreDriver, chat: Chat) -> list[ToolResultPart]:
    messages = await store.messages(chat.id)
    return [p for m in messages for p in m.parts if isinstance(p, ToolResultPart)]


def value(result: ToolResultPart) -> JsonObject:
    (part,) = result.content
    assert isinstance(part, JsonPart), part
    return part.value


def spawning(*prompts: str, **arguments: object) -> Turn:
    return Turn([ToolCall("spawn_agent", {"prompt": prompt, **arguments}) for prompt in prompts])


def waiting(view: RequestView, **arguments: object) -> Turn:
    """A wait for all agents whose ids are in the results before it."""
    return Turn([ToolCall("wait_agent", {"agent_ids": ids(view), **arguments})])


def ids(view: RequestView) -> Sequence[str]:
    import json

    return [json.loads(result.text)["agent_id"] for result in view.results]


def delegating(*prompts: str, **arguments: object):
    """A parent that spawns agents, waits for all of them, and says that it has their reports."""

    def answer(view: RequestView) -> Turn:
        match view.step_index:
            case 0:
                return spawning(*prompts, **arguments)
            case 1:
                return waiting(view)
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
    found = await children(store, chat)
    assert {c.id for c in found} == {a["agent_id"] for a in told["agents"]}
    assert {(c.parent_id, c.root_id, c.agent_kind) for c in found} == {
        (chat.id, chat.id, "general")
    }
