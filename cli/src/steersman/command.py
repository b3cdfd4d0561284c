"""A child process as a value, and the one way in which we start one."""

import ctypes
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Looked up before any fork: the child of a threaded process must not take the loader's lock.
_LIBC = ctypes.CDLL(None, use_errno=True)
_spawned: "weakref.WeakSet[subprocess.Popen[bytes]]" = weakref.WeakSet()


@dataclass(frozen=True)
class User:
    """Whom a process runs as, when that is not ourselves."""

    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Command:
    """Everything needed to start a process, decided beforehand.

    Attributes:
        name: How the process is called in logs and reports.
        argv: The program and its arguments. Never a secret: everybody can read them.
        env: The whole environment; nothing is inherited.
        cwd: Entered with our rights, before the change to `user`.
        user: The account to run as; None is our own.
        umask: -1 keeps ours.
        pass_fds: Descriptors the process inherits under the same numbers.
        stop_signal: Asks the process to end by itself.
        stop_timeout_s: How long it may take to, before SIGKILL.
        death_signal: What the kernel sends to it when we die, however we die.
        before_restart: Clears what an earlier process left behind, before the next one starts.
            Runs in a thread; a `RuntimeError` counts as a start that failed.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: Path | None = None
    user: User | None = None
    umask: int = -1
    pass_fds: tuple[int, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    before_restart: Callable[[], None] | None = None


def spawn(
    command: Command, output: int | IO[bytes], source: int | IO[bytes] = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a process that dies with us, in a session of its own.

    The kernel ties it to the calling *thread*: call this from a thread that lives as long as the
    process shall, which a worker of a thread pool does not.
    """
    user = command.user
    process = subprocess.Popen(
        command.argv,
        env=dict(command.env),
        cwd=command.cwd,
        umask=command.umask,
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=() if user else None,
        pass_fds=command.pass_fds,
        stdin=source,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_tie_to_parent(command.death_signal),
    )
    _spawned.add(process)
    return process


def spawned() -> set[int]:
    """The processes we started and have not collected yet, in contrast to adopted ones."""
    return {process.pid for process in _spawned if process.returncode is None}


def die_with_parent(parent: int, death_signal: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel end this process when `parent`, which started it, ends."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above took effect
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of whatever our descendants leave behind, so that it can be ended."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _tie_to_parent(death_signal: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()

    def in_child() -> None:
        # Python runs this after setuid, which would otherwise clear the setting again.
        die_with_parent(parent, death_signal)

    return in_child
