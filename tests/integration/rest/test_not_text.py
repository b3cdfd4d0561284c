"""Bytes that are no UTF-8, wherever they come in: refused with a problem, and never stored."""

from __future__ import annotations

import httpx2
from support.chat_driver import StoreDriver

JSON = {"Content-Type": "application/json"}
LATIN = "caf\xe9".encode("latin-1")
CHATS = "/api/v1/chats"


async def test_what_is_no_utf8_is_refused_wherever_it_is(
    alice: httpx2.AsyncClient, store: StoreDriver
) -> None:
    chat = await store.create("hello")
    await store.acquire(chat.id)
    await store.send(chat.id, "later")
    (queued,) = await store.queued_ids(chat.id)
    here = f"{CHATS}/{chat.id}"
    (message,) = await store.messages(chat.id)
    bodies = [
        ("POST", CHATS, b'{"text": "%b"}'),
        ("POST", CHATS, b'{"title": "%b"}'),
        ("PATCH", here, b'{"title": "%b"}'),
        ("POST", f"{here}/messages", b'{"parts": [{"type": "text", "text": "%b"}]}'),
        ("PATCH", f"{here}/messages/{message.id}", b'{"text": "%b"}'),
        ("PATCH", f"{here}/queue/{queued}", b'{"text": "%b"}'),
        ("PUT", f"{here}/labels", b'{"labels": {"%b": "x"}}'),
        ("POST", f"{here}/tool-results", b'{"results": [{"call_id": "c", "text": "%b"}]}'),
        ("PUT", "/api/v1/me/instructions", b'{"text": "%b"}'),
        ("POST", f"{CHATS}/import", b'{"messages": [{"role": "system", "content": "%b"}]}'),
    ]
    for method, path, body in bodies:
        for bad in (LATIN, b"\\ud83d", b"\xed\xa0\x80"):
            reply = await alice.request(method, path, content=body % bad, headers=JSON)
            problem = reply.json()
            assert (reply.status_code, problem["code"]) == (400, "invalid_request"), (path, bad)
            assert problem["field"] == "body" or problem["field"].endswith("text"), problem

    stored = [one.parts for one in await store.messages(chat.id)]
    assert stored == [message.parts]
    # In addresses and headers it is no word of anything that is there.
    for query in ("q=%ff", "label=a%3D%ff"):
        assert (await alice.get(f"{CHATS}?{query}")).json() == {"chats": []}
    others: list[tuple[str, str, dict[bytes, bytes], str]] = [
        ("GET", f"{CHATS}?cursor=%ff", {}, "bad_cursor"),
        ("GET", f"{CHATS}/%ff", {}, "not_found"),
        ("GET", "/api/v1/files/%ff", {}, "not_found"),
        ("GET", "/api/v1/skills/%ff", {}, "invalid_request"),
        ("GET", f"{here}/events", {b"Last-Event-ID": LATIN}, "bad_cursor"),
        ("GET", here, {b"Authorization": b"Bearer " + LATIN}, "unauthenticated"),
    ]
    for method, path, headers, code in others:
        reply = await alice.request(method, path, headers=headers)
        assert reply.json()["code"] == code, path
