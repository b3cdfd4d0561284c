"""The short way for messages that are one text and nothing else, as most of a long history is.

Every wire format writes them the same whatever stands around them. So the plain messages that a
history begins with are written once and kept for the next request, which begins with them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from steersman_contracts.chats import Message, Role
from steersman_contracts.parts import JsonObject, TextPart

Write: TypeAlias = Callable[[str, bool], JsonObject]
"""Writes a text, of the model or of a person, in a wire format."""

# The members of enumerations are looked up slowly, and this is asked for every message.
_USER: Final = Role.USER
_ASSISTANT: Final = Role.ASSISTANT


def plain(message: Message) -> str | None:
    """What a message says if it is a text of a person or a model, and nothing else."""
    parts = message.parts
    if len(parts) != 1:
        return None
    part = parts[0]
    if type(part) is not TextPart or part.provider_metadata is not None:
        return None
    role = message.role
    # What was refused is told in other words to some providers.
    if role is not _USER and (role is not _ASSISTANT or message.stop == "refusal"):
        return None
    return None if part.text.isspace() else part.text or None


class Beginning:
    """How a history begins on the wire. One for each history; it saves time and nothing else."""

    def __init__(self) -> None:
        self._form = ""
        self._messages: list[Message] = []
        self._items: list[JsonObject] = []

    def known(self, messages: Sequence[Message]) -> int:
        """How many of the first messages are plain, as far as earlier requests have shown."""
        known = len(self._messages)
        # The same objects, nearly always: those compare at once.
        return known if list(messages[:known]) == self._messages else 0

    def items(self, messages: Sequence[Message], form: str, write: Write) -> list[JsonObject]:
        """One item for each plain message at the beginning, up to two of the model in a row.

        Args:
            messages: The history.
            form: Names what `write` writes: with another name everything is written anew.
            write: Depends on nothing but its arguments and what `form` stands for.

        Returns:
            A new list. Its items are those of other requests too, and must not be changed.
        """
        known = self.known(messages) if form == self._form else 0
        if not known:
            self._form, self._messages, self._items = form, [], []
        by_model = bool(known) and self._messages[-1].role is _ASSISTANT
        for message in messages[known:]:
            text = plain(message)
            if text is None or (by_model and message.role is _ASSISTANT):
                break
            by_model = message.role is _ASSISTANT
            self._messages.append(message)
            self._items.append(write(text, by_model))
        return self._items.copy()
