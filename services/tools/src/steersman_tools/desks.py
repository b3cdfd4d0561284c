"""Workspaces of this deployment: made, started, stopped and removed here, booked in the store.

Any replica does it for any chat: the book says which one is at it. All of them see the same
directories; what runs in a workspace runs on the replicas that were asked, so each is told to end
it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from steersman_contracts import subjects
from steersman_contracts.errors import (
    Conflict,
    DeadlineExceeded,
    NotFound,
    SteersmanError,
    Unavailable,
)
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import workspace_book as book
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.workspaces import (
    Change,
    Made,
    Template,
    TemplatePage,
    Value,
    Workspace,
    WorkspaceId,
)
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient
from steersman_runtime.tasks import TaskGroup
from steersman_tools.context import CallContext, CallPlace
from steersman_tools.making import SetupFailed, make_directory, set_up, unlock
from steersman_tools.templates import Source, Templates, fill, page_of, variables
from steersman_tools.workspaces import Workspaces

log = structlog.stdlib.get_logger()

STOPPED: Final = "the tools service stopped during the set-up"
_LOOK_S: Final = 1.0
"""Between two looks at a workspace that another replica makes; its notice comes sooner."""
_END_S: Final = 10.0
_TELL_AGAIN_S: Final = 0.05
_PATIENCE_S: Final = 30.0
"""For the store, to be told how a set-up ended."""
_WAIT_FOR_STORE_S: Final = 20.0
"""For the store, to say where a call acts."""
_WAITED_S: Final = 1.0
"""What a call that only reads may take before it counts as having waited for something."""

Progress = Callable[[str], None]


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all replicas are told of a workspace."""

    host: str
    workspace_id: WorkspaceId
    ended: bool = False
    """End whatever runs in it, its set-up too. Otherwise its state has changed."""


_decode_notice = msgspec.json.Decoder(Notice).decode


class Policy(NamedTuple):
    """What an administrator decides."""

    quota: book.Quota = book.Quota()
    idle_s: float = 4 * 3600.0
    look_s: float = 10.0
    """Between two looks for what is idle or to be removed."""


