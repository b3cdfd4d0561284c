from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Final

import msgspec
import pytest

from steersman_chatloop.providers import demo
from steersman_chatloop.providers.base import (
    ProviderFailed,
    StepEnded,
    StepEvent,
    StepNamed,
    StepRequest,
)
from steersman_chatloop.providers.demo import SCRIPTS, Demo, Fail, Pause, Script
from steersman_chatloop.providers.registry import Providers
from steersman_contracts.chats import Message, Role
from steersman_contracts.deltas import PartsBuilder
from steersman_contracts.ids import ChatId, MessageId, ModelName
from steersman_contracts.parts import Part, Parts, TextPart, ToolCallPart, ToolResultPart
from steersman_contracts.rpc.worker import ModelAccess

NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)


def fast(scripts: dict[str, Script]) -> Demo:
    return Demo(
        {
            name: msgspec.structs.replace(script, tokens_per_second=1e9)
            for name, script in scripts.items()
        }
    )


def request(model: str, *messages: Message) -> StepRequest:
    access = ModelAccess(ModelName(f"demo/{model}"), "demo", "demo", model)
    return StepRequest(ChatId("c"), access, "", messages, ())


def said(role: Role, *parts: Part) -> Message:
    return Message(MessageId(1), role, parts, 1, NOW)


async def play(provider: Demo, step: StepRequest) -> tuple[Parts, StepEnded]:
    events: list[StepEvent] = [event async for event in provider.stream(step)]
    ended = events.pop()
    assert isinstance(ended, StepEnded)
    builder = PartsBuilder()
    for event in events:
        assert not isinstance(event, StepEnded | StepNamed)
        builder.apply(event)
    return builder.parts(), ended


USER: Final = said(Role.USER, TextPart("go"))


async def test_the_tour_writes_a_file_and_reads_it_back() -> None:
    provider = fast(dict(SCRIPTS))
    history = [USER]
    first, ended = await play(provider, request("tour", *history))
    assert ended.stop == "tool-calls"
    write = first[-1]
    assert isinstance(write, ToolCallPart)
    assert (write.tool, set(write.arguments)) == ("write_file", {"path", "content"})
    history += [said(Role.ASSISTANT, *first), said(Role.TOOL, ToolResultPart(write.call_id, "x"))]

    second, _ = await play(provider, request("tour", *history))
    read = second[-1]
    assert isinstance(read, ToolCallPart)
    assert (read.tool, read.arguments) == ("read_file", {"path": write.arguments["path"]})
    assert read.call_id != write.call_id
    found = ToolResultPart(read.call_id, "x", (TextPart(write.arguments["content"]),))
    history += [said(Role.ASSISTANT, *second), said(Role.TOOL, found)]

    last, ended = await play(provider, request("tour", *history))
    (text,) = last
    assert isinstance(text, TextPart)
    assert "> Grey waves fold the sand" in text.text
    assert ended.stop == "end"

    again, _ = await play(fast(dict(SCRIPTS)), request("tour", *history[:-2], *history[-2:], USER))
    assert [type(part) for part in again] == [type(part) for part in first]
    ids = {part.call_id for part in (*first, *second, *again) if isinstance(part, ToolCallPart)}
    assert len(ids) == 3, "ids are unique in the chat"


async def test_the_tour_says_when_a_tool_failed() -> None:
    failed = ToolResultPart("x", "read_file", (TextPart("no such file"),), is_error=True)
    history = [
        USER,
        said(Role.ASSISTANT, TextPart("a")),
        said(Role.ASSISTANT, TextPart("b")),
        said(Role.TOOL, failed),
    ]
    parts, _ = await play(fast(dict(SCRIPTS)), request("tour", *history))
    assert parts == (TextPart("I could not read the file back: no such file"),)


async def test_echo_says_it_back() -> None:
    parts, ended = await play(
        fast(dict(SCRIPTS)), request("echo", said(Role.USER, TextPart("Hello  there,\nyou!")))
    )
    assert parts == (TextPart("Hello  there,\nyou!"),)
    assert ended.usage is not None
    assert ended.usage.output_tokens == 3


async def test_count_is_long_enough_to_interrupt() -> None:
    _, ended = await play(fast(dict(SCRIPTS)), request("count", USER))
    assert ended.usage is not None
    assert ended.usage.output_tokens == 200
    assert SCRIPTS["count"].tokens_per_second == 50


async def test_flaky_fails_twice_and_then_answers() -> None:
    provider = fast(dict(SCRIPTS))
    for _ in range(demo.FLAKY_FAILURES):
        with pytest.raises(ProviderFailed) as caught:
            await play(provider, request("flaky", USER))
        assert caught.value.error.retryable
    parts, _ = await play(provider, request("flaky", USER))
    assert parts == (TextPart("It worked, after 2 attempts that failed."),)
    with pytest.raises(ProviderFailed):
        await play(provider, request("flaky", USER))


async def test_broken_fails_for_good() -> None:
    with pytest.raises(ProviderFailed) as caught:
        await play(fast(dict(SCRIPTS)), request("broken", USER))
    error = caught.value.error
    assert (error.kind, error.retryable, error.provider) == ("config", False, "demo")


async def test_parallel_calls_come_in_one_step() -> None:
    parts, ended = await play(fast(dict(SCRIPTS)), request("tools-parallel", USER))
    calls = [part for part in parts if isinstance(part, ToolCallPart)]
    assert len({call.call_id for call in calls}) == 3
    assert ended.stop == "tool-calls"
    results = [
        ToolResultPart(call.call_id, call.tool, is_error=at == 0) for at, call in enumerate(calls)
    ]
    parts, _ = await play(
        fast(dict(SCRIPTS)),
        request("tools-parallel", USER, said(Role.ASSISTANT, *parts), said(Role.TOOL, *results)),
    )
    assert parts == (TextPart("3 results came back, 1 of them errors."),)


async def test_an_unknown_model_plays_the_tour() -> None:
    parts, _ = await play(fast(dict(SCRIPTS)), request("whatever", USER))
    assert any(isinstance(part, ToolCallPart) for part in parts)


async def test_scripts_are_data() -> None:
    script = Script(
        ([demo.Text("a b"), Pause(0.001), demo.Text("c"), Fail("rate_limit", retryable=True)],)
    )
    provider = fast({"tour": script})
    events: list[StepEvent] = []

    async def watch() -> None:
        async for event in provider.stream(request("tour", USER)):
            events.append(event)  # noqa: PERF401  # what came before the failure counts

    with pytest.raises(ProviderFailed) as caught:
        await watch()
    assert caught.value.error.kind == "rate_limit"
    assert len(events) == 5


async def test_the_registry_plays_it() -> None:
    providers = Providers()
    events = [event async for event in providers.stream(request("echo", USER))]
    assert isinstance(events[-1], StepEnded)
    await providers.aclose()


def test_the_service_starts_without_any_sdk() -> None:
    code = (
        "import sys; import steersman_chatloop.providers.registry, steersman_chatloop.prompt; "
        "heavy = {'openai', 'anthropic', 'google.genai', 'httpx2', 'aiohttp', 'pydantic'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
