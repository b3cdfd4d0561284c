"""A server that speaks MCP by hand and badly: `python hostile.py BEHAVIOUR [FILE]`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BEHAVIOUR = sys.argv[1]
REVISION = sys.argv[2] if BEHAVIOUR == "changing" else "2025-06-18"
TOOL = {"name": "t", "description": "A tool.", "inputSchema": {"type": "object"}}


def write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def send(message: dict[str, Any]) -> None:
    write(json.dumps({"jsonrpc": "2.0", **message}))


def answer(request: dict[str, Any], result: Any) -> None:
    send({"id": request["id"], "result": result})


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema


def listed(number: int) -> Any:
    match BEHAVIOUR:
        case "many-tools":
            return [{**TOOL, "name": f"t{n}"} for n in range(5_000)]
        case "bad-tools":
            return [
                TOOL,
                {**TOOL, "name": "large", "inputSchema": {"type": "object", "x": "y" * 50_000}},
                {**TOOL, "name": "deep", "inputSchema": deep(60)},
                {**TOOL, "name": "array", "inputSchema": {"type": "array"}},
                {"name": 7},
                {**TOOL, "name": "", "inputSchema": {"type": "object"}},
                {**TOOL, "name": "a b", "description": "Hid\u200bden\U000e0041 \x07orders\u202e."},
                {**TOOL, "name": "a.b", "description": "x" * 100_000},
            ]
        case "bad-list":
            return "all of them"
        case "few-tools":
            return [{**TOOL, "name": name} for name in ("add", "do", "die", "fail")]
        case "changing":
            return [{**TOOL, "name": f"t{number}"}]
        case "trap":
            schema = {
                "type": "object",
                "properties": {"s": {"type": "string", "pattern": "^(a+)+$"}},
                "required": ["s"],
            }
            return [{**TOOL, "outputSchema": schema}]
        case _:
            return [TOOL]


def call(request: dict[str, Any]) -> None:
    match BEHAVIOUR:
        case "dies":
            os._exit(9)
        case "huge":
            answer(request, {"content": [{"type": "text", "text": "x" * (9 << 20)}]})
        case "long":
            answer(request, {"content": [{"type": "text", "text": "x" * (1 << 20)}] * 3})
        case "malformed":
            answer(request, {"content": "nothing of the kind"})
        case "trap":
            answer(request, {"content": [], "structuredContent": {"s": "a" * 40 + "b"}})
        case "error":
            message = f"key {os.environ.get('KEY')} is wrong"
            send({"id": request["id"], "error": {"code": -32000, "message": message}})
        case "silent":
            return
        case _:
            answer(request, {"content": [{"type": "text", "text": "done"}]})


def note(text: str) -> None:
    Path(sys.argv[2]).write_text(text)


def begin() -> None:
    match BEHAVIOUR:
        case "garbage":
            while True:
                write("no MCP at all")
        case "endless-line":
            while True:
                sys.stdout.write("x" * 65_536)
        case "exits":
            sys.exit(4)
        case "stays":
            # A child that holds the pipes and does not care that its parent ends.
            child = subprocess.Popen(["/bin/sh", "-c", "trap '' TERM; sleep 1000"])
            note(f"{os.getpid()} {child.pid}")
        case _:
            pass


def initialize(request: dict[str, Any]) -> None:
    if BEHAVIOUR == "slow":
        time.sleep(1_000)
    answer(
        request,
        {
            "protocolVersion": REVISION,
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "hostile", "version": "1"},
        },
    )


def list_tools(request: dict[str, Any], number: int) -> None:
    page: dict[str, Any] = {"tools": listed(number)}
    if BEHAVIOUR == "endless-pages":
        page["nextCursor"] = f"page-{number}"
    answer(request, page)
    if BEHAVIOUR == "changing" and number < 3:
        send({"method": "notifications/tools/list_changed"})


def main() -> None:
    begin()
    lists = 0
    for text in sys.stdin:
        request = json.loads(text)
        match request["method"]:
            case "initialize":
                initialize(request)
            case "tools/list":
                lists += 1
                list_tools(request, lists)
            case "tools/call":
                call(request)
            case "notifications/cancelled" if BEHAVIOUR == "silent":
                note("cancelled")
            case _ if "id" in request:
                send({"id": request["id"], "error": {"code": -32601, "message": "unknown"}})
            case _:
                pass


main()
