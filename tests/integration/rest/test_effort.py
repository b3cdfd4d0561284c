"""How hard a model thinks is chosen by chat and by message."""

from __future__ import annotations

import httpx2
import pytest

pytestmark = pytest.mark.one_stack

CHATS = "/api/v1/chats"


async def test_a_chat_and_its_messages_choose_the_effort(alice: httpx2.AsyncClient) -> None:
    made = await alice.post(CHATS, json={"model": "demo/echo", "effort": "low"})
    assert made.json()["chat"]["effort"] == "low"
    chat = f"{CHATS}/{made.json()['chat']['id']}"
    sent = await alice.post(f"{chat}/messages", json={"text": "hi", "effort": "xhigh"})
    assert sent.json()["chat"]["effort"] == "xhigh"
    edited = await alice.patch(
        f"{chat}/messages/{sent.json()['message']['id']}", json={"text": "ho", "effort": "max"}
    )
    assert edited.json()["chat"]["effort"] == "max"

    assert (await alice.patch(chat, json={"title": "A"})).json()["effort"] == "max"
    assert "effort" not in (await alice.patch(chat, json={"effort": None})).json()


@pytest.mark.parametrize("effort", ["hard", "", 3])
async def test_an_effort_that_is_none_is_refused_by_name(
    alice: httpx2.AsyncClient, effort: object
) -> None:
    chat = (await alice.post(CHATS, json={"model": "demo/echo"})).json()["chat"]["id"]
    for method, path, body in (
        ("POST", CHATS, {}),
        ("PATCH", f"{CHATS}/{chat}", {}),
        ("POST", f"{CHATS}/{chat}/messages", {"text": "hi"}),
    ):
        refused = await alice.request(method, path, json={**body, "effort": effort})
        assert (refused.status_code, refused.json()["field"]) == (400, "effort")
