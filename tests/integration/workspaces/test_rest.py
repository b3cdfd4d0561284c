"""Workspaces over HTTP: for their owner, and for nobody else."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner
from integration.gateway.driver import RunningGateways
from integration.workspaces.conftest import NewChat, StartTools, write_template
from support.chat_driver import StoreDriver

from steersman.main import main
from steersman_contracts.events import WorkspaceDiffChanged
from steersman_contracts.rpc.files import CHUNK_BYTES, MAX_FILE_BYTES
from steersman_contracts.workspace_diff import RepositorySummary

pytestmark = [
    pytest.mark.one_stack,
    pytest.mark.skipif(sys.platform != "linux", reason="commands are confined on Linux"),
]

ALL = "/api/v1/workspaces"


async def running(client: httpx2.AsyncClient, address: str) -> dict[str, Any]:
    """The workspace once it can be used."""
    async with asyncio.timeout(60):
        while True:  # nobody tells when it is made
            found = (await client.get(address)).json()
            if found["state"] != "creating":
                assert found["state"] == "running", found
                return found
            await asyncio.sleep(0.05)


async def made(client: httpx2.AsyncClient, **body: Any) -> str:
    """The address of a new workspace."""
    reply = await client.post(ALL, json={"template_id": "default", **body})
    assert reply.status_code == 201, reply.text
    address = reply.headers["Location"]
    await running(client, address)
    return address


async def put(
    client: httpx2.AsyncClient, address: str, path: str, content: bytes
) -> httpx2.Response:
    return await client.put(f"{address}/files/content", params={"path": path}, content=content)


async def get(client: httpx2.AsyncClient, address: str, path: str) -> httpx2.Response:
    return await client.get(f"{address}/files/content", params={"path": path})


async def test_a_workspace_lives_its_life_over_http(
    start_tools: StartTools,
    alice: httpx2.AsyncClient,
    new_chat: NewChat,
    templates: Path,
    store: StoreDriver,
) -> None:
    write_template(templates, "slow", 'name = "Slow"\n[[parameters]]\nname = "p"\n')
    await start_tools()
    chat = await new_chat()

    listed = (await alice.get("/api/v1/workspace-templates?q=slow")).json()
    shown = (await alice.get("/api/v1/workspace-templates/slow")).json()
    wrong = await alice.post(ALL, json={"template_id": "slow", "parameters": {"q": 1}})
    unknown = await alice.post(ALL, json={"template_id": "none"})
    address = await made(alice, name="Sea", chat_id=chat.chat_id)
    again = await alice.post(ALL, json={"template_id": "default", "chat_id": chat.chat_id})
    found = (await alice.get(address)).json()

    assert [one["id"] for one in listed["templates"]] == ["slow"]
    assert shown["parameters"] == [{"name": "p"}]
    assert (wrong.status_code, wrong.json()["field"]) == (400, "parameters.q")
    assert unknown.status_code == 404
    assert (again.status_code, again.headers["Location"]) == (200, address)
    assert (found["name"], found["state"], found["template"]) == ("Sea", "running", "default")
    assert (await alice.get(ALL)).json()["workspaces"] == [found]
    assert (await alice.post(f"{address}/stop")).json()["state"] == "stopped"
    assert (await chat.call("list_files")).is_error
    assert (await alice.post(f"{address}/start")).json()["state"] == "running"
    assert not (await chat.call("list_files")).is_error
    bare = (await store.create("hello")).id
    used = await alice.put(f"/api/v1/chats/{bare}/workspace", json={"workspace_id": found["id"]})
    assert used.status_code == 204
    assert (await alice.get(f"/api/v1/chats/{bare}")).json()["workspace_id"] == found["id"]
    assert (await alice.delete(address)).status_code == 204
    assert (await alice.get(address)).status_code == 404
    for chat_id in (bare, chat.chat_id):
        assert "workspace_id" not in (await alice.get(f"/api/v1/chats/{chat_id}")).json()


async def test_files_go_up_and_down_and_nowhere_else(
    start_tools: StartTools, alice: httpx2.AsyncClient, base: Path
) -> None:
    await start_tools()
    address = await made(alice)
    root = base / "workspaces" / f"w-{address.rpartition('/')[2]}"
    content = random.Random(1).randbytes(CHUNK_BYTES * 2 + 7)

    up = await put(alice, address, "deep/er/sea \u2603.bin", content)
    down = await get(alice, address, "deep/er/sea \u2603.bin")
    replaced = await put(alice, address, "deep/er/sea \u2603.bin", b"")
    empty = await get(alice, address, "deep/er/sea \u2603.bin")
    too_large = await put(alice, address, "large", bytes(MAX_FILE_BYTES + 1))

    assert (up.status_code, up.json()["size"]) == (200, len(content))
    assert down.content == content
    assert down.headers["content-type"] == "application/octet-stream"
    assert down.headers["content-disposition"].startswith("attachment;")
    assert "sandbox" in down.headers["content-security-policy"]
    assert (replaced.json()["size"], empty.content) == (0, b"")
    assert too_large.status_code == 413

    def arrange() -> os.stat_result:
        (base / "outside").mkdir(mode=0o755)
        (base / "outside" / "secret").write_text("sesame")
        (root / "link").symlink_to(base / "outside")
        (root / "file-link").symlink_to(base / "outside" / "secret")
        os.mkfifo(root / "pipe")
        return (root / "deep" / "er" / "sea \u2603.bin").stat()

    status = await asyncio.to_thread(arrange)
    for path, expected in (
        ("../outside/secret", 400),
        ("/etc/passwd", 400),
        ("a\0b", 400),
        ("", 400),
        (".", 400),
        ("x" * 5000, 400),
        ("link/secret", 409),
        ("file-link", 409),
        ("pipe", 409),
        ("deep", 409),
        ("none", 404),
    ):
        reply = await get(alice, address, path)
        assert reply.status_code == expected, (path, reply.text)
        assert "sesame" not in reply.text
    for path, expected in (("link/new", 409), ("file-link", 409), ("pipe", 409), ("../new", 400)):
        assert (await put(alice, address, path, b"x")).status_code == expected, path
    assert status.st_uid == (await asyncio.to_thread(root.stat)).st_uid
    assert sorted(await asyncio.to_thread(os.listdir, base / "outside")) == ["secret"]
    listed = (await alice.get(f"{address}/files")).json()
    assert [(one["name"], one["kind"]) for one in listed["entries"]] == [
        ("deep", "directory"),
        ("file-link", "link"),
        ("link", "link"),
        ("pipe", "other"),
    ]
    assert (await alice.get(f"{address}/files?path=link")).status_code == 409


async def test_a_stranger_finds_nothing(
    start_tools: StartTools,
    alice: httpx2.AsyncClient,
    bob: httpx2.AsyncClient,
    new_chat: NewChat,
) -> None:
    await start_tools()
    chat = await new_chat()
    address = await made(alice)
    workspace_id = address.rpartition("/")[2]
    await put(alice, address, "a", b"mine")

    replies = [
        await bob.get(address),
        await bob.delete(address),
        await bob.post(f"{address}/start"),
        await bob.post(f"{address}/stop"),
        await bob.get(f"{address}/diff"),
        await bob.get(f"{address}/files"),
        await get(bob, address, "a"),
        await put(bob, address, "a", b"yours"),
        await bob.post(ALL, json={"template_id": "default", "chat_id": chat.chat_id}),
        await bob.put(
            f"/api/v1/chats/{chat.chat_id}/workspace", json={"workspace_id": workspace_id}
        ),
        await bob.get(f"{ALL}/not-an-id"),
        await bob.get(f"{ALL}/{chat.chat_id}/files"),
    ]

    assert [reply.status_code for reply in replies] == [404] * len(replies)
    assert (await bob.get(ALL)).json()["workspaces"] == []
    assert (await get(alice, address, "a")).content == b"mine"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
async def test_changes_are_told_and_shown(
    start_tools: StartTools,
    alice: httpx2.AsyncClient,
    alice_token: str,
    gateway: RunningGateways,
    new_chat: NewChat,
    store: StoreDriver,
) -> None:
    await start_tools()
    chat = await new_chat()
    await chat.json("create_workspace", template_id="default", name="sea")
    await chat.json("execute", command="git init -q -b main repo", timeout_s=60)
    await store.log.until(
        chat.chat_id, WorkspaceDiffChanged, repositories=(RepositorySummary("repo", "main"),)
    )

    await chat.json("write_file", path="repo/new.txt", content="one\ntwo\n")

    told = await store.log.until(
        chat.chat_id,
        WorkspaceDiffChanged,
        repositories=(RepositorySummary("repo", "main", 1, 2, 0),),
    )
    assert isinstance(told, WorkspaceDiffChanged)
    shown = (await alice.get(f"{ALL}/{told.workspace_id}/diff")).json()
    assert shown["digest"] == told.digest
    (repository,) = shown["repositories"]
    assert repository["changes"] == [
        {"path": "new.txt", "status": "??", "additions": 2, "deletions": 0}
    ]
    assert "+one\n+two\n" in repository["diff"]

    def command(*words: str) -> str:
        options = ["--url", gateway.address, "--token", alice_token]
        result = CliRunner().invoke(main, ["workspace", *words, *options])
        assert result.exit_code == 0, result.output
        return result.output

    assert "+two" in await asyncio.to_thread(command, "diff", "sea")
    assert "repo/" in await asyncio.to_thread(command, "files", "sea")
    assert "sea is stopped" in await asyncio.to_thread(command, "stop", "sea")
    assert "stopped" in await asyncio.to_thread(command, "list")
    assert "other is running" in await asyncio.to_thread(
        command, "create", "default", "--name", "other", "--set", "branch="
    )
    assert "deleted" in await asyncio.to_thread(command, "delete", "other", "--yes")
