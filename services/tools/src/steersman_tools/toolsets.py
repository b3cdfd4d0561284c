"""Tool hosts outside of this service: found by their beats, called over NATS, in any language.

A host belongs to a set, which offers the same tools everywhere. Every replica of this service hears
the same beats and orders the sets in the same way, so they agree about who owns a name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import structlog

from steersman_contracts import subjects
from steersman_contracts.errors import SteersmanError
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import JsonObject
from steersman_contracts.plugin import MAX_TOOLS, BadPlugin, check_spec
from steersman_contracts.rpc.tools import (
    LIST_TOOLS,
    CallTool,
    HostBeat,
    ListTools,
    PluginReport,
    ToolSpec,
)
from steersman_contracts.tool_schema import MAX_SCHEMA_BYTES
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient
from steersman_runtime.tasks import TaskGroup
from steersman_tools.context import CallContext
from steersman_tools.forwarding import Address, forward

log = structlog.stdlib.get_logger()

GONE_S: Final = 6.0
"""Seconds without a beat after which a host is gone: three of its intervals."""
MAX_SETS: Final = 100
MAX_HOSTS: Final = 1_000
_CATALOG_S: Final = 5.0

LOST: Final = "interrupted: the tool host stopped during the call, effect unknown"

_decode_beat = msgspec.json.Decoder(HostBeat).decode


@dataclass(slots=True)
class _Host:
    beat: HostBeat
    seen: float


class _Toolset:
    def __init__(self, name: str) -> None:
        self.name = name
        self.hosts: dict[str, _Host] = {}
        self.specs: tuple[ToolSpec, ...] = ()
        self.version = "0"
        self.error: str | None = None
        self.reading = False
        self.again = False

    @property
    def order(self) -> tuple[int, str]:
        """The set that was there first comes first; the name decides a draw."""
        return min(host.beat.started_at_ms for host in self.hosts.values()), self.name


class RemoteTool:
    """A tool of another host."""

    def __init__(self, spec: ToolSpec, toolset: str, client: NatsClient, rpc: RpcClient) -> None:
        self._spec = spec
        self._toolset = toolset
        self._client = client
        self._rpc = rpc

    @property
    def spec(self) -> ToolSpec:
        return self._spec

    def decode(self, arguments: JsonObject) -> JsonObject:
        return arguments  # the host checks them: only it knows how

    async def run(self, request: CallTool, context: CallContext, arguments: Any) -> ToolResult:
        request = msgspec.structs.replace(request, arguments=arguments, timeout_s=context.timeout_s)
        address = Address(
            subjects.toolset(self._toolset, "calls.run"),
            subjects.toolset(self._toolset, "calls.cancel"),
        )
        try:
            return await forward(self._client, self._rpc, address, request, context)
        except SteersmanError as error:
            log.warning("toolset.failed", toolset=self._toolset, error_code=error.code)
            if error.details.get("started"):
                return ToolResult.error(LOST)
            return ToolResult.error(f"the tool host {self._toolset!r} failed: {error}")


class Toolsets:
    """The tool hosts that are there at the moment."""

    def __init__(
        self, client: NatsClient, rpc: RpcClient, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._rpc = rpc
        self._clock = clock
        self._sets: dict[str, _Toolset] = {}
        self._reads = TaskGroup("toolsets")
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Listen for hosts, and notice those that are gone, until cancelled."""
        sid = self._client.listen(subjects.TOOLSET_BEATS, self._on_beat)
        try:
            while True:
                await asyncio.sleep(1)
                self._expire()
        finally:
            self._client.unlisten(sid)
            await self._reads.cancel()

    async def changed(self, timeout_s: float) -> None:
        """Wait until a set comes, goes or changes, for so long at most."""
        changed = self._changed
        try:
            async with asyncio.timeout(timeout_s):
                await changed.wait()
        except TimeoutError:
            return

    def merge(
        self, taken: Iterable[ToolSpec]
    ) -> tuple[dict[str, RemoteTool], tuple[PluginReport, ...]]:
        """The tools of all sets but those whose names are taken, and a report for each set."""
        owners = {spec.name: f"plugin {spec.plugin!r}" for spec in taken}
        tools: dict[str, RemoteTool] = {}
        reports: list[PluginReport] = []
        for toolset in sorted(self._sets.values(), key=lambda one: one.order):
            clashes: list[str] = []
            names: list[str] = []
            for spec in toolset.specs:
                if spec.name in owners:
                    clashes.append(f"its tool {spec.name!r} is offered by {owners[spec.name]}")
                    continue
                owners[spec.name] = f"tool host {toolset.name!r}"
                names.append(spec.name)
                tools[spec.name] = RemoteTool(spec, toolset.name, self._client, self._rpc)
            reports.append(
                PluginReport(
                    toolset.name,
                    toolset.version,
                    tuple(sorted(names)),
                    error="; ".join(filter(None, (toolset.error, *clashes))) or None,
                    hosts=tuple(sorted(toolset.hosts)),
                )
            )
        return tools, tuple(reports)

    def _on_beat(self, subject: bytes, _: bytes, __: bytes, payload: bytes) -> None:
        name, _beat, host = subject.decode().split(".")[-3:]
        try:
            beat = _decode_beat(payload)
            subjects.token(name)
            subjects.token(host)
        except (msgspec.DecodeError, ValueError):
            log.warning("toolset.bad_beat", subject=subject.decode()[:200])
            return
        toolset = self._sets.get(name)
        if toolset is None:
            if len(self._sets) >= MAX_SETS:
                return
            toolset = _Toolset(name)
        known = toolset.hosts.get(host)
        if known is None and len(toolset.hosts) >= MAX_HOSTS:
            return
        toolset.hosts[host] = _Host(beat, self._clock())
        if known is None or known.beat != beat:
            log.info("toolset.host_seen", toolset=name, host=host)
            self._sets[name] = toolset
            self._read_soon(toolset)

    def _read_soon(self, toolset: _Toolset) -> None:
        if toolset.reading:
            toolset.again = True
            return
        toolset.reading = True
        self._reads.start(self._read(toolset))

    async def _read(self, toolset: _Toolset) -> None:
        try:
            while True:
                toolset.again = False
                await self._read_catalog(toolset)
                if not toolset.again:
                    return
        finally:
            toolset.reading = False

    async def _read_catalog(self, toolset: _Toolset) -> None:
        method = replace(LIST_TOOLS, address=subjects.toolset(toolset.name, "catalog.list"))
        try:
            catalog = await self._rpc.call(method, ListTools(), deadline_s=_CATALOG_S)
            toolset.specs = _checked(catalog.tools, toolset.name)
            toolset.version = catalog.plugins[0].version[:100] if catalog.plugins else "0"
            toolset.error = None
        except (SteersmanError, BadPlugin) as error:
            toolset.specs = ()
            toolset.error = f"its catalog cannot be used: {error}"[:1000]
            log.warning("toolset.bad_catalog", toolset=toolset.name, error=str(error)[:300])
        self._announce()

    def _expire(self) -> None:
        now = self._clock()
        for toolset in list(self._sets.values()):
            for host, state in list(toolset.hosts.items()):
                if now - state.seen > GONE_S:
                    del toolset.hosts[host]
                    log.info("toolset.host_gone", toolset=toolset.name, host=host)
            if not toolset.hosts:
                del self._sets[toolset.name]
                self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _checked(specs: tuple[ToolSpec, ...], toolset: str) -> tuple[ToolSpec, ...]:
    if len(specs) > MAX_TOOLS:
        raise BadPlugin(f"it offers more than {MAX_TOOLS} tools")
    names: set[str] = set()
    for spec in specs:
        check_spec(spec)
        if spec.input_schema.get("type") != "object":
            raise BadPlugin(f"tool {spec.name!r}: its schema is not one of an object")
        if len(msgspec.json.encode(spec)) > MAX_SCHEMA_BYTES:
            raise BadPlugin(f"tool {spec.name!r}: it has more than {MAX_SCHEMA_BYTES} bytes")
        if spec.name in names:
            raise BadPlugin(f"it offers the tool {spec.name!r} twice")
        names.add(spec.name)
    return tuple(msgspec.structs.replace(spec, plugin=toolset) for spec in specs)