class _Making:
    """A workspace that is being made here."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.listeners: set[Progress] = set()

    def tell(self, text: str) -> None:
        for listener in tuple(self.listeners):
            listener(text)


class Desks:
    """The workspaces of all chats and people."""

    def __init__(
        self,
        *,
        host: str,
        client: NatsClient,
        rpc: RpcClient,
        directories: Workspaces,
        templates: Templates,
        policy: Policy,
        end_processes: Callable[[Path], Awaitable[None]],
        on_change: Callable[[CallPlace, ChatId], None],
    ) -> None:
        """Keep workspaces.

        Args:
            host: The name of this process, which no later one has.
            client: For what all replicas are told.
            rpc: The way to the store.
            directories: Where the files are.
            templates: What workspaces are made of.
            policy: What an administrator decides.
            end_processes: Ends what plugins of this process run in a directory.
            on_change: Told after each call that may have changed files of a workspace.
        """
        self.directories = directories
        self._host = host
        self._client = client
        self._rpc = rpc
        self._templates = templates
        self._policy = policy
        self._end_processes = end_processes
        self._on_change = on_change
        self._making: dict[WorkspaceId, _Making] = {}
        self._in_use: Counter[WorkspaceId] = Counter()
        self._changed = asyncio.Event()
        self._tasks = TaskGroup("workspace")

    # -- for as long as the service runs ---------------------------------------------------------

    async def run(self) -> None:
        """Hear what others do, stop what is idle and remove what is deleted, until cancelled."""
        sid = self._client.listen(subjects.TOOL_WORKSPACES, self._on_notice)
        try:
            while True:
                await asyncio.sleep(self._policy.look_s)
                try:
                    await self._look_after()
                except SteersmanError as error:
                    log.warning("workspaces.not_looked_after", error_code=error.code)
        finally:
            self._client.unlisten(sid)

    async def close(self) -> None:
        """End the set-ups that run here; whoever waits for one is told so."""
        for making in list(self._making.values()):
            if making.task is not None:
                making.task.cancel()
        await self._tasks.finish(_END_S)
        await self._tasks.cancel()

    async def _look_after(self) -> None:
        request = book.LookAfter(self._host, self._policy.idle_s, tuple(self._in_use))
        chores = await self._rpc.call(book.LOOK_AFTER, request)
        for workspace_id in chores.idle:
            log.info("workspace.idle", workspace_id=workspace_id)
            self._tasks.start(self._finish_stop(workspace_id))
        for workspace_id in chores.deleted:
            await self._remove(workspace_id)

    # -- templates -------------------------------------------------------------------------------

    async def templates(self, query: str, page: int) -> TemplatePage:
        """Templates, ten on a page, ranked by match and then by use."""
        uses = (await self._rpc.call(book.USES, book.CountUses())).uses
        return page_of(await asyncio.to_thread(self._templates.summaries, uses), query, page)

    async def template(self, template_id: str) -> Template:
        """One template, with what it asks."""
        uses = (await self._rpc.call(book.USES, book.CountUses())).uses
        return await asyncio.to_thread(self._templates.template, template_id, uses)

    # -- for people ------------------------------------------------------------------------------

    async def list_workspaces(self, actor: Actor) -> tuple[Workspace, ...]:
        """All workspaces of a person, the newest first."""
        return (await self._rpc.call(book.LIST, book.ListWorkspaces(actor))).workspaces

    async def get(self, actor: Actor, workspace_id: str) -> Workspace:
        """One workspace of a person."""
        return await self._rpc.call(book.GET, book.GetWorkspace(workspace_id, actor))

    async def attach(self, actor: Actor, chat_id: ChatId, workspace_id: str | None) -> None:
        """Let a chat use a workspace of its owner's, or none."""
        await self._rpc.call(book.ATTACH, book.Attach(actor, chat_id, workspace_id))

    # -- making ----------------------------------------------------------------------------------

    async def begin(
        self,
        template_id: str,
        name: str,
        parameters: Mapping[str, object],
        *,
        chat_id: ChatId | None = None,
        actor: Actor | None = None,
    ) -> book.Claimed:
        """Begin to make a workspace, unless the chat has one; does not wait for it.

        Raises:
            NotFound: No such template, or no such chat.
            InvalidRequest: The template does not take these parameters.
            Conflict: The owner has as many as allowed.
        """
        source = await asyncio.to_thread(self._templates.source, template_id)
        values = fill(source.parameters, parameters)
        environment = variables(source, values)
        claimed = await self._rpc.call(
            book.CLAIM,
            book.Claim(
                self._host,
                template_id,
                source.driver,
                values,
                environment,
                name[:100],
                self._policy.quota,
                chat_id,
                actor,
            ),
        )
        if claimed.outcome == "new":
            workspace_id = claimed.workspace.id
            making = self._making[workspace_id] = _Making()
            making.task = self._tasks.start(self._make(workspace_id, source, environment, making))
        return claimed

    async def create(
        self,
        template_id: str,
        name: str,
        parameters: Mapping[str, Value],
        progress: Progress,
        *,
        chat_id: ChatId,
    ) -> Made:
        """Give a chat a workspace, and wait until it can be used or has failed.

        Raises:
            NotFound, InvalidRequest, Conflict: See `begin`.
        """
        claimed = await self.begin(template_id, name, parameters, chat_id=chat_id)
        if claimed.outcome == "already_exists":
            return Made("already_exists", claimed.workspace)
        if claimed.outcome == "in_progress":
            progress("it is being made already; waiting for it")
        workspace = await self._made(claimed.workspace.id, progress)
        outcome = "created" if claimed.outcome == "new" else "already_exists"
        return Made("failed" if workspace.state == "failed" else outcome, workspace)

    async def _made(self, workspace_id: WorkspaceId, progress: Progress) -> Workspace:
        """The workspace once it is no longer being made."""
        making = self._making.get(workspace_id)
        if making is not None:
            making.listeners.add(progress)
        try:
            while True:
                changed = self._changed
                workspace = await self._rpc.call(book.GET, book.GetWorkspace(workspace_id))
                if workspace.state != "creating":
                    return workspace
                try:
                    async with asyncio.timeout(_LOOK_S):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            if making is not None:
                making.listeners.discard(progress)

    async def _make(
        self,
        workspace_id: WorkspaceId,
        source: Source,
        environment: Mapping[str, str],
        making: _Making,
    ) -> None:
        started = time.monotonic()
        reason = ""
        try:
            path = await make_directory(partial(self.directories.make, workspace_id))
            if source.setup is not None:
                sandbox = self.directories.sandbox
                await set_up(path, source.setup, environment, sandbox, making.tell)
        except SetupFailed as failed:
            reason = str(failed)
        except asyncio.CancelledError:
            reason = STOPPED  # or it was deleted meanwhile: then the book refuses this
        log.info(
            "workspace.made" if not reason else "workspace.failed",
            workspace_id=workspace_id,
            duration_ms=int((time.monotonic() - started) * 1000),
        )
        del self._making[workspace_id]
        await self._report(workspace_id, "fail" if reason else "finish", reason)

    async def _report(self, workspace_id: WorkspaceId, change: Change, reason: str = "") -> None:
        """Write what has become of a workspace; the store may be away for a moment."""
        request = book.Move(workspace_id, change, self._host, reason=reason[:8000])
        give_up_at = time.monotonic() + _PATIENCE_S
        while True:
            try:
                await self._rpc.call(book.MOVE, request)
                break
            except (Unavailable, DeadlineExceeded) as error:
                if time.monotonic() > give_up_at:
                    log.error("workspace.not_reported", error_code=error.code)  # noqa: TRY400  # the code says it all
                    return
                await asyncio.sleep(_TELL_AGAIN_S)
            except SteersmanError as error:  # deleted meanwhile, or given to another host
                log.info("workspace.report_refused", error_code=error.code)
                break
        self._tell(workspace_id)

    # -- starting, stopping, removing --------------------------------------------------------------

    async def start(self, workspace_id: str, actor: Actor | None = None) -> Workspace:
        """Start a workspace; one that runs stays as it is.

        Raises:
            NotFound: The actor has none of that id.
            TransitionRefused: It is in no state to be started.
            Conflict: As many of its owner's run as may.
        """
        workspace = await self._rpc.call(book.GET, book.GetWorkspace(workspace_id, actor))
        if workspace.state == "stopped":
            path = self.directories.managed(workspace.id)
            if not await asyncio.to_thread(path.is_dir):
                return await self._move(workspace.id, "fail", actor, "its files are gone")
        return await self._move(workspace.id, "start", actor)

    async def stop(self, workspace_id: str, actor: Actor | None = None) -> Workspace:
        """End everything that runs in a workspace; its files stay.

        Raises:
            NotFound: The actor has none of that id.
            TransitionRefused: It is in no state to be stopped.
        """
        request = book.Move(workspace_id, "stop", self._host, actor)
        moved = await self._rpc.call(book.MOVE, request)
        if not moved.changed:
            return moved.workspace
        await self._finish_stop(moved.workspace.id)
        return await self._rpc.call(book.GET, book.GetWorkspace(workspace_id, actor))

    async def delete(self, workspace_id: str, actor: Actor) -> None:
        """Remove a workspace, with its files. Chats that used it have none then.

        Raises:
            NotFound: The actor has none of that id.
        """
        request = book.Move(workspace_id, "delete", self._host, actor)
        workspace = (await self._rpc.call(book.MOVE, request)).workspace
        self._tell(workspace.id, ended=True)
        self._tasks.start(self._remove(workspace.id))

    async def _move(
        self, workspace_id: WorkspaceId, change: Change, actor: Actor | None, reason: str = ""
    ) -> Workspace:
        request = book.Move(
            workspace_id, change, self._host, actor, reason, quota=self._policy.quota
        )
        moved = await self._rpc.call(book.MOVE, request)
        self._tell(workspace_id)
        return moved.workspace

    async def _finish_stop(self, workspace_id: WorkspaceId) -> None:
        # Nothing new begins in it: the book says that it is being stopped.
        self._tell(workspace_id, ended=True)
        await self._end_here(workspace_id)
        await self._report(workspace_id, "finish_stop")

    async def _end_here(self, workspace_id: WorkspaceId) -> None:
        making = self._making.get(workspace_id)
        if making is not None and making.task is not None:
            making.task.cancel()
        await self._end_processes(self.directories.managed(workspace_id))

    async def _remove(self, workspace_id: WorkspaceId) -> None:
        """Remove the files of a deleted workspace; what is left is tried again later."""
        await self._end_here(workspace_id)
        gone = await asyncio.to_thread(self.directories.remove, workspace_id)
        try:
            if not gone:
                await unlock(self.directories.managed(workspace_id), self.directories.sandbox)
                gone = await asyncio.to_thread(self.directories.remove, workspace_id)
            if gone:
                await self._rpc.call(book.FORGET, book.Forget(workspace_id))
                return
        except SteersmanError as error:
            log.warning("workspace.not_forgotten", error_code=error.code)
            return
        log.warning("workspace.not_removed", workspace_id=workspace_id)

    # -- what replicas tell each other -------------------------------------------------------------

    def _tell(self, workspace_id: WorkspaceId, *, ended: bool = False) -> None:
        notice = Notice(self._host, workspace_id, ended)
        self._wake()
        try:
            self._client.send(subjects.TOOL_WORKSPACES, msgspec.json.encode(notice))
        except SteersmanError as error:
            log.warning("notice.lost", error_code=error.code)

    def _on_notice(self, _: bytes, __: bytes, ___: bytes, payload: bytes) -> None:
        try:
            notice = _decode_notice(payload)
        except msgspec.DecodeError:
            log.warning("notice.unreadable")
            return
        if notice.host == self._host:
            return
        self._wake()
        if notice.ended:
            self._tasks.start(self._end_here(notice.workspace_id))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # -- for calls of chats ------------------------------------------------------------------------

    @asynccontextmanager
    async def place(self, context: CallContext, spec: ToolSpec) -> AsyncGenerator[str | None]:
        """Give a call its place for the length of the block; or the reason why it has none."""
        context.desk = ChatDesk(self, context.chat_id)
        if not spec.needs_workspace:
            yield None
            return
        try:
            place = await self.place_of(context.chat_id)
        except NoPlace as refused:
            yield str(refused)
            return
        except SteersmanError as error:
            yield f"the workspace of this chat cannot be looked up: {error}; try again"
            return
        if place is None:
            yield None
            return
        context.place = place
        self._in_use[place.workspace_id] += 1
        began = time.monotonic()
        try:
            yield None
        finally:
            self._in_use[place.workspace_id] -= 1
            self._in_use += Counter()  # leaves out what is in use no more
            # A call that only reads, but for long, has waited for a process that may write.
            if not spec.read_only or time.monotonic() - began >= _WAITED_S:
                self._on_change(place, context.chat_id)

    async def place_of(self, chat_id: ChatId) -> CallPlace | None:
        """Where the calls of a chat act; None: in the plain directory of a chat without one.

        Raises:
            NoPlace: Its workspace cannot be used now; the text is for the model.
        """
        found = await self._found(chat_id)
        workspace = found.workspace
        if workspace is None:
            return None
        if workspace.state != "running":
            raise NoPlace(why_not(workspace))
        path = self.directories.managed(workspace.id)
        return CallPlace(path, workspace.id, found.environment, found.root_id or chat_id)

    async def _found(self, chat_id: ChatId) -> book.Place:
        """Ask the store, which may be starting again: a call must not fail for that."""
        pause = 0.05
        until = time.monotonic() + _WAIT_FOR_STORE_S
        while True:
            try:
                return await self._rpc.call(book.FIND, book.FindPlace(chat_id))
            except (Unavailable, DeadlineExceeded):
                if time.monotonic() + pause > until:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def of_chat(self, chat_id: ChatId) -> Workspace:
        """The workspace of a chat.

        Raises:
            NotFound: It has none.
        """
        found = (await self._rpc.call(book.FIND, book.FindPlace(chat_id))).workspace
        if found is None:
            raise NotFound("this chat has no workspace; create_workspace makes one")
        return found

    async def files_of(self, actor: Actor, workspace_id: str) -> Path:
        """The directory of a person's workspace, whether it runs or not.

        Raises:
            NotFound: The actor has none of that id.
            Conflict: It is not there yet, or not any more.
        """
        workspace = await self.get(actor, workspace_id)
        path = self.directories.managed(workspace.id)
        if not await asyncio.to_thread(path.is_dir):
            raise Conflict(f"the workspace has no files: it is {workspace.state!r}")
        return path


