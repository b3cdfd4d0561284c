from __future__ import annotations

import asyncio
import signal
from contextlib import aclosing

import pytest
from e2e.cli.conftest import StartChat, streaming, until
from e2e.cli.terminal import TIMEOUT_S
from support.deployment import Deployment

from steersman.client import ApiProblem, Client, Interruption, View
from steersman_contracts.chats import Status
from steersman_contracts.events import StreamSync
from steersman_contracts.ids import ChatId
from steersman_contracts.rest import CreateChatBody, SendMessageBody, UpdateChatBody


async def test_a_stream_that_is_cut_again_and_again_gives_the_stored_history(
    client: Client, start_chat: StartChat
) -> None:
    chat_id = await start_chat("demo/tour", "Show me")
    whole, pieces = View(), View()
    ids: list[str] = []

    async def watch_whole() -> None:
        async with aclosing(client.events(chat_id)) as events:
            async for received in events:
                whole.apply(received.event)
                if whole.resting:
                    return

    async def watch_pieces() -> None:
        cursor = None
        while not pieces.resting:
            seen = 0
            async with aclosing(client.events(chat_id, cursor=cursor)) as events:
                async for received in events:
                    pieces.apply(received.event)
                    cursor = received.id
                    if not isinstance(received.event, StreamSync):
                        ids.append(received.id)
                        seen += 1
                    if seen == 3 or pieces.resting:
                        break

    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(watch_whole(), watch_pieces())

    stored = (await client.list_messages(chat_id, limit=200)).messages
    assert pieces.messages == whole.messages == stored
    assert pieces.outcome == "completed"
    assert len(set(ids)) == len(ids)


async def test_a_stream_survives_the_death_of_the_gateway(
    client: Client, start_chat: StartChat, deployment: Deployment
) -> None:
    chat_id = await start_chat("demo/count", "Count")
    view, lost = View(), list[Interruption]()
    killed = False
    async with asyncio.timeout(TIMEOUT_S):
        events = client.events(chat_id, on_interruption=lost.append)
        async with aclosing(events):
            async for received in events:
                view.apply(received.event)
                if streaming(view) and not killed:
                    killed = True
                    deployment.signal("gateway", signal.SIGKILL)
                if view.resting:
                    break

    assert lost
    assert not view.preview_lost
    client.patience_s = 60.0
    assert view.messages == (await client.list_messages(chat_id)).messages


async def test_every_part_of_the_api_has_a_typed_method(client: Client) -> None:
    assert (await client.me()).role == "admin"
    assert (await client.version()).version
    assert "write_file" in {tool.name for tool in (await client.tools()).tools}
    assert "demo/echo" in {model.name for model in await client.list_models()}
    assert "demo" in {provider.id for provider in await client.list_providers()}

    body = CreateChatBody(model="demo/echo", client_key="the same")
    chat = (await client.create_chat(body)).chat
    assert (await client.create_chat(body)).chat.id == chat.id
    assert (await client.update_chat(chat.id, UpdateChatBody(title="t"))).title == "t"
    reply = await client.send_message(chat.id, SendMessageBody(text="one"))
    assert reply.delivery == "started"
    view = await until(client, chat.id, lambda view: view.resting and len(view.messages) == 2)
    assert (await client.interrupt(chat.id)).status is Status.WAITING
    first = view.messages[0]
    assert await client.get_message(chat.id, first.id) == first
    assert chat.id in {one.id for one in (await client.list_chats(limit=200)).chats}
    await client.delete_chat(chat.id)
    with pytest.raises(ApiProblem, match="no such chat") as caught:
        await client.get_chat(chat.id)

    assert (caught.value.code, caught.value.status) == ("not_found", 404)


async def test_a_stream_ends_with_its_chat(client: Client, start_chat: StartChat) -> None:
    chat_id = await start_chat("demo/echo")
    names: list[str] = []
    async with asyncio.timeout(TIMEOUT_S):
        async for received in client.events(chat_id):
            names.append(received.name)
            if received.name == "stream.sync":
                await client.delete_chat(chat_id)

    # The log may hold what the snapshot already knew.
    assert [name for name in names if name != "chat.created"] == ["stream.sync", "chat.deleted"]


async def test_problems_name_what_was_wrong(client: Client, deployment: Deployment) -> None:
    with pytest.raises(ApiProblem) as unknown:
        await client.create_chat(CreateChatBody(model="demo/nothing"))
    assert (unknown.value.code, unknown.value.field) == ("unknown_model", "model")

    missing = ChatId("01a00000-0000-7000-8000-000000000000")
    with pytest.raises(ApiProblem) as absent:
        await anext(client.events(missing))
    assert absent.value.code == "not_found"

    async with Client(deployment.url, "wrong") as stranger:
        with pytest.raises(ApiProblem) as refused:
            await anext(stranger.events(missing))
    assert refused.value.code == "unauthenticated"
