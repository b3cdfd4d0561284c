"""Final answers of a certain form: read, checked, and asked for again. Plain functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from steersman_contracts.chats import ChatError, Message, Role, Visibility
from steersman_contracts.parts import JsonObject, JsonPart, Parts, TextPart
from steersman_runtime.answer_schema import problems

MOST_REPAIRS: Final = 3
_REPAIR: Final = "(A note of the system: your answer is not of the form that is wanted."
_FENCED: Final = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL)

UNFIT: Final = ChatError(
    "generic",
    f"The model's answer was not of the form that is wanted, also after {MOST_REPAIRS} more tries.",
    retryable=True,
)


class Checked(NamedTuple):
    """What became of an answer."""

    parts: Parts
    """Of the message: with the value behind the text, if it is right."""
    problems: tuple[str, ...] = ()


def section(schema: JsonObject) -> str:
    """What the model is told about the form of its answer."""
    text = msgspec.json.format(msgspec.json.encode(schema), indent=1).decode()
    return (
        "# The form of your final answer\n\n"
        "When you are done, answer with one JSON object and nothing else: no words around it. It "
        f"has to be valid against this JSON Schema:\n\n```json\n{text}\n```"
    )


def check(parts: Parts, schema: JsonObject) -> Checked:
    """Hold a final answer against the schema."""
    text = "".join(part.text for part in parts if isinstance(part, TextPart)).strip()
    for candidate in _candidates(text):
        try:
            value: Any = msgspec.json.decode(candidate)
        except (msgspec.DecodeError, RecursionError):
            continue
        found = problems(schema, value)
        return Checked(parts, tuple(found)) if found else Checked((*parts, JsonPart(value)))
    return Checked(parts, ("it is not JSON",))


def repair(found: Sequence[str]) -> str:
    """What the model is told about an answer that does not fit."""
    listed = "\n".join(f"- {problem}" for problem in found)
    return f"{_REPAIR} Answer again, with nothing but the JSON object.)\n\n{listed}"


def repairs(messages: Sequence[Message]) -> int:
    """How often this turn was asked to answer again."""
    count = 0
    for message in reversed(messages):
        if message.role is not Role.USER or message.deleted:
            continue
        if message.visibility is not Visibility.MODEL:
            break
        texts = (part.text for part in message.parts if isinstance(part, TextPart))
        count += any(text.startswith(_REPAIR) for text in texts)
    return count


def _candidates(text: str) -> list[str]:
    fenced = [found.strip() for found in _FENCED.findall(text)]
    begin, end = text.find("{"), text.rfind("}")
    inner = [text[begin : end + 1]] if 0 <= begin < end else []
    return [text, *fenced[-1:], *inner]
