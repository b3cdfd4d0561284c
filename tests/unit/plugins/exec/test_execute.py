"""Real commands: how they end, what is left of them, and what is told meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import uvloop

import steersman_plugin_exec
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import JsonPart, TextPart
from steersman_contracts.testing import LocalContext, run_tool
from steersman_plugin_exec import process as processes
from steersman_plugin_exec.launch import prepare
from steersman_plugin_exec.log import LOG_MAX
from steersman_plugin_exec.output import OUTPUT_MAX, Capture
from steersman_plugin_exec.process import Process


async def execute(
    where: Path | LocalContext, command: str, **arguments: Any
) -> tuple[dict[str, Any], str]:
    return await call(where, "execute", command=command, **arguments)


async def call(
    where: Path | LocalContext, tool: str, **arguments: Any
) -> tuple[dict[str, Any], str]:
    context = where if isinstance(where, LocalContext) else LocalContext(where)
    return parts(await run_tool(steersman_plugin_exec, tool, arguments, context))


def parts(result: ToolResult) -> tuple[dict[str, Any], str]:
    match result.parts():
        case (JsonPart(value=facts), TextPart(text=text)):
            assert not result.is_error
            return facts, text
        case other:
            raise AssertionError(other)


def running(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def unreaped() -> bool:
    """Whether a child of ours has ended and nobody has asked how."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


async def test_output_and_errors_come_in_order_with_how_it_ended(workspace: Path) -> None:
    facts, text = await execute(workspace, "echo out; echo err >&2; echo out again; exit 3")

    assert text == "out\nerr\nout again\n"
    assert 0 < facts.pop("wall_time_s") < 5
    assert facts == {
        "running": False,
        "exit_code": 3,
        "signal": None,
        "timed_out": False,
        "output_bytes": 18,
        "dropped_bytes": 0,
        "left_running": False,
    }


@pytest.mark.parametrize(
    ("command", "text", "code"),
    [
        ("printf 'no newline'", "no newline", 0),
        ("printf 'a\\377\\376\\0b'", "a\ufffd\ufffd\ufffdb", 0),
        ("true", "[no output]", 0),
        ("cat; echo end", "end\n", 0),
        ("read -r line; echo $?", "1\n", 0),
        ("tty", "not a tty\n", 1),
        ("no_such_command 2>/dev/null", "[no output]", 127),
        ("yes | head -n 3", "y\ny\ny\n", 0),
        ("exec >&- 2>&-; exit 4", "[no output]", 4),
        ("echo $0 $#", "/bin/bash 0\n", 0),
    ],
)
async def test_a_command_ends_with_its_output_and_exit_code(
    workspace: Path, command: str, text: str, code: int
) -> None:
    facts, shown = await execute(workspace, command)

    assert (shown, facts["exit_code"], facts["signal"]) == (text, code, None)


async def test_a_signal_is_told_by_name(workspace: Path) -> None:
    facts, _ = await execute(workspace, "kill -KILL $$")

    assert (facts["exit_code"], facts["signal"]) == (137, "SIGKILL")


async def test_a_hundred_megabytes_leave_the_beginning_and_the_end(workspace: Path) -> None:
    facts, text = await execute(
        workspace,
        "echo first; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo last",
        timeout_s=60,
    )

    assert facts["output_bytes"] == 100_000_012
    assert len(text.encode()) <= OUTPUT_MAX + 200
    assert text.startswith("first\nxxx")
    assert f"xxx\nlast\n[the beginning of the output is in {facts['log']}]" in text
    dropped = re.search(r"\[… (\d+) bytes of output dropped …\]", text)
    assert dropped is not None
    assert int(dropped[1]) == facts["dropped_bytes"] > 99_900_000


async def test_output_without_end_goes_on_as_a_process(workspace: Path) -> None:
    facts, text = await execute(workspace, "yes", timeout_s=2)

    assert (facts["timed_out"], facts["running"], facts["exit_code"]) == (True, True, None)
    assert text.startswith("y\ny\n")
    assert f"as process {facts['process_id']}: process_output waits for it" in text


async def test_a_gigabyte_passes_through(workspace: Path) -> None:
    patient = LocalContext(workspace, timeout_s=170)
    facts, text = await execute(patient, "head -c 1073741824 /dev/zero", timeout_s=165)

    assert (facts["exit_code"], facts["output_bytes"]) == (0, 1 << 30)
    assert len(text.encode()) < OUTPUT_MAX + 200
    assert (workspace / facts["log"]).stat().st_size == LOG_MAX


