"""What an adapter costs over the official SDK: CPU of this process, on the same server.

Paced, every delta comes in a packet of its own, as from a real model; at full speed many come in
one, as after a pause of the network.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final, TypeAlias

from anthropic import AsyncAnthropic
from google import genai
from google.genai import types
from openai import AsyncOpenAI

from bench.context import FAKE, Bench
from bench.figures import TIMES, Budget, Row, Wrong, over_rounds
from bench.providers import KEY
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.registry import Providers
from steersman_contracts.chats import Message, Role
from steersman_contracts.deltas import TextDelta
from steersman_contracts.ids import ChatId, MessageId, ModelName
from steersman_contracts.parts import TextPart
from steersman_contracts.rpc.models import ProviderType
from steersman_contracts.rpc.worker import ModelAccess

Stream: TypeAlias = Callable[[str], Awaitable[int]]
"""Takes the name of a model; returns how many deltas of text it streamed."""

_BUDGET: Final = Budget(1.3, TIMES)
_WITHIN_S: Final = 12.0
"""For each row: there are eight."""
_NAMES: Final[Mapping[ProviderType, str]] = {
    "anthropic": "Anthropic",
    "openai-responses": "OpenAI Responses",
    "openai-chat": "Chat Completions",
    "google": "Gemini",
}


async def measure(bench: Bench) -> list[Row]:
    """Adapter and SDK take turns; 32 streams at once that are paced, 8 that are not."""
    root = bench.providers.urls[FAKE].removesuffix("/v1")
    providers = Providers()
    quick = bench.size.quick
    loads = {
        "paced at 50 per second": ("tokens-100-at-50", 32, 100),
        "full speed": ("tokens-1000", 8, 1000),  # the SDK needs 2 to 4 s for these
    }
    rows: list[Row] = []
    try:
        for kind in _NAMES:
            sdk, ours = _sdk(kind, root), _ours(kind, root, providers)
            for stream in (sdk, ours):
                await _cpu_s(stream, "tokens-1000", 1, 1000)  # imports, connections
            for how, (model, streams, tokens) in loads.items():
                base: list[float] = []
                found: list[float] = []
                for _ in bench.rounds(2 if quick else 3, within_s=_WITHIN_S):
                    base.append(await _cpu_s(sdk, model, streams, tokens))
                    found.append(await _cpu_s(ours, model, streams, tokens))
                rows.append(_row(kind, how, base, found, streams * tokens))
    finally:
        await providers.aclose()
    return rows


def _row(kind: ProviderType, how: str, base: list[float], found: list[float], deltas: int) -> Row:
    ratios = [ours / sdk for ours, sdk in zip(found, base, strict=True)]
    return Row(
        scenario="adapters",
        what=f"CPU per 1,000 deltas, {_NAMES[kind]}, {how}",
        unit="ms",
        measured=over_rounds([seconds * 1e6 / deltas for seconds in found]),
        baseline=over_rounds([seconds * 1e6 / deltas for seconds in base]),
        compared=over_rounds(ratios),
        compared_unit=TIMES,
        budget=_BUDGET,
        samples=deltas * len(found),
        rounds=len(found),
    )


async def _cpu_s(stream: Stream, model: str, streams: int, tokens: int) -> float:
    before = time.process_time()
    counts = await asyncio.gather(*(stream(model) for _ in range(streams)))
    spent = time.process_time() - before
    if min(counts) < tokens:
        raise Wrong(f"{min(counts)} deltas of {tokens} arrived")
    return spent


def _ours(kind: ProviderType, root: str, providers: Providers) -> Stream:
    async def stream(model: str) -> int:
        said = Message(MessageId(1), Role.USER, (TextPart("Go on."),), 1, datetime.now(UTC))
        url = root if kind in ("anthropic", "google") else f"{root}/v1"
        access = ModelAccess(
            ModelName(f"fake/{model}"), kind, "fake", model, base_url=url, api_key=KEY
        )
        request = StepRequest(ChatId("bench"), access, "", (said,), ())
        count = 0
        async with aclosing(providers.stream(request)) as events:
            async for event in events:
                if type(event) is TextDelta:
                    count += 1
        return count

    return stream


def _sdk(kind: ProviderType, root: str) -> Stream:
    match kind:
        case "anthropic":
            return _anthropic(root)
        case "openai-responses":
            return _responses(root)
        case "google":
            return _gemini(root)
        case _:
            return _chat(root)


def _anthropic(root: str) -> Stream:
    client = AsyncAnthropic(api_key=KEY, base_url=root, max_retries=0)

    async def stream(model: str) -> int:
        events = await client.messages.create(
            model=model,
            max_tokens=4000,
            messages=[{"role": "user", "content": "Go on."}],
            stream=True,
        )
        count = 0
        async for event in events:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                count += 1
        return count

    return stream


def _responses(root: str) -> Stream:
    client = AsyncOpenAI(api_key=KEY, base_url=f"{root}/v1", max_retries=0)

    async def stream(model: str) -> int:
        events = await client.responses.create(model=model, input="Go on.", stream=True)
        count = 0
        async for event in events:
            if event.type == "response.output_text.delta":
                count += 1
        return count

    return stream


def _chat(root: str) -> Stream:
    client = AsyncOpenAI(api_key=KEY, base_url=f"{root}/v1", max_retries=0)

    async def stream(model: str) -> int:
        chunks = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Go on."}], stream=True
        )
        count = 0
        async for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                count += 1
        return count

    return stream


def _gemini(root: str) -> Stream:
    client = genai.Client(
        vertexai=False,
        api_key=KEY,
        http_options=types.HttpOptions(
            base_url=root, retry_options=types.HttpRetryOptions(attempts=1)
        ),
    )

    async def stream(model: str) -> int:
        chunks = await client.aio.models.generate_content_stream(model=model, contents="Go on.")
        count = 0
        async for chunk in chunks:
            if chunk.candidates and chunk.text:
                count += 1
        return count

    return stream
