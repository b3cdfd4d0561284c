"""Whether something is a JSON Schema at all, and where it is not.

Of any draft that it names with `$schema`, 2020-12 otherwise. Nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema_rs

_LONGEST = 300


class NotASchema(ValueError):
    """The text says why.

    Attributes:
        place: Keys and positions that lead to what is wrong; empty for the whole.
    """

    def __init__(self, why: str, place: Sequence[str | int] = ()) -> None:
        super().__init__(why)
        self.place = tuple(place)


def check_json_schema(schema: Mapping[str, Any]) -> None:
    """Refuse what is no JSON Schema, or refers to what is not in it.

    Raises:
        NotASchema: A keyword has no such value, a pattern is no regular expression, a reference
            leads nowhere or outside, or the draft is not known.
    """
    try:
        jsonschema_rs.validator_for(dict(schema), offline=True)
    except jsonschema_rs.ValidationError as error:
        raise NotASchema(_first_line(error.message), error.instance_path) from error
    except (jsonschema_rs.ReferencingError, ValueError) as error:  # too deep is a ValueError
        raise NotASchema(_first_line(str(error))) from error


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:_LONGEST]
