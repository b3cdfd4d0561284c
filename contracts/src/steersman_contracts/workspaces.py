"""Workspaces: a directory and a machine that outlive a call, made from a template.

A chat has at most one, and its descendants share it. A chat without one has a plain directory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Final, Literal, NewType, Protocol, TypeAlias, runtime_checkable

import msgspec

from steersman_contracts.errors import TransitionRefused
from steersman_contracts.ids import SLUG_PATTERN, UserId

WorkspaceId = NewType("WorkspaceId", str)
"""A lower-case UUID with dashes."""
TemplateId = Annotated[str, msgspec.Meta(pattern=SLUG_PATTERN)]

PAGE: Final = 10
"""Templates on one page."""
MAX_VALUE: Final = 4096
"""Characters of one parameter."""

State: TypeAlias = Literal["creating", "running", "stopping", "stopped", "failed", "deleted"]
"""`deleted`: nobody sees it any more; the row stays until its files are gone."""
Change: TypeAlias = Literal["finish", "fail", "start", "stop", "finish_stop", "delete"]

TRANSITIONS: Final[Mapping[tuple[State, Change], State]] = {
    ("creating", "finish"): "running",
    ("creating", "fail"): "failed",
    ("running", "fail"): "failed",
    ("running", "stop"): "stopping",
    ("stopping", "finish_stop"): "stopped",
    ("stopped", "start"): "running",
    ("stopped", "fail"): "failed",
    ("creating", "delete"): "deleted",
    ("running", "delete"): "deleted",
    ("stopping", "delete"): "deleted",
    ("stopped", "delete"): "deleted",
    ("failed", "delete"): "deleted",
}
"""Everything that can happen to a workspace. What is not in the table is refused."""


def next_state(state: State, change: Change) -> State:
    """The state after a change.

    Raises:
        TransitionRefused: The table has no such change.
    """
    found = TRANSITIONS.get((state, change))
    if found is None:
        raise TransitionRefused(
            f"{change!r} is not allowed while the workspace is {state!r}",
            status=state,
            transition=change,
        )
    return found


Value: TypeAlias = str | int | bool
ParameterType: TypeAlias = Literal["string", "integer", "boolean"]
ParameterName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,39}$(?!\n)")]


class Parameter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a template asks of whoever makes a workspace of it."""

    name: ParameterName
    type: ParameterType = "string"
    description: Annotated[str, msgspec.Meta(max_length=500)] = ""
    default: Value | None = None
    """Without one a value has to be given."""
    options: tuple[Value, ...] = ()
    """Nothing else is taken, if there are any."""
    pattern: Annotated[str, msgspec.Meta(max_length=500)] = ""
    """A regular expression that the whole of a string has to match."""
    minimum: int | None = None
    maximum: int | None = None
    """Of an integer its value, of a string its length."""


class TemplateSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """A template in a list."""

    id: TemplateId
    name: str
    description: str = ""
    icon: str = ""
    driver: str = "local"
    uses: int = 0
    """How many workspaces were made of it."""


class Template(TemplateSummary, frozen=True, omit_defaults=True):
    """A template, with what it asks."""

    parameters: tuple[Parameter, ...] = ()
    environment: dict[str, str] = {}
    """What commands in the workspace see beside the usual."""
    has_setup: bool = False


class TemplatePage(msgspec.Struct, frozen=True):
    """Ten templates, the best match first."""

    templates: tuple[TemplateSummary, ...]
    page: int
    pages: int
    total: int


class Workspace(msgspec.Struct, frozen=True, omit_defaults=True):
    """One workspace, as its owner sees it."""

    id: WorkspaceId
    owner_id: UserId
    name: str
    template: TemplateId
    driver: str
    state: State
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime
    parameters: dict[str, Value] = {}
    reason: str = ""
    """Why it failed: what went wrong, and the end of what the set-up printed."""


class Made(msgspec.Struct, frozen=True):
    """What came of a wish for a workspace."""

    outcome: Literal["created", "already_exists", "failed"]
    workspace: Workspace


class Desk(Protocol):
    """What a tool may do about the workspace of its chat."""

    async def templates(self, query: str, page: int) -> TemplatePage:
        """The templates, ranked by how well they match, then by use."""
        ...

    async def template(self, template_id: str) -> Template:
        """One template.

        Raises:
            NotFound: There is none of that id, or it is broken.
        """
        ...

    async def create(
        self,
        template_id: str,
        name: str,
        parameters: Mapping[str, Value],
        progress: Callable[[str], None],
    ) -> Made:
        """Give the chat a workspace, once: one that is being made is waited for."""
        ...

    async def start(self) -> Workspace:
        """Start the chat's workspace; one that runs stays as it is."""
        ...

    async def stop(self) -> Workspace:
        """End everything that runs in the chat's workspace; its files stay."""
        ...


@runtime_checkable
class HasDesk(Protocol):
    """A `ToolContext` of a host that keeps workspaces."""

    @property
    def desk(self) -> Desk | None:
        """None when this deployment has none."""
        ...


@runtime_checkable
class HasEnvironment(Protocol):
    """A `ToolContext` that knows what commands in its workspace shall see."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables beside the usual ones."""
        ...


def environment_of(context: object) -> Mapping[str, str]:
    """The variables that a workspace adds to its commands; none for a context without any."""
    return context.environment if isinstance(context, HasEnvironment) else {}
