"""Calls about something that one replica holds, such as a process: they run there.

The replica that a call has reached keeps it in the book and passes it on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import msgspec
import structlog

from steersman_contracts import subjects
from steersman_contracts.errors import SteersmanError
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.tools import (
    CALL_TOOL,
    PING_HOST,
    CallTool,
    PingHost,
    ToolSpec,
)
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient
from steersman_tools.context import CallContext
from steersman_tools.execution import LocalTool
from steersman_tools.forwarding import Address, forward

log = structlog.stdlib.get_logger()

GONE: Final = (
    "its host is gone: the tools service was started anew or stopped there, and what it held has "
    "ended with it"
)
_WAIT_S: Final = 1.0
"""For a host that connects again; one that is gone is not waited for longer."""
_PING_S: Final = 2.0
HELD: Final = replace(CALL_TOOL, name="calls.held")
"""Asked of one host: run the call there, which another one has in the book."""


def short(host: str) -> str:
    """What identifies a host, short enough for ids that models repeat: its random end."""
    return host.rpartition("-")[2]


class Hosts:
    """All replicas of the service, as far as calls have to run on a certain one."""

    def __init__(
        self, host: str, client: NatsClient, listed: Callable[[], Awaitable[tuple[str, ...]]]
    ) -> None:
        """Find the way to the others.

        Args:
            host: This one.
            client: The way to them.
            listed: The hosts that live.
        """
        self.here = short(host)
        self._client = client
        self._rpc = RpcClient(client, wait_for_service_s=_WAIT_S)
        self._at_once = RpcClient(client, wait_for_service_s=0.0)
        self._listed = listed

    def routed(self, tool: LocalTool) -> LocalTool | RoutedTool:
        """The tool, as it is run wherever what it is about is held."""
        facts = tool.tool
        return tool if facts.host_of is None and facts.merge is None else RoutedTool(self, tool)

    async def ask(self, host: str, request: CallTool, context: CallContext) -> ToolResult:
        """Let a host run a call.

        Raises:
            SteersmanError: There is no result.
        """
        address = Address(
            subjects.tool_host(host, HELD.name),
            subjects.tool_cancel(subjects.ALL_TOOL_HOSTS),
        )
        request = msgspec.structs.replace(request, timeout_s=context.timeout_s)
        return await forward(
            self._client,
            self._rpc,
            address,
            request,
            context,
            alive=lambda: self._answers(host),
        )

    async def others(self) -> list[str]:
        """The other hosts that live."""
        found = (short(host) for host in await self._listed())
        return sorted(host for host in found if host != self.here)

    async def _answers(self, host: str) -> bool:
        ping = replace(PING_HOST, address=subjects.tool_host(host, PING_HOST.name))
        try:
            await self._at_once.call(ping, PingHost(), deadline_s=_PING_S)
        except SteersmanError:
            return False
        return True


class RoutedTool:
    """A tool whose calls run on the host that holds what they are about, or on all of them."""

    def __init__(self, hosts: Hosts, tool: LocalTool) -> None:
        self._hosts = hosts
        self._tool = tool

    @property
    def spec(self) -> ToolSpec:
        return self._tool.spec

    def decode(self, arguments: JsonObject) -> Any:
        return self._tool.decode(arguments)

    async def run(self, request: CallTool, context: CallContext, arguments: Any) -> ToolResult:
        facts = self._tool.tool
        if facts.merge is not None:
            return facts.merge(await self._everywhere(request, context, arguments))
        host = None if facts.host_of is None else facts.host_of(arguments)
        if host is None or host == self._hosts.here:
            return await self._tool.run(request, context, arguments)
        try:
            return await self._hosts.ask(host, request, context)
        except SteersmanError as error:
            log.info("host.gone", host=host, error_code=error.code)
            return ToolResult.error(GONE)

    async def _everywhere(
        self, request: CallTool, context: CallContext, arguments: Any
    ) -> list[ToolResult]:
        async def ask(host: str) -> ToolResult | None:
            try:
                return await self._hosts.ask(host, request, context)
            except SteersmanError as error:  # it holds nothing any more
                log.info("host.gone", host=host, error_code=error.code)
                return None

        async with asyncio.TaskGroup() as group:
            mine = group.create_task(self._tool.run(request, context, arguments))
            theirs = [group.create_task(ask(host)) for host in await self._hosts.others()]
        found = [task.result() for task in theirs]
        return [mine.result(), *(result for result in found if result is not None)]
