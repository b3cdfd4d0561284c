"""The baseline: the same provider, called by the official SDK from this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from openai import AsyncOpenAI, omit
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from bench.figures import Wrong
from bench.providers import KEY

Object = dict[str, Any]  # messages and tools, as the SDK takes them


class DirectTurn:
    """One completion. Times are of the monotonic clock."""

    def __init__(self) -> None:
        self.sent_at = time.monotonic()
        self.first_at = 0.0
        self.done_at = 0.0
        self.arrivals: list[tuple[float, str]] = []
        self.call_id = ""

    @property
    def first_s(self) -> float:
        return self.first_at - self.sent_at

    @property
    def total_s(self) -> float:
        return self.done_at - self.sent_at

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.arrivals)


class Direct:
    """A client of one provider."""

    def __init__(self, base_url: str) -> None:
        self._client = AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0, timeout=120)

    async def turn(
        self,
        model: str,
        expected: str | None,
        *,
        messages: Sequence[Object] = ({"role": "user", "content": "Go on."},),
        tools: Sequence[Object] = (),
    ) -> DirectTurn:
        """Stream one completion to its end.

        Raises:
            Wrong: It does not say what was expected.
        """
        turn = DirectTurn()
        stream = await self._client.chat.completions.create(
            model=model,
            messages=cast("list[ChatCompletionMessageParam]", messages),
            tools=cast("list[ChatCompletionToolParam]", tools) if tools else omit,
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            if not chunk.choices:
                continue
            delta = chunk.choices[0].delta
            if delta.content:
                now = time.monotonic()
                turn.first_at = turn.first_at or now
                turn.arrivals.append((now, delta.content))
            elif delta.tool_calls and delta.tool_calls[0].id:
                turn.call_id = delta.tool_calls[0].id
        turn.done_at = time.monotonic()
        if expected is not None and turn.text != expected:
            raise Wrong(f"the provider said {len(turn.text.split())} tokens, called directly")
        return turn

    async def tool_turn(self, model: str, name: str) -> float:
        """Model, tool, model, with a tool that answers at once; returns the seconds."""
        tools = [{"type": "function", "function": {"name": name, "parameters": EMPTY}}]
        asked: Object = {
            "role": "user",
            "content": msgspec.json.encode({"tool": name, "arguments": {}}).decode(),
        }
        began = time.monotonic()
        first = await self.turn(model, None, messages=[asked], tools=tools)
        if not first.call_id:
            raise Wrong("the provider, called directly, did not call the tool")
        call = {
            "id": first.call_id,
            "type": "function",
            "function": {"name": name, "arguments": "{}"},
        }
        history = [
            asked,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": first.call_id, "content": "nothing there"},
        ]
        await self.turn(model, "nothing there", messages=history, tools=tools)
        return time.monotonic() - began

    async def close(self) -> None:
        await self._client.close()


EMPTY: Object = {"type": "object", "properties": {}}
