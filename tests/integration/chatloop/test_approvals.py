"""A call that a person decides about: the turn waits, and goes on with what was decided."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup, ToolHost, said

from steersman_contracts import events
from steersman_contracts.chats import Chat
from steersman_contracts.parts import TextPart, ToolResultPart
from steersman_contracts.policies import Rule
from steersman_contracts.rpc import policies
from steersman_contracts.rpc.tools import CallResult, CallTool

pytestmark = pytest.mark.one_stack

RULES = '[{"decision": "ask", "tool": "drop", "reason": "it deletes"}]'


async def echo(call: CallTool) -> CallResult:
    return said(f"{call.tool} done")


async def asked(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, host: ToolHost, database_url: str
) -> Chat:
    """A chat that waits for a decision about one of two calls."""
    host.tools |= {"look": echo, "drop": echo}
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "INSERT INTO policies (level, rules) VALUES ('system', $1) ON CONFLICT DO NOTHING", RULES
    )
    await connection.close()
    fakes.script("m", Script([Turn([ToolCall("look"), ToolCall("drop")]), Turn([Text("ok")])]))
    chat = await store.create("go", model=await models.add("chat", "m"))
    await store.log.until(chat.id, events.ActionRequired)
    return await store.chat(chat.id)


def results(texts: list[ToolResultPart]) -> list[tuple[str, str]]:
    return [
        (part.tool, part.content[0].text) for part in texts if isinstance(part.content[0], TextPart)
    ]


@pytest.mark.usefixtures("chatloops")
@pytest.mark.parametrize("approved", [True, False])
async def test_a_call_waits_for_a_person_while_the_others_run(
    store: StoreDriver,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
    database_url: str,
    approved: bool,
) -> None:
    chat = await asked(store, fakes, models, tool_host, database_url)
    assert chat.action is not None
    (approval,) = chat.action.approvals
    assert (approval.tool, approval.reason) == ("drop", "it deletes")

    await store.resolve(chat.id, approval.call_id, approved=approved, reason="no")
    rested = await store.at_rest(chat.id)

    assert rested.last_outcome == "completed"
    messages = await store.messages(chat.id)
    parts = [p for m in messages for p in m.parts if isinstance(p, ToolResultPart)]
    assert results(parts) == [
        ("look", "look done"),
        ("drop", "drop done" if approved else "a person refused this call: no"),
    ]
    assert words_of(messages[-1]) == "ok"
    called = [tool_host.called.get_nowait() for _ in range(tool_host.called.qsize())]
    assert [call.tool for call in called] == (["look", "drop"] if approved else ["look"])
    # What has waited for a person was certainly not begun before.
    assert [(call.first, call.era is None) for call in called] == (
        [(True, False), (False, True)] if approved else [(True, False)]
    )


@pytest.mark.usefixtures("chatloops")
async def test_what_was_allowed_for_the_chat_is_not_asked_again(
    store: StoreDriver,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
    database_url: str,
) -> None:
    chat = await asked(store, fakes, models, tool_host, database_url)
    assert chat.action is not None
    fakes.script("m", Script([Turn([ToolCall("drop")]), Turn([Text("again")])], repeat=True))
    await store.resolve(chat.id, chat.action.approvals[0].call_id, scope="chat")
    async with asyncio.timeout(60):
        rested = await store.at_rest(chat.id)

    assert rested.last_outcome == "completed"
    await store.log.until(chat.id, events.ChatStatusChanged, outcome="completed")
    seen = [e for e in store.log.of(chat.id) if isinstance(e, events.ActionRequired)]
    assert len(seen) == 1


@pytest.mark.usefixtures("chatloops")
async def test_with_nobody_there_a_call_is_refused_in_the_end_and_never_run(
    store: StoreDriver,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
    database_url: str,
) -> None:
    """No gateway runs here: no viewer has ever been attached."""
    chat = await asked(store, fakes, models, tool_host, database_url)
    assert chat.action is not None
    left_s = (chat.action.expires_at - datetime.now(UTC)).total_seconds()
    assert 86_000 < left_s <= 86_400  # a day: who walks away may come back
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE chats SET action_expires_at = now() - interval '1 s' WHERE id = $1", chat.id
    )
    await connection.close()

    rested = await store.at_rest(chat.id)

    assert rested.last_outcome == "action_expired"
    messages = await store.messages(chat.id)
    parts = [p for m in messages for p in m.parts if isinstance(p, ToolResultPart)]
    assert results(parts) == [("look", "look done"), ("drop", "nobody answered this call in time")]
    assert [part.is_error for part in parts] == [False, True]
    called = [tool_host.called.get_nowait() for _ in range(tool_host.called.qsize())]
    assert [call.tool for call in called] == ["look"]
    # The model sees the refusal with whatever a person says next.
    fakes.script("m", Script([Turn([Text("as you like")])], repeat=True))
    await store.send(chat.id, "never mind")
    assert (await store.at_rest(chat.id)).last_outcome == "completed"
    assert words_of((await store.messages(chat.id))[-1]) == "as you like"


@pytest.mark.usefixtures("chatloops")
async def test_a_rule_sees_what_the_chat_has_cost(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    tool_host.tools["look"] = echo
    turns = [Turn([ToolCall("look")]), Turn([Text("ok")])]
    fakes.script("m", Script(turns, repeat=True))
    priced = await models.add("chat", "m", prices={"input": 1_000_000, "output": 1_000_000})
    chat = await store.create(None, model=priced)

    async def decided(when: str) -> str:
        """What a turn does with a call under a rule that refuses it."""
        rules = (Rule("deny", when=when, reason="too dear"),)
        await store.rpc.call(policies.PUT, policies.PutPolicy(store.actor, "chat", rules, chat.id))
        await store.send(chat.id, "go")
        await store.at_rest(chat.id)
        messages = await store.messages(chat.id)
        parts = [p for m in messages for p in m.parts if isinstance(p, ToolResultPart)]
        return results(parts)[-1][1]

    assert await decided("chat.cost_micros == 0") == "look done"  # the step that calls has a price
    spent = (await store.chat(chat.id)).cost_micros
    assert spent > 0
    assert await decided(f"chat.cost_micros > {10 * spent}") == "look done"
    assert await decided(f"chat.cost_micros > {spent}") == "this call is not allowed: too dear"
