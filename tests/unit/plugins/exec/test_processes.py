"""Processes that outlive their call: seen, waited for, written to and ended by their chat alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import steersman_plugin_exec
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import JsonPart, TextPart
from steersman_contracts.sandbox import Limits, Unconfined
from steersman_contracts.testing import LocalContext, run_tool
from steersman_plugin_exec import processes as registry
from steersman_plugin_exec.execute import split_background
from steersman_plugin_exec.launch import prepare
from steersman_plugin_exec.processes import PER_CHAT, Processes
from steersman_plugin_exec.workdir import Refused


class Chat:
    """A chat whose model calls the tools."""

    def __init__(self, workspace: Path, chat_id: str = "chat-1") -> None:
        self.workspace = workspace
        self.chat_id = chat_id

    def context(self) -> LocalContext:
        return LocalContext(self.workspace, chat_id=self.chat_id, timeout_s=300)

    async def result(self, tool: str, **arguments: Any) -> ToolResult:
        async with asyncio.timeout(40):
            return await run_tool(steersman_plugin_exec, tool, arguments, self.context())

    async def call(self, tool: str, **arguments: Any) -> tuple[dict[str, Any], str]:
        match (await self.result(tool, **arguments)).parts():
            case (JsonPart(value=facts), TextPart(text=text)):
                return facts, text
            case other:
                raise AssertionError(other)

    async def until(self, process_id: str, said: str) -> dict[str, Any]:
        """Wait until the process has printed something; the facts are those of that moment."""
        async with asyncio.timeout(40):
            while True:
                facts, text = await self.call(
                    "process_output", process_id=process_id, timeout_s=0.1
                )
                if said in text:
                    return facts

    async def listed(self) -> list[dict[str, Any]]:
        (part,) = (await self.result("process_list")).parts()
        assert isinstance(part, JsonPart)
        return part.value["processes"]


@pytest.fixture
def chat(workspace: Path) -> Chat:
    return Chat(workspace)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("command", "left", "background"),
    [
        ("sleep 1 &", "sleep 1", True),
        ("a && b &  \n", "a && b", True),
        ("a & b &", "a & b", True),
        ("a > log 2>&1 &", "a > log 2>&1", True),
        ("a & b", "a & b", False),
        ("a &&", "a &&", False),
        ("a >&", "a >&", False),
        ("a |&", "a |&", False),
        ("echo \\&", "echo \\&", False),
        ("&", "&", False),
        ("a", "a", False),
    ],
)
def test_a_trailing_single_ampersand_means_background(
    command: str, left: str, background: bool
) -> None:
    assert split_background(command) == (left, background)


async def test_a_command_lives_on_past_its_timeout_and_is_waited_for(chat: Chat) -> None:
    gate = chat.workspace / "gate"
    os.mkfifo(gate)
    gate.chmod(0o666)
    facts, text = await chat.call(
        "execute", command="echo first; read -r line < gate; echo $line; exit 3", timeout_s=0.3
    )
    assert (facts["timed_out"], facts["running"], facts["exit_code"]) == (True, True, None)
    assert "[it still runs after" in text
    await chat.until(facts["process_id"], "first\n[it still runs")

    waiting = asyncio.create_task(
        chat.call("process_output", process_id=facts["process_id"], timeout_s=30)
    )
    await asyncio.to_thread(gate.write_text, "second\n")
    facts, text = await waiting

    assert text == "first\nsecond\n"
    assert (facts["running"], facts["exit_code"], facts["timed_out"]) == (False, 3, False)


async def test_in_the_background_the_answer_comes_at_once(chat: Chat) -> None:
    facts, _ = await chat.call("execute", command="echo up; exec sleep 60 &", timeout_s=60)

    assert (facts["running"], facts["timed_out"]) == (True, False)
    facts = await chat.until(facts["process_id"], "up\n[it still runs")
    again, text = await chat.call(
        "process_output",
        process_id=facts["process_id"],
        timeout_s=0,
        offset=facts["next_offset"],
    )
    assert (again["running"], again["timed_out"]) == (True, True)
    assert text.startswith("[no new output]\n[it still runs")


async def test_a_background_command_that_fails_at_once_is_told(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By its module's name, because the package has a function of the same name.
    monkeypatch.setattr(sys.modules["steersman_plugin_exec.execute"], "BACKGROUND_S", 30.0)
    facts, text = await chat.call("execute", command="echo no; exit 5", background=True)

    assert (text, facts["exit_code"], facts["running"]) == ("no\n", 5, False)


@pytest.mark.parametrize("how", ["terminate", "kill"])
async def test_a_signal_ends_the_whole_group(chat: Chat, how: str) -> None:
    facts, _ = await chat.call(
        "execute", command="sleep 61 & sleep 61 | cat & echo $! $$; wait", background=True
    )
    shown = await chat.until(facts["process_id"], "[it still runs")
    assert shown["running"]

    ended, _ = await chat.call("process_signal", process_id=facts["process_id"], signal=how)

    assert (ended["running"], ended["left_running"]) == (False, False)
    assert ended["signal"] == {"terminate": "SIGTERM", "kill": "SIGKILL"}[how]
    assert ended["exit_code"] == {"terminate": 143, "kill": 137}[how]


async def test_what_does_not_want_to_end_is_said_to_go_on(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steersman_plugin_exec.steering.TERMINATE_S", 0.2)
    facts, _ = await chat.call(
        "execute",
        command="trap 'echo no' TERM; echo up; while :; do sleep 0.05; done",
        background=True,
    )
    await chat.until(facts["process_id"], "up\n")

    asked, _ = await chat.call("process_signal", process_id=facts["process_id"])
    assert asked["running"]
    await chat.until(facts["process_id"], "no\n[it still runs")
    killed, _ = await chat.call("process_signal", process_id=facts["process_id"], signal="kill")

    assert (killed["running"], killed["signal"]) == (False, "SIGKILL")


async def test_a_process_reads_what_is_written_until_the_end(chat: Chat) -> None:
    facts, _ = await chat.call(
        "execute", command='while read -r line; do echo "<$line>"; done; echo over', background=True
    )
    first, _ = await chat.call(
        "process_input", process_id=facts["process_id"], text="a b\nc\n", timeout_s=0.1
    )
    await chat.until(facts["process_id"], "<a b>\n<c>\n[it still runs")
    assert (first["written"], first["input_closed"]) == (6, False)

    last, text = await chat.call(
        "process_input", process_id=facts["process_id"], text="d\n", end=True, timeout_s=30
    )

    assert text == "<d>\nover\n"
    assert (last["running"], last["exit_code"], last["input_closed"]) == (False, 0, True)


async def test_input_that_nobody_reads_is_refused_in_words(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steersman_plugin_exec.steering.ENDING_S", 0.3)
    closed, _ = await chat.call("execute", command="exec <&-; echo shut; sleep 60", background=True)
    await chat.until(closed["process_id"], "shut")
    deaf, _ = await chat.call("execute", command="exec sleep 60", background=True)
    none, _ = await chat.call("execute", command="sleep 60", timeout_s=0.1)

    told = await chat.result("process_input", process_id=closed["process_id"], text="x\n")
    assert told.is_error
    assert isinstance(told.content[0], JsonPart)
    assert (told.content[0].value["written"], told.content[0].value["input_closed"]) == (0, True)
    again = await chat.result("process_input", process_id=closed["process_id"], text="x\n")
    assert again.text == (
        f"nothing can be written to process {closed['process_id']}: its input is closed"
    )
    much = {"process_id": deaf["process_id"], "text": "x" * 65_536, "timeout_s": 0}
    await chat.result("process_input", **much)
    full = await chat.result("process_input", **much)  # finds the pipe full
    assert full.is_error
    assert isinstance(full.content[0], JsonPart)
    assert full.content[0].value["written"] < 65_536
    never = await chat.result("process_input", process_id=none["process_id"], text="x")
    assert never.text.endswith("it was not started in the background")


async def test_another_chat_can_neither_see_nor_end_a_process(workspace: Path) -> None:
    mine, other = Chat(workspace), Chat(workspace, "chat-2")
    facts, _ = await mine.call("execute", command="sleep 60", background=True)

    assert await other.listed() == []
    for tool in ("process_output", "process_signal", "process_input"):
        result = await other.result(tool, process_id=facts["process_id"])
        assert result.is_error
        assert result.text.startswith(f"there is no process '{facts['process_id']}' in this chat.")
    assert [line["running"] for line in await mine.listed()] == [True]


async def test_the_list_tells_what_runs_and_how_the_others_ended(chat: Chat) -> None:
    runs, _ = await chat.call("execute", command="exec sleep 60", background=True)
    ended, _ = await chat.call("execute", command="exit 4", background=True)
    await chat.call("process_output", process_id=ended["process_id"], timeout_s=30)
    await chat.call("execute", command="echo not worth an id", timeout_s=30)

    lines = await chat.listed()

    assert [(line["process_id"], line["command"]) for line in lines] == [
        (runs["process_id"], "exec sleep 60"),
        (ended["process_id"], "exit 4"),
    ]
    assert [(line["running"], line["exit_code"]) for line in lines] == [(True, None), (False, 4)]


async def test_a_chat_has_only_so_many_processes(chat: Chat, workspace: Path) -> None:
    known = Processes()
    launch = await asyncio.to_thread(prepare, "sleep 60", workspace, ".")
    entries = [known.start(chat.chat_id, launch, with_input=False) for _ in range(PER_CHAT)]

    with pytest.raises(Refused, match="16 processes of this chat run already"):
        known.start(chat.chat_id, launch, with_input=False)
    known.start("chat-2", launch, with_input=False)
    await entries[0].end(None)
    known.start(chat.chat_id, launch, with_input=False)
    async with asyncio.timeout(30):
        await known.end_all("the test is over")


async def test_of_those_that_have_ended_only_the_last_are_kept(
    chat: Chat, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "KEPT_PER_CHAT", 2)
    command = "head -c 100000 /dev/zero"
    for _ in range(4):
        facts, _ = await chat.call("execute", command=command, timeout_s=30)
        assert facts["log"] == f".steersman/{facts['process_id']}.log"

    logs = sorted(path.name for path in (workspace / ".steersman").glob("*.log"))
    assert logs == sorted(f"{line['process_id']}.log" for line in await chat.listed())
    assert len(logs) == 3  # what was kept when the last one started, and that one


async def test_all_output_is_in_a_file_that_commits_leave_out(chat: Chat, workspace: Path) -> None:
    facts, text = await chat.call("execute", command="seq 100000", timeout_s=30)

    lines = "".join(f"{number}\n" for number in range(1, 100_001))
    assert (workspace / facts["log"]).read_text() == lines
    assert text.endswith(f"\n[all output is in {facts['log']}]")
    assert (workspace / ".steersman" / ".gitignore").read_text() == "*\n"
    owners = {
        path.owner() for path in (workspace, workspace / ".steersman", workspace / facts["log"])
    }
    assert len(owners) == 1


@pytest.mark.parametrize("offset", [1, 6, 43_000, 300_000, 588_000, 588_895, 10_000_000])
async def test_output_can_be_read_from_any_byte_on(chat: Chat, offset: int) -> None:
    facts, _ = await chat.call("execute", command="seq 100000", timeout_s=30)
    everything = "".join(f"{number}\n" for number in range(1, 100_001))

    shown, text = await chat.call("process_output", process_id=facts["process_id"], offset=offset)

    rest = everything[offset:]
    notes = text.index("\n[all output is") if "\n[all output is" in text else len(text)
    if not rest:
        assert text == "[no new output]"
    elif len(rest) <= 65_536:
        assert (text, shown["dropped_bytes"]) == (rest, 0)
    else:
        head, _, tail = text[: notes + 1].partition("\n[… ")
        tail = tail.partition("…]\n")[2]
        assert rest.startswith(head)
        assert rest.endswith(tail)
        assert shown["dropped_bytes"] == len(rest) - len(head) - len(tail)


@pytest.mark.parametrize("trap", ["link", "file", "closed"])
async def test_a_log_that_cannot_be_made_safely_is_not_made(
    chat: Chat, workspace: Path, trap: str
) -> None:
    folder = workspace / ".steersman"
    match trap:
        case "link":
            folder.symlink_to(workspace.parent / "outside")
        case "file":
            folder.write_text("mine")
        case _:
            folder.mkdir(mode=0o000)
            if os.geteuid() == 0:
                return  # nothing is closed to root

    facts, text = await chat.call("execute", command="seq 100000", timeout_s=30)

    assert "log" not in facts
    assert text.startswith("1\n2\n")
    assert text.endswith("\n100000\n")
    assert {path.name for path in (workspace.parent / "outside").iterdir()} == {
        "canary.txt",
        "folder",
    }


async def test_a_log_that_was_exchanged_is_not_read(chat: Chat, workspace: Path) -> None:
    facts, _ = await chat.call("execute", command="seq 100000", timeout_s=30)
    log = workspace / facts["log"]
    log.unlink()
    log.symlink_to(workspace.parent / "outside" / "canary.txt")

    shown, text = await chat.call("process_output", process_id=facts["process_id"], offset=1)

    assert "canary" not in text
    assert "bytes are kept nowhere" in text
    assert shown["dropped_bytes"] > 500_000


async def test_a_disk_that_gets_full_ends_the_command(workspace: Path) -> None:
    known = Processes()
    launch = await asyncio.to_thread(prepare, "exec sleep 60", workspace, ".", _NoRoom())
    entry = known.start("chat-1", launch, with_input=False)
    async with asyncio.timeout(30):
        await entry.process.exited.wait()
        await known.end_all("over")

    assert entry.process.exit_signal == "SIGKILL"
    assert entry.ended_because is not None
    assert entry.ended_because.startswith("the disk is almost full: ")


class _NoRoom(Unconfined):
    """Wants more space than there is on any disk."""

    @property
    def limits(self) -> Limits:
        return Limits(disk_reserve_bytes=1 << 60)


SERVICE = """
import asyncio, sys
from pathlib import Path
import steersman_plugin_exec
from steersman_contracts.sandbox import Limits, Unconfined
from steersman_contracts.testing import LocalContext, run_tool

