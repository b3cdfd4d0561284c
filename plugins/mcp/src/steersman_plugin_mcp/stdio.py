"""A server that is a process of ours: in a group of its own, with bounds on what it says.

The SDK's own transport gathers a line of any length in memory, hands stderr to ours, and lets the
process live on when this one is killed; so this is another.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

import anyio
import mcp_types as types
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client._transport import TransportStreams  # the public names are not exported
from mcp.shared.message import SessionMessage

from steersman_plugin_mcp.config import StdioServer
from steersman_plugin_mcp.naming import line
from steersman_plugin_mcp.wire import MAX_MESSAGE, Incoming, Wire

log = structlog.stdlib.get_logger()

CLOSE_S: Final = 2.0
"""Seconds from the end of its input to TERM, and from there to KILL."""
_POLL_S: Final = 0.02
_MAX_NOISE: Final = 100
"""Lines without a message, in a row, after which it is no server."""
_LOG_LINES: Final = 20
"""Of stderr at once; after that one a second."""
_LOG_CHARS: Final = 300
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INHERITED: Final = ("HOME", "PATH", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
# Waits beside the server and kills its group once its own input ends: then this process has died.
_GUARD: Final = 'read -r word || kill -s KILL -- "-$1"'


def environment(server: StdioServer, service: Mapping[str, str]) -> dict[str, str]:
    """What the process sees: a few variables of the service, and what the administrator gives."""
    kept = {name: service[name] for name in _INHERITED if name in service}
    return {"PATH": _SYSTEM_PATH, "LANG": "C.UTF-8", **kept, **server.env}


@asynccontextmanager
async def stdio_transport(
    server: StdioServer, service: Mapping[str, str], wire: Wire
) -> AsyncGenerator[TransportStreams]:
    """Start the process, and end it and all of its group when the block is left.

    Raises:
        OSError: It cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *server.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(server, service),
        cwd=server.cwd,
        start_new_session=True,
        limit=MAX_MESSAGE,
    )
    guard: subprocess.Popen[bytes] | None = None
    try:
        guard = _guard(process.pid)
        to_session, incoming = anyio.create_memory_object_stream[Incoming](0)
        outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_read, process, to_session, wire)
            tasks.start_soon(_write, process, from_session, wire)
            tasks.start_soon(_log_stderr, process, server)
            try:
                yield incoming, outgoing
            finally:
                with anyio.CancelScope(shield=True):
                    await _end(process)
                tasks.cancel_scope.cancel()
                for stream in (to_session, incoming, outgoing, from_session):
                    stream.close()
    finally:
        # Whatever happened on the way: nothing of the group may be left.
        _signal(process, signal.SIGKILL)
        _release(process)
        if guard is not None:
            _dismiss(guard)


def _guard(group: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ("/bin/sh", "-c", _GUARD, "sh", str(group)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={},
        start_new_session=True,
    )


def _dismiss(guard: subprocess.Popen[bytes]) -> None:
    # It kills by number, and the number may belong to others soon: it must go first.
    guard.kill()
    guard.wait()
    if guard.stdin is not None:
        guard.stdin.close()


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def _end(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if not await _exited(process, CLOSE_S):
        _signal(process, signal.SIGTERM)
        if not await _exited(process, CLOSE_S):
            _signal(process, signal.SIGKILL)
            await _exited(process, CLOSE_S)
    _signal(process, signal.SIGKILL)  # what it has left behind in its group


async def _exited(process: Process, timeout_s: float) -> bool:
    # Not `wait()`: that waits for the pipes as well, which a child of it may hold.
    until = asyncio.get_running_loop().time() + timeout_s
    while process.returncode is None:
        if asyncio.get_running_loop().time() >= until:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def _release(process: Process) -> None:
    # Pipes that a survivor outside of the group holds would stay open, and warn when collected.
    transport: asyncio.SubprocessTransport = process._transport  # noqa: SLF001  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]  # asyncio has no other way to close them
    with suppress(PermissionError, ProcessLookupError):
        transport.close()  # pyright: ignore[reportUnknownMemberType]  # see above


async def _read(process: Process, to_session: MemoryObjectSendStream[Incoming], wire: Wire) -> None:
    assert process.stdout is not None  # it was asked for
    noise = 0
    async with to_session:
        while noise < _MAX_NOISE:
            try:
                text = await process.stdout.readline()
            except ValueError:
                wire.end(f"it sent a message of more than {MAX_MESSAGE} bytes")
                return
            if not text:
                wire.end(_last_words(process))
                return
            try:
                message = types.jsonrpc_message_adapter.validate_json(text, by_name=False)
            except ValueError:
                noise += 1  # many print something to their output before they begin
                continue
            noise = 0
            try:
                await to_session.send(SessionMessage(message))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
        wire.end("what it prints are no MCP messages")


def _last_words(process: Process) -> str:
    code = process.returncode
    return "it closed its output" if code is None else f"it exited with {code}"


async def _write(
    process: Process, from_session: MemoryObjectReceiveStream[SessionMessage], wire: Wire
) -> None:
    assert process.stdin is not None  # it was asked for
    try:
        async with from_session:
            async for item in from_session:
                text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()
    except OSError:
        wire.end(_last_words(process))


async def _log_stderr(process: Process, server: StdioServer) -> None:
    assert process.stderr is not None  # it was asked for
    loop = asyncio.get_running_loop()
    left, filled = float(_LOG_LINES), loop.time()
    dropped = 0
    while chunk := await process.stderr.read(4_096):
        for said in chunk.decode(errors="replace").splitlines():
            if not said.strip():
                continue
            now = loop.time()
            left, filled = min(_LOG_LINES, left + now - filled), now
            if left < 1:
                dropped += 1
                continue
            left -= 1
            log.info(
                "mcp.stderr",
                server=server.slug,
                text=line(_hidden(said, server), _LOG_CHARS),
                dropped=dropped,
            )
            dropped = 0


def _hidden(text: str, server: StdioServer) -> str:
    for value in server.env.values():
        if len(value) >= 6:  # shorter ones are flags and numbers
            text = text.replace(value, "***")
    return text
