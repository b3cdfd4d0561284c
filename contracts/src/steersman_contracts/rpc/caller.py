"""How code that is given no connection calls a method: plugins, on the host that runs them."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

import msgspec

from steersman_contracts.rpc import Method

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)


class Caller(Protocol):
    """Calls methods of services, as far as its host may."""

    async def call(self, method: Method[Q, R], request: Q, *, deadline_s: float | None = None) -> R:
        """Call a method; raises what the service raises."""
        ...


@runtime_checkable
class HasCaller(Protocol):
    """A `ToolContext` of a host that lets its plugins call services."""

    @property
    def rpc(self) -> Caller | None:
        """None when the host has no connection of the kind."""
        ...
