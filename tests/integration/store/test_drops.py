"""A worker whose connection drops is replaced at once, not when its lease has run out."""

from __future__ import annotations

from support.chat_driver import StoreDriver, new_actor
from support.services import running_stores
from support.work import hints

from steersman.embedded.nats import NatsServer
from steersman_runtime.nats_client import close, connect
from steersman_runtime.settings import Secret


async def test_the_chats_of_a_dead_worker_are_hinted_at_once(database_url: str) -> None:
    with NatsServer(auth=True) as nats:
        store_url, system_url = nats.url("store"), nats.url("system")
        async with running_stores(
            store_url, database_url, nats_system_url=Secret(system_url), sweep_s=60
        ):
            client = await connect(
                nats.url("gateway"), name="g", inbox_prefix="_INBOX_gateway", on_closed=_ignore
            )
            people = StoreDriver(client, await new_actor(database_url))
            chat = await people.create("hello")
            loop = await connect(
                nats.url("chatloop"),
                name="chatloop/runner-1",
                inbox_prefix="_INBOX_chatloop",
                on_closed=_ignore,
            )
            assert await hints(loop, 1) == [chat.id]
            worker = StoreDriver(loop, people.actor)
            await worker.acquire(chat.id, "runner-1", lease_s=300)

            await close(loop)

            other = await connect(
                nats.url("chatloop"),
                name="chatloop/runner-2",
                inbox_prefix="_INBOX_chatloop",
                on_closed=_ignore,
            )
            assert await hints(other, 1) == [chat.id]
            taken = await StoreDriver(other, people.actor).acquire(chat.id, "runner-2")
            assert taken.chat.chat_id == chat.id
            await close(other)
            await close(client)


def _ignore() -> None:
    """Nothing has to end with these connections."""
