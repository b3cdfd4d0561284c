"""Servers behind a URL that answer badly."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from integration.tools.conftest import StartTools
from integration.tools.host import Caller
from integration.tools.mcp_host import configured, report, until

KEY = "k-1234567890"


class Answering:
    """An HTTP server that gives one answer to everything, and remembers what it was sent."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.port = 0
        self.heard: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def answering(answer: bytes) -> AsyncGenerator[Answering]:
    server = Answering(answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


def response(status: str, *headers: str, body: bytes = b"") -> bytes:
    head = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "connection: close"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


JSON = "content-type: application/json"
BAD = {
    "huge": response("200 OK", JSON, body=b'"' + b"x" * (9 << 20) + b'"'),
    "packed": response("200 OK", JSON, "content-encoding: gzip", body=gzip.compress(b"{}")),
    "nonsense": response("200 OK", JSON, body=b"<html>"),
    "page": response("200 OK", "content-type: text/html", body=b"<html>"),
    "closed": response(f"401 {KEY}", JSON, body=KEY.encode()),
    "event": response(
        "200 OK", "content-type: text/event-stream", body=b"data: " + b"x" * (9 << 20) + b"\n\n"
    ),
}


@pytest.mark.parametrize("transport", ["http", "sse"])
@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_answer_is_a_warning_without_the_key(
    kind: str, transport: str, start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    async with answering(BAD[kind]) as server:
        described = {
            "slug": "bad",
            "transport": transport,
            "url": f"http://127.0.0.1:{server.port}/mcp?key={KEY}",
            "auth": {"type": "api_key", "key": KEY},
        }
        await start_tools(configured(tmp_path, described, discovery_s=5))

        catalog = await until(caller, lambda found: "is not connected" in found.warnings[0])

    assert report(catalog).tools == ()
    assert KEY not in report(catalog).warnings[0]
    if (kind, transport) == ("huge", "http"):
        assert "more than 8388608 bytes" in report(catalog).warnings[0]
    assert f"authorization: bearer {KEY}".encode() in server.heard[0].lower()
    assert b"accept-encoding: identity" in server.heard[0].lower()


@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_the_key_does_not_follow_a_redirect_to_somebody_else(
    transport: str, start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    async with answering(response("200 OK", JSON, body=b"{}")) as thief:
        away = response("307 Temporary Redirect", f"location: http://127.0.0.1:{thief.port}/")
        async with answering(away) as server:
            described = {
                "slug": "bad",
                "transport": transport,
                "url": f"http://127.0.0.1:{server.port}/mcp",
                "auth": {"type": "api_key", "key": KEY},
            }
            await start_tools(configured(tmp_path, described, discovery_s=5))
            await until(caller, lambda found: "is not connected" in found.warnings[0])

        assert server.heard
        assert thief.heard == []
