"""Writes docs/asyncapi.yaml: what a tool host and the tools service say to each other over NATS.

The schemas are those that msgspec checks. Run it as `python docs/render_asyncapi.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from steersman_contracts.errors import WireError
from steersman_contracts.rpc import DEADLINE_HEADER, ERROR_HEADER, FRAME_HEADER, HEARTBEAT_S
from steersman_contracts.rpc.tools import (
    CallProgress,
    CallResult,
    CallTool,
    CancelCall,
    Catalog,
    HostBeat,
    ListTools,
)
from steersman_contracts.subjects import toolset, toolset_beat

TARGET: Final = Path(__file__).with_name("asyncapi.yaml")
_HEAD: Final = "# Written by docs/render_asyncapi.py from the types of contracts; do not edit.\n"
_SCHEMAS: Final = "#/components/schemas/{name}"
_TYPES: Final = (
    HostBeat,
    ListTools,
    Catalog,
    CallTool,
    CallProgress,
    CallResult,
    CancelCall,
    WireError,
)

_SET: Final = {"description": "The name of the set; its hosts offer the same tools."}
_HOST: Final = {"description": "One process; a name that no later one has."}


def document() -> dict[str, Any]:
    """The AsyncAPI 3 document, seen from a tool host."""
    _, schemas = msgspec.json.schema_components(_TYPES, schema_hook=_any, ref_template=_SCHEMAS)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Steersman tool hosts",
            "version": "1",
            "description": "How a process in any language offers tools over NATS. "
            "docs/plugins.md has the rules in words.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": _operations(),
        "components": {"schemas": schemas, "messages": _messages()},
    }


def _channels() -> dict[str, Any]:
    return {
        "beat": _channel(_address(toolset_beat("SET", "HOST")), ["HostBeat"], host=True),
        "catalog": _channel(_address(toolset("SET", "catalog.list")), ["ListTools"]),
        "calls": _channel(_address(toolset("SET", "calls.run")), ["CallTool"]),
        "cancels": _channel(_address(toolset("SET", "calls.cancel")), ["CancelCall"]),
        "replies": {
            "address": None,
            "description": "The reply subject of a request.",
            "messages": {
                name: {"$ref": f"#/components/messages/{name}"}
                for name in ("Catalog", "CallProgress", "Heartbeat", "CallResult", "WireError")
            },
        },
    }


def _address(subject: str) -> str:
    return subject.replace("SET", "{set}").replace("HOST", "{host}")


def _channel(address: str, messages: list[str], *, host: bool = False) -> dict[str, Any]:
    return {
        "address": address,
        "parameters": {"set": _SET, **({"host": _HOST} if host else {})},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operations() -> dict[str, Any]:
    return {
        "sayThatYouAreThere": {
            "action": "send",
            "channel": {"$ref": "#/channels/beat"},
            "summary": "At least every two seconds; after six without one the host is gone.",
        },
        "answerForTheCatalog": _answered("catalog", ["Catalog", "WireError"], queue=True),
        "runCalls": {
            **_answered(
                "calls", ["CallProgress", "Heartbeat", "CallResult", "WireError"], queue=True
            ),
            "summary": f"Frames, then the result; a frame at least every {HEARTBEAT_S:g} seconds. "
            "Do not let one call wait for another.",
        },
        "cancelCalls": {
            "action": "receive",
            "channel": {"$ref": "#/channels/cancels"},
            "summary": "To all hosts of the set, without a queue group. No answer.",
        },
    }


def _answered(channel: str, replies: list[str], *, queue: bool) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{channel}"},
        **({"bindings": {"nats": {"queue": "{set}"}}} if queue else {}),
        "reply": {
            "channel": {"$ref": "#/channels/replies"},
            "messages": [{"$ref": f"#/channels/replies/messages/{name}"} for name in replies],
        },
    }


def _messages() -> dict[str, Any]:
    headers: dict[str, dict[str, Any]] = {
        "CallTool": _header(DEADLINE_HEADER, "Milliseconds that the service will still wait."),
        "CallProgress": _header(FRAME_HEADER, "Says that more follows.", const="progress"),
        "WireError": _header(ERROR_HEADER, "The code of the error."),
    }
    found: dict[str, Any] = {
        kind.__name__: {
            "summary": (kind.__doc__ or "").strip().partition("\n")[0],
            "payload": {"$ref": _SCHEMAS.format(name=kind.__name__)},
            **({"headers": headers[kind.__name__]} if kind.__name__ in headers else {}),
        }
        for kind in _TYPES
    }
    found["Heartbeat"] = {
        "summary": "The call still runs.",
        "headers": _header(FRAME_HEADER, "Says that more follows.", const="heartbeat"),
        "payload": {"type": "string", "maxLength": 0},
    }
    return found


def _header(name: str, description: str, **facts: str) -> dict[str, Any]:
    value = {"type": "string", "description": description, **facts}
    return {"type": "object", "required": [name], "properties": {name: value}}


def _any(kind: type) -> dict[str, Any]:
    if kind is object:
        return {"description": "Any JSON value."}
    raise NotImplementedError(kind)


def render() -> str:
    """The page."""
    plain = msgspec.json.decode(msgspec.json.encode(document()))  # no tuples, no shared objects
    body = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    return _HEAD + body


class _Dumper(yaml.SafeDumper):
    """Writes everything out: no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
