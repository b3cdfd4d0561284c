"""The public API of a whole deployment, over HTTP alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from support.deployment import Deployment


@pytest.fixture
async def http(deployment: Deployment) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client with the operator's token."""
    async with httpx2.AsyncClient(
        base_url=f"{deployment.gateway()}/api/v1",
        headers={"Authorization": f"Bearer {deployment.token}"},
        timeout=30,
    ) as client:
        yield client


async def start(http: httpx2.AsyncClient, model: str, text: str = "go") -> str:
    """Start a chat; its id."""
    answer = await http.post("/chats", json={"text": text, "model": model})
    assert answer.status_code == 201, answer.text
    return answer.json()["chat"]["id"]


async def frames(
    http: httpx2.AsyncClient, chat_id: str, cursor: str | None = None
) -> AsyncGenerator[bytes]:
    """The raw frames of the event stream, comments left out."""
    headers = {} if cursor is None else {"Last-Event-ID": cursor}
    buffer = b""
    async with http.stream("GET", f"/chats/{chat_id}/events", headers=headers) as response:
        assert response.status_code == 200
        async for chunk in response.aiter_raw():
            buffer += chunk
            while b"\n\n" in buffer:
                frame, buffer = buffer.split(b"\n\n", 1)
                if frame.startswith(b"id:"):
                    yield frame


def parse(frame: bytes) -> tuple[str, str, Any]:
    """Id, name and body of a frame."""
    lines = dict(line.split(": ", 1) for line in frame.decode().split("\n"))
    return lines["id"], lines["event"], json.loads(lines["data"])


async def until_rest(
    http: httpx2.AsyncClient, chat_id: str, cursor: str | None = None, *, at_most: int = 10**6
) -> list[bytes]:
    """The frames up to the end of the turn, or up to a number of them."""
    seen: list[bytes] = []
    async with asyncio.timeout(60):
        async for frame in frames(http, chat_id, cursor):
            seen.append(frame)
            if len(seen) >= at_most or _rests(frame):
                break
    return seen


def _rests(frame: bytes) -> bool:
    """Whether a frame says that the turn is over: a quick one may be before anybody looks."""
    _, name, body = parse(frame)
    if name == "stream.sync" and body.get("snapshot"):
        return body["snapshot"]["chat"]["status"] == "waiting"
    return name == "chat.status" and body["status"] == "waiting"


async def test_the_demo_writes_a_file_and_reads_it_back(http: httpx2.AsyncClient) -> None:
    chat_id = await start(http, "demo/tour", "Show me")

    await until_rest(http, chat_id)

    messages = (await http.get(f"/chats/{chat_id}/messages")).json()["messages"]
    calls = [p for m in messages for p in m["parts"] if p["type"] == "tool-call"]
    results = [p for m in messages for p in m["parts"] if p["type"] == "tool-result"]
    assert [call["tool"] for call in calls] == ["write_file", "read_file"]
    assert [result["call_id"] for result in results] == [call["call_id"] for call in calls]
    assert not any(result.get("is_error") for result in results)
    first_line = calls[0]["arguments"]["content"].split("\n")[0]
    assert first_line in json.dumps(results[1]["content"])


async def test_a_stream_that_is_cut_again_and_again_misses_and_repeats_nothing(
    http: httpx2.AsyncClient,
) -> None:
    chat_id = await start(http, "demo/count")
    pieces = await until_rest(http, chat_id, at_most=2)
    while parse(pieces[-1])[1:] == ("", "") or not _ended(pieces[-1]):
        cursor = parse(pieces[-1])[0]
        more = await until_rest(http, chat_id, cursor, at_most=8)
        assert parse(more[0])[1] == "stream.sync"
        assert "snapshot" not in parse(more[0])[2]
        pieces += more[1:]

    whole = await until_rest(http, chat_id, parse(pieces[0])[0])

    assert pieces[1:] == whole[1:]
    deltas = [body for _, name, body in map(parse, pieces) if name == "part.delta"]
    seen = parse(pieces[0])[2]["snapshot"].get("preview")
    text = "".join(part["text"] for part in seen["parts"]) if seen else ""
    text += "".join(delta["text"] for event in deltas for delta in event["deltas"])
    stored = (await http.get(f"/chats/{chat_id}/messages")).json()["messages"][-1]
    assert text == stored["parts"][0]["text"]


