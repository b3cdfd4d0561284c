"""Workspaces of chats: made once, shared by a family, stopped, started and removed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from integration.tools.host import text_of as text
from integration.workspaces.conftest import Chat, NewChat, StartTools, json_of, write_template
from support.chat_driver import StoreDriver, new_actor

from steersman_contracts.errors import Conflict, NotFound, TransitionRefused
from steersman_contracts.events import ChatUpdated
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import workspace_book as book
from steersman_contracts.rpc.tools import CallProgress, CallResult
from steersman_contracts.workspaces import TRANSITIONS, Change, State, Workspace
from steersman_plugin_exec.processes import processes
from steersman_store import workspaces as store_workspaces

pytestmark = [
    pytest.mark.one_stack,
    pytest.mark.skipif(sys.platform != "linux", reason="commands are confined on Linux"),
]

HELLO = """
name = "Hello"
[[parameters]]
name = "whom"
pattern = "[a-z ]+"
[environment]
GREETING = "hello"
[setup]
script = 'echo "$GREETING $PARAM_WHOM" | tee greeting.txt'
"""


def waiting_for(gate: Path) -> str:
    """A template whose set-up says that it runs, and goes on once the gate is there."""
    return f"""
name = "Slow"
[setup]
script = '''
echo run >> runs.txt
echo "it runs"
until [ -e "{gate}" ]; do read -t 0.05 -r _ < <(:) || sleep 0.05; done
'''
"""


async def execute(chat: Chat, command: str, **arguments: Any) -> CallResult:
    return await chat.call("execute", {"command": command, "timeout_s": 60, **arguments})


async def state_of(store: StoreDriver, workspace_id: str) -> Workspace:
    return await store.rpc.call(book.GET, book.GetWorkspace(workspace_id, store.actor))


async def until_state(store: StoreDriver, workspace_id: str, state: State) -> Workspace:
    async with asyncio.timeout(40):
        while True:  # the book tells nobody
            if (found := await state_of(store, workspace_id)).state == state:
                return found
            await asyncio.sleep(0.05)


async def query(database_url: str, sql: str, *arguments: object) -> Any:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetchval(sql, *arguments)
    finally:
        await connection.close()


async def test_a_chat_gets_a_workspace_and_its_tools_act_in_it(
    start_tools: StartTools, new_chat: NewChat, templates: Path, store: StoreDriver
) -> None:
    write_template(templates, "hello", HELLO)
    await start_tools()
    chat = await new_chat()
    await chat.json("write_file", path="before.txt", content="in the plain directory\n")
    told: list[str] = []

    made = json_of(
        await chat.call(
            "create_workspace",
            {"template_id": "hello", "name": "Mine", "parameters": {"whom": "big world"}},
            on_progress=lambda frame: told.append(frame.text),
        )
    )

    assert made["outcome"] == "created"
    workspace = made["workspace"]
    assert {key: workspace[key] for key in ("name", "template", "state")} == {
        "name": "Mine",
        "template": "hello",
        "state": "running",
    }
    assert told[-1] == "hello big world"
    read = await chat.call("read_file", {"path": "greeting.txt"})
    assert "hello big world" in text(read)
    assert (await chat.call("read_file", {"path": "before.txt"})).is_error
    shown = text(await execute(chat, 'echo "$GREETING,$PARAM_WHOM,$(ls)"'))
    assert "hello,big world,greeting.txt" in shown
    remembered = await store.log.until(chat.chat_id, ChatUpdated)
    assert isinstance(remembered, ChatUpdated)
    assert remembered.chat.workspace_id == workspace["id"]
    assert (await store.chat(chat.chat_id)).workspace_id == workspace["id"]
    again = await chat.json("create_workspace", template_id="default")
    assert again == {"outcome": "already_exists", "workspace": workspace}


async def test_two_calls_at_once_on_two_replicas_make_one(
    start_tools: StartTools, new_chat: NewChat, templates: Path, base: Path, store: StoreDriver
) -> None:
    gate = base / "gate"
    write_template(templates, "slow", waiting_for(gate))
    await start_tools(sandbox="off", instance="tools-1")
    await start_tools(sandbox="off", instance="tools-2")
    chat = await new_chat()
    runs = asyncio.Event()
    waits = asyncio.Event()

    def on_progress(frame: CallProgress) -> None:
        if "it runs" in frame.text:
            runs.set()
        if "waiting" in frame.text:
            waits.set()

    async def create() -> Any:
        return json_of(
            await chat.call("create_workspace", {"template_id": "slow"}, on_progress=on_progress)
        )

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        calls = [group.create_task(create()) for _ in range(4)]
        await runs.wait()
        await waits.wait()
        refused = await chat.call("read_file", {"path": "runs.txt"})
        gate.touch()
    made = [call.result() for call in calls]

    assert refused.is_error
    assert "is being made; create_workspace waits for it" in text(refused)
    assert sorted(one["outcome"] for one in made) == ["already_exists"] * 3 + ["created"]
    assert len({one["workspace"]["id"] for one in made}) == 1
    kept = await store.rpc.call(book.LIST, book.ListWorkspaces(store.actor))
    assert len(kept.workspaces) == 1
    path = base / "workspaces" / f"w-{made[0]['workspace']['id']}"
    assert (path / "runs.txt").read_text() == "run\n"


async def test_descendants_share_the_workspace_of_the_outermost_chat(
    start_tools: StartTools, new_chat: NewChat, database_url: str, store: StoreDriver
) -> None:
    await start_tools()
    chat, child, grandchild = [await new_chat() for _ in range(3)]
    for one, above in ((child, chat), (grandchild, child)):
        await query(
            database_url,
            "UPDATE chats SET parent_id = $1 WHERE id = $2",
            above.chat_id,
            one.chat_id,
        )

    made = await grandchild.json("create_workspace", template_id="default")
    await child.json("write_file", path="shared.txt", content="for all\n")
    seen = await chat.call("read_file", {"path": "shared.txt"})

    assert "for all" in text(seen)
    assert (await store.chat(chat.chat_id)).workspace_id == made["workspace"]["id"]
    assert (await store.chat(child.chat_id)).workspace_id is None
    assert (await chat.json("create_workspace", template_id="default"))["outcome"] == (
        "already_exists"
    )


async def test_stopping_ends_processes_and_keeps_files(
    start_tools: StartTools, new_chat: NewChat
) -> None:
    await start_tools(instance="tools-1")
    chat = await new_chat()
    await chat.json("create_workspace", template_id="default")
    await chat.json("write_file", path="kept.txt", content="kept\n")
    server = await chat.json("execute", command="exec sleep 1000", background=True)
    await start_tools(instance="tools-2")

    stopped = await chat.json("stop_workspace")
    again = await chat.json("stop_workspace")
    refused = await chat.call("read_file", {"path": "kept.txt"})
    started = await chat.json("start_workspace")
    kept = await chat.call("read_file", {"path": "kept.txt"})
    listed = await chat.json("start_workspace")

    assert stopped["workspace"]["state"] == again["workspace"]["state"] == "stopped"
    assert refused.is_error
    assert "start_workspace starts it" in text(refused)
    assert started == listed
    assert started["workspace"]["state"] == "running"
    assert "kept" in text(kept)
    entry = processes().find(chat.chat_id, server["process_id"])
    async with asyncio.timeout(40):
        await entry.process.exited.wait()
    assert entry.ended_because == "the workspace was stopped"


async def test_a_set_up_that_fails_says_why_and_the_next_one_is_new(
    start_tools: StartTools, new_chat: NewChat, templates: Path, store: StoreDriver
) -> None:
    write_template(
        templates,
        "broken",
        'name = "Broken"\n[setup]\nscript = "echo half; printf \'a\\\\0b\'; exit 3"\n',
    )
    await start_tools()
    chat = await new_chat()

    failed = await chat.call("create_workspace", {"template_id": "broken"})
    refused = await chat.call("read_file", {"path": "x"})
    made = await chat.json("create_workspace", template_id="default")

    assert failed.is_error
    shown = json_of(failed)
    assert shown["outcome"] == "failed"
    reason = "the set-up ended with exit code 3; it printed:\nhalf\na\ufffdb"
    assert shown["workspace"]["reason"] == reason
    assert refused.is_error
    assert reason in text(refused)
    assert made["outcome"] == "created"
    with pytest.raises(NotFound):
        await state_of(store, shown["workspace"]["id"])


async def test_a_set_up_is_confined_and_has_its_time(
    start_tools: StartTools, new_chat: NewChat, templates: Path, base: Path
) -> None:
    write_template(
        templates,
        "endless",
        'name = "E"\n[setup]\nscript = "yes loud; :"\ntimeout_s = 0.5\n',
    )
    write_template(
        templates,
        "nosy",
        'name = "N"\n[setup]\nscript = "env; ls -a; echo $HOME"\n',
    )
    await start_tools()
    chat, other = await new_chat(), await new_chat()

    failed = json_of(await chat.call("create_workspace", {"template_id": "endless"}))
    nosy = await other.json("create_workspace", template_id="nosy")
    environment = text(await execute(other, "env"))

    reason = failed["workspace"]["reason"]
    assert reason.startswith("the set-up took longer than 0.5 s; it printed:\nloud\n")
    assert "bytes left out" in reason
    assert len(reason) < 5_000
    assert nosy["outcome"] == "created"
    assert "STEERSMAN" not in environment
    assert str(base / "workspaces" / f"w-{nosy['workspace']['id']}") in environment


async def test_what_does_not_fit_is_refused_before_anything_is_made(
    start_tools: StartTools, new_chat: NewChat, templates: Path, store: StoreDriver
) -> None:
    write_template(templates, "hello", HELLO)
    write_template(templates, "bad", "name = [")
    await start_tools()
    chat = await new_chat()

    async def refused(template_id: str, **parameters: Any) -> str:
        result = await chat.call(
            "create_workspace", {"template_id": template_id, "parameters": parameters}
        )
        assert result.is_error
        return text(result)

    assert "the parameter 'whom' is missing" in await refused("hello")
    assert "does not match" in await refused("hello", whom="$(reboot)")
    assert "there is no parameter 'who'" in await refused("hello", who="me")
    assert "there is no template '../default'" in await refused("../default")
    assert "the template 'bad' is broken" in await refused("bad")
    assert "this chat has no workspace" in text(await chat.call("start_workspace"))
    kept = await store.rpc.call(book.LIST, book.ListWorkspaces(store.actor))
    assert kept.workspaces == ()
    listed = await chat.json("list_templates", query="HEL")
    assert [one["id"] for one in listed["templates"]] == ["hello"]
    shown = await chat.json("read_template", template_id="hello")
    assert shown["parameters"] == [{"name": "whom", "pattern": "[a-z ]+"}]


async def test_a_person_has_only_so_many(
    start_tools: StartTools, new_chat: NewChat, store: StoreDriver
) -> None:
    await start_tools(workspaces_per_user=2, running_workspaces_per_user=1)
    first, second, third = [await new_chat() for _ in range(3)]
    await first.json("create_workspace", template_id="default")

    too_many_run = await second.call("create_workspace", {"template_id": "default"})
    await first.json("stop_workspace")
    await second.json("create_workspace", template_id="default")
    none_may_start = await first.call("start_workspace")
    await second.json("stop_workspace")
    too_many = await third.call("create_workspace", {"template_id": "default"})

    assert "1 of your workspaces run, which is as many as may" in text(too_many_run)
    assert "1 of your workspaces run" in text(none_may_start)
    assert "you have 2 workspaces" in text(too_many)
    assert len((await store.rpc.call(book.LIST, book.ListWorkspaces(store.actor))).workspaces) == 2


async def test_nobody_uses_the_workspace_of_another(
    start_tools: StartTools, new_chat: NewChat, store: StoreDriver, database_url: str
) -> None:
    await start_tools()
    chat = await new_chat()
    made = await chat.json("create_workspace", template_id="default")
    workspace_id = made["workspace"]["id"]
    stranger = await new_actor(database_url, "mallory")
    mine = await store.rpc.call(
        book.CLAIM, book.Claim("host-1", "default", "local", {}, {}, actor=stranger)
    )

    for method, request in (
        (book.GET, book.GetWorkspace(workspace_id, stranger)),
        (book.MOVE, book.Move(workspace_id, "stop", "host-1", stranger)),
        (book.MOVE, book.Move(workspace_id, "delete", "host-1", stranger)),
        (book.ATTACH, book.Attach(stranger, chat.chat_id, workspace_id)),
        (book.ATTACH, book.Attach(stranger, chat.chat_id, None)),
        (book.ATTACH, book.Attach(store.actor, chat.chat_id, mine.workspace.id)),
        (
            book.CLAIM,
            book.Claim("host-1", "default", "local", {}, {}, chat_id=chat.chat_id, actor=stranger),
        ),
    ):
        with pytest.raises(NotFound):
            await store.rpc.call(method, request)  # pyright: ignore[reportArgumentType]  # pairs that belong together

    listed = await store.rpc.call(book.LIST, book.ListWorkspaces(stranger))
    assert [one.id for one in listed.workspaces] == [mine.workspace.id]
    assert (await state_of(store, workspace_id)).state == "running"


async def test_what_nobody_uses_is_stopped_and_what_is_deleted_disappears(
    start_tools: StartTools,
    new_chat: NewChat,
    store: StoreDriver,
    base: Path,
    database_url: str,
) -> None:
    service = await start_tools(workspace_idle_s=3600, workspace_look_s=0.05)
    chat = await new_chat()
    made = await chat.json("create_workspace", template_id="default")
    workspace_id = made["workspace"]["id"]
    await execute(chat, "mkdir -p deep/er; echo x > deep/er/file; chmod 0 deep/er deep")
    path = base / "workspaces" / f"w-{workspace_id}"
    async with asyncio.TaskGroup() as group:
        runs = asyncio.Event()
        busy = group.create_task(
            chat.call(
                "execute",
                {"command": "echo runs; until [ -e over ]; do sleep 0.05; done", "timeout_s": 60},
                on_progress=lambda _: runs.set(),
            )
        )
        await runs.wait()
        # A call runs in it: the next look counts that as use.
        await age(database_url, workspace_id)
        await until_value(database_url, workspace_id, "last_used_at > now() - interval '1 hour'")
        assert (await state_of(store, workspace_id)).state == "running"
        await asyncio.to_thread((path / "over").touch)
        await busy
    await age(database_url, workspace_id)

    await until_state(store, workspace_id, "stopped")
    moved = await store.rpc.call(
        book.MOVE, book.Move(workspace_id, "delete", "host-that-died", store.actor)
    )

    assert moved.workspace.state == "deleted"
    assert (await store.chat(chat.chat_id)).workspace_id is None
    await until_value(database_url, workspace_id, "false")
    assert path.name not in await asyncio.to_thread(os.listdir, path.parent)
    assert not (await chat.call("list_files")).is_error, "it has its plain directory again"
    await service.stop()


async def age(database_url: str, workspace_id: str) -> None:
    await query(
        database_url,
        "UPDATE workspaces SET last_used_at = now() - interval '1 day' WHERE id = $1",
        workspace_id,
    )


async def until_value(database_url: str, workspace_id: str, condition: str) -> None:
    """Wait until the row has it, or is gone."""
    async with asyncio.timeout(40):
        while True:  # the book tells nobody
            sql = f"SELECT {condition} FROM workspaces WHERE id = $1"  # noqa: S608, RUF100  # a constant
            if await query(database_url, sql, workspace_id) in (True, None):
                return
            await asyncio.sleep(0.05)


async def test_what_a_dead_replica_was_making_has_failed(
    start_tools: StartTools, new_chat: NewChat, store: StoreDriver
) -> None:
    chat = await new_chat()
    claim = book.Claim("host-that-died", "default", "local", {}, {}, chat_id=chat.chat_id)
    lost = await store.rpc.call(book.CLAIM, claim)
    other = await new_chat()
    claim = book.Claim("host-that-died", "default", "local", {}, {}, chat_id=other.chat_id)
    forgotten = await store.rpc.call(book.CLAIM, claim)
    await start_tools(workspace_look_s=0.05)

    failed = await until_state(store, forgotten.workspace.id, "failed")
    made = await chat.json("create_workspace", template_id="default")

    assert failed.reason == store_workspaces.LOST
    assert made["outcome"] == "created"
    assert made["workspace"]["id"] != lost.workspace.id


async def test_the_end_of_the_service_ends_a_set_up(
    start_tools: StartTools, new_chat: NewChat, templates: Path, base: Path, store: StoreDriver
) -> None:
    write_template(templates, "slow", waiting_for(base / "never"))
    service = await start_tools(sandbox="off", shutdown_timeout_s=3.0)
    chat = await new_chat()
    runs = asyncio.Event()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        call = group.create_task(
            chat.call("create_workspace", {"template_id": "slow"}, on_progress=lambda _: runs.set())
        )
        await runs.wait()
        await service.stop()
        result = await call

    assert result.is_error
    (workspace,) = (await store.rpc.call(book.LIST, book.ListWorkspaces(store.actor))).workspaces
    assert (workspace.state, workspace.reason) == (
        "failed",
        "the tools service stopped during the set-up",
    )


async def test_every_state_refuses_what_is_not_in_the_table(
    store: StoreDriver, database_url: str
) -> None:
    states: tuple[State, ...] = ("creating", "running", "stopping", "stopped", "failed")
    changes: tuple[Change, ...] = ("finish", "fail", "start", "stop", "finish_stop", "delete")
    claim = book.Claim("host-1", "default", "local", {}, {}, actor=store.actor)
    for state in states:
        for change in changes:
            workspace = (await store.rpc.call(book.CLAIM, claim)).workspace
            await query(
                database_url, "UPDATE workspaces SET state = $1 WHERE id = $2", state, workspace.id
            )
            move = book.Move(workspace.id, change, "host-1", store.actor)
            after = TRANSITIONS.get((state, change))
            done = (state, change) in (
                ("running", "start"),
                ("stopping", "stop"),
                ("stopped", "stop"),
            )
            if after is None and not done:
                with pytest.raises(TransitionRefused):
                    await store.rpc.call(book.MOVE, move)
                await store.rpc.call(
                    book.MOVE, book.Move(workspace.id, "delete", "host-1", store.actor)
                )
                continue
            moved = await store.rpc.call(book.MOVE, move)
            assert (moved.workspace.state, moved.changed) == (after or state, not done)
            if moved.workspace.state != "deleted":
                await store.rpc.call(
                    book.MOVE, book.Move(workspace.id, "delete", "host-1", store.actor)
                )


async def test_a_failed_workspace_is_given_to_no_chat(
    store: StoreDriver, new_chat: NewChat
) -> None:
    claim = book.Claim("host-1", "default", "local", {}, {}, actor=store.actor)
    workspace = (await store.rpc.call(book.CLAIM, claim)).workspace
    await store.rpc.call(book.MOVE, book.Move(workspace.id, "fail", "host-1", reason="no luck"))
    chat = await new_chat()

    with pytest.raises(Conflict, match="has failed"):
        await store.rpc.call(book.ATTACH, book.Attach(store.actor, chat.chat_id, workspace.id))
    with pytest.raises(NotFound):
        await store.rpc.call(
            book.ATTACH, book.Attach(store.actor, ChatId(workspace.id), workspace.id)
        )
