"""Streamed replies: progress, signs of life, and an end in any case."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from integration.runtime.conftest import Connect
from integration.runtime.heard import Heard
from integration.runtime.rpc_service import Answer, Ask, Step, new_method, serving

from steersman_contracts.errors import Conflict, DeadlineExceeded, Unavailable
from steersman_contracts.rpc import FRAME_HEADER, HEARTBEAT_S, Method
from steersman_runtime.nats_client import NatsClient, encode_headers, header
from steersman_runtime.rpc import Frames, RpcClient, last_reply


@pytest.fixture
async def rpc(new_client: Connect) -> RpcClient:
    return RpcClient(await new_client())


async def streamed(
    rpc: RpcClient, method: Method[Ask, Answer], ask: Ask, on_progress: Callable[[Step], None]
) -> Answer:
    stream = rpc.stream(method, ask, Step)
    return await last_reply(stream, Answer, on_progress)  # pyright: ignore[reportArgumentType, reportReturnType]  # it may swap the members of a union


async def count(ask: Ask, frames: Frames) -> Answer:
    for number in range(int(ask.text)):
        frames.progress(Step(number))
    return Answer("done")


async def test_progress_comes_in_order_and_then_the_reply(
    client: NatsClient, rpc: RpcClient
) -> None:
    method = new_method()

    async with serving(client, method, stream=count):
        frames = [frame async for frame in rpc.stream(method, Ask("50"), Step)]

    assert frames == [*(Step(number) for number in range(50)), Answer("done")]


async def test_last_reply_hands_progress_over_and_returns_the_reply(
    client: NatsClient, rpc: RpcClient
) -> None:
    method = new_method()
    seen: list[Step] = []

    async with serving(client, method, stream=count):
        answer = await streamed(rpc, method, Ask("2"), seen.append)

    assert (answer, seen) == (Answer("done"), [Step(0), Step(1)])


async def test_an_error_ends_the_stream_with_its_class(client: NatsClient, rpc: RpcClient) -> None:
    method = new_method()

    async def fail(_: Ask, frames: Frames) -> Answer:
        frames.progress(Step(1))
        raise Conflict("no", why="because")

    seen: list[Step] = []
    async with serving(client, method, stream=fail):
        with pytest.raises(Conflict) as refused:
            await streamed(rpc, method, Ask(), seen.append)

    assert seen == [Step(1)]
    assert refused.value.details == {"why": "because"}


async def test_a_running_request_shows_soon_that_it_lives(
    client: NatsClient, new_client: Connect
) -> None:
    method, heard, end = new_method(), Heard(), asyncio.Event()
    watching = await new_client()

    async def wait(_: Ask, __: Frames) -> Answer:
        await end.wait()
        return Answer("done")

    async with serving(client, method, stream=wait):
        watching.send(method.subject, b"{}", reply=watching.open_reply(heard))
        first = await heard.next()
        end.set()
        last = await heard.next()

    assert header(first.headers, FRAME_HEADER.encode()) == b"heartbeat"
    assert last.payload == b'{"text":"done"}'


async def test_a_stream_has_a_deadline_too(client: NatsClient, rpc: RpcClient) -> None:
    method, cancelled = new_method(), asyncio.Event()

    async def wait(_: Ask, __: Frames) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return Answer("never")

    async with serving(client, method, stream=wait):
        with pytest.raises(DeadlineExceeded):
            await anext(rpc.stream(method, Ask(), Step, deadline_s=0.2))
        async with asyncio.timeout(60):
            await cancelled.wait()


async def test_a_server_that_has_gone_silent_is_unavailable(
    client: NatsClient, rpc: RpcClient
) -> None:
    """Takes two heartbeats, which is what a caller of a killed server waits."""
    method = new_method()
    heartbeat = encode_headers({FRAME_HEADER: "heartbeat"})

    def die_young(_: bytes, reply: bytes, __: bytes, ___: bytes) -> None:
        client.send(reply.decode(), b"", headers=heartbeat)

    client.listen(method.subject, die_young)
    await client.flush()

    async with asyncio.timeout(2 * HEARTBEAT_S + 30):
        with pytest.raises(Unavailable) as gone:
            await anext(rpc.stream(method, Ask(), Step, deadline_s=60))
    assert gone.value.details == {"service": method.service, "started": True}


async def test_a_server_that_never_shows_itself_is_given_up_as_soon_as_the_caller_likes(
    client: NatsClient, rpc: RpcClient
) -> None:
    method = new_method()
    heard = Heard()
    client.listen(method.subject, heard)
    await client.flush()

    stream = rpc.stream(method, Ask(), Step, deadline_s=HEARTBEAT_S, first_frame_s=0.1)
    with pytest.raises(Unavailable) as gone:  # by its deadline it would be another error
        await anext(stream)

    assert gone.value.details == {"service": method.service, "started": True}
