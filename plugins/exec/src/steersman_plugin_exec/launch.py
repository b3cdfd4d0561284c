"""How a command starts: as whom, with which environment, and within which limits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from steersman_contracts.cgroups import Group, Groups
from steersman_contracts.commands import before_exec, environment, offer_to_the_oom_killer
from steersman_contracts.sandbox import (
    UNCONFINED,
    Limits,
    Owner,
    Sandbox,
    SandboxMissing,
    user_of_commands,
)
from steersman_plugin_exec.workdir import Refused, Workdir

ARGUMENT_MAX: Final = 128 * 1024 - 1
"""Bytes of one argument: the limit of Linux."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A command that is ready to start."""

    command: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    workdir: Workdir
    identity: Owner | None
    """None: whoever runs this process."""
    limits: Limits
    isolated: bool
    """Whether its process is a sandbox, which stays as the parent of the command."""
    groups: Groups | None = None
    """Makes a control group for it."""

    def group(self) -> Group | None:
        """A control group for the command; None where there is none, and other limits have to do.

        Blocks on the kernel for moments.
        """
        if self.groups is None:
            return None
        try:
            return self.groups.open(
                memory_bytes=self.limits.memory_bytes, processes=self.limits.processes
            )
        except OSError:  # too many of them, or somebody else's now
            return None

    def start(
        self, output: int, given: int | None = None, group: Group | None = None
    ) -> subprocess.Popen[bytes]:
        """Start it in a session and process group of its own.

        Call it in a thread that lives as long as the service: when the thread ends, the kernel
        takes that for the parent's death. Not by asyncio, because uvloop knows no `user`.

        Args:
            output: The descriptor for everything that it prints.
            given: The descriptor that it reads its input from; None is no input.
            group: The control group that it becomes a part of.

        Raises:
            Refused: The system does not start it.
        """
        identity = self.identity
        try:
            popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL if given is None else given,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,
                umask=0o022,
                user=identity and identity.uid,
                group=identity and identity.gid,
                extra_groups=None if identity is None else [],
                preexec_fn=before_exec(
                    self.workdir.descriptor,
                    self.limits,
                    dropped=identity is not None,
                    isolated=self.isolated,
                    join=None if group is None else group.join,
                ),
            )
        except OSError as error:
            raise Refused(f"the command cannot be started: {error}") from error
        except subprocess.SubprocessError as error:  # all that comes back from before the exec
            user = os.geteuid() if identity is None else identity.uid
            raise Refused(
                f"the command cannot be started: user {user}, as whom it would run, may not enter "
                "the workdir"
            ) from error
        offer_to_the_oom_killer(popen.pid)
        return popen


def prepare(
    command: str,
    workspace: Path,
    workdir: str,
    sandbox: Sandbox = UNCONFINED,
    variables: Mapping[str, str] | None = None,
) -> Launch:
    """Check the command and open its directory. Blocks on the file system.

    Args:
        command: For the shell.
        workspace: What it may change.
        workdir: Where it starts, as the model wrote it.
        sandbox: What confines it.
        variables: What it sees beside the usual.

    Raises:
        Refused: It cannot be run, or not there.
    """
    try:
        size = len(command.encode())
    except UnicodeEncodeError as error:
        raise Refused("the command is not valid Unicode; remove lone surrogates") from error
    if "\0" in command:
        raise Refused("the command contains a NUL character; remove it")
    if size > ARGUMENT_MAX:
        raise Refused(
            f"the command has {size} bytes; at most {ARGUMENT_MAX} can be passed to a shell; "
            "write it to a file with write_file and run that"
        )
    shell = "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"
    opened = Workdir(workspace, workdir)
    identity = user_of_commands(os.geteuid(), opened.owner)
    try:
        argv = sandbox.wrap(
            (shell, "-c", command),
            workspace=opened.workspace,
            workdir=opened.path,
            owner=identity or Owner(os.geteuid(), os.getegid()),
        )
    except SandboxMissing as missing:
        raise Refused(f"commands cannot be run: {missing}") from missing
    return Launch(
        command=command,
        argv=argv,
        environment={**environment(os.environ, opened.workspace, shell), **(variables or {})},
        workdir=opened,
        identity=identity,
        limits=sandbox.limits,
        isolated=sandbox.isolates,
        groups=sandbox.groups,
    )
