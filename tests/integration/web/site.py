"""Real HTTP servers on the loopback interface, each answering as one function says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec


@dataclass
class Request:
    """What a client asked for."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def json(self) -> object:
        return msgspec.json.decode(self.body)


@dataclass
class Site:
    """A server that runs, and what it was asked for."""

    port: int
    requests: list[Request] = field(default_factory=list[Request])

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]


Answer: TypeAlias = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def head(status: int, *headers: str) -> bytes:
    """The start of an answer that ends with the connection."""
    return "\r\n".join([f"HTTP/1.1 {status} X", "Connection: close", *headers, "", ""]).encode()


def answer(status: int = 200, body: bytes = b"", *headers: str) -> bytes:
    """A whole answer."""
    return head(status, f"Content-Length: {len(body)}", *headers) + body


def page(body: str) -> bytes:
    return answer(200, body.encode(), "Content-Type: text/html; charset=utf-8")


@asynccontextmanager
async def serving(react: Answer, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Site]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    site = Site(0)
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            request = await _read(reader)
            site.requests.append(request)
            await react(request, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            tasks.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Request:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)


def fixed(pages: dict[str, bytes]) -> Answer:
    """Answer each path with fixed bytes, and anything else with 404."""

    async def react(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(pages.get(request.path, answer(404)))
        await writer.drain()

    return react
