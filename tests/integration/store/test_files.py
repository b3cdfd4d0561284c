"""Files: what they are, whose they are, and how long they stay."""

from __future__ import annotations

import asyncio
import hashlib

import asyncpg
import pytest
from support.chat_driver import StoreDriver, new_actor

from steersman_contracts.chats import Chat
from steersman_contracts.errors import (
    InvalidRequest,
    NotFound,
    StaleFence,
    SteersmanError,
    TooManyRequests,
    UnsupportedMediaType,
)
from steersman_contracts.ids import ChatId, MessageId, QueuedId, RunnerId
from steersman_contracts.parts import FilePart, Part, TextPart
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import files as rpc

pytestmark = pytest.mark.one_stack

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
NOBODYS = "00000000-0000-4000-8000-000000000000"


async def upload(
    store: StoreDriver, content: bytes = PNG, name: str = "sea.png", actor: Actor | None = None
) -> rpc.StoredFile:
    """Send a file in chunks, the last one first: the order is free."""
    owner = actor or store.actor
    begun = await store.rpc.call(rpc.BEGIN_UPLOAD, rpc.BeginUpload(owner, name))
    for start in reversed(range(0, len(content), rpc.CHUNK_BYTES)):
        chunk = content[start : start + rpc.CHUNK_BYTES]
        request = rpc.AppendChunk(owner, begun.file_id, start // rpc.CHUNK_BYTES, chunk)
        await store.rpc.call(rpc.APPEND_CHUNK, request)
    finish = rpc.FinishUpload(owner, begun.file_id, len(content))
    return (await store.rpc.call(rpc.FINISH_UPLOAD, finish)).file


async def known(store: StoreDriver, file_id: str, actor: Actor | None = None) -> bool:
    try:
        await store.rpc.call(rpc.GET_FILE, rpc.GetFile(actor or store.actor, file_id))
    except NotFound:
        return False
    return True


async def start(store: StoreDriver, *parts: Part) -> people.SendReply:
    return await store.rpc.call(people.CREATE, people.CreateChat(store.actor, parts=parts))


async def send(store: StoreDriver, chat_id: ChatId, *parts: Part) -> people.SendReply:
    request = people.SendMessage(store.actor, chat_id, parts)
    return await store.rpc.call(people.SEND_MESSAGE, request)


def part(file: rpc.StoredFile, media_type: str = "x/y", name: str = "") -> FilePart:
    return FilePart(media_type, name, file.id)


async def listed(store: StoreDriver, chat: Chat) -> list[str]:
    page = await store.rpc.call(rpc.LIST_FILES, rpc.ListFiles(store.actor, chat.id))
    return [file.id for file in page.files]


async def execute(database_url: str, query: str, *arguments: object) -> object:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


async def test_a_file_comes_back_byte_for_byte(store: StoreDriver) -> None:
    content = b"%PDF-1.7\n" + bytes(range(256)) * 4000
    file = await upload(store, content, "C:\\Papers\\tide \u202egnp.pdf")

    assert (file.name, file.media_type, file.size) == (
        "tide \ufffdgnp.pdf",
        "application/pdf",
        len(content),
    )
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert file.expires_at is not None
    chunks = [
        await store.rpc.call(rpc.READ_CHUNK, rpc.ReadChunk(store.actor, file.id, index))
        for index in range(4)
    ]
    assert b"".join(chunk.data for chunk in chunks) == content
    assert {chunk.size for chunk in chunks} == {len(content)}
    assert chunks[-1].data == b""


async def test_what_is_no_whole_file_is_refused(store: StoreDriver) -> None:
    begun = await store.rpc.call(rpc.BEGIN_UPLOAD, rpc.BeginUpload(store.actor, "a"))

    async def finish(size: int) -> None:
        request = rpc.FinishUpload(store.actor, begun.file_id, size)
        await store.rpc.call(rpc.FINISH_UPLOAD, request)

    with pytest.raises(InvalidRequest, match="missing"):
        await finish(3)
    request = rpc.AppendChunk(store.actor, begun.file_id, 0, b"abc\x00")
    await store.rpc.call(rpc.APPEND_CHUNK, request)
    with pytest.raises(InvalidRequest, match="another size"):
        await finish(3)
    with pytest.raises(InvalidRequest, match="more chunks"):
        await finish(0)
    with pytest.raises(UnsupportedMediaType, match="UTF-8"):
        await finish(4)
    with pytest.raises(InvalidRequest):
        await finish(rpc.MAX_FILE_BYTES + 1)
    assert not await known(store, begun.file_id), "nobody reads what is not finished"
    with pytest.raises(NotFound):
        await start(store, FilePart("text/plain", "", begun.file_id))


async def test_a_finished_file_is_never_changed(store: StoreDriver) -> None:
    file = await upload(store)

    again = await store.rpc.call(
        rpc.FINISH_UPLOAD, rpc.FinishUpload(store.actor, file.id, file.size)
    )
    assert again.file == file
    with pytest.raises(NotFound):
        await store.rpc.call(
            rpc.APPEND_CHUNK, rpc.AppendChunk(store.actor, file.id, 0, b"something else")
        )


async def test_a_file_of_somebody_else_is_not_found(store: StoreDriver, database_url: str) -> None:
    bob = await new_actor(database_url, "bob")
    file = await upload(store, actor=bob)
    mine = await upload(store)
    chat = (await start(store, part(mine))).chat
    requests: list[tuple[object, object]] = [
        (rpc.GET_FILE, rpc.GetFile(store.actor, file.id)),
        (rpc.READ_CHUNK, rpc.ReadChunk(store.actor, file.id, 0)),
        (rpc.DELETE_FILE, rpc.DeleteFile(store.actor, file.id)),
        (rpc.LIST_FILES, rpc.ListFiles(bob, chat.id)),
        (people.SEND_MESSAGE, people.SendMessage(store.actor, chat.id, (part(file),))),
        (people.SEND_MESSAGE, people.SendMessage(store.actor, chat.id, (part(mine), part(file)))),
        (people.CREATE, people.CreateChat(store.actor, parts=(part(file),))),
        (people.CREATE, people.CreateChat(store.actor, parts=(FilePart("x/y", "", NOBODYS),))),
        (people.CREATE, people.CreateChat(store.actor, parts=(FilePart("x/y", "", "../etc"),))),
    ]

    for method, request in requests:
        with pytest.raises(NotFound):
            await store.rpc.call(method, request)  # pyright: ignore[reportArgumentType]  # they fit
    assert await known(store, file.id, bob)
    assert await listed(store, chat) == [mine.id]


async def test_bytes_in_a_message_are_refused(store: StoreDriver) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await start(store, TextPart("look"), FilePart("image/png", "a.png", data=b"abc"))

    assert refused.value.details == {"field": "parts[1].file_id"}
    with pytest.raises(NotFound) as unknown:
        await start(store, TextPart("look"), FilePart("image/png", "a.png", NOBODYS))
    assert unknown.value.details == {"field": "parts[1].file_id", "file_id": NOBODYS}


async def test_a_message_says_of_a_file_what_the_store_knows(store: StoreDriver) -> None:
    file = await upload(store, b"a,b\n1,2\n", "numbers.csv")
    told = part(file, "text/html", "evil.html")
    stored = FilePart("text/csv", "numbers.csv", file.id)

    first = await start(store, told)
    queued = await send(store, first.chat.id, TextPart("and"), told)

    assert first.message is not None
    assert first.message.parts == (stored,)
    assert first.chat.title == "numbers.csv"
    assert queued.queued is not None
    assert queued.queued.parts == (TextPart("and"), stored)
    assert (await store.rpc.call(rpc.GET_FILE, rpc.GetFile(store.actor, file.id))).file == (
        rpc.StoredFile(file.id, file.name, file.media_type, file.size, file.sha256, file.created_at)
    ), "it does not expire any more"


async def test_edited_messages_refer_to_files_too(store: StoreDriver) -> None:
    one, two, three = [await upload(store, f"file {n}".encode(), f"{n}.txt") for n in range(3)]
    chat = await store.create("hello")
    await send(store, chat.id, part(one))
    (queued_id,) = await store.queued_ids(chat.id)
    edit = people.EditQueued(store.actor, chat.id, QueuedId(queued_id), (part(two),))
    await store.rpc.call(people.EDIT_QUEUED, edit)
    (message,) = await store.messages(chat.id)
    await store.rpc.call(
        people.EDIT_MESSAGE,
        people.EditMessage(store.actor, chat.id, MessageId(message.id), (part(three),)),
    )

    assert await listed(store, chat) == [three.id, two.id, one.id]


async def test_a_refused_message_attaches_nothing(store: StoreDriver) -> None:
    file = await upload(store)
    chat = await store.create("hello")
    for number in range(people.MAX_QUEUED):
        await store.send(chat.id, str(number))

    with pytest.raises(SteersmanError, match="maximum"):
        await send(store, chat.id, part(file))

    assert await listed(store, chat) == []
    kept = (await store.rpc.call(rpc.GET_FILE, rpc.GetFile(store.actor, file.id))).file
    assert kept.expires_at == file.expires_at


async def test_a_repeated_request_attaches_to_the_chat_that_it_made(store: StoreDriver) -> None:
    file = await upload(store)
    request = people.CreateChat(store.actor, parts=(part(file),), client_key="once")

    first = await store.rpc.call(people.CREATE, request)
    second = await store.rpc.call(people.CREATE, request)

    assert first.chat.id == second.chat.id
    assert await listed(store, first.chat) == [file.id]


async def test_the_newest_fifty_files_of_a_chat_are_listed(
    store: StoreDriver, database_url: str
) -> None:
    files = [await upload(store, f"{n}".encode(), f"{n}.txt") for n in range(52)]
    chat = (await start(store, *(part(file) for file in files[:20]))).chat
    for at in (20, 40):
        await send(store, chat.id, *(part(file) for file in files[at : at + 20]))

    found = await listed(store, chat)

    assert len(found) == 50
    assert set(found[:32]) == {file.id for file in files[20:]}
    with pytest.raises(InvalidRequest, match="at most 20"):
        await send(store, chat.id, *(part(file) for file in files[:21]))


@pytest.mark.own_stack
async def test_a_file_goes_with_the_last_chat_that_refers_to_it(
    store: StoreDriver, database_url: str
) -> None:
    before, shared, after = [await upload(store, n.encode(), n) for n in ("a", "b", "c")]
    chat = (await start(store, part(before))).chat
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id))
    sent = await send(store, chat.id, part(shared))
    assert sent.message is not None
    await send(store, chat.id, part(after))
    fork = await store.rpc.call(
        people.FORK, people.ForkChat(store.actor, chat.id, MessageId(sent.message.id))
    )
    child = (await start(store, part(after))).chat
    await execute(database_url, "UPDATE chats SET parent_id = $1 WHERE id = $2", chat.id, child.id)
    assert await listed(store, fork.chat) == [shared.id, before.id]

    await store.delete(chat.id)

    assert [await known(store, file.id) for file in (before, shared, after)] == [True, True, False]
    await store.delete(fork.chat.id)
    assert [await known(store, file.id) for file in (before, shared)] == [False, False]
    assert await execute(database_url, "SELECT count(*) FROM file_chunks") == 0


