"""The service is killed in the middle of an action: nothing is left, and the next one works."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from integration.desktop.harness import (
    LOOK,
    Caller,
    ChatBook,
    alone,
    calling,
    needs_xvnc,
    processes_of,
    store_of,
    until,
    until_gone,
)

from steersman.embedded.nats import NatsServer
from steersman_contracts import desktop as actions

pytestmark = [needs_xvnc, pytest.mark.timeout(180)]


@asynccontextmanager
async def process(
    nats: NatsServer, run_dir: Path, uid_base: int
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """`python -m steersman_desktop`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "steersman_desktop",
            env={
                "PATH": os.environ["PATH"],
                "STEERSMAN_NATS_URL": nats.url(),
                "STEERSMAN_LISTEN": f"fd:{listener.fileno()}",
                "STEERSMAN_DESKTOP_RUN_DIR": str(run_dir),
                "STEERSMAN_DESKTOP_UID_BASE": str(uid_base),
            },
            pass_fds=[listener.fileno()],
        )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def test_kill_9_in_the_middle_of_an_action(
    own_nats: NatsServer, run_dir: Path, own_uid_base: int
) -> None:
    async with calling(own_nats.url()) as rpc:
        caller = Caller(rpc)
        async with (
            store_of(own_nats.url(), ChatBook()),
            process(own_nats, run_dir, own_uid_base) as first,
        ):
            await caller.start((640, 480))
            await caller.act(actions.MouseMove((5, 5)))
            holding = asyncio.create_task(caller.act(actions.Wait(300.0)))
            assert len(processes_of(run_dir)) >= 2  # for a moment also what they start
            await caller.get()  # the action was asked for before this
            first.kill()
            await first.wait()
        await until_gone(run_dir)
        holding.cancel()

        # The next one, in this process: it costs seconds to start another.
        async with alone(own_nats.url(), run_dir, own_uid_base):
            seen = await caller.act(LOOK)

            assert seen.picture is not None
            await until(lambda: len(processes_of(run_dir)) == 2)
            assert (await caller.get()).generation == 1
