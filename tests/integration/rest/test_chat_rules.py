"""What the store refuses about chats, as clients see it: a problem that names the field."""

from __future__ import annotations

from typing import Any

import httpx2
from support.chat_driver import StoreDriver, assistant

from steersman_contracts.rpc.chats import MAX_CLIENT_TOOLS


def tool(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "description": "", "input_schema": {"type": "object"} | schema}


async def test_what_is_refused_says_what_is_wrong_and_where(
    alice: httpx2.AsyncClient, store: StoreDriver
) -> None:
    await tools_of_clients_are_bounded_unique_and_json_schema(alice)
    await edits_are_of_messages_of_people_in_this_chat(alice, store)
    await rules_and_desktop_of_an_archived_chat_stay_as_they_are(alice, store)


async def tools_of_clients_are_bounded_unique_and_json_schema(
    alice: httpx2.AsyncClient,
) -> None:
    most = [tool(f"tool-{n}") for n in range(MAX_CLIENT_TOOLS)]
    assert MAX_CLIENT_TOOLS == 250
    assert (await alice.post("/api/v1/chats", json={"client_tools": most})).status_code == 201

    for tools, field in (
        ([*most, tool("one-more")], "client_tools"),
        ([tool("a"), tool("b"), tool("a")], "client_tools[2].name"),
        ([tool("a"), tool("no spaces")], "client_tools[1].name"),
        (
            [tool("a", properties={"x": {"type": "strin"}})],
            "client_tools[0].input_schema.properties.x.type",
        ),
        ([tool("a"), tool("b", items=3)], "client_tools[1].input_schema.items"),
        ([tool("a", type="array")], "client_tools[0].input_schema"),
    ):
        reply = await alice.post("/api/v1/chats", json={"client_tools": tools})
        problem = reply.json()
        assert (reply.status_code, problem["code"]) == (400, "invalid_request"), problem
        assert problem["field"] == field, problem

    assert len((await alice.get("/api/v1/chats")).json()["chats"]) == 1


async def edits_are_of_messages_of_people_in_this_chat(
    alice: httpx2.AsyncClient, store: StoreDriver
) -> None:
    chat, other = await store.create("mine"), await store.create("other")
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant("answer"))
    answer = (await store.messages(chat.id))[-1].id
    foreign = (await store.messages(other.id))[0].id

    for message_id, status, code in ((answer, 400, "invalid_request"), (foreign, 404, "not_found")):
        address = f"/api/v1/chats/{chat.id}/messages/{message_id}"
        reply = await alice.patch(address, json={"text": "x"})
        assert (reply.status_code, reply.json()["code"]) == (status, code)


async def rules_and_desktop_of_an_archived_chat_stay_as_they_are(
    alice: httpx2.AsyncClient, store: StoreDriver
) -> None:
    chat = await store.create(None)
    await store.archive(chat.id)
    address = f"/api/v1/chats/{chat.id}"

    requests: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
        ("PUT", "/policy", {"rules": []}),
        ("PUT", "/desktop", {}),
        ("PATCH", "/desktop", {"width": 800, "height": 600}),
        ("PUT", "/desktop/clipboard", {"text": "x"}),
        ("POST", "/desktop/actions", {"action": "left_click", "coordinate": [1, 1]}),
        ("POST", "/desktop/control", {}),
        ("POST", "/desktop/ticket", {}),
        ("POST", "/desktop/recordings", None),
    )
    for method, path, body in requests:
        reply = await alice.request(method, address + path, json=body)
        problem = reply.json()
        assert (reply.status_code, problem["code"]) == (409, "transition_refused"), (path, problem)
        assert "archived" in problem["detail"]
