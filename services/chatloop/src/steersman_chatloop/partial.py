"""What is kept of a step that did not end by itself: plain functions over parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from steersman_chatloop.decide import FinishTurn, RunTools, decide, error_result, local_calls
from steersman_contracts.chats import Message, Role
from steersman_contracts.parts import Part, ToolCallPart, ToolResultPart
from steersman_contracts.rpc.worker import NewMessage

INTERRUPTED: Final = "interrupted before it produced a result"

NewMessages: TypeAlias = tuple[NewMessage, ...]


def tool_message(
    calls: Sequence[ToolCallPart], results: Mapping[str, ToolResultPart], otherwise: str
) -> NewMessages:
    """The results of calls, in call order; those that have none get an error."""
    if not calls:
        return ()
    parts: tuple[Part, ...] = tuple(
        results.get(call.call_id) or error_result(call, otherwise) for call in calls
    )
    return (NewMessage(Role.TOOL, parts),)


def with_closed_calls(message: NewMessage) -> NewMessages:
    """A step that did not end: its calls are closed, so that the history stays whole."""
    if not message.parts:
        return ()
    return (message, *tool_message(local_calls(message.parts), {}, INTERRUPTED))


def answered(messages: NewMessages) -> NewMessages:
    """Messages that can end a turn: a step that still asks for tools gets error results."""
    if not messages or messages[-1].role is not Role.ASSISTANT:
        return messages
    return (*messages, *tool_message(local_calls(messages[-1].parts), {}, INTERRUPTED))


def open_calls(messages: Sequence[Message]) -> NewMessages:
    """Results for calls of the last stored step that have none."""
    return tool_message(unanswered_calls(messages), {}, INTERRUPTED)


def unanswered_calls(messages: Sequence[Message]) -> tuple[ToolCallPart, ...]:
    """The calls of the last stored step, if they have no results."""
    match decide(messages, steps=0, max_steps=1):
        case RunTools(calls) | FinishTurn(_, calls):
            return calls
        case _:
            return ()
