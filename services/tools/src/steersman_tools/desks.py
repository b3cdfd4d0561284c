"""Workspaces of this deployment: made, started, stopped and removed here, booked in the store.

Any replica does it for any chat: the book says which one is at it. All of them see the same
directories; what runs in a workspace runs on the replicas that were asked, so each is told to end
it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import structlog

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
from steersman_contracts.workspaces import (
    Change,
    Made,
    Template,
    TemplatePage,
    Value,
    Workspace,
    WorkspaceId,
)
from steersman_runtime.rpc import RpcClient
from steersman_runtime.tasks import TaskGroup
from steersman_tools.drivers import Driver, Drivers, Progress
from steersman_tools.making import SetupFailed
from steersman_tools.notices import Notices
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
        rpc: RpcClient,
        notices: Notices,
        directories: Workspaces,
        templates: Templates,
        policy: Policy,
        drivers: Drivers,
    ) -> None:
        """Keep workspaces.

        Args:
            host: The name of this process, which no later one has.
            rpc: The way to the store.
            notices: What all replicas are told.
            directories: Where the files are.
            templates: What workspaces are made of.
            policy: What an administrator decides.
            drivers: What makes them.
        """
        self.directories = directories
        self._host = host
        self._rpc = rpc
        self._notices = notices
        self._templates = templates
        self._policy = policy
        self._drivers = drivers
        self._making: dict[WorkspaceId, _Making] = {}
        self._tasks = TaskGroup("workspace")

    # -- for as long as the service runs ---------------------------------------------------------

    async def run(self, in_use: Callable[[], tuple[WorkspaceId, ...]]) -> None:
        """Hear what others do, stop what is idle and remove what is deleted, until cancelled.

        Args:
            in_use: In which workspaces calls of this process run.
        """
        listening = self._notices.listen(
            lambda workspace_id: self._tasks.start(self._end_here(workspace_id))
        )
        try:
            while True:
                await asyncio.sleep(self._policy.look_s)
                try:
                    await self._look_after(in_use())
                except SteersmanError as error:
                    log.warning("workspaces.not_looked_after", error_code=error.code)
        finally:
            self._notices.unlisten(listening)

    async def close(self) -> None:
        """End the set-ups that run here; whoever waits for one is told so."""
        for making in list(self._making.values()):
            if making.task is not None:
                making.task.cancel()
        await self._tasks.finish(_END_S)
        await self._tasks.cancel()

    async def _look_after(self, in_use: tuple[WorkspaceId, ...]) -> None:
        request = book.LookAfter(self._host, self._policy.idle_s, in_use)
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
            Unavailable: What the template needs is not there.
        """
        source = await asyncio.to_thread(self._templates.source, template_id)
        driver = self._driver(source.driver)
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
            work = self._make(workspace_id, driver, source, environment, making)
            making.task = self._tasks.start(work)
        return claimed

    def _driver(self, name: str) -> Driver:
        driver = self._drivers.named(name)
        if driver is None:
            raise Unavailable(f"this deployment has no workspaces of the kind {name!r}")
        if (problem := driver.problem()) is not None:
            raise Unavailable(problem)
        return driver

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
                changed = self._notices.next
                workspace = await self._rpc.call(book.GET, book.GetWorkspace(workspace_id))
                if workspace.state != "creating":
                    return workspace
                await self._notices.wait(changed, _LOOK_S)
        finally:
            if making is not None:
                making.listeners.discard(progress)

    async def _make(
        self,
        workspace_id: WorkspaceId,
        driver: Driver,
        source: Source,
        environment: Mapping[str, str],
        making: _Making,
    ) -> None:
        started = time.monotonic()
        reason = ""
        try:
            await driver.make(workspace_id, source, environment, making.tell)
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
        self._notices.tell(workspace_id)

    # -- starting, stopping, removing --------------------------------------------------------------

    async def start(self, workspace_id: str, actor: Actor | None = None) -> Workspace:
        """Start a workspace; one that runs stays as it is.

        Raises:
            NotFound: The actor has none of that id.
            TransitionRefused: It is in no state to be started.
            Conflict: As many of its owner's run as may.
            Unavailable: What it needs to run is not there; it is stopped again.
        """
        workspace = await self._rpc.call(book.GET, book.GetWorkspace(workspace_id, actor))
        if workspace.state != "stopped":
            return await self._move(workspace.id, "start", actor)
        driver = self._driver(workspace.driver)
        path = self.directories.managed(workspace.id)
        if not await asyncio.to_thread(path.is_dir):
            return await self._move(workspace.id, "fail", actor, "its files are gone")
        # First in the book: what has a container there is not swept away meanwhile.
        started = await self._move(workspace.id, "start", actor)
        try:
            await driver.start(workspace.id)
        except SetupFailed as error:
            await self.stop(workspace.id, actor)
            raise Unavailable(f"the workspace cannot be started: {error}") from error
        return started

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
        self._notices.tell(workspace.id, ended=True)
        self._tasks.start(self._remove(workspace.id))

    async def _move(
        self, workspace_id: WorkspaceId, change: Change, actor: Actor | None, reason: str = ""
    ) -> Workspace:
        request = book.Move(
            workspace_id, change, self._host, actor, reason, quota=self._policy.quota
        )
        moved = await self._rpc.call(book.MOVE, request)
        self._notices.tell(workspace_id)
        return moved.workspace

    async def _finish_stop(self, workspace_id: WorkspaceId) -> None:
        # Nothing new begins in it: the book says that it is being stopped.
        self._notices.tell(workspace_id, ended=True)
        await self._end_here(workspace_id)
        try:
            await self._drivers.of(workspace_id).end(workspace_id)
        except SetupFailed as error:  # the next sweep ends what is left
            log.warning("workspace.not_ended", workspace_id=workspace_id, error=str(error)[:300])
        await self._report(workspace_id, "finish_stop")

    async def _end_here(self, workspace_id: WorkspaceId) -> None:
        making = self._making.get(workspace_id)
        if making is not None and making.task is not None:
            making.task.cancel()
        await self._drivers.end_processes(self.directories.managed(workspace_id))

    async def _remove(self, workspace_id: WorkspaceId) -> None:
        """Remove the files of a deleted workspace; what is left is tried again later."""
        await self._end_here(workspace_id)
        try:
            if await self._drivers.of(workspace_id).remove(workspace_id):
                await self._rpc.call(book.FORGET, book.Forget(workspace_id))
                return
        except SteersmanError as error:
            log.warning("workspace.not_forgotten", error_code=error.code)
            return
        log.warning("workspace.not_removed", workspace_id=workspace_id)

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
