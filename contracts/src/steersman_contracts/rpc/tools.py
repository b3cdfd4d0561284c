"""Tool calls and the catalog of tools. Any process that answers these methods is a tool host."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.ids import TOOL_NAME_PATTERN, ChatId
from steersman_contracts.parts import JsonObject, ResultContent
from steersman_contracts.rpc import Method, Nothing

ToolName = Annotated[str, msgspec.Meta(pattern=TOOL_NAME_PATTERN)]

MAX_TIMEOUT_S: Final = 4 * 3600.0


class ToolSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool as a model and an administrator see it."""

    name: ToolName
    description: str
    input_schema: JsonObject
    """JSON Schema of an object."""
    plugin: str
    timeout_s: float = 60.0
    idempotent: bool = False
    exclusive: bool = False
    """Never at the same time as another call of the same chat."""
    needs_workspace: bool = False
    needs_approval: bool = False


class PluginReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """A plugin that is in use, or why it is not."""

    name: str
    version: str
    tools: tuple[str, ...] = ()
    error: str | None = None


class ListTools(msgspec.Struct, frozen=True):
    """The catalog of a host."""


class Catalog(msgspec.Struct, frozen=True):
    """Tools by name, in a fixed order, and every plugin that was found."""

    host: str
    tools: tuple[ToolSpec, ...]
    plugins: tuple[PluginReport, ...]


class CallTool(msgspec.Struct, frozen=True, omit_defaults=True):
    """Run a tool once. The same (chat, call id) again attaches to it or returns its result."""

    chat_id: ChatId
    call_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    tool: ToolName
    arguments: JsonObject
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=MAX_TIMEOUT_S)] | None = None
    """None takes the tool's own."""


class CallResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the call ended. A failing tool is a result with `is_error`, not an RPC error."""

    content: tuple[ResultContent, ...]
    is_error: bool = False
    duration_ms: int = 0


class CallProgress(msgspec.Struct, frozen=True):
    """A frame of progress before the result."""

    seq: int
    text: str


class CancelCall(msgspec.Struct, frozen=True):
    """The result is no longer wanted: stop the call, keep what it did."""

    chat_id: ChatId
    call_id: str


LIST_TOOLS: Final = Method("tools", "catalog.list", ListTools, Catalog, safe=True)
CALL_TOOL: Final = Method("tools", "calls.run", CallTool, CallResult, deadline_s=MAX_TIMEOUT_S)
"""A streamed reply: progress and heartbeat frames, then the result."""
CANCEL_CALL: Final = Method("tools", "calls.cancel", CancelCall, Nothing)
