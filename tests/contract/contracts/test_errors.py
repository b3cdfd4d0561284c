from __future__ import annotations

from typing import Any

import msgspec
import pytest
from contract.contracts.structs import json_values, text
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_contracts import errors
from steersman_contracts.errors import ERRORS, InternalError, SteersmanError, WireError, from_wire

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, SteersmanError) and value is not SteersmanError
]


def across_the_wire(error: SteersmanError) -> SteersmanError:
    encoded = msgspec.json.encode(error.to_wire())
    return from_wire(msgspec.json.decode(encoded, type=WireError))


@pytest.mark.parametrize("kind", CLASSES)
@settings(deadline=None, max_examples=20)
@given(message=text, details=st.dictionaries(text, json_values, max_size=3))
def test_an_error_arrives_as_what_it_was(
    kind: type[SteersmanError], message: str, details: dict[str, Any]
) -> None:
    arrived = across_the_wire(kind.from_details(message, details))

    assert type(arrived) is kind
    assert (str(arrived), arrived.details) == (message, details)
    assert (arrived.code, arrived.retryable) == (kind.code, kind.retryable)


def test_every_class_has_a_code_of_its_own_and_is_known_by_it() -> None:
    codes = [kind.code for kind in CLASSES]

    assert len(codes) == len(set(codes))
    assert set(ERRORS) == set(codes)


def test_an_error_of_a_newer_version_is_an_internal_one() -> None:
    arrived = from_wire(WireError("of_a_newer_version", "what it says", {"a": 1}))

    assert type(arrived) is InternalError
    assert (str(arrived), arrived.details) == ("what it says", {"a": 1})


def test_details_may_be_called_like_parameters() -> None:
    error = errors.Conflict("no", message="m", cls="c", details={})

    assert across_the_wire(error).details == {"message": "m", "cls": "c", "details": {}}
