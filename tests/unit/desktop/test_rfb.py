"""What the client of RFB promises about what it has sent."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from steersman_desktop.rfb import RfbClient, RfbError, dial

PATIENCE_S = 60.0


async def test_what_is_drained_has_left_however_small_it_is() -> None:
    ours, its = socket.socketpair()
    its.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    client = RfbClient(reader, writer)
    sent = 0
    # Less than what asyncio takes for much, and more than the socket does.
    while not writer.transport.get_write_buffer_size():
        writer.write(bytes(8))
        sent += 8

    draining = asyncio.create_task(client.drain())
    await asyncio.sleep(0)
    early = draining.done()
    received = 0
    async with asyncio.timeout(PATIENCE_S):
        while not draining.done():
            received += len(await asyncio.get_running_loop().sock_recv(its, 1 << 16))
        left = writer.transport.get_write_buffer_size()
    await client.close()
    its.close()

    assert not early
    assert left == 0
    assert received <= sent


async def test_who_comes_while_others_are_being_let_in_waits_for_a_place(tmp_path: Path) -> None:
    path = str(tmp_path / "rfb")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(0)
        server.setblocking(False)
        first, queued = await dial(f"unix:{path}")
        waiting = asyncio.create_task(dial(f"unix:{path}"))
        await asyncio.sleep(0)
        early = waiting.done()
        async with asyncio.timeout(PATIENCE_S):
            loop = asyncio.get_running_loop()
            let_in = [(await loop.sock_accept(server))[0] for _ in range(2)]
            reader, writer = await waiting
            let_in[1].send(b"RFB 003.008\n")
            heard = await reader.readexactly(12)
    for stream in (queued, writer):
        stream.close()
    for accepted in let_in:
        accepted.close()

    assert not early
    assert heard == b"RFB 003.008\n"
    assert not first.at_eof()


async def test_where_nobody_answers_that_is_said(tmp_path: Path) -> None:
    for address in (f"unix:{tmp_path / 'none'}", "127.0.0.1:port"):
        with pytest.raises(RfbError, match="no VNC server answers at"):
            await dial(address)
