"""What can go wrong between a client and a provider, as data.

`after` counts frames (server-sent events), `deltas` counts frames that carry output; `deltas` means
the same in every wire format. Where neither is given, the fault strikes before the first frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec


class HttpError(msgspec.Struct, frozen=True, tag_field="fault", tag="http-error"):
    """An error status instead of a stream, with the provider's error body unless one is given."""

    status: int
    retry_after: float | None = None
    # Anthropic's `error.type`, OpenAI's `error.code`, Google's `error.status`.
    error_type: str | None = None
    message: str | None = None
    body: str | None = None
    headers: Mapping[str, str] = {}


class StreamError(msgspec.Struct, frozen=True, tag_field="fault", tag="stream-error"):
    """The provider's error inside a running stream, which then ends.

    `shape` matters to Responses alone: an `error` event with its fields at the top ("flat") or
    under `error` ("nested"), or a `response.failed` / `response.incomplete` event.
    """

    after: int = 0
    deltas: int | None = None
    error_type: str | None = None
    message: str | None = None
    shape: Literal["flat", "nested", "failed", "incomplete"] = "flat"


class Cut(msgspec.Struct, frozen=True, tag_field="fault", tag="cut"):
    """The connection ends, without the end of the body. `mid_frame`: within the next frame.

    `reset`: with a TCP reset.
    """

    after: int = 0
    deltas: int | None = None
    mid_frame: bool = False
    reset: bool = False


class Eof(msgspec.Struct, frozen=True, tag_field="fault", tag="eof"):
    """The body ends properly, but too early: no terminal event."""

    after: int = 0
    deltas: int | None = None


class Stall(msgspec.Struct, frozen=True, tag_field="fault", tag="stall"):
    """Silence in the stream: for `seconds`, or until released or disconnected."""

    after: int = 0
    deltas: int | None = None
    seconds: float | None = None


class Hang(msgspec.Struct, frozen=True, tag_field="fault", tag="hang"):
    """Silence before the response headers: for `seconds`, or until released or disconnected."""

    seconds: float | None = None


class Comments(msgspec.Struct, frozen=True, tag_field="fault", tag="comments"):
    """An SSE comment, as proxies send to keep a connection alive, after every `every` frames."""

    every: int = 1


class Garbage(msgspec.Struct, frozen=True, tag_field="fault", tag="garbage"):
    """One frame that is not JSON; the stream then goes on."""

    after: int = 0
    deltas: int | None = None


class ContentType(msgspec.Struct, frozen=True, tag_field="fault", tag="content-type"):
    """The right body under another content type."""

    value: str = "text/html"


class TinyChunks(msgspec.Struct, frozen=True, tag_field="fault", tag="tiny-chunks"):
    """Every byte of the body in a chunk of its own."""


class CrlfLines(msgspec.Struct, frozen=True, tag_field="fault", tag="crlf-lines"):
    """Lines end with CR LF, which the SSE grammar allows."""


class HugeDelta(msgspec.Struct, frozen=True, tag_field="fault", tag="huge-delta"):
    """One text delta of `size` characters instead of the scripted items."""

    size: int = 1_000_000


Fault: TypeAlias = (
    HttpError
    | StreamError
    | Cut
    | Eof
    | Stall
    | Hang
    | Comments
    | Garbage
    | ContentType
    | TinyChunks
    | CrlfLines
    | HugeDelta
)
