"""Bad input: a problem with a stable code and the field to blame, and nothing stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from integration.gateway.driver import RunningGateways, running_gateway
from integration.gateway.stand_in import StandInStore, new_chat_id

from steersman.embedded.nats import NatsServer
from steersman_contracts.errors import (
    ERRORS,
    QueueFull,
    SteersmanError,
    TransitionRefused,
    UnknownModel,
)
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor, chats
from steersman_contracts.rpc.identity import AUTHENTICATE
from steersman_gateway.problems import STATUS


def problem(reply: httpx2.Response, status: int, code: str, field: str | None = None) -> Any:
    body = reply.json()
    assert (reply.status_code, body["code"]) == (status, code), body
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert (body["status"], body["type"]) == (status, f"urn:steersman:problem:{code}")
    assert body.get("field") == field, body
    assert body["detail"]
    assert body["request_id"] == reply.headers["X-Request-Id"]
    return body


@pytest.fixture
def chat_id(store: StandInStore, ann: Actor) -> ChatId:
    return store.add_chat(ann)


def nothing_was_stored(store: StandInStore) -> bool:
    return {name for name, _ in store.asked} <= {AUTHENTICATE.name}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"", "body"),
        (b'{"text": "\xff"}', "body"),
        (b"[]", "body"),
        (b'{"text": "hi"} {}', "body"),
        (b'{"text": "hi", "colour": 1}', "colour"),
        (b'{"text": 5}', "text"),
        (b'{"text": ""}', "text"),
        (b'{"text": " \\n "}', "text"),
        (b'{"text": "a", "client_key": "b\\u0000"}', "client_key"),
        (b'{"parts": [{"type": "text", "text": "a"}, {"type": "text"}]}', "parts[1].text"),
        (b'{"parts": [{"type": "image"}]}', "parts[0].type"),
        (b'{"parts": [{"type": "text", "text": "a", "x": 1}]}', "parts[0].x"),
        (b'{"text": "a", "parts": [{"type": "text", "text": "b"}]}', "parts"),
        (b'{"text": "a", "busy_behavior": "shout"}', "busy_behavior"),
        (b'{"text": "a", "model": "no-slash"}', "model"),
        (b"{}", "text"),
    ],
)
async def test_a_bad_body_is_refused_with_the_field(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId, body: bytes, field: str
) -> None:
    reply = await client.post(
        f"/api/v1/chats/{chat_id}/messages",
        content=body,
        headers={"Content-Type": "application/json"},
    )

    problem(reply, 400, "invalid_request", field)
    assert nothing_was_stored(store)


async def test_over_long_text_is_refused(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId
) -> None:
    reply = await client.post(f"/api/v1/chats/{chat_id}/messages", json={"text": "x" * 400_001})

    problem(reply, 400, "invalid_request", "text")
    assert nothing_was_stored(store)


async def test_a_body_that_is_not_json_is_refused(
    client: httpx2.AsyncClient, store: StandInStore
) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded"):
        reply = await client.post(
            "/api/v1/chats", content=b"{}", headers={"Content-Type": media_type}
        )
        problem(reply, 415, "unsupported_media_type")
    assert nothing_was_stored(store)


async def test_a_body_over_the_limit_is_refused_announced_or_not(
    nats: NatsServer, store: StandInStore, ann: Actor
) -> None:
    chat_id = store.add_chat(ann)
    path = f"/api/v1/chats/{chat_id}/messages"
    body = b'{"text": "' + b"x" * 3000 + b'"}'

    async def chunks() -> AsyncGenerator[bytes]:
        for start in range(0, len(body), 500):
            yield body[start : start + 500]

    async with (
        running_gateway(nats.url(), max_body_bytes=2000) as gateway,
        gateway.client("token-of-ann") as client,
    ):
        json = {"Content-Type": "application/json"}
        problem(await client.post(path, content=body, headers=json), 413, "payload_too_large")
        problem(await client.post(path, content=chunks(), headers=json), 413, "payload_too_large")
        assert (await client.post(path, json={"text": "x"})).status_code == 202
    assert len(store.asked_for(chats.SEND_MESSAGE)) == 1


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ({"limit": "0"}, "invalid_request", "limit"),
        ({"limit": "201"}, "invalid_request", "limit"),
        ({"limit": "many"}, "invalid_request", "limit"),
        ({"archived": "maybe"}, "invalid_request", "archived"),
        ({"cursor": "nonsense"}, "bad_cursor", "cursor"),
        ({"cursor": "MXwyMDI2"}, "bad_cursor", "cursor"),
        ({"cursor": "\u2603"}, "bad_cursor", "cursor"),
    ],
)
async def test_a_bad_query_is_refused_with_the_parameter(
    client: httpx2.AsyncClient, store: StandInStore, query: dict[str, str], code: str, field: str
) -> None:
    problem(await client.get("/api/v1/chats", params=query), 400, code, field)
    assert nothing_was_stored(store)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"before_id": "1", "after_id": "1"}, "after_id"),
        ({"before_id": "1", "after_revision": "1"}, "after_revision"),
        ({"after_revision": "-1"}, "after_revision"),
        ({"before_id": "99999999999999999999"}, "before_id"),
    ],
)
async def test_a_bad_position_is_refused(
    client: httpx2.AsyncClient, chat_id: ChatId, query: dict[str, str], field: str
) -> None:
    reply = await client.get(f"/api/v1/chats/{chat_id}/messages", params=query)

    problem(reply, 400, "invalid_request", field)


@pytest.mark.parametrize(
    "text",
    ["x", "*", ">", "a.b", "0197" * 9, "5F9C2E6A-0000-4000-8000-000000000000", "%00", "%0d%0aSUB"],
)
async def test_an_id_of_another_shape_is_not_found_and_reaches_no_subject(
    client: httpx2.AsyncClient, store: StandInStore, text: str
) -> None:
    for path in ("", "/messages", "/events", "/desktop"):
        problem(await client.get(f"/api/v1/chats/{text}{path}"), 404, "not_found")
    assert nothing_was_stored(store)


async def test_numbers_that_are_no_ids_are_not_found(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId
) -> None:
    for number in ("0", "-1", str(2**63), "abc"):
        path = f"/api/v1/chats/{chat_id}/messages/{number}"
        problem(await client.patch(path, json={"text": "x"}), 404, "not_found")
    assert nothing_was_stored(store)


async def test_somebody_elses_chat_looks_like_none(
    gateway: RunningGateways, store: StandInStore, chat_id: ChatId
) -> None:
    store.add_user("bob")
    async with gateway.client("bob") as bob:
        theirs, none = f"/api/v1/chats/{chat_id}", f"/api/v1/chats/{new_chat_id()}"
        for path in ("", "/messages", "/events", "/desktop"):
            seen = problem(await bob.get(theirs + path), 404, "not_found")
            assert seen["detail"] == (await bob.get(none + path)).json()["detail"]
        problem(await bob.delete(theirs), 404, "not_found")
        problem(await bob.patch(theirs, json={"title": "mine"}), 404, "not_found")
        problem(await bob.post(f"{theirs}/interrupt"), 404, "not_found")
        problem(await bob.post(f"{theirs}/messages", json={"text": "x"}), 404, "not_found")
    assert chat_id in store.chats


async def test_unknown_addresses_and_methods(client: httpx2.AsyncClient) -> None:
    problem(await client.get("/api/v1/nothing"), 404, "not_found")
    problem(await client.get("/api/v2/chats"), 404, "not_found")
    reply = await client.put("/api/v1/me")
    problem(reply, 405, "method_not_allowed")
    assert "GET" in reply.headers["Allow"]


async def test_only_an_admin_changes_providers_and_models(
    client: httpx2.AsyncClient, store: StandInStore
) -> None:
    put = {"type": "demo"}
    problem(await client.put("/api/v1/providers/lab", json=put), 403, "forbidden")
    problem(await client.delete("/api/v1/providers/lab"), 403, "forbidden")
    model = {"provider_id": "lab", "model_id": "m"}
    problem(await client.put("/api/v1/models", json=model), 403, "forbidden")
    assert nothing_was_stored(store)


async def test_bad_providers_are_refused(gateway: RunningGateways, store: StandInStore) -> None:
    store.add_user("root", role="admin")
    async with gateway.client("root") as root:
        reply = await root.put("/api/v1/providers/Not_A_Slug", json={"type": "demo"})
        problem(reply, 400, "invalid_request", "provider_id")
        for body, field in (
            ({"type": "telepathy"}, "type"),
            ({"type": "demo", "base_url": "file:///etc/passwd"}, "base_url"),
            ({}, "type"),
        ):
            reply = await root.put("/api/v1/providers/lab", json=body)
            problem(reply, 400, "invalid_request", field)
    assert nothing_was_stored(store)


@pytest.mark.parametrize(
    ("failure", "details"),
    [
        (UnknownModel("no such model", field="model"), {}),
        (QueueFull("the queue is full", maximum=20), {"maximum": 20}),
        (TransitionRefused("not now", status="running"), {"status": "running"}),
    ],
)
async def test_what_the_store_refuses_is_passed_on(
    client: httpx2.AsyncClient,
    store: StandInStore,
    chat_id: ChatId,
    failure: SteersmanError,
    details: dict[str, Any],
) -> None:
    store.failures[chats.SEND_MESSAGE.name] = failure

    reply = await client.post(f"/api/v1/chats/{chat_id}/messages", json={"text": "x"})

    body = problem(reply, STATUS[failure.code], failure.code, failure.details.get("field"))
    assert body.get("details", {}) == details


@pytest.mark.parametrize("code", sorted(ERRORS))
async def test_every_error_of_a_service_becomes_its_problem(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId, code: str
) -> None:
    store.failures[chats.UPDATE.name] = ERRORS[code]("a secret inside")

    reply = await client.patch(f"/api/v1/chats/{chat_id}", json={"title": "x"})

    body = problem(reply, STATUS[code], code)
    assert ("secret" in body["detail"]) == (code != "internal")
    assert ("Retry-After" in reply.headers) == ERRORS[code].retryable


async def test_what_breaks_inside_tells_nothing_outside(
    client: httpx2.AsyncClient,
    store: StandInStore,
    chat_id: ChatId,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def break_down() -> None:
        raise RuntimeError("the secret cause")

    store.before[chats.GET.name] = break_down

    reply = await client.get(f"/api/v1/chats/{chat_id}", headers={"X-Request-Id": "find-me"})

    body = problem(reply, 500, "internal")
    assert "secret" not in reply.text
    assert body["request_id"] == "find-me"
    log = capsys.readouterr().out
    assert "the secret cause" in log  # by the service that broke
    assert "request.failed" in log
    assert "find-me" in log


async def test_a_store_that_is_away_is_a_503_that_says_when_to_come_back(
    own_nats: NatsServer,
) -> None:
    async with running_gateway(own_nats.url()) as gateway, gateway.client("any") as client:
        reply = await client.get("/api/v1/me")
        problem(reply, 503, "unavailable")
        assert reply.headers["Retry-After"] == "1"


async def test_slow_requests_do_not_hold_up_others(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId
) -> None:
    release = asyncio.Event()

    async def wait() -> None:
        await release.wait()

    store.before[chats.GET.name] = wait
    slow = asyncio.create_task(client.get(f"/api/v1/chats/{chat_id}"))
    assert (await client.get("/api/v1/chats")).status_code == 200
    assert not slow.done()
    release.set()
    assert (await slow).status_code == 200
