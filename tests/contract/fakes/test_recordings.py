"""The fakes against recorded traffic: same events, same order, same keys, and requests accepted.

The recordings are no part of the repository; without them these tests are skipped.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml
from fakes.asking import HEADERS
from fakes.script import (
    Citation,
    Item,
    Kind,
    Reasoning,
    SearchResult,
    ServerToolSearch,
    Stop,
    Text,
    ToolCall,
    Turn,
    Usage,
)
from fakes.server import WIRES
from fakes.wire import HttpRequest, Ids, Issued, JsonValue

# JSON of other people's making.
Json = Any
Frame = tuple[str, Json]

NEXT_TO_US: Final = Path(__file__).parents[4] / "shared" / "cassettes"
RECORDINGS: Final = Path(os.environ.get("STEERSMAN_CASSETTES") or NEXT_TO_US)
# The providers themselves; the many compatible servers differ among each other.
FILES: Final[dict[str, Kind]] = {
    "TestAnthropicCommonWithCacheControl/claude-sonnet-4/simple_streaming": "anthropic",
    "TestAnthropicCommonWithCacheControl/claude-sonnet-4/multi_tool_streaming": "anthropic",
    "TestAnthropicThinking/claude-sonnet-4/thinking-streaming": "anthropic",
    "TestAnthropicWebSearch/stream": "anthropic",
    "TestOpenAIResponsesCommon/openai-gpt-4o/multi_tool_streaming": "responses",
    "TestOpenAIResponsesCommon/openai-gpt-4o/tool_streaming": "responses",
    "TestOpenAIResponsesCommon/openai-gpt-5/simple_streaming": "responses",
    "TestOpenAIResponsesWithSummaryThinking/openai-gpt-5/thinking-streaming": "responses",
    "TestImageUploadAgentStreaming/openai-gpt-5-stream": "chat",
    "TestOpenAICommon/openai-o4-mini/simple_streaming": "chat",
    "TestOpenAICommon/openai-gpt-4o-mini/multi_tool_streaming": "chat",
    "TestOpenAICommon/openai-gpt-4o-mini/tool_streaming": "chat",
    "TestGoogleCommon/gemini-2.5-pro/simple_streaming": "gemini",
    "TestGoogleCommon/gemini-2.5-pro/tool_streaming": "gemini",
    "TestGoogleCommon/gemini-3-pro-preview/simple_streaming": "gemini",
    "TestGoogleThinking/gemini-2.5-flash/thinking-streaming": "gemini",
    "TestGoogleThinking/gemini-3-pro-preview/thinking-streaming": "gemini",
}

pytestmark = pytest.mark.skipif(
    not RECORDINGS.is_dir(),
    reason="no recorded traffic: neither next to the repository nor at STEERSMAN_CASSETTES",
)


@dataclass(frozen=True)
class Exchange:
    kind: Kind
    path: str
    request: bytes
    frames: list[Frame]


def exchanges(name: str) -> list[Exchange]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    recorded: Json = yaml.load((RECORDINGS / f"{name}.yaml").read_bytes(), Loader=loader)
    return [
        Exchange(
            FILES[name],
            path_of(one["request"]["url"]),
            one["request"]["body"].encode(),
            list(frames(_text(one["response"]["body"]))),
        )
        for one in recorded["interactions"]
    ]


def path_of(url: str) -> str:
    return urlsplit(url).path


def _text(body: str | bytes) -> str:
    return body if isinstance(body, str) else body.decode()


def frames(body: str) -> Iterator[Frame]:
    for block in body.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        data = fields.get("data")
        if data is not None:
            yield fields.get("event", ""), (data if data == "[DONE]" else json.loads(data))


def strings(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)


def replayed(exchange: Exchange) -> list[Frame]:
    """What the fake answers to the recorded request when its script says what was recorded."""
    # Whatever looks like a signature may be one: the fake did not make it.
    issued = Issued(signatures=set(strings(json.loads(exchange.request))))
    headers = dict(HEADERS[exchange.kind])
    if exchange.kind == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
    request = HttpRequest("POST", exchange.path, {"alt": "sse"}, headers, exchange.request)
    wire = WIRES[exchange.kind]
    call = wire.parse(request, issued)
    plan = wire.render(SCRIPTS[exchange.kind](exchange.frames), call, Ids(), issued)
    return list(frames(b"".join(plan.frames).decode()))


# From recorded frames to the script that says the same


def anthropic_turn(found: list[Frame]) -> Turn:
    items: list[Item] = []
    blocks: dict[int, Json] = {}
    for _, data in found:
        match data["type"]:
            case "content_block_start":
                blocks[data["index"]] = {**data["content_block"], "said": "", "cited": []}
            case "content_block_delta":
                block, delta = blocks[data["index"]], data["delta"]
                block["said"] += delta.get("text", delta.get("thinking", ""))
                block["said"] += delta.get("partial_json", "")
                block["cited"] += [delta["citation"]] if "citation" in delta else []
            case _:
                pass
    for block in blocks.values():
        match block["type"]:
            case "text":
                cited = [
                    Citation(one["url"], one["title"], one["cited_text"]) for one in block["cited"]
                ]
                items.append(Text(block["said"], cited))
            case "thinking":
                items.append(Reasoning(block["said"]))
            case "tool_use":
                items.append(ToolCall(block["name"], json.loads(block["said"] or "{}")))
            case "server_tool_use":
                results = next(
                    one["content"]
                    for one in blocks.values()
                    if one.get("tool_use_id") == block["id"]
                )
                found_pages = [
                    SearchResult(
                        one["url"], one["title"], one["encrypted_content"], one["page_age"]
                    )
                    for one in results
                ]
                items.append(ServerToolSearch(json.loads(block["said"])["query"], found_pages))
            case _:
                pass
    return Turn([*items, Usage(10, 5)])


def responses_turn(found: list[Frame]) -> Turn:
    items: list[Item] = []
    for _, data in found:
        if data["type"] != "response.output_item.done":
            continue
        item = data["item"]
        match item["type"]:
            case "message":
                items.append(Text(item["content"][0]["text"]))
            case "reasoning":
                items.append(Reasoning("".join(part["text"] for part in item["summary"])))
            case "function_call":
                items.append(ToolCall(item["name"], json.loads(item["arguments"])))
            case _:
                raise AssertionError(item["type"])
    return Turn([*items, Usage(10, 5)])


def chat_turn(found: list[Frame]) -> Turn:
    text = ""
    calls: list[Json] = []
    stop = "stop"
    for _, data in found:
        for choice in () if data == "[DONE]" else data["choices"]:
            text += choice["delta"].get("content") or ""
            stop = choice["finish_reason"] or stop
            for call in choice["delta"].get("tool_calls", ()):
                if "id" in call:
                    calls.append({"name": call["function"]["name"], "said": ""})
                calls[call["index"]]["said"] += call["function"]["arguments"]
    items: list[Item] = [Text(text)] if text else []
    items += [ToolCall(call["name"], json.loads(call["said"])) for call in calls]
    return Turn([*items, Stop(raw=stop), Usage(10, 5)])


def gemini_turn(found: list[Frame]) -> Turn:
    items: list[Item] = []
    usage: Json = {}
    for _, data in found:
        usage = data["usageMetadata"]
        for part in data["candidates"][0]["content"]["parts"]:
            if call := part.get("functionCall"):
                # The second generation signs what it thought about.
                items += [Reasoning("")] if "thoughtSignature" in part else []
                items.append(ToolCall(call["name"], call["args"], id=call.get("id")))
            elif part.get("thought"):
                items.append(Reasoning(part["text"]))
            elif part["text"]:
                items.append(Text(part["text"]))
    thoughts = usage.get("thoughtsTokenCount", 0)
    return Turn([*items, Usage(10, thoughts + 5, reasoning=thoughts)])


SCRIPTS: Final[dict[Kind, Callable[[list[Frame]], Turn]]] = {
    "anthropic": anthropic_turn,
    "responses": responses_turn,
    "chat": chat_turn,
    "gemini": gemini_turn,
}


def label(kind: Kind, frame: Frame) -> str:
    """What sort of frame this is: its event, and the sort of block, item or delta in it."""
    event, data = frame
    if data == "[DONE]":
        return "[DONE]"
    if kind == "anthropic":
        inner: Json = data.get("content_block") or data.get("delta") or {}
        return f"{event}/{inner.get('type', '')}"
    if kind == "responses":
        return f"{event}/{data.get('item', {}).get('type', '')}"
    if kind == "gemini":
        return "+".join(_gemini_sort(part) for part in data["candidates"][0]["content"]["parts"])
    return "+".join(_chat_sort(choice) for choice in data["choices"]) or "usage"


def _gemini_sort(part: Json) -> str:
    if "functionCall" in part:
        return "call"
    return "thought" if part.get("thought") else "text" if part["text"] else "end"


def _chat_sort(choice: Json) -> str:
    delta = choice["delta"]
    if choice["finish_reason"]:
        return "finish"
    if "role" in delta:
        return "start"
    if "tool_calls" in delta:
        return "call" if "id" in delta["tool_calls"][0] else "arguments"
    return "content"


def outline(kind: Kind, found: list[Frame]) -> list[str]:
    """The labels in order, repetitions once: how a text is cut into pieces is not the point."""
    out: list[str] = []
    for frame in found:
        name = label(kind, frame)
        if not out or out[-1] != name:
            out.append(name)
    return out


# Whose keys are the caller's or the model's own.
OPAQUE: Final = frozenset(("input", "args", "tools", "parameters", "metadata", "reasoning", "text"))
# Noise that the client may turn off, and what newer recordings have or lack.
VARYING: Final = frozenset(
    (
        "obfuscation",
        # Only some models and some days have these.
        "logprobs",
        "refusal",
        "usage",
        # Sent on request alone when these were recorded, always since.
        "encrypted_content",
        # Newer than the recordings.
        "cache_write_tokens",
    )
)


def keys(value: JsonValue, at: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{at}.{key}"
            if key not in OPAQUE or not isinstance(inner, dict | list):
                yield from keys(inner, f"{at}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner, f"{at}[]")


def shapes(kind: Kind, found: list[Frame]) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {}
    for frame in found:
        if frame[1] != "[DONE]":
            out.setdefault(label(kind, frame), set()).update(
                key for key in keys(frame[1]) if not any(key.endswith(f".{v}") for v in VARYING)
            )
    return out


@pytest.mark.parametrize("name", FILES)
def test_events_come_in_the_recorded_order(name: str) -> None:
    for exchange in exchanges(name):
        assert outline(exchange.kind, replayed(exchange)) == outline(exchange.kind, exchange.frames)


@pytest.mark.parametrize("name", FILES)
def test_frames_have_the_recorded_keys(name: str) -> None:
    for exchange in exchanges(name):
        assert shapes(exchange.kind, replayed(exchange)) == shapes(exchange.kind, exchange.frames)
