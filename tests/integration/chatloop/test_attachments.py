"""A file that a person sends reaches the model; one that is gone leaves a few words."""

from __future__ import annotations

import base64

import asyncpg
import msgspec
import pytest
from fakes import FakeProviders, Script, Text, Turn
from integration.store.test_files import PNG, part, send, upload
from support.chat_driver import StoreDriver
from support.chatloop import ModelSetup

from steersman_chatloop.attachments import FileCache
from steersman_contracts.chats import Status
from steersman_contracts.events import RetryScheduled
from steersman_contracts.ids import ModelName, RunnerId
from steersman_contracts.parts import TextPart
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import files as rpc
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient

pytestmark = pytest.mark.one_stack

LARGE = PNG + bytes(rpc.CHUNK_BYTES)


@pytest.mark.usefixtures("chatloops")
async def test_an_image_reaches_the_model_in_every_turn_while_it_is_there(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("m", Script([Turn([Text("a sea")])], repeat=True))
    image, lost = await upload(store, LARGE), await upload(store, b"words", "words.txt")
    parts = (TextPart("What is it?"), part(image), part(lost))
    request = people.CreateChat(
        store.actor, ModelName(await models.add("anthropic", "m")), parts=parts
    )
    chat = (await store.rpc.call(people.CREATE, request)).chat

    assert (await store.at_rest(chat.id)).status is Status.WAITING
    await store.rpc.call(rpc.DELETE_FILE, rpc.DeleteFile(store.actor, lost.id))
    await send(store, chat.id, TextPart("And now?"))
    assert (await store.at_rest(chat.id)).status is Status.WAITING

    sent = [msgspec.json.encode(request.body).decode() for request in fakes.requests]
    assert len(sent) == 2
    for body in sent:
        assert base64.b64encode(LARGE).decode() in body
    assert "words.txt" in sent[1]

    # Both loops may have it in memory by now: what is deleted is not sent from there either.
    await store.rpc.call(rpc.DELETE_FILE, rpc.DeleteFile(store.actor, image.id))
    await send(store, chat.id, TextPart("And without it?"))
    assert (await store.at_rest(chat.id)).status is Status.WAITING
    last = msgspec.json.encode(fakes.requests[-1].body).decode()
    assert base64.b64encode(LARGE).decode() not in last
    assert "is not available any more" in last


@pytest.mark.own_stack  # it changes the database
@pytest.mark.usefixtures("chatloops")
async def test_a_file_that_cannot_be_read_for_a_moment_is_tried_again(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, database_url: str
) -> None:
    fakes.script("m", Turn([Text("a sea")]))
    image = await upload(store, PNG)
    connection = await asyncpg.connect(database_url)
    whole: str = await connection.fetchval(
        "SELECT pg_get_functiondef('read_file_for_model'::regproc)"
    )
    head, _, _ = whole.partition("BEGIN")
    await connection.execute(f"{head} BEGIN PERFORM refuse('unavailable', 'away'); END $function$")
    request = people.CreateChat(
        store.actor, ModelName(await models.add("anthropic", "m")), parts=(part(image),)
    )
    chat = (await store.rpc.call(people.CREATE, request)).chat
    retry = await store.log.until(chat.id, RetryScheduled)
    assert isinstance(retry, RetryScheduled)
    assert retry.kind == "timeout"

    await connection.execute(whole)
    await connection.close()

    assert (await store.at_rest(chat.id)).last_outcome == "completed"
    assert len(fakes.requests) == 1


async def test_what_was_read_last_is_kept_within_bounds(
    store: StoreDriver, client: NatsClient
) -> None:
    one, two = await upload(store, LARGE), await upload(store, LARGE + b"2")
    request = people.CreateChat(store.actor, parts=(part(one), part(two)))
    chat = (await store.rpc.call(people.CREATE, request)).chat
    await store.acquire(chat.id, "runner-1")
    cache = FileCache(RpcClient(client), max_bytes=len(LARGE) + 1)
    fetch = cache.of(chat.id, RunnerId("runner-1"))

    assert (await fetch(one.id), await fetch(two.id)) == (LARGE, LARGE + b"2")
    assert cache.held == len(LARGE) + 1, "the first one made room"
    again = cache.of(chat.id, RunnerId("runner-1"))
    assert (await again(two.id), await again(one.id)) == (LARGE + b"2", LARGE)
    assert cache.held == len(LARGE)

    for file in (one, two):
        await store.rpc.call(rpc.DELETE_FILE, rpc.DeleteFile(store.actor, file.id))
    later = cache.of(chat.id, RunnerId("runner-1"))
    assert (await later(one.id), await later(two.id)) == (None, None)
    assert cache.held == 0, "what is deleted is not kept"
