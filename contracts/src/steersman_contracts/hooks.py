"""What a plugin offers and what it is given. Of ours, a plugin imports this package alone.

A plugin is a module or object with functions marked `@hookimpl`, registered under the entry-point
group `steersman.plugins`. A plugin that breaks is reported and skipped; the service stays up.
`docs/plugins.md` has a section for each hook.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar, runtime_checkable

import msgspec
import pluggy

from steersman_contracts.parts import JsonObject, JsonPart, ResultContent, TextPart
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.caller import Caller
from steersman_contracts.secret import Secret

__all__ = [
    "API_ATTRIBUTE",
    "API_VERSION",
    "ENTRY_POINT_GROUP",
    "PROJECT",
    "Changed",
    "Denied",
    "DynamicTools",
    "HasHost",
    "HasRoom",
    "PendingCall",
    "PluginHost",
    "PluginOff",
    "Secret",
    "Tool",
    "ToolContext",
    "ToolHooks",
    "ToolResult",
    "hookimpl",
    "hookspec",
    "host_of_call",
    "room_of",
]

API_VERSION: Final = 1
"""Of this module. It grows when a plugin that was written for the one before would break."""
API_ATTRIBUTE: Final = "steersman_api"
"""The attribute in which a plugin says for which version it was written; without it, for 1."""

PROJECT: Final = "steersman"
ENTRY_POINT_GROUP: Final = "steersman.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

A = TypeVar("A", bound=msgspec.Struct | JsonObject)


class ToolResult(msgspec.Struct, frozen=True):
    """What a tool answers: `text`, or `content` for anything else."""

    text: str = ""
    content: tuple[ResultContent, ...] = ()
    is_error: bool = False

    def parts(self) -> tuple[ResultContent, ...]:
        """The answer as parts; `text` comes first."""
        return ((TextPart(self.text),) if self.text else ()) + self.content

    @classmethod
    def json(cls, value: Any) -> ToolResult:
        """A result that is one JSON value."""
        return cls(content=(JsonPart(value),))

    @classmethod
    def error(cls, text: str) -> ToolResult:
        """A result that tells the model what went wrong and what to do about it."""
        return cls(text=text, is_error=True)


class ToolContext(Protocol):
    """What a running call knows. One object per call."""

    @property
    def chat_id(self) -> str:
        """The chat that asked."""
        ...

    @property
    def call_id(self) -> str:
        """Unique within the chat; the same for a repeated request."""
        ...

    @property
    def workspace(self) -> Path:
        """The directory that the call may read and write. Nothing outside is its business.

        Of a tool that `needs_workspace` it is the chat's; of others a directory of the chat's own.
        """
        ...

    @property
    def timeout_s(self) -> float:
        """Seconds from the call's start after which it is cancelled."""
        ...

    @property
    def cancelled(self) -> bool:
        """True once the result is no longer wanted; the task is cancelled as well."""
        ...

    @property
    def settings(self) -> Any:
        """What the plugin's `settings` hook declared, filled; None if it declares none."""
        ...

    def progress(self, text: str) -> None:
        """Tell people how far it is. Cheap; may be skipped when too frequent."""
        ...

    async def secret(self, name: str) -> str | None:
        """Read one secret of this plugin, as an administrator has stored it; None if none is."""
        ...


class PluginHost(Protocol):
    """What a plugin is given when the service starts. One object per plugin."""

    @property
    def name(self) -> str:
        """Under which the plugin is registered."""
        ...

    @property
    def settings(self) -> Any:
        """What the plugin's `settings` hook declared, filled; None if it declares none."""
        ...

    @property
    def rpc(self) -> Caller | None:
        """Calls services, as far as this host may; None when it has no connection."""
        ...

    @property
    def kept(self) -> dict[str, Any]:
        """What the plugin wants to find again after a reload; lost with the process."""
        ...

    async def secret(self, name: str) -> str | None:
        """Read one secret of this plugin; None if there is none."""
        ...


class PluginOff(Exception):
    """Raised by `start`: the plugin has nothing to offer here, and the text says why.

    It is reported as off, not as broken.
    """


@runtime_checkable
class HasHost(Protocol):
    """A `ToolContext` of a host that may be one of several."""

    @property
    def host(self) -> str:
        """Names this host: 12 hexadecimal digits, others at each start."""
        ...


def host_of_call(context: object) -> str | None:
    """The host that runs a call, for ids of what it leaves there; None where there is but one."""
    return context.host if isinstance(context, HasHost) else None


@runtime_checkable
class HasRoom(Protocol):
    """A `ToolContext` that knows how much its model can take."""

    @property
    def result_bytes(self) -> int:
        """Bytes of text and JSON that are kept of the result; of more the middle is cut."""
        ...


def room_of(context: object, otherwise: int) -> int:
    """How large a result may be; `otherwise` for a context that does not know."""
    return context.result_bytes if isinstance(context, HasRoom) else otherwise


