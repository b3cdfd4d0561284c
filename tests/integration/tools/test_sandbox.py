"""Commands that try to get out of their workspace, through the real service and the real sandbox.

What depends on bubblewrap is skipped where it does not work, with the reason that the service
gives; what holds without it is tried both ways.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.tools.conftest import StartTools
from integration.tools.host import Caller, new_chat

from steersman.embedded.nats import NatsServer
from steersman_contracts.parts import JsonPart, TextPart
from steersman_contracts.rpc.tools import CallResult
from steersman_contracts.sandbox import Limits, Owner
from steersman_runtime.nats_client import NatsClient
from steersman_tools.plugins import installed_plugins
from steersman_tools.sandbox import NoSandbox, open_sandbox

NOBODY = Owner(65_534, 65_534)


def _missing() -> str | None:
    """Why there is no sandbox on this machine."""
    owner = NOBODY if os.geteuid() == 0 else None
    with (
        tempfile.TemporaryDirectory() as workspaces,
        open_sandbox(
            "require", workspaces=Path(workspaces), owner=owner, limits=Limits()
        ) as sandbox,
    ):
        return sandbox.refused if isinstance(sandbox, NoSandbox) else None


MISSING = _missing()
needs_bubblewrap = pytest.mark.skipif(MISSING is not None, reason=f"no sandbox here: {MISSING}")
both_ways = pytest.mark.parametrize(
    "mode", ["off", pytest.param("require", marks=needs_bubblewrap)]
)


class Chat(Caller):
    """A chat whose model runs commands."""

    async def run(self, command: str, **arguments: Any) -> tuple[dict[str, Any], str]:
        arguments = {"timeout_s": 60, **arguments}
        return facts_of(await self.call("execute", {"command": command, **arguments}))

    async def until(self, process_id: str, said: str) -> None:
        arguments = {"process_id": process_id, "timeout_s": 0.1}
        async with asyncio.timeout(60):
            while said not in facts_of(await self.call("process_output", arguments))[1]:
                continue

    async def output(self, command: str, **arguments: Any) -> str:
        return (await self.run(command, **arguments))[1]


def facts_of(result: CallResult) -> tuple[dict[str, Any], str]:
    match result.content:
        case (JsonPart(value=facts), TextPart(text=text)):
            return facts, text
        case other:
            raise AssertionError(other)


@pytest.fixture
def workspaces() -> Iterator[Path]:
    # Not pytest's: its parents are closed to the user that commands run as.
    with tempfile.TemporaryDirectory(prefix="steersman-") as name:
        base = Path(name)
        base.chmod(0o755)
        yield base / "workspaces"


NewChat = Callable[..., Awaitable[Chat]]


@pytest.fixture
def new_chat_with(
    start_tools: StartTools,
    new_client: Callable[[], Awaitable[NatsClient]],
    workspaces: Path,
) -> NewChat:
    exec_plugin = next(source for source in installed_plugins() if source.name == "exec")
    started: set[str] = set()

    async def start(mode: str, **settings: Any) -> Chat:
        if not started:
            started.add(mode)
            await start_tools(exec_plugin, sandbox=mode, workspaces_dir=str(workspaces), **settings)
        return Chat(await new_client(), new_chat())

    return start


def cmdlines(marker: str) -> list[str]:
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if marker.encode() in line:
            found.append(path.parent.name)
    return found


async def gone(marker: str) -> None:
    """Wait for the end of everything that has the marker in its command line."""
    async with asyncio.timeout(60):
        while cmdlines(marker):  # noqa: ASYNC110  # nobody tells of the end of a stranger's process
            await asyncio.sleep(0.05)


@needs_bubblewrap
async def test_a_command_works_as_usual_in_the_sandbox(new_chat_with: NewChat) -> None:
    chat = await new_chat_with("require")

    facts, text = await chat.run(
        "echo out; echo err >&2; mkdir a && cd a && pwd && echo x > y && cat y; "
        "echo > /tmp/t; exit 3"
    )
    again = await chat.output("ls /tmp/t a; echo $HOME; id -u")

    assert facts["exit_code"] == 3
    lines = text.splitlines()
    assert (lines[:2], lines[3]) == (["out", "err"], "x")
    assert lines[2].endswith(f"/workspaces/{chat.chat_id}/a")
    assert again.splitlines()[:4] == ["/tmp/t", "", "a:", "y"]
    killed, _ = await chat.run("kill -KILL $$")
    assert (killed["exit_code"], killed["signal"]) == (137, "SIGKILL")


@needs_bubblewrap
@pytest.mark.parametrize(
    "command",
    [
        "cat /etc/shadow",
        "ls /root",
        "ls /home",
        "ls /run/postgresql /var/run/postgresql",
        "ls /var/lib",
        "touch /usr/bin/new",
        "touch /etc/new",
        "touch /new",
        "touch /dev/new",
        "echo 1 > /proc/sys/kernel/panic",
        "mount -t tmpfs none /mnt",
        "unshare --user true",
        "chroot / true",
    ],
)
async def test_the_system_is_read_only_and_holds_no_secrets(
    new_chat_with: NewChat, command: str
) -> None:
    chat = await new_chat_with("require")

    facts, _ = await chat.run(command)

    assert facts["exit_code"] != 0


@needs_bubblewrap
async def test_a_workspace_of_another_chat_is_not_there(
    new_chat_with: NewChat, workspaces: Path
) -> None:
    mine, other = await new_chat_with("require"), await new_chat_with("require")
    await other.output("echo private > secret.txt; echo private > /tmp/secret.txt")
    secret = workspaces / other.chat_id / "secret.txt"
    assert secret.read_text() == "private\n"

    text = await mine.output(
        f"cat {secret} /tmp/secret.txt; ls -A {workspaces}; ls /tmp; touch {workspaces}/x; "
        f"ln -s {secret} link; cat link"
    )

    assert "private" not in text
    assert other.chat_id not in text.replace(str(secret), "")
    assert f"\n{mine.chat_id}\n" in text
    assert "Read-only file system" in text


@needs_bubblewrap
async def test_nats_and_the_database_are_out_of_reach(
    new_chat_with: NewChat, nats: NatsServer, workspaces: Path
) -> None:
    chat = await new_chat_with("require")
    port = int(nats.url().rpartition(":")[2].rstrip("/"))
    path = workspaces.parent / "database.sock"
    with socket.socket(socket.AF_UNIX) as database, socket.socket() as outside:
        database.bind(str(path))
        path.chmod(0o777)
        database.listen()
        outside.connect(("127.0.0.1", port))  # it is there for us

        facts, text = await chat.run(
            f"ls {path}; exec 3<>/dev/tcp/127.0.0.1/{port} && head -c 5 <&3"
        )

    assert facts["exit_code"] != 0
    assert f"cannot access '{path}'" in text
    assert "INFO" not in text
    assert "Connection refused" in text


@needs_bubblewrap
async def test_no_other_process_can_be_seen_traced_or_ended(new_chat_with: NewChat) -> None:
    chat = await new_chat_with("require")
    trace = (
        "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True); "
        "sys.exit(libc.ptrace(16, int(sys.argv[1]), 0, 0) == 0)"
    )

    text = await chat.output(
        f"for pid in {os.getpid()} {os.getppid()}; do test -e /proc/$pid/environ && echo seen; "
        f"kill -KILL $pid && echo killed; test -x /usr/bin/python3 && "
        f"(/usr/bin/python3 -c '{trace}' $pid || echo traced); done 2>/dev/null; "
        "ls -d /proc/[0-9]* | wc -l"
    )
    await chat.run("kill -KILL -1")

    assert int(text) < 8
    assert await chat.output("echo still here") == "still here\n"


@both_ways
async def test_a_fork_bomb_is_bounded_and_ends(new_chat_with: NewChat, mode: str) -> None:
    chat = await new_chat_with(mode, command_processes=40)
    marker = f"bomb-{uuid.uuid4().hex}"
    # Without a sandbox it is what all of the user's processes may come to, others' included.
    most = int(await chat.output("ulimit -u"))

    facts, _ = await chat.run(
        f": {marker}; bomb() {{ bomb | bomb & wait; }}; bomb 2>/dev/null", timeout_s=1
    )
    if facts["running"] or facts["left_running"]:
        assert len(cmdlines(marker)) < most + 360
        ended, _ = facts_of(
            await chat.call("process_signal", {"process_id": facts["process_id"], "signal": "kill"})
        )
        assert not ended["running"]

    await gone(marker)
    assert await chat.output("echo alive") == "alive\n"


@needs_bubblewrap
async def test_the_processes_of_one_command_are_counted_by_themselves(
    new_chat_with: NewChat,
) -> None:
    chat = await new_chat_with("require", command_processes=30)

    facts, text = await chat.run(
        # Not bash, which tries again for half a minute.
        "exec sh -c 'for n in $(seq 60); do sleep 60 & echo started; done' 2>/dev/null",
        timeout_s=30,
    )

    assert facts["exit_code"] != 0
    assert 20 < text.count("started") < 30


@needs_bubblewrap
async def test_a_daemon_in_a_session_of_its_own_ends_with_its_process(
    new_chat_with: NewChat,
) -> None:
    chat = await new_chat_with("require")
    marker = f"daemon-{uuid.uuid4().hex}"

    facts, text = await chat.run(
        f"setsid -f bash -c ': {marker}; while :; do sleep 1; done' > /dev/null 2>&1; echo away"
    )

    assert text.startswith("away\n[the shell has ended, but processes that it started still run")
    assert facts["left_running"]
    assert cmdlines(marker)
    await chat.call("process_signal", {"process_id": facts["process_id"], "signal": "kill"})
    await gone(marker)


@needs_bubblewrap
async def test_a_command_in_the_sandbox_says_how_it_ended_when_it_was_asked_to(
    new_chat_with: NewChat,
) -> None:
    chat = await new_chat_with("require")
    facts, _ = await chat.run(
        "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.1; done &", timeout_s=1
    )
    await chat.until(facts["process_id"], "up\n")

    ended, text = facts_of(await chat.call("process_signal", {"process_id": facts["process_id"]}))

    assert (ended["running"], ended["exit_code"]) == (False, 7)
    assert "bye\n" in text


@both_ways
async def test_what_fills_the_disk_or_the_memory_is_stopped(
    new_chat_with: NewChat, workspaces: Path, mode: str
) -> None:
    chat = await new_chat_with(mode, command_file_bytes=1 << 20, command_memory_bytes=64 << 20)

    await chat.run("head -c 10000000 /dev/zero > big")
    counted = await chat.output(
        "head -c 200000000 /dev/zero | tail -c 150000000 2>/dev/null | wc -c"
    )

    assert (workspaces / chat.chat_id / "big").stat().st_size == 1 << 20
    assert int(counted) < 64 << 20


@both_ways
async def test_a_command_is_ended_when_the_disk_is_almost_full(
    new_chat_with: NewChat, mode: str
) -> None:
    chat = await new_chat_with(mode, disk_reserve_bytes=1 << 60)

    facts, text = await chat.run("while :; do echo x >> log; sleep 0.1; done")

    assert (facts["running"], facts["signal"]) == (False, "SIGKILL")
    assert "[it was ended: the disk is almost full: " in text


@needs_bubblewrap
async def test_memory_that_looks_like_a_disk_is_bounded(new_chat_with: NewChat) -> None:
    chat = await new_chat_with("require")

    assert await chat.output("df --output=size /dev/shm | tail -n 1 | tr -d ' '") == "262144\n"


@both_ways
async def test_nothing_of_the_service_is_in_the_environment(
    new_chat_with: NewChat, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("STEERSMAN_NATS_URL", "nats://secret@host")
    chat = await new_chat_with(mode)

    text = await chat.output(
        "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; cat /etc/shadow"
    )

    assert "secret" not in text
    assert "root:" not in text


@needs_bubblewrap
async def test_the_network_is_there_when_it_is_allowed(
    new_chat_with: NewChat, nats: NatsServer
) -> None:
    chat = await new_chat_with("require", sandbox_network=True)
    port = int(nats.url().rpartition(":")[2].rstrip("/"))

    assert await chat.output(f"exec 3<>/dev/tcp/127.0.0.1/{port} && head -c 5 <&3") == "INFO "


@needs_bubblewrap
async def test_a_further_directory_is_readable_when_it_is_allowed(
    new_chat_with: NewChat, workspaces: Path
) -> None:
    more = workspaces.parent / "more"
    more.mkdir()
    (more / "file").write_text("to read\n")
    chat = await new_chat_with("require", sandbox_readable=f"{more}:/none")

    assert await chat.output(f"cat {more}/file; touch {more}/new 2>/dev/null || echo no") == (
        "to read\nno\n"
    )


async def test_without_a_sandbox_that_is_required_no_command_is_started(
    new_chat_with: NewChat, monkeypatch: pytest.MonkeyPatch, workspaces: Path
) -> None:
    monkeypatch.setenv("PATH", str(workspaces))
    chat = await new_chat_with("require")

    result = await chat.call("execute", {"command": "touch made"})

    assert result.is_error
    (part,) = result.content
    assert part == TextPart(
        "commands cannot be run: the administrator allows them in a sandbox only, and there is "
        "none: bubblewrap is not installed"
    )
    assert not (workspaces / chat.chat_id / "made").exists()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("echo no permission to make namespaces >&2; exit 1", "no permission to make namespaces"),
        ("exit 4", "bwrap ended with 4"),
    ],
)
def test_a_bubblewrap_that_does_not_work_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with open_sandbox("require", workspaces=tmp_path, owner=None, limits=Limits()) as sandbox:
        assert isinstance(sandbox, NoSandbox)
        assert sandbox.refused == reason


HIDING = """
import ctypes, os, subprocess, sys
from steersman_tools.sandbox import hide_from_commands
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as after an exec
environ = ["cat", f"/proc/{os.getpid()}/environ"]
before = subprocess.run(environ, capture_output=True)
hide_from_commands()
after = subprocess.run(environ, capture_output=True)
sys.exit(not (b"SECRET=x" in before.stdout and after.returncode and not after.stdout))
"""


def test_commands_of_the_same_user_cannot_read_the_environment_of_the_service() -> None:
    subprocess.run([sys.executable, "-c", HIDING], check=True, env={"SECRET": "x"}, timeout=60)
