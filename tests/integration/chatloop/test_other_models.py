"""Other models than the chat's own: fallbacks, and one that writes the summaries."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from fakes import FakeProviders, Script, Text, Turn
from fakes.faults import HttpError
from fakes.script import Usage
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup

from steersman_contracts import events
from steersman_contracts.chats import Status
from steersman_contracts.parts import JsonPart, ToolResultPart

pytestmark = pytest.mark.one_stack

SMALL = Usage(input=10, output=5)


@pytest.mark.usefixtures("chatloops")
async def test_a_fallback_answers_when_the_own_model_cannot_and_the_message_says_so(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    other = await models.add("anthropic", "other")
    name = await models.add("chat", "own", fallbacks=[other])
    fakes.script("own", Script([Turn([Text("mine")])], repeat=True))
    fakes.script("other", Script([Turn([Text("instead")])], repeat=True))
    fakes.fault("own", HttpError(401))
    chat = await store.create("hello", model=name)
    rested = await store.at_rest(chat.id)

    assert (rested.status, rested.model) == (Status.WAITING, name)
    answer = (await store.messages(chat.id))[-1]
    assert (words_of(answer), answer.model) == ("instead", other)
    retry = await store.log.until(chat.id, events.RetryScheduled)
    assert isinstance(retry, events.RetryScheduled)
    assert (retry.kind, retry.delay_ms) == ("auth", 0)

    await store.send(chat.id, "again")
    await store.at_rest(chat.id)
    newest = (await store.messages(chat.id))[-1]
    assert (words_of(newest), newest.model) == ("mine", name)


@pytest.mark.usefixtures("chatloops")
async def test_another_model_can_write_the_summaries(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    writer = await models.add("anthropic", "writer")
    name = await models.add("chat", "own", compaction_model=writer)
    fakes.script("own", Script([Turn([Text("one"), SMALL]), Turn([Text("two")])], repeat=True))
    fakes.script("writer", Script([Turn([Text("SUMMARY"), SMALL])], repeat=True))
    chat = await store.create("first", model=name)
    await store.at_rest(chat.id)
    await store.compact(chat.id)
    await store.log.until(chat.id, events.CompactionFinished, succeeded=True)
    await store.at_rest(chat.id)

    async with asyncio.timeout(60):
        asked = (await fakes.next_request("writer")).view
    assert asked.tools == []
    assert next(m.text for m in asked.messages if m.role != "system") == "first"
    used = await store.log.until(chat.id, events.UsageRecorded, model=writer)
    assert isinstance(used, events.UsageRecorded)


@pytest.mark.usefixtures("chatloops")
async def test_what_another_model_summarises_has_to_fit_that_one_as_well(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    writer = await models.add("chat", "writer", context_limit=100)
    name = await models.add("chat", "own", context_limit=10_000, compaction_model=writer)
    full = Usage(input=70, output=5)
    turns = iter((Turn([Text("one"), full]), Turn([Text("two"), SMALL])))
    fakes.script("own", lambda _: next(turns))
    fakes.script("writer", lambda _: Turn([Text("SUMMARY"), SMALL]))
    chat = await store.create("first", model=name)
    await store.at_rest(chat.id)

    report = (await store.messages(chat.id))[-2].parts[0]
    assert isinstance(report, ToolResultPart)
    (told,) = report.content
    assert isinstance(told, JsonPart)
    assert (told.value["tokens_before"], told.value["context_limit"]) == (70, 100)


@pytest.mark.usefixtures("chatloops")
async def test_the_effort_of_the_chat_reaches_the_model_up_to_its_limit(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    name = await models.add(
        "responses", "gpt-5.6", reasoning_effort="minimal", max_reasoning_effort="high"
    )
    fakes.script("gpt-5.6", Script([Turn([Text("yes")])], repeat=True))
    chat = await store.create("hello", model=name)
    await store.at_rest(chat.id)
    for effort in ("low", "max"):
        await store.send(chat.id, "again", effort=effort)
        await store.at_rest(chat.id)

    asked = [
        msgspec.convert(request.body["reasoning"], dict[str, str]) for request in fakes.requests
    ]
    assert [reasoning["effort"] for reasoning in asked] == ["minimal", "low", "high"]
