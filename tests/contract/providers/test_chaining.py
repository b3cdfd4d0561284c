"""Building on stored responses of OpenAI: an optimisation, given up on any doubt."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from contract.providers.harness import Conversation, access
from fakes.script import Reasoning, Text, ToolCall, Turn
from fakes.server import FakeProviders

from steersman_chatloop.providers.registry import Providers
from steersman_contracts.ids import ModelName
from steersman_contracts.model_options import ModelSettings
from steersman_contracts.parts import TextPart

STORED = ModelSettings(options={"store": True, "chain_responses": True})
TURNS = [
    Turn([Reasoning("Hm."), ToolCall("add", {"a": 1})]),
    Turn([Text("One.")]),
    Turn([Text("Bye.")]),
]


@pytest.fixture
def chat(fakes: FakeProviders, providers: Providers) -> Conversation:
    fakes.script("*", TURNS)
    model = msgspec.structs.replace(access("responses", fakes), settings=STORED)
    return Conversation(providers, model)


def lengths(fakes: FakeProviders) -> list[tuple[bool, int]]:
    """Of each request: whether it builds on a response, and how many items it has."""
    bodies = [msgspec.convert(request.body, dict[str, Any]) for request in fakes.requests]
    return [("previous_response_id" in body, len(body["input"])) for body in bodies]


async def test_only_what_is_new_is_sent(chat: Conversation, fakes: FakeProviders) -> None:
    called = await chat.say("add")
    named = called.ended.response_id
    await chat.answer(called, "1")
    step = await chat.say("thanks")

    assert step.text == "Bye."
    first, second, _ = (msgspec.convert(r.body, dict[str, Any]) for r in fakes.requests)
    answer = {"type": "function_call_output", "call_id": called.calls[0].call_id, "output": "1"}
    assert second == first | {"previous_response_id": named, "input": [answer]}
    assert lengths(fakes) == [(False, 1), (True, 1), (True, 1)]
    assert not fakes.refused
    view = fakes.requests[2].view
    assert [message.text for message in view.messages if message.role == "user"][-1] == "thanks"
    assert view.user_index == 1, "the server knows the rest"


async def test_a_response_that_the_server_forgot_is_sent_whole(
    chat: Conversation, fakes: FakeProviders
) -> None:
    step = await chat.say("add")
    fakes.issued.responses.clear()
    step = await chat.answer(step, "1")

    assert step.text == "One."
    assert lengths(fakes) == [(False, 1), (True, 1), (False, 4)]


async def test_another_model_gets_the_whole_history(
    chat: Conversation, fakes: FakeProviders
) -> None:
    step = await chat.say("add")
    chat.model = msgspec.structs.replace(
        chat.model, model_id="gpt-5.6-mini", name=ModelName("responses/other")
    )
    await chat.answer(step, "1")
    assert lengths(fakes)[1][0] is False
    assert not fakes.refused


async def test_another_account_gets_the_whole_history(
    chat: Conversation, fakes: FakeProviders
) -> None:
    step = await chat.say("add")
    chat.model = msgspec.structs.replace(chat.model, account="another")
    await chat.answer(step, "1")
    assert lengths(fakes)[1][0] is False


async def test_a_changed_history_is_sent_whole(chat: Conversation, fakes: FakeProviders) -> None:
    step = await chat.say("add")
    chat.messages[0] = msgspec.structs.replace(
        chat.messages[0], parts=(TextPart("add, but otherwise"),)
    )
    await chat.answer(step, "1")
    assert lengths(fakes)[1][0] is False
    assert not fakes.refused


@pytest.mark.parametrize("options", [{}, {"store": True}, {"chain_responses": True}])
async def test_nothing_is_chained_unless_both_options_are_set(
    chat: Conversation, fakes: FakeProviders, options: dict[str, bool]
) -> None:
    settings = ModelSettings(options=dict(options))
    chat.model = msgspec.structs.replace(chat.model, settings=settings)
    step = await chat.say("add")
    assert all(
        part.provider_metadata is None or not part.provider_metadata.response_id
        for part in step.calls
    )
    await chat.answer(step, "1")
    assert [chained for chained, _ in lengths(fakes)] == [False, False]
    assert fakes.requests[0].body["store"] is bool(options.get("store"))
