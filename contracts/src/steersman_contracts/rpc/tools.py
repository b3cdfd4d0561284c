"""Tool calls and the catalog of tools. Any process that answers these methods is a tool host."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.ids import TOOL_NAME_PATTERN, ChatId
from steersman_contracts.parts import JsonObject, ResultContent
from steersman_contracts.rpc import Actor, Method, Nothing

ToolName = Annotated[str, msgspec.Meta(pattern=TOOL_NAME_PATTERN)]

MAX_TIMEOUT_S: Final = 4 * 3600.0
MAX_EPOCH: Final = 2**53

Epoch = Annotated[int, msgspec.Meta(ge=0, le=MAX_EPOCH)]
"""Which time a call id is used: providers repeat theirs when a step is run anew. The chatloop gives
the id of the message that holds the call."""

Era = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
"""The time between two crashes of the database, by an id of its own."""


class ToolSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool as a model and an administrator see it."""

    name: ToolName
    description: str
    input_schema: JsonObject
    """JSON Schema of an object."""
    plugin: str
    timeout_s: float = 60.0
    idempotent: bool = False
    """Twice is the same as once: after its host has died a call is run again elsewhere."""
    read_only: bool = False
    """Changes nothing: it is run again whenever it is asked for again, and no book is kept."""
    exclusive: bool = False
    """Never at the same time as another call of the same chat."""
    ends_turn: bool = False
    """A result that is no error ends the turn: the model does not get another word."""
    needs_workspace: bool = False
    needs_approval: bool = False
    max_concurrent: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Calls of it at the same time on one host; others wait."""
    max_per_chat: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Calls of it at the same time in one chat; others wait."""


SettingSource: TypeAlias = Literal["default", "environment", "store", "missing"]


class SettingReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """One setting of a plugin; never with its value."""

    name: str
    source: SettingSource
    secret: bool = False
    description: str = ""


PluginState: TypeAlias = Literal["in use", "off", "broken"]


class PluginReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """A plugin or another tool host that is in use, or why it is not."""

    name: str
    version: str
    tools: tuple[str, ...] = ()
    error: str | None = None
    """What is wrong with it; it is skipped, whole. Of a tool host, only what clashes is."""
    off: str | None = None
    """Why the plugin itself chose not to be used, such as a setting that is missing."""
    settings: tuple[SettingReport, ...] = ()
    hosts: tuple[str, ...] = ()
    """Of a tool host outside of this service: its processes that are alive."""
    warnings: tuple[str, ...] = ()
    """What a plugin that is in use misses, such as a server that does not answer."""

    @property
    def state(self) -> PluginState:
        """In one word."""
        if self.off is not None:
            return "off"
        return "in use" if self.error is None or self.tools else "broken"


class PluginPrompt(msgspec.Struct, frozen=True):
    """What a plugin wants every model to know that is offered its tools."""

    plugin: str
    text: str


class ListTools(msgspec.Struct, frozen=True):
    """The catalog of a host."""

    chat_id: ChatId | None = None
    """With the tools that this chat alone may use; they are looked for, which may take seconds."""


class Catalog(msgspec.Struct, frozen=True):
    """Tools by name, in a fixed order, and every plugin that was found."""

    host: str
    tools: tuple[ToolSpec, ...]
    plugins: tuple[PluginReport, ...]
    prompts: tuple[PluginPrompt, ...] = ()
    """By plugin name."""
    warnings: tuple[str, ...] = ()
    """Which tools of the chat are missing, and why."""


class ListPlugins(msgspec.Struct, frozen=True):
    """What was found, in use or not. Admins only."""

    actor: Actor


class ReloadPlugins(msgspec.Struct, frozen=True):
    """Load all plugins anew, everywhere; running calls finish on the old code. Admins only."""

    actor: Actor


class PluginList(msgspec.Struct, frozen=True):
    """By name, as the replica that answers knows them."""

    plugins: tuple[PluginReport, ...]


class AskPlugin(msgspec.Struct, frozen=True):
    """Ask one plugin something that only it knows; a service of ours asks for a person."""

    actor: Actor
    plugin: str
    question: str
    body: JsonObject = {}


class PluginAnswer(msgspec.Struct, frozen=True):
    """What the plugin says; what it looks like depends on the question."""

    body: JsonObject


class PingHost(msgspec.Struct, frozen=True):
    """Is this replica there?"""


class HostBeat(msgspec.Struct, frozen=True):
    """A tool host outside of the tools service is there; sent at least every two seconds.

    Its set and its name are in the subject, where permissions can hold it to them.
    """

    started_at_ms: Annotated[int, msgspec.Meta(ge=0)]
    """When the host was started, in milliseconds since 1970: of two sets with the same tool the one
    that was there first keeps it."""
    catalog: Annotated[str, msgspec.Meta(max_length=100)] = ""
    """Changes whenever the host's catalog does."""


class CallTool(msgspec.Struct, frozen=True, omit_defaults=True):
    """Run a tool once. The same (chat, call id, epoch) again attaches or returns the result."""

    chat_id: ChatId
    call_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    tool: ToolName
    arguments: JsonObject
    epoch: Epoch = 0
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=MAX_TIMEOUT_S)] | None = None
    """None takes the tool's own."""
    result_bytes: Annotated[int, msgspec.Meta(ge=1024)] | None = None
    """Of text and JSON that whoever asks can take; None is as much as is usual."""
    no_workspace: bool = False
    """The chat had no workspace a moment ago. A call that only reads is not looked up once more."""
    first: bool = False
    """Whoever has stored the call asks for it, and no request for it came to anybody before."""
    era: Era | None = None
    """When the call was stored, as the store says; None: that nobody had begun it is certain."""


class CallResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the call ended. A failing tool is a result with `is_error`, not an RPC error."""

    content: tuple[ResultContent, ...]
    is_error: bool = False
    duration_ms: int = 0
    ends_turn: bool = False
    """The turn ends with this result."""


class CallProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """A frame before the result: progress, or with `seq` 0 only which replica has the call."""

    seq: int
    text: str
    host: str = ""


class CancelCall(msgspec.Struct, frozen=True):
    """The result is no longer wanted: stop the call, keep what it did."""

    chat_id: ChatId
    call_id: str
    epoch: Epoch = 0


NOT_BOOKED: Final = "not_booked"
"""True in the details of an error: the call has not begun, for the book could not be asked."""

LIST_TOOLS: Final = Method("tools", "catalog.list", ListTools, Catalog, safe=True)
CALL_TOOL: Final = Method("tools", "calls.run", CallTool, CallResult, deadline_s=MAX_TIMEOUT_S)
"""A streamed reply: progress and heartbeat frames, then the result."""
CANCEL_CALL: Final = Method("tools", "calls.cancel", CancelCall, Nothing)
LIST_PLUGINS: Final = Method("tools", "plugins.list", ListPlugins, PluginList, safe=True)
RELOAD_PLUGINS: Final = Method(
    "tools", "plugins.reload", ReloadPlugins, PluginList, deadline_s=60, safe=True
)
ASK_PLUGIN: Final = Method("tools", "plugins.ask", AskPlugin, PluginAnswer, deadline_s=45)
PING_HOST: Final = Method("tools", "hosts.ping", PingHost, Nothing, deadline_s=2, safe=True)
"""Asked of one replica, at the address `subjects.tool_host(host, "hosts.ping")`."""
