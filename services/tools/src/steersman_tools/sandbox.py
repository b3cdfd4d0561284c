"""The sandbox round commands: bubblewrap where it works, and a plain word where it does not.

A command sees the system (read only), its workspace, a /tmp of its chat, devices that harm nobody,
and its own processes. It has no network unless that is allowed.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import structlog

from steersman_contracts.cgroups import Groups, NotHere, here, make_groups
from steersman_contracts.sandbox import Limits, Owner, SandboxMissing
from steersman_tools.settings import Settings
from steersman_tools.workspaces import Workspaces

log = structlog.stdlib.get_logger()

Mode = Literal["auto", "require", "off"]

PROBE_S: Final = 10.0
SHARED_MEMORY_BYTES: Final = 256 << 20

_SYSTEM: Final = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "nix/store")
# Of /etc, what programs need to run. Everything else may hold what is nobody's business.
_ETC: Final = (
    *("alternatives", "bash.bashrc", "bash_completion.d", "ca-certificates", "debian_version"),
    *("crypto-policies", "environment.d", "fonts", "group", "host.conf", "hosts", "inputrc"),
    *("java", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "locale.alias"),
    *(
        "locale.conf",
        "login.defs",
        "lsb-release",
        "machine-id",
        "magic",
        "mime.types",
        "mke2fs.conf",
    ),
    *("nanorc", "networks", "nsswitch.conf", "os-release", "passwd", "perl", "pki", "profile"),
    *("profile.d", "protocols", "python3", "python3.11", "python3.12", "python3.13", "rpc"),
    *("services", "shells", "ssl", "terminfo", "timezone", "vim", "xdg"),
)
_NETWORK_ETC: Final = ("gai.conf", "resolv.conf")
_NAMESPACES: Final = ("user", "ipc", "pid", "uts")

# From the inside: seen from the outside, the processes of all chats are those of one user.
_BOUNDED: Final = 'ulimit {option} "$1" 2>/dev/null; shift; exec "$@"'
_PR_SET_DUMPABLE: Final = 4


class NoSandbox:
    """Commands are held by their user and their limits alone, or not started at all."""

    isolates = False
    network = True

    def __init__(self, limits: Limits, *, refused: str | None = None) -> None:
        self.limits = limits
        self.refused = refused
        self.groups: Groups | None = None

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
        if self.refused is not None:
            raise SandboxMissing(
                f"the administrator allows them in a sandbox only, and there is none: "
                f"{self.refused}"
            )
        return tuple(argv)


class Bubblewrap:
    """Commands in namespaces of their own.

    Args:
        program: The path of `bwrap`.
        scratch: Where the chats' /tmp are made; others may pass through and not look.
        hidden: A directory of which nothing but the workspace itself is shown.
        limits: What a command may use.
        network: Whether it shares this host's network, with all that listens on localhost.
        readable: Directories beside the system that it may read.
        options: What this version of bubblewrap can do beyond the oldest that is supported.
    """

    isolates = True

    def __init__(
        self,
        program: str,
        *,
        scratch: Path,
        hidden: Path,
        limits: Limits,
        network: bool,
        readable: Iterable[Path] = (),
        options: Sequence[str] = (),
    ) -> None:
        self.limits = limits
        self.network = network
        self.groups: Groups | None = None
        self._program = program
        self._scratch = scratch
        self._hidden = hidden.resolve()
        self._readable = tuple(readable)
        self._options = tuple(options)

    def wrap(
        self,
        argv: Sequence[str],
        *,
        workspace: Path,
        workdir: Path,
        owner: Owner,
        readable: Sequence[Path] = (),
    ) -> tuple[str, ...]:
        """Build the command line; see `Sandbox.wrap`."""
        return (
            self._program,
            *(f"--unshare-{name}" for name in _NAMESPACES),
            "--unshare-cgroup-try",
            *(() if self.network else ("--unshare-net",)),
            *self._options,
            *("--hostname", "sandbox"),
            *self._system(),
            *("--proc", "/proc", "--dev", "/dev"),
            *("--size", str(SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"),
            *("--bind", str(self._tmp(workspace, owner)), "/tmp", "--symlink", "/tmp", "/var/tmp"),
            *_read_only((*self._readable, *readable)),
            *("--tmpfs", str(self._hidden)),
            *("--bind", str(workspace), str(workspace)),
            *("--remount-ro", str(self._hidden), "--remount-ro", "/"),
            *("--chdir", str(workdir), "--"),
            *_bounded(self.limits.processes),
            *argv,
        )

    def _system(self) -> Iterator[str]:
        for name in _SYSTEM:
            path = Path("/", name)
            if path.is_symlink():
                yield from ("--symlink", str(path.readlink()), str(path))
            elif path.is_dir():
                yield from ("--ro-bind", str(path), str(path))
        for name in (*_ETC, *(_NETWORK_ETC if self.network else ())):
            yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")

    def _tmp(self, workspace: Path, owner: Owner) -> Path:
        # One for all commands of a chat: they hand files to each other there.
        path = self._scratch / hashlib.sha256(os.fsencode(workspace)).hexdigest()[:32]
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        if os.geteuid() == 0 and path.lstat().st_uid != owner.uid:
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
        return path


def _read_only(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        yield from ("--ro-bind-try", str(path), str(path))


def _bounded(processes: int) -> tuple[str, ...]:
    bash = "/bin/bash"
    shell, option = (bash, "-u") if os.access(bash, os.X_OK) else ("/bin/sh", "-p")
    return (shell, "-c", _BOUNDED.format(option=option), "sh", str(processes))


@asynccontextmanager
async def sandboxed(workspaces: Workspaces, settings: Settings) -> AsyncGenerator[None]:
    """Confine the commands in the workspaces, as far as this machine can."""
    opening = open_sandbox(
        settings.sandbox,
        workspaces=Path(settings.workspaces_dir),
        owner=workspaces.owner,
        limits=Limits(
            settings.command_processes,
            settings.command_memory_bytes,
            settings.command_file_bytes,
            settings.disk_reserve_bytes,
        ),
        network=settings.sandbox_network,
        readable=[Path(path) for path in settings.sandbox_readable.split(":") if path],
    )
    sandbox = await asyncio.to_thread(opening.__enter__)
    sandbox.groups = await asyncio.to_thread(find_groups, settings.cgroups)
    workspaces.sandbox = sandbox
    try:
        yield
    finally:
        await asyncio.to_thread(opening.__exit__, None, None, None)


@contextmanager
def open_sandbox(
    mode: Mode,
    *,
    workspaces: Path,
    owner: Owner | None,
    limits: Limits,
    network: bool = False,
    readable: Sequence[Path] = (),
) -> Generator[NoSandbox | Bubblewrap]:
    """Find out what confines commands here, and say it in the log. Blocks.

    Args:
        mode: `require` starts no command without a sandbox; `off` uses none.
        workspaces: The directory that holds the workspaces of all chats.
        owner: Who runs commands; None is whoever runs this process.
        limits: What a command may use.
        network: Whether commands reach the network.
        readable: Directories beside the system that commands may read.
    """
    if mode == "off":
        log.warning("sandbox.off", meaning=_meaning(owner))
        yield NoSandbox(limits)
        return
    with _scratch() as scratch:
        found = _find(scratch, workspaces, owner, limits, network=network, readable=readable)
        if isinstance(found, Bubblewrap):
            log.info("sandbox.ready", kind="bubblewrap", network=network)
            yield found
        elif mode == "require":
            log.error("sandbox.missing", reason=found, meaning="no command is started")
            yield NoSandbox(limits, refused=found)
        else:
            log.warning("sandbox.missing", reason=found, meaning=_meaning(owner))
            yield NoSandbox(limits)


def find_groups(mode: Literal["auto", "off"]) -> Groups | None:
    """Where control groups for commands can be made; says in the log what holds them. Blocks."""
    if mode == "off":
        return None
    try:
        groups = make_groups(here())
    except NotHere as reason:
        log.info("cgroups.missing", reason=str(reason), meaning="limits hold for each process")
        return None
    log.info("cgroups.ready", meaning="limits hold for each command as a whole as well")
    return groups


def _meaning(owner: Owner | None) -> str:
    if owner is None:
        return "commands of models read and change whatever the user of this service may"
    return f"commands of models read what user {owner.uid} may, and reach the network"


def _find(
    scratch: Path,
    workspaces: Path,
    owner: Owner | None,
    limits: Limits,
    *,
    network: bool,
    readable: Sequence[Path],
) -> Bubblewrap | str:
    """The sandbox that works here, or the reason why there is none."""
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is not installed"
    reason = ""
    for options in (("--disable-userns",), ()):
        sandbox = Bubblewrap(
            program,
            scratch=scratch,
            hidden=workspaces,
            limits=limits,
            network=network,
            readable=readable,
            options=options,
        )
        refused = _probe(sandbox, scratch, owner)
        if refused is None:
            return sandbox
        reason = reason or refused
    return reason


def _probe(sandbox: Bubblewrap, scratch: Path, owner: Owner | None) -> str | None:
    """Run something in it, as whom commands run; the reason why that fails."""
    workspace = scratch / "probe"
    workspace.mkdir(mode=0o700, exist_ok=True)
    user = owner or Owner(os.geteuid(), os.getegid())
    if owner is not None:
        os.chown(workspace, *owner)
    argv = sandbox.wrap(
        ("/bin/sh", "-c", "echo $$ > made && test ! -e /etc/shadow"),
        workspace=workspace,
        workdir=workspace,
        owner=user,
    )
    try:
        subprocess.run(
            argv,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_S,
            env={},
            cwd="/",
            user=None if owner is None else owner.uid,
            group=None if owner is None else owner.gid,
            extra_groups=None if owner is None else [],
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip()
        return said.splitlines()[-1][:300] if said else f"bwrap ended with {error.returncode}"
    except (OSError, subprocess.SubprocessError) as error:
        return f"bwrap cannot be run: {error}"
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    return None


@contextmanager
def _scratch() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="steersman-tmp-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(stat.S_IRWXU | stat.S_IXGRP | stat.S_IXOTH)
        yield path


def hide_from_commands() -> None:
    """Keep commands that run as our own user from reading our memory and environment.

    Other processes of the user can then neither trace this one nor open its files in /proc.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
