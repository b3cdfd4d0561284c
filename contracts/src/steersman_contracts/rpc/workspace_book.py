"""The book of workspaces: kept by the store, written by the tools service.

Methods with an `actor` act for a person; those with a `host` alone are the service's own.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from steersman_contracts.ids import ChatId, Uuid
from steersman_contracts.rpc import Actor, Method, Nothing
from steersman_contracts.rpc.ledger import Host
from steersman_contracts.workspaces import Change, TemplateId, Value, Workspace, WorkspaceId

Name = Annotated[str, msgspec.Meta(max_length=100)]


class Quota(msgspec.Struct, frozen=True):
    """How many workspaces one person may have."""

    kept: Annotated[int, msgspec.Meta(ge=1)] = 50
    """That are not deleted; failed ones do not count."""
    running: Annotated[int, msgspec.Meta(ge=1)] = 20
    """That run or are being made."""


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Make the row of a workspace, unless the chat has one that lives.

    With a chat it is for that chat and its descendants; the outermost one remembers it.
    """

    host: Host
    template: TemplateId
    driver: str
    parameters: dict[str, Value]
    environment: dict[str, str]
    name: Name = ""
    quota: Quota = Quota()
    chat_id: ChatId | None = None
    actor: Actor | None = None
    """None: a tool of the chat asks, for the chat's owner."""


class Claimed(msgspec.Struct, frozen=True):
    """Whose the making is."""

    outcome: Literal["new", "in_progress", "already_exists"]
    """New: the caller makes it now. In progress: another one does."""
    workspace: Workspace


class FindPlace(msgspec.Struct, frozen=True):
    """The workspace that the calls of a chat act in; asking counts as use."""

    chat_id: ChatId


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a chat's calls act."""

    workspace: Workspace | None = None
    environment: dict[str, str] = {}
    root_id: ChatId | None = None
    """The outermost chat, which shares it with the rest of its family."""


class GetWorkspace(msgspec.Struct, frozen=True, omit_defaults=True):
    """One workspace; of the actor's, unless the service asks for itself."""

    workspace_id: Uuid
    actor: Actor | None = None


class ListWorkspaces(msgspec.Struct, frozen=True):
    """All workspaces of the actor that are not deleted."""

    actor: Actor


class WorkspaceList(msgspec.Struct, frozen=True):
    """The newest first."""

    workspaces: tuple[Workspace, ...]


class Move(msgspec.Struct, frozen=True, omit_defaults=True):
    """Change the state of a workspace, as the table of states allows."""

    workspace_id: Uuid
    change: Change
    host: Host
    """`finish`, `fail` and `finish_stop` are refused to another host than the one that began."""
    actor: Actor | None = None
    reason: Annotated[str, msgspec.Meta(max_length=8000)] = ""
    quota: Quota = Quota()


class Moved(msgspec.Struct, frozen=True):
    """What came of a change."""

    workspace: Workspace
    changed: bool
    """False: it was so already, such as one that runs and shall start."""


class Attach(msgspec.Struct, frozen=True, omit_defaults=True):
    """Let a chat use a workspace of its owner's; None lets go of the one it has."""

    actor: Actor
    chat_id: ChatId
    workspace_id: Uuid | None = None


class LookAfter(msgspec.Struct, frozen=True):
    """What has to be done now and then, each of it given to one host."""

    host: Host
    idle_s: Annotated[float, msgspec.Meta(gt=0)]
    in_use: tuple[Uuid, ...] = ()
    """Workspaces in which calls of this host run."""


class Chores(msgspec.Struct, frozen=True):
    """What the caller is to do."""

    idle: tuple[WorkspaceId, ...]
    """Are being stopped: nobody has used them for long. End what runs there."""
    deleted: tuple[WorkspaceId, ...]
    """Remove their files, then `forget` them."""


class Forget(msgspec.Struct, frozen=True):
    """The files of a deleted workspace are gone."""

    workspace_id: Uuid


class CountUses(msgspec.Struct, frozen=True):
    """How often each template was used."""


class Uses(msgspec.Struct, frozen=True):
    """Template → how many workspaces were made of it."""

    uses: dict[str, int]


CLAIM: Final = Method("store", "workspaces.claim", Claim, Claimed)
FIND: Final = Method("store", "workspaces.find", FindPlace, Place, safe=True)
GET: Final = Method("store", "workspaces.get", GetWorkspace, Workspace, safe=True)
LIST: Final = Method("store", "workspaces.list", ListWorkspaces, WorkspaceList, safe=True)
MOVE: Final = Method("store", "workspaces.move", Move, Moved)
ATTACH: Final = Method("store", "workspaces.attach", Attach, Nothing, safe=True)
LOOK_AFTER: Final = Method("store", "workspaces.look_after", LookAfter, Chores)
FORGET: Final = Method("store", "workspaces.forget", Forget, Nothing, safe=True)
USES: Final = Method("store", "workspaces.uses", CountUses, Uses, safe=True)
