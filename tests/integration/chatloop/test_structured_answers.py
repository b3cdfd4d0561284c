"""An answer that has to be of a certain form is checked, asked for again, and stored as a value."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeProviders, Text, ToolCall, Turn
from fakes.script import RequestView, Usage
from support.chat_driver import StoreDriver
from support.chatloop import ModelSetup

from steersman_chatloop.compaction import INSTRUCTION
from steersman_contracts.chats import Status
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.parts import JsonPart
from steersman_contracts.rpc import chats as people

pytestmark = pytest.mark.one_stack

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"height": {"type": "integer"}},
    "required": ["height"],
    "additionalProperties": False,
}


@pytest.mark.usefixtures("chatloops", "tool_host")
@pytest.mark.parametrize("kind", ["anthropic", "responses", "chat", "google"])
async def test_an_answer_is_repaired_until_it_fits(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, kind: str
) -> None:
    said = iter(["three metres", '{"height": "3"}', '{"height": 3}'])
    bodies: list[RequestView] = []

    def answer(view: RequestView) -> Turn:
        bodies.append(view)
        return Turn([Text(next(said))])

    fakes.script("m", answer)
    chat = await store.create("tide?", model=await models.add(kind, "m"), response_schema=SCHEMA)
    rested = await store.at_rest(chat.id)

    assert rested.last_outcome == "completed"
    messages = await store.messages(chat.id)
    values = [part.value for m in messages for part in m.parts if isinstance(part, JsonPart)]
    assert values == [{"height": 3}]
    assert isinstance(messages[-1].parts[-1], JsonPart)
    assert "it is not JSON" in bodies[1].last_user_text
    assert "is not of type" in bodies[2].last_user_text
    body = str((await fakes.next_request("m")).body)
    # Gemini takes no schema beside functions: there it is in the prompt alone.
    assert ("'height'" in body) == (kind != "google")


@pytest.mark.usefixtures("chatloops", "tool_host")
async def test_after_three_more_tries_the_turn_ends_with_an_error(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("m", lambda _: Turn([Text("no")]))
    chat = await store.create("tide?", model=await models.add("chat", "m"), response_schema=SCHEMA)
    rested = await store.at_rest(chat.id)

    assert rested.status is Status.ERROR
    assert rested.last_error is not None
    assert "not of the form" in rested.last_error.message
    assert len(fakes.requests) == 4


@pytest.mark.usefixtures("chatloops")
async def test_a_summary_between_the_tries_gives_no_more_of_them(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    def answer(view: RequestView) -> Turn:
        if INSTRUCTION in view.last_user_text:
            return Turn([Text("a summary")])
        said.append(next(steps))
        return said[-1]

    no = Turn([Text("no"), Usage(input=10, output=5)])
    look = Turn([ToolCall("look"), Usage(input=90, output=5)])
    steps, said = iter([no, no, look, *[no] * 9]), list[Turn]()
    fakes.script("m", answer)
    model = await models.add("chat", "m", context_limit=100)
    chat = await store.create("tide?", model=model, response_schema=SCHEMA)
    rested = await store.at_rest(chat.id)

    assert rested.last_error is not None
    assert "not of the form" in rested.last_error.message
    assert said == [no, no, look, no, no]


async def test_a_schema_that_cannot_be_used_is_refused_when_it_is_set(store: StoreDriver) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await store.create("hi", response_schema={"type": "array"})
    assert refused.value.details["field"] == "response_schema"
    chat = await store.create(None, response_schema=SCHEMA)
    assert chat.response_schema == SCHEMA
    request = people.UpdateChat(store.actor, chat.id, response_schema={})
    changed = await store.rpc.call(people.UPDATE, request)
    assert changed.chat.response_schema is None


@pytest.mark.usefixtures("chatloops", "tool_host")
async def test_a_message_brings_a_form_of_its_own(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    said = {
        "tide?": '{"height": 3}',
        "long?": '{"length": 2}',
        "hello": "hi",
        "now?": '{"height": 4}',
    }
    fakes.script("m", lambda view: Turn([Text(said[view.last_user_text])]))
    chat = await store.create("tide?", model=await models.add("chat", "m"), response_schema=SCHEMA)
    await store.at_rest(chat.id)
    own = {"type": "object", "properties": {"length": {"type": "integer"}}, "required": ["length"]}
    for words, schema in [("long?", own), ("hello", {}), ("now?", None)]:
        await store.send(chat.id, words, response_schema=schema)
        assert (await store.at_rest(chat.id)).last_outcome == "completed"

    messages = await store.messages(chat.id)
    values = [part.value for m in messages for part in m.parts if isinstance(part, JsonPart)]
    assert values == [{"height": 3}, {"length": 2}, {"height": 4}]
    asked = [str((await fakes.next_request("m")).body["response_format"]) for _ in range(2)]
    assert ["'height'" in asked[0], "'length'" in asked[1]] == [True, True]
    assert "response_format" not in (await fakes.next_request("m")).body
    assert "'height'" in str((await fakes.next_request("m")).body["response_format"])
