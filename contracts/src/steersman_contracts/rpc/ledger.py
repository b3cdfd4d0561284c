"""The book of tool calls, kept by the store: what makes a repeated request harmless anywhere."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Method, Nothing
from steersman_contracts.rpc.tools import CallResult, Epoch, Era

CallState: TypeAlias = Literal["reserved", "running", "done", "unknown"]
"""Reserved: taken, and has not begun. Unknown: its host died while it ran."""

Host = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
"""One process of the tools service; a name that no later process has."""
CallId = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class CallRef(msgspec.Struct, frozen=True):
    """What identifies a call."""

    chat_id: ChatId
    call_id: CallId
    epoch: Epoch = 0


class ReserveCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """Take a call, once; a call whose host died before it began, or that may run twice, again."""

    call: CallRef
    host: Host
    fingerprint: str
    """Of the tool and its arguments: others under the same key are a conflict."""
    running: bool = True
    """It begins now; False when it has to wait for its turn."""
    repeatable: bool = False
    """It may be run again after its host has died."""
    first: bool = False
    """Whoever has stored the call asks for it, and for the first time."""
    era: Era | None = None
    """When it was stored; None: before it might have begun."""


class Reservation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose the call is."""

    yours: bool = False
    host: str | None = None
    """It runs there."""
    result: CallResult | None = None
    """It has ended; after the death of its host with an error that says so."""


class StartCall(msgspec.Struct, frozen=True):
    """A reserved call begins."""

    call: CallRef
    host: Host


class Started(msgspec.Struct, frozen=True):
    """Whether the call is still the host's."""

    yours: bool


class EndedCall(msgspec.Struct, frozen=True):
    """How a call has ended."""

    call: CallRef
    result: CallResult


class FinishCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call has ended, or several."""

    call: CallRef
    host: Host
    result: CallResult
    """Kept for a day."""
    others: Annotated[tuple[EndedCall, ...], msgspec.Meta(max_length=1000)] = ()
    """Further calls of the same host."""


class Finished(msgspec.Struct, frozen=True):
    """Whether the results were taken, all of them; not when the host had been given up."""

    kept: bool


class RefuseCall(msgspec.Struct, frozen=True):
    """Give a call that was never taken its result: it will not run."""

    call: CallRef
    result: CallResult


class RenewHost(msgspec.Struct, frozen=True):
    """The host is alive, and will be for a while."""

    host: Host
    lease_s: Annotated[float, msgspec.Meta(ge=0, le=300)]
    """Seconds on the database's clock; 0 gives it up."""


class ListHosts(msgspec.Struct, frozen=True):
    """Which hosts live."""


class HostList(msgspec.Struct, frozen=True):
    """Those whose lease has not ended; one that has just died may be among them."""

    hosts: tuple[str, ...]


RESERVE: Final = Method("store", "ledger.reserve", ReserveCall, Reservation, safe=True)
START: Final = Method("store", "ledger.start", StartCall, Started, safe=True)
FINISH: Final = Method("store", "ledger.finish", FinishCall, Finished, safe=True)
REFUSE: Final = Method("store", "ledger.refuse", RefuseCall, Nothing, safe=True)
RENEW_HOST: Final = Method("store", "ledger.renew_host", RenewHost, Nothing, safe=True)
LIST_HOSTS: Final = Method("store", "ledger.list_hosts", ListHosts, HostList, safe=True)
