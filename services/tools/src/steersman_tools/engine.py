"""Docker or Podman by their command line, which is the same as far as it is used here."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from steersman_contracts.workspaces import WorkspaceId

PROGRAMS: Final = ("docker", "podman")
WORKSPACE: Final = "/workspace"
"""Where a container sees the files of its workspace."""
_WORKSPACE_LABEL: Final = "steersman.workspace"
_DEPLOYMENT_LABEL: Final = "steersman.deployment"
_NAME: Final = re.compile(r"steersman-([0-9a-f-]{36})")
_COMMAND_S: Final = 30.0
_STOP_S: Final = 10
_SAID: Final = 2 << 10
_LOG_LINES: Final = 20
# What the programs themselves read; nothing of ours is their business.
_PASSED_ON: Final = ("PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")
_PASSED_ON_PREFIXES: Final = ("DOCKER_", "CONTAINER", "PODMAN_")


class EngineFailed(Exception):
    """The engine did not do it; the text is the end of what it said."""


class NameTaken(EngineFailed):
    """There is a container of that name: another replica was faster."""


class Spec(NamedTuple):
    """A container, before it runs."""

    workspace_id: WorkspaceId
    image: str
    argv: Sequence[str]
    files: Path
    """The directory of the workspace, as the engine's own machine names it."""
    user: str
    """`uid:gid`, which owns the files."""
    variables: Mapping[str, str]
    """Its environment; no value has a line break."""
    memory_bytes: int
    cpus: float
    processes: int
    network: str = ""
    options: Sequence[str] = ()
    """Further options of `run`, the administrator's."""


def find_engine(wanted: str) -> str | None:
    """The program: a path or name, or else whichever there is."""
    for name in (wanted,) if wanted else PROGRAMS:
        if (found := shutil.which(name)) is not None:
            return found
    return None


class Engine:
    """Containers of one deployment."""

    def __init__(self, program: str, deployment: str) -> None:
        """Use an engine.

        Args:
            program: The path of its command line.
            deployment: Marks the containers that are ours; other deployments may have some too.
        """
        self._program = program
        self._deployment = deployment

    async def state(self, workspace_id: WorkspaceId) -> str | None:
        """`running`, `exited`, `created` and so on; None: there is no container.

        Raises:
            EngineFailed: It cannot be asked.
        """
        label = f"label={_WORKSPACE_LABEL}={workspace_id}"
        said = await self._run("ps", "--all", "--filter", label, "--format", "{{.State}}")
        return said.split()[0].lower() if said.strip() else None

    async def ours(self) -> list[WorkspaceId]:
        """The workspaces of all containers of this deployment, whatever their state.

        Raises:
            EngineFailed: It cannot be asked.
        """
        label = f"label={_DEPLOYMENT_LABEL}={self._deployment}"
        said = await self._run("ps", "--all", "--filter", label, "--format", "{{.Names}}")
        return [WorkspaceId(name) for name in _NAME.findall(said)]

    async def fetch(self, image: str, timeout_s: float, on_line: Callable[[str], None]) -> None:
        """Have the image here; one that is here stays as it is.

        Raises:
            EngineFailed: It is not here and cannot be fetched.
        """
        with suppress(EngineFailed):
            await self._run("image", "inspect", "--format", "{{.Id}}", image)
            return
        on_line(f"fetching the image {image}")
        await self._run("pull", image, timeout_s=timeout_s, on_line=on_line)

    async def run(self, spec: Spec) -> None:
        """Start a container.

        Raises:
            NameTaken: The workspace has one already.
            EngineFailed: It does not start.
        """
        # By a file: arguments of a process are for everybody to see.
        with tempfile.NamedTemporaryFile("w", prefix="steersman-", encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in spec.variables.items())
            file.flush()
            try:
                await self._run(*run_arguments(spec, self._deployment, file.name))
            except EngineFailed as error:
                if "already in use" in str(error):
                    raise NameTaken(str(error)) from error
                raise

    async def last_words(self, workspace_id: WorkspaceId) -> str:
        """The end of what the container has printed."""
        with suppress(EngineFailed):
            name = name_of(workspace_id)
            return (await self._run("logs", "--tail", str(_LOG_LINES), name)).strip()
        return ""

    async def remove(self, workspace_id: WorkspaceId, *, gently: bool = False) -> None:
        """End a container and remove it; there may be none.

        Args:
            workspace_id: Whose.
            gently: Ask it first, and wait a little for it to end.

        Raises:
            EngineFailed: It may still be there.
        """
        if await self.state(workspace_id) is None:
            return
        name = name_of(workspace_id)
        if gently:
            with suppress(EngineFailed):
                await self._run("stop", "-t", str(_STOP_S), name, timeout_s=_COMMAND_S + _STOP_S)
        try:
            await self._run("rm", "--force", "--volumes", name)
        except EngineFailed:
            if await self.state(workspace_id) is not None:  # or another replica was faster
                raise

    async def _run(
        self,
        *arguments: str,
        timeout_s: float = _COMMAND_S,
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=_environment(os.environ),
            )
        except OSError as error:
            raise EngineFailed(f"{self._program} cannot be run: {error.strerror}") from error
        said = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                await _read(process, said, on_line)
                code = await process.wait()
        except TimeoutError:
            raise EngineFailed(f"{arguments[0]!r} took longer than {timeout_s:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        text = said.decode(errors="replace").replace("\0", "\ufffd")
        if code:
            raise EngineFailed(text.strip()[-_SAID:] or f"{arguments[0]!r} ended with {code}")
        return text


def name_of(workspace_id: WorkspaceId) -> str:
    """The name of a container: there is at most one for a workspace."""
    return f"steersman-{workspace_id}"


def run_arguments(spec: Spec, deployment: str, env_file: str) -> list[str]:
    """The command line that starts a container with no more rights than it needs."""
    return [
        *("run", "--detach", "--pull", "never", "--name", name_of(spec.workspace_id)),
        *("--label", f"{_WORKSPACE_LABEL}={spec.workspace_id}"),
        *("--label", f"{_DEPLOYMENT_LABEL}={deployment}"),
        *("--hostname", "workspace", "--user", spec.user, "--workdir", WORKSPACE),
        *("--read-only", "--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777,size=1g"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--memory", str(spec.memory_bytes), "--cpus", f"{spec.cpus:g}"),
        *("--pids-limit", str(spec.processes)),
        *(("--network", spec.network) if spec.network else ()),
        *("--volume", f"{spec.files}:{WORKSPACE}", "--env-file", env_file),
        *spec.options,
        spec.image,
        *spec.argv,
    ]


async def _read(
    process: asyncio.subprocess.Process, said: bytearray, on_line: Callable[[str], None] | None
) -> None:
    """Take what it prints; of more than 64 KiB, the end."""
    assert process.stdout is not None  # it is a pipe
    while data := await process.stdout.read(16 << 10):
        said += data
        del said[: -(64 << 10)]
        if on_line is not None:
            lines = re.split(rb"[\r\n]+", bytes(said).strip())
            on_line(lines[-1].decode(errors="replace")[-500:] or "…")


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
