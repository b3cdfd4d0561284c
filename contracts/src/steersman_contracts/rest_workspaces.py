"""Bodies of the REST API of workspaces."""

from __future__ import annotations

from typing import Annotated

import msgspec

from steersman_contracts.ids import Uuid
from steersman_contracts.workspaces import Value, Workspace


class CreateWorkspaceBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A workspace to be made of a template."""

    template_id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    name: Annotated[str, msgspec.Meta(max_length=100)] = ""
    """Empty takes the template's id."""
    parameters: Annotated[dict[str, Value], msgspec.Meta(max_length=50)] = {}
    """By the names that the template gives them."""
    chat_id: Uuid | None = None
    """The chat that it is for, and its descendants; if that has one already, nothing is made."""


class ChatWorkspaceBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which workspace a chat uses."""

    workspace_id: Uuid | None
    """One of yours; null lets go of the one it has."""


class Workspaces(msgspec.Struct, frozen=True):
    """Yours, the newest first."""

    workspaces: tuple[Workspace, ...]
