"""Chats are named over HTTP: at once by their first words, soon by a model, for good by people."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from fakes import Answer, FakeProviders, HttpError, RequestView, Text, Turn
from integration.gateway.driver import watching_chats
from support.chat_driver import StoreDriver
from support.chatloop import ModelSetup, serving_tools
from support.services import running_chatloop

from steersman.embedded.nats import NatsServer
from steersman_runtime.nats_client import NatsClient

CHATS = "/api/v1/chats"
QUESTION = "Please tell me everything that there is to know about the tides of the North Sea"
RAMBLE = "**Title:** The Tides of the North Sea and What They Do to Ships"
SECOND = "And what about the Baltic?"


@pytest_asyncio.fixture(loop_scope="module")
async def fakes() -> AsyncGenerator[FakeProviders]:
    async with FakeProviders() as providers:
        yield providers


@pytest_asyncio.fixture(loop_scope="module")
async def chatloop(
    nats: NatsServer, client: NatsClient, store: StoreDriver
) -> AsyncGenerator[None]:
    del store
    async with serving_tools(client), running_chatloop(nats.url(), generate_titles=True):
        yield


def says(words: str, asked: list[str]) -> Answer:
    """A model that says this, and keeps what it was asked."""

    def answer(request: RequestView) -> Turn:
        asked.append("\n".join(message.text for message in request.messages))
        return Turn([Text(words)])

    return answer


@pytest.mark.usefixtures("chatloop")
async def test_a_model_finds_a_title_from_the_first_message_and_a_person_keeps_theirs(
    alice: httpx2.AsyncClient, store: StoreDriver, fakes: FakeProviders
) -> None:
    asked: list[str] = []
    fakes.script("claude-haiku", says(RAMBLE, asked))
    fakes.script("claude-opus", says("They come and go.", []))
    models = ModelSetup(store, fakes)
    await models.add("anthropic", "claude-haiku")
    model = await models.add("anthropic", "claude-opus")

    async with watching_chats(alice) as feed:

        async def titled(chat_id: str, source: str) -> str:
            """The next title from this source."""
            while True:
                event = await feed.next()
                chat: dict[str, Any] = event.body.get("chat", {})
                if (chat.get("id"), chat.get("title_source")) == (chat_id, source):
                    return chat["title"]

        made = (await alice.post(CHATS, json={"text": QUESTION, "model": model})).json()["chat"]
        found = await titled(made["id"], "generated")

        assert made["title"] == "Please tell me everything that there is to know about the\u2026"
        assert found == "The Tides of the North Sea and What"
        assert len(found.split()) == 8
        address = f"{CHATS}/{made['id']}"
        await store.at_rest(made["id"])
        await alice.post(f"{address}/messages", json={"text": SECOND})
        await store.at_rest(made["id"])

        # Whatever was said since, a title is found from the first message alone.
        assert (await alice.patch(address, json={"title": "Mine"})).is_success
        fakes.script("claude-haiku", says("Tides", asked))
        assert (await alice.post(f"{address}/title/regenerate", json={})).is_success
        assert await titled(made["id"], "person") == "Mine"
        assert await titled(made["id"], "generated") == "Tides"
        assert len(asked) == 2
        assert all(QUESTION in text and SECOND not in text for text in asked)

        # Nobody hears of a model that fails to find one: the chat's own is asked instead.
        fakes.fault("claude-haiku", HttpError(500))
        fakes.script("claude-opus", says("Greetings", asked))
        other = (await alice.post(CHATS, json={"text": "Hello", "model": model})).json()["chat"]
        assert other["title"] == "Hello"
        assert await titled(other["id"], "generated") == "Greetings"
    rested = await store.at_rest(other["id"])
    assert (rested.last_outcome, rested.last_error) == ("completed", None)
    heard = {event.name for event in store.log.of(other["id"])}
    assert {"chat.error", "retry.scheduled"}.isdisjoint(heard)
