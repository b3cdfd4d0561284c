"""Request bodies: JSON, decoded strictly into the type that the handler declares.

Litestar decodes without a type and converts afterwards, leniently: `"5"` would pass for 5. Here
msgspec decodes straight into the type, and its errors name the field by its path.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException

from steersman_contracts.errors import InvalidRequest, UnsupportedMediaType
from steersman_gateway.problems import from_msgspec, invalid


class JsonRequest(Request[Any, Any, Any]):
    """A request whose body is decoded into the annotation of the handler's `data`."""

    async def body(self) -> bytes:
        """Read the whole body.

        Raises:
            InvalidRequest: The client went away before its end.
        """
        try:
            return await super().body()
        except InternalServerException as error:
            raise InvalidRequest("the connection ended before the body did") from error

    async def json(self) -> Any:
        """Decode the body.

        Raises:
            UnsupportedMediaType: It does not say that it is JSON.
            InvalidRequest: It is not JSON, or not what the handler wants; `field` says where.
        """
        media_type = self.content_type[0].lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise UnsupportedMediaType("the body must be sent as application/json", got=media_type)
        field = self.route_handler.parsed_data_field
        return decode(await self.body(), Any if field is None else field.annotation)


@lru_cache(maxsize=64)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode(body: bytes, kind: Any) -> Any:
    """Decode JSON into `kind`.

    Raises:
        InvalidRequest: It is not JSON, or not of that shape; `field` says where.
    """
    try:
        value = _decoder(kind).decode(body)
        if b"\\u0000" in body:
            shown = _shown(msgspec.json.decode(body))
            if where := _find_nul(shown, ""):
                raise invalid(where, "the character U+0000 cannot be stored")
            value = _decoder(kind).decode(msgspec.json.encode(shown))
    except msgspec.ValidationError as error:
        raise from_msgspec(error) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}", field="body") from error
    return value


_SPOKEN = ("text", "parts", "results", "messages")
"""Fields of bodies that hold what somebody said: pasted from anywhere, so nothing is refused."""


def _shown(body: Any) -> Any:
    """The body with U+FFFD for each NUL in what somebody said."""
    if not isinstance(body, dict):
        return body
    fields: dict[str, Any] = body  # pyright: ignore[reportUnknownVariableType]  # any JSON
    return fields | {name: _replaced(fields[name]) for name in _SPOKEN if name in fields}


def _replaced(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "\ufffd")
        case dict():
            return {_replaced(key): _replaced(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]  # any JSON
        case list():
            return [_replaced(item) for item in value]  # pyright: ignore[reportUnknownVariableType]  # any JSON
        case _:
            return value


def _find_nul(value: Any, path: str) -> str | None:
    """The path of a text with a NUL in it: PostgreSQL has no place for one."""
    match value:
        case str():
            return path if "\0" in value else None
        case dict():
            items: Any = [(f"{path}.{key}".lstrip("."), item) for key, item in value.items()]  # pyright: ignore[reportUnknownVariableType]  # any JSON
        case list():
            items = [(f"{path}[{index}]", item) for index, item in enumerate(value)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # any JSON
        case _:
            return None
    return next((found for where, item in items if (found := _find_nul(item, where))), None)
