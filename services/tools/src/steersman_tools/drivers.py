"""What a workspace is made of: a directory here, or a directory and a container round it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from steersman_contracts.workspaces import WorkspaceId
from steersman_tools.execution import Runnable
from steersman_tools.making import make_directory, set_up, unlock
from steersman_tools.templates import Source
from steersman_tools.workspaces import Workspaces

LOCAL: Final = "local"
CONTAINER: Final = "container"

Progress: TypeAlias = Callable[[str], None]


class Driver(Protocol):
    """Makes workspaces of one kind. Everything may be asked again, and on another replica."""

    def problem(self) -> str | None:
        """Why none can be made here, in words for whoever asks for one."""
        ...

    async def make(
        self,
        workspace_id: WorkspaceId,
        source: Source,
        environment: Mapping[str, str],
        progress: Progress,
    ) -> None:
        """Make one, with its set-up.

        Raises:
            SetupFailed: It cannot be used.
        """
        ...

    async def start(self, workspace_id: WorkspaceId) -> None:
        """Let calls run in it again, after it was stopped.

        Raises:
            SetupFailed: They cannot.
        """
        ...

    async def end(self, workspace_id: WorkspaceId) -> None:
        """End everything that runs in it and is not held by one replica; its files stay.

        Raises:
            SetupFailed: Something may still run.
        """
        ...

    async def remove(self, workspace_id: WorkspaceId) -> bool:
        """Remove all that there is of it; say whether nothing is left."""
        ...

    def runner(self, tool: Runnable, workspace_id: WorkspaceId) -> Runnable:
        """The tool as it is run in this workspace."""
        ...


class LocalDriver:
    """A directory, in which replicas run commands in a sandbox."""

    def __init__(self, directories: Workspaces) -> None:
        self._directories = directories

    def problem(self) -> str | None:
        return None

    async def make(
        self,
        workspace_id: WorkspaceId,
        source: Source,
        environment: Mapping[str, str],
        progress: Progress,
    ) -> None:
        path = await make_directory(partial(self._directories.make, workspace_id))
        if source.setup is not None:
            await set_up(path, source.setup, environment, self._directories.sandbox, progress)

    async def start(self, workspace_id: WorkspaceId) -> None:
        pass  # whoever may run calls does

    async def end(self, workspace_id: WorkspaceId) -> None:
        pass  # each replica ends what it runs

    async def remove(self, workspace_id: WorkspaceId) -> bool:
        return await remove_files(self._directories, workspace_id)

    def runner(self, tool: Runnable, workspace_id: WorkspaceId) -> Runnable:
        del workspace_id
        return tool


async def remove_files(directories: Workspaces, workspace_id: WorkspaceId) -> bool:
    """Remove the directory of a workspace; say whether nothing is left of it.

    Raises:
        Unavailable: Commands cannot be run, and one is needed to change modes that are in the way.
    """
    if await asyncio.to_thread(directories.remove, workspace_id):
        return True
    await unlock(directories.managed(workspace_id), directories.sandbox)
    return await asyncio.to_thread(directories.remove, workspace_id)


class Drivers:
    """The kinds of workspaces of this deployment."""

    def __init__(
        self,
        local: Driver,
        container: Driver | None,
        *,
        in_container: Callable[[WorkspaceId], bool],
        end_processes: Callable[[Path], Awaitable[None]],
    ) -> None:
        """Put them together.

        Args:
            local: Of plain directories.
            container: Of containers; None where this service has no way to them.
            in_container: Whether a workspace has a container; blocks for a moment.
            end_processes: Ends what plugins of this process run in a directory.
        """
        self._local = local
        self._container = container
        self._in_container = in_container
        self.end_processes = end_processes

    def named(self, driver: str) -> Driver | None:
        """The driver of that name, if there is one here."""
        return self._container if driver == CONTAINER else self._local

    def of(self, workspace_id: WorkspaceId) -> Driver:
        """The driver that has made a workspace."""
        if self._container is not None and self._in_container(workspace_id):
            return self._container
        return self._local
