"""Who may watch which desktop: tickets for people, and keys for the gateways that carry them."""

from __future__ import annotations

from typing import Final, NamedTuple

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import desktop as rpc
from steersman_desktop.tickets import OneTime

_KEY_S: Final = 10.0


class Admitted(NamedTuple):
    """Somebody who may watch a desktop."""

    chat_id: ChatId
    user: UserId
    mode: rpc.ViewMode


class Admission:
    """What was handed out and not used yet."""

    def __init__(self, ticket_s: float, address: str) -> None:
        """Begin.

        Args:
            ticket_s: How long a ticket is good.
            address: `host:port` where gateways bring their keys.
        """
        self._tickets = OneTime[Admitted](ticket_s)
        self._keys = OneTime[Admitted](_KEY_S)
        self._address = address

    def ticket(self, request: rpc.MakeTicket) -> rpc.DesktopTicket:
        """For a person, who shows it to any gateway."""
        user = request.actor.user_id
        admitted = Admitted(request.chat_id, user, request.mode)
        ticket, expires = self._tickets.make(admitted, user)
        return rpc.DesktopTicket(ticket, request.mode, expires)

    def redeem(self, request: rpc.RedeemTicket) -> rpc.ViewGrant:
        """A key for the gateway that was shown a ticket.

        Raises:
            NotFound: It is not good.
        """
        admitted = self._tickets.take(request.digest)
        if admitted is None or admitted.chat_id != request.chat_id:
            raise NotFound("the ticket is not valid (any more)")
        key, _ = self._keys.make(admitted, admitted.user)
        return rpc.ViewGrant(admitted.user, admitted.mode, self._address, key)

    def enter(self, key_digest: str) -> Admitted | None:
        """Who comes with this key; None for everybody else."""
        return self._keys.take(key_digest)
