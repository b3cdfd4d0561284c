"""Who had control over the desktop of a chat is in the book of who did what."""

from __future__ import annotations

from support.chat_driver import StoreDriver

from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import desktop_audit as rpc
from steersman_contracts.rpc.desktop import DesktopControl
from steersman_contracts.rpc.policies import LIST_AUDIT, ListAudit


async def test_each_change_is_written_down_once(store: StoreDriver) -> None:
    chat = await store.create("hello")
    person = store.actor.user_id
    taken = DesktopControl(7, person, private=True, reason="taken")
    ended = DesktopControl(8, reason="timeout")
    nowhere = ChatId("01a00000-0000-7000-8000-000000000000")
    for request in (
        rpc.RecordControl(chat.id, person, taken),
        rpc.RecordControl(chat.id, person, taken),
        rpc.RecordControl(chat.id, person, ended),
        rpc.RecordControl(nowhere, person, taken),
    ):
        await store.rpc.call(rpc.RECORD_CONTROL, request)

    page = await store.rpc.call(LIST_AUDIT, ListAudit(store.actor))

    assert [(entry.action, entry.actor_id, entry.chat_id) for entry in page.entries] == [
        ("desktop.control_changed", person, chat.id)
    ] * 2
    assert [entry.details for entry in page.entries] == [
        {"revision": 8, "holder": None, "private": False, "reason": "timeout"},
        {"revision": 7, "holder": person, "private": True, "reason": "taken"},
    ]
