"""Who may do what, beside the owner of a chat: that is checked where the chat is read."""

from __future__ import annotations

from steersman_contracts.errors import Forbidden
from steersman_contracts.rpc import Actor


def admins_only(actor: Actor) -> None:
    """Refuse everybody else.

    Raises:
        Forbidden: The actor is not an admin.
    """
    if actor.role != "admin":
        raise Forbidden("only an admin may do that")
