"""The tools for processes that outlive the call that started them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_contracts.parts import JsonObject, JsonPart
from steersman_plugin_exec.execute import ENDING_S, TIMEOUT_MAX_S, wait
from steersman_plugin_exec.processes import Entry, host_in, processes
from steersman_plugin_exec.progress import told
from steersman_plugin_exec.report import report
from steersman_plugin_exec.workdir import Refused

TERMINATE_S: Final = 5.0
"""How long an answer to `terminate` waits for the end that was asked for."""

INPUT_MAX: Final = 64 * 1024
COMMAND_SHOWN: Final = 200

PROCESS_OUTPUT: Final = (
    "Wait for a process of this chat to end, at most timeout_s, and show its output. Returns JSON "
    "as execute does, with running, and next_offset: give it as offset the next time to see only "
    "what is new. At most 64 KiB of text; the middle of more is dropped, and the file `log` has it."
)
PROCESS_LIST: Final = (
    "List the processes of this chat that execute has left running, and those that have ended "
    "lately. Returns JSON with processes, each with process_id, command, running, exit_code, "
    "signal, left_running, wall_time_s, started_at and output_bytes. Processes end with the tools "
    "service, and other chats cannot see them."
)
PROCESS_SIGNAL: Final = (
    "End a process of this chat and everything that it has started. `terminate` sends SIGTERM and "
    "waits up to 5 seconds, `kill` ends it at once. Returns JSON as process_output does; running "
    "or left_running are true if it still goes on."
)
PROCESS_INPUT: Final = (
    "Write text to the input of a process that was started in the background, and wait timeout_s "
    "for what it answers. End a line with a newline. With end it reads the end of its input "
    "afterwards. Returns JSON as process_output does, with written (bytes), and the new output."
)

ProcessId = Annotated[
    str, msgspec.Meta(max_length=100, description="The process_id that execute returned.")
]


class ProcessOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `process_output`."""

    process_id: ProcessId
    timeout_s: Annotated[
        float,
        msgspec.Meta(ge=0, le=TIMEOUT_MAX_S, description="Seconds to wait for its end; 0 is not."),
    ] = 10.0
    offset: Annotated[
        int, msgspec.Meta(ge=0, description="Leave out that many bytes of the output.")
    ] = 0


class ProcessList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `process_list`: none."""


class ProcessSignal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `process_signal`."""

    process_id: ProcessId
    signal: Annotated[Literal["terminate", "kill"], msgspec.Meta(description="How to end it.")] = (
        "terminate"
    )


class ProcessInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `process_input`."""

    process_id: ProcessId
    text: Annotated[
        str, msgspec.Meta(max_length=INPUT_MAX, description="What to write, as it is.")
    ] = ""
    end: Annotated[bool, msgspec.Meta(description="Close its input afterwards.")] = False
    timeout_s: Annotated[
        float, msgspec.Meta(ge=0, le=60, description="Seconds to wait for an answer.")
    ] = 1.0


async def process_output(context: ToolContext, args: ProcessOutput) -> ToolResult:
    """Wait for the end, and show what there is."""
    try:
        entry = processes().find(context.chat_id, args.process_id)
    except Refused as refused:
        return ToolResult.error(str(refused))
    limit_s = min(args.timeout_s, max(context.timeout_s - ENDING_S, context.timeout_s / 2))
    with told(context, entry.process):
        ended = await wait(entry.process, limit_s)
    return report(entry, kept=True, timed_out=not ended, offset=args.offset)


async def process_list(context: ToolContext, _: ProcessList) -> ToolResult:
    """Show what runs and what has ended."""
    return ToolResult.json(
        {"processes": [_line(entry) for entry in processes().of(context.chat_id)]}
    )


def host_of(args: ProcessOutput | ProcessSignal | ProcessInput) -> str | None:
    """The host that holds the process."""
    return host_in(args.process_id)


def one_list(results: Sequence[ToolResult]) -> ToolResult:
    """The lists of all hosts as one, the oldest process first."""
    found: list[JsonObject] = []
    for result in results:
        for part in result.content:
            if not result.is_error and isinstance(part, JsonPart):
                found += part.value["processes"]
    # Of one second, by id: the same order wherever it is asked for.
    found.sort(key=lambda one: (one["started_at"], one["process_id"]))
    return ToolResult.json({"processes": found})


def _line(entry: Entry) -> JsonObject:
    process, command = entry.process, entry.command
    exited = process.exited.is_set()
    cut = len(command) - COMMAND_SHOWN
    return {
        "process_id": entry.id,
        "command": command if cut <= 0 else f"{command[:COMMAND_SHOWN]}… [{cut} more characters]",
        "running": not exited,
        "exit_code": process.exit_code,
        "signal": process.exit_signal,
        "left_running": exited and entry.runs,
        "wall_time_s": round(process.wall_time_s, 3),
        "started_at": entry.started_at.isoformat(timespec="milliseconds"),
        "output_bytes": process.output.total,
    }


async def process_signal(context: ToolContext, args: ProcessSignal) -> ToolResult:
    """End it, or ask it to."""
    try:
        entry = processes().find(context.chat_id, args.process_id)
    except Refused as refused:
        return ToolResult.error(str(refused))
    before = entry.process.output.total
    if entry.runs:
        if args.signal == "kill":
            await entry.process.kill()
        else:
            entry.process.ask_to_end()
            await entry.process.group_gone(TERMINATE_S)
        if not entry.runs:
            await entry.close()
    return report(entry, kept=True, offset=before)


async def process_input(context: ToolContext, args: ProcessInput) -> ToolResult:
    """Write to it, and show what it says to that."""
    try:
        entry = processes().find(context.chat_id, args.process_id)
        data = _input(args)
    except Refused as refused:
        return ToolResult.error(str(refused))
    process, given = entry.process, entry.process.input
    if given is None or given.closed:
        why = "it was not started in the background" if given is None else "its input is closed"
        return ToolResult.error(f"nothing can be written to process {entry.id}: {why}")
    before = process.output.total
    written = await given.write(data, ENDING_S)
    if args.end:
        given.close()
    with told(context, process):
        await wait(process, args.timeout_s)
    closed = given.closed
    result = report(
        entry, kept=True, offset=before, more={"written": written, "input_closed": closed}
    )
    return msgspec.structs.replace(result, is_error=written < len(data))


def _input(args: ProcessInput) -> bytes:
    try:
        return args.text.encode()
    except UnicodeEncodeError as error:
        raise Refused("the text is not valid Unicode; remove lone surrogates") from error
