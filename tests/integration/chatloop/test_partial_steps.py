"""What had arrived of a step is kept, whatever part of it was arriving, and can be sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from fakes import FakeProviders, Reasoning, Script, StreamError, Text, ToolCall, Turn
from support.chat_driver import StoreDriver, words_of
from support.chatloop import KINDS, ModelSetup, ToolHost, said

from steersman_contracts import events
from steersman_contracts.chats import Chat, Message, Status
from steersman_contracts.deltas import Delta, ReasoningDelta, TextDelta, ToolArgumentsDelta
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from steersman_contracts.rpc.tools import CallResult, CallTool

WORDS = " ".join(f"word{number}" for number in range(60))
CALL = ToolCall("look", {"path": "a" * 60})


@dataclass(frozen=True, eq=False)
class Half:
    """A step that is ended in the middle: how it begins, and what the log shows by then."""

    name: str
    turn: Turn
    deltas: int
    shows: type[Delta]
    fails: bool = False
    """The provider ends it, for a reason that no retry mends; otherwise a person does."""


HALVES = (
    Half("reasoning", Turn([Reasoning(WORDS), Text("so")]), 5, ReasoningDelta),
    # Two words and a piece of the arguments; Gemini sends them whole.
    Half("arguments", Turn([Text("let me"), CALL, CALL]), 3, ToolArgumentsDelta),
    Half("failing", Turn([Text(WORDS)]), 5, TextDelta, fails=True),
)


@pytest.mark.usefixtures("chatloops")
async def test_half_a_step_of_any_provider_is_closed_stored_and_can_be_sent_again(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    async def look(_: CallTool) -> CallResult:
        return said("seen")

    tool_host.tools["look"] = look
    chats: dict[tuple[str, Half], Chat] = {}
    for provider in KINDS:
        for half in HALVES:
            model = f"{half.name}-{provider}-latest"  # Gemini shows thoughts by the name
            fakes.script(model, Script([half.turn, Turn([Text("after it")])], repeat=True))
            if half.fails:
                fakes.fault(model, StreamError(deltas=half.deltas, error_type="content_filter"))
            else:
                fakes.hold(model, deltas=half.deltas)
            name = await models.add(provider, model)
            chats[provider, half] = await store.create("first", model=name)

    for (_, half), chat in chats.items():
        if not half.fails:
            await shown(store, chat.id, half.shows)
            await store.interrupt(chat.id)
    stored: dict[tuple[str, Half], Sequence[Message]] = {}
    for key, chat in chats.items():
        rested = await store.at_rest(chat.id)
        stored[key] = await store.messages(chat.id)
        half = key[1]
        status = Status.ERROR if half.fails else Status.WAITING
        outcome = "error" if half.fails else "interrupted"
        assert (rested.status, rested.last_outcome) == (status, outcome), key
        kind = rested.last_error and rested.last_error.kind
        assert kind == ("content_filter" if half.fails else None), key
    assert tool_host.called.empty()

    # The fakes hold what was cut against what they have sent, and refuse anything else.
    for chat in chats.values():
        fakes.release()
        await store.send(chat.id, "go on")
    for key, chat in chats.items():
        assert (await store.at_rest(chat.id)).last_outcome == "completed", key
        assert words_of((await store.messages(chat.id))[-1]) == "after it", key

    for (provider, half), messages in stored.items():
        check(half, messages[1:], whole_arguments=provider == "google")


def check(half: Half, messages: Sequence[Message], *, whole_arguments: bool) -> None:
    """What is stored of half a step."""
    partial, *rest = messages
    assert partial.stop == ("unknown" if half.fails else "interrupted")
    assert partial.response_id, "the provider had named its answer by then"
    if half.name == "arguments":
        text, call = partial.parts
        assert text == TextPart("let me")
        assert isinstance(call, ToolCallPart)
        assert (call.invalid is None) == whole_arguments
        assert call.arguments == (CALL.arguments if whole_arguments else {})
        (answers,) = rest
        (result,) = answers.parts
        assert isinstance(result, ToolResultPart)
        assert (result.call_id, result.is_error) == (call.call_id, True)
        assert result.content == (TextPart("interrupted before it produced a result"),)
        return
    assert rest == []
    (part,) = partial.parts
    assert isinstance(part, ReasoningPart if half.name == "reasoning" else TextPart)
    assert part.text
    assert WORDS.startswith(part.text)


async def shown(store: StoreDriver, chat_id: ChatId, kind: type[Delta]) -> None:
    """Wait until the log shows a delta of a kind."""
    async with asyncio.timeout(60):
        while True:
            count = len(store.log.seen)
            seen = [e for e in store.log.of(chat_id) if isinstance(e, events.PartDelta)]
            if any(isinstance(delta, kind) for event in seen for delta in event.deltas):
                return
            await store.log.more(count)
