"""What a turn is shown on: a terminal that is drawn on, or plain text in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self, TextIO

from steersman.chat.advice import end_lines
from steersman.chat.words import ASCII
from steersman.client import Interruption, Unreachable, View
from steersman_contracts.chats import Message, Role, Visibility
from steersman_contracts.parts import Parts, SourcePart, TextPart

PATIENCE_S: Final = 120.0
"""How long plain output waits for a gateway that went away in the middle of a turn."""


class Output(Protocol):
    """Where a turn appears."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def skip(self, message_id: int) -> None:
        """This message was typed here."""
        ...

    def skip_before(self, message_id: int) -> None:
        """Older messages than this one are not of interest."""
        ...

    def show(self, view: View) -> None:
        """The view has changed."""
        ...

    def interrupted(self, interruption: Interruption) -> None:
        """The connection is lost for the moment."""
        ...

    def connected(self) -> None:
        """Events arrive (again)."""
        ...

    def interrupting(self) -> None:
        """An interrupt was asked for."""
        ...

    def end(self, view: View) -> None:
        """The chat rests; or somebody no longer wants to watch."""
        ...

    def error(self, text: str) -> None:
        """Something that has to be said now."""
        ...


def plain_text(parts: Parts) -> str:
    """The text of a message that a person typed; empty if it holds anything else."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    return "\n".join(texts) if len(texts) == len(parts) else ""


def answer_text(parts: Parts) -> str:
    """The text of an answer. Pieces between which only sources stand belong together."""
    paragraphs: list[str] = []
    joined = False
    for part in parts:
        match part:
            case TextPart():
                if joined:
                    paragraphs[-1] += part.text
                else:
                    paragraphs.append(part.text)
                joined = True
            case SourcePart():
                pass
            case _:
                joined = False
    return "\n\n".join(filter(None, (text.strip("\n") for text in paragraphs)))


class PlainOutput:
    """The text of the answer and nothing else; each step as soon as it is stored.

    Not sooner: what an attempt has streamed may still be dropped, and cannot be unprinted.
    """

    def __init__(
        self,
        out: TextIO | None = None,
        err: TextIO | None = None,
        *,
        clean: Callable[[str], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._clean = clean
        self._clock = clock
        self._lost_at = 0.0
        self._last_id = 0
        self._anything = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is open."""

    def skip(self, message_id: int) -> None:
        """Answers to earlier messages are not of interest."""
        self.skip_before(message_id + 1)

    def skip_before(self, message_id: int) -> None:
        """See `Output`."""
        self._last_id = max(self._last_id, message_id - 1)

    def show(self, view: View) -> None:
        """Print the steps that have been stored since."""
        for message in view.messages:
            if message.id > self._last_id:
                self._last_id = message.id
                self._print(message)

    def _print(self, message: Message) -> None:
        if message.role is not Role.ASSISTANT or message.visibility is Visibility.MODEL:
            return
        text = self._clean(answer_text(message.parts))
        if text:
            self._out.write(f"\n{text}\n" if self._anything else f"{text}\n")
            self._out.flush()
            self._anything = True

    def interrupted(self, interruption: Interruption) -> None:
        """A passing trouble is no part of the answer; nobody is there to see a lasting one."""
        self._lost_at = self._lost_at or self._clock()
        if self._clock() - self._lost_at > PATIENCE_S:
            raise Unreachable(f"no connection for {PATIENCE_S:.0f} s ({interruption.reason})")

    def connected(self) -> None:
        """The trouble has passed."""
        self._lost_at = 0.0

    def interrupting(self) -> None:
        """The partial answer follows."""

    def end(self, view: View) -> None:
        """Print what is left; anything else than a usual end is said beside it."""
        self.show(view)
        for line in end_lines(view, ASCII):
            self.error(line.text)

    def error(self, text: str) -> None:
        """Say it beside the answer."""
        self._err.write(f"{text}\n")
        self._err.flush()
