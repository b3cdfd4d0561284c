"""A server made with the SDK: `python friendly.py [stdio | http | sse | both] [port]`."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from contextlib import suppress
from pathlib import Path

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

server = MCPServer("friendly")
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


class Point(BaseModel):
    x: int
    y: int


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def point(x: int) -> Point:
    """A point on the diagonal."""
    return Point(x=x, y=x)


@server.tool()
def everything() -> types.CallToolResult:
    """One block of each kind."""
    return types.CallToolResult(
        content=[
            types.TextContent(text="words"),
            types.ImageContent(data=PIXEL, mime_type="image/png"),
            types.AudioContent(data=PIXEL, mime_type="audio/wav"),
            types.EmbeddedResource(
                resource=types.TextResourceContents(uri="memo://one", text="a memo")
            ),
            types.EmbeddedResource(
                resource=types.BlobResourceContents(
                    uri="memo://folder/two.bin", blob=PIXEL, mime_type="application/zip"
                )
            ),
            types.ResourceLink(uri="https://example.org/x", name="x", mime_type="text/html"),
        ]
    )


@server.tool()
def fail() -> str:
    """Always fails."""
    raise ToolError("no luck today")


@server.tool()
async def wait(ctx: Context, note: str = "") -> str:
    """Wait for ever; leave a note when cancelled."""
    await ctx.report_progress(1, 3, "waiting")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if note:
            Path(note).write_text("cancelled")  # noqa: ASYNC240  # a few bytes
        raise
    return "never"


@server.tool()
def environment() -> list[str]:
    """The names of the environment's variables."""
    return sorted(os.environ)


@server.tool()
async def grow(ctx: Context) -> str:
    """Learn another tool and tell about it."""
    server.add_tool(add, name="learned", description="Just learned.")
    # Each of the two is for servers of one revision of the protocol.
    with suppress(Exception):
        await ctx.session.send_tool_list_changed()
    await ctx.notify_tools_changed()
    return "grown"


@server.tool()
def die() -> str:
    """End the process in the middle of the call."""
    os._exit(3)


def serve_http(kind: str, port: int) -> None:
    import uvicorn  # a process that speaks on its pipes does without

    app = server.sse_app() if kind == "sse" else server.streamable_http_app()
    if kind == "both":
        app.router.routes.extend(server.sse_app().routes)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        sys.stderr.write("friendly is up\n")
        server.run("stdio")
    else:
        serve_http(sys.argv[1], int(sys.argv[2]))
