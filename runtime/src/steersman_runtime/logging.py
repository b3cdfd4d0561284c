"""Logs: one JSON object per line in production, readable lines on a terminal.

Events are constant `noun.verb` names with key-value pairs. Message text, tool arguments and secrets
are never logged; keys that look like a secret are masked all the same.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import msgspec
import structlog

_SECRET_KEYS: Final = frozenset(
    {
        "token",
        "api_key",
        "password",
        "authorization",
        "secret",
        "cookie",
        "nats_url",
        "database_url",
    }
)
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_encoder = msgspec.json.Encoder(enc_hook=repr)


def configure_logging(
    service: str,
    *,
    instance: str = "",
    log_format: Literal["auto", "json", "console"] = "auto",
    level: Literal["debug", "info", "warning", "error"] = "info",
) -> None:
    """Set up structlog and the standard library's logging, once per process."""
    pretty = log_format == "console" or (log_format == "auto" and sys.stdout.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask_secrets,
    ]
    identity = {"service": service} | ({"instance": instance} if instance else {})

    def add_identity(
        _: object, __: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        for key, value in identity.items():
            event.setdefault(key, value)
        return event

    final: list[structlog.types.Processor] = (
        # The default formatter prints the local variables of every frame: arguments, keys.
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_to_json)]
    )
    structlog.configure(
        processors=[*shared, add_identity, *final],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, add_identity],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def _to_json(value: Any, **_: Any) -> str:
    return _encoder.encode(value).decode()


def _mask_secrets(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event.keys() & _SECRET_KEYS:
        event[key] = "***"
    return event
