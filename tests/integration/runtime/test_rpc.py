"""Calls between services on a real server."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
import structlog
from integration.runtime.conftest import Connect
from integration.runtime.heard import Heard
from integration.runtime.rpc_service import Answer, Ask, Gate, echo, new_method, serving

from steersman.embedded.nats import NatsServer
from steersman_contracts.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    PayloadTooLarge,
    SteersmanError,
    TransitionRefused,
    Unavailable,
)
from steersman_contracts.rpc import DEADLINE_HEADER
from steersman_runtime.jetstream import request
from steersman_runtime.nats_client import NatsClient, encode_headers
from steersman_runtime.rpc import RpcClient


@pytest.fixture
async def rpc(new_client: Connect) -> RpcClient:
    return RpcClient(await new_client())


async def test_a_call_is_answered(client: NatsClient, rpc: RpcClient) -> None:
    method = new_method()

    async with serving(client, method, echo):
        answers = await asyncio.gather(*(rpc.call(method, Ask(str(n))) for n in range(100)))

    assert answers == [Answer(str(n)) for n in range(100)]


@pytest.mark.parametrize(
    "error",
    [
        TransitionRefused("not now", status="running", transition="archive"),
        Conflict("taken", names=["a", "b"]),
        InvalidRequest("line\r\nbreaks: in it", field="x"),
        Unavailable("ä busy"),
    ],
)
async def test_an_error_keeps_its_class_message_and_details(
    error: SteersmanError, client: NatsClient, rpc: RpcClient
) -> None:
    method = new_method()

    async def refuse(_: Ask) -> Answer:
        raise error

    async with serving(client, method, refuse):
        with pytest.raises(type(error)) as refused:
            await rpc.call(method, Ask())

    assert type(refused.value) is type(error)
    assert (str(refused.value), refused.value.details) == (str(error), error.details)


async def test_an_error_that_nobody_planned_says_nothing_of_its_cause(
    client: NatsClient, rpc: RpcClient
) -> None:
    method = new_method()

    async def fail(_: Ask) -> Answer:
        raise KeyError("secret")

    async with serving(client, method, fail):
        with pytest.raises(SteersmanError) as failed:
            await rpc.call(method, Ask())

    assert failed.value.code == "internal"
    assert "secret" not in str(failed.value)


async def test_an_unreadable_request_is_refused_before_the_handler(client: NatsClient) -> None:
    method, gate = new_method(), Gate()

    async with serving(client, method, gate):
        _, body = await request(client, method.subject, b'{"text": 1}')

    assert msgspec.json.decode(body)["code"] == "invalid_request"
    assert gate.calls == 0


async def test_a_reply_over_the_servers_limit_is_an_error(
    client: NatsClient, rpc: RpcClient
) -> None:
    method = new_method()

    async def shout(_: Ask) -> Answer:
        return Answer("x" * (client.max_payload + 1))

    async with serving(client, method, shout):
        with pytest.raises(PayloadTooLarge):
            await rpc.call(method, Ask())


async def test_after_the_deadline_the_caller_leaves_and_the_handler_is_cancelled(
    client: NatsClient, rpc: RpcClient
) -> None:
    method, gate = new_method(), Gate()

    async with serving(client, method, gate):
        with pytest.raises(DeadlineExceeded) as late:
            await rpc.call(method, Ask(), deadline_s=0.2)
        async with asyncio.timeout(60):
            await gate.cancelled.wait()

    assert late.value.details == {"method": "test.ask"}


async def test_no_more_requests_run_than_may(client: NatsClient, rpc: RpcClient) -> None:
    method, gate = new_method(), Gate()

    async with serving(client, method, gate, concurrency=3):
        calls = [asyncio.create_task(rpc.call(method, Ask(str(n)))) for n in range(9)]
        await gate.entered.wait()
        await client.flush()
        gate.opened.set()
        answers = await asyncio.gather(*calls)

    assert answers == [Answer(str(n)) for n in range(9)]
    assert gate.most == 3


async def test_a_slow_request_does_not_hold_up_the_next(client: NatsClient, rpc: RpcClient) -> None:
    method, gate = new_method(), Gate()

    async def handler(ask: Ask) -> Answer:
        return await gate(ask) if ask.text == "slow" else Answer("quick")

    async with serving(client, method, handler):
        slow = asyncio.create_task(rpc.call(method, Ask("slow")))
        await gate.entered.wait()
        assert await rpc.call(method, Ask()) == Answer("quick")
        gate.opened.set()
        assert await slow == Answer("slow")


async def test_a_service_that_starts_late_is_waited_for(
    client: NatsClient, new_client: Connect
) -> None:
    method = new_method()
    rpc = RpcClient(await new_client(), wait_for_service_s=10)

    early = asyncio.create_task(rpc.call(method, Ask("early")))
    streamed = asyncio.create_task(anext(rpc.stream(method, Ask("early"), Answer)))
    await asyncio.sleep(0)
    async with serving(client, method, echo):
        assert await early == Answer("early")
        assert await streamed == Answer("early")


async def test_a_service_that_never_starts_is_unavailable(new_client: Connect) -> None:
    method = new_method()
    rpc = RpcClient(await new_client(), wait_for_service_s=0.05)

    with pytest.raises(Unavailable) as missing:
        await rpc.call(method, Ask())
    with pytest.raises(Unavailable):
        await anext(rpc.stream(method, Ask(), Answer))

    assert missing.value.details == {"service": method.service}


async def test_instances_of_a_service_share_the_requests(new_client: Connect) -> None:
    method = new_method()
    rpc = RpcClient(await new_client())
    first, second = Gate(), Gate()

    async with (
        serving(await new_client(), method, first),
        serving(await new_client(), method, second),
    ):
        calls = [asyncio.create_task(rpc.call(method, Ask(str(n)))) for n in range(40)]
        async with asyncio.timeout(60):
            await asyncio.gather(first.entered.wait(), second.entered.wait())
        first.opened.set()
        second.opened.set()
        await asyncio.gather(*calls)

    assert first.calls + second.calls == 40


@pytest.mark.parametrize("safe", [True, False])
async def test_a_request_that_the_connection_took_with_it(
    safe: bool, new_client: Connect, own_nats: NatsServer
) -> None:
    method, gate = new_method(safe=safe), Gate()
    rpc = RpcClient(await new_client(own_nats))

    async with serving(await new_client(own_nats), method, gate):
        call = asyncio.create_task(rpc.call(method, Ask("x")))
        await gate.entered.wait()
        await asyncio.to_thread(own_nats.kill)
        await own_nats.start_async()
        gate.opened.set()

        if safe:
            assert await call == Answer("x")
            assert gate.calls == 2
        else:
            with pytest.raises(Unavailable):
                await call
            assert gate.calls == 1
        assert await rpc.call(method, Ask("after")) == Answer("after")


async def test_what_the_caller_has_bound_for_its_logs_travels_along(
    client: NatsClient, rpc: RpcClient
) -> None:
    method = new_method()
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    async def look(_: Ask) -> Answer:
        return Answer(msgspec.json.encode(structlog.contextvars.get_contextvars()).decode())

    async with serving(client, method, look):
        with structlog.contextvars.bound_contextvars(
            request_id="r1", traceparent=trace, chat_id="not this"
        ):
            seen = await rpc.call(method, Ask())

    assert msgspec.json.decode(seen.text) == {"request_id": "r1", "traceparent": trace}


async def test_a_service_is_found_by_generic_tools(client: NatsClient) -> None:
    method = new_method()

    async with serving(client, method, echo):
        _, body = await request(client, f"$SRV.INFO.steersman-{method.service}", b"")

    (endpoint,) = msgspec.json.decode(body)["endpoints"]
    assert (endpoint["subject"], endpoint["queue_group"]) == (method.subject, method.service)


async def test_generic_tools_see_how_much_a_service_did(client: NatsClient, rpc: RpcClient) -> None:
    method = new_method()

    async def refuse_the_second(ask: Ask) -> Answer:
        if ask.text == "2":
            raise Conflict("taken")
        return Answer(ask.text)

    async with serving(client, method, refuse_the_second):
        await rpc.call(method, Ask("1"))
        with pytest.raises(Conflict):
            await rpc.call(method, Ask("2"))
        _, body = await request(client, f"$SRV.STATS.steersman-{method.service}", b"")

    (endpoint,) = msgspec.json.decode(body)["endpoints"]
    assert (endpoint["num_requests"], endpoint["num_errors"]) == (2, 1)
    assert endpoint["last_error"] == "conflict"
    assert endpoint["average_processing_time"] * 2 <= endpoint["processing_time"]


async def test_a_message_that_wants_no_answer_is_no_request(
    client: NatsClient, rpc: RpcClient
) -> None:
    method, gate = new_method(), Gate()
    gate.opened.set()

    async with serving(client, method, gate):
        client.send(method.subject, b"{}")
        await rpc.call(method, Ask("after it"))

    assert gate.calls == 1


async def test_a_deadline_that_is_no_number_is_refused(client: NatsClient) -> None:
    method, replies = new_method(), Heard()
    headers = encode_headers({DEADLINE_HEADER: "soon"})

    async with serving(client, method, echo):
        client.send(method.subject, b"{}", reply=client.open_reply(replies), headers=headers)
        refusal = await replies.next()

    assert b"invalid_request" in refusal.headers
    assert "milliseconds, not b'soon'" in msgspec.json.decode(refusal.payload)["message"]


async def test_drain_finishes_what_runs_and_takes_nothing_new(
    client: NatsClient, new_client: Connect
) -> None:
    method, gate = new_method(), Gate()
    rpc = RpcClient(await new_client(), wait_for_service_s=0.05)

    async with serving(client, method, gate) as server:
        running = asyncio.create_task(rpc.call(method, Ask("x")))
        await gate.entered.wait()
        draining = asyncio.create_task(server.drain(30))
        # The first round trips give the drain its turns of the loop, the last one proves that the
        # server has heard that nobody listens any more.
        for _ in range(3):
            await client.flush()
        with pytest.raises(Unavailable):
            await rpc.call(method, Ask("late"))
        gate.opened.set()

        assert await running == Answer("x")
        await draining


async def test_drain_answers_every_request_that_had_arrived(
    client: NatsClient, new_client: Connect
) -> None:
    method = new_method()
    sending = await new_client()
    replies = Heard()

    async with serving(client, method, echo) as server:
        for _ in range(200):
            sending.send(method.subject, b"{}", reply=sending.open_reply(replies))
        await sending.flush()  # the server has them all, and is handing them on
        await server.drain(10)

    answered = [await replies.next() for _ in range(200)]
    assert {(reply.headers, reply.payload) for reply in answered} == {(b"", b'{"text":""}')}


async def test_who_is_cut_off_by_the_end_of_the_drain_is_told(
    client: NatsClient, rpc: RpcClient
) -> None:
    method, gate = new_method(), Gate()

    async with serving(client, method, gate) as server:
        call = asyncio.create_task(rpc.call(method, Ask()))
        await gate.entered.wait()
        await server.drain(0.05)

        with pytest.raises(Unavailable) as cut_off:
            await call
    assert gate.cancelled.is_set()
    assert cut_off.value.details == {"service": method.service, "started": True}


async def test_drain_ends_without_a_server(new_client: Connect, own_nats: NatsServer) -> None:
    method = new_method()
    client = await new_client(own_nats)

    async with serving(client, method, echo) as server:
        await asyncio.to_thread(own_nats.kill)
        async with asyncio.timeout(60):
            await server.drain(0.1)
