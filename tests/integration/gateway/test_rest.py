"""What the API does when everything is as it should be."""

from datetime import timedelta

import httpx2
import pytest
from integration.gateway.driver import RunningGateways
from integration.gateway.stand_in import NOW, StandInStore

from steersman_contracts.chats import Role, Status
from steersman_contracts.errors import DesktopUnavailable
from steersman_contracts.ids import MessageId
from steersman_contracts.parts import FilePart, JsonPart, ProviderMetadata, TextPart, ToolResultPart
from steersman_contracts.rpc import Actor, chats
from steersman_contracts.rpc.desktop import GET_DESKTOP
from steersman_contracts.rpc.identity import AUTHENTICATE


async def test_a_chat_lives_from_creation_to_deletion(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    created = await client.post("/api/v1/chats", json={"title": "Sea", "text": "hello"})

    assert created.status_code == 201
    body = created.json()
    assert body["delivery"] == "started"
    assert body["message"]["parts"] == [{"type": "text", "text": "hello"}]
    address = created.headers["Location"]
    assert address == f"/api/v1/chats/{body['chat']['id']}"
    assert (await client.get(address)).json() == body["chat"]

    renamed = await client.patch(address, json={"title": "Ocean"})
    assert renamed.status_code == 200
    assert renamed.json()["title"] == "Ocean"

    assert (await client.delete(address)).status_code == 204
    assert (await client.get(address)).json()["code"] == "not_found"
    assert all(request.actor == ann for name, request in store.asked if name != AUTHENTICATE.name)


async def test_a_chat_without_a_first_message_waits(
    client: httpx2.AsyncClient, store: StandInStore
) -> None:
    created = await client.post("/api/v1/chats", json={})

    assert created.status_code == 201
    assert store.asked_for(chats.CREATE)[0].parts == ()
    assert "message" not in created.json()


async def test_pages_of_chats_follow_each_other_by_cursor(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    expected = [store.add_chat(ann, updated_at=NOW - timedelta(microseconds=n)) for n in range(5)]

    found: list[str] = []
    cursor: str | None = None
    pages = 0
    while cursor is not None or not pages:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/v1/chats", params=query)).json()
        found += [chat["id"] for chat in page["chats"]]
        cursor = page.get("next_cursor")
        pages += 1

    assert found == expected
    assert pages == 3


@pytest.mark.parametrize(("given", "asked"), [("true", True), ("false", False), ("any", None)])
async def test_archived_chats_are_listed_on_demand(
    client: httpx2.AsyncClient, store: StandInStore, given: str, asked: bool | None
) -> None:
    assert (await client.get("/api/v1/chats", params={"archived": given})).status_code == 200

    assert store.asked_for(chats.LIST)[0].archived is asked


async def test_agents_are_listed_by_their_parent(
    client: httpx2.AsyncClient, store: StandInStore
) -> None:
    parent = "01a00000-0000-7000-8000-000000000000"

    assert (await client.get("/api/v1/chats", params={"parent_id": parent})).status_code == 200
    refused = await client.get("/api/v1/chats", params={"parent_id": "me.*"})

    assert [asked.parent_id for asked in store.asked_for(chats.LIST)] == [parent]
    assert (refused.status_code, refused.json()["field"]) == (400, "parent_id")


async def test_a_message_starts_a_turn_or_joins_the_queue(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    chat_id = store.add_chat(ann)
    address = f"/api/v1/chats/{chat_id}/messages"

    started = await client.post(address, json={"text": "go"})
    store.update(chat_id, status=Status.RUNNING)
    parts = [{"type": "text", "text": "and"}, {"type": "text", "text": "then"}]
    queued = await client.post(
        address, json={"parts": parts, "busy_behavior": "interrupt", "client_key": "k1"}
    )

    assert (started.status_code, started.json()["delivery"]) == (202, "started")
    assert (queued.status_code, queued.json()["delivery"]) == (202, "queued")
    assert queued.json()["queued"]["parts"] == parts
    request = store.asked_for(chats.SEND_MESSAGE)[1]
    assert (request.busy_behavior, request.client_key) == ("interrupt", "k1")


@pytest.mark.parametrize(
    ("query", "position"),
    [
        ({}, (50, None, None, None)),
        ({"limit": "7", "before_id": "9"}, (7, 9, None, None)),
        ({"after_id": "0"}, (50, None, 0, None)),
        ({"after_revision": "3"}, (50, None, None, 3)),
    ],
)
async def test_messages_are_read_from_a_position(
    client: httpx2.AsyncClient,
    store: StandInStore,
    ann: Actor,
    query: dict[str, str],
    position: tuple[int, MessageId | None, MessageId | None, int | None],
) -> None:
    chat_id = store.add_chat(ann)
    store.add_message(chat_id, Role.USER, (TextPart("hi"),))

    reply = await client.get(f"/api/v1/chats/{chat_id}/messages", params=query)

    assert reply.status_code == 200
    assert [message["role"] for message in reply.json()["messages"]] == ["user"]
    asked = store.asked_for(chats.LIST_MESSAGES)[0]
    assert (asked.limit, asked.before_id, asked.after_id, asked.after_revision) == position


async def test_what_only_providers_may_see_stays_inside(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    secret = ProviderMetadata("anthropic", native={"signature": "sesame"})
    chat_id = store.add_chat(ann)
    image = FilePart("image/png", file_id="f1", data=b"bytes", provider_metadata=secret)
    store.add_message(
        chat_id,
        Role.ASSISTANT,
        (
            TextPart("hi", provider_metadata=secret),
            ToolResultPart("c1", "look", content=(image,), provider_metadata=secret),
        ),
    )

    reply = await client.get(f"/api/v1/chats/{chat_id}/messages")

    assert "sesame" not in reply.text
    assert "data" not in reply.json()["messages"][0]["parts"][1]["content"][0]


async def test_an_interrupt_is_accepted(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    chat_id = store.add_chat(ann)

    reply = await client.post(f"/api/v1/chats/{chat_id}/interrupt")

    assert (reply.status_code, reply.json()["id"]) == (202, chat_id)


async def test_a_message_is_edited(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    chat_id = store.add_chat(ann)

    reply = await client.patch(f"/api/v1/chats/{chat_id}/messages/7", json={"text": "rather"})

    assert (reply.status_code, reply.json()["delivery"]) == (202, "started")
    assert store.asked_for(chats.EDIT_MESSAGE)[0].message_id == 7


async def test_the_queue_is_changed(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    address = f"/api/v1/chats/{store.add_chat(ann)}/queue"

    assert (await client.put(address, json={"queued_ids": [2, 1]})).status_code == 200
    assert (await client.patch(f"{address}/1", json={"text": "other"})).status_code == 200
    assert (await client.post(f"{address}/2/promote")).status_code == 202
    assert (await client.delete(f"{address}/1")).status_code == 200

    assert store.asked_for(chats.REORDER_QUEUE)[0].queued_ids == (2, 1)
    assert store.asked_for(chats.EDIT_QUEUED)[0].parts == (TextPart("other"),)
    assert store.asked_for(chats.PROMOTE_QUEUED)[0].queued_id == 2
    assert store.asked_for(chats.DELETE_QUEUED)[0].queued_id == 1


async def test_client_side_tools_are_answered(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    chat_id = store.add_chat(ann)
    results = [
        {"call_id": "a", "text": "done"},
        {"call_id": "b", "json": {"n": 1}, "is_error": True},
    ]

    reply = await client.post(f"/api/v1/chats/{chat_id}/tool-results", json={"results": results})

    assert reply.status_code == 202
    assert store.asked_for(chats.SUBMIT_TOOL_RESULTS)[0].results == (
        chats.ToolOutcome("a", (TextPart("done"),)),
        chats.ToolOutcome("b", (JsonPart({"n": 1}),), is_error=True),
    )


async def test_a_chat_is_archived_and_brought_back_and_its_context_cleared(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    address = f"/api/v1/chats/{store.add_chat(ann)}"

    assert (await client.post(f"{address}/archive")).json()["archived"] is True
    assert "archived" not in (await client.post(f"{address}/unarchive")).json()
    assert (await client.post(f"{address}/clear-context")).status_code == 200


async def test_models_and_providers_are_listed_for_everybody(client: httpx2.AsyncClient) -> None:
    models = (await client.get("/api/v1/models")).json()["models"]
    providers = (await client.get("/api/v1/providers")).json()["providers"]

    assert [model["name"] for model in models] == ["demo/plain"]
    assert [provider["id"] for provider in providers] == ["demo"]


async def test_an_admin_changes_providers_and_models(
    gateway: RunningGateways, store: StandInStore
) -> None:
    store.add_user("root", role="admin")
    async with gateway.client("root") as client:
        put = await client.put("/api/v1/providers/lab", json={"type": "openai-chat"})
        model = await client.put(
            "/api/v1/models", json={"provider_id": "lab", "model_id": "org/model:1"}
        )
        gone = await client.delete("/api/v1/providers/lab")

    assert (put.status_code, put.json()["id"]) == (200, "lab")
    assert (model.status_code, model.json()["model_id"]) == (200, "org/model:1")
    assert gone.status_code == 204


async def test_who_you_are_what_runs_and_what_it_can_do(client: httpx2.AsyncClient) -> None:
    me = (await client.get("/api/v1/me")).json()
    version = (await client.get("/api/v1/version", headers={"Authorization": ""})).json()
    tools = (await client.get("/api/v1/tools")).json()

    assert (me["name"], me["role"]) == ("token-of-ann", "member")
    assert version["version"]
    assert tools["plugins"] == [{"name": "files", "version": "1"}]


async def test_a_desktop_says_why_there_is_none(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    chat_id = store.add_chat(ann)
    store.failures[GET_DESKTOP.name] = DesktopUnavailable("Xvnc is not here", missing="Xvnc")

    reply = await client.get(f"/api/v1/chats/{chat_id}/desktop")

    assert reply.status_code == 501
    assert reply.json()["code"] == "desktop_unavailable"
    assert reply.json()["details"] == {"missing": "Xvnc"}


async def test_the_request_id_and_the_trace_reach_the_logs_of_other_services(
    client: httpx2.AsyncClient, store: StandInStore
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    await client.get("/api/v1/chats", headers={"X-Request-Id": "r-1", "traceparent": trace})
    await client.get("/api/v1/chats", headers={"X-Request-Id": "r-2", "traceparent": "x\ty"})

    listed = store.contexts[-2:]
    assert listed == [{"request_id": "r-1", "traceparent": trace}, {"request_id": "r-2"}]


async def test_every_reply_has_a_request_id_and_protecting_headers(
    client: httpx2.AsyncClient,
) -> None:
    given = await client.get("/api/v1/me", headers={"X-Request-Id": "from-a-proxy.1"})
    bad = await client.get("/api/v1/nowhere", headers={"X-Request-Id": "no spaces, please"})

    assert given.headers["X-Request-Id"] == "from-a-proxy.1"
    assert bad.headers["X-Request-Id"] != "no spaces, please"
    assert bad.json()["request_id"] == bad.headers["X-Request-Id"]
    for reply in (given, bad):
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
