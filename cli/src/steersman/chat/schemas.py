"""The form of a chat's answers, as a file of a person says it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from steersman.chat.decisions import Misused
from steersman_contracts.parts import JsonObject

_MOST_BYTES: Final = 1 << 20
"""Far more than the server takes; a wrong file is not read to its end."""


class NoSchema(Misused):
    """The file holds no JSON object."""


def read_schema(path: Path) -> JsonObject:
    """Read a JSON Schema; whether it can be used, the server says.

    Raises:
        NoSchema: There is none.
    """
    try:
        with path.expanduser().open("rb") as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=JsonObject)
    except OSError as error:
        raise NoSchema(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise NoSchema(f"{str(path)!r} holds no JSON Schema: {error}") from error


def schema_text(schema: JsonObject | None) -> str:
    """The form of answers, for people."""
    if not schema:
        return "answers are free; /schema FILE asks for JSON of that JSON Schema"
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode()
