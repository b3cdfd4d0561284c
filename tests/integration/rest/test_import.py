"""Chats of other systems arrive as a whole or not at all; and what no text can hold is shown."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from click.testing import CliRunner
from integration.gateway.driver import RunningGateways
from support.chat_driver import StoreDriver, assistant, text, words_of

from steersman.exports import LineError, read_export
from steersman.imports import import_
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import chats as people

pytestmark = pytest.mark.one_stack

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def said(words: str) -> list[Any]:
    return [{"type": "text", "data": {"text": words}}]


CALL = {"tool_call_id": "c1", "tool_name": "look", "input": "{}"}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {
        "role": "user",
        "content": [
            *said("What is in the sea?"),
            {
                "type": "file",
                "data": {
                    "media_type": "image/jpeg",
                    "filename": "sea.jpg",
                    "data": base64.b64encode(PNG).decode(),
                },
            },
        ],
        "created_at": "2024-05-01T10:00:00Z",
    },
    {"role": "assistant", "content": [{"type": "tool-call", "data": CALL}], "model": "old/model"},
    {"role": "tool", "content": [{"tool_call_id": "c1", "tool_name": "look", "result": {"n": 1}}]},
    {"role": "assistant", "content": [{"type": "text", "text": "Fish."}], "content_version": 1},
]


async def test_a_chat_is_imported_with_its_files_and_can_go_on(alice: httpx2.AsyncClient) -> None:
    body = {"messages": MESSAGES, "client_key": "import:1", "created_at": "2024-05-01T09:00:00Z"}

    made = await alice.post("/api/v1/chats/import", json=body)
    again = await alice.post("/api/v1/chats/import", json=body)

    assert made.status_code == 201, made.text
    chat = made.json()["chat"]
    assert (chat["title"], chat["status"], chat["created_at"][:10]) == (
        "What is in the sea?",
        "waiting",
        "2024-05-01",
    )
    assert (made.json()["created"], again.json()) == (True, {"chat": chat, "created": False})
    assert not chat.get("has_unread")
    messages = (await alice.get(f"{made.headers['Location']}/messages")).json()["messages"]
    assert [message["role"] for message in messages] == [m["role"] for m in MESSAGES]
    file = messages[1]["parts"][1]
    assert (file["media_type"], file["name"], "data" in file) == ("image/png", "sea.jpg", False)
    assert (await alice.get(f"/api/v1/files/{file['file_id']}")).content == PNG
    assert messages[3]["parts"][0]["content"] == [{"type": "json", "value": {"n": 1}}]
    sent = await alice.post(f"{made.headers['Location']}/messages", json={"text": "More"})
    assert sent.json()["delivery"] == "started"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (
            {"role": "user", "content": [*said("a"), {"type": "video", "data": {"url": "x"}}]},
            "content[1]",
        ),
        ({"role": "user", "content": said("a"), "content_version": 1}, "content[0]"),
        ({"role": "user", "content": said("a"), "content_version": 2}, "content_version"),
        ({"role": "user", "content": []}, ""),
        ({"role": "tool", "content": [{"tool_call_id": "x", "tool_name": "t", "result": 1}]}, ""),
        ({"role": "user", "content": [{"type": "tool-call", "data": CALL}]}, ""),
        (
            {
                "role": "user",
                "content": [{"type": "file", "data": {"media_type": "a/b", "data": "AAAA"}}],
            },
            "content",
        ),
    ],
)
async def test_a_chat_with_one_bad_message_is_not_imported(
    alice: httpx2.AsyncClient, message: dict[str, Any], field: str
) -> None:
    body = {"messages": [MESSAGES[0], message]}

    reply = await alice.post("/api/v1/chats/import", json=body)

    assert reply.status_code == 400, reply.text
    assert reply.json()["field"].startswith(f"messages[1]{'.' if field else ''}{field}")
    assert (await alice.get("/api/v1/chats")).json()["chats"] == []


def lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


EXPORT = (
    lines({"type": "chat", "id": "good"}, *({"type": "message"} | m for m in MESSAGES))
    + b'{"type": "chat", "id": "half"}\n\n'
    + b'{"type": "message", "role": "user", "content": "caf\xe9 \\u0000"}\n'
    + lines(
        {"type": "chat", "id": "bad", "title": "Bad"},
        {"type": "message", "role": "user", "content": said("fine")},
        {"type": "message", "role": "user", "content": [{"type": "text"}]},
    )
    + lines({"type": "chat", "id": "empty"})
)


async def test_the_command_imports_what_is_whole_and_names_the_lines_of_the_rest(
    gateway: RunningGateways, alice: httpx2.AsyncClient, alice_token: str, tmp_path: Path
) -> None:
    path = tmp_path / "export.jsonl"
    path.write_bytes(EXPORT)
    access = ["--url", gateway.address, "--token", alice_token]

    async def run(*options: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, import_, [str(path), *options])
        return result.exit_code, result.output

    checked = await run("--dry-run")
    first = await run(*access)
    second = await run(*access)

    assert checked[0] == first[0] == second[0] == 1
    for _, output in (checked, first, second):
        assert "line 12: Neither a list of envelopes" in output
        assert "chat 'empty' has no messages" in output
        assert "chat 'half': 1 lines are no UTF-8" in output
    assert "2 would be imported, 0 imported before, 2 refused" in checked[1]
    assert "2 imported, 0 imported before, 2 refused" in first[1]
    assert "0 imported, 2 imported before, 2 refused" in second[1]
    chats = (await alice.get("/api/v1/chats")).json()["chats"]
    assert sorted(chat["title"] for chat in chats) == ["What is in the sea?", "caf\ufffd \ufffd"]


@pytest.mark.parametrize(
    ("export", "why"),
    [
        (b'{"type": "message", "role": "user", "content": "a"}', "line 1: a message before"),
        (lines({"type": "chat", "id": "a"}) + b'{"type": "chat", ', "line 2"),
        (
            lines(
                {"type": "chat", "id": "a"},
                {"type": "message", "role": "user", "content": "x", "chat_id": "b"},
            ),
            "line 2: a message of 'b'",
        ),
    ],
)
def test_what_belongs_to_no_chat_ends_the_reading(export: bytes, why: str) -> None:
    with pytest.raises(LineError, match=why):
        list(read_export(export.splitlines(keepends=True)))


# -- NUL and invalid UTF-8, both ways ------------------------------------------------------------


async def test_a_nul_survives_rpc_and_postgresql(
    store: StoreDriver, alice: httpx2.AsyncClient, database_url: str
) -> None:
    """What a model or a tool says is kept as it is; only text columns show a space instead."""
    chat = (
        await store.rpc.call(
            people.CREATE, people.CreateChat(store.actor, parts=text("a\0b \U0001f30a"))
        )
    ).chat
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant("c\0d"))

    assert [words_of(message) for message in await store.messages(chat.id)] == [
        "a\0b \U0001f30a",
        "c\0d",
    ]
    assert chat.title == "a b \U0001f30a"
    shown = await alice.get(f"/api/v1/chats/{chat.id}/messages")
    assert [m["parts"][0]["text"] for m in shown.json()["messages"]] == [
        "a\0b \U0001f30a",
        "c\0d",
    ]
    found = await alice.get("/api/v1/chats", params={"q": "d"})
    assert [one["id"] for one in found.json()["chats"]] == [chat.id]
    connection = await asyncpg.connect(database_url)
    try:
        stored = await connection.fetchval(
            "SELECT min(content::text) FROM messages WHERE chat_id = $1", chat.id
        )
    finally:
        await connection.close()
    assert "\\u0000" in stored


async def test_a_nul_of_a_person_is_shown_and_no_utf8_is_refused(
    alice: httpx2.AsyncClient, store: StoreDriver
) -> None:
    made = await alice.post("/api/v1/chats", json={"text": "a\0b", "model": "demo/echo"})
    chat_id = ChatId(made.json()["chat"]["id"])

    refused = [
        await alice.post(
            f"/api/v1/chats/{chat_id}/messages",
            content=content,
            headers={"Content-Type": "application/json"},
        )
        for content in (b'{"text": "caf\xe9"}', b'{"text": "\\ud800"}')
    ]

    assert words_of((await store.messages(chat_id))[0]) == "a\ufffdb"
    assert {(reply.status_code, reply.json()["field"]) for reply in refused} == {(400, "body")}


WORDS = "a long story " * 100
STORY = [
    {"role": "user" if number % 2 == 0 else "assistant", "content": said(f"{number} {WORDS}")}
    for number in range(2400)
]


async def test_a_chat_larger_than_a_request_arrives_at_once(
    gateway: RunningGateways, alice: httpx2.AsyncClient, alice_token: str, tmp_path: Path
) -> None:
    export = lines({"type": "chat", "id": "long"}, *({"type": "message"} | m for m in STORY))
    assert len(export) > 3_000_000
    (tmp_path / "x.jsonl").write_bytes(export)
    arguments = [str(tmp_path / "x.jsonl"), "--url", gateway.address, "--token", alice_token]

    for summary in ("1 imported, 0 imported before", "0 imported, 1 imported before"):
        done = await asyncio.to_thread(CliRunner().invoke, import_, arguments)
        assert done.exit_code == 0, done.output
        assert summary in done.output
    (chat,) = (await alice.get("/api/v1/chats")).json()["chats"]
    newest = (await alice.get(f"/api/v1/chats/{chat['id']}/messages?limit=1")).json()["messages"]
    assert newest[-1]["parts"][0]["text"] == f"2399 {WORDS}"


async def test_what_was_brought_before_is_seen_by_nobody_and_must_be_whole(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    async def bring(who: httpx2.AsyncClient, first: int, *words: str) -> None:
        messages = [{"role": "user", "content": said(one)} for one in words]
        body = {"client_key": "k", "first": first, "messages": messages}
        done = await who.put("/api/v1/chats/import/messages", json=body)
        assert done.status_code == 204, done.text

    last = {"client_key": "k", "messages": [{"role": "user", "content": said("last")}]}
    await bring(alice, 0, "one", "two")
    await bring(alice, 3, "four")
    assert (await alice.get("/api/v1/chats")).json()["chats"] == []
    lacking = await alice.post("/api/v1/chats/import", json=last | {"staged": 4})
    assert (lacking.status_code, lacking.json()["details"]["first"]) == (409, 2)
    theirs = await bob.post("/api/v1/chats/import", json=last | {"staged": 4})
    assert (theirs.status_code, theirs.json()["details"]["first"]) == (409, 0)

    await bring(alice, 2, "three")
    await bring(alice, 2, "three again")
    made = await alice.post("/api/v1/chats/import", json=last | {"staged": 4})
    again = await alice.post("/api/v1/chats/import", json=last | {"staged": 4})

    assert made.status_code == 201, made.text
    assert again.json() == made.json() | {"created": False}
    found = (await alice.get(f"{made.headers['Location']}/messages")).json()["messages"]
    assert [m["parts"][0]["text"] for m in found] == ["one", "two", "three again", "four", "last"]
    keyless = await alice.post(
        "/api/v1/chats/import", json={"messages": last["messages"], "staged": 1}
    )
    assert (keyless.status_code, keyless.json()["field"]) == (400, "client_key")
