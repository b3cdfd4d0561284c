"""RPC over NATS: typed methods, deadlines, errors that keep their class, streamed replies.

Servers are NATS micro services: `nats micro ls` finds them, `nats micro stats` counts what they
did. nats-py runs the requests of an endpoint one after the other, through a queue and a task of the
endpoint; here a request goes from the read loop into a task of its own, and a bound keeps their
number sane.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, Final, Protocol, TypeVar

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.micro import add_service  # pyright: ignore[reportUnknownVariableType]  # untyped kwargs
from nats.micro.request import Request
from nats.micro.service import Endpoint as ListedEndpoint
from nats.micro.service import EndpointConfig, Service
from prometheus_client import Counter, Histogram

from steersman_contracts.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    SteersmanError,
    Unavailable,
    WireError,
    from_wire,
)
from steersman_contracts.rpc import (
    DEADLINE_HEADER,
    ERROR_HEADER,
    ERROR_TEXT_HEADER,
    FRAME_HEADER,
    HEARTBEAT_S,
    REQUEST_ID_HEADER,
    TRACE_HEADER,
    Method,
)
from steersman_runtime.jetstream import NO_RESPONDERS
from steersman_runtime.nats_client import Listener, NatsClient, encode_headers, header, status
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)
P = TypeVar("P", bound=msgspec.Struct)
T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_STOP_TAKING_S: Final = 2.0
_FIRST_HEARTBEAT_S: Final = 0.02
"""Seconds until a streamed reply shows that it comes; one that is there before shows it itself."""
_SILENCE_S: Final = 2 * HEARTBEAT_S
"""Seconds without a frame until whoever answers counts as gone."""
_PROGRESS: Final = b"progress"
_ERROR_NAME: Final = ERROR_HEADER.encode()
_FRAME_NAME: Final = FRAME_HEADER.encode()
_DEADLINE_NAME: Final = DEADLINE_HEADER.encode()
_BOUND_NAMES: Final = (
    ("request_id", REQUEST_ID_HEADER.encode()),
    ("traceparent", TRACE_HEADER.encode()),
)
_DEFAULT_DEADLINE: Final = b"30000"

REQUESTS = Counter("steersman_rpc_requests", "RPC requests answered", ["method", "code"])
SECONDS = Histogram(
    "steersman_rpc_seconds",
    "Seconds from receiving an RPC request to its answer",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
)


class _ConnectionLost(Unavailable):
    def __init__(self) -> None:
        super().__init__("the connection to NATS was lost during the request")


class Frames(Protocol):
    """Where a handler of a streamed reply sends what comes before the reply."""

    def progress(self, frame: msgspec.Struct) -> None:
        """Send one frame."""
        ...


class RpcClient:
    """Calls methods of other services."""

    def __init__(self, client: NatsClient, *, wait_for_service_s: float = 2.0) -> None:
        """Use a connection.

        Args:
            client: The connection.
            wait_for_service_s: Seconds to go on asking when nobody answers: a restart is short.
        """
        self._client = client
        self._wait_for_service_s = wait_for_service_s
        self._decoders: dict[type, Callable[[bytes], Any]] = {}
        self._in_flight: set[asyncio.Future[tuple[bytes, bytes]]] = set()
        client.on_disconnect.append(self._on_disconnect)

    def _on_disconnect(self) -> None:
        # Replies die with the connection; waiting out the deadline would only hide that.
        for future in self._in_flight:
            if not future.done():
                future.set_exception(_ConnectionLost())

    async def call(self, method: Method[Q, R], request: Q, *, deadline_s: float | None = None) -> R:
        """Call a method and wait for its reply.

        Raises:
            SteersmanError: What the server raised, as the same class.
            Unavailable: No instance of the service answers; or the connection was lost meanwhile
                (then whether it took effect is unknown, and `safe` methods are asked again).
            DeadlineExceeded: No reply in time; whether it took effect is unknown.
        """
        deadline = deadline_s or method.deadline_s
        body = _encode(request)
        until = time.monotonic() + min(deadline, self._wait_for_service_s)
        pause = 0.02
        while True:
            try:
                headers, payload = await self._exchange(method, body, deadline)
            except _ConnectionLost:
                if not method.safe:
                    raise
                continue
            if not headers:
                return self._decode(method.reply, payload)
            if status(headers) != NO_RESPONDERS:
                raise _error(headers, payload)
            if time.monotonic() + pause > until:
                raise Unavailable(f"no {method.service} service answers", service=method.service)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)

    async def _exchange(
        self, method: Method[Any, Any], body: bytes, deadline_s: float
    ) -> tuple[bytes, bytes]:
        future: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()

        def on_reply(_: bytes, __: bytes, headers: bytes, payload: bytes) -> None:
            if not future.done():
                future.set_result((headers, payload))

        reply = self._client.open_reply(on_reply)
        self._in_flight.add(future)
        try:
            self._client.send(
                method.subject, body, reply=reply, headers=_request_headers(deadline_s)
            )
            async with asyncio.timeout(deadline_s):
                return await future
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"{method.service} did not answer {method.name} within {deadline_s:g} s",
                method=method.name,
            ) from error
        finally:
            self._in_flight.discard(future)
            self._client.close_reply(reply)

    async def stream(
        self,
        method: Method[Q, R],
        request: Q,
        progress: type[P],
        *,
        deadline_s: float | None = None,
        first_frame_s: float = _SILENCE_S,
    ) -> AsyncGenerator[P | R]:
        """Call a method with a streamed reply: yields frames of `progress`, then the reply.

        Args:
            method: What to call.
            request: Its request.
            progress: The type of the frames before the reply.
            deadline_s: Seconds for all of it; else those of the method.
            first_frame_s: Seconds until the first frame. An `RpcServer` shows itself at once,
                so that less than two heartbeats will do: of one that has died it is known sooner.

        Raises:
            Unavailable: No instance answers, or the one that did has gone silent (no frame for
                two heartbeats). Whether it took effect is unknown in the latter case.
            DeadlineExceeded: As for `call`.
        """
        deadline = deadline_s or method.deadline_s
        frames: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
        reply = self._client.open_reply(lambda _, __, h, p: frames.put_nowait((h, p)))
        headers = _request_headers(deadline)
        body = _encode(request)
        end = time.monotonic() + deadline
        until = time.monotonic() + min(deadline, self._wait_for_service_s)
        pause = 0.02
        silence_s = first_frame_s
        try:
            self._client.send(method.subject, body, reply=reply, headers=headers)
            while True:
                frame, payload = await _next_frame(frames, method, end, silence_s)
                kind = header(frame, _FRAME_NAME) if frame else None
                if frame and status(frame) == NO_RESPONDERS and time.monotonic() + pause < until:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 0.5)
                    self._client.send(method.subject, body, reply=reply, headers=headers)
                    continue
                silence_s = _SILENCE_S
                if kind == _PROGRESS:
                    yield self._decode(progress, payload)
                elif kind is None:
                    if frame:
                        _raise_stream_error(method, frame, payload)
                    yield self._decode(method.reply, payload)
                    return
        finally:
            self._client.close_reply(reply)

    def _decode(self, kind: type[T], payload: bytes) -> T:
        decode = self._decoders.get(kind)
        if decode is None:
            decode = self._decoders[kind] = msgspec.json.Decoder(kind).decode
        try:
            return decode(payload)
        except msgspec.DecodeError as error:
            raise InternalError(f"unreadable reply: {error}") from error


async def _next_frame(
    frames: asyncio.Queue[tuple[bytes, bytes]],
    method: Method[Any, Any],
    end: float,
    silence_s: float,
) -> tuple[bytes, bytes]:
    left = end - time.monotonic()
    try:
        async with asyncio.timeout(min(silence_s, left)):
            return await frames.get()
    except TimeoutError as error:
        if not frames.empty():  # it was we who were late: both were there when the loop went on
            return frames.get_nowait()
        if left <= silence_s:
            raise DeadlineExceeded(
                f"{method.service} did not finish {method.name} in time", method=method.name
            ) from error
        raise Unavailable(
            f"{method.service} went silent during {method.name}",
            service=method.service,
            started=True,
        ) from error


def _raise_stream_error(method: Method[Any, Any], frame: bytes, payload: bytes) -> None:
    if status(frame) == NO_RESPONDERS:
        raise Unavailable(f"no {method.service} service answers", service=method.service)
    raise _error(frame, payload)


def _error(headers: bytes, payload: bytes) -> SteersmanError:
    if header(headers, _ERROR_NAME) is None:
        return InternalError("a reply with unexpected headers")
    try:
        return from_wire(msgspec.json.decode(payload, type=WireError))
    except msgspec.DecodeError:
        return InternalError("an unreadable error from a peer")


def _request_headers(deadline_s: float) -> bytes:
    headers = {DEADLINE_HEADER: str(int(deadline_s * 1000))}
    bound = structlog.contextvars.get_contextvars()
    if (request_id := bound.get("request_id")) is not None:
        headers[REQUEST_ID_HEADER] = request_id
    if (trace := bound.get("traceparent")) is not None:
        headers[TRACE_HEADER] = trace
    return encode_headers(headers)


class _Endpoint:
    """One method and its handler."""

    def __init__(
        self, method: Method[Any, Any], handler: Callable[..., Awaitable[Any]], *, streams: bool
    ) -> None:
        self.method = method
        self.handler = handler
        self.streams = streams
        self.decode = msgspec.json.Decoder(method.request).decode
        self.seconds = SECONDS.labels(method.name)
        self.answered = REQUESTS.labels(method.name, "ok")
        self.listed: ListedEndpoint | None = None

    def count(self, seconds: float, code: str) -> None:
        """Note one request in our metrics and in what `nats micro stats` shows."""
        self.seconds.observe(seconds)
        listed = self.listed
        if code == "ok":
            self.answered.inc()
        else:
            REQUESTS.labels(self.method.name, code).inc()
        if listed is None:
            return
        listed._num_requests += 1  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # pinned, see `_list`
        listed._processing_time += int(seconds * 1e9)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as above
        listed._average_processing_time = listed._processing_time // listed._num_requests  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as above
        if code != "ok":
            listed._num_errors += 1  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as above
            listed._last_error = code  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as above


class _Frames:
    def __init__(self, client: NatsClient, reply: str) -> None:
        self._client = client
        self._reply = reply
        self._progress = encode_headers({FRAME_HEADER: "progress"})
        self._heartbeat = encode_headers({FRAME_HEADER: "heartbeat"})

    def progress(self, frame: msgspec.Struct) -> None:
        self._client.send(self._reply, _encode(frame), headers=self._progress)

    async def heartbeats(self) -> None:
        await asyncio.sleep(_FIRST_HEARTBEAT_S)
        while True:
            self._client.send(self._reply, b"", headers=self._heartbeat)
            await asyncio.sleep(HEARTBEAT_S)


class RpcServer:
    """Answers the methods of one service, on one of its instances."""

    def __init__(
        self,
        client: NatsClient,
        service: str,
        *,
        version: str,
        concurrency: int = 512,
        announced: bool = True,
    ) -> None:
        """Prepare to answer.

        Args:
            client: The connection.
            service: Its name; its instances share requests.
            version: Of the service.
            concurrency: Requests at the same time; more wait.
            announced: Whether `nats micro ls` finds it. That takes subjects that a connection with
                few rights does not have.
        """
        self._client = client
        self._name = service
        self._version = version
        self._announced = announced
        self._slots = asyncio.Semaphore(concurrency)
        self._tasks = TaskGroup("rpc")
        self._endpoints: list[_Endpoint] = []
        self._service: Service | None = None
        self._taking: list[int] = []

    def add(self, method: Method[Q, R], handler: Callable[[Q], Awaitable[R | msgspec.Raw]]) -> None:
        """Answer a method; before `start`. A `Raw` reply is JSON that is sent as it is."""
        self._endpoints.append(_Endpoint(method, handler, streams=False))

    def add_stream(
        self, method: Method[Q, R], handler: Callable[[Q, Frames], Awaitable[R]]
    ) -> None:
        """Answer a method with a streamed reply; heartbeats are sent meanwhile."""
        self._endpoints.append(_Endpoint(method, handler, streams=True))

    async def start(self) -> None:
        """Begin to take requests; instances of a service share them."""
        if self._announced:
            self._service = await add_service(
                self._client, name=f"steersman-{self._name}", version=self._version
            )
        for endpoint in self._endpoints:
            if self._service is not None:
                endpoint.listed = _list(self._service, endpoint.method, self._name)
            self._taking.append(
                self._client.listen(
                    endpoint.method.subject, self._accept(endpoint), queue=self._name
                )
            )
        await self._client.flush(timeout=5)

    def _accept(self, endpoint: _Endpoint) -> Listener:
        name = endpoint.method.name

        def accept(_: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
            if not reply:
                return  # nobody waits for the answer: not a request
            self._tasks.start(self._serve(endpoint, reply.decode(), headers, payload), name=name)

        return accept

    async def _serve(self, endpoint: _Endpoint, reply: str, headers: bytes, payload: bytes) -> None:
        started = time.perf_counter()
        for name, wire_name in _BOUND_NAMES:
            if value := header(headers, wire_name):
                structlog.contextvars.bind_contextvars(**{name: value.decode(errors="replace")})
        code = "ok"
        try:
            deadline_s = _deadline_s(headers)
            async with asyncio.timeout(deadline_s), self._slots:
                answer = await self._run(endpoint, payload, reply)
            self._client.send(reply, answer)
        except TimeoutError:
            code = "deadline_exceeded"
            error = DeadlineExceeded(f"{endpoint.method.name} took longer than its caller waits")
            self._refuse(reply, error)
        except SteersmanError as error:
            code = error.code
            self._refuse(reply, error)
        except asyncio.CancelledError:
            code = "unavailable"
            why = f"{self._name} stopped during {endpoint.method.name}"
            self._refuse(reply, Unavailable(why, service=self._name, started=True))
            raise
        except Exception:  # the outermost loop: whatever happened, the caller gets an answer
            code = "internal"
            log.exception("rpc.failed", method=endpoint.method.name)
            self._refuse(reply, InternalError(f"{endpoint.method.name} failed; the log says why"))
        finally:
            endpoint.count(time.perf_counter() - started, code)

    async def _run(self, endpoint: _Endpoint, body: bytes, reply: str) -> bytes:
        try:
            request = endpoint.decode(body)
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"{endpoint.method.name}: {error}") from error
        if not endpoint.streams:
            return _encode(await endpoint.handler(request))
        frames = _Frames(self._client, reply)
        beating = asyncio.get_running_loop().create_task(frames.heartbeats())
        try:
            return _encode(await endpoint.handler(request, frames))
        finally:
            beating.cancel()

    def _refuse(self, reply: str, error: SteersmanError) -> None:
        headers = {ERROR_HEADER: error.code, ERROR_TEXT_HEADER: str(error)[:500]}
        try:
            self._client.send(reply, _encode(error.to_wire()), headers=encode_headers(headers))
        except Unavailable:
            log.warning("rpc.reply_lost", error_code=error.code)

    async def drain(self, timeout_s: float) -> None:
        """Take no new requests, and let those that run finish for at most `timeout_s`."""
        service, self._service = self._service, None
        taking, self._taking = self._taking, []
        # Without a connection nothing can arrive either.
        with suppress(NatsError, TimeoutError):
            async with asyncio.timeout(_STOP_TAKING_S):
                await self._client.drain_listeners(taking)
                if service is not None:
                    service._endpoints = []  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # its own stop would unsubscribe what never was
                    await service.stop()
        if not await self._tasks.finish(timeout_s):
            log.warning("rpc.drain_timeout", running=len(self._tasks))
            await self._tasks.cancel()


def _list(service: Service, method: Method[Any, Any], queue: str) -> ListedEndpoint:
    """Make an endpoint known to those who ask the service what it has.

    nats-py's own endpoint would subscribe, with a queue and a task: 20 µs for each request, and
    one after the other. This leans on private names of nats-py 2.16.0, which is pinned.
    """
    config = EndpointConfig(
        name=method.name.replace(".", "_"),
        subject=method.subject,
        queue_group=queue,
        handler=_never_called,
    )
    listed = ListedEndpoint(service, config)
    service._endpoints.append(listed)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]  # see above
    return listed


async def _never_called(_: Request) -> None:
    """What nats-py wants for a handler; requests come through a listener."""


def _deadline_s(headers: bytes) -> float:
    value = header(headers, _DEADLINE_NAME) or _DEFAULT_DEADLINE
    if not value.isdigit():
        raise InvalidRequest(f"{DEADLINE_HEADER} must be milliseconds, not {value[:40]!r}")
    return int(value) / 1000


async def last_reply(
    stream: AsyncGenerator[P | R], reply: type[R], on_progress: Callable[[P], None]
) -> R:
    """Consume a streamed reply: progress goes to `on_progress`, the reply is returned."""
    async with aclosing(stream) as frames:
        async for frame in frames:
            if isinstance(frame, reply):
                return frame
            on_progress(frame)  # pyright: ignore[reportArgumentType]  # the other member of the union
    raise Unavailable("the reply ended without a result")
