"""One server: connected, listed, called, and connected again when it has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Any, Final, Literal, cast

import httpx2
import mcp_types as types
import structlog
from mcp import Client, MCPError

# The public names are not exported.
from mcp.client._input_required import InputRequiredRoundsExceededError
from mcp.client._transport import TransportStreams
from mcp.client.session import IncomingMessage
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from pydantic import ValidationError

from steersman_contracts.hooks import Tool, ToolContext, ToolResult
from steersman_contracts.parts import JsonObject
from steersman_plugin_mcp.config import (
    HttpServer,
    Server,
    SseServer,
    StdioServer,
    headers_of,
)
from steersman_plugin_mcp.http import ANYWHERE, Reach, http_transport, sse_transport
from steersman_plugin_mcp.listing import offered
from steersman_plugin_mcp.naming import line
from steersman_plugin_mcp.results import to_result
from steersman_plugin_mcp.stdio import stdio_transport
from steersman_plugin_mcp.wire import Wire, watched

log = structlog.stdlib.get_logger()

REFRESH_S: Final = 300.0
"""Seconds after which the tools are listed again, also if nobody said that they changed."""
_SETTLE_S: Final = 1.0
"""Seconds between two lists, however often the server says that it changed."""
_RETRY_S: Final = 30.0
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0
_STEADY_S: Final = 60.0
"""Seconds after which a connection that was lost counts as a good one."""
_WAIT_S: Final = 10.0
"""Seconds that a call waits for a connection that is being made anew."""
_STOP_S: Final = 8.0
_MAX_PAGES: Final = 20
_MAX_LISTED: Final = 1_000
_MAX_REASON: Final = 300
_DEAD: Final = ("Connection closed", "SSE stream")
"""How the SDK's own errors begin when the line is dead."""


class Lost(Exception):
    """The connection is gone; the text says why, as far as is known."""


