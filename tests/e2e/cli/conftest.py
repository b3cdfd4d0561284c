"""A person at the command line of a running deployment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from e2e.cli.terminal import TIMEOUT_S, environment
from support.deployment import Deployment

from steersman.client import Client, View
from steersman_contracts.chats import Message, Role
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import TextPart
from steersman_contracts.rest import CreateChatBody


@pytest.fixture
def env(deployment: Deployment, tmp_path: Path) -> dict[str, str]:
    """An environment that names the data directory and nothing else of ours."""
    return environment(tmp_path, STEERSMAN_DATA_DIR=str(deployment.data))


@pytest.fixture
async def client(deployment: Deployment) -> AsyncGenerator[Client]:
    async with Client(deployment.url, deployment.token) as client:
        yield client


StartChat = Callable[..., Awaitable[ChatId]]


@pytest.fixture
def start_chat(client: Client) -> StartChat:
    """Start a chat over the API; with a text its first turn starts."""

    async def start(model: str, text: str | None = None) -> ChatId:
        return (await client.create_chat(CreateChatBody(model=model, text=text))).chat.id

    return start


async def until(client: Client, chat_id: ChatId, reached: Callable[[View], bool]) -> View:
    """Watch a chat until its view is as wanted."""
    view = View()
    async with asyncio.timeout(TIMEOUT_S), aclosing(client.events(chat_id)) as events:
        async for received in events:
            view.apply(received.event)
            if reached(view):
                break
    return view


def streaming(view: View) -> bool:
    """Some of the answer has arrived."""
    return view.preview is not None and view.preview.seq > 3


async def answers(client: Client, chat_id: ChatId) -> list[Message]:
    """What the model said, as it is stored."""
    page = await client.list_messages(chat_id, limit=200)
    return [message for message in page.messages if message.role is Role.ASSISTANT]


def text_of(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))
