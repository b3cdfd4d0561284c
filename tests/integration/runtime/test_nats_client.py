"""Listeners, writes and reconnects on a real server: what we lean on in nats-py holds."""

from __future__ import annotations

import asyncio

import pytest
from integration.runtime.conftest import Connect
from integration.runtime.heard import Connection, Heard, new_subject

from steersman.embedded.nats import NatsServer
from steersman_contracts.errors import PayloadTooLarge, Unavailable
from steersman_runtime.nats_client import NatsClient, close, connect, encode_headers, header


async def test_a_listener_gets_subject_reply_headers_and_payload(client: NatsClient) -> None:
    subject, heard = new_subject(), Heard()
    client.listen(subject, heard)

    client.send(subject, b"plain")
    client.send(subject, b"\x00\r\n\xff", reply="r.1", headers=encode_headers({"A": "b\r\nc"}))

    plain, full = await heard.next(), await heard.next()
    assert plain == (subject, "", b"", b"plain")
    assert (full.subject, full.reply, full.payload) == (subject, "r.1", b"\x00\r\n\xff")
    assert header(full.headers, b"A") == b"b  c"


async def test_after_unlisten_nothing_arrives(client: NatsClient) -> None:
    subject, heard, other = new_subject(), Heard(), Heard()
    number = client.listen(subject, heard)
    client.listen(subject, other)

    client.send(subject, b"1")
    await other.next()
    client.unlisten(number)
    client.send(subject, b"2")
    await other.next()

    assert await heard.payloads(1) == [b"1"]
    assert heard.messages.empty()


async def test_a_queue_group_shares_messages(new_client: Connect) -> None:
    subject, heard = new_subject(), Heard()
    for _ in range(3):
        member = await new_client()
        member.listen(subject, heard, queue="group")
        await member.flush()
    sender = await new_client()

    for number in range(30):
        sender.send(subject, b"%d" % number)

    payloads = await heard.payloads(30)
    assert sorted(map(int, payloads)) == list(range(30))


async def test_a_listener_that_raises_does_not_end_the_read_loop(client: NatsClient) -> None:
    subject, heard = new_subject(), Heard()

    def broken(_: bytes, __: bytes, ___: bytes, ____: bytes) -> None:
        raise RuntimeError("a bug")

    client.listen(subject, broken)
    client.listen(subject, heard)
    for payload in (b"1", b"2"):
        client.send(subject, payload)

    assert await heard.payloads(2) == [b"1", b"2"]


async def test_subscriptions_of_natspy_work_beside_listeners(client: NatsClient) -> None:
    subject, heard = new_subject(), Heard()
    client.listen(subject, heard)
    plain = await client.subscribe(subject)  # pyright: ignore[reportUnknownMemberType]  # untyped in nats-py

    await client.publish(subject, b"from nats-py", headers={"A": "b"})
    client.send(subject, b"from us")

    assert await heard.payloads(2) == [b"from nats-py", b"from us"]
    first, second = await plain.next_msg(30), await plain.next_msg(30)
    assert (first.data, first.headers) == (b"from nats-py", {"A": "b"})
    assert second.data == b"from us"


async def test_what_was_written_before_a_flush_has_arrived_after_it(new_client: Connect) -> None:
    listening, sending = await new_client(), await new_client()

    for _ in range(100):
        subject, heard = new_subject(), Heard()
        number = listening.listen(subject, heard)
        await listening.flush()
        sending.send(subject, b"x")
        assert await heard.payloads(1) == [b"x"]
        listening.unlisten(number)


async def test_listeners_and_waiting_writes_survive_a_reconnect(
    new_client: Connect, own_nats: NatsServer
) -> None:
    client = await new_client(own_nats)
    connection = Connection(client)
    before, during, after = new_subject(), new_subject(), new_subject()
    heard, gone = Heard(), Heard()
    client.listen(before, heard)
    unlistened = client.listen(before, gone)

    await asyncio.to_thread(own_nats.kill)
    await connection.lost.wait()
    client.listen(during, heard)
    client.unlisten(unlistened)
    client.send(before, b"sent while away")
    await own_nats.start_async()
    await connection.back.wait()
    client.listen(after, heard)
    for subject in (before, during, after):
        client.send(subject, subject.encode())

    assert await heard.payloads(4) == [
        b"sent while away",
        before.encode(),
        during.encode(),
        after.encode(),
    ]
    assert gone.messages.empty()


async def test_the_buffer_for_the_time_without_a_server_is_bounded(
    new_client: Connect, own_nats: NatsServer
) -> None:
    client = await new_client(own_nats)
    connection = Connection(client)
    await asyncio.to_thread(own_nats.kill)
    await connection.lost.wait()

    def fill() -> None:
        for _ in range(20):
            client.send("anything", bytes(1 << 20))

    with pytest.raises(Unavailable):
        fill()


async def test_a_message_over_the_servers_limit_is_refused_and_the_connection_stays(
    client: NatsClient,
) -> None:
    subject, heard = new_subject(), Heard()
    client.listen(subject, heard)

    with pytest.raises(PayloadTooLarge) as refused:
        client.send(subject, bytes(client.max_payload + 1))
    client.send(subject, bytes(client.max_payload))

    assert refused.value.details == {"limit": client.max_payload}
    assert len((await heard.next()).payload) == client.max_payload


async def test_replies_go_to_their_listener_until_it_is_closed(client: NatsClient) -> None:
    first, second = Heard(), Heard()
    one, two = client.open_reply(first), client.open_reply(second)

    client.send(one, b"1")
    client.send(two, b"2")
    assert await first.payloads(1) == [b"1"]
    assert await second.payloads(1) == [b"2"]
    client.close_reply(one)
    client.send(one, b"late")
    client.send(two, b"3")
    assert await second.payloads(1) == [b"3"]

    assert first.messages.empty()
    assert one.startswith("_INBOX_test.")


async def test_connect_gives_up_when_there_is_no_server(own_nats: NatsServer) -> None:
    url = own_nats.url()
    await asyncio.to_thread(own_nats.stop)

    with pytest.raises(Unavailable) as refused:
        await connect(url, name="t", inbox_prefix="_INBOX_t", on_closed=pytest.fail, wait_s=0.3)

    assert refused.value.details == {"reason": "TimeoutError"}


async def test_a_connection_that_is_lost_for_good_is_told(nats: NatsServer) -> None:
    closed = asyncio.Event()
    client = await connect(nats.url(), name="t", inbox_prefix="_INBOX_t", on_closed=closed.set)

    client.write(b"NONSENSE\r\n")

    async with asyncio.timeout(60):
        await closed.wait()
    assert client.is_closed


async def test_a_client_that_is_closed_while_it_reconnects_stays_closed(
    own_nats: NatsServer,
) -> None:
    """Python 3.11 may lose the cancellation of nats-py's loop when a connect fails just then."""
    clients = [
        await connect(own_nats.url(), name="t", inbox_prefix="_INBOX_t", on_closed=lambda: None)
        for _ in range(40)
    ]
    lost = [Connection(client).lost for client in clients]

    async def close_after(number: int) -> None:
        await lost[number].wait()
        for _ in range(number):
            await asyncio.sleep(0)
        await close(clients[number])

    await asyncio.to_thread(own_nats.kill)
    await asyncio.gather(*(close_after(number) for number in range(len(clients))))

    left = {
        task
        for task in asyncio.all_tasks()
        if "_attempt_reconnect" in getattr(task.get_coro(), "__qualname__", "")
    }
    if left:
        _, left = await asyncio.wait(left, timeout=30)
    assert not left
    assert all(client.is_closed for client in clients)
