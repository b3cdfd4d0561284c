"""How a command of a model starts, whoever starts it: what it sees, and within which limits."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from steersman_contracts.sandbox import Limits

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


def before_exec(
    directory: int, limits: Limits, *, dropped: bool, isolated: bool, join: int | None = None
) -> Callable[[], None]:
    """What the child does right before its program: for `preexec_fn` of `subprocess.Popen`.

    Start it in a thread that lives as long as the service: when the thread ends, the kernel takes
    that for the parent's death.

    Args:
        directory: The descriptor of the directory in which it starts.
        limits: What it may use.
        dropped: It runs as another user than we do.
        isolated: Its program is a sandbox.
        join: The descriptor of a control group that it becomes a part of.
    """
    # Runs between fork and exec, after the change of user: nothing is decided or allocated there
    # that can be decided here. The death signal has to come after the change of user, which
    # clears it.
    bounds_of = _limits(limits)
    # A sandbox that is setuid sets this itself, once it has made its namespaces.
    no_rights_back = dropped and not isolated
    parent = os.getpid()

    def run() -> None:
        if join is not None:
            # Kernels before 5.16 ask who writes, and not who has opened: the limits below remain.
            with suppress(OSError):
                os.write(join, b"0")
        os.fchdir(directory)
        for number, bounds in bounds_of:
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


def offer_to_the_oom_killer(pid: int) -> None:
    """Memory that runs out is for the command to lose, not for the database. Needs no rights."""
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")


def _at_most(name: str, value: int) -> tuple[int, int]:
    _, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    return bound, bound
