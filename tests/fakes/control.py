"""Steering the fakes from another process: `POST /__fakes__/control` and `GET /__fakes__/requests`.

A control request is one operation or a list of them, e.g. {"op": "script", "model": "m", "script":
{"turns": [{"items": [{"type": "text", "text": "Hello"}]}]}} {"op": "fault", "model": "m", "faults":
[{"fault": "cut", "deltas": 3}], "count": 2} {"op": "hold", "model": "m", "deltas": 2}      {"op":
"release", "model": "m"}      {"op": "reset"} {"op": "wait", "moment": "arrived", "model": "m",
"timeout_s": 5} `wait` answers once the moment has come (arrived, held, finished, client_gone), with
the request that it came to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from fakes.faults import Fault
from fakes.http import HttpConnection
from fakes.recording import Moment, Recorded
from fakes.script import Script
from fakes.wire import HttpRequest, encode

if TYPE_CHECKING:
    from fakes.server import FakeProviders

_JSON: Final = {"content-type": "application/json"}
_SECRET: Final = frozenset(("authorization", "x-api-key", "x-goog-api-key"))


class SetScript(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="script"):
    model: str
    script: Script


class AddFault(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="fault"):
    model: str
    faults: list[Fault]
    count: int = 1


class Hold(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="hold"):
    model: str
    frames: int | None = None
    deltas: int | None = None
    count: int = 1


class Release(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="release"):
    model: str = "*"


class Reset(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="reset"):
    pass


class Wait(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="wait"):
    moment: Moment
    model: str = "*"
    timeout_s: float = 30.0


Operation: TypeAlias = SetScript | AddFault | Hold | Release | Reset | Wait
_OPERATIONS: Final = msgspec.json.Decoder(list[Operation])


def handle(fakes: FakeProviders, connection: HttpConnection, request: HttpRequest) -> None:
    if request.method == "GET" and request.path == "/__fakes__/requests":
        model = request.query.get("model", "*")
        after = int(request.query.get("after", "0"))
        found = [
            shown(one) for one in fakes.requests if one.number > after and model in ("*", one.model)
        ]
        connection.respond(200, _JSON, encode({"requests": found}))
    elif request.method == "POST" and request.path == "/__fakes__/control":
        try:
            operations = _OPERATIONS.decode(_listed(request.raw))
        except msgspec.DecodeError as error:
            connection.respond(400, _JSON, encode({"error": str(error)}))
            return
        fakes.spawn(_run(fakes, connection, operations))
    else:
        connection.respond(404, _JSON, encode({"error": "unknown control path"}))


def _listed(raw: bytes) -> bytes:
    return raw if raw.lstrip().startswith(b"[") else b"[%b]" % raw


async def _run(
    fakes: FakeProviders, connection: HttpConnection, operations: Sequence[Operation]
) -> None:
    results: list[object] = []
    try:
        for operation in operations:
            result = await _apply(fakes, operation)
            results.append(result)
    except TimeoutError:
        connection.respond(408, _JSON, encode({"error": "that moment did not come"}))
        return
    connection.respond(200, _JSON, encode({"results": results}))


async def _apply(fakes: FakeProviders, operation: Operation) -> object:
    match operation:
        case SetScript():
            fakes.script(operation.model, operation.script)
        case AddFault():
            fakes.fault(operation.model, *operation.faults, count=operation.count)
        case Hold():
            fakes.hold(
                operation.model,
                frames=operation.frames,
                deltas=operation.deltas,
                count=operation.count,
            )
        case Release():
            fakes.release(operation.model)
        case Reset():
            fakes.reset()
        case Wait():
            async with asyncio.timeout(operation.timeout_s):
                return shown(await fakes.next_moment(operation.moment, operation.model))
    return None


def shown(recorded: Recorded) -> dict[str, object]:
    """A request as JSON, without its credentials."""
    try:
        body: object = msgspec.json.decode(recorded.raw)
    except msgspec.DecodeError:
        body = None
    return {
        "number": recorded.number,
        "kind": recorded.kind,
        "model": recorded.model,
        "path": recorded.path,
        "headers": {
            name: "…" if name in _SECRET else value for name, value in recorded.headers.items()
        },
        "body": body,
        "status": recorded.status,
        "refusal": recorded.refusal,
        "refused_field": recorded.refused_field,
        "frames_sent": recorded.frames_sent,
        "outcome": recorded.outcome,
    }
