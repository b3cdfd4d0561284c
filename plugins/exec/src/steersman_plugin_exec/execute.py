"""`execute`: run a command and wait for its end."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import msgspec

from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_contracts.parts import JsonPart, TextPart
from steersman_plugin_exec.launch import prepare
from steersman_plugin_exec.output import Ring
from steersman_plugin_exec.process import Process
from steersman_plugin_exec.workdir import Refused

TIMEOUT_MAX_S: Final = 14_400.0
PROGRESS_S: Final = 0.25
ENDING_S: Final = 5.0
"""What stopping a command and answering may take, kept free before the call's own deadline."""

EXECUTE: Final = (
    "Run a shell command (bash) in the workspace and wait until it ends. There is no input and no "
    "terminal: use options that ask nothing. Each call is a new shell; directory and variables of "
    "the last one are gone. Returns JSON with exit_code (null if a signal ended it), signal, "
    "wall_time_s, timed_out, output_bytes, dropped_bytes and left_running, then stdout and stderr "
    "as one text, at most 64 KiB: of longer output the middle is dropped and a marker says how "
    "much. At timeout_s the command and everything it started is stopped, so give slow commands "
    "enough. A process that is to go on in the background needs its output in a file: "
    "cmd > log 2>&1 &"
)


class Execute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `execute`."""

    command: Annotated[
        str, msgspec.Meta(min_length=1, description="What bash -c runs; at most 128 KiB.")
    ]
    timeout_s: Annotated[
        float,
        msgspec.Meta(gt=0, le=TIMEOUT_MAX_S, description="Seconds until it is stopped."),
    ] = 10.0
    workdir: Annotated[
        str, msgspec.Meta(description="Where it starts, relative to the workspace.")
    ] = "."


async def execute(context: ToolContext, args: Execute) -> ToolResult:
    """Run the command to its end, or stop it at its time."""
    limit_s = min(args.timeout_s, max(context.timeout_s - ENDING_S, context.timeout_s / 2))
    try:
        launch = await asyncio.to_thread(prepare, args.command, context.workspace, args.workdir)
        process = Process.start(launch, Ring())
    except Refused as refused:
        return ToolResult.error(str(refused))
    ticker = _Ticker(context, process)
    try:
        timed_out = await _ended(process, limit_s)
        await process.drain()
    finally:
        ticker.cancel()
        await process.close()
    return _result(process, limit_s=limit_s, timed_out=timed_out)


async def _ended(process: Process, limit_s: float) -> bool:
    try:
        async with asyncio.timeout(limit_s):
            await process.exited.wait()
    except TimeoutError:
        await process.stop()
        return True
    except asyncio.CancelledError:
        await process.stop()
        raise
    return False


class _Ticker:
    """Tells the last line of output, at most four times a second."""

    def __init__(self, context: ToolContext, process: Process) -> None:
        self._context = context
        self._output = process.output
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._told = ""
        process.on_output = self._more

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _more(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_at(self._next, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._next = self._loop.time() + PROGRESS_S
        line = self._output.last_line()
        if line and line != self._told:
            self._told = line
            self._context.progress(line)


def _result(process: Process, *, limit_s: float, timed_out: bool) -> ToolResult:
    output = process.output.output()
    left = process.group_alive
    facts = {
        "exit_code": process.exit_code,
        "signal": process.exit_signal,
        "wall_time_s": round(process.wall_time_s, 3),
        "timed_out": timed_out,
        "output_bytes": process.output.total,
        "dropped_bytes": output.dropped,
        "left_running": left and not timed_out,
    }
    notes: list[str] = []
    if not output.text:
        notes.append("[no output]")
    if timed_out:
        notes.append(
            f"[stopped after {limit_s:g} s, with everything it had started; if it needs longer, "
            "use a larger timeout_s]"
        )
    elif left:
        notes.append(
            f"[processes that it started still run, and their output is no longer read; "
            f"`kill -- -{process.pid}` ends them]"
        )
    gap = "\n" if notes and output.text and not output.text.endswith("\n") else ""
    text = output.text + gap + "\n".join(notes)
    return ToolResult(content=(JsonPart(facts), TextPart(text)), is_error=timed_out)
