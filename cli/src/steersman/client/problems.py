"""What goes wrong between a client and the API."""

from collections.abc import Mapping
from typing import Any

import msgspec

from steersman_contracts.rest import Problem


class ClientError(Exception):
    """Base of what this package raises on purpose."""


class Unreachable(ClientError):
    """Nothing answers at the address, or it stopped to in the middle of an exchange."""


class UnexpectedAnswer(ClientError):
    """Something answers that is not this API, or a version of it that we do not know.

    Attributes:
        status: The HTTP status, if it is that which was not expected.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ApiProblem(ClientError):
    """The API refused (RFC 9457).

    Attributes:
        code: Stable; decide by it, never by the text.
        status: The HTTP status.
        field: What in the request was not acceptable, if it was that.
        details: Facts for programs.
        request_id: Under which the server's log has it.
        retry_after_s: When the server says that asking again may help.
    """

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.code = problem.code
        self.status = problem.status
        self.field = problem.field
        self.details: Mapping[str, Any] = problem.details
        self.request_id = problem.request_id
        self.retry_after_s = retry_after_s


def read_problem(status: int, body: bytes, retry_after: str | None = None) -> ClientError:
    """The error in an answer with a status of 400 or more."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeError):
        # A proxy, or some other server altogether.
        return UnexpectedAnswer(f"the server answered {status} without saying why", status)
    wait = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
    return ApiProblem(problem, wait)
