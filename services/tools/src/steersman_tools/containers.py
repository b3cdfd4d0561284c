"""Workspaces in containers: a deputy of this service runs in each, and calls are passed on to it.

The files lie where those of other workspaces lie, so people reach them while nothing runs. Beside
them is a note of what the container is started with; any replica starts it anew from that.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from steersman_contracts import subjects
from steersman_contracts.errors import NotFound, SteersmanError
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.deputy import SET_UP, SetUp, SetUpEnded
from steersman_contracts.rpc.tools import (
    PING_HOST,
    CallProgress,
    CallTool,
    PingHost,
    ToolSpec,
)
from steersman_contracts.workspaces import State, WorkspaceId
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient, last_reply
from steersman_tools.context import CallContext
from steersman_tools.deputy_access import Keys, deputy_url
from steersman_tools.drivers import Progress, remove_files
from steersman_tools.engine import WORKSPACE, Engine, EngineFailed, NameTaken, Spec, find_engine
from steersman_tools.execution import Runnable
from steersman_tools.forwarding import Address, forward
from steersman_tools.making import SetupFailed, make_directory
from steersman_tools.templates import Setup, Source
from steersman_tools.workspaces import Workspaces

log = structlog.stdlib.get_logger()

DEPUTY: Final = ("python", "-P", "-m", "steersman_tools.deputy")
LOST: Final = "interrupted: the container of the workspace stopped during the call, effect unknown"
_LOOK_S: Final = 0.2
_PING_S: Final = 2.0
_SETUP_GRACE_S: Final = 30.0
_HAVE_ONE: Final[tuple[State, ...]] = ("creating", "running", "stopping")


class Note(msgspec.Struct, frozen=True):
    """What the container of a workspace is started with."""

    image: str
    memory_bytes: int
    cpus: float
    processes: int
    environment: dict[str, str]


@dataclass(frozen=True)
class Ways:
    """How containers are run here, as an administrator has decided.

    Attributes:
        engine: The program; empty takes Docker or else Podman.
        image: For templates that name none.
        network: Of the engine; empty is its usual one.
        nats_url: How containers reach NATS; credentials in it are not used.
        keys: Who signs what deputies may do; None when NATS asks for no credentials.
        locked: NATS asks for credentials, and there are no keys.
        directory: Of all workspaces, as the engine's own machine names it.
        options: Further options of the engine's `run`.
        start_s: Seconds for a container to answer.
        fetch_s: Seconds for an image to be fetched.
    """

    engine: str
    image: str
    network: str
    nats_url: str
    keys: Keys | None
    locked: bool
    directory: Path
    options: Sequence[str]
    start_s: float
    fetch_s: float


class _Connection(NamedTuple):
    client: NatsClient
    rpc: RpcClient
    at_once: RpcClient
    """Does not wait for somebody to answer: nobody does as long as the container starts."""


class ContainerDriver:
    """A directory, and a container with a deputy that runs calls in it."""

    def __init__(
        self,
        directories: Workspaces,
        ways: Ways,
        client: NatsClient,
        *,
        state_of: Callable[[WorkspaceId], Awaitable[State]],
    ) -> None:
        """Prepare; nothing is asked of the engine before the first workspace.

        Args:
            directories: Where the files are.
            ways: How containers are run.
            client: For what is said to deputies.
            state_of: The state of a workspace; raises `NotFound` when it is no more.
        """
        self._directories = directories
        self._ways = ways
        self._state_of = state_of
        self._to = _Connection(client, RpcClient(client), RpcClient(client, wait_for_service_s=0.0))
        self._starting: defaultdict[WorkspaceId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._found: Engine | None = None

    # -- what drivers do ---------------------------------------------------------------------------

    def problem(self) -> str | None:
        if self._ways.locked:
            return (
                "workspaces in containers are not set up here: NATS asks for credentials, and "
                "STEERSMAN_TOOLS_DEPUTY_SECRET is not set"
            )
        if find_engine(self._ways.engine) is not None:
            return None
        wanted = self._ways.engine
        missing = f"{wanted!r} is not there" if wanted else "neither Docker nor Podman is installed"
        return f"workspaces in containers need an engine, and {missing}"

    async def make(
        self,
        workspace_id: WorkspaceId,
        source: Source,
        environment: Mapping[str, str],
        progress: Progress,
    ) -> None:
        wanted = source.container
        note = Note(
            wanted.image or self._ways.image,
            wanted.memory_mib << 20,
            wanted.cpus,
            wanted.processes,
            dict(environment),
        )
        await make_directory(partial(self._directories.make, workspace_id))
        await make_directory(partial(self._write_note, workspace_id, note))
        try:
            await self._engine().fetch(note.image, self._ways.fetch_s, progress)
            await self._ensure(workspace_id, progress)
            if source.setup is not None:
                await self._set_up(workspace_id, source.setup, progress)
        except (EngineFailed, SetupFailed) as error:
            await self._discard(workspace_id)
            raise SetupFailed(str(error)) from error
        except asyncio.CancelledError:
            await self._discard(workspace_id)
            raise

    async def start(self, workspace_id: WorkspaceId) -> None:
        try:
            await self._ensure(workspace_id, lambda _: None)
        except EngineFailed as error:
            raise SetupFailed(str(error)) from error

    async def end(self, workspace_id: WorkspaceId) -> None:
        try:
            await self._engine().remove(workspace_id, gently=True)
        except EngineFailed as error:
            raise SetupFailed(f"the container was not stopped: {error}") from error

    async def remove(self, workspace_id: WorkspaceId) -> bool:
        try:
            await self._engine().remove(workspace_id)
        except EngineFailed as error:
            log.warning("container.not_removed", workspace_id=workspace_id, error=str(error)[:300])
            return False
        self._starting.pop(workspace_id, None)
        gone = await remove_files(self._directories, workspace_id)
        if gone:
            await asyncio.to_thread(self._note(workspace_id).unlink, missing_ok=True)
        return gone

    def runner(self, tool: Runnable, workspace_id: WorkspaceId) -> Runnable:
        return _AtDeputy(self, tool, workspace_id)

    def has(self, workspace_id: WorkspaceId) -> bool:
        """Whether the workspace is one of ours. Blocks for a moment."""
        return self._note(workspace_id).exists()

    async def sweep(self) -> None:
        """Remove containers that nobody needs: whoever made them has died, or lost the race."""
        if self.problem() is not None or not await asyncio.to_thread(self._deployment().exists):
            return
        try:
            for workspace_id in await self._engine().ours():
                if not await self._needed(workspace_id):
                    log.info("container.swept", workspace_id=workspace_id)
                    await self._engine().remove(workspace_id)
        except EngineFailed as error:
            log.warning("containers.not_swept", error=str(error)[:300])

    async def _needed(self, workspace_id: WorkspaceId) -> bool:
        try:
            return await self._state_of(workspace_id) in _HAVE_ONE
        except NotFound:
            return False

    # -- containers --------------------------------------------------------------------------------

    async def _ensure(self, workspace_id: WorkspaceId, progress: Progress) -> None:
        """Have the container run and its deputy answer.

        Raises:
            EngineFailed: It does not; the text has the end of what it has printed.
        """
        async with self._starting[workspace_id]:
            began = time.monotonic()
            ended = False
            while not await self._answers(workspace_id):
                seconds = time.monotonic() - began
                if seconds > self._ways.start_s:
                    raise await self._failure(
                        workspace_id, f"its container did not answer within {seconds:.0f} s"
                    )
                state = await self._engine().state(workspace_id)
                if state in ("exited", "stopped", "dead", "paused"):
                    if ended:
                        raise await self._failure(workspace_id, "its container has ended")
                    await self._engine().remove(workspace_id)
                    state = None
                if state is None:
                    ended = await self._run(workspace_id)
                progress(f"the container starts ({seconds:.0f} s)")
                await asyncio.sleep(_LOOK_S)

    async def _run(self, workspace_id: WorkspaceId) -> bool:
        """Start it; say whether it was us who did."""
        note = await asyncio.to_thread(self._read_note, workspace_id)
        owner = self._directories.owner
        user = f"{os.geteuid()}:{os.getegid()}" if owner is None else f"{owner.uid}:{owner.gid}"
        spec = Spec(
            workspace_id,
            note.image,
            DEPUTY,
            self._ways.directory / self._directories.managed(workspace_id).name,
            user,
            self._variables(workspace_id, note),
            note.memory_bytes,
            note.cpus,
            note.processes,
            self._ways.network,
            self._ways.options,
        )
        try:
            await self._engine().run(spec)
        except NameTaken:
            return False
        log.info("container.started", workspace_id=workspace_id, image=note.image)
        return True

    def _variables(self, workspace_id: WorkspaceId, note: Note) -> dict[str, str]:
        return {
            "STEERSMAN_NATS_URL": deputy_url(self._ways.nats_url, workspace_id, self._ways.keys),
            "STEERSMAN_WORKSPACE_ID": workspace_id,
            "STEERSMAN_WORKSPACE_DIR": WORKSPACE,
            "STEERSMAN_WORKSPACE_ENVIRONMENT": msgspec.json.encode(note.environment).decode(),
            "STEERSMAN_COMMAND_PROCESSES": str(max(16, note.processes)),
            "STEERSMAN_COMMAND_MEMORY_BYTES": str(max(64 << 20, note.memory_bytes)),
            "STEERSMAN_LOG_FORMAT": "json",
        }

    async def _answers(self, workspace_id: WorkspaceId) -> bool:
        address = subjects.deputy(workspace_id, PING_HOST.name)
        try:
            await self._to.at_once.call(
                replace(PING_HOST, address=address), PingHost(), deadline_s=_PING_S
            )
        except SteersmanError:
            return False
        return True

    async def _set_up(self, workspace_id: WorkspaceId, setup: Setup, progress: Progress) -> None:
        method = replace(SET_UP, address=subjects.deputy(workspace_id, SET_UP.name))
        stream = self._to.rpc.stream(
            method,
            SetUp(setup.script, setup.timeout_s),
            CallProgress,
            deadline_s=setup.timeout_s + _SETUP_GRACE_S,
        )
        try:
            ended = await last_reply(stream, SetUpEnded, lambda frame: progress(frame.text))
        except SteersmanError as error:
            raise await self._failure(workspace_id, f"the set-up did not end: {error}") from error
        if ended.reason:
            raise SetupFailed(ended.reason)

    async def _failure(self, workspace_id: WorkspaceId, why: str) -> EngineFailed:
        said = await self._engine().last_words(workspace_id)
        printed = f"; it printed:\n{said}" if said else ", and printed nothing"
        return EngineFailed(why + printed)

    async def _discard(self, workspace_id: WorkspaceId) -> None:
        try:
            await self._engine().remove(workspace_id)
        except EngineFailed as error:  # the next sweep does it
            log.warning("container.not_removed", workspace_id=workspace_id, error=str(error)[:300])

    def _engine(self) -> Engine:
        """The engine, looked for until it is there.

        Raises:
            EngineFailed: There is none, or the directory of all workspaces cannot be written.
        """
        if self._found is None:
            if (problem := self.problem()) is not None:
                raise EngineFailed(problem)
            program = find_engine(self._ways.engine)
            assert program is not None  # that would be a problem
            try:
                self._found = Engine(program, _token_in(self._deployment()))
            except OSError as error:
                raise EngineFailed(f"{self._deployment()}: {error.strerror}") from error
        return self._found

    # -- calls -------------------------------------------------------------------------------------

    async def pass_on(
        self, workspace_id: WorkspaceId, request: CallTool, context: CallContext
    ) -> ToolResult:
        """Let the deputy run a call; a container that is not there is started first."""
        address = Address(
            subjects.deputy(workspace_id, "calls.run"),
            subjects.deputy(workspace_id, "calls.cancel"),
        )
        try:
            # Asked first: nothing may be lost by waiting for somebody who is not there.
            if not await self._answers(workspace_id):
                context.progress("the container of the workspace is being started")
                await self._ensure(workspace_id, context.progress)
            return await forward(
                self._to.client,
                self._to.rpc,
                address,
                request,
                context,
                alive=lambda: self._answers(workspace_id),
            )
        except EngineFailed as error:
            return ToolResult.error(f"the container of the workspace cannot be started: {error}")
        except SteersmanError as error:
            log.warning("deputy.failed", workspace_id=workspace_id, error_code=error.code)
            if error.details.get("started"):
                return ToolResult.error(LOST)
            return ToolResult.error(f"the container of the workspace failed: {error}")

    # -- notes -------------------------------------------------------------------------------------

    def _note(self, workspace_id: WorkspaceId) -> Path:
        directory = self._directories.managed(workspace_id)
        return directory.with_name(f"{directory.name}.container")

    def _deployment(self) -> Path:
        return self._directories.managed(WorkspaceId("x")).with_name(".deployment")

    def _write_note(self, workspace_id: WorkspaceId, note: Note) -> Path:
        path = self._note(workspace_id)
        # Parameters of templates may be somebody's secrets.
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(opened, "wb") as file:
            file.write(msgspec.json.encode(note))
        return path

    def _read_note(self, workspace_id: WorkspaceId) -> Note:
        try:
            return msgspec.json.decode(self._note(workspace_id).read_bytes(), type=Note)
        except (OSError, msgspec.DecodeError) as error:
            raise EngineFailed("the note of what the container starts with is lost") from error


class _AtDeputy:
    """A tool that runs in a container."""

    def __init__(self, driver: ContainerDriver, tool: Runnable, workspace_id: WorkspaceId) -> None:
        self._driver = driver
        self._tool = tool
        self._workspace_id = workspace_id

    @property
    def spec(self) -> ToolSpec:
        return self._tool.spec

    def decode(self, arguments: JsonObject) -> Any:
        return self._tool.decode(arguments)

    async def run(self, request: CallTool, context: CallContext, arguments: Any) -> ToolResult:
        del arguments  # the deputy reads them from the request
        request = msgspec.structs.replace(request, timeout_s=context.timeout_s)
        return await self._driver.pass_on(self._workspace_id, request, context)


def _token_in(path: Path) -> str:
    """What marks our containers, among those of others: made once, kept with the workspaces."""
    with suppress(FileExistsError), path.open("x", encoding="ascii") as file:
        file.write(secrets.token_hex(8))
    return path.read_text(encoding="ascii").strip()
