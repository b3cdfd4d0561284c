"""Publishing, reading a subject, and looking after streams, on a real server."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest
from integration.runtime.conftest import Connect
from integration.runtime.heard import Connection, Heard, new_subject
from integration.runtime.streams import new_stream, new_work_queue

from steersman.embedded.nats import NatsServer
from steersman_contracts.errors import DeadlineExceeded, Unavailable
from steersman_runtime.jetstream import (
    ALREADY_SCHEDULED,
    Publisher,
    PublishRefused,
    StoredMessage,
    StreamFailed,
    delete_messages,
    ensure_consumer,
    ensure_stream,
    last_sequence,
    purge_subject,
    read_subject,
    request,
    stream_info,
)
from steersman_runtime.nats_client import NatsClient, encode_headers, header


class Read:
    """Collects the messages of a subject."""

    def __init__(self) -> None:
        self.messages: list[StoredMessage] = []

    def __call__(self, message: StoredMessage) -> None:
        self.messages.append(message)

    @property
    def sequences(self) -> list[int]:
        return [message.seq for message in self.messages]


async def fill(client: NatsClient, subject: str, count: int) -> list[int]:
    publisher = Publisher(client, deadline_s=30)
    return await asyncio.gather(
        *(publisher.publish(subject, b"%d" % number) for number in range(count))
    )


async def test_publishes_are_stored_in_order_without_waiting(client: NatsClient) -> None:
    stream = await new_stream(client)
    publisher = Publisher(client, deadline_s=30)

    futures = [
        publisher.publish(stream.subject(n % 3), b"%d" % n, headers=encode_headers({"N": str(n)}))
        for n in range(300)
    ]

    assert not any(future.done() for future in futures)
    assert await asyncio.gather(*futures) == list(range(1, 301))
    read = Read()
    await read_subject(client, stream.name, stream.subject(0), on_message=read)
    assert [message.payload for message in read.messages] == [b"%d" % n for n in range(0, 300, 3)]
    assert header(read.messages[1].headers, b"N") == b"3"
    assert {message.subject for message in read.messages} == {stream.subject(0)}


async def test_a_subject_that_no_stream_takes_is_unavailable(client: NatsClient) -> None:
    with pytest.raises(Unavailable):
        await Publisher(client).publish(new_subject(), b"")


async def test_a_refused_publish_carries_the_servers_error_code(client: NatsClient) -> None:
    stream = await new_work_queue(client)
    publisher = Publisher(client, deadline_s=30)

    first, second, other = (
        publisher.publish(stream.subject(chat), b"") for chat in ("a", "a", "b")
    )

    assert (await first, await other) == (1, 2)
    with pytest.raises(PublishRefused) as refused:
        await second
    assert refused.value.details == {"err_code": ALREADY_SCHEDULED}


async def test_each_publish_has_a_deadline(client: NatsClient) -> None:
    silent = new_subject()
    client.listen(silent, Heard())  # somebody listens, and nobody confirms
    stream = await new_stream(client)
    hasty, patient = Publisher(client, deadline_s=0.2), Publisher(client, deadline_s=30)

    lost = [hasty.publish(silent, b"") for _ in range(3)]
    stored = patient.publish(stream.subject("a"), b"")

    assert await stored == 1
    for future in lost:
        with pytest.raises(DeadlineExceeded):
            await future
    assert await patient.publish(stream.subject("a"), b"") == 2


async def test_confirmations_that_died_with_the_connection_fail_at_once(
    new_client: Connect, own_nats: NatsServer
) -> None:
    client = await new_client(own_nats)
    silent = new_subject()
    client.listen(silent, Heard())
    publisher = Publisher(client, deadline_s=600)
    futures = [publisher.publish(silent, b"") for _ in range(64)]
    await client.flush()

    await asyncio.to_thread(own_nats.kill)

    async with asyncio.timeout(60):
        for future in futures:
            with pytest.raises(Unavailable):
                await future


async def test_publishing_goes_on_after_a_restart(
    new_client: Connect, own_nats: NatsServer
) -> None:
    client = await new_client(own_nats)
    connection = Connection(client)
    stream = await new_stream(client)
    publisher = Publisher(client, deadline_s=30)
    assert await publisher.publish(stream.subject("a"), b"") == 1

    await asyncio.to_thread(own_nats.kill)
    await connection.lost.wait()
    waiting = publisher.publish(stream.subject("a"), b"")
    await own_nats.start_async()
    await connection.back.wait()
    with contextlib.suppress(Unavailable):  # JetStream may need a moment longer than NATS
        await waiting

    async with asyncio.timeout(60):
        while True:
            try:
                await publisher.publish(stream.subject("b"), b"")
                break
            except Unavailable:
                await asyncio.sleep(0.01)
    assert await last_sequence(client, stream.name, stream.subject("b")) >= 2


@pytest.mark.parametrize("batch", [1, 7, 10, 500])
async def test_a_subject_is_read_in_batches_without_gap_or_repeat(
    batch: int, client: NatsClient
) -> None:
    stream = await new_stream(client)
    mine, other = stream.subject("mine"), stream.subject("other")
    publisher = Publisher(client, deadline_s=30)
    await asyncio.gather(*(publisher.publish(other if n % 2 else mine, b"") for n in range(40)))
    odd = list(range(1, 41, 2))

    everything, rest = Read(), Read()
    last = await read_subject(client, stream.name, mine, on_message=everything, batch=batch)
    await read_subject(client, stream.name, mine, after=19, on_message=rest, batch=batch)

    assert (last, everything.sequences) == (39, odd)
    assert rest.sequences == [seq for seq in odd if seq > 19]


async def test_nothing_to_read_gives_the_position_back(client: NatsClient) -> None:
    stream = await new_stream(client)
    await fill(client, stream.subject("a"), 3)
    read = Read()

    assert await read_subject(client, stream.name, stream.subject("b"), on_message=read) == 0
    after_all = await read_subject(
        client, stream.name, stream.subject("a"), after=3, on_message=read
    )
    ahead = await read_subject(client, stream.name, stream.subject("a"), after=9, on_message=read)

    assert (after_all, ahead, read.messages) == (3, 9, [])


async def test_reading_since_a_time_begins_there(client: NatsClient) -> None:
    stream = await new_stream(client)
    subject = stream.subject("a")
    await fill(client, subject, 3)
    everything = Read()
    await read_subject(client, stream.name, subject, on_message=everything)
    stored_at = header(everything.messages[1].headers, b"Nats-Time-Stamp")
    assert stored_at is not None
    await fill(client, subject, 3)

    late, never = Read(), Read()
    await read_subject(
        client, stream.name, subject, since=stored_at.decode(), on_message=late, batch=2
    )
    future = datetime(2200, 1, 1, tzinfo=UTC).isoformat()
    assert await read_subject(client, stream.name, subject, since=future, on_message=never) == 0

    assert late.sequences == [2, 3, 4, 5, 6]
    assert never.messages == []


async def test_reading_a_stream_that_is_not_there_is_unavailable(client: NatsClient) -> None:
    with pytest.raises(Unavailable):
        await read_subject(client, "NONE", "none.a", on_message=Read())


async def test_a_stream_is_created_then_brought_to_its_configuration(client: NatsClient) -> None:
    stream = await new_stream(client, max_age=10**9)
    await fill(client, stream.subject("a"), 2)
    config = {"name": stream.name, "subjects": [stream.subject("*")], "allow_direct": True}

    await ensure_stream(client, config)
    await ensure_stream(client, config)

    info = await stream_info(client, stream.name)
    assert (info.first_seq, info.last_seq) == (1, 2)
    assert datetime.fromisoformat(info.created.split(".")[0]).year >= 2024
    with pytest.raises(StreamFailed):
        await ensure_stream(client, config | {"retention": "workqueue"})
    with pytest.raises(StreamFailed):
        await ensure_consumer(client, "NONE", {"durable_name": "turns", "ack_policy": "explicit"})
    with pytest.raises(StreamFailed):
        await stream_info(client, "NONE")


async def test_purging_a_subject_leaves_the_others(client: NatsClient) -> None:
    stream = await new_stream(client)
    await fill(client, stream.subject("a"), 3)
    await fill(client, stream.subject("b"), 3)

    await purge_subject(client, stream.name, stream.subject("a"))
    await purge_subject(client, stream.name, stream.subject("b"), keep=1)

    a, b = Read(), Read()
    await read_subject(client, stream.name, stream.subject("a"), on_message=a)
    await read_subject(client, stream.name, stream.subject("b"), on_message=b)
    assert (a.sequences, b.sequences) == ([], [6])
    assert await last_sequence(client, stream.name, stream.subject("a")) == 0
    assert await last_sequence(client, stream.name, stream.subject("b")) == 6


async def test_messages_are_deleted_one_by_one_and_those_that_are_gone_do_not_matter(
    client: NatsClient,
) -> None:
    stream = await new_stream(client)
    subject = stream.subject("a")
    sequences = await fill(client, subject, 150)
    kept = sequences[::50]
    doomed = [seq for seq in sequences if seq not in kept]

    await delete_messages(client, stream.name, doomed)
    await delete_messages(client, stream.name, doomed[:3])

    read = Read()
    await read_subject(client, stream.name, subject, on_message=read)
    assert read.sequences == kept
    with pytest.raises(StreamFailed):
        await delete_messages(client, f"{stream.name}-none", [1])


async def test_a_request_without_anybody_or_without_an_answer_fails(client: NatsClient) -> None:
    silent = new_subject()
    client.listen(silent, Heard())

    with pytest.raises(Unavailable):
        await request(client, new_subject(), b"")
    with pytest.raises(DeadlineExceeded):
        await request(client, silent, b"", deadline_s=0.05)
