"""Files over HTTP: up, down, in messages, and never to anybody else."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncGenerator
from typing import Any

import asyncpg
import httpx2
import pytest
from support.chat_driver import StoreDriver

from steersman_contracts.ids import UserId
from steersman_contracts.rpc.files import CHUNK_BYTES, MAX_FILE_BYTES

pytestmark = pytest.mark.one_stack

PNG = b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(CHUNK_BYTES * 2)


async def upload(client: httpx2.AsyncClient, content: bytes, name: str = "") -> Any:
    reply = await client.post(
        "/api/v1/files",
        params={"name": name} if name else {},
        content=content,
        headers={"Content-Type": "application/octet-stream"},
    )
    assert reply.status_code == 201, reply.text
    return reply.json()


async def count_files(database_url: str, owner: UserId) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetchval("SELECT count(*) FROM files WHERE owner_id = $1", owner)
    finally:
        await connection.close()


async def test_a_file_goes_up_and_comes_down_as_it_was(alice: httpx2.AsyncClient) -> None:
    sent = await alice.post("/api/v1/files?name=sea.png", content=PNG)

    assert sent.status_code == 201
    file = sent.json()
    assert (file["name"], file["media_type"], file["size"]) == ("sea.png", "image/png", len(PNG))
    assert file["sha256"] == hashlib.sha256(PNG).hexdigest()
    got = await alice.get(sent.headers["Location"])
    assert got.content == PNG
    headers = {
        name: got.headers[name]
        for name in (
            *("content-type", "content-length", "content-disposition", "etag"),
            *("x-content-type-options", "content-security-policy", "cache-control"),
        )
    }
    assert headers == {
        "content-type": "image/png",
        "content-length": str(len(PNG)),
        "content-disposition": "attachment; filename=\"sea.png\"; filename*=UTF-8''sea.png",
        "etag": f'"{file["sha256"]}"',
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
        "cache-control": "private, no-cache",
    }


async def test_a_form_brings_its_first_file(alice: httpx2.AsyncClient) -> None:
    page = b"<script>alert(1)</script>\r\n--not-the-boundary\r\n" * 20_000
    sent = await alice.post(
        "/api/v1/files",
        data={"comment": "x" * 1000},
        files=[
            ("file", ("..\\Gr\u00fc\u00dfe \u2603.html", page, "text/html")),
            ("other", ("b.txt", b"b", "text/plain")),
        ],
    )

    assert sent.status_code == 201, sent.text
    assert (sent.json()["name"], sent.json()["media_type"], sent.json()["size"]) == (
        "Gr\u00fc\u00dfe \u2603.html",
        "text/plain",
        len(page),
    )
    got = await alice.get(sent.headers["Location"])
    assert got.content == page
    assert got.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert got.headers["Content-Disposition"] == (
        "attachment; filename=\"Gr__e _.html\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%E2%98%83.html"
    )


PARTS: list[tuple[dict[str, str], int, int, int]] = [
    ({"Range": "bytes=0-9"}, 206, 0, 10),
    ({"Range": f"bytes={CHUNK_BYTES - 1}-{CHUNK_BYTES}"}, 206, CHUNK_BYTES - 1, CHUNK_BYTES + 1),
    ({"Range": "bytes=-5"}, 206, len(PNG) - 5, len(PNG)),
    ({"Range": f"bytes=100-{10**17}"}, 206, 100, len(PNG)),
    ({"Range": "bytes=0-0,5-9"}, 200, 0, len(PNG)),
    ({"Range": f"bytes={len(PNG)}-"}, 200, 0, len(PNG)),
    ({"Range": "bytes=0-9", "If-Range": '"older"'}, 200, 0, len(PNG)),
    ({"If-None-Match": '"other"'}, 200, 0, len(PNG)),
    ({"If-None-Match": f'"x", W/"{hashlib.sha256(PNG).hexdigest()}"'}, 304, 0, 0),
]


async def test_a_part_of_a_file_can_be_asked_for(alice: httpx2.AsyncClient) -> None:
    file = await upload(alice, PNG)

    for headers, status, start, end in PARTS:
        got = await alice.get(f"/api/v1/files/{file['id']}", headers=headers)
        assert (got.status_code, got.content) == (status, PNG[start:end]), headers
        if status == 206:
            assert got.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(PNG)}"


async def test_a_file_may_have_ten_megabytes_and_no_more(
    alice: httpx2.AsyncClient, store: StoreDriver, database_url: str
) -> None:
    largest = b"%PDF-" + bytes(MAX_FILE_BYTES - 5)

    async def chunks() -> AsyncGenerator[bytes]:
        for start in range(0, len(largest) + 1, 100_000):
            yield (largest + b"x")[start : start + 100_000]

    assert (await upload(alice, largest))["size"] == MAX_FILE_BYTES
    for body in ({"content": chunks()}, {"files": {"file": ("a", largest + b"x")}}):
        refused = await alice.post("/api/v1/files", **body)  # pyright: ignore[reportArgumentType]  # either
        assert refused.status_code == 413
        assert refused.json()["details"] == {"limit": MAX_FILE_BYTES}
        assert "10 MB" in refused.json()["detail"]
    assert await count_files(database_url, store.actor.user_id) == 1, (
        "what was refused leaves nothing behind"
    )


NO_FILES: list[tuple[bytes, str, int, str, str | None]] = [
    (b"\x7fELF\0", "image/png", 415, "unsupported_media_type", None),
    (b"--b\r\nnonsense", "multipart/form-data; boundary=b", 400, "invalid_request", "body"),
    (b"abc", "multipart/form-data", 400, "invalid_request", "body"),
    (
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n',
        "multipart/form-data; boundary=b",
        400,
        "invalid_request",
        "body",
    ),
]


async def test_what_is_no_file_is_refused(
    alice: httpx2.AsyncClient, store: StoreDriver, database_url: str
) -> None:
    for content, media_type, status, code, field in NO_FILES:
        headers = {"Content-Type": media_type}
        reply = await alice.post("/api/v1/files", content=content, headers=headers)
        body = reply.json()
        assert (reply.status_code, body["code"], body.get("field")) == (status, code, field)
    assert await count_files(database_url, store.actor.user_id) == 0


async def test_messages_refer_to_files_and_chats_list_them(alice: httpx2.AsyncClient) -> None:
    file = await upload(alice, b"# Sea\n", "sea.md")
    parts = [{"type": "text", "text": "Read this"}, {"type": "file", "file_id": file["id"]}]

    created = await alice.post("/api/v1/chats", json={"parts": parts, "model": "demo/echo"})

    assert created.status_code == 201, created.text
    assert created.json()["message"]["parts"][1] == {
        "type": "file",
        "media_type": "text/markdown",
        "name": "sea.md",
        "file_id": file["id"],
    }
    address = created.headers["Location"]
    listed = (await alice.get(f"{address}/files")).json()["files"]
    assert [(one["id"], "expires_at" in one) for one in listed] == [(file["id"], False)]
    for bad, field in (
        ({"type": "file", "file_id": "0190a0a0-0000-7000-8000-000000000001"}, "file_id"),
        ({"type": "file", "file_id": file["id"], "data": "AAAA"}, "data"),
        ({"type": "file", "file_id": file["id"], "media_type": "text/html"}, "media_type"),
    ):
        refused = await alice.post(f"{address}/messages", json={"parts": [bad]})
        assert refused.status_code in (400, 404)
        assert refused.json()["field"] == f"parts[0].{field}"


async def test_a_file_is_its_owners_alone(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    file = await upload(alice, PNG)
    address = f"/api/v1/files/{file['id']}"
    part = {"type": "file", "file_id": file["id"]}
    chat = (await alice.post("/api/v1/chats", json={"model": "demo/echo"})).headers["Location"]

    replies = [
        await bob.get(address),
        await bob.get(address, headers={"If-None-Match": f'"{file["sha256"]}"'}),
        await bob.delete(address),
        await bob.post("/api/v1/chats", json={"parts": [part], "model": "demo/echo"}),
        await bob.get(f"{chat}/files"),
        await bob.get("/api/v1/files/nonsense"),
        await bob.get("/api/v1/files/..%2f..%2fetc%2fpasswd"),
    ]

    assert {(reply.status_code, reply.json()["code"]) for reply in replies} == {(404, "not_found")}
    assert (await alice.delete(address)).status_code == 204
    assert (await alice.get(address)).status_code == 404
