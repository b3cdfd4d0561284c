"""MCP servers that are slow, huge, malformed, ever changing, or dead: each costs itself alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from integration.tools.conftest import StartTools
from integration.tools.host import ECHO, Caller, plugin, text_of
from integration.tools.mcp_host import (
    WAIT_S,
    configured,
    free_port,
    report,
    stdio,
    until,
    until_file,
    until_offered,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_PROTOCOL_VERSION
from structlog.testing import capture_logs


def hostile(behaviour: str, *arguments: str, **more: Any) -> dict[str, Any]:
    return stdio("hostile", behaviour, *arguments, slug=behaviour, **more)


BROKEN = {
    "garbage": "what it prints are no MCP messages",
    "endless-line": "it sent a message of more than 8388608 bytes",
    "exits": "it",
    "bad-list": "its answer is no MCP message",
}


async def test_servers_that_are_no_servers_are_reported_and_the_others_stay(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    gone = {"slug": "gone", "transport": "http", "url": f"http://127.0.0.1:{free_port()}/mcp"}
    missing = {"slug": "missing", "transport": "stdio", "command": ["/no/such/program"]}
    servers = [hostile(behaviour) for behaviour in BROKEN]
    service = await start_tools(
        configured(tmp_path, *servers, gone, missing, hostile("good")), plugin("other", ECHO)
    )

    def all_told(found: Any) -> bool:
        return len(found.warnings) == len(BROKEN) + 2 and all(
            "is not connected" in warning for warning in found.warnings
        )

    catalog = await until(caller, all_told)

    found = report(catalog)
    for slug, why in BROKEN.items():
        (warning,) = [text for text in found.warnings if repr(slug) in text]
        assert why in warning
    assert found.tools == ("good__t",)
    assert text_of(await caller.call("good__t")) == "done"
    assert text_of(await caller.call("echo", {"text": "here"})) == "here"
    assert service.runtime.health.problems() == {}


async def test_a_slow_server_delays_nothing_and_is_given_up(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    await start_tools(configured(tmp_path, hostile("slow"), hostile("good"), discovery_s=3))

    first = report(await until_offered(caller, "good__t"))
    later = await until(
        caller, lambda found: any("not answer within 3 s" in text for text in found.warnings)
    )

    assert first.warnings == ("server 'slow' has not answered yet",)
    assert report(later).tools == ("good__t",)


async def test_lists_are_bounded_and_bad_tools_left_out(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    kinds = ("many-tools", "bad-tools", "endless-pages")
    await start_tools(configured(tmp_path, *(hostile(kind) for kind in kinds)))

    catalog = await until_offered(caller, "many-tools__t0", "bad-tools__t", "endless-pages__t")

    found = report(catalog)
    bad = [name for name in found.tools if name.startswith("bad-tools")]
    assert bad == ["bad-tools__a_b", "bad-tools__a_b_2", "bad-tools__t"]
    assert sum(name.startswith("many-tools") for name in found.tools) == 200
    assert "server 'many-tools': only 200 of its 1000 tools are used" in found.warnings
    told = "\n".join(found.warnings)
    for why in (
        "more than 32768",
        "nested too deeply",
        "0 characters",
        "2 of what it lists are no",
    ):
        assert why in told
    specs = {spec.name: spec.description for spec in catalog.tools}
    assert specs["bad-tools__a_b"] == "Hidden orders."
    assert len(specs["bad-tools__a_b_2"]) == 4_000


async def test_answers_are_bounded_and_malformed_ones_are_errors(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    kinds = ("long", "malformed", "trap")
    key = {"KEY": "k-123456"}
    await start_tools(
        configured(tmp_path, *(hostile(kind) for kind in kinds), hostile("error", env=key))
    )
    await until_offered(caller, *(f"{kind}__t" for kind in (*kinds, "error")))

    long = await caller.call("long__t")
    malformed = await caller.call("malformed__t")
    trap = await caller.call("trap__t")
    error = await caller.call("error__t")

    assert len(text_of(long)) <= 68 << 10
    assert malformed.is_error
    assert text_of(malformed) == "the MCP server 'malformed' failed: its answer is no MCP message"
    # The pattern of its output schema would take years.
    assert not trap.is_error
    assert text_of(error) == "the MCP server 'error' refused: key *** is wrong"


@pytest.mark.parametrize("kind", ["dies", "huge"])
async def test_a_server_that_is_lost_in_a_call_is_connected_again(
    kind: str, start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    await start_tools(configured(tmp_path, hostile(kind)))
    await until_offered(caller, f"{kind}__t")

    first = await caller.call(f"{kind}__t")
    second = await caller.call(f"{kind}__t")  # waits for the new connection

    for result in (first, second):
        assert result.is_error
        assert "closed the connection during the call, effect unknown" in text_of(result)


async def test_a_list_that_changes_all_the_time_is_followed_in_every_revision_before_the_current(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    revisions = {f"of-{revision}": revision for revision in HANDSHAKE_PROTOCOL_VERSIONS}
    assert LATEST_PROTOCOL_VERSION not in revisions.values()  # test_mcp.py has that
    servers = [stdio("hostile", "changing", r, slug=slug) for slug, r in revisions.items()]
    names = [f"{slug}__t3" for slug in revisions]
    with capture_logs() as logs:
        await start_tools(configured(tmp_path, *servers))
        catalog = await until_offered(caller, *names)

    assert report(catalog).tools == tuple(sorted(names))
    spoken = {one["server"]: one["protocol"] for one in logs if one["event"] == "mcp.connected"}
    assert spoken == revisions
    for name in names:
        assert text_of(await caller.call(name)) == "done"


async def test_a_silent_server_is_told_that_nobody_waits(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    await start_tools(configured(tmp_path, hostile("silent", str(note), call_timeout_s=1)))
    await until_offered(caller, "silent__t")

    result = await caller.call("silent__t")

    assert result.is_error
    assert "has not answered for 1 s" in text_of(result)
    assert await until_file(note) == "cancelled"


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


async def until_gone(*pids: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while any(alive(pid) for pid in pids):  # noqa: ASYNC110  # other processes
            await asyncio.sleep(0.05)


async def test_a_process_ends_with_the_service_and_takes_its_group_along(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    note = tmp_path / "pids"
    service = await start_tools(configured(tmp_path, hostile("stays", str(note))))
    await until_offered(caller, "stays__t")
    pids = [int(pid) for pid in note.read_text().split()]
    assert all(alive(pid) for pid in pids)

    await service.stop()

    await until_gone(*pids)


async def test_a_process_does_not_outlive_a_service_that_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    configured(tmp_path, hostile("stays", str(note)))
    script = (
        "import asyncio, sys, types\n"
        "from steersman_plugin_mcp.plugin import McpPlugin, Settings\n"
        "async def main():\n"
        "    plugin = McpPlugin({}, settings=Settings(config=sys.argv[1]))\n"
        "    await plugin.start(types.SimpleNamespace(rpc=None))\n"
        "    while not plugin.dynamic_tools().tools:\n"
        "        await asyncio.sleep(0.05)\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "mcp.json"), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        while (said := await process.stdout.readline()) != b"ready\n":
            assert said, "it ended"  # the log goes there as well

    pids = [int(pid) for pid in note.read_text().split()]
    process.kill()

    await until_gone(*pids)
    await process.wait()