class NoPlace(Exception):
    """A call has nowhere to act; the text is for the model."""


def why_not(workspace: Workspace) -> str:
    """What to tell a model whose workspace cannot be used as it is."""
    name = f"the workspace {workspace.name!r} of this chat"
    match workspace.state:
        case "creating":
            return f"{name} is being made; create_workspace waits for it"
        case "stopping" | "stopped":
            return f"{name} is stopped; start_workspace starts it, with its files as they were"
        case _:
            return f"{name} cannot be used: {workspace.reason}\ncreate_workspace makes another one"


class ChatDesk:
    """The `Desk` that the tools of one chat are given."""

    def __init__(self, desks: Desks, chat_id: ChatId) -> None:
        self._desks = desks
        self._chat_id = chat_id

    async def templates(self, query: str, page: int) -> TemplatePage:
        return await self._desks.templates(query, page)

    async def template(self, template_id: str) -> Template:
        return await self._desks.template(template_id)

    async def create(
        self,
        template_id: str,
        name: str,
        parameters: Mapping[str, Value],
        progress: Progress,
    ) -> Made:
        return await self._desks.create(
            template_id, name, parameters, progress, chat_id=self._chat_id
        )

    async def start(self) -> Workspace:
        return await self._desks.start((await self._desks.of_chat(self._chat_id)).id)

    async def stop(self) -> Workspace:
        return await self._desks.stop((await self._desks.of_chat(self._chat_id)).id)
