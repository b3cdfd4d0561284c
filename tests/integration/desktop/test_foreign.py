"""A VNC server of somebody else, with a password, in place of a desktop of our own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from integration.desktop.harness import (
    LOOK,
    PATIENCE_S,
    Caller,
    alone,
    needs_xvnc,
)

from steersman.embedded.nats import NatsServer
from steersman_contracts import desktop as actions
from steersman_contracts.errors import TooManyRequests
from steersman_desktop.vnc_auth import answer
from steersman_runtime.settings import Secret

pytestmark = needs_xvnc
PASSWORD = "s3cret"
# The key that every VNC program hides the password in its file with.
_FILE_KEY = bytes((23, 82, 107, 6, 35, 78, 88, 7)).decode("latin-1")


def test_the_answer_to_a_challenge_is_that_of_every_vnc_program() -> None:
    # RFC 6143 has no example; this is one of DES itself, with its key mirrored.
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in bytes.fromhex("0123456789abcdef"))
    plain = bytes.fromhex("4e6f772069732074")

    assert answer(plain * 2, key.decode("latin-1")) == bytes.fromhex("3fa40e8a984d4815") * 2


@asynccontextmanager
async def server(folder: Path) -> AsyncGenerator[str]:
    """An Xvnc that wants a password, on a Unix socket."""
    password = folder / "passwd"
    encrypted = answer(PASSWORD.encode().ljust(8, b"\0") * 2, _FILE_KEY)
    password.write_bytes(encrypted[:8])
    ours, its = os.pipe()
    process = await asyncio.create_subprocess_exec(
        "Xvnc",
        *("-displayfd", str(its), "-rfbport", "-1", "-rfbunixpath", str(folder / "rfb")),
        *("-SecurityTypes", "VncAuth", "-PasswordFile", str(password)),
        *("-geometry", "640x480", "-depth", "24", "-nolisten", "tcp"),
        pass_fds=[its],
        stderr=asyncio.subprocess.DEVNULL,
    )
    os.close(its)
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert (await asyncio.to_thread(os.read, ours, 10)).strip().isdigit()
        yield f"unix:{folder / 'rfb'}"
    finally:
        os.close(ours)
        process.terminate()
        await process.wait()


async def test_it_is_seen_and_used(own_nats: NatsServer, run_dir: Path, own_uid_base: int) -> None:
    async with (
        server(run_dir) as address,
        alone(
            own_nats.url(),
            run_dir,
            own_uid_base,
            vnc_address=address,
            vnc_password=Secret(PASSWORD),
        ) as (_, rpc),
    ):
        caller = Caller(rpc)
        state = await caller.start()
        seen = await caller.act(LOOK)
        moved = await caller.act(actions.MouseMove((9, 8)))
        where = await caller.act(actions.CursorPosition())
        typed = await caller.act(actions.TypeText("abc ÄÖ"))
        strange = await caller.act(actions.TypeText("漢字仮名交文日本語中国人大小上下"))
        with pytest.raises(TooManyRequests):
            await Caller(rpc).start()
        await caller.stop()

    assert (state.state, state.width, state.height) == ("ready", 640, 480)
    assert seen.picture is not None
    assert not moved.is_error
    assert where.text == "X=9,Y=8"
    assert not typed.is_error
    assert strange.is_error
    assert "cannot type so many different characters" in strange.text


async def test_a_wrong_password_is_said(
    own_nats: NatsServer, run_dir: Path, own_uid_base: int
) -> None:
    async with (
        server(run_dir) as address,
        alone(
            own_nats.url(), run_dir, own_uid_base, vnc_address=address, vnc_password=Secret("no")
        ) as (_, rpc),
    ):
        refused = await Caller(rpc).act(LOOK)

    assert refused.is_error
    assert refused.text.startswith("the VNC server refused: ")