class Connection:
    """One server, from the start of the plugin to its end.

    Attributes:
        tools: What it offers now.
        warnings: What people should know about it.
        answered: Set once it is known what it offers, or why it offers nothing.
        calls: How many run.
    """

    def __init__(
        self,
        server: Server,
        service: Mapping[str, str],
        on_change: Callable[[], None],
        *,
        discovery_s: float,
        reach: Reach = ANYWHERE,
    ) -> None:
        """Do nothing yet.

        Args:
            server: Which one.
            service: The environment of the service.
            on_change: Called when `tools` or `warnings` are others.
            discovery_s: Seconds for connecting and listing the tools, and for listing them again.
            reach: How to get to a server behind a URL.
        """
        self.tools: tuple[Tool[Any], ...] = ()
        self.warnings: tuple[str, ...] = (f"server {server.slug!r} has not answered yet",)
        self.answered = asyncio.Event()
        self.calls = 0
        self._reach = reach
        self._server = server
        self._service = service
        self._on_change = on_change
        self._discovery_s = discovery_s
        self._client: Client | None = None
        self._ready = asyncio.Event()
        self._changed = asyncio.Event()
        self._stopping = False
        # A server that keeps silent about what it does not know, in place of refusing it, is asked
        # in the words of the revision before the next time.
        self._mode: Literal["auto", "legacy"] = "auto"
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect, and stay connected, in the background."""
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name=f"mcp-{self._server.slug}"
        )

    async def stop(self) -> None:
        """Disconnect; calls that run end with an error."""
        self._stopping = True
        if self._task is None:
            return
        self._task.cancel()
        _, pending = await asyncio.wait({self._task}, timeout=_STOP_S)
        if pending:
            log.error("mcp.stop_hangs", server=self._server.slug)

    async def call(self, raw_name: str, context: ToolContext, arguments: JsonObject) -> ToolResult:
        """Call one of its tools. A cancelled call is cancelled at the server as well."""
        self.calls += 1
        try:
            return await self._call(raw_name, context, arguments)
        finally:
            self.calls -= 1

    async def _call(self, raw_name: str, context: ToolContext, arguments: JsonObject) -> ToolResult:
        slug = self._server.slug
        limit_s = min(self._server.call_timeout_s, context.timeout_s)

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            amount = f"{progress:g}" if total is None else f"{progress:g} of {total:g}"
            context.progress(line(message, 500) if message else amount)

        try:
            async with asyncio.timeout(limit_s):
                client = await self._connected()
                result = await client.call_tool(raw_name, arguments, progress_callback=on_progress)
        except Lost as error:
            return ToolResult.error(f"the MCP server {slug!r} is not connected: {error}")
        except TimeoutError:
            return ToolResult.error(
                f"timed out: the MCP server {slug!r} has not answered for {limit_s:g} s and was "
                "told to stop; effect unknown"
            )
        except MCPError as error:
            self._changed.set()  # find out whether the connection is still good
            # The same number is many a server's own for any error.
            if error.code == types.CONNECTION_CLOSED and error.message.startswith(_DEAD):
                return ToolResult.error(
                    f"interrupted: the MCP server {slug!r} closed the connection during the call, "
                    "effect unknown"
                )
            return ToolResult.error(f"the MCP server {slug!r} refused: {self._reason(error)}")
        except Exception as error:  # noqa: BLE001  # the SDK checks answers with many kinds of error
            self._changed.set()
            return ToolResult.error(f"the MCP server {slug!r} failed: {self._reason(error)}")
        return to_result(result)

    async def _connected(self) -> Client:
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._ready.wait()
        except TimeoutError:
            raise Lost("; ".join(self.warnings) or "it has not answered yet") from None
        if self._client is None:
            raise Lost("it went away")
        return self._client

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_S
        while not self._stopping:
            began = loop.time()
            listed = False
            wire = Wire()
            try:
                async with self._session(wire) as client:
                    listed = True
                    await self._watch(client, wire)
            except Exception as error:  # noqa: BLE001  # the outermost loop: a server costs itself
                if self._stopping:
                    return
                if not listed and isinstance(_innermost(error), TimeoutError):
                    self._mode = "legacy" if self._mode == "auto" else "auto"
                reason = wire.fault or self._reason(error)
                log.warning("mcp.disconnected", server=self._server.slug, reason=reason)
                # Its tools stay while it is connected again for the first time, so that a short
                # break does not take tools from a chat that is using them.
                self._show(
                    self.tools if listed else (),
                    (f"server {self._server.slug!r} is not connected: {reason}",),
                )
            if loop.time() - began > _STEADY_S:
                pause = _FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    @asynccontextmanager
    async def _session(self, wire: Wire) -> AsyncGenerator[Client]:
        """Connect and list the tools within the time for it, and be ready for calls meanwhile."""
        client = Client(
            self._transport(wire),
            message_handler=self._on_message,
            client_info=types.Implementation(
                name="steersman", version=version("steersman-plugin-mcp")
            ),
            cache=None,
            mode=self._mode,
        )
        async with asyncio.timeout(self._discovery_s) as limit, client:
            await self._list(client, wire)
            limit.reschedule(None)
            self._client = client
            self._ready.set()
            log.info(
                "mcp.connected",
                server=self._server.slug,
                protocol=client.protocol_version,
                tools=len(self.tools),
            )
            try:
                yield client
            finally:
                self._ready.clear()
                self._client = None

    @asynccontextmanager
    async def _transport(self, wire: Wire) -> AsyncGenerator[TransportStreams]:
        async with self._open(wire) as streams:
            yield watched(streams, wire)

    def _open(self, wire: Wire) -> AbstractAsyncContextManager[TransportStreams]:
        match self._server:
            case StdioServer() as server:
                return stdio_transport(server, self._service, wire)
            case HttpServer() as server:
                return http_transport(server, wire, self._reach)
            case SseServer() as server:
                return sse_transport(server, wire, self._reach)

    async def _watch(self, client: Client, wire: Wire) -> None:
        """List the tools again whenever they may have changed; return never.

        Raises:
            Lost: The connection is gone.
        """
        listening: asyncio.Task[None] | None = None
        failed = False
        try:
            while True:
                if listening is None or listening.done():
                    listening = asyncio.get_running_loop().create_task(self._listen(client))
                await _first(_RETRY_S if failed else REFRESH_S, self._changed, wire.ended)
                if wire.ended.is_set():
                    raise Lost(wire.fault or "it closed the connection")
                self._changed.clear()
                try:
                    async with asyncio.timeout(self._discovery_s):
                        await self._list(client, wire)
                    failed = False
                except TimeoutError:
                    # It may be busy with calls, which a new connection would end.
                    if failed:
                        raise
                    failed = True
                await _first(_SETTLE_S, wire.ended)
        finally:
            if listening is not None:
                listening.cancel()

    async def _listen(self, client: Client) -> None:
        """Hear of changes from servers of the current protocol; older ones just send them."""
        try:
            async with client.listen(tools_list_changed=True) as news:
                async for _ in news:
                    self._changed.set()
        except (ListenNotSupportedError, SubscriptionLost, MCPError, TimeoutError):
            return  # the list is read every few minutes anyway

    async def _on_message(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._changed.set()

    async def _list(self, client: Client, wire: Wire) -> None:
        wire.malformed = 0
        listed: list[types.Tool] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            listed += page.tools
            if not page.next_cursor or page.next_cursor == cursor or len(listed) >= _MAX_LISTED:
                break
            cursor = page.next_cursor
        tools, wrong = offered(self._server, listed[:_MAX_LISTED], self.call)
        if wire.malformed:
            wrong = (*wrong, f"{wire.malformed} of what it lists are no tools")
        self._show(tools, tuple(f"server {self._server.slug!r}: {text}" for text in wrong))

    def _show(self, tools: tuple[Tool[Any], ...], warnings: tuple[str, ...]) -> None:
        self.tools, self.warnings = tools, warnings
        self.answered.set()
        self._on_change()

    def _reason(self, error: BaseException) -> str:
        """What went wrong, in a line for people and models, without what the file keeps secret."""
        error = _innermost(error)
        match error:
            case TimeoutError():
                text = f"it did not answer within {self._discovery_s:g} s"
            case MCPError():
                text = error.message or f"error {error.code}"
            case httpx2.HTTPStatusError():
                text = f"it answered with HTTP {error.response.status_code}"
            case httpx2.TransportError() | OSError() | Lost():
                text = str(error) or type(error).__name__
            case ValidationError():
                text = "its answer is no MCP message"
            case InputRequiredRoundsExceededError():
                text = f"it has asked for more {error.max_rounds} times, in place of an answer"
            case _:
                text = f"{type(error).__name__}"
        return line(self._hidden(text), _MAX_REASON)

    def _hidden(self, text: str) -> str:
        server = self._server
        if isinstance(server, StdioServer):
            secrets = list(server.env.values())
        else:
            secrets = [*headers_of(server.auth).values(), server.url.partition("?")[2]]
        for secret in secrets:
            for part in (secret, secret.removeprefix("Bearer ")):
                if len(part) >= 6:  # shorter ones are flags and numbers
                    text = text.replace(part, "***")
        return text


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        error = group.exceptions[0]
    return error


async def _first(timeout_s: float, *events: asyncio.Event) -> None:
    """Wait until one of the events is set, or the time is over."""
    loop = asyncio.get_running_loop()
    waiting = {loop.create_task(event.wait()) for event in events}
    try:
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
