"""Every error has one status, and says what is to blame without telling what is inside."""

from __future__ import annotations

import msgspec
import pytest
from litestar.exceptions import (
    ClientException,
    HTTPException,
    InternalServerException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from steersman_contracts.errors import ERRORS, InternalError, SteersmanError
from steersman_contracts.rest import CreateChatBody
from steersman_gateway.problems import STATUS, from_litestar, from_msgspec, headers_for, to_problem


def test_every_code_has_a_status_and_every_status_a_code() -> None:
    assert set(STATUS) == set(ERRORS)
    assert all(400 <= status <= 599 for status in STATUS.values())


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_a_problem_carries_what_a_program_needs(code: str) -> None:
    problem = to_problem(ERRORS[code]("why", field="title", maximum=3), "r1")

    assert (problem.code, problem.status, problem.request_id) == (code, STATUS[code], "r1")
    if code == "internal":
        assert (problem.field, problem.details) == (None, {})
        assert "why" not in problem.detail
    else:
        assert (problem.field, problem.details) == ("title", {"maximum": 3})
        assert problem.detail == "why"


def test_an_error_that_clients_do_not_know_is_an_internal_one() -> None:
    class Odd(SteersmanError):
        code = "odd"

    problem = to_problem(Odd("the disk of node 7 is full", node=7), "r1")

    assert (problem.code, problem.status, problem.details) == ("internal", 500, {})
    assert "node" not in problem.detail


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_http_headers_follow_the_kind_of_error(code: str) -> None:
    error = ERRORS[code]("why")

    headers = headers_for(error)

    assert ("Retry-After" in headers) == error.retryable
    assert ("WWW-Authenticate" in headers) == (code == "unauthenticated")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"title": 1}', "title"),
        (b'{"titel": ""}', "titel"),
        (b'{"parts": [{"type": "text", "text": 1}]}', "parts[0].text"),
        (b'{"parts": [{"type": "text"}]}', "parts[0].text"),
        (b'{"parts": [{"type": "text", "text": "a", "no": 1}]}', "parts[0].no"),
        (b'{"parts": {}}', "parts"),
        (b"[]", "body"),
    ],
)
def test_the_offending_field_is_named_by_its_path(body: bytes, field: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(body, type=CreateChatBody)

    error = from_msgspec(caught.value)

    assert error.details == {"field": field}
    assert "$" not in str(error)


@pytest.mark.parametrize(
    ("raised", "code", "field"),
    [
        (NotFoundException(), "not_found", None),
        (MethodNotAllowedException(), "method_not_allowed", None),
        (RequestEntityTooLarge(), "payload_too_large", None),
        (ClientException("Invalid host header"), "invalid_request", None),
        (InternalServerException("line 7 of x.py"), "internal", None),
        (HTTPException(status_code=418), "invalid_request", None),
        (
            ValidationException(extra=[{"key": "limit", "message": "too large"}]),
            "invalid_request",
            "limit",
        ),
        (
            ValidationException(extra=[{"key": "data", "message": "'data'"}]),
            "invalid_request",
            "body",
        ),
        (ValidationException("no details"), "invalid_request", None),
    ],
)
def test_what_litestar_raises_is_translated(
    raised: HTTPException, code: str, field: str | None
) -> None:
    error = from_litestar(raised)

    assert error.code == code
    assert error.details.get("field") == field
    assert "x.py" not in str(error)


def test_an_internal_error_never_shows_its_message() -> None:
    assert "secret" not in to_problem(InternalError("secret"), "").detail
