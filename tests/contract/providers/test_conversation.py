"""Every wire format through the same conversations, against the strict fakes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from contract.providers.harness import KINDS, Conversation, access, unmarked
from fakes.script import (
    Citation,
    Kind,
    Reasoning,
    SearchResult,
    ServerToolSearch,
    Text,
    ToolCall,
    Turn,
    Usage,
)
from fakes.server import FakeProviders

from steersman_chatloop.providers.registry import Providers
from steersman_contracts.chats import Usage as StepUsage
from steersman_contracts.deltas import TextDelta
from steersman_contracts.parts import (
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)


async def test_text_arrives_in_deltas_and_ends(chat: Conversation, fakes: FakeProviders) -> None:
    fakes.script("*", [Turn([Text("Hello there, world.")])])

    step = await chat.say("hi")

    deltas = [event.text for event in step.events if isinstance(event, TextDelta) and event.text]
    assert deltas == ["Hello", " there,", " world."]
    assert step.text == "Hello there, world."
    assert step.stop == "end"
    assert step.ended.response_id
    assert not fakes.refused
    view = fakes.requests[0].view
    assert (view.system, view.last_user_text) == ("Be brief.", "hi")
    assert [(tool.name, tool.description) for tool in view.tools] == [("add", "Add two numbers.")]


@pytest.mark.parametrize(
    ("kind", "model"),
    [("anthropic", None), ("responses", "gpt-4o"), ("chat", None), ("gemini", "gemini-2.0")],
)
async def test_plain_text_is_stored_without_a_provider_block(
    kind: Kind, model: str | None, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", [Turn([Text("Hello")])])
    step = await Conversation(providers, access(kind, fakes, model)).say("hi")
    assert step.parts == (TextPart("Hello"),)


async def test_usage_counts_the_whole_prompt_and_all_output(
    chat: Conversation, kind: Kind, fakes: FakeProviders
) -> None:
    usage = Usage(input=100, output=50, cache_read=60, cache_write=10, reasoning=20)
    fakes.script("*", [Turn([Reasoning("Hm."), Text("Hello"), usage])])

    step = await chat.say("hi")

    # Not every provider says what it wrote to its cache.
    written = 0 if kind in ("gemini", "chat") else 10
    assert step.ended.usage == StepUsage(100, 50, 20, 60, written)


async def test_reasoning_comes_before_the_text(chat: Conversation, fakes: FakeProviders) -> None:
    fakes.script("*", [Turn([Reasoning("I think so."), Text("Yes.")])])

    step = await chat.say("hi")

    assert step.reasoning == "I think so."
    assert isinstance(step.parts[0], ReasoningPart)
    assert step.text == "Yes."


async def test_calls_are_answered_and_the_turn_goes_on(
    chat: Conversation, fakes: FakeProviders
) -> None:
    fakes.script(
        "*",
        [
            Turn(
                [
                    Reasoning("Two sums."),
                    Text("Adding."),
                    ToolCall("add", {"a": 1, "b": 2}),
                    ToolCall("add", {"a": 3}),
                ]
            ),
            Turn([Reasoning("One more."), ToolCall("add", {"a": 7, "b": [{"c": None}]})]),
            Turn([Text("Done.")]),
            Turn([Text("You are welcome.")]),
        ],
    )

    first = await chat.say("add things")
    assert first.stop == "tool-calls"
    assert [(call.tool, call.arguments) for call in first.calls] == [
        ("add", {"a": 1, "b": 2}),
        ("add", {"a": 3}),
    ]
    assert len({call.call_id for call in first.calls}) == 2
    second = await chat.answer(first, "3", "three")
    third = await chat.answer(second, "")
    fourth = await chat.say("thanks")

    assert [second.stop, third.stop, third.text, fourth.text] == [
        "tool-calls",
        "end",
        "Done.",
        "You are welcome.",
    ]
    assert not fakes.refused
    assert [result.text for result in fakes.requests[1].view.results] == ["3", "three"]
    assert [result.text for result in fakes.requests[2].view.results] == ["(no output)"]


@pytest.mark.parametrize("searching", [False, True])
async def test_each_request_begins_with_the_one_before_it(
    chat: Conversation, kind: Kind, fakes: FakeProviders, *, searching: bool
) -> None:
    items: list[Any] = [Reasoning("Hm, let me see."), Text("Adding."), ToolCall("add", {"a": 1})]
    if searching:
        found = [SearchResult("https://a.example", "A", page_age="1 day")]
        items.insert(1, ServerToolSearch("what", found))
        items.insert(2, Text("Found it.", [Citation("https://a.example", "A", "quoted")]))
    fakes.script(
        "*", [Turn(items), Turn([Reasoning("Good."), Text("It is two.")]), Turn([Text("Bye.")])]
    )

    step = await chat.say("add")
    step = await chat.answer(step, "2")
    step = await chat.say("thanks")

    assert not fakes.refused
    key = {"anthropic": "messages", "responses": "input", "chat": "messages", "gemini": "contents"}
    bodies = [unmarked(request.body) for request in fakes.requests]
    histories = [body.pop(key[kind]) for body in bodies]
    assert bodies[0] == bodies[1] == bodies[2], "nothing but the history changes"
    for shorter, longer in pairwise(histories):
        encoded = [msgspec.json.encode(message) for message in shorter]
        assert [msgspec.json.encode(m) for m in longer[: len(shorter)]] == encoded
        assert len(longer) > len(shorter)


@pytest.mark.parametrize(
    ("kind", "query", "urls"),
    [
        ("anthropic", {"query": "is it so"}, ["https://a.example", "https://b.example"]),
        # Says what it found only when asked to, but what it cites in any case.
        ("responses", {"type": "search", "query": "is it so"}, ["https://a.example"]),
    ],
)
async def test_a_search_by_the_provider_keeps_its_place_and_its_sources(
    chat: Conversation, fakes: FakeProviders, query: dict[str, Any], urls: list[str]
) -> None:
    found = [SearchResult("https://a.example", "A"), SearchResult("https://b.example", "B")]
    cited = Text("It is so.", [Citation("https://a.example", "A", "so")])
    fakes.script("*", [Turn([ServerToolSearch("is it so", found), cited]), Turn([Text("Bye.")])])

    step = await chat.say("is it so?")
    await chat.say("thanks")

    call, result, *rest = step.parts
    assert isinstance(call, ToolCallPart)
    assert isinstance(result, ToolResultPart)
    assert (call.tool, call.provider_executed) == ("web_search", True)
    assert {key: call.arguments[key] for key in query} == query
    assert (result.call_id, result.provider_executed) == (call.call_id, True)
    assert step.text == "It is so."
    assert [part.url for part in rest if isinstance(part, SourcePart)] == urls
    assert b"encrypted" not in msgspec.json.encode(result.content)
    assert not fakes.refused


async def test_sources_of_grounded_answers_follow_the_text(
    fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", [Turn([Text("It is so.", [Citation("https://a.example", "A")])])])
    chat = Conversation(providers, access("gemini", fakes))

    step = await chat.say("is it so?")

    assert step.parts[-1] == SourcePart("https://a.example", "A", cited=((0, 9),))


PAIRS = [(first, second) for first in KINDS for second in KINDS if first != second]


@pytest.mark.parametrize(("first", "second"), PAIRS)
async def test_the_model_can_be_switched_in_the_middle_of_a_chat(
    first: Kind, second: Kind, fakes: FakeProviders, providers: Providers
) -> None:
    found = [SearchResult("https://a.example", "A page")]
    items = [
        Reasoning("secret thoughts"),
        ServerToolSearch("what", found),
        Text("Adding."),
        # Kimi's own form of ids, which nobody else takes.
        ToolCall("add", {"a": 1}, id="functions.add:0" if first == "chat" else None),
        ToolCall("add", {"a": 2}, id="functions.add:1" if first == "chat" else None),
    ]
    fakes.script("*", [Turn(items), Turn([Reasoning("more"), Text("Three.")])])
    fakes.script(
        f"{MODELS_OTHER[second]}", Turn([Reasoning("new thoughts"), Text("Hello from here.")])
    )
    chat = Conversation(providers, access(first, fakes))
    step = await chat.say("add")
    await chat.answer(step, "one", "two")

    chat.model = access(second, fakes, MODELS_OTHER[second])
    step = await chat.say("and now?")
    back = access(first, fakes, MODELS_OTHER[first])
    fakes.script(MODELS_OTHER[first], Turn([Text("Back again.")]))
    chat.model = back
    last = await chat.say("and back?")

    assert not fakes.refused
    assert (step.text, last.text) == ("Hello from here.", "Back again.")
    view = fakes.requests[2].view
    said = "".join(message.text for message in view.messages)
    assert "secret" not in fakes.requests[2].raw.decode()
    assert "Adding." in said
    assert "Three." in said
    assert [call.arguments for message in view.messages for call in message.calls] == [
        {"a": 1},
        {"a": 2},
    ]
    assert [r.text for message in view.messages for r in message.results] == ["one", "two"]
    if first in ("anthropic", "responses"):
        assert "web_search" in said


MODELS_OTHER: dict[Kind, str] = {
    "anthropic": "claude-opus-5-5",
    "responses": "gpt-6",
    "chat": "compatible-2",
    "gemini": "gemini-3.5-pro",
}
