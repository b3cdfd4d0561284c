"""A stand-in for the loop: streams steps, keeps the history, answers calls."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from fakes.script import Kind
from fakes.server import FakeProviders

from steersman_chatloop.prompt import prepare
from steersman_chatloop.providers.base import StepEnded, StepEvent, StepNamed, StepRequest
from steersman_chatloop.providers.registry import Providers
from steersman_contracts.chats import Message, Role, StopReason
from steersman_contracts.deltas import PartClosed, PartsBuilder
from steersman_contracts.ids import ChatId, MessageId, ModelName
from steersman_contracts.parts import (
    Part,
    Parts,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    decode_parts,
    encode_parts,
)
from steersman_contracts.rpc.models import ProviderType
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import ModelAccess

KINDS: Final[tuple[Kind, ...]] = ("anthropic", "responses", "chat", "gemini")
TYPES: Final[dict[Kind, ProviderType]] = {
    "anthropic": "anthropic",
    "responses": "openai-responses",
    "chat": "openai-chat",
    "gemini": "google",
    "bedrock": "anthropic-bedrock",
    "vertex": "anthropic-vertex",
}
MODELS: Final[dict[Kind, str]] = {
    "anthropic": "claude-sonnet-5-5",
    "responses": "gpt-5.6",
    "chat": "compatible-1",
    "gemini": "gemini-3-pro",
}
CHAT: Final = ChatId("01890a5d-ac96-774b-bcce-b302099a8057")
NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)
ADD: Final = ToolSpec(
    "add",
    "Add two numbers.",
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a"],
    },
    "test",
)


def access(kind: Kind, fakes: FakeProviders, model: str | None = None) -> ModelAccess:
    return access_to(kind, fakes.base_url(kind), model)


def access_to(kind: Kind, base_url: str, model: str | None = None) -> ModelAccess:
    return ModelAccess(
        name=ModelName(f"{kind}/{model or MODELS[kind]}"),
        provider_type=TYPES[kind],
        provider_id=kind,
        model_id=model or MODELS[kind],
        base_url=base_url,
        api_key="secret-key-of-a-test",
        account=f"account-of-{kind}",
        max_output_tokens=4000,
    )


@dataclass
class Step:
    """What one model call gave."""

    events: list[StepEvent]
    parts: Parts
    ended: StepEnded

    @property
    def stop(self) -> StopReason:
        return self.ended.stop

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def reasoning(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, ReasoningPart))

    @property
    def calls(self) -> list[ToolCallPart]:
        return [
            part
            for part in self.parts
            if isinstance(part, ToolCallPart) and not part.provider_executed
        ]


@dataclass
class Conversation:
    """A chat with one model at a time; the history passes through storage after each step."""

    providers: Providers
    model: ModelAccess
    tools: tuple[ToolSpec, ...] = (ADD,)
    system: str = "Be brief."
    messages: list[Message] = field(default_factory=list[Message])

    def add(self, role: Role, parts: Sequence[Part], stop: StopReason | None = None) -> None:
        stored = decode_parts(encode_parts(parts))
        model = self.model.name if role is Role.ASSISTANT else None
        at = len(self.messages) + 1
        self.messages.append(Message(MessageId(at), role, stored, at, NOW, model=model, stop=stop))

    def request(self) -> StepRequest:
        return StepRequest(CHAT, self.model, self.system, prepare(self.messages), self.tools)

    async def say(self, text: str) -> Step:
        self.add(Role.USER, [TextPart(text)])
        return await self.step()

    async def answer(self, step: Step, *texts: str) -> Step:
        """Give the results of the step's calls and take the next step."""
        self.add(
            Role.TOOL,
            [
                ToolResultPart(call.call_id, call.tool, (TextPart(text),))
                for call, text in zip(step.calls, texts, strict=True)
            ],
        )
        return await self.step()

    async def step(self) -> Step:
        step = await collect(self.providers, self.request())
        self.add(Role.ASSISTANT, step.parts, step.stop)
        return step


async def collect(providers: Providers, request: StepRequest) -> Step:
    events: list[StepEvent] = []
    async with aclosing(providers.stream(request)) as stream:
        async for event in stream:
            assert not any(isinstance(e, StepEnded) for e in events), "nothing follows the end"
            events.append(event)
    named = [event.response_id for event in events if isinstance(event, StepNamed)]
    events = [event for event in events if not isinstance(event, StepNamed)]
    ended = events.pop()
    assert isinstance(ended, StepEnded)
    assert named in ([], [ended.response_id]), "told once, early, and it stays"
    return Step(events, fold(events), ended)


def fold(events: Sequence[StepEvent]) -> Parts:
    builder = PartsBuilder()
    opened: set[int] = set()
    for event in events:
        assert not isinstance(event, StepEnded)
        if isinstance(event, StepNamed):
            continue
        if isinstance(event, PartClosed):
            assert event.index in opened or event.provider_metadata is None
        else:
            opened.add(event.index)
        builder.apply(event)
    assert not opened or min(opened) == 0, "nothing is left out at the beginning"
    return builder.parts()


def unmarked(value: Any) -> Any:
    """A request without cache marks, which move from turn to turn."""
    if isinstance(value, dict):
        items: dict[str, Any] = msgspec.convert(value, dict[str, Any])
        return {k: unmarked(v) for k, v in items.items() if k != "cache_control"}
    if isinstance(value, list):
        return [unmarked(item) for item in msgspec.convert(value, list[Any])]
    return value
