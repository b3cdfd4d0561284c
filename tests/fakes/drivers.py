"""The real SDKs, each behind the same few calls: what the tests of the fakes drive them with.

No part of the server: importing this imports all three SDKs.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import httpx2
import msgspec
from anthropic import AsyncAnthropic
from google import genai
from google.genai import types as google
from openai import AsyncOpenAI

from fakes.script import Kind
from fakes.server import FakeProviders

# Saves google-genai from loading the system's certificates, which no loopback server needs.
_NO_CERTIFICATES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# The SDKs describe requests and events as unions of hundreds of types; here both are plain JSON.
Native = dict[str, Any]


@dataclass
class HeardCall:
    id: str | None
    name: str
    # The JSON text as it came, in pieces.
    pieces: list[str] = field(default_factory=list[str])

    @property
    def arguments(self) -> object:
        return msgspec.json.decode("".join(self.pieces) or "{}")


@dataclass
class Heard:
    """What a client heard of one stream, as far as it came."""

    text: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    refusal: list[str] = field(default_factory=list[str])
    calls: list[HeardCall] = field(default_factory=list[HeardCall])
    # In the provider's own words; None if it was never said.
    stop: str | None = None
    usage: Native = field(default_factory=dict[str, Any])
    # Every event, chunk or frame that the SDK handed out.
    events: list[Native] = field(default_factory=list[Native])
    # The assistant's part of the history, ready to be sent back.
    history: list[Native] = field(default_factory=list[Native])
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def changed(self) -> None:
        self._changed.set()

    async def texts(self, count: int) -> None:
        """Wait until so many pieces of text were heard."""
        while len(self.text) < count:
            self._changed.clear()
            await self._changed.wait()


class Driver(Protocol):
    kind: Kind

    async def stream(
        self, model: str, history: list[Native], heard: Heard, options: Native | None = None
    ) -> None:
        """Ask for one step. Fills `heard` as the stream comes; errors of the SDK pass through."""
        ...

    def user(self, text: str) -> list[Native]: ...

    def results(self, heard: Heard, texts: list[str]) -> list[Native]:
        """The answers to the calls of a step, in order."""
        ...


class AnthropicDriver:
    kind: Kind = "anthropic"

    def __init__(self, client: AsyncAnthropic) -> None:
        self.client: Final = client

    async def stream(
        self, model: str, history: list[Native], heard: Heard, options: Native | None = None
    ) -> None:
        arguments: Any = {"max_tokens": 4096, **(options or {})}
        blocks: dict[int, Native] = {}
        heard.history = [{"role": "assistant", "content": []}]
        messages: Any = history
        async with await self.client.messages.create(
            model=model, messages=messages, stream=True, **arguments
        ) as events:
            async for event in events:
                native = event.to_dict()
                heard.events.append(native)
                self._take(native, blocks, heard)
                heard.changed()

    def _take(self, event: Native, blocks: dict[int, Native], heard: Heard) -> None:
        match event["type"]:
            case "message_start":
                heard.usage = dict(event["message"]["usage"])
            case "content_block_start":
                block = dict(event["content_block"])
                blocks[event["index"]] = block
                heard.history[0]["content"].append(block)
                if block["type"] == "tool_use":
                    heard.calls.append(HeardCall(block["id"], block["name"]))
            case "content_block_delta":
                self._delta(event["delta"], blocks[event["index"]], heard)
            case "content_block_stop":
                block = blocks[event["index"]]
                if "pieces" in block:
                    block["input"] = msgspec.json.decode("".join(block.pop("pieces")) or "{}")
            case "message_delta":
                heard.stop = event["delta"]["stop_reason"]
                heard.usage |= {k: v for k, v in event["usage"].items() if v is not None}
            case _:
                pass

    def _delta(self, delta: Native, block: Native, heard: Heard) -> None:
        match delta["type"]:
            case "text_delta":
                heard.text.append(delta["text"])
                block["text"] += delta["text"]
            case "thinking_delta":
                heard.reasoning.append(delta["thinking"])
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "input_json_delta":
                block.setdefault("pieces", []).append(delta["partial_json"])
                if block["type"] == "tool_use":
                    heard.calls[-1].pieces.append(delta["partial_json"])
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or []), delta["citation"]]
            case _:
                raise AssertionError(delta)

    def user(self, text: str) -> list[Native]:
        return [{"role": "user", "content": text}]

    def results(self, heard: Heard, texts: list[str]) -> list[Native]:
        content = [
            {"type": "tool_result", "tool_use_id": call.id, "content": text}
            for call, text in zip(heard.calls, texts, strict=True)
        ]
        return [{"role": "user", "content": content}]


class ResponsesDriver:
    kind: Kind = "responses"

    def __init__(self, client: AsyncOpenAI) -> None:
        self.client: Final = client

    async def stream(
        self, model: str, history: list[Native], heard: Heard, options: Native | None = None
    ) -> None:
        items: Any = history
        arguments: Any = {"store": False, **(options or {})}
        async with await self.client.responses.create(
            model=model, input=items, stream=True, **arguments
        ) as events:
            async for event in events:
                native = event.to_dict()
                heard.events.append(native)
                self._take(native, heard)
                heard.changed()

    def _take(self, event: Native, heard: Heard) -> None:
        match event["type"]:
            case "response.output_text.delta":
                heard.text.append(event["delta"])
            case "response.reasoning_summary_text.delta":
                heard.reasoning.append(event["delta"])
            case "response.refusal.delta":
                heard.refusal.append(event["delta"])
            case "response.output_item.added" if event["item"]["type"] == "function_call":
                heard.calls.append(HeardCall(event["item"]["call_id"], event["item"]["name"]))
            case "response.function_call_arguments.delta":
                heard.calls[-1].pieces.append(event["delta"])
            case "response.output_item.done":
                heard.history.append(event["item"])
            case "response.completed" | "response.incomplete" | "response.failed":
                response = event["response"]
                details: Native = response.get("incomplete_details") or {}
                heard.stop = details.get("reason", response["status"])
                heard.usage = response.get("usage") or {}
            case _:
                pass

    def user(self, text: str) -> list[Native]:
        return [{"role": "user", "content": text}]

    def results(self, heard: Heard, texts: list[str]) -> list[Native]:
        return [
            {"type": "function_call_output", "call_id": call.id, "output": text}
            for call, text in zip(heard.calls, texts, strict=True)
        ]


class ChatDriver:
    kind: Kind = "chat"

    def __init__(self, client: AsyncOpenAI) -> None:
        self.client: Final = client

    async def stream(
        self, model: str, history: list[Native], heard: Heard, options: Native | None = None
    ) -> None:
        messages: Any = history
        arguments: Any = {"stream_options": {"include_usage": True}, **(options or {})}
        async with await self.client.chat.completions.create(
            model=model, messages=messages, stream=True, **arguments
        ) as chunks:
            async for chunk in chunks:
                native = chunk.to_dict()
                heard.events.append(native)
                self._take(native, heard)
                heard.changed()
        message: Native = {"role": "assistant", "content": "".join(heard.text) or None}
        if heard.reasoning:
            message["reasoning_content"] = "".join(heard.reasoning)
        if heard.calls:
            message["tool_calls"] = [
                {
                    "type": "function",
                    "id": call.id,
                    "function": {"name": call.name, "arguments": "".join(call.pieces)},
                }
                for call in heard.calls
            ]
        heard.history = [message]

    def _take(self, chunk: Native, heard: Heard) -> None:
        if chunk.get("usage"):
            heard.usage = chunk["usage"]
        for choice in chunk["choices"]:
            delta = choice["delta"]
            heard.stop = choice.get("finish_reason") or heard.stop
            into: list[str]
            for key, into in (
                ("content", heard.text),
                ("reasoning_content", heard.reasoning),
                ("reasoning", heard.reasoning),
                ("refusal", heard.refusal),
            ):
                if delta.get(key):
                    into.append(delta[key])
            calls: list[Native] = delta.get("tool_calls", [])
            for call in calls:
                if "id" in call:
                    heard.calls.append(HeardCall(call["id"], call["function"]["name"]))
                if call["function"]["arguments"]:
                    index: int = call["index"]
                    heard.calls[index].pieces.append(call["function"]["arguments"])

    def user(self, text: str) -> list[Native]:
        return [{"role": "user", "content": text}]

    def results(self, heard: Heard, texts: list[str]) -> list[Native]:
        return [
            {"role": "tool", "tool_call_id": call.id, "content": text}
            for call, text in zip(heard.calls, texts, strict=True)
        ]


class GeminiDriver:
    kind: Kind = "gemini"

    def __init__(self, options: google.HttpOptions, key: str) -> None:
        self._options = options
        self._key = key
        self._client: genai.Client | None = None

    @property
    def client(self) -> genai.Client:
        # Made when it is needed: it is by far the slowest of the three to make.
        if self._client is None:
            self._client = genai.Client(api_key=self._key, http_options=self._options)
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aio.aclose()
            self._client.close()

    async def stream(
        self, model: str, history: list[Native], heard: Heard, options: Native | None = None
    ) -> None:
        config = google.GenerateContentConfig.model_validate(
            {"thinking_config": {"include_thoughts": True}, **(options or {})}
        )
        contents: Any = history
        heard.history = [{"role": "model", "parts": []}]
        # Some of its parameter types come from packages that are not there.
        models: Any = self.client.aio.models
        async for chunk in await models.generate_content_stream(
            model=model, contents=contents, config=config
        ):
            native = chunk.model_dump(mode="json", exclude_none=True, exclude={"sdk_http_response"})
            heard.events.append(native)
            self._take(native, heard)
            heard.changed()

    def _take(self, chunk: Native, heard: Heard) -> None:
        heard.usage = chunk.get("usage_metadata") or heard.usage
        for candidate in chunk.get("candidates", ()):
            heard.stop = candidate.get("finish_reason") or heard.stop
            for part in candidate.get("content", {}).get("parts", ()):
                heard.history[0]["parts"].append(part)
                if part.get("text"):
                    (heard.reasoning if part.get("thought") else heard.text).append(part["text"])
                if call := part.get("function_call"):
                    arguments = msgspec.json.encode(call["args"]).decode()
                    heard.calls.append(HeardCall(call.get("id"), call["name"], [arguments]))

    def user(self, text: str) -> list[Native]:
        return [{"role": "user", "parts": [{"text": text}]}]

    def results(self, heard: Heard, texts: list[str]) -> list[Native]:
        parts: list[Native] = []
        for call, text in zip(heard.calls, texts, strict=True):
            response: Native = {"name": call.name, "response": {"output": text}}
            if call.id is not None:
                response["id"] = call.id
            parts.append({"function_response": response})
        return [{"role": "user", "parts": parts}]


@asynccontextmanager
async def drivers(
    fakes: FakeProviders, *, key: str = "test-key", read_timeout_s: float = 10.0
) -> AsyncGenerator[Mapping[Kind, Driver]]:
    """One client of each SDK: no retries, no proxies, no certificates to load."""

    def transport() -> httpx2.AsyncHTTPTransport:
        return httpx2.AsyncHTTPTransport(verify=False)

    timeout = httpx2.Timeout(read_timeout_s, connect=5.0)
    plain = httpx2.AsyncClient(transport=transport(), timeout=timeout)
    claude = AsyncAnthropic(
        api_key=key, base_url=fakes.base_url("anthropic"), max_retries=0, http_client=plain
    )
    openai = AsyncOpenAI(
        api_key=key, base_url=fakes.base_url("chat"), max_retries=0, http_client=plain
    )
    options = google.HttpOptions(
        base_url=fakes.base_url("gemini"),
        api_version="v1beta",
        timeout=int(read_timeout_s * 1000),
        retry_options=google.HttpRetryOptions(attempts=1),
        client_args={"verify": False},
        async_client_args={"transport": transport(), "ssl": _NO_CERTIFICATES},
    )
    gemini = GeminiDriver(options, key)
    try:
        yield {
            "anthropic": AnthropicDriver(claude),
            "responses": ResponsesDriver(openai),
            "chat": ChatDriver(openai),
            "gemini": gemini,
        }
    finally:
        await gemini.close()
        await plain.aclose()