def _ended(frame: bytes) -> bool:
    _, name, body = parse(frame)
    return name == "chat.status" and body["status"] == "waiting"


async def test_chats_are_found_again_and_forked(http: httpx2.AsyncClient) -> None:
    others = {chat["id"] for chat in (await http.get("/chats?limit=200")).json()["chats"]}
    chat_id = await start(http, "demo/echo", "Unmistakable periwinkle")
    await until_rest(http, chat_id)
    question, answer = (await http.get(f"/chats/{chat_id}/messages")).json()["messages"]

    assert (await http.get(f"/chats/{chat_id}")).json()["has_unread"]
    read = await http.post(f"/chats/{chat_id}/read", json={"message_id": answer["id"]})
    assert "has_unread" not in read.json()
    labels = {"team": "sea", "topic": "flowers"}
    await http.put(f"/chats/{chat_id}/labels", json={"labels": labels})
    await http.put(f"/chats/{chat_id}/pin", json={})

    async def found(query: str) -> list[str]:
        page = await http.get(f"/chats?{query}")
        assert page.status_code == 200, page.text
        return [chat["id"] for chat in page.json()["chats"] if chat["id"] not in others]

    assert await found("q=periwinkle") == [chat_id]
    assert await found("label=team%3Dsea&label=topic%3Dflowers&status=waiting") == [chat_id]
    assert await found("label=team%3Dland") == []
    assert await found("pinned=true") == [chat_id]
    fork = await http.post(f"/chats/{chat_id}/fork", json={"message_id": question["id"]})
    assert fork.status_code == 201
    shared = (await http.get(f"{fork.headers['location'].removeprefix('/api/v1')}/messages")).json()
    assert [m["parts"] for m in shared["messages"]] == [question["parts"]]
    await http.delete(f"/chats/{chat_id}/pin")
    assert await found("pinned=true") == []


UNKNOWN = "01a20790-c4a1-752e-9bd0-89178dd93b09"
LONG = "x" * 400_001


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "field"),
    [
        ("POST", "/chats", b'{"text": ', 400, "invalid_request", None),
        ("POST", "/chats", {"txt": "x"}, 400, "invalid_request", "txt"),
        ("POST", "/chats", {"text": 5}, 400, "invalid_request", "text"),
        ("POST", "/chats", {"text": ""}, 400, "invalid_request", "text"),
        ("POST", "/chats", {"text": LONG}, 400, "invalid_request", "text"),
        ("POST", "/chats", {"text": "x", "model": "no/such"}, 400, "unknown_model", "model"),
        ("POST", "/chats", {"text": "x" * 3_000_000}, 413, "payload_too_large", None),
        ("POST", f"/chats/{UNKNOWN}/messages", {"text": "x"}, 404, "not_found", None),
        ("GET", f"/chats/{UNKNOWN}", None, 404, "not_found", None),
        ("GET", "/chats/not-an-id", None, 404, "not_found", None),
        ("GET", "/chats?cursor=nonsense", None, 400, "bad_cursor", "cursor"),
        ("GET", "/chats?limit=0", None, 400, "invalid_request", "limit"),
        ("GET", "/chats?label=nonsense", None, 400, "invalid_request", "label"),
        ("PUT", f"/chats/{UNKNOWN}/labels", {"labels": {"k": 5}}, 400, "invalid_request", "labels"),
        ("GET", "/nowhere", None, 404, "not_found", None),
        ("DELETE", "/chats", None, 405, "method_not_allowed", None),
    ],
)
async def test_bad_input_is_a_problem_with_a_code_and_stores_nothing(
    http: httpx2.AsyncClient,
    method: str,
    path: str,
    body: object,
    status: int,
    code: str,
    field: str | None,
) -> None:
    before = (await http.get("/chats?limit=200")).json()

    content = body if isinstance(body, bytes) else json.dumps(body).encode() if body else None
    headers = {"Content-Type": "application/json"} if content else {}
    answer = await http.request(method, path, content=content, headers=headers)

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert (problem["code"], problem["status"]) == (code, status)
    if field is not None:
        assert field in problem["field"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert (await http.get("/chats?limit=200")).json() == before


@pytest.mark.parametrize("token", [None, "steersman_wrong", "x"])
async def test_without_a_valid_token_nothing_is_shown(
    deployment: Deployment, token: str | None
) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=deployment.url, headers=headers) as client:
        answer = await client.get("/api/v1/chats")

    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"
    assert "www-authenticate" in answer.headers
