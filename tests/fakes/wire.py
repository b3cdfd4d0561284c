"""What the four wire formats share: how a request is refused, ids, and server-sent events."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

from fakes.faults import HttpError, StreamError
from fakes.script import Kind, Plan, RequestView, Turn

encode: Final = msgspec.json.encode

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"

TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Refused(Exception):
    """The request is wrong. `field` is where, as the provider would name it."""

    def __init__(
        self, message: str, *, field: str | None = None, status: int = 400, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Problem:
    """One msgspec validation error, taken apart."""

    path: tuple[str | int, ...]
    what: Literal["unknown", "missing", "value", "type"]
    # The field that is unknown or missing, or the value that is none of the allowed ones.
    name: str
    text: str

    def dotted(self) -> str:
        return ".".join(map(str, self.path))

    def indexed(self) -> str:
        out = ""
        for step in self.path:
            out += f"[{step}]" if isinstance(step, int) else f".{step}" if out else step
        return out

    def under(self, *path: str | int) -> Problem:
        return Problem((*path, *self.path), self.what, self.name, self.text)


_PATH: Final = re.compile(r" - at `(?:key in )?\$(.*)`$")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")
_VALUE: Final = re.compile(r"Invalid (?:enum )?value (.*)")


def problem(error: msgspec.ValidationError) -> Problem:
    text = str(error)
    path: tuple[str | int, ...] = ()
    if match := _PATH.search(text):
        text = text[: match.start()]
        path = tuple(int(at) if at else name for name, at in _STEP.findall(match[1]))
    if match := _UNKNOWN.fullmatch(text):
        return Problem((*path, match[1]), "unknown", match[1], text)
    if match := _MISSING.fullmatch(text):
        return Problem((*path, match[1]), "missing", match[1], text)
    if match := _VALUE.fullmatch(text):
        return Problem(path, "value", match[1].strip("'"), text)
    return Problem(path, "type", "", text)


class Ids:
    """Ids unique in this process and very likely beyond it: old histories never meet new calls."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(4)
        self._count = itertools.count(1)

    def next(self) -> str:
        """Sixteen characters, letters and digits."""
        return f"{self._run}{next(self._count):08d}"


@dataclass(slots=True)
class Issued:
    """What scripts brought along instead of letting the fakes make it up, and stored items."""

    signatures: set[str] = field(default_factory=set[str])
    items: set[str] = field(default_factory=set[str])
    # Stored responses of OpenAI by id: the JSON items of their input and output.
    responses: dict[str, list[bytes]] = field(default_factory=dict[str, list[bytes]])


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    path: str
    query: Mapping[str, str]
    # Names in lower case.
    headers: Mapping[str, str]
    raw: bytes
    # Path and query as they came, for signatures.
    target: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that passed every check."""

    view: RequestView
    raw_size: int
    # What the response says about the request, e.g. its tools; only its own format reads it.
    echo: Mapping[str, object]


class Wire(Protocol):
    @property
    def kind(self) -> Kind: ...

    @property
    def content_type(self) -> str: ...

    def parse(self, request: HttpRequest, issued: Issued) -> Call:
        """Check a request as strictly as the provider does. Raises Refused."""
        ...

    def render(self, turn: Turn, call: Call, ids: Ids, issued: Issued) -> Plan: ...

    def refusal(self, refused: Refused, request_id: str) -> bytes: ...

    def error_body(self, error: HttpError, request_id: str) -> bytes: ...

    def error_frame(self, error: StreamError, request_id: str, sequence: int) -> bytes: ...

    def response_headers(self, request_id: str) -> Mapping[str, str]: ...


def sse(event: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), encode(data))


def sign(*what: str) -> str:
    """A signature over what it belongs to: changed or moved, it no longer fits."""
    digest = hashlib.blake2b("\0".join(what).encode(), digest_size=24).digest()
    return base64.b64encode(b"fake-signature:" + digest).decode()


def given_bytes(raw: Raw | UnsetType) -> bytes:
    """The JSON of an optional field; nothing if it was left out or null."""
    if raw is UNSET:
        return b""
    found = bytes(raw)
    return b"" if found == b"null" else found


def bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def is_known_key(key: str) -> bool:
    # Any key is welcome, so that tests need not share one; this prefix plays the revoked key.
    return not key.startswith("invalid")


def now_s() -> int:
    return int(time.time())


_TYPES: Final = frozenset(("string", "number", "integer", "boolean", "object", "array", "null"))
_SUBSCHEMAS: Final = ("items", "additionalProperties", "not", "if", "then", "else", "contains")
_SUBSCHEMA_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SUBSCHEMA_MAPS: Final = ("properties", "$defs", "definitions", "patternProperties")


def schema_error(schema: JsonValue) -> str | None:
    """Why this cannot be the JSON Schema of a tool's arguments, or None.

    Ours, because `jsonschema` is slow to import.
    """
    if not isinstance(schema, dict):
        return "the schema is not an object"
    kind = schema.get("type")
    if not isinstance(kind, str) or kind.lower() != "object":
        return f"the type is {kind!r}, not 'object'"
    return _node_error(schema, "")


def _node_error(node: dict[str, JsonValue], at: str) -> str | None:
    kind = node.get("type")
    for one in kind if isinstance(kind, list) else [kind]:
        if one is not None and not (isinstance(one, str) and one.lower() in _TYPES):
            return f"{at}.type is {one!r}"
    required = node.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        return f"{at}.required is not a list of names"
    return _children_error(node, at)


def _children_error(node: dict[str, JsonValue], at: str) -> str | None:
    children = [(f"{at}.{key}", node[key]) for key in _SUBSCHEMAS if key in node]
    for key in _SUBSCHEMA_LISTS:
        options = node.get(key, [])
        if not isinstance(options, list):
            return f"{at}.{key} is not a list"
        children += [(f"{at}.{key}[{index}]", child) for index, child in enumerate(options)]
    for key in _SUBSCHEMA_MAPS:
        named = node.get(key, {})
        if not isinstance(named, dict):
            return f"{at}.{key} is not an object"
        children += [(f"{at}.{key}.{name}", child) for name, child in named.items()]
    for where, child in children:
        if isinstance(child, bool):
            continue
        if not isinstance(child, dict):
            return f"{where} is not an object"
        if wrong := _node_error(child, where):
            return wrong
    return None
