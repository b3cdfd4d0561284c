"""Extending a deployment while it runs: a plugin of somebody else, and a tool host in Node."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from integration.tools.mcp_host import free_port, http_server
from support.deployment import Deployment

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
async def http(deployment: Deployment) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client with the operator's token."""
    async with httpx2.AsyncClient(
        base_url=f"{deployment.url}/api/v1",
        headers={"Authorization": f"Bearer {deployment.token}"},
        timeout=60,
    ) as client:
        yield client


@pytest.fixture
async def fakes(http: httpx2.AsyncClient) -> AsyncGenerator[FakeProviders]:
    """Scripted models, known to the deployment as the provider `scripted`."""
    async with FakeProviders() as providers:
        body = {
            "type": "anthropic",
            "base_url": providers.base_url("anthropic"),
            "api_key": "test-key",
        }
        assert (await http.put("/providers/scripted", json=body)).status_code == 200
        yield providers
        await http.delete("/providers/scripted")


async def results(
    http: httpx2.AsyncClient, fakes: FakeProviders, model: str, *turns: Turn
) -> tuple[list[dict[str, Any]], list[str]]:
    """Play one turn of a chat; its tool results, and the roles of its messages."""
    fakes.script(model, Script(turns))
    put = await http.put("/models", json={"provider_id": "scripted", "model_id": model})
    assert put.status_code == 200, put.text
    made = await http.post("/chats", json={"text": "go", "model": f"scripted/{model}"})
    chat_id = made.json()["chat"]["id"]
    async with asyncio.timeout(60):
        await at_rest(http, chat_id)
    messages = (await http.get(f"/chats/{chat_id}/messages")).json()["messages"]
    parts = [part for message in messages for part in message["parts"]]
    found = [part for part in parts if part["type"] == "tool-result"]
    return found, [message["role"] for message in messages]


async def at_rest(http: httpx2.AsyncClient, chat_id: str) -> None:
    """Read the events of a chat until its turn has ended."""
    async with http.stream("GET", f"/chats/{chat_id}/events") as response:
        name = ""
        async for line in response.aiter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data" and name in ("chat.status", "stream.sync"):
                body: dict[str, Any] = json.loads(value)
                snapshot: dict[str, Any] = body.get("snapshot") or {}
                chat: dict[str, Any] = snapshot.get("chat") or body
                if chat.get("status") in ("waiting", "error"):
                    return


async def plugin_report(http: httpx2.AsyncClient, name: str, how: str = "GET") -> Any:
    path = "/plugins/reload" if how == "POST" else "/plugins"
    answer = await http.request(how, path)
    assert answer.status_code == 200, answer.text
    return next((one for one in answer.json()["plugins"] if one["name"] == name), None)


async def test_a_plugin_of_somebody_else_is_installed_set_up_and_used_without_a_restart(
    deployment: Deployment, http: httpx2.AsyncClient, fakes: FakeProviders
) -> None:
    pip = ("uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--no-build-isolation")
    await asyncio.to_thread(
        subprocess.run,
        [
            Path(sys.executable).with_name(pip[0]),
            *(*pip[1:], "--python", sys.executable),
            *("--target", deployment.plugins, EXAMPLES / "plugin-glossary"),
        ],
        check=True,
        timeout=60,
    )

    assert (await plugin_report(http, "glossary", "POST"))["off"] == "no terms are stored"
    body = {"settings": {"terms": {"SLA": "a promise"}}}
    assert (await http.put("/plugins/glossary/settings", json=body)).status_code == 204
    report = await plugin_report(http, "glossary", "POST")
    assert report["tools"] == ["define_term", "propose_term"]
    found, roles = await results(
        http,
        fakes,
        "curious",
        Turn([ToolCall("define_term", {"term": "sla"})]),
        Turn([ToolCall("propose_term", {"term": "SLO", "meaning": "an aim"})]),
        Turn([Text("never said: the proposal ends the turn")]),
    )

    assert [result["content"][0]["text"] for result in found] == [
        "SLA: a promise",
        "SLO is proposed; a person decides",
    ]
    assert roles == ["user", "assistant", "tool", "assistant", "tool"]


