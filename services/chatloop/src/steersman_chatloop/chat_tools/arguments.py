"""Arguments of the loop's own tools: their schema, and what a model is told that got it wrong."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from steersman_chatloop.decide import error_result
from steersman_contracts.parts import TextPart, ToolCallPart, ToolResultPart

A = TypeVar("A", bound=msgspec.Struct)


def read(call: ToolCallPart, arguments: type[A]) -> A | ToolResultPart:
    """The arguments of a call, or the error that its model gets."""
    try:
        return msgspec.convert(call.arguments, arguments)
    except msgspec.ValidationError as error:
        return error_result(call, f"the arguments do not fit: {error}")


def said(call: ToolCallPart, text: str, *, ends_turn: bool = False) -> ToolResultPart:
    """A result of one text."""
    return ToolResultPart(call.call_id, call.tool, (TextPart(text),), ends_turn=ends_turn)
