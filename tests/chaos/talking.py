"""What people say during the chaos, and what is known of each chat at the end."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Final

import asyncpg
from chaos.deploying import Deployment, until
from support.invariants import ChatRows, decode_event, read_rows

from steersman.client import Client
from steersman_contracts import events as e
from steersman_contracts import subjects
from steersman_contracts.chats import Chat, Message, Role, Status
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import TextPart, ToolResultPart
from steersman_contracts.rest import CreateChatBody, SendMessageBody
from steersman_runtime.jetstream import StoredMessage, read_subject, stream_info
from steersman_runtime.nats_client import NatsClient, close, connect, header

RESTING: Final = (Status.WAITING, Status.ERROR)


@dataclass
class Talk:
    """One chat and what was said in it."""

    chat_id: ChatId
    model: str
    said: list[str] = field(default_factory=list[str])
    """Texts that were accepted, in order."""
    interrupts: bool = False


async def start_talk(client: Client, model: str, *, interrupts: bool) -> Talk:
    """Start a chat with its first message."""
    words = _words(model, 0)
    key = f"{model}-{random.getrandbits(64):x}"
    reply = await client.create_chat(CreateChatBody(model=model, text=words, client_key=key))
    return Talk(reply.chat.id, model, [words], interrupts)


async def talk_on(
    deployment: Deployment, talk: Talk, dice: random.Random, *, messages: int, within_s: float
) -> None:
    """Say more while the chat is busy; whoever gets no answer asks again with the same key."""
    first = len(talk.said)
    for number in range(first, first + messages):
        await asyncio.sleep(dice.uniform(0, 2 * within_s / messages))
        interrupt = talk.interrupts and dice.random() < 0.4
        body = SendMessageBody(
            text=_words(talk.model, number),
            client_key=f"key-{number}",
            busy_behavior="interrupt" if interrupt else "queue",
        )
        async with deployment.client(dice.randrange(8)) as client:
            await client.send_message(talk.chat_id, body)
        talk.said.append(body.text or "")


def _words(model: str, number: int) -> str:
    """For a model of the fakes that calls tools: which ones. Each text is said once in its chat."""
    if "/tool-" not in model:
        return f"message {number}"
    name = f"note-{number}.txt"
    return json.dumps(
        [
            {"tool": "write_file", "arguments": {"path": name, "content": f"text {number}\n"}},
            {"tool": "list_files", "arguments": {}},
        ]
    )


async def at_rest(client: Client, chat_id: ChatId, timeout_s: float) -> Chat:
    """Wait until nothing happens in a chat any more."""
    chat: Chat | None = None
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                chat = await client.get_chat(chat_id)
                if chat.status in RESTING and not chat.queue_size:
                    return chat
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"stuck: {chat}") from None


async def history(client: Client, chat_id: ChatId) -> tuple[Message, ...]:
    """All messages, as `GET messages` tells them."""
    messages: tuple[Message, ...] = ()
    while True:
        before = messages[0].id if messages else None
        page = await client.list_messages(chat_id, limit=200, before_id=before)
        messages = (*page.messages, *messages)
        if not page.has_more:
            return messages


def broken_talk(talk: Talk, messages: tuple[Message, ...]) -> list[str]:
    """What is wrong with what people said and with what they were answered."""
    found: list[str] = []
    said = [text_of(message) for message in messages if message.role is Role.USER]
    if said != talk.said:
        found.append(f"said: {talk.said}\n  stored: {said}")
    for message in messages:
        if message.role is Role.ASSISTANT and "/tokens-" in talk.model:
            found += _broken_answer(talk.model, message)
    results = [part for m in messages for part in m.parts if isinstance(part, ToolResultPart)]
    for result in results:
        words = "".join(part.text for part in result.content if isinstance(part, TextPart))
        if result.is_error and not words.startswith("interrupted"):
            found.append(f"{result.tool}: {words}")
    return [f"{talk.chat_id} ({talk.model}): {one}" for one in found]


def _broken_answer(model: str, message: Message) -> list[str]:
    count = int(model.split("/tokens-")[1].split("-")[0])
    whole = " ".join(f"w{number}" for number in range(1, count + 1))
    words = text_of(message)
    if words == whole if message.stop == "end" else whole.startswith(words):
        return []
    return [f"message {message.id} ends with {message.stop!r} and says {words!r}"]


def text_of(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


@dataclass(frozen=True)
class Log:
    """The event log of one chat."""

    epoch: str
    seqs: list[int]
    events: list[e.Event]


class Inside:
    """A look behind the API, once all is quiet."""

    def __init__(self, database: asyncpg.Connection, client: NatsClient) -> None:
        self._database = database
        self._client = client

    @classmethod
    async def open(cls, deployment: Deployment) -> Inside:
        url = deployment.facts["nats_urls"]["gateway"]
        prefix = subjects.inbox("gateway")
        client = await connect(
            url, name="chaos", inbox_prefix=prefix, on_closed=lambda: None, wait_s=60
        )
        return cls(await deployment.database(), client)

    async def close(self) -> None:
        await self._database.close()
        await close(self._client)

    async def rows(self, chat_id: ChatId) -> ChatRows:
        """The chat's rows, once its events have left the outbox."""
        query = "SELECT count(*) = 0 FROM outbox WHERE chat_id = $1"
        await until(lambda: self._database.fetchval(query, chat_id), 60)
        return await read_rows(self._database, chat_id)

    async def owner(self, chat_id: ChatId) -> str | None:
        query = "SELECT runner_id FROM chats WHERE id = $1"
        return await self._database.fetchval(query, chat_id)

    async def log(self, chat_id: ChatId) -> Log:
        info = await stream_info(self._client, subjects.EVENT_STREAM)
        stored: list[StoredMessage] = []
        await read_subject(
            self._client,
            subjects.EVENT_STREAM,
            subjects.chat_events(chat_id),
            on_message=stored.append,
        )
        return Log(
            info.created,
            [message.seq for message in stored],
            [
                decode_event(
                    (header(message.headers, e.EVENT_HEADER.encode()) or b"").decode(),
                    message.payload,
                )
                for message in stored
            ],
        )
