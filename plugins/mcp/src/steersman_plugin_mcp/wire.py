"""What stands between a server and the SDK: size limits, and knowing that the line is dead."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeGuard

import anyio
import mcp_types as types
from mcp.client._transport import ReadStream, TransportStreams  # the public names are not exported
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

MAX_MESSAGE: Final = 8 << 20
"""Bytes of one message from a server."""
MAX_LISTED: Final = 1_000
"""Tools in one message."""

Incoming: TypeAlias = SessionMessage | Exception


class Wire:
    """One connection.

    Attributes:
        ended: Set when nothing more will come.
        fault: Why, if that is known.
        malformed: Listed tools so far that were none.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.fault: str | None = None
        self.malformed = 0

    def end(self, fault: str | None = None) -> None:
        """The first fault stays."""
        if not self.ended.is_set():
            self.fault = fault
            self.ended.set()


class Watched:
    """A transport's incoming stream, looked at before the SDK does."""

    def __init__(self, inner: ReadStream[Incoming], wire: Wire) -> None:
        self._inner = inner
        self._wire = wire

    @property
    def last_context(self) -> Any:
        """Of the sender of the last message, where the transport knows it."""
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> Incoming:
        """Take the next message."""
        try:
            item = await self._inner.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._wire.end()
            raise
        self._wire.malformed += _thin_out(item)
        return item

    async def aclose(self) -> None:
        """Close it."""
        self._wire.end()
        await self._inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Incoming:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        await self.aclose()


def watched(streams: TransportStreams, wire: Wire) -> TransportStreams:
    """The same streams, watched."""
    return Watched(streams[0], wire), streams[1]


def _thin_out(item: Incoming) -> int:
    """Shorten a list of tools, take out what is no tool, and the output schemas of the others.

    The SDK refuses the whole list for one wrong entry.

    It also checks results against the output schema in the event loop: a pattern made for it would
    stop the service. What a tool answers is data for a model, of any shape.
    """
    if isinstance(item, Exception) or not isinstance(item.message, types.JSONRPCResponse):
        return 0
    tools = item.message.result.get("tools")
    if not _is_array(tools):
        return 0
    del tools[MAX_LISTED:]
    kept = [tool for tool in tools if _is_tool(tool)]
    for tool in kept:
        tool.pop("outputSchema", None)
    malformed = len(tools) - len(kept)
    tools[:] = kept
    return malformed


def _is_tool(value: Any) -> TypeGuard[dict[str, Any]]:
    try:
        types.Tool.model_validate(value)
    except ValidationError:
        return False
    return value["inputSchema"].get("type") == "object"


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