async def test_a_daemon_that_keeps_the_output_open_does_not_hold_up_the_answer(
    workspace: Path,
) -> None:
    facts, text = await execute(workspace, "sleep 60 & echo $!; echo done", timeout_s=30)

    pid = int(text.split()[0])
    assert (facts["exit_code"], facts["running"], facts["left_running"]) == (0, False, True)
    assert facts["wall_time_s"] < 10
    assert text.startswith(f"{pid}\ndone\n[the shell has ended, but processes that it started")
    ended, _ = await call(workspace, "process_signal", process_id=facts["process_id"])
    assert not ended["left_running"]
    assert not running(pid)


async def test_a_daemon_that_talks_without_end_does_not_hold_up_the_answer(
    workspace: Path,
) -> None:
    facts, _ = await execute(workspace, "yes & echo $!", timeout_s=30)

    assert facts["exit_code"] == 0
    assert facts["wall_time_s"] < 10
    assert facts["output_bytes"] > 0


async def started(workspace: Path, command: str) -> Process:
    """A process, once it has printed something."""
    launch = await asyncio.to_thread(prepare, command, workspace, ".")
    process = Process.start(launch, Capture())
    spoke = asyncio.Event()
    process.listeners.add(spoke.set)
    async with asyncio.timeout(30):
        await spoke.wait()
    return process


async def test_what_children_print_right_after_the_exit_is_still_read(workspace: Path) -> None:
    process = await started(
        workspace, "echo first; (while kill -0 $$; do :; done 2>/dev/null; echo late) &"
    )
    async with asyncio.timeout(30):
        await process.exited.wait()
        await process.drain(10)
        await process.close()

    assert process.output.output().text == "first\nlate\n"


@pytest.mark.parametrize(
    ("command", "text", "ended"),
    [
        ("echo ready; while :; do sleep 60; done", "ready\n", (143, "SIGTERM")),
        (
            "trap '' TERM; echo ready; while :; do sleep 60; done",
            "ready\n",
            (137, "SIGKILL"),
        ),
        (
            "trap 'echo bye; exit 7' TERM; echo ready; while :; do :; done",
            "ready\nbye\n",
            (7, None),
        ),
    ],
)
async def test_a_command_is_asked_to_end_and_then_killed(
    workspace: Path, command: str, text: str, ended: tuple[int | None, str | None]
) -> None:
    process = await started(workspace, command)
    async with asyncio.timeout(30):
        await process.stop(0.5)
        await process.drain()
        await process.close()

    assert (process.exit_code, process.exit_signal) == ended
    assert process.output.output().text == text
    assert not process.group_alive


async def test_everything_in_the_group_ends_with_the_call(workspace: Path) -> None:
    context = LocalContext(workspace)
    command = """
    (trap '' TERM; echo $BASHPID >> pids; sleep 60) &
    (sleep 60 & echo $! >> pids; sleep 60 | (echo $BASHPID >> pids; sleep 60)) &
    until [ "$(cat pids 2>/dev/null | wc -l)" = 3 ]; do sleep 0.01; done
    echo ready; wait
    """
    call = asyncio.create_task(execute(context, command, timeout_s=60))
    async with asyncio.timeout(20):
        await context.saw("ready")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    pids = [int(line) for line in (workspace / "pids").read_text().split()]
    assert len(pids) == 3
    assert not [pid for pid in pids if running(pid)]


async def test_a_cancelled_call_ends_its_command(workspace: Path) -> None:
    context = LocalContext(workspace)
    call = asyncio.create_task(execute(context, "sleep 60 & echo pid $!; wait", timeout_s=60))
    async with asyncio.timeout(30):
        await context.saw("pid ")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert not running(int(context.progressed[0].split()[1]))


async def test_a_call_that_is_cancelled_twice_leaves_nothing_either(workspace: Path) -> None:
    context = LocalContext(workspace)
    command = "trap 'echo not yet' TERM; echo pid $$; while :; do sleep 0.05; done"
    call = asyncio.create_task(execute(context, command, timeout_s=60))
    async with asyncio.timeout(30):
        await context.saw("pid ")
        call.cancel()
        await context.saw("not yet")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert not running(int(context.progressed[0].split()[1]))


