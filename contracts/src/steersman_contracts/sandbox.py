"""How commands of models are confined: decided by the service, used by every plugin that runs one.

A plugin that starts a program of its own accord asks `sandbox_of(context)` and starts what `wrap`
makes of the command line.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol, runtime_checkable

from steersman_contracts.cgroups import Groups

_NOBODY: Final = 65534


class SandboxMissing(Exception):
    """The administrator wants a sandbox, and there is none. Nothing is to be started."""


class Limits(NamedTuple):
    """What one command may use."""

    processes: int = 512
    """Processes and threads of one command at the same time."""
    memory_bytes: int = 4 << 30
    """Private memory of each of its processes."""
    file_bytes: int = 4 << 30
    """Of each file that it writes."""
    disk_reserve_bytes: int = 256 << 20
    """When less than that is free where the workspace lies, the command is ended."""


class Owner(NamedTuple):
    """The user that a command runs as."""

    uid: int
    gid: int


def user_of_commands(service_uid: int, workspace: os.stat_result) -> Owner | None:
    """Root runs no command as root: it takes the owner of the workspace, or else `nobody`.

    Args:
        service_uid: Who runs this process.
        workspace: Of the directory.

    Returns:
        None: whoever runs this process.
    """
    if service_uid != 0:
        return None
    if workspace.st_uid != 0 and workspace.st_gid != 0:
        return Owner(workspace.st_uid, workspace.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Owner(workspace.st_uid or _NOBODY, _NOBODY)
    return Owner(workspace.st_uid or nobody.pw_uid, nobody.pw_gid)


class Sandbox(Protocol):
    """Confines a command to its workspace."""

    @property
    def limits(self) -> Limits:
        """What one command may use."""
        ...

    @property
    def isolates(self) -> bool:
        """Whether commands see nothing but the system and their workspace.

        False: they are held by their user and their limits alone.
        """
        ...

    @property
    def network(self) -> bool:
        """Whether commands reach the network."""
        ...

    @property
    def groups(self) -> Groups | None:
        """Makes control groups for commands; None where that is not allowed."""
        ...

    def wrap(
        self,
        argv: Sequence[str],
        *,
        workspace: Path,
        workdir: Path,
        owner: Owner,
        readable: Sequence[Path] = (),
    ) -> tuple[str, ...]:
        """Build the command line that starts `argv` confined. May block on the file system.

        Start it as `owner`. Where the sandbox isolates, it stays as the parent of the command until
        that ends, exits as a shell does (128 + n for signal n), and takes everything with it that
        the command has started when its whole process group is killed.

        Args:
            argv: The program by its full path, and its arguments.
            workspace: The directory that it may change; it has the same path inside.
            workdir: Where it starts: the workspace, or a directory below.
            owner: Who runs it.
            readable: Further files and directories that it may read, at the same path.

        Raises:
            SandboxMissing: It must not be started.
        """
        ...


class Unconfined:
    """No sandbox: what a plugin gets that runs alone, without the service."""

    @property
    def limits(self) -> Limits:
        """The usual ones."""
        return Limits()

    @property
    def isolates(self) -> bool:
        """It does not."""
        return False

    @property
    def network(self) -> bool:
        """All of it."""
        return True

    @property
    def groups(self) -> Groups | None:
        """It makes none."""
        return None

    def wrap(
        self,
        argv: Sequence[str],
        *,
        workspace: Path,
        workdir: Path,
        owner: Owner,
        readable: Sequence[Path] = (),
    ) -> tuple[str, ...]:
        """The command line as it is."""
        del workspace, workdir, owner, readable
        return tuple(argv)


UNCONFINED: Final[Sandbox] = Unconfined()


@runtime_checkable
class Confining(Protocol):
    """A `ToolContext` that knows how commands are confined."""

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox of this host."""
        ...


def sandbox_of(context: object) -> Sandbox:
    """The sandbox that a call has to use; `UNCONFINED` for a context that knows of none."""
    return context.sandbox if isinstance(context, Confining) else UNCONFINED
