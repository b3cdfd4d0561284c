"""A VNC server of somebody else, with a password, in place of a desktop of our own."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from integration.desktop.harness import (
    ANN,
    LOOK,
    PATIENCE_S,
    Caller,
    alone,
    needs_xvnc,
)

from steersman.embedded.nats import NatsServer
from steersman_contracts import desktop as actions
from steersman_contracts.errors import Forbidden, InvalidRequest, TooManyRequests, Unavailable
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc.desktop import ActionReply, Desktop
from steersman_contracts.rpc.desktop_chats import ServerSecret
from steersman_contracts.rpc.desktop_files import LIST_FILES, ListFiles
from steersman_contracts.rpc.desktop_servers import CHECK_SERVER, CheckServer
from steersman_desktop.foreign import TAKEN, ServerLeases, lease_of
from steersman_desktop.vnc_auth import answer
from steersman_runtime.nats_client import close, connect
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
async def server(folder: Path, *, tcp: bool = False) -> AsyncGenerator[str]:
    """An Xvnc that wants a password, on a Unix socket or at the port that belongs to its number."""
    socket = ("-rfbport", "-1", "-rfbunixpath", str(folder / "rfb"))
    password = folder / "passwd"
    encrypted = answer(PASSWORD.encode().ljust(8, b"\0") * 2, _FILE_KEY)
    password.write_bytes(encrypted[:8])
    ours, its = os.pipe()
    process = await asyncio.create_subprocess_exec(
        "Xvnc",
        *("-displayfd", str(its)),
        *(("-interface", "127.0.0.1") if tcp else socket),
        *("-SecurityTypes", "VncAuth", "-PasswordFile", str(password)),
        *("-geometry", "640x480", "-depth", "24", "-nolisten", "tcp"),
        pass_fds=[its],
        stderr=asyncio.subprocess.DEVNULL,
    )
    os.close(its)
    try:
        async with asyncio.timeout(PATIENCE_S):
            number = int(await asyncio.to_thread(os.read, ours, 10))
        yield f"127.0.0.1:{5900 + number}" if tcp else f"unix:{folder / 'rfb'}"
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


async def test_a_wrong_password_of_the_deployment_is_said_and_mended_by_the_right_one(
    own_nats: NatsServer, run_dir: Path, own_uid_base: int
) -> None:
    url, chat_id = own_nats.url(), ChatId(str(uuid.uuid4()))

    async def looks(address: str, password: str) -> tuple[ActionReply, Desktop]:
        configured: dict[str, Any] = {"vnc_address": address, "vnc_password": Secret(password)}
        async with alone(url, run_dir, own_uid_base, **configured) as (_, client):
            caller = Caller(client, chat_id)
            return await caller.act(LOOK), await caller.get()

    async with server(run_dir) as address:
        refused, failed = await looks(address, "gu3ssed")
        seen, ready = await looks(address, PASSWORD)

    assert (refused.is_error, refused.picture) == (True, None)
    assert refused.text.startswith("the VNC server refused: ")
    assert (failed.state, failed.reason) == ("failed", refused.text)
    assert "gu3ssed" not in refused.text
    assert (seen.is_error, ready.state) == (False, "ready")


async def test_a_chat_may_have_a_server_that_the_administrator_allows(
    own_nats: NatsServer, run_dir: Path, own_uid_base: int
) -> None:
    async with (
        server(run_dir, tcp=True) as local,
        alone(own_nats.url(), run_dir, own_uid_base, vnc_allowed="127.0.0.1/32") as (desktop, rpc),
    ):
        caller, second, wrong, forbidden = (Caller(rpc) for _ in range(4))
        desktop.chats.servers |= {
            caller.chat_id: ServerSecret(local, PASSWORD),
            wrong.chat_id: ServerSecret(local, "no"),
            forbidden.chat_id: ServerSecret("127.0.0.1:22"),
            second.chat_id: ServerSecret(local, PASSWORD),
        }
        state = await caller.start()
        await caller.act(actions.MouseMove((9, 8)))
        where = await caller.act(actions.CursorPosition())
        own = await Caller(rpc).start((640, 480))
        taken = await second.act(actions.MouseMove((1, 1)))
        unmoved = await caller.act(actions.CursorPosition())
        await caller.stop()
        failed = [await each.act(LOOK) for each in (wrong, forbidden)]
        free = await second.act(LOOK)
        await second.stop()
        await caller.start()
        reasons = [(await each.get()).reason for each in (wrong, forbidden)]
        with pytest.raises(Unavailable, match="takes and gives no files"):
            await rpc.call(LIST_FILES, ListFiles(ANN, caller.chat_id))
        check = CheckServer(ANN, caller.chat_id, local)
        assert await rpc.call(CHECK_SERVER, check) == Nothing()
        for address, refusal in (("127.0.0.1:22", Forbidden), ("unix:/tmp/x", InvalidRequest)):
            with pytest.raises(refusal):
                await rpc.call(CHECK_SERVER, CheckServer(ANN, caller.chat_id, address))

    assert (state.state, state.width, state.height) == ("ready", 640, 480)
    assert (taken.is_error, taken.text) == (True, TAKEN)
    assert (where.text, unmoved.text) == ("X=9,Y=8", "X=9,Y=8")
    assert own.state == "ready"
    assert free.picture is not None
    assert [reply.is_error for reply in failed] == [True, True]
    assert [reply.text for reply in failed] == reasons
    assert reasons[0].startswith("the VNC server refused: ")
    assert reasons[1].startswith("this deployment does not allow the VNC server 127.0.0.1:22; ")
    assert not any(PASSWORD in reason for reason in reasons)


async def test_of_two_that_want_a_server_at_once_one_gets_it(own_nats: NatsServer) -> None:
    client = await connect(
        own_nats.url(), name="desktop", inbox_prefix="_INBOX_d", on_closed=lambda: None
    )
    one, other = (ServerLeases(client, name) for name in ("host-1", "host-2"))
    chats = [ChatId(str(uuid.uuid4())) for _ in range(3)]
    takers = ((one, chats[0]), (one, chats[1]), (other, chats[2]))
    found = await asyncio.gather(
        *(leases.take(chat, "10.0.0.1:5900") for leases, chat in takers), return_exceptions=True
    )
    (winner,) = (taker for taker, result in zip(takers, found, strict=True) if result is None)
    losers = [taker for taker in takers if taker != winner]
    await winner[0].take(winner[1], "10.0.0.1:5900")  # again, as a screen that died asks
    kept = [await leases.renew(chat) for leases, chat in takers]
    with pytest.raises(Unavailable, match="another chat uses this VNC server"):
        await losers[0][0].take(losers[0][1], "10.0.0.1:5900")
    await losers[0][0].take(losers[0][1], "10.0.0.1:5901")
    await winner[0].take(winner[1], "10.0.0.2:5900")  # and so leaves the first
    await losers[1][0].take(losers[1][1], "10.0.0.1:5900")
    for leases, chat in takers:
        await leases.leave(chat)
    await one.take(chats[0], "10.0.0.1:5900")
    await close(client)

    assert [str(result) for result in found if result is not None] == [TAKEN, TAKEN]
    assert kept == [True, True, True]  # who has none keeps none
    assert lease_of("unix:/tmp/x", lambda: "a") != lease_of("unix:/tmp/x", lambda: "b")