async def test_the_deadline_of_the_call_comes_before_that_of_the_command(workspace: Path) -> None:
    facts, text = await execute(
        LocalContext(workspace, timeout_s=4.0), "echo partial; sleep 60", timeout_s=60
    )

    assert (facts["timed_out"], facts["running"]) == (True, True)
    assert text.startswith("partial\n[it still runs after ")


async def test_progress_tells_the_last_line_and_not_too_often(workspace: Path) -> None:
    context = LocalContext(workspace)
    command = "for n in $(seq 40); do echo line $n; sleep 0.02; done; printf 'no end'; sleep 1"

    facts, _ = await execute(context, command)

    assert context.progressed[0].startswith("line ")
    assert context.progressed[-1] == "no end"
    assert 2 <= len(context.progressed) <= 2 + facts["wall_time_s"] / 0.25


async def test_commands_run_at_the_same_time(workspace: Path) -> None:
    # Each waits for the other.
    os.mkfifo(workspace / "pipe")
    (workspace / "pipe").chmod(0o666)

    (_, written), (_, read) = await asyncio.gather(
        execute(workspace, "echo hello > pipe; echo written"), execute(workspace, "cat pipe")
    )

    assert (written, read) == ("written\n", "hello\n")


async def test_nothing_is_left_of_a_call(workspace: Path) -> None:
    await execute(workspace, "true")
    before = descriptors()
    for command in ("true", "exit 3", "echo x", "exec >&-; true", "kill -9 $$"):
        await execute(workspace, command)
    facts, _ = await execute(workspace, "sleep 60", timeout_s=0.1)
    await call(workspace, "process_signal", process_id=facts["process_id"], signal="kill")
    await run_tool(
        steersman_plugin_exec, "execute", {"command": "x", "workdir": ".."}, LocalContext(workspace)
    )

    assert descriptors() == before
    assert not unreaped()


SERVICE = """
import asyncio, sys
from pathlib import Path
import steersman_plugin_exec
from steersman_contracts.testing import LocalContext, run_tool

class Telling(LocalContext):
    def progress(self, text):
        print(text, flush=True)

arguments = {"command": sys.argv[2], "timeout_s": 60}
asyncio.run(run_tool(steersman_plugin_exec, "execute", arguments, Telling(Path(sys.argv[1]))))
"""


@pytest.mark.parametrize(
    "command",
    [
        "echo $$; exec sleep 61",
        "sleep 61 & echo $! $$; wait",
        "(sleep 61 | sleep 61 & echo $! $$); sleep 61",
    ],
)
def test_a_service_that_is_killed_takes_its_commands_with_it(workspace: Path, command: str) -> None:
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(workspace), command], stdout=subprocess.PIPE
    )
    assert service.stdout is not None
    with service, service.stdout as told:
        pids = [int(word) for word in told.readline().split()]
        watched = [os.pidfd_open(pid) for pid in pids]
        service.kill()
        service.wait()

    deadline = time.monotonic() + 10
    for descriptor in watched:
        ended, _, _ = select.select([descriptor], [], [], deadline - time.monotonic())
        os.close(descriptor)
        assert ended


def test_a_command_runs_under_uvloop(workspace: Path) -> None:
    facts, text = uvloop.run(execute(workspace, "echo out; id -u; exit 3"))

    assert facts["exit_code"] == 3
    assert text == f"out\n{workspace.stat().st_uid}\n"


async def test_a_process_can_be_waited_for_by_a_thread(workspace: Path) -> None:
    ended = asyncio.Event()
    popen = subprocess.Popen(["/bin/sh", "-c", "exit 5"])  # noqa: ASYNC220 - it is watched by hand
    async with asyncio.timeout(30):
        processes.in_thread(popen, ended.set)
        await ended.wait()

    assert popen.returncode == 5


async def test_a_process_can_be_looked_at_while_it_runs(workspace: Path) -> None:
    process = await started(workspace, "echo started; sleep 60")

    assert (process.exit_code, process.exit_signal) == (None, None)
    assert process.group_alive
    assert process.output.output().text == "started\n"
    assert process.wall_time_s > 0

    async with asyncio.timeout(30):
        await process.close()

    assert process.exit_signal == "SIGKILL"
