"""One chat as this process watches it: the view, and the place in the log up to which it has."""

from __future__ import annotations

from contextlib import aclosing

import msgspec

from steersman.chat.output import Output
from steersman.client import Client, ClientError, View
from steersman_contracts.chats import Chat, ChatSnapshot, Role
from steersman_contracts.events import (
    ChatDeleted,
    ChatStatusChanged,
    Event,
    MessageCreated,
    MessageUpdated,
    StreamSync,
)
from steersman_contracts.ids import ChatId
from steersman_contracts.rest import CreateChatBody, EditMessageBody, SendMessageBody
from steersman_contracts.rpc.chats import SendReply


class Conversation:
    """A chat and what is known of it.

    Attributes:
        view: What the events so far say.
        left: The person stopped watching while the turn went on.
    """

    def __init__(self, client: Client, chat_id: ChatId) -> None:
        self.client = client
        self.chat_id = chat_id
        self.view = View()
        self.left = False
        self._cursor: str | None = None
        self._since = 0
        self._known_id: int | None = None

    @classmethod
    async def create(cls, client: Client, body: CreateChatBody) -> tuple[Conversation, SendReply]:
        """Start a chat, and with a text in it its first turn."""
        reply = await client.create_chat(body)
        conversation = cls(client, reply.chat.id)
        conversation._expect(reply)
        return conversation, reply

    async def send(self, body: SendMessageBody) -> SendReply:
        """Start a turn, or join the queue of the one that runs."""
        reply = await self.client.send_message(self.chat_id, body)
        self._expect(reply)
        return reply

    async def edit(self, message_id: int, body: EditMessageBody) -> SendReply:
        """Replace a message, and start a turn from there."""
        reply = await self.client.edit_message(self.chat_id, message_id, body)
        self._expect(reply)
        return reply

    async def look(self) -> ChatSnapshot:
        """The chat as it is now: the end of its history, and what waits."""
        events = self.client.events(self.chat_id, deltas=False, types=("stream.sync",))
        async with aclosing(events):
            async for received in events:
                if isinstance(received.event, StreamSync) and received.event.snapshot is not None:
                    return received.event.snapshot
        raise ClientError("the chat was deleted")

    def expect(self, chat: Chat) -> None:
        """Something was asked of the chat: what follows this state of it is worth watching."""
        self._since = chat.snapshot_version
        self._known_id = None

    def _expect(self, reply: SendReply) -> None:
        self._since = reply.chat.snapshot_version
        self._known_id = None if reply.message is None else reply.message.id

    async def follow(self, output: Output) -> None:
        """Show what happens until the chat rests, and at least until what was sent has happened."""
        if self._known_id is not None:
            output.skip(self._known_id)
        events = self.client.events(
            self.chat_id, cursor=self._cursor, on_interruption=output.interrupted
        )
        async with aclosing(events):
            async for received in events:
                output.connected()
                event = await self._whole(received.event)
                self.view.apply(event)
                self._cursor = received.id or self._cursor
                if isinstance(event, StreamSync) and event.snapshot is not None:
                    output.skip_before(self._known_id or self._turn_start())
                output.show(self.view)
                if self._is_over(event):
                    return

    async def _whole(self, event: Event) -> Event:
        """The event with all of its message: the log leaves out what is too large for it."""
        if not isinstance(event, MessageCreated | MessageUpdated) or not event.message.truncated:
            return event
        full = await self.client.get_message(self.chat_id, event.message.id)
        return event if full is None else msgspec.structs.replace(event, message=full)

    def _is_over(self, event: Event) -> bool:
        # The messages of a transition come before its status: only then is the status the new one.
        if not isinstance(event, ChatStatusChanged | StreamSync | ChatDeleted):
            return False
        return self.view.resting and self.view.version >= self._since

    def _turn_start(self) -> int:
        """The message that the last turn answers: what came before is not shown again."""
        asked = [m.id for m in self.view.messages if m.role is Role.USER]
        return asked[-1] if asked else 0


def resume_hint(chat_id: ChatId) -> str:
    """How to come back."""
    return f"come back with: steersman chat --resume {chat_id}"
