"""Requests and replies between services, one module per group of methods.

A method is a value: its subject, its types and its deadline. Groups that act for a person carry an
`Actor`; the groups of workers and hosts are separate subjects, so that permissions can tell them
apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

from steersman_contracts import subjects
from steersman_contracts.ids import UserId

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

UserRole: TypeAlias = Literal["admin", "member"]


class Actor(msgspec.Struct, frozen=True):
    """The person for whom a request is made. Every query of the store is scoped by it."""

    user_id: UserId
    role: UserRole = "member"


class Nothing(msgspec.Struct, frozen=True):
    """A request or reply without content."""


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, R]):
    """One RPC method.

    Attributes:
        service: Who answers: `store`, `tools`, `desktop`, `chatloop`.
        name: `<group>.<name>`.
        request: The type of the request body.
        reply: The type of the reply body.
        deadline_s: Seconds that a caller waits unless it says otherwise.
        safe: Asking twice is the same as asking once, so a lost request is simply asked again.
        address: A subject in place of the usual one: the same method of one certain instance.
    """

    service: str
    name: str
    request: type[Q]
    reply: type[R]
    deadline_s: float = 10.0
    safe: bool = False
    address: str | None = None

    @property
    def subject(self) -> str:
        """Where requests go."""
        return self.address or subjects.rpc(self.service, self.name)


ERROR_HEADER: Final = "Nats-Service-Error-Code"
"""Set on a reply whose body is a `WireError`; the value is its code (NATS micro protocol)."""
ERROR_TEXT_HEADER: Final = "Nats-Service-Error"
"""The message of the error, for generic NATS tools."""
FRAME_HEADER: Final = "Steersman-Frame"
"""Set on every frame of a streamed reply but the last: `progress` or `heartbeat`."""
DEADLINE_HEADER: Final = "Steersman-Deadline-Ms"
"""Milliseconds that the caller will still wait; the server stops working after that."""
REQUEST_ID_HEADER: Final = "Steersman-Request-Id"
TRACE_HEADER: Final = "traceparent"
"""W3C Trace Context, passed on unchanged."""
HEARTBEAT_S: Final = 5.0
"""A streamed reply has a frame at least this often; after two missed ones the server is gone."""
