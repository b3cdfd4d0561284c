"""Putting a request body to a wire format's checks without a network, for table tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fakes.script import Kind, RequestView
from fakes.server import WIRES
from fakes.wire import HttpRequest, Issued, Refused, encode

# Requests are plain JSON here.
Body = dict[str, Any]

HEADERS: Final[Mapping[Kind, Mapping[str, str]]] = {
    "anthropic": {"authorization": "Bearer k", "anthropic-version": "2026-10-21"},
    "responses": {"authorization": "Bearer k"},
    "chat": {"authorization": "Bearer k"},
    "gemini": {"x-goog-api-key": "k"},
}
_PATHS: Final[Mapping[Kind, str]] = {
    "anthropic": "/v1/messages",
    "responses": "/v1/responses",
    "chat": "/v1/chat/completions",
    "gemini": "/v1beta/models/{}:streamGenerateContent",
}


def ask(
    kind: Kind,
    body: Body | bytes,
    *,
    headers: Mapping[str, str] | None = None,
    model: str = "m",
    issued: Issued | None = None,
) -> RequestView:
    """Check a request. Raises Refused."""
    request = HttpRequest(
        method="POST",
        path=_PATHS[kind].format(model),
        query={"alt": "sse"} if kind == "gemini" else {},
        headers=HEADERS[kind] if headers is None else headers,
        raw=body if isinstance(body, bytes) else encode(body),
    )
    return WIRES[kind].parse(request, issued or Issued()).view


def refusal(
    kind: Kind,
    body: Body | bytes,
    *,
    headers: Mapping[str, str] | None = None,
    model: str = "m",
) -> Refused:
    """Why a request is refused. Raises AssertionError if it is not."""
    try:
        ask(kind, body, headers=headers, model=model)
    except Refused as refused:
        return refused
    raise AssertionError(f"accepted: {body!r}")
