"""What a model reads about a process: facts, then its output, then what can be done about it."""

from __future__ import annotations

from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import JsonObject, JsonPart, TextPart
from steersman_plugin_exec.output import Output
from steersman_plugin_exec.processes import Entry


def report(
    entry: Entry,
    *,
    kept: bool,
    timed_out: bool = False,
    offset: int = 0,
    more: JsonObject | None = None,
) -> ToolResult:
    """Tell of a process.

    Args:
        entry: The process.
        kept: Whether its id can be asked about later.
        timed_out: Whether somebody waited for its end in vain.
        offset: The byte of the output to begin with; 0 shows the beginning and the end.
        more: Further facts.
    """
    process, output = entry.process, entry.process.output.output(offset)
    exited = process.exited.is_set()
    left = exited and entry.runs
    facts: JsonObject = {"process_id": entry.id} if kept else {}
    facts |= {
        "running": not exited,
        "exit_code": process.exit_code,
        "signal": process.exit_signal,
        "wall_time_s": round(process.wall_time_s, 3),
        "timed_out": timed_out,
        "output_bytes": process.output.total,
        "dropped_bytes": output.dropped,
        "left_running": left,
    }
    if kept:
        facts["next_offset"] = process.output.total
    if process.output.log_path is not None:
        facts["log"] = process.output.log_path
    notes = _notes(entry, output, left=left, offset=offset)
    gap = "\n" if notes and output.text and not output.text.endswith("\n") else ""
    text = output.text + gap + "\n".join(notes)
    return ToolResult(content=(JsonPart(facts | (more or {})), TextPart(text)))


def _notes(entry: Entry, output: Output, *, left: bool, offset: int) -> list[str]:
    process, notes = entry.process, list[str]()
    if not output.text:
        notes.append("[no new output]" if offset else "[no output]")
    if output.dropped and process.output.log_path is not None:
        whole = process.output.log is not None and process.output.log.whole
        what = "all output is" if whole else "the beginning of the output is"
        notes.append(f"[{what} in {process.output.log_path}]")
    if entry.ended_because is not None:
        notes.append(f"[it was ended: {entry.ended_because}]")
    if not process.exited.is_set():
        notes.append(
            f"[it still runs after {process.wall_time_s:.3g} s, as process {entry.id}: "
            "process_output waits for it, process_signal ends it]"
        )
    elif left:
        notes.append(
            f"[the shell has ended, but processes that it started still run, as {entry.id}: "
            "process_output shows what they print, process_signal ends them]"
        )
    return notes
