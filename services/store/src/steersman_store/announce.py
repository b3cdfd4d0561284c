"""What the store tells others right after a commit: work hints, control messages, relay nudges.

None of it is awaited and none of it matters if it is lost: the sweep repeats hints, renewals of
leases tell what a control message would have, the relay looks by itself once a second, and
chatloops ask for the providers twice a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import structlog

from steersman_contracts import subjects
from steersman_contracts.errors import SteersmanError
from steersman_contracts.ids import ChatId, RunnerId
from steersman_runtime.jetstream import ALREADY_SCHEDULED, Publisher, PublishRefused
from steersman_runtime.nats_client import NatsClient

log = structlog.stdlib.get_logger()

Q = TypeVar("Q")
R = TypeVar("R")


class Announcer:
    """Announces what a transition changed."""

    def __init__(
        self, client: NatsClient, publisher: Publisher, nudge: Callable[[ChatId], None]
    ) -> None:
        self._client = client
        self._publisher = publisher
        self._nudge = nudge

    def changed(self, chat_id: ChatId) -> None:
        """There are events of this chat in the outbox."""
        self._nudge(chat_id)

    def runnable(self, chat_id: ChatId) -> None:
        """The chat wants a worker."""
        try:
            future = self._publisher.publish(subjects.chat_work(chat_id), b"")
        except SteersmanError as error:
            log.warning("hint.lost", chat_id=chat_id, error_code=error.code)
            return
        future.add_done_callback(lambda done: _look(done, chat_id))

    def unnamed(self, chat_id: ChatId) -> None:
        """The chat would like a title; any chatloop may find one, and nobody waits for it."""
        try:
            self._client.send(subjects.UNNAMED_CHATS, chat_id.encode())
        except SteersmanError as error:
            log.warning("title.not_asked_for", chat_id=chat_id, error_code=error.code)

    def providers_changed(self) -> None:
        """Other providers can be called than before, or in another way."""
        try:
            self._client.send(subjects.PROVIDERS_CHANGED, b"")
        except SteersmanError as error:
            log.info("providers.not_announced", error_code=error.code)

    def control(self, runner_id: str, message: bytes) -> None:
        """The owner of a chat must look at it again."""
        try:
            self._client.send(subjects.control(RunnerId(runner_id)), message)
        except SteersmanError as error:
            log.warning("control.lost", runner_id=runner_id, error_code=error.code)


def telling(
    handler: Callable[[Q], Awaitable[R]], tell: Callable[[], None]
) -> Callable[[Q], Awaitable[R]]:
    """A handler that tells others once it has changed something, and not when it has refused."""

    async def handled(request: Q) -> R:
        reply = await handler(request)
        tell()
        return reply

    return handled


def _look(done: asyncio.Future[int], chat_id: ChatId) -> None:
    error = None if done.cancelled() else done.exception()
    if error is None:
        return
    if isinstance(error, PublishRefused) and error.details.get("err_code") == ALREADY_SCHEDULED:
        return  # somebody was told already
    log.warning("hint.lost", chat_id=chat_id, error=str(error))


class Announcement(msgspec.Struct, frozen=True):
    """The columns of `transition_result` besides the reply."""

    hint: bool
    runner_id: str | None
    control: str | None
    others: str | None = None


class _Other(msgspec.Struct):
    chat_id: ChatId
    runner_id: str | None
    control: msgspec.Raw


_others = msgspec.json.Decoder(list[_Other]).decode


def announce(announcer: Announcer, chat_id: ChatId, what: Announcement) -> None:
    """Tell everybody what one transition of a person changed."""
    announcer.changed(chat_id)
    if what.runner_id is not None and what.control is not None:
        announcer.control(what.runner_id, what.control.encode())
    if what.hint:
        announcer.runnable(chat_id)
    for other in _others(what.others) if what.others is not None else ():
        announcer.changed(other.chat_id)
        if other.runner_id is not None:
            announcer.control(other.runner_id, bytes(other.control))
