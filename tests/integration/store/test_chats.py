"""What the store promises to people: order, nothing twice, nothing of somebody else's."""

from __future__ import annotations

import asyncio

import pytest
from support.chat_driver import StoreDriver, assistant, new_actor, text, words_of

from steersman_contracts import events
from steersman_contracts.chats import Role, Status
from steersman_contracts.errors import InvalidRequest, NotFound, QueueFull, UnknownModel
from steersman_contracts.parts import ProviderMetadata, TextPart, encode_parts
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc.chats import MAX_QUEUED

pytestmark = pytest.mark.one_stack


async def test_a_message_to_a_busy_chat_waits_in_order_and_is_promoted_one_by_one(
    store: StoreDriver,
) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    replies = [await store.send(chat.id, word) for word in ("second", "third")]

    one = await store.finish(await store.fence(chat.id), assistant("one"))
    two = await store.finish(await store.fence(chat.id), assistant("two"))
    three = await store.finish(await store.fence(chat.id), assistant("three"))

    assert [reply.delivery for reply in replies] == ["queued", "queued"]
    assert [done.chat.status for done in (one, two, three)] == ["running", "running", "waiting"]
    assert [done.released for done in (one, two, three)] == [False, False, True]
    words = [words_of(message) for message in await store.messages(chat.id)]
    assert words == ["first", "one", "second", "two", "third", "three"]


async def test_the_queue_is_bounded(store: StoreDriver) -> None:
    chat = await store.create("first")
    for number in range(MAX_QUEUED):
        await store.send(chat.id, str(number))

    with pytest.raises(QueueFull) as refused:
        await store.send(chat.id, "one too many")

    assert refused.value.details == {"maximum": MAX_QUEUED}
    assert (await store.chat(chat.id)).queue_size == MAX_QUEUED


async def test_nothing_is_promoted_after_an_error_until_a_person_speaks(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    await store.send(chat.id, "second")
    await store.finish_error(await store.fence(chat.id))

    errored = await store.chat(chat.id)
    reply = await store.send(chat.id, "third")

    assert (errored.status, errored.queue_size) == (Status.ERROR, 1)
    assert reply.delivery == "queued"
    assert (reply.chat.status, reply.chat.queue_size) == (Status.RUNNING, 1)
    last = (await store.messages(chat.id))[-1]
    assert last.parts == text("second")


async def test_the_same_client_key_sends_once(store: StoreDriver) -> None:
    chat = await store.create(None)

    replies = await asyncio.gather(
        *(store.send(chat.id, "only once", client_key="key") for _ in range(5))
    )

    assert all(reply == replies[0] for reply in replies)
    assert [m.parts for m in await store.messages(chat.id)] == [text("only once")]


async def test_the_same_client_key_creates_one_chat(store: StoreDriver) -> None:
    request = people.CreateChat(store.actor, parts=text("hello"), client_key="key")

    replies = await asyncio.gather(*(store.rpc.call(people.CREATE, request) for _ in range(5)))

    assert len({reply.chat.id for reply in replies}) == 1
    page = await store.rpc.call(people.LIST, people.ListChats(store.actor))
    assert len(page.chats) == 1


async def test_an_interrupt_with_the_message_queues_it_first(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)

    reply = await store.send(chat.id, "stop, rather this", busy_behavior="interrupt")
    done = await store.finish_interruption(await store.fence(chat.id), assistant("partial"))

    assert (reply.delivery, reply.chat.status) == ("queued", Status.INTERRUPTING)
    assert done.chat.status is Status.RUNNING
    roles = [(m.role, m.parts) for m in await store.messages(chat.id)]
    assert roles[1:] == [
        (Role.ASSISTANT, text("partial")),
        (Role.USER, text("stop, rather this")),
    ]


async def test_interrupting_an_idle_chat_changes_nothing(store: StoreDriver) -> None:
    chat = await store.create(None)

    assert await store.interrupt(chat.id) == await store.chat(chat.id)
    assert (await store.chat(chat.id)).snapshot_version == chat.snapshot_version


async def test_somebody_elses_chat_looks_like_none(store: StoreDriver, database_url: str) -> None:
    chat = await store.create("mine")
    mallory = await new_actor(database_url, "mallory")
    requests = [
        (people.GET, people.GetChat(mallory, chat.id)),
        (people.SEND_MESSAGE, people.SendMessage(mallory, chat.id, text("hi"))),
        (people.INTERRUPT, people.Interrupt(mallory, chat.id)),
        (people.UPDATE, people.UpdateChat(mallory, chat.id, title="x")),
        (people.DELETE, people.DeleteChat(mallory, chat.id)),
        (people.LIST_MESSAGES, people.ListMessages(mallory, chat.id)),
        (people.SNAPSHOT, people.Snapshot(mallory, chat.id)),
    ]

    for method, request in requests:
        with pytest.raises(NotFound):
            await store.rpc.call(method, request)  # pyright: ignore[reportArgumentType]  # pairs

    page = await store.rpc.call(people.LIST, people.ListChats(mallory))
    assert page.chats == ()
    assert await store.chat(chat.id) == chat


async def test_an_unknown_model_is_refused_and_nothing_is_stored(store: StoreDriver) -> None:
    with pytest.raises(UnknownModel) as refused:
        await store.create("hello", model="nobody/nothing")

    assert refused.value.details["field"] == "model"
    page = await store.rpc.call(people.LIST, people.ListChats(store.actor))
    assert page.chats == ()


async def test_an_id_that_is_no_uuid_is_refused(store: StoreDriver) -> None:
    with pytest.raises(InvalidRequest):
        await store.rpc.call(people.GET, people.GetChat(store.actor, "x'; --"))  # pyright: ignore[reportArgumentType]  # a bad id


async def test_text_comes_back_as_it_was_whatever_is_in_it(store: StoreDriver) -> None:
    strange = 'NUL \x00 quote " backslash \\ newline \n emoji 🧭 lone half \U0001f600 end'
    chat = await store.create(strange)

    snapshot = (await store.snapshot(chat.id)).snapshot

    assert snapshot.messages[0].parts == text(strange)
    assert (await store.acquire(chat.id)).messages[0].parts == text(strange)


async def test_what_only_the_provider_may_see_reaches_the_worker_and_nobody_else(
    store: StoreDriver,
) -> None:
    block = {"z": 1, "a": {"signature": "planted secret"}}
    part = TextPart("hi", ProviderMetadata("anthropic", native=block))
    chat = await store.create("hello")
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant(part))
    created = await store.log.until(chat.id, events.MessageCreated, history_version=3)
    await store.send(chat.id, "more")

    seen_by_worker = (await store.acquire(chat.id)).messages[1].parts

    assert seen_by_worker == (part,)
    assert b'{"z":1,"a":{' in encode_parts(seen_by_worker), "the provider's key order is kept"
    assert isinstance(created, events.MessageCreated)
    assert created.message.parts == text("hi")
    assert [m.parts for m in await store.messages(chat.id)][1] == text("hi")
    assert (await store.snapshot(chat.id)).snapshot.messages[1].parts == text("hi")