@dataclass(frozen=True, slots=True)
class Tool(Generic[A]):
    """One tool.

    Attributes:
        name: 1 to 64 of `a-zA-Z0-9_-`; unique in the deployment.
        description: For the model: what it does, when to use it, what comes back.
        arguments: The type of the arguments; the JSON Schema is derived from it. With an
            `input_schema` it is `dict`.
        handler: Runs the call. An exception becomes an error result.
        timeout_s: Seconds after which the call is cancelled.
        idempotent: Running it twice is the same as running it once: when its host dies it is run
            again.
        read_only: It changes nothing anywhere. Such calls are not booked, and so are faster; asked
            for again they are run again.
        exclusive: Never at the same time as another call of the same chat.
        ends_turn: A result that is no error ends the turn; the model does not get another word.
        max_concurrent: Calls of it at the same time in one process; others wait.
        max_per_chat: Calls of it at the same time in one chat; others wait.
        needs_workspace: Acts in the chat's workspace, and has no meaning without one.
        needs_approval: A person is asked before each call.
        host_of: Which host holds what a call is about, such as a process that goes on; it is what
            `host_of_call` has said about the call that made it. The call then runs there, wherever
            it arrives; None is any host.
        merge: The call runs on every host, and this makes one result of theirs. The first is that
            of the host that the call has reached.
        input_schema: The JSON Schema of the arguments, for a tool that somebody else has declared.
            The handler then gets the arguments as they came, unchecked.
    """

    name: str
    description: str
    arguments: type[A]
    handler: Callable[[ToolContext, A], Awaitable[ToolResult]]
    timeout_s: float = 60.0
    idempotent: bool = False
    read_only: bool = False
    exclusive: bool = False
    ends_turn: bool = False
    max_concurrent: int | None = None
    max_per_chat: int | None = None
    needs_workspace: bool = False
    needs_approval: bool = False
    host_of: Callable[[A], str | None] | None = None
    merge: Callable[[Sequence[ToolResult]], ToolResult] | None = None
    input_schema: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class DynamicTools:
    """What a plugin offers at this moment.

    Attributes:
        tools: In any order. One that is wrong, or whose name is taken, is left out alone.
        warnings: What is missing and why, a line each, for administrators.
    """

    tools: tuple[Tool[Any], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """A `before_call` hook refuses the call; the model reads the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A `before_call` hook gives the call other arguments; later hooks and the tool see these."""

    arguments: JsonObject


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that is about to run."""

    chat_id: str
    call_id: str
    tool: str
    arguments: JsonObject = field(default_factory=dict[str, Any])


class ToolHooks(Protocol):
    """The hooks of a plugin. Each is optional; each may leave out arguments that it does not need.

    `start`, `stop`, `before_call`, `after_call` and `workspace_stopped` may be `async`.
    """

    @hookspec
    def settings(self) -> type[msgspec.Struct]:
        """Give the type of the plugin's settings. Called once, before everything else."""
        ...

    @hookspec
    def start(self, host: PluginHost) -> Awaitable[None] | None:
        """Open what the plugin needs. Called once, before `tools`; raising skips the plugin."""
        ...

    @hookspec
    def tools(self) -> Iterable[Tool[Any]]:
        """List the tools this plugin offers. Called once, after `start`; must not do I/O."""
        ...

    @hookspec
    def dynamic_tools(self) -> DynamicTools:
        """Tell what is offered now beside `tools`. Asked often; must not do I/O, nor wait.

        Return the same object while nothing has changed: it is checked once.
        """
        ...

    @hookspec
    def chat_tools(self, chat_id: str) -> DynamicTools | Awaitable[DynamicTools]:
        """Tell what one chat may use beside all that. Asked at each of its turns and calls.

        May wait for a few seconds. Return the same object while nothing has changed.
        """
        ...

    @hookspec
    def answer(
        self, actor: Actor, question: str, body: JsonObject
    ) -> JsonObject | Awaitable[JsonObject]:
        """Answer what our own gateway asks for a person. Raise a `SteersmanError` to refuse."""
        ...

    @hookspec
    def prompt(self) -> str | None:
        """Say what a model has to know to use the tools well. Called once, after `tools`."""
        ...

    @hookspec
    def before_call(
        self, call: PendingCall
    ) -> Denied | Changed | Awaitable[Denied | Changed | None] | None:
        """Look at a call before it runs. The first `Denied` wins. Raising denies the call."""
        ...

    @hookspec
    def after_call(
        self, call: PendingCall, result: ToolResult
    ) -> ToolResult | Awaitable[ToolResult | None] | None:
        """Look at a result, and perhaps replace it. Raising is logged and changes nothing."""
        ...

    @hookspec
    def workspace_stopped(self, workspace: Path) -> Awaitable[None] | None:
        """End what the plugin runs in a workspace: it is being stopped. Raising is logged."""
        ...

    @hookspec
    def stop(self) -> Awaitable[None] | None:
        """Close what `start` opened. Called once, after the last call has ended."""
        ...
