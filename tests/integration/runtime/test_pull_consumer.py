"""Work hints are taken by whoever has capacity, and none is lost whatever happens to the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from integration.runtime.conftest import Connect
from integration.runtime.heard import Connection
from integration.runtime.streams import Stream, new_work_queue

from steersman.embedded.nats import NatsServer
from steersman_contracts.errors import DeadlineExceeded, Unavailable
from steersman_runtime.jetstream import Publisher, PublishRefused, PullConsumer, request
from steersman_runtime.nats_client import NatsClient


class Worker:
    """Takes hints until it is full; the test lets it finish them."""

    def __init__(self, client: NatsClient, stream: Stream, capacity: int) -> None:
        self._capacity = capacity
        self.busy: list[str] = []
        self.taken: asyncio.Queue[str] = asyncio.Queue()
        self.consumer = PullConsumer(
            client, stream.name, "turns", on_message=self._take, free=self._free
        )

    def _free(self) -> int:
        return self._capacity - len(self.busy)

    async def _take(self, subject: str) -> None:
        self.busy.append(subject.rsplit(".", 1)[1])
        assert len(self.busy) <= self._capacity
        self.taken.put_nowait(self.busy[-1])

    def finish(self, *names: str) -> None:
        for name in names:
            self.busy.remove(name)
        self.consumer.capacity_changed()

    async def next(self, count: int = 1) -> list[str]:
        async with asyncio.timeout(60):
            return [await self.taken.get() for _ in range(count)]

    @asynccontextmanager
    async def running(self, **intervals: float) -> AsyncGenerator[None]:
        task = asyncio.create_task(self.consumer.run(**intervals))
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def publish(client: NatsClient, stream: Stream, *names: str) -> None:
    """Publish each hint until it is confirmed, or refused because it lies there already."""
    publisher = Publisher(client, deadline_s=1)
    for name in names:
        async with asyncio.timeout(60):
            while True:
                try:
                    await publisher.publish(stream.subject(name), b"")
                    break
                except PublishRefused:
                    break
                except (Unavailable, DeadlineExceeded):
                    await asyncio.sleep(0.02)


async def consumer_state(client: NatsClient, stream: Stream) -> dict[str, Any]:
    _, answer = await request(client, f"$JS.API.CONSUMER.INFO.{stream.name}.turns", b"")
    return msgspec.json.decode(answer)


async def eventually(
    check: Callable[[dict[str, Any]], bool], client: NatsClient, stream: Stream
) -> None:
    """Ask the server until what we sent it has taken effect: there is nothing to wait for."""
    async with asyncio.timeout(60):
        while not check(await consumer_state(client, stream)):  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.01)


async def test_never_more_are_taken_than_there_is_room_for(client: NatsClient) -> None:
    stream = await new_work_queue(client)
    names = [str(number) for number in range(10)]
    await publish(client, stream, *names)
    worker = Worker(client, stream, capacity=3)

    async with worker.running():
        assert await worker.next(3) == names[:3]
        await eventually(lambda state: state["num_ack_pending"] == 0, client, stream)
        state = await consumer_state(client, stream)
        assert (state["num_pending"], state["delivered"]["consumer_seq"]) == (7, 3)

        worker.finish("1")
        assert await worker.next() == ["3"]
        worker.finish("0", "2", "3")
        assert await worker.next(3) == names[4:7]
        worker.finish(*names[4:7])
        assert await worker.next(3) == names[7:]


async def test_a_hint_that_comes_while_waiting_is_taken_at_once(client: NatsClient) -> None:
    stream = await new_work_queue(client)
    worker = Worker(client, stream, capacity=5)

    async with worker.running():
        await eventually(lambda state: state["num_waiting"] == 1, client, stream)
        for name in ("a", "b", "a"):
            await publish(client, stream, name)
            assert await worker.next() == [name]


async def test_requests_are_renewed_when_they_expire(client: NatsClient) -> None:
    stream = await new_work_queue(client)
    worker = Worker(client, stream, capacity=5)

    async with worker.running(expires_s=0.3, heartbeat_s=0.1):
        for number in range(4):
            await asyncio.sleep(0.35)  # not to synchronise: the time in which a request expires
            await publish(client, stream, str(number))
            assert await worker.next() == [str(number)]


async def test_two_workers_share_the_hints(new_client: Connect) -> None:
    first, second = await new_client(), await new_client()
    stream = await new_work_queue(first)
    names = {str(number) for number in range(20)}
    workers = [Worker(first, stream, capacity=10), Worker(second, stream, capacity=10)]

    async with workers[0].running(), workers[1].running():
        await publish(first, stream, *names)
        taken = await asyncio.gather(*(worker.next(10) for worker in workers))

    assert set(taken[0]) | set(taken[1]) == names


async def test_no_hint_is_lost_when_the_server_restarts(
    new_client: Connect, own_nats: NatsServer
) -> None:
    pulling, publishing = await new_client(own_nats), await new_client(own_nats)
    stream = await new_work_queue(pulling, ack_wait_s=1)
    worker = Worker(pulling, stream, capacity=1_000)
    names = [str(number) for number in range(60)]

    async with worker.running(expires_s=5, heartbeat_s=0.2):
        await publish(publishing, stream, "first")
        assert await worker.next() == ["first"]
        async with asyncio.TaskGroup() as group:
            group.create_task(publish(publishing, stream, *names))
            await worker.next(5)
            await asyncio.to_thread(own_nats.kill)
            await own_nats.start_async()
        await publish(publishing, stream, "last")

        async with asyncio.timeout(60):
            while not {*names, "last"} <= set(worker.busy):
                await worker.next()


async def test_a_hint_published_while_a_worker_is_cut_off_is_taken_when_it_is_back(
    new_client: Connect, own_nats: NatsServer
) -> None:
    pulling, publishing = await new_client(own_nats), await new_client(own_nats)
    connection = Connection(pulling)
    stream = await new_work_queue(pulling, ack_wait_s=1)
    worker = Worker(pulling, stream, capacity=10)

    async with worker.running(expires_s=30, heartbeat_s=1):
        await publish(publishing, stream, "before")
        assert await worker.next() == ["before"]
        await pulling.force_reconnect()
        await publish(publishing, stream, "meanwhile")
        assert await worker.next() == ["meanwhile"]
        await connection.back.wait()
        await publish(publishing, stream, "after")
        assert await worker.next() == ["after"]


async def test_what_was_published_before_any_worker_started_is_taken(client: NatsClient) -> None:
    stream = await new_work_queue(client)
    await publish(client, stream, "a", "b", "a")
    worker = Worker(client, stream, capacity=10)

    async with worker.running():
        assert await worker.next(2) == ["a", "b"]
