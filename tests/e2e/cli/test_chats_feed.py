"""The feed of all chats of a whole deployment: two clients, real turns, cut at every event."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from e2e.cli.conftest import until
from e2e.cli.terminal import TIMEOUT_S
from support.deployment import Deployment

from steersman.client import ChatsView, Client, Listed
from steersman_contracts.chats import Status
from steersman_contracts.events import ChatDeleted
from steersman_contracts.feed import FeedSync
from steersman_contracts.rest import CreateChatBody, SendMessageBody, UpdateChatBody


async def test_a_list_kept_from_the_feed_is_the_list_that_is_stored(
    client: Client, deployment: Deployment
) -> None:
    chat = (await client.create_chat(CreateChatBody(model="demo/echo", text="one"))).chat
    await until(client, chat.id, lambda view: view.resting and len(view.messages) == 2)
    cursor, whole = "", list[Listed]()
    async with asyncio.timeout(TIMEOUT_S), aclosing(client.all_events()) as events:
        first = await anext(events)
        assert isinstance(first.event, FeedSync)
        cursor = first.id

        await client.update_chat(chat.id, UpdateChatBody(title="renamed"))
        other = (await client.create_chat(CreateChatBody(model="demo/echo", title="other"))).chat
        await client.pin(other.id)
        await client.pin(chat.id)
        await client.send_message(other.id, SendMessageBody(text="two"))
        await until(client, other.id, lambda view: view.resting and len(view.messages) == 2)
        gone = (await client.create_chat(CreateChatBody(model="demo/echo"))).chat
        await client.archive(chat.id)
        await client.mark_read(other.id)
        await client.delete_chat(gone.id)
        async for received in events:
            whole.append(received)
            event = received.event
            if isinstance(event, ChatDeleted) and event.chat_id == gone.id:
                break

    view = ChatsView()
    view.apply(first.event)
    for received in whole:
        view.apply(received.event)
    for one in (chat, other):
        # Of the chats of other tests nobody knows what happened meanwhile.
        assert view.get(one.id) == await client.get_chat(one.id)
    assert view.get(gone.id) is None
    assert view.chats[0].id == other.id
    listed = view.get(other.id)
    assert listed is not None
    assert (listed.status, listed.has_unread, listed.pin_position) == (Status.WAITING, False, 1)

    async with Client(deployment.url, deployment.token) as again:
        # Chats of other tests may have said much meanwhile.
        for cut in range(0, len(whole), 1 + len(whole) // 30):
            after = whole[cut - 1].id if cut else cursor
            async with (
                asyncio.timeout(TIMEOUT_S),
                aclosing(again.all_events(cursor=after)) as events,
            ):
                sync = await anext(events)
                assert isinstance(sync.event, FeedSync)
                assert (sync.id, sync.event.snapshot) == (after, None)
                rest = [await anext(events) for _ in whole[cut:]]
            assert rest == whole[cut:]
