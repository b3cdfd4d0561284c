"""Errors that we raise on purpose. `code` is a contract; the message is for people.

An error crosses RPC as `WireError` and is raised again on the other side as the same class.
Callers look at the class or the code, never at the message.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import msgspec


class WireError(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as it travels."""

    code: str
    message: str
    details: dict[str, Any] = {}


class SteersmanError(Exception):
    """Base of every error we raise on purpose.

    Args:
        message: One sentence for a person: what was refused, with the value, and what would do.
        details: JSON values for programs, such as the field, the bound or the current status.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed a moment later."""

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.details = details

    def to_wire(self) -> WireError:
        """The form that crosses a process boundary."""
        return WireError(self.code, str(self), self.details)

    @classmethod
    def from_details(cls, message: str, details: dict[str, Any]) -> Self:
        """Build the error from its wire form."""
        return cls(message, **details)


class InternalError(SteersmanError):
    """Something of ours broke; the log has the cause under the request id."""


class InvalidRequest(SteersmanError):
    """A value is not acceptable; `field` in the details says which."""

    code = "invalid_request"


class BadCursor(InvalidRequest):
    """A pagination cursor that was not made by this endpoint."""

    code = "bad_cursor"


class UnknownModel(InvalidRequest):
    """No enabled model of that name."""

    code = "unknown_model"


class Unauthenticated(SteersmanError):
    """No token, or one that is not valid (any more)."""

    code = "unauthenticated"


class Forbidden(SteersmanError):
    """Known, and not allowed to do that."""

    code = "forbidden"


class NotFound(SteersmanError):
    """Does not exist, or is somebody else's: the two look the same."""

    code = "not_found"


class Conflict(SteersmanError):
    """The request contradicts what is stored, such as a name that is taken."""

    code = "conflict"


class TransitionRefused(SteersmanError):
    """The state machine has no such transition from the present state (both are in the details)."""

    code = "transition_refused"


class StaleFence(SteersmanError):
    """A worker no longer owns what it wants to change.

    Details: the present `status`, `history_version`, and whether it is still `owned`.
    """

    code = "stale_fence"


class AlreadyOwned(SteersmanError):
    """Another worker holds a live lease on the chat. Losing that race is normal."""

    code = "already_owned"


class CallElsewhere(SteersmanError):
    """A tool call runs on another replica; `host` in the details says on which: ask there."""

    code = "call_elsewhere"


class QueueFull(SteersmanError):
    """The queue of the chat holds its maximum (in the details)."""

    code = "queue_full"


class PayloadTooLarge(SteersmanError):
    """A body over the limit (in the details)."""

    code = "payload_too_large"


class UnsupportedMediaType(SteersmanError):
    """A body that is not JSON where JSON is wanted."""

    code = "unsupported_media_type"


class MethodNotAllowed(SteersmanError):
    """The path exists, but not for this HTTP method."""

    code = "method_not_allowed"


class TooManyRequests(SteersmanError):
    """A limit on concurrent or repeated requests was hit."""

    code = "too_many_requests"
    retryable = True


class Unavailable(SteersmanError):
    """A service or a part that it needs does not answer at the moment."""

    code = "unavailable"
    retryable = True


class DeadlineExceeded(SteersmanError):
    """No answer within the deadline. Whether the request took effect is not known."""

    code = "deadline_exceeded"
    retryable = True


class DesktopUnavailable(SteersmanError):
    """This deployment has no virtual desktops; the details say what is missing."""

    code = "desktop_unavailable"


def _all_errors() -> dict[str, type[SteersmanError]]:
    found: dict[str, type[SteersmanError]] = {}
    pending: list[type[SteersmanError]] = SteersmanError.__subclasses__()
    while pending:
        error = pending.pop()
        found.setdefault(error.code, error)
        pending.extend(error.__subclasses__())
    return found


ERRORS: dict[str, type[SteersmanError]] = _all_errors()
"""Every code and its class. A contract test holds the gateway's HTTP statuses against it."""


def from_wire(error: WireError) -> SteersmanError:
    """Build the error that a peer sent; an unknown code becomes `InternalError`."""
    return ERRORS.get(error.code, InternalError).from_details(error.message, error.details)