async def test_secrets_are_taken_and_never_given_back(http: httpx2.AsyncClient) -> None:
    path = "/plugins/some-plugin/secrets/api_key"

    assert (await http.put(path, json={"value": "s3cret-value"})).status_code == 204
    assert (await http.get(path)).status_code == 405
    assert "s3cret-value" not in (await http.get("/plugins")).text
    assert (await http.delete(path)).status_code == 204
    for bad in ("/plugins/-x/secrets/a", "/plugins/x/secrets/a.b"):
        refused = await http.put(bad, json={"value": "v"})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("command", ["list", "reload"])
async def test_the_command_line_shows_what_is_in_use(deployment: Deployment, command: str) -> None:
    steersman = Path(sys.executable).with_name("steersman")
    process = await asyncio.create_subprocess_exec(
        *(steersman, "plugins", command),
        env={"STEERSMAN_URL": deployment.url, "STEERSMAN_TOKEN": deployment.token},
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate()

    assert process.returncode == 0
    lines = [line.split() for line in out.decode().splitlines()]
    assert lines[0][:3] == ["NAME", "VERSION", "STATE"]
    assert ["files", "0.1.0", "in", "use"] in [line[:4] for line in lines]


@pytest.mark.timeout(180)
@pytest.mark.skipif(shutil.which("node") is None, reason="the example needs node")
async def test_a_tool_host_in_node_is_there_while_it_runs(
    deployment: Deployment, http: httpx2.AsyncClient, fakes: FakeProviders
) -> None:
    folder = EXAMPLES / "tool-host-node"
    if not (folder / "node_modules").is_dir():
        npm = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
        await asyncio.to_thread(subprocess.run, npm, cwd=folder, check=True, timeout=120)
    url = (deployment.data / "secrets" / "toolhost-nats-url").read_text().strip()
    node = shutil.which("node")
    assert node is not None
    host = await asyncio.create_subprocess_exec(
        node,
        "host.js",
        cwd=folder,
        env={"PATH": str(Path(node).parent), "NATS_URL": url},
        stdout=subprocess.PIPE,
    )
    try:
        assert host.stdout is not None
        async with asyncio.timeout(40):
            assert b"offers roll_dice" in await host.stdout.readline()
            while await plugin_report(http, "dice") is None:
                pass  # each question takes a while; the beat is on its way
        found, _ = await results(
            http,
            fakes,
            "gambler",
            Turn([ToolCall("roll_dice", {"sides": 6}), ToolCall("roll_dice", {"sides": 1})]),
            Turn([Text("done")]),
        )

        number, _, rest = found[0]["content"][0]["text"].partition(" ")
        assert rest == "of 6"
        assert 1 <= int(number) <= 6
        assert found[1]["content"][0]["text"] == "sides must be 2 to 1000"
        assert found[1]["is_error"] is True
    finally:
        host.kill()
        await host.wait()
    async with asyncio.timeout(40):
        while await plugin_report(http, "dice") is not None:
            pass  # gone with the third beat that is missing


async def test_an_mcp_server_is_added_over_the_api_and_used_by_the_chats_of_its_owner(
    http: httpx2.AsyncClient, fakes: FakeProviders
) -> None:
    port = free_port()
    body = {"slug": "calc", "url": f"http://127.0.0.1:{port}/mcp", "allow": ["add"]}
    async with http_server("http", port):
        made = await http.post("/mcp-servers", json=body)
        assert made.status_code == 201, made.text
        place = f"/mcp-servers/{made.json()['id']}"
        # No sign-in is wanted there; the plugin that is asked says so.
        login = await http.post(f"{place}/login")
        chat = (await http.post("/chats", json={"title": "sums"})).json()["chat"]["id"]
        offered = (await http.get(f"/chats/{chat}/tools")).json()
        call = ToolCall("calc__add", {"a": 20, "b": 22})
        found, _ = await results(http, fakes, "sums", Turn([call]), Turn([Text("42")]))
        assert (await http.delete(place)).status_code == 204

    assert (login.status_code, login.json()["code"]) == (409, "conflict")
    assert "calc__add" in [tool["name"] for tool in offered["tools"]]
    assert [part["content"][0]["value"] for part in found] == [{"result": 42}]
