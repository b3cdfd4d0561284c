"""Errors as RFC 9457 problem documents. Only the gateway knows about HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from steersman_contracts.errors import (
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    SteersmanError,
)
from steersman_contracts.rest import Problem

log = structlog.stdlib.get_logger()

MEDIA_TYPE: Final = "application/problem+json"

STATUS: Final[Mapping[str, int]] = {
    "internal": 500,
    "invalid_request": 400,
    "bad_cursor": 400,
    "unknown_model": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "transition_refused": 409,
    "stale_fence": 409,
    "already_owned": 409,
    "call_elsewhere": 409,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "queue_full": 429,
    "too_many_requests": 429,
    "desktop_unavailable": 501,
    "unavailable": 503,
    "deadline_exceeded": 504,
}
"""The HTTP status of every code of `steersman_contracts.errors`; a test knows every code."""

_PATH: Final = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_NAMED_FIELD: Final = re.compile(r"(?:unknown|missing required) field `(?P<field>[^`]*)`")


def invalid(field: str, message: str) -> InvalidRequest:
    """The error for a value of a client that is not acceptable."""
    return InvalidRequest(message, field=field)


def from_msgspec(error: msgspec.ValidationError) -> InvalidRequest:
    """Name the field that msgspec found: `parts[0].text` for `$.parts[0].text`."""
    text = str(error)
    at = _PATH.search(text)
    named = _NAMED_FIELD.search(text)
    where = [at["path"]] if at else []
    if named:
        where.append(named["field"])
    return invalid(".".join(filter(None, where)) or "body", _PATH.sub("", text))


def from_litestar(error: HTTPException) -> SteersmanError:
    """Translate what Litestar raises before or around our handlers."""
    match error.status_code:
        case 404:
            return NotFound("there is nothing at this address")
        case 405:
            return MethodNotAllowed("this address does not know the method")
        case 413:
            return PayloadTooLarge("the body is larger than this deployment accepts")
        case status if status >= 500:
            return InternalError("something went wrong; the log has it under the request id")
        case _ if isinstance(error, ValidationException):
            return _from_parameters(error)
        case _:
            return InvalidRequest(error.detail)


def _from_parameters(error: ValidationException) -> InvalidRequest:
    extra: Any = error.extra  # a list of what Litestar found
    found: dict[str, Any] = extra[0] if extra else {}
    field, message = str(found.get("key", "")), str(found.get("message", error.detail))
    if field == "data":
        return invalid("body", "a JSON body is required")
    return invalid(field, message) if field else InvalidRequest(message)


def to_problem(error: SteersmanError, request_id: str) -> Problem:
    """Describe an error; one whose code has no status is an internal one and tells nothing."""
    if error.code not in STATUS or error.code == "internal":
        error = InternalError("something went wrong; the log has it under the request id")
    details = {key: value for key, value in error.details.items() if key != "field"}
    field = error.details.get("field")
    return Problem(
        type=f"urn:steersman:problem:{error.code}",
        title=error.code.replace("_", " ").capitalize(),
        status=STATUS[error.code],
        detail=str(error),
        code=error.code,
        request_id=request_id,
        field=field if isinstance(field, str) else None,
        details=details,
    )


def headers_for(error: SteersmanError) -> dict[str, str]:
    """The headers that HTTP wants with some errors."""
    if error.code == "unauthenticated":
        return {"WWW-Authenticate": 'Bearer realm="steersman"'}
    return {"Retry-After": "1"} if error.retryable else {}


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Answer a request that failed, whatever the reason."""
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        headers |= error.headers or {}
        if error.status_code >= 500:
            log.error("request.failed", exc_info=error)
        error = from_litestar(error)
    elif not isinstance(error, SteersmanError):
        log.error("request.failed", exc_info=error)
        error = InternalError("")
    elif STATUS.get(error.code, 500) == 500:
        log.error("request.failed", exc_info=error)
    problem = to_problem(error, structlog.contextvars.get_contextvars().get("request_id", ""))
    return Response(
        problem,
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=headers | headers_for(error),
    )
