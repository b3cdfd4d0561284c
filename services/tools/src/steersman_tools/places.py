"""Where the calls of a chat act: its workspace, or the plain directory of a chat without one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from steersman_contracts.errors import DeadlineExceeded, SteersmanError, Unavailable
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import workspace_book as book
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.workspaces import Desk, Workspace, WorkspaceId
from steersman_runtime.rpc import RpcClient
from steersman_tools.context import CallContext, CallPlace
from steersman_tools.drivers import Drivers
from steersman_tools.execution import Runnable
from steersman_tools.workspaces import Workspaces

_WAIT_FOR_STORE_S: Final = 20.0
"""For the store, to say where a call acts."""
_WAITED_S: Final = 1.0
"""What a call that only reads may take before it counts as having waited for something."""


class NoPlace(Exception):
    """A call has nowhere to act; the text is for the model."""


class Ground(Protocol):
    """Gives calls the place in which they act."""

    def place(self, context: CallContext, tool: Runnable) -> AbstractAsyncContextManager[Runnable]:
        """Give a call its place for the length of the block, and the tool as it is run there.

        Raises:
            NoPlace: It has none.
        """
        ...


class Places:
    """The places of all chats, as the book has them."""

    def __init__(
        self,
        rpc: RpcClient,
        directories: Workspaces,
        drivers: Drivers,
        *,
        desk_of: Callable[[ChatId], Desk],
        on_change: Callable[[CallPlace, ChatId], None],
    ) -> None:
        """Look places up.

        Args:
            rpc: The way to the store.
            directories: Where the files are.
            drivers: Of workspaces.
            desk_of: What the tools of a chat may do about its workspace.
            on_change: Told after each call that may have changed files of a workspace.
        """
        self._rpc = rpc
        self._directories = directories
        self._drivers = drivers
        self._desk_of = desk_of
        self._on_change = on_change
        self._in_use: Counter[WorkspaceId] = Counter()

    @property
    def in_use(self) -> tuple[WorkspaceId, ...]:
        """Workspaces in which calls of this process run."""
        return tuple(self._in_use)

    @asynccontextmanager
    async def place(self, context: CallContext, tool: Runnable) -> AsyncGenerator[Runnable]:
        """Give a call its place for the length of the block, and the tool as it is run there.

        Raises:
            NoPlace: Its chat has a workspace that cannot be used now.
        """
        context.desk = self._desk_of(context.chat_id)
        place = await self._needed(context, tool.spec)
        if place is None:
            yield tool
            return
        driver = self._drivers.named(place.driver)
        if driver is None:
            raise NoPlace(f"this deployment has no workspaces of the kind {place.driver!r}")
        context.place = place
        self._in_use[place.workspace_id] += 1
        began = time.monotonic()
        try:
            yield driver.runner(tool, place.workspace_id)
        finally:
            self._in_use[place.workspace_id] -= 1
            self._in_use += Counter()  # leaves out what is in use no more
            # A call that only reads, but for long, has waited for a process that may write.
            if not tool.spec.read_only or time.monotonic() - began >= _WAITED_S:
                self._on_change(place, context.chat_id)

    async def _needed(self, context: CallContext, spec: ToolSpec) -> CallPlace | None:
        # What changes anything looks for itself: nothing may begin in a workspace that is stopped,
        # and nothing is to be written beside one that was made just now.
        if not spec.needs_workspace or (spec.read_only and context.no_workspace):
            return None
        try:
            return await self.of(context.chat_id)
        except SteersmanError as error:
            raise NoPlace(
                f"the workspace of this chat cannot be looked up: {error}; try again"
            ) from error

    async def of(self, chat_id: ChatId) -> CallPlace | None:
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
        path = self._directories.managed(workspace.id)
        return CallPlace(
            path, workspace.id, found.environment, found.root_id or chat_id, workspace.driver
        )

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