async def test_a_deleted_file_leaves_its_name(store: StoreDriver) -> None:
    file = await upload(store)
    chat = (await start(store, part(file))).chat

    await store.rpc.call(rpc.DELETE_FILE, rpc.DeleteFile(store.actor, file.id))

    assert not await known(store, file.id)
    assert await listed(store, chat) == []
    (message,) = await store.messages(chat.id)
    assert message.parts == (FilePart("image/png", "sea.png", file.id),)
    with pytest.raises(NotFound):
        await store.rpc.call(rpc.DELETE_FILE, rpc.DeleteFile(store.actor, file.id))


async def test_what_no_message_refers_to_is_gone_after_a_day(
    store: StoreDriver, database_url: str
) -> None:
    used, loose, fresh = [await upload(store, n.encode(), n) for n in ("a", "b", "c")]
    await start(store, part(used))
    await execute(
        database_url,
        "UPDATE files SET expires_at = now() - interval '1 second' "
        "WHERE expires_at IS NOT NULL AND id = ANY ($1)",
        [used.id, loose.id],
    )

    async with asyncio.timeout(60):
        while await known(store, loose.id):  # each look is a round trip; the sweep runs meanwhile
            pass
    assert [await known(store, file.id) for file in (used, fresh)] == [True, True]


async def test_nobody_hoards_files(store: StoreDriver, database_url: str) -> None:
    await execute(
        database_url,
        "INSERT INTO files (id, owner_id, name, expires_at) "
        "SELECT gen_random_uuid(), $1, 'x', now() + interval '1 hour' "
        "FROM generate_series(1, $2)",
        store.actor.user_id,
        rpc.MAX_LOOSE_FILES,
    )

    with pytest.raises(TooManyRequests) as refused:
        await upload(store)
    assert refused.value.details == {"maximum": rpc.MAX_LOOSE_FILES}


async def test_a_chatloop_reads_files_of_the_chat_that_it_owns(store: StoreDriver) -> None:
    mine, other = await upload(store), await upload(store, b"other", "o.txt")
    chat = (await start(store, part(mine))).chat
    await store.acquire(chat.id, "runner-1")

    async def read(runner: str, file: rpc.StoredFile) -> rpc.Chunk:
        request = rpc.ReadForModel(chat.id, RunnerId(runner), file.id, 0)
        return await store.rpc.call(rpc.READ_FOR_MODEL, request)

    assert await read("runner-1", mine) == rpc.Chunk(PNG, len(PNG))
    with pytest.raises(StaleFence):
        await read("runner-2", mine)
    with pytest.raises(NotFound):
        await read("runner-1", other)
