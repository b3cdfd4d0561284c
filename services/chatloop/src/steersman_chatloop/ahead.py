"""Asking the model about results of tools while they are still being stored.

The next step of a tool turn is known as soon as its results are. So its request is sent while the
store writes them, wherever the store has no say in whether and how the model is called. Nothing of
the answer is taken in before they are written: an episode belongs to what is stored. If the chat is
then not what was foreseen, the call is ended, and the turn goes on from what is there (decision
52).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from steersman_chatloop.partial import NewMessages
from steersman_contracts.chats import Message, Status
from steersman_contracts.ids import MessageId
from steersman_contracts.parts import FilePart, Parts, ToolResultPart, encode_parts
from steersman_contracts.policies import RuleFacts
from steersman_contracts.rpc.worker import OwnedChat

_NO_FACTS: Final = RuleFacts()
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Overtaken(Exception):
    """The chat is not what was foreseen: what the model is asked is not to be asked any more."""


def may_go_ahead(chat: OwnedChat, results: NewMessages) -> bool:
    """Whether the store has no say in what the model is asked after these results."""
    return (
        chat.status is Status.RUNNING
        # The commit tells whether a limit is reached, and so whether the model may be called.
        and not chat.terms.limited
        and chat.parent_id is None
        # Models get files as the store has kept them.
        and not any(_holds_file(message.parts) for message in results)
    )


def _holds_file(parts: Parts) -> bool:
    return any(
        isinstance(item, FilePart)
        for part in parts
        if isinstance(part, ToolResultPart)
        for item in part.content
    )


def foreseen(history: Sequence[Message], results: NewMessages) -> list[Message]:
    """The history as it will be, but for ids and times: no model sees those."""
    last = history[-1].id if history else 0
    return [
        *history,
        *(
            Message(
                id=MessageId(last + number),
                role=message.role,
                parts=message.parts,
                revision=0,
                created_at=_NEVER,
                visibility=message.visibility,
            )
            for number, message in enumerate(results, 1)
        ),
    ]


def is_as_foreseen(
    before: OwnedChat, after: OwnedChat, results: NewMessages, stored: Sequence[Message]
) -> bool:
    """Whether a model would be asked the very same now.

    Args:
        before: The chat when the model was asked.
        after: The chat now.
        results: What was to be stored.
        stored: What the history ends with now.
    """
    return (
        after.begun
        and _lasting(before) == _lasting(after)
        and len(stored) == len(results)
        and all(
            one.role is other.role and _same(one.parts, other.parts)
            for one, other in zip(results, stored, strict=True)
        )
    )


def _lasting(chat: OwnedChat) -> OwnedChat:
    """A chat without what each commit changes, and without what only tools are held against."""
    return msgspec.structs.replace(
        chat,
        snapshot_version=0,
        history_version=0,
        generation_attempt=0,
        attempt_started_at=None,
        begun=False,
        approved=(),
        results=(),
        policies=(),
        grants=(),
        facts=_NO_FACTS,
        calls_era=None,
    )


def _same(one: Parts, other: Parts) -> bool:
    # What was read back may have lists where there were tuples.
    return one == other or encode_parts(one) == encode_parts(other)


class Commit:
    """A commit that comes to its end, whatever becomes of what goes on beside it."""

    def __init__(self, work: Coroutine[Any, Any, None], holds: Callable[[], bool]) -> None:
        """Begin to commit.

        Args:
            work: The commit.
            holds: Asked right after it: whether the chat is what was foreseen.
        """
        self._as_foreseen = False
        self._task = asyncio.get_running_loop().create_task(self._commit(work, holds))

    async def _commit(self, work: Coroutine[Any, Any, None], holds: Callable[[], bool]) -> None:
        await work
        self._as_foreseen = holds()

    async def foreseen(self) -> None:
        """Wait for its end; being cancelled does not end it.

        Raises:
            Overtaken: It has failed, or the chat is not what was foreseen.
        """
        await asyncio.wait({self._task})
        if not self._as_foreseen:
            raise Overtaken

    def cancel(self) -> None:
        """Give it up: the process ends."""
        self._task.cancel()

    async def outcome(self) -> bool:
        """Wait for its end; being cancelled ends it.

        Returns:
            Whether the chat is what was foreseen.

        Raises:
            Exception: What the commit has raised.
        """
        await self._task
        return self._as_foreseen

    async def beside(self, asking: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Ask the model meanwhile.

        Raises:
            Overtaken: The commit has failed, or the chat is not what was foreseen.
        """
        asked = asyncio.get_running_loop().create_task(asking())
        try:
            await asyncio.wait({asked, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                await self.foreseen()
            await asked
        finally:
            asked.cancel()
            await asyncio.wait({asked})
            if not asked.cancelled():
                asked.exception()  # looked at: what the commit says counts for more
