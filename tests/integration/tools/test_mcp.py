"""MCP servers that are made with the SDK: real processes, real HTTP, one tools service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from integration.tools.conftest import StartTools
from integration.tools.host import ECHO, Caller, plugin, text_of
from integration.tools.mcp_host import (
    WAIT_S,
    configured,
    free_port,
    http_server,
    report,
    stdio,
    until,
    until_file,
    until_offered,
)
from mcp_types.version import LATEST_PROTOCOL_VERSION
from structlog.testing import capture_logs

from steersman_contracts.parts import FilePart, JsonPart, TextPart
from steersman_contracts.rpc.tools import CallProgress, CallResult, Catalog

INHERITED = {"HOME", "PATH", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}
PNG = b"\x89PNG\r\n\x1a\n"
TOOLS = ("add", "die", "environment", "everything", "fail", "grow", "point", "wait")


async def test_a_process_is_listed_called_cancelled_and_followed(
    start_tools: StartTools, caller: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process for all of it: to start one of the SDK takes more than a second of CPU."""
    monkeypatch.setenv("STEERSMAN_NATS_URL", "nats://secret")
    given = stdio("friendly", "stdio", env={"KEY": "env:STEERSMAN_PLUGIN_KEY"})
    service = {**os.environ, "STEERSMAN_PLUGIN_KEY": "k-123456"}
    await start_tools(configured(tmp_path, given, environment=service), plugin("other", ECHO))

    listed(await until_offered(caller, "s__add"))
    results_are_parts(await called(caller))
    (part,) = (await caller.call("s__environment")).content
    sees_what_it_is_given(part)
    await is_cancelled(caller, "s", tmp_path / "note")
    await is_followed(caller, "s")


def listed(catalog: Catalog) -> None:
    found = report(catalog)
    assert (found.error, found.warnings) == (None, ())
    assert found.tools == tuple(f"s__{name}" for name in TOOLS)
    spec = next(spec for spec in catalog.tools if spec.name == "s__add")
    assert (spec.plugin, spec.description) == ("mcp", "Add two numbers.")
    assert spec.input_schema["properties"]["a"]["type"] == "integer"
    assert spec.timeout_s == 125.0
    assert [spec.name for spec in catalog.tools] == sorted(spec.name for spec in catalog.tools)


async def called(caller: Caller) -> dict[str, CallResult]:
    return {
        "sum": await caller.call("s__add", {"a": 2, "b": 3}),
        "point": await caller.call("s__point", {"x": 4}),
        "everything": await caller.call("s__everything"),
        "failed": await caller.call("s__fail"),
        "wrong": await caller.call("s__add", {"a": "no number"}),
    }


def results_are_parts(results: Mapping[str, CallResult]) -> None:
    assert results["sum"].content == (JsonPart({"result": 5}),)
    assert results["point"].content == (JsonPart({"x": 4, "y": 4}),)
    assert results["everything"].content == (
        TextPart("words"),
        FilePart("image/png", data=PNG),
        FilePart("audio/wav", data=PNG),
        TextPart("[resource memo://one]\na memo"),
        FilePart("application/zip", name="two.bin", data=PNG),
        TextPart("[resource https://example.org/x: x, text/html]"),
    )
    errors = [name for name, result in results.items() if result.is_error]
    assert errors == ["failed", "wrong"]
    assert "no luck today" in text_of(results["failed"])


def sees_what_it_is_given(part: object) -> None:
    assert isinstance(part, JsonPart)
    names: set[str] = set(part.value["result"]) - {"LC_CTYPE"}  # Python's own
    assert names <= {*INHERITED, "LANG", "KEY"}
    assert {"PATH", "KEY"} <= names


async def is_cancelled(caller: Caller, slug: str, note: Path) -> None:
    """A cancelled call is cancelled at the server, which is there for the next one."""
    waiting = asyncio.Event()
    told: list[str] = []

    def on_progress(frame: CallProgress) -> None:
        told.append(frame.text)
        waiting.set()

    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        call = group.create_task(
            caller.call(
                f"{slug}__wait", {"note": str(note)}, call_id=f"c-{slug}", on_progress=on_progress
            )
        )
        await waiting.wait()
        await caller.cancel(f"c-{slug}")

    assert call.result().is_error
    assert told == ["waiting"]
    assert await until_file(note) == "cancelled"
    assert not (await caller.call(f"{slug}__add", {"a": 1, "b": 1})).is_error


async def is_followed(caller: Caller, slug: str) -> None:
    """A list that has changed is read again."""
    await caller.call(f"{slug}__grow")
    await until_offered(caller, f"{slug}__learned")
    result = await caller.call(f"{slug}__learned", {"a": 1, "b": 1})
    assert result.content == (JsonPart({"result": 2}),)


async def test_servers_behind_a_url_are_found_called_cancelled_followed_and_found_again(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    both = {"web": {"transport": "http", "url": f"{base}/mcp"}}
    both["old"] = {"transport": "sse", "url": f"{base}/sse"}
    servers = [{"slug": slug, **described} for slug, described in both.items()]
    sums = [f"{slug}__add" for slug in both]
    async with http_server("both", port):
        with capture_logs() as logs:
            await start_tools(configured(tmp_path, *servers))
            await until_offered(caller, *sums)
        results = [await caller.call(name, {"a": 2, "b": 3}) for name in sums]
        await is_cancelled(caller, "web", tmp_path / "note")
        await is_followed(caller, "web")
        died = await caller.call("old__die")

    spoken = {one["server"]: one["protocol"] for one in logs if one["event"] == "mcp.connected"}
    assert spoken == dict.fromkeys(both, LATEST_PROTOCOL_VERSION)  # before: test_mcp_hostile.py
    assert [result.content for result in results] == [(JsonPart({"result": 5}),)] * 2
    assert died.is_error
    await until(caller, lambda found: not found.tools and len(found.warnings) == 2)
    async with http_server("both", port):
        await until_offered(caller, *sums)
        again = [await caller.call(name, {"a": 3, "b": 3}) for name in sums]
    assert [result.content for result in again] == [(JsonPart({"result": 6}),)] * 2


async def test_allowed_and_denied_tools_and_servers_that_are_off(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    def server(slug: str, **more: Any) -> dict[str, Any]:
        return stdio("hostile", "few-tools", slug=slug, **more)

    some = server("some", allow=["add", "d*"], deny=["die"])
    off = server("off", availability="default_off")
    asked = server("asked", allow=["add"], needs_approval=True, call_timeout_s=7)
    await start_tools(configured(tmp_path, some, off, asked))

    catalog = await until_offered(caller, "some__add", "asked__add")

    found = report(catalog)
    assert found.tools == ("asked__add", "some__add", "some__do")
    assert found.warnings == (
        "server 'off' is default_off: chats can choose only among those of the API",
    )
    spec = next(spec for spec in catalog.tools if spec.name == "asked__add")
    assert (spec.needs_approval, spec.timeout_s) == (True, 12.0)
