"""What the client of RFB promises about what it has sent."""

from __future__ import annotations

import asyncio
import socket

from steersman_desktop.rfb import RfbClient

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
