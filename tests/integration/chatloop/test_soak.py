"""A chat that goes on for long with a small window: `make soak` makes it 2,000 steps.

How often it is summarised follows from the numbers alone, so it is computed and compared.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from fakes import FakeProviders, Text, ToolCall, Turn
from fakes.script import RequestView, Usage
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup, ToolHost, said

from steersman_chatloop.compaction import INSTRUCTION
from steersman_contracts.chats import Message, Role
from steersman_contracts.ids import ChatId, MessageId
from steersman_contracts.parts import ToolCallPart
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc.tools import CallResult, CallTool

STEPS = int(os.environ.get("STEERSMAN_SOAK_STEPS", "48"))
TURNS = 4
LIMIT = 1000
PER_MESSAGE = 100
FULL = 700
"""Tokens at which the default threshold is reached."""
MOST_MESSAGES = 11
"""In any request: at most eight fill the window, that step adds its call and the result, and a
summary is asked for with one more."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MOST_GROWTH = 40 << 20


def expected_summaries(steps: int, turns: int) -> int:
    """Play it through: each message counts a hundred, and a summary takes the place of all."""
    messages = summaries = 0
    for _ in range(turns):
        messages += 1
        for _ in range(steps // turns):
            full = messages * PER_MESSAGE >= FULL
            messages = 1 if full else messages + 2
            summaries += full
        while messages * PER_MESSAGE >= FULL:  # at the end: the model is called once more
            messages, summaries = 1, summaries + 1
        messages += 1
    return summaries


class LongWorker:
    """A model that works for so many steps in each turn, and says when it is done."""

    def __init__(self, steps: int) -> None:
        self.left = self._steps = steps
        self.number = 0
        self.longest = 0
        self.summaries = 0

    def answer(self, view: RequestView) -> Turn:
        messages = [message for message in view.messages if message.role != "system"]
        self.longest = max(self.longest, len(messages))
        if INSTRUCTION in view.last_user_text:
            self.summaries += 1
            return Turn([Text(f"SUMMARY {self.summaries}"), Usage(input=10, output=5)])
        usage = Usage(input=len(messages) * PER_MESSAGE, output=5)
        if not self.left:
            return Turn([Text("done"), usage])
        self.left -= 1
        self.number += 1
        return Turn([ToolCall("work", {"number": self.number}), usage])

    def next_turn(self) -> None:
        self.left = self._steps


async def whole_history(store: StoreDriver, chat_id: ChatId) -> list[Message]:
    found: list[Message] = []
    while True:
        last = found[-1].id if found else MessageId(0)
        request = people.ListMessages(store.actor, chat_id, limit=200, after_id=last)
        page = await store.rpc.call(people.LIST_MESSAGES, request)
        found += page.messages
        if not page.has_more:
            return found


def living() -> int:
    """How many messages anybody in this process holds: the worker, and what is on its way."""
    gc.collect()
    return sum(isinstance(held, Message) for held in gc.get_objects())


def resident() -> int:
    """Bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


@pytest.mark.usefixtures("chatloops")
@pytest.mark.timeout(60 + STEPS)
async def test_a_long_chat_is_summarised_as_often_as_it_has_to_be(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    async def work(call: CallTool) -> CallResult:
        return said(f"result {call.arguments['number']}")

    tool_host.tools["work"] = work
    model = LongWorker(STEPS // TURNS)
    fakes.script("m", model.answer)
    name = await models.add("chat", "m", context_limit=LIMIT)
    held_before = living()
    chat = await store.create("message 1", model=name)
    await store.at_rest(chat.id, timeout_s=40 + STEPS)
    begun_with = resident()
    for number in range(2, TURNS + 1):
        model.next_turn()
        await store.send(chat.id, f"message {number}")
        rested = await store.at_rest(chat.id, timeout_s=40 + STEPS)
        assert rested.last_outcome == "completed"
        store.log.seen.clear()
        assert not fakes.refused
        fakes.reset()  # it remembers requests, which is not the memory that is asked about
        fakes.script("m", model.answer)
    grown = resident() - begun_with
    held = living() - held_before

    assert model.summaries == expected_summaries(STEPS, TURNS)
    assert model.longest <= MOST_MESSAGES
    history = await whole_history(store, chat.id)
    asked = [words_of(m) for m in history if m.role is Role.USER]
    assert asked == [f"message {number}" for number in range(1, TURNS + 1)]
    calls = [p for m in history for p in m.parts if isinstance(p, ToolCallPart)]
    numbers = [call.arguments["number"] for call in calls if call.tool == "work"]
    assert numbers == list(range(1, STEPS // TURNS * TURNS + 1))
    assert sum(call.tool == "chat_summarized" for call in calls) == model.summaries
    assert held <= 2 * MOST_MESSAGES, "whatever is before the newest summary is let go of"
    assert grown < MOST_GROWTH