async def test_pages_of_messages_meet_without_gap_or_overlap(store: StoreDriver) -> None:
    chat = await store.create("0")
    await store.acquire(chat.id)
    for number in range(1, 10):
        await store.commit(await store.fence(chat.id), assistant(str(number)))
    everything = [m.id for m in await store.messages(chat.id)]

    async def page(**position: int) -> list[int]:
        request = people.ListMessages(store.actor, chat.id, limit=4, **position)  # pyright: ignore[reportArgumentType]  # ints
        return [m.id for m in (await store.rpc.call(people.LIST_MESSAGES, request)).messages]

    newest = await page()
    older = await page(before_id=newest[0])
    oldest = await page(before_id=older[0])
    assert oldest + older + newest == everything

    first = await page(after_id=0)
    second = await page(after_id=first[-1])
    third = await page(after_id=second[-1])
    assert first + second + third == everything


async def test_pages_of_chats_meet_without_gap_or_overlap(store: StoreDriver) -> None:
    made = [(await store.create(str(number))).id for number in range(7)]

    found: list[str] = []
    position = None
    while True:
        request = people.ListChats(store.actor, limit=3, before=position)
        page = await store.rpc.call(people.LIST, request)
        found += [chat.id for chat in page.chats]
        if (position := page.next) is None:
            break

    assert found == made[::-1]


async def test_events_of_a_chat_arrive_in_the_order_of_its_changes(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    for number in range(20):
        await store.begin(await store.fence(chat.id))
        await store.commit(await store.fence(chat.id), assistant(str(number)))
    await store.finish(await store.fence(chat.id), assistant("end"))

    await store.log.until(chat.id, events.ChatStatusChanged, outcome="completed")

    versions = [
        e.snapshot_version for e in store.log.of(chat.id) if isinstance(e, events.DurableEvent)
    ]
    assert versions == sorted(versions)
    created = [e for e in store.log.of(chat.id) if isinstance(e, events.MessageCreated)]
    assert [e.message for e in created] == list(await store.messages(chat.id))


async def test_deleting_a_chat_tells_viewers_and_leaves_nothing(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.delete(chat.id)

    await store.log.until(chat.id, events.ChatDeleted)

    with pytest.raises(NotFound):
        await store.chat(chat.id)
