"""The same containers with Podman itself, where it can be used."""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.tools.host import text_of as text
from integration.workspaces.conftest import NewChat, StartTools, write_template
from support.chat_driver import StoreDriver

from steersman_contracts.rpc import workspaces as people
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient

IMAGE = "localhost/steersman-test:1"
ROOT = Path(__file__).parents[3]
# The hosts of CI are containers themselves: what is set here is what they cannot change.
LIMITS = ("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=2000:2000")


def mounts() -> list[str]:
    """This machine's programs, our packages and our interpreter, read only: a small image."""
    system = [name for name in ("/usr", "/etc") if Path(name).is_dir()]
    ours = {sys.prefix, sys.base_prefix, str(ROOT)}
    found: list[str] = []
    for path in (*system, *sorted(ours)):
        if not any(Path(path).is_relative_to(known) for known in found):
            found.append(path)
    return [f"--volume={path}:{path}:ro" for path in found]


def skeleton() -> bytes:
    """An image without anything: directories, and the links that the system has for some."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in ("bin", "sbin", "lib", "lib64", "proc", "dev", "sys", "tmp", "workspace"):
            entry = tarfile.TarInfo(name)
            # What is mounted at /tmp takes over its mode.
            entry.mode, entry.type = 0o1777 if name == "tmp" else 0o755, tarfile.DIRTYPE
            if Path("/", name).is_symlink():
                entry.type, entry.linkname = tarfile.SYMTYPE, str(Path("/", name).readlink())
            tar.addfile(entry)
    return packed.getvalue()


@pytest.fixture
def podman(base: Path) -> Iterator[Path]:
    """A program that is Podman with a storage of its own; skips where it cannot run anything."""
    found = shutil.which("podman")
    if found is None:
        pytest.skip("podman is not installed")
    runtime = next((name for name in ("crun", "runc") if _runs(found, base, name)), None)
    if runtime is None:
        pytest.skip("podman cannot run containers on this machine")
    program = base / "podman"
    program.write_text(f'#!/bin/sh\nexec {" ".join(_podman(found, base, runtime))} "$@"\n')
    program.chmod(0o755)
    yield program
    subprocess.run([program, "rm", "--all", "--force", "-t", "0"], check=False, capture_output=True)
    subprocess.run([program, "rmi", "--all", "--force"], check=False, capture_output=True)


def _podman(program: str, base: Path, runtime: str) -> list[str]:
    storage = base / f"podman-{runtime}"
    return [
        program,
        *("--root", f"{storage}/root", "--runroot", f"{storage}/run", "--tmpdir", f"{storage}/tmp"),
        *("--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", runtime),
    ]


def _runs(program: str, base: Path, runtime: str) -> bool:
    podman = _podman(program, base, runtime)
    path = f"{sys.prefix}/bin:/usr/bin:/bin"
    options = ("--rm", "--network=host", "--memory=256m", "--pids-limit=100", "--cpus=1")
    try:
        for command in (
            [*podman, "import", "--change", f"ENV PATH={path}", "-", IMAGE],
            [*podman, "run", *options, *LIMITS, *mounts(), IMAGE, "python", "-c", "pass"],
        ):
            subprocess.run(command, input=skeleton(), check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


async def test_a_chat_works_in_a_container_of_podman(
    podman: Path,
    start_tools: StartTools,
    new_chat: NewChat,
    templates: Path,
    store: StoreDriver,
    client: NatsClient,
) -> None:
    write_template(
        templates,
        "boxed",
        f'name = "Boxed"\ndriver = "container"\n[container]\nimage = "{IMAGE}"\n'
        "memory_mib = 512\nprocesses = 200\n"
        '[setup]\nscript = \'cat /proc/1/cmdline | tr "\\0" " " > init.txt\'\n',
    )
    await start_tools(
        container_engine=str(podman),
        container_network="host",
        container_options=" ".join((*LIMITS, *mounts())),
        sandbox="off",
    )
    chat = await new_chat()

    made = await chat.json("create_workspace", template_id="boxed")

    assert "steersman_tools.deputy" in text(await chat.call("read_file", {"path": "init.txt"}))
    seen = await chat.call(
        "execute",
        {
            "command": "pwd; hostname; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; "
            "touch /outside || echo read-only; tr '\\0' '\\n' < /proc/1/environ || echo hidden",
            "timeout_s": 60,
        },
    )
    shown = text(seen)
    assert "/workspace\n" in shown
    assert "CapEff:\t0000000000000000" in shown
    assert "NoNewPrivs:\t1" in shown
    assert "\nread-only\n" in shown
    assert "\nhidden" in shown
    assert "STEERSMAN" not in shown
    await RpcClient(client).call(
        people.STOP, people.OneWorkspace(store.actor, made["workspace"]["id"]), deadline_s=60
    )
    listed = await asyncio.create_subprocess_exec(
        podman, "ps", "--all", "--quiet", stdout=subprocess.PIPE
    )
    assert await listed.communicate() == (b"", None)
    assert listed.returncode == 0
