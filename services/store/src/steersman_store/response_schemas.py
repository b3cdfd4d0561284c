"""The schema of a chat's answers is checked when it is set, so that no turn fails because of it."""

from __future__ import annotations

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.parts import JsonObject
from steersman_runtime.answer_schema import BadSchema, check_schema


def check_response_schema(schema: JsonObject | None) -> None:
    """Refuse what no answer could be held against; None and empty are no schema at all.

    Raises:
        InvalidRequest: The schema cannot be used.
    """
    if not schema:
        return
    try:
        check_schema(schema)
    except BadSchema as error:
        raise InvalidRequest(
            f"this schema cannot be used: {error}", field="response_schema"
        ) from error
