"""Asking a provider which models it has: through store and chatloop, from a server of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from fakes import FakeProviders, Script, Text, Turn
from support.chat_driver import StoreDriver
from support.services import running_chatloops

from steersman.embedded.nats import NatsServer
from steersman_contracts.errors import Forbidden, NotFound
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import models as models_rpc
from steersman_contracts.rpc.models import ProviderType
from steersman_contracts.rpc.providers import (
    LIST_SERVED_MODELS,
    ListServedModels,
    ServedModel,
    ServedModels,
)

pytestmark = pytest.mark.one_stack

FORMATS: dict[ProviderType, str] = {
    "anthropic": "anthropic",
    "openai-responses": "responses",
    "openai-chat": "chat",
    "google": "gemini",
}


@pytest_asyncio.fixture(loop_scope="module")
async def admin(nats: NatsServer, store: StoreDriver) -> AsyncGenerator[Actor]:
    async with running_chatloops(nats.url()):
        yield Actor(store.actor.user_id, "admin")


async def put(store: StoreDriver, admin: Actor, kind: ProviderType, **fields: object) -> None:
    request = models_rpc.PutProvider(admin, "p", kind, "P", **fields)  # pyright: ignore[reportArgumentType]  # as the test gives them
    await store.rpc.call(models_rpc.PUT_PROVIDER, request)


async def listed(store: StoreDriver, actor: Actor) -> ServedModels:
    return await store.rpc.call(LIST_SERVED_MODELS, ListServedModels(actor, "p"))


async def test_every_wire_format_lists_its_models_with_the_limits_it_knows(
    store: StoreDriver, admin: Actor
) -> None:
    async with FakeProviders() as fakes:
        for name in ("sea", "lake"):
            fakes.script(name, Script([Turn([Text("hm")])], repeat=True))
        for kind, fake in FORMATS.items():
            url = fakes.base_url(fake)  # pyright: ignore[reportArgumentType]  # a Kind
            await put(store, admin, kind, base_url=url, api_key="test-key")
            found = await listed(store, admin)

            assert found.availability == "available", (kind, found.reason)
            limits = (200_000, 32_000) if kind in ("anthropic", "google") else (None, None)
            models = {model.model_id: model for model in found.models}
            assert list(models) == sorted(models)
            assert {"sea", "lake"} <= set(models)
            assert (models["sea"].context_limit, models["sea"].max_output_tokens) == limits

            await put(store, admin, kind, base_url=url, api_key="invalid-key")
            refused = await listed(store, admin)
            assert refused.availability == "fetch_failed", kind
            assert "key" in refused.reason
            assert "invalid-key" not in refused.reason
            assert refused.models == ()


async def test_only_admins_ask_and_a_missing_key_is_told(store: StoreDriver, admin: Actor) -> None:
    await put(store, admin, "anthropic")

    assert (await listed(store, admin)).availability == "missing_api_key"
    with pytest.raises(Forbidden):
        await listed(store, store.actor)
    with pytest.raises(NotFound):
        await store.rpc.call(LIST_SERVED_MODELS, ListServedModels(admin, "nobody"))


@asynccontextmanager
async def server(answer: Callable[[bytes], bytes]) -> AsyncGenerator[tuple[str, list[bytes]]]:
    """A server that answers every request with some bytes; what it was sent is kept."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer(heard[-1]))
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", heard


def reply(body: str, status: str = "200 OK", *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers])
    return f"{head}\r\nconnection: close\r\n\r\n{body}".encode()


async def test_a_redirect_takes_the_key_along_only_to_the_same_server(
    store: StoreDriver, admin: Actor
) -> None:
    def here(request: bytes) -> bytes:
        if b"/moved/models" in request:
            return reply('{"data": [{"id": "m", "context_length": 4096}]}')
        return reply("", "307 Temporary Redirect", "location: /moved/models")

    async with (
        server(lambda _: reply('{"data": [{"id": "m"}]}')) as (elsewhere, stolen),
        server(here) as (url, heard),
        server(lambda _: reply("", "302 Found", f"location: {elsewhere}/v1/models")) as (away, _),
    ):
        headers = {"X-Team": "secret-team"}
        await put(store, admin, "openai-chat", base_url=url, api_key="sk-1", headers=headers)
        followed = await listed(store, admin)
        await put(store, admin, "openai-chat", base_url=away, api_key="sk-1", headers=headers)
        refused = await listed(store, admin)

    assert followed.models == (ServedModel("m", "", 4096),)
    assert all(b"Bearer sk-1" in request and b"secret-team" in request for request in heard)
    assert len(heard) == 2
    assert refused.availability == "fetch_failed"
    assert "another server" in refused.reason
    assert stolen == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply("<html>"), "something else"),
        (reply('{"data": {}}'), "something else"),
        (reply('{"data": [{"id": "no model"}, 1]}'), "no models"),
        (reply("{}", "500 No"), "answers 500"),
        (b"nonsense", "cannot be reached"),
    ],
)
async def test_whatever_a_server_answers_there_is_a_reason(
    store: StoreDriver, admin: Actor, answer: bytes, said: str
) -> None:
    async with server(lambda _: answer) as (url, _):
        await put(store, admin, "openai-chat", base_url=url)
        found = await listed(store, admin)

    assert found.availability == "fetch_failed"
    assert said in found.reason
    assert "127.0.0.1" not in found.reason
