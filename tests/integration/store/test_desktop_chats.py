"""The desktop service learns which chats are no more."""

from __future__ import annotations

from support.chat_driver import StoreDriver, assistant

from steersman_contracts.events import ChatStatusChanged
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.desktop_chats import FIND_DELETED, FindDeleted


async def test_only_chats_that_are_no_more_are_named(store: StoreDriver) -> None:
    kept, deleted = await store.create("one"), await store.create("two")
    never = ChatId("01a00000-0000-7000-8000-000000000000")
    request = FindDeleted((kept.id, deleted.id, never))
    before = await store.rpc.call(FIND_DELETED, request)
    await store.acquire(deleted.id)
    await store.finish(await store.fence(deleted.id), assistant("answer"))
    await store.log.until(deleted.id, ChatStatusChanged, outcome="completed")

    await store.delete(deleted.id)

    after = await store.rpc.call(FIND_DELETED, request)
    nothing = await store.rpc.call(FIND_DELETED, FindDeleted(()))
    assert before.chat_ids == (never,)
    assert set(after.chat_ids) == {deleted.id, never}
    assert nothing.chat_ids == ()
