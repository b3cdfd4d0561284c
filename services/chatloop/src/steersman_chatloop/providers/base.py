"""What the loop asks of a provider, whichever it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from steersman_chatloop.providers.plain import Beginning
from steersman_contracts.chats import ChatError, Message, StopReason, Usage
from steersman_contracts.deltas import Delta, PartClosed
from steersman_contracts.ids import ChatId
from steersman_contracts.model_options import Effort
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import ModelAccess

_LONGEST_NAME: Final = 200


class StepRequest(msgspec.Struct, frozen=True):
    """One model call."""

    chat_id: ChatId
    model: ModelAccess
    system: str
    messages: tuple[Message, ...]
    """Already prepared by `prompt.prepare`: paired, visible to the model, ending with input."""
    tools: tuple[ToolSpec, ...]
    effort: Effort | None = None
    """What the chat asks for in place of the model's own setting, which also limits it."""
    tool_choice: Literal["auto", "none"] = "auto"
    """`none`: the tools are sent, so that the prefix is the same, and must not be called."""
    response_schema: JsonObject | None = None
    """The form of the final answer; what the provider cannot promise is checked later."""
    beginning: Beginning = msgspec.field(default_factory=Beginning)
    """What earlier requests of the chat began with, as it was written: it need not be again."""


class StepNamed(msgspec.Struct, frozen=True):
    """What the provider calls the answer, as soon as it is known; an answer may never end."""

    response_id: str
    """As the provider sent it: see `name_of`."""


class StepEnded(msgspec.Struct, frozen=True):
    """The last event of a stream. A stream that ends without it was cut."""

    stop: StopReason
    usage: Usage | None = None
    response_id: str = ""
    """As the provider sent it: see `name_of`."""


def name_of(response_id: object) -> str | None:
    """What the provider calls the answer, in a form that can be stored; None if it says nothing."""
    return "".join(filter(str.isprintable, str(response_id)))[:_LONGEST_NAME] or None


StepEvent: TypeAlias = Delta | PartClosed | StepNamed | StepEnded


class ProviderFailed(Exception):
    """The model call failed. Raised by adapters for every failure but cancellation.

    Attributes:
        error: Classified, with a sentence for people and no secrets.
        retry_after_s: Seconds that the provider asks to wait, if it said so.
        once: One more attempt may go better, but never a third one, though the error as such is
            not one that passes.
        usage: What the provider had counted by then: it is paid for, whatever became of it.
    """

    def __init__(
        self, error: ChatError, *, retry_after_s: float | None = None, once: bool = False
    ) -> None:
        super().__init__(error.message)
        self.once = once
        self.usage: Usage | None = None
        self.error = error
        self.retry_after_s = retry_after_s


class Provider(Protocol):
    """One wire format, with its pool of clients."""

    def stream(self, request: StepRequest) -> AsyncGenerator[StepEvent]:
        """Yield one step as events, `StepEnded` last.

        Iterate inside `aclosing`: leaving early closes the request at once.

        Raises:
            ProviderFailed: For every failure, also in the middle of the stream.
        """
        ...

    async def aclose(self) -> None:
        """Close the clients."""
        ...
