"""Control groups (version 2) for commands: limits of all that a command starts, and a sure end.

Limits of single processes hold without them; these hold for a command as a whole. Everything here
blocks on the file system of the kernel, for moments.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

CONTROLLERS: Final = ("memory", "pids")
"""What a place for the groups of commands has to offer."""
_COMMANDS: Final = "steersman-commands"
_SERVICE: Final = "steersman-service"
_SPARE: Final = 8
"""Processes that are ours: the sandbox round the command, and what starts it."""


class NotHere(Exception):
    """No groups can be made here; the text says why."""


class Group:
    """The group of one command. Let go of it by `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.join = os.open(path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        """A descriptor: a process that writes 0 to it is in the group, with all that it starts."""

    def kill(self) -> None:
        """End everything in it, also what has left the process group of the command."""
        with suppress(OSError):  # before Linux 5.14 there is no such file
            (self._path / "cgroup.kill").write_text("1")

    def close(self) -> bool:
        """Remove it; say whether it is gone: not while something runs in it. May be asked again."""
        if self.join >= 0:
            os.close(self.join)
            self.join = -1
        try:
            self._path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


def limits(
    controllers: Iterable[str], *, memory_bytes: int, processes: int
) -> tuple[tuple[str, str, bool], ...]:
    """What is written for one command: the file, what into it, and whether it has to work.

    Args:
        controllers: Which limits can be set.
        memory_bytes: Of all its processes together; over that, all of them are killed.
        processes: And threads.
    """
    memory = (
        ("memory.max", str(memory_bytes), True),
        # Not every kernel has these two.
        ("memory.swap.max", "0", False),
        ("memory.oom.group", "1", False),
    )
    pids = (("pids.max", str(processes + _SPARE), True),)
    return (memory if "memory" in controllers else ()) + (pids if "pids" in controllers else ())


class Groups:
    """Makes the groups of commands below one directory of the kernel's."""

    def __init__(self, root: Path, controllers: Iterable[str] = CONTROLLERS) -> None:
        """Use a directory.

        Args:
            root: It has no processes of its own, and passes `controllers` on to what is below.
            controllers: Which limits can be set.
        """
        self._root = root
        self._controllers = frozenset(controllers)
        self._left: list[Group] = []

    def open(self, *, memory_bytes: int, processes: int) -> Group:
        """Make the group of one command.

        Args:
            memory_bytes: Of all its processes together; over that, all of them are killed.
            processes: And threads.

        Raises:
            OSError: The kernel does not make it.
        """
        self._left = [group for group in self._left if not group.close()]
        path = self._root / secrets.token_hex(6)
        path.mkdir()
        try:
            wanted = limits(self._controllers, memory_bytes=memory_bytes, processes=processes)
            for name, value, needed in wanted:
                with suppress(*(() if needed else (OSError,))):
                    (path / name).write_text(value)
            return Group(path)
        except OSError:
            path.rmdir()
            raise

    def give_back(self, group: Group) -> None:
        """Remove a group, now or once nothing runs in it any more."""
        if not group.close():
            self._left.append(group)


def own_group(mounts: str, membership: str) -> Path:
    """The directory of the group that a process is in.

    Args:
        mounts: Its `/proc/self/mountinfo`.
        membership: Its `/proc/self/cgroup`.

    Raises:
        NotHere: There is no hierarchy of version 2.
    """
    found = [line.split(" - ") for line in mounts.splitlines() if " - cgroup2 " in line]
    own = [line[3:] for line in membership.splitlines() if line.startswith("0::")]
    if not found or not own:
        raise NotHere("there are no control groups of version 2")
    fields = found[0][0].split()
    inside, point = fields[3], fields[4]
    below = own[0].removeprefix(inside) if inside != "/" else own[0]
    return Path(point, below.lstrip("/"))


def problem_of(own: Path) -> str | None:
    """Why no groups can be made below a group; None: they can, or nobody knows before it is tried.

    Args:
        own: Of this process.
    """
    try:
        offered = (own / "cgroup.controllers").read_text().split()
    except OSError as error:
        return f"its control group cannot be read: {error.strerror}"
    missing = [name for name in CONTROLLERS if name not in offered]
    if missing:
        return f"its control group has no controller {' and no '.join(missing)}"
    if not os.access(own, os.W_OK) or not os.access(own / "cgroup.subtree_control", os.W_OK):
        return "its control group is not ours to divide (in systemd: Delegate=yes)"
    return None


def make_groups(own: Path) -> Groups:
    """Divide the group of this process: one part for itself, one for the commands.

    Raises:
        NotHere: The kernel, or somebody who shares the group, does not let us.
    """
    if (problem := problem_of(own)) is not None:
        raise NotHere(problem)
    try:
        _pass_on(own)
        root = own / _COMMANDS
        root.mkdir(exist_ok=True)
        _pass_on(root)
        for left in root.iterdir():
            if left.is_dir():
                with suppress(OSError):  # something runs in it still
                    left.rmdir()
    except OSError as error:
        raise NotHere(f"its control group cannot be divided: {error.strerror}") from error
    return Groups(root)


def _pass_on(group: Path) -> None:
    """Let groups below have limits; for that no process may be left in this one itself."""
    control = group / "cgroup.subtree_control"
    wanted = " ".join(f"+{name}" for name in CONTROLLERS)
    if set(CONTROLLERS) <= set(control.read_text().split()):
        return
    with suppress(OSError):  # the outermost group of all may have processes
        control.write_text(wanted)
        return
    inside = (group / "cgroup.procs").read_text().split()
    if inside not in ([], [str(os.getpid())]):
        raise NotHere("other processes share its control group")
    service = group / _SERVICE
    service.mkdir(exist_ok=True)
    for pid in inside:
        (service / "cgroup.procs").write_text(pid)
    control.write_text(wanted)


def here() -> Path:
    """The directory of our own group.

    Raises:
        NotHere: There is none of version 2.
    """
    try:
        mounts = Path("/proc/self/mountinfo").read_text()
        return own_group(mounts, Path("/proc/self/cgroup").read_text())
    except OSError as error:
        raise NotHere("there are no control groups of version 2") from error
