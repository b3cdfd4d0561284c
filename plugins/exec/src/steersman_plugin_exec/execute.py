"""`execute`: run a command, and wait for its end or let it run."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Final

import msgspec

from steersman_contracts.hooks import ToolContext, ToolResult, host_of_call, room_of
from steersman_contracts.sandbox import sandbox_of
from steersman_contracts.workspaces import environment_of
from steersman_plugin_exec.launch import prepare
from steersman_plugin_exec.output import OUTPUT_MAX
from steersman_plugin_exec.process import Process
from steersman_plugin_exec.processes import Entry, processes
from steersman_plugin_exec.progress import told
from steersman_plugin_exec.report import report
from steersman_plugin_exec.workdir import Refused

TIMEOUT_MAX_S: Final = 14_400.0
BACKGROUND_S: Final = 0.5
"""How long a command in the background is watched, for it may fail at once."""

FACTS: Final = 4 << 10
"""Bytes of a result that are kept free for what is said beside the output."""
ENDING_S: Final = 5.0
"""What answering may take, kept free before the call's own deadline."""

EXECUTE: Final = (
    "Run a shell command (bash) in the workspace. Each call is a new shell; directory and "
    "variables of the last are gone. No terminal and no input: use options that ask nothing. "
    "There may be no network; only the workspace and /tmp can be written. Returns JSON with "
    "exit_code, signal, wall_time_s, timed_out, output_bytes, dropped_bytes, then stdout and "
    "stderr as one text, at most 64 KiB: of longer output the middle is dropped, and the file "
    "`log` has all. A command that takes longer than timeout_s goes on as a process: "
    "process_output waits for it, process_signal ends it. For servers set background, or end the "
    "command with &: the answer comes at once, and process_input can write to it."
)

# `&&`, `>&`, `<&`, `|&` and an escaped one are something else.
_BACKGROUND: Final = re.compile(r"(?<![&<>|\\])&\s*\Z")


class Execute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `execute`."""

    command: Annotated[
        str, msgspec.Meta(min_length=1, description="What bash -c runs; at most 128 KiB.")
    ]
    timeout_s: Annotated[
        float,
        msgspec.Meta(gt=0, le=TIMEOUT_MAX_S, description="Seconds to wait for its end."),
    ] = 10.0
    workdir: Annotated[
        str, msgspec.Meta(description="Where it starts, relative to the workspace.")
    ] = "."
    background: Annotated[
        bool, msgspec.Meta(description="Do not wait: it goes on as a process, with an input.")
    ] = False


async def execute(context: ToolContext, args: Execute) -> ToolResult:
    """Run the command, and wait for it as long as was asked for."""
    command, background = split_background(args.command)
    background = background or args.background
    try:
        launch = await asyncio.to_thread(
            prepare,
            command,
            context.workspace,
            args.workdir,
            sandbox_of(context),
            environment_of(context),
        )
        entry = processes().start(
            context.chat_id,
            launch,
            with_input=background,
            host=host_of_call(context),
            shown=min(OUTPUT_MAX, room_of(context, OUTPUT_MAX + FACTS) - FACTS),
        )
    except Refused as refused:
        return ToolResult.error(str(refused))
    limit_s = min(args.timeout_s, max(context.timeout_s - ENDING_S, context.timeout_s / 2))
    with told(context, entry.process):
        try:
            ended = await wait(entry.process, BACKGROUND_S if background else limit_s)
        except asyncio.CancelledError:
            await _end_cancelled(entry)
            raise
    return await _result(entry, background=background, ended=ended)


def split_background(command: str) -> tuple[str, bool]:
    """Take a trailing single `&` off a command, and say whether there was one."""
    found = _BACKGROUND.search(command)
    if found is None or not command[: found.start()].strip():
        return command, False
    return command[: found.start()].rstrip(), True


async def wait(process: Process, limit_s: float) -> bool:
    """Wait for the end of the shell and of its output; say whether it came within the time."""
    try:
        async with asyncio.timeout(limit_s):
            await process.exited.wait()
    except TimeoutError:
        return False
    await process.drain()
    return True


async def _end_cancelled(entry: Entry) -> None:
    try:
        await entry.end("the call was cancelled")
    finally:  # whoever does not wait for the end that was asked for gets another one
        await entry.close()
        processes().forget(entry)


async def _result(entry: Entry, *, background: bool, ended: bool) -> ToolResult:
    if ended and not entry.runs:
        await entry.close()
    # A command that is over and told in full needs no id.
    kept = background or not entry.closed or entry.process.output.log_path is not None
    if not kept:
        processes().forget(entry)
    return report(entry, kept=kept, timed_out=not ended and not background)
