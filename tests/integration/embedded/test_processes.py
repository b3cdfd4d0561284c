import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from steersman.processes import RestartPolicy, describe_exit

STAND_IN = Path(__file__).parent / "stand_in.py"

AllGone = Callable[[list[int]], bool]


class StandIn:
    """A running supervisor and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []

    async def until(self, **wanted: object) -> dict[str, Any]:
        """Read on to the first report with these values."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while line := await self.process.stdout.readline():
                self.said.append(json.loads(line))
                if wanted.items() <= self.said[-1].items():
                    return self.said[-1]
        raise AssertionError(f"never said: {wanted}")

    async def line_of(self, name: str, first_word: str) -> int:
        """The number that follows a word which one of the processes wrote."""
        while True:
            words = str((await self.until(event="line", name=name))["line"]).split()
            if words[0] == first_word:
                return int(words[1])

    async def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        await self.process.wait()


@asynccontextmanager
async def supervising(*kinds: str) -> AsyncGenerator[StandIn]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(STAND_IN), *kinds, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield StandIn(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_killed_supervisor_leaves_no_child(all_gone: AllGone) -> None:
    async with supervising("plain", "stubborn") as supervisor:
        pids = [(await supervisor.until(event="started", name="plain"))["pid"]]
        pids.append((await supervisor.until(event="started", name="stubborn"))["pid"])
        await supervisor.until(event="line", line="ignoring")

        await supervisor.end(signal.SIGKILL)

    assert all_gone(pids)


async def test_stopping_ends_also_what_does_not_want_to_end(all_gone: AllGone) -> None:
    async with supervising("stubborn", "parent") as supervisor:
        pids = [(await supervisor.until(event="started", name=n))["pid"] for n in ("stubborn",)]
        pids.append(await supervisor.line_of("parent", "helper"))
        pids.append(await supervisor.line_of("parent", "daemon"))

        supervisor.process.terminate()
        await supervisor.until(event="stopped")

        assert all_gone(pids)
        reports = [str(s.get("line")) for s in supervisor.said if s.get("name") == "stubborn"]
        assert "did not end within 0.2 s and is killed" in reports


async def test_a_process_that_ends_is_reported_and_started_again(all_gone: AllGone) -> None:
    async with supervising("parent") as supervisor:
        pid = (await supervisor.until(event="started"))["pid"]
        helper = await supervisor.line_of("parent", "helper")

        os.kill(pid, signal.SIGKILL)

        ended = await supervisor.until(event="ended", name="parent")
        again = await supervisor.until(event="started", name="parent")
        assert (ended["code"], ended["again_in_s"]) == (-9, 0.01)
        assert again["starts"] == 2
        assert again["pid"] != pid
        assert all_gone([helper])


async def test_a_process_that_keeps_failing_is_started_ever_more_slowly() -> None:
    async with supervising("brief") as supervisor:
        delays = [(await supervisor.until(event="ended"))["again_in_s"] for _ in range(4)]
        lines = [said["line"] for said in supervisor.said if said["event"] == "line"]
    assert delays == [0.01, 0.02, 0.04, 0.04]
    assert "last words" in lines


def test_a_process_that_was_healthy_is_started_again_at_once() -> None:
    policy = RestartPolicy()
    assert policy.delay_s(None, 0) == 0.2
    assert policy.delay_s(0.2, 1) == 0.4
    assert policy.delay_s(6.4, 1) == 10
    assert policy.delay_s(10, 1) == 10
    assert policy.delay_s(10, 31) == 0.2


def test_exit_statuses_are_put_into_words() -> None:
    assert describe_exit(3) == "ended with status 3"
    assert describe_exit(-9) == "was ended by SIGKILL"
