"""Reasoning of other models: left out, or told in words, as an administrator wants it.

Only the model that thought it can take reasoning as its own: see `Origin.reads`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.native import Origin
from steersman_contracts.chats import Message, Role
from steersman_contracts.parts import Part, ReasoningPart, TextPart

# No tag that any model has of its own: templates of open models cut histories at `</think>`.
_OPEN: Final = "<earlier-reasoning>"
_CLOSE: Final = "</earlier-reasoning>"


def told(request: StepRequest, wire_format: str) -> StepRequest:
    """The request with other models' reasoning in words, if its model is to read that.

    Every adapter leaves out what is still reasoning of others afterwards.
    """
    if request.model.settings.foreign_reasoning == "drop":
        return request
    origin = Origin(wire_format, request.model)
    messages = tuple(_told(message, origin) for message in request.messages)
    return msgspec.structs.replace(request, messages=messages)


def _told(message: Message, origin: Origin) -> Message:
    # What the model itself has said is no news to it, also where it cannot be sent as it came.
    if message.role is not Role.ASSISTANT or origin.spoke(message):
        return message
    if not any(isinstance(part, ReasoningPart) for part in message.parts):
        return message
    parts = tuple(_in_words(part, origin) for part in message.parts)
    return msgspec.structs.replace(message, parts=parts)


def _in_words(part: Part, origin: Origin) -> Part:
    if not isinstance(part, ReasoningPart) or not part.text.strip():
        return part
    if origin.reads(part.provider_metadata):
        return part
    return TextPart(f"{_OPEN}\n{part.text.strip()}\n{_CLOSE}\n\n")
