"""How a command starts: as whom, with which environment, and within which limits."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Nothing asks, pages or colours: nobody is there to answer.
QUIET: Final[Mapping[str, str]] = {
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MANPAGER": "cat",
    "EDITOR": "true",
    "VISUAL": "true",
    "GIT_EDITOR": "true",
    "GIT_TERMINAL_PROMPT": "0",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_NO_INPUT": "1",
    "CI": "true",
}

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


def _linux() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


_libc: Final = _linux()


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

    def start(self, output: int, given: int | None = None) -> subprocess.Popen[bytes]:
        """Start it in a session and process group of its own.

        Call it in a thread that lives as long as the service: when the thread ends, the kernel
        takes that for the parent's death. Not by asyncio, because uvloop knows no `user`.

        Args:
            output: The descriptor for everything that it prints.
            given: The descriptor that it reads its input from; None is no input.

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
                preexec_fn=_before_exec(self, dropped=identity is not None),
            )
        except OSError as error:
            raise Refused(f"the command cannot be started: {error}") from error
        except subprocess.SubprocessError as error:  # all that comes back from before the exec
            user = os.geteuid() if identity is None else identity.uid
            raise Refused(
                f"the command cannot be started: user {user}, as whom it would run, may not enter "
                "the workdir"
            ) from error
        _offer_to_the_oom_killer(popen.pid)
        return popen


def prepare(command: str, workspace: Path, workdir: str, sandbox: Sandbox = UNCONFINED) -> Launch:
    """Check the command and open its directory. Blocks on the file system.

    Args:
        command: For the shell.
        workspace: What it may change.
        workdir: Where it starts, as the model wrote it.
        sandbox: What confines it.

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
        environment=environment(os.environ, opened.workspace, shell),
        workdir=opened,
        identity=identity,
        limits=sandbox.limits,
        isolated=sandbox.isolates,
    )


def environment(service: Mapping[str, str], workspace: Path, shell: str) -> dict[str, str]:
    """Build what a command sees. Of the service's own environment only PATH and TZ are in it."""
    kept = {"TZ": service["TZ"]} if "TZ" in service else {}
    return {
        **QUIET,
        **kept,
        "PATH": search_path(service.get("PATH", SYSTEM_PATH)),
        "HOME": str(workspace),
        "SHELL": shell,
    }


def search_path(path: str) -> str:
    """The service's PATH without its own virtual environment: that one is not for commands."""
    own = sys.prefix if sys.prefix != sys.base_prefix else None
    kept = [
        entry
        for entry in path.split(":")
        if entry.startswith("/") and not (own and Path(entry).is_relative_to(own))
    ]
    return ":".join(kept) or SYSTEM_PATH


def _before_exec(launch: Launch, *, dropped: bool) -> Callable[[], None]:
    # Runs between fork and exec, after the change of user: nothing is decided or allocated there
    # that can be decided here. The death signal has to come after the change of user, which
    # clears it.
    directory, limits = launch.workdir.descriptor, _limits(launch.limits)
    # A sandbox that is setuid sets this itself, once it has made its namespaces.
    no_rights_back = dropped and not launch.isolated
    parent = os.getpid()

    def run() -> None:
        os.fchdir(directory)
        for number, bounds in limits:
            resource.setrlimit(number, bounds)
        if _libc is None:
            return
        if no_rights_back:
            _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before this took effect
            os._exit(1)

    return run


def _limits(limits: Limits) -> list[tuple[int, tuple[int, int]]]:
    return [
        (resource.RLIMIT_CORE, (0, 0)),
        (resource.RLIMIT_NOFILE, _at_most("NOFILE", 65_536)),
        (resource.RLIMIT_DATA, _at_most("DATA", limits.memory_bytes)),
        (resource.RLIMIT_FSIZE, _at_most("FSIZE", limits.file_bytes)),
        (resource.RLIMIT_NPROC, _at_most("NPROC", _threads() + limits.processes)),
    ]


def _threads() -> int:
    # The limit counts all threads of a user, and the commands of all chats have the same one. How
    # many there are of it takes long to find out; how many there are of everybody is one line.
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return 4_096


def _offer_to_the_oom_killer(pid: int) -> None:
    # Memory that runs out is for the command to lose, not for the database. It needs no rights.
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")


def _at_most(name: str, value: int) -> tuple[int, int]:
    _, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    return bound, bound