async def serve():
    context = LocalContext(Path(sys.argv[1]), timeout_s=300)
    ready = "echo $$ > new; mv new pid; while :; do sleep 0.1; done"
    command = "trap 'echo bye > farewell; exit' TERM; " + ready
    arguments = {"command": command, "background": True}
    await run_tool(steersman_plugin_exec, "execute", arguments, context)
    while not (Path(sys.argv[1]) / "pid").exists():
        await asyncio.sleep(0.05)

asyncio.run(serve())
"""


def test_processes_are_asked_to_end_with_the_service(workspace: Path) -> None:
    subprocess.run([sys.executable, "-c", SERVICE, str(workspace)], check=True, timeout=40)

    assert (workspace / "farewell").read_text() == "bye\n"
    assert not alive(int((workspace / "pid").read_text()))


async def test_a_call_that_is_cancelled_while_it_waits_leaves_the_process(chat: Chat) -> None:
    facts, _ = await chat.call("execute", command="sleep 60", background=True)
    waiting = asyncio.create_task(
        chat.call("process_output", process_id=facts["process_id"], timeout_s=30)
    )
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    (line,) = await chat.listed()
    assert line["running"]


async def test_what_was_ended_from_outside_is_told(chat: Chat) -> None:
    facts, _ = await chat.call("execute", command="echo $$ up; exec sleep 60", background=True)
    await chat.until(facts["process_id"], " up\n")
    _, text = await chat.call("process_output", process_id=facts["process_id"], timeout_s=0)
    os.killpg(int(text.split()[0]), signal.SIGKILL)

    shown, _ = await chat.call("process_output", process_id=facts["process_id"], timeout_s=30)

    assert (shown["running"], shown["exit_code"], shown["signal"]) == (False, 137, "SIGKILL")
