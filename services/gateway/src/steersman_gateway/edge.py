"""What every HTTP exchange has in common: a request id, headers that protect, one log line."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any, Final

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.stdlib.get_logger()

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_QUIET: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked every few seconds by machines: not worth a line."""

_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not `no-referrer`: browsers then send `Origin: null` with forms, which says nothing.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    (b"cache-control", b"no-store"),
)
"""Set unless the reply has its own."""


class Edge:
    """Wraps the whole application, so that it also sees what no route answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one exchange."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _bind(scope)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _complete(message, request_id)
            await send(message)

        # uvicorn's connection: the only way to end one whose client takes nothing any more.
        scope["state"]["transport"] = getattr(getattr(send, "__self__", None), "transport", None)
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:  # the outermost loop; Litestar answers errors itself before the start
            log.exception("request.broke_off")
        finally:
            _log(scope, status, started)


def _bind(scope: Any) -> str:
    request_id, traceparent = "", ""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            request_id = value.decode("latin-1")
        elif name == b"traceparent":
            traceparent = value.decode("latin-1")
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = secrets.token_hex(12)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    if _TRACEPARENT.fullmatch(traceparent):
        structlog.contextvars.bind_contextvars(traceparent=traceparent)
    return request_id


def _complete(message: Any, request_id: str) -> None:
    headers: list[tuple[bytes, bytes]] = list(message.get("headers", []))
    present = {name.lower() for name, _ in headers}
    headers.extend(item for item in _HEADERS if item[0] not in present)
    headers.append((b"x-request-id", request_id.encode()))
    message["headers"] = headers


def _log(scope: Any, status: int, started: float) -> None:
    if scope["path"] in _QUIET:
        return
    write = log.warning if status >= 500 or status == 0 else log.info
    write(
        "request.finished",
        method=scope["method"],
        # The template: addresses hold ids, and one of them a sign-in code.
        path=scope.get("path_template", ""),
        status=status,
        duration_ms=round((time.perf_counter() - started) * 1000, 1),
    )
