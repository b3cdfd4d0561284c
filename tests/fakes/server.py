"""The fake providers: one server on one loopback port that speaks every wire format."""

from __future__ import annotations

import asyncio
import itertools
import traceback
from collections import defaultdict, deque
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Final

import msgspec

from fakes import clouds, control, listings
from fakes.anthropic import Anthropic
from fakes.chat import Chat
from fakes.clouds import Bedrock, Vertex
from fakes.delivery import Action, Delivery, Pacer
from fakes.faults import (
    Comments,
    ContentType,
    CrlfLines,
    Cut,
    Eof,
    Fault,
    Garbage,
    Hang,
    HttpError,
    HugeDelta,
    Stall,
    StreamError,
    TinyChunks,
)
from fakes.gemini import Gemini
from fakes.http import HttpConnection, head
from fakes.recording import Gate, Moment, Outcome, Recorded, Watch
from fakes.responses import Responses
from fakes.script import Answer, Kind, Plan, Script, Text, Turn, builtin
from fakes.wire import Call, HttpRequest, Ids, Issued, Refused, Wire

WIRES: Final[Mapping[Kind, Wire]] = {
    "anthropic": Anthropic(),
    "responses": Responses(),
    "chat": Chat(),
    "gemini": Gemini(),
    "bedrock": Bedrock(),
    "vertex": Vertex(),
}
ANY_MODEL: Final = "*"


class FakeProviders:
    """Every provider on one port: `async with FakeProviders() as fakes: fakes.base_url(kind)`.

    Models without a script are unknown, except for the built-in ones (see `script.builtin`). Where
    a method takes a model, "*" stands for every model.
    """

    def __init__(self, *, port: int = 0, keep_requests: int = 10_000) -> None:
        self._want_port = port
        self.port = 0
        self.tokens_granted = 0
        self.requests: deque[Recorded] = deque(maxlen=keep_requests)
        self._answers: dict[str, Script | Answer] = {}
        self._faults: defaultdict[str, deque[tuple[Fault, ...]]] = defaultdict(deque)
        self._gates: list[Gate] = []
        self._parked: dict[Delivery, Recorded] = {}
        self._watch = Watch(keep_requests)
        self._numbers = itertools.count(1)
        self._ids = Ids()
        self.issued = Issued()
        self._connections: set[HttpConnection] = set()
        self._active: dict[HttpConnection, tuple[Delivery, Recorded]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._pacer: Pacer | None = None

    # Life cycle

    async def __aenter__(self) -> FakeProviders:
        loop = asyncio.get_running_loop()
        self._pacer = Pacer()
        self._server = await loop.create_server(
            lambda: HttpConnection(self._handle, self._connections.add, self._lost),
            "127.0.0.1",
            self._want_port,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is None or self._pacer is None:
            return
        self._server.close()
        self._pacer.close()
        for task in self._tasks:
            task.cancel()
        for connection in list(self._connections):
            connection.abort()
        self._watch.close()
        # Aborted transports say so in the next round of the loop.
        await asyncio.sleep(0)
        await self._server.wait_closed()

    def base_url(self, kind: Kind) -> str:
        """What the SDK of this format takes as its base URL."""
        root = f"http://127.0.0.1:{self.port}"
        return f"{root}/v1" if kind in ("responses", "chat") else root

    # What models say

    def script(self, model: str, script: Script | list[Turn] | Turn | Answer) -> None:
        """Let a model follow a script, say one turn for ever, or ask a function for each turn."""
        if isinstance(script, Turn):
            self._answers[model] = Script([script], repeat=True)
        elif isinstance(script, Script) or callable(script):
            self._answers[model] = script
        else:
            self._answers[model] = Script(script)

    @property
    def models(self) -> list[str]:
        """What the listings show."""
        return [*self._answers, "echo", "tokens-100", "tool-echo"]

    # What goes wrong

    def fault(self, model: str, *faults: Fault, count: int = 1) -> None:
        """Let the next `count` requests of a model meet all these faults; then all is well."""
        self._faults[model].extend([faults] * count)

    def fail(
        self,
        model: str,
        status: int,
        *,
        retry_after: float | None = None,
        error_type: str | None = None,
        body: str | None = None,
        count: int = 1,
    ) -> None:
        """Let the next `count` requests of a model fail with an HTTP error."""
        error = HttpError(status, retry_after=retry_after, error_type=error_type, body=body)
        self.fault(model, error, count=count)

    # Gates

    def hold(
        self, model: str, *, frames: int | None = None, deltas: int | None = None, count: int = 1
    ) -> Gate:
        """Let the next `count` streams of a model stop after so many frames, until released.

        `deltas` counts the frames that carry output, which means the same in every format.
        With neither number they stop before their first frame, after the HTTP headers.
        """
        gate = Gate(model, frames=frames, deltas=deltas, count=count, release=self._release_gate)
        self._gates.append(gate)
        return gate

    def release(self, model: str = ANY_MODEL) -> None:
        """Open every gate of a model, and end the endless stalls and hangs of its requests."""
        for gate in [gate for gate in self._gates if model in (ANY_MODEL, gate.model)]:
            gate.release()
        for delivery, recorded in list(self._parked.items()):
            if model in (ANY_MODEL, recorded.model):
                self._unpark(delivery)

    def _release_gate(self, gate: Gate) -> None:
        if gate in self._gates:
            self._gates.remove(gate)
        for delivery in gate.parked():
            self._unpark(delivery)

    def _unpark(self, delivery: Delivery) -> None:
        self._parked.pop(delivery, None)
        delivery.unpark()

    # What came in

    async def next_moment(self, moment: Moment, model: str = ANY_MODEL) -> Recorded:
        return await self._watch.next(moment, model)

    async def next_request(self, model: str = ANY_MODEL) -> Recorded:
        """The oldest request of this model, as soon as there is one. Each is returned once."""
        return await self._watch.next("arrived", model)

    async def disconnected(self, model: str = ANY_MODEL) -> Recorded:
        """The oldest request whose client went away before its end. Each is returned once."""
        return await self._watch.next("client_gone", model)

    async def finished(self, model: str = ANY_MODEL) -> Recorded:
        """The oldest request answered in full, or as its faults wanted. Each is returned once."""
        return await self._watch.next("finished", model)

    async def held(self, model: str = ANY_MODEL) -> Recorded:
        """The oldest request that came to a gate, a stall or a hang. Each is returned once."""
        return await self._watch.next("held", model)

    @property
    def refused(self) -> list[Recorded]:
        """Requests that a real provider would not have accepted: most tests want none."""
        return [request for request in self.requests if request.refusal is not None]

    def reset(self) -> None:
        """Forget scripts, faults and requests, and open every gate."""
        self.release()
        self._answers.clear()
        self._faults.clear()
        self.requests.clear()
        self._watch.forget()

    # Serving

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run something in the background for as long as the server lives."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _lost(self, connection: HttpConnection) -> None:
        self._connections.discard(connection)
        active = self._active.pop(connection, None)
        if active is not None:
            delivery, recorded = active
            recorded.outcome = "client_gone"
            delivery.abandon()

    def _handle(self, connection: HttpConnection, request: HttpRequest) -> None:
        if request.path.startswith("/__fakes__/"):
            control.handle(self, connection, request)
            return
        route = _route(request)
        if request.path == "/token":
            status, body = clouds.grant(request)
            connection.respond(status, {"content-type": "application/json"}, body)
            self.tokens_granted += status == 200
            return
        if route is None:
            listings.handle(connection, request, self.models)
            return
        wire, model = route
        number = next(self._numbers)
        recorded = Recorded(number, wire.kind, model, request)
        request_id = f"req_fake_{number:08d}"
        self.requests.append(recorded)
        try:
            call = wire.parse(request, self.issued)
            recorded.attach(call.view)
            turn = self._turn(call)
        except Refused as refused:
            recorded.refusal = refused.message
            recorded.refused_field = refused.field
            self._watch.notify("arrived", recorded)
            self._respond(connection, recorded, refused.status, wire.refusal(refused, request_id))
            return
        except Exception as error:  # noqa: BLE001  # whatever a test's own function may raise
            recorded.refusal = f"fakes: {error!r}"
            self._watch.notify("arrived", recorded)
            failed = HttpError(500, message="".join(traceback.format_exception(error)))
            self._fail(connection, recorded, failed)
            return
        self._watch.notify("arrived", recorded)
        self._answer(connection, recorded, wire, _Answering(call, turn, request_id))

    def _turn(self, call: Call) -> Turn:
        model = call.view.model
        answer = self._answers.get(model) or builtin(model) or self._answers.get(ANY_MODEL)
        if answer is None:
            raise Refused(f"model: {model}", status=404, code=None, field="model")
        if not isinstance(answer, Script):
            return answer(call.view)
        user, step = max(call.view.user_index, 0), call.view.step_index
        turn = answer.pick(user, step)
        if turn is None:
            raise Refused(
                f"fakes: the script of {model!r} has no turn for step {step} after user message "
                f"{user}"
            )
        return turn

    def _respond(
        self,
        connection: HttpConnection,
        recorded: Recorded,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        recorded.status = status
        wire = WIRES[recorded.kind]
        request_id = f"req_fake_{recorded.number:08d}"
        everything = {
            "content-type": "application/json",
            **wire.response_headers(request_id),
            **(headers or {}),
        }
        self._finish(recorded, "finished")
        connection.respond(status, everything, body)

    def _finish(self, recorded: Recorded, outcome: Outcome) -> None:
        recorded.outcome = outcome
        self._watch.notify(outcome, recorded)

    def _take_faults(self, model: str) -> tuple[Fault, ...]:
        for name in (model, ANY_MODEL):
            waiting = self._faults.get(name)
            if waiting:
                return waiting.popleft()
        return ()

    def _answer(
        self, connection: HttpConnection, recorded: Recorded, wire: Wire, answering: _Answering
    ) -> None:
        if self._pacer is None:
            return
        faults = self._take_faults(recorded.model)
        recorded.faults = faults
        for fault in faults:
            if isinstance(fault, HttpError):
                self._fail(connection, recorded, fault)
                return
        turn = answering.turn
        content_type = wire.content_type
        for fault in faults:
            if isinstance(fault, HugeDelta):
                turn = Turn([Text("x" * fault.size)], chunk_chars=fault.size)
            elif isinstance(fault, ContentType):
                content_type = fault.value
        plan = wire.render(turn, answering.call, self._ids, self.issued)
        headers = {
            "content-type": content_type,
            "cache-control": "no-cache",
            **wire.response_headers(answering.request_id),
            "transfer-encoding": "chunked",
        }
        recorded.status = 200
        stops: dict[int, list[Action]] = {}
        self._add_gates(stops, plan, recorded)
        hang = None
        for fault in faults:
            if isinstance(fault, Hang):
                hang = fault
            else:
                self._add_fault(stops, fault, plan, recorded)
        delivery = Delivery(
            plan,
            connection,
            self._pacer,
            head=head(200, headers),
            stops=stops,
            on_end=lambda delivery: self._ended(connection, recorded, delivery),
            crlf=any(isinstance(fault, CrlfLines) for fault in faults),
            tiny=any(isinstance(fault, TinyChunks) for fault in faults),
        )
        connection.delivery = delivery
        self._active[connection] = (delivery, recorded)
        if hang is not None:
            self._silence(delivery, recorded, hang.seconds)
        delivery.go()

    def _fail(self, connection: HttpConnection, recorded: Recorded, error: HttpError) -> None:
        wire = WIRES[recorded.kind]
        body = error.body.encode() if error.body is not None else None
        headers = dict(error.headers)
        # Google says it in the body.
        if error.retry_after is not None and recorded.kind != "gemini":
            headers["retry-after"] = f"{error.retry_after:g}"
        if body is None:
            body = wire.error_body(error, f"req_fake_{recorded.number:08d}")
        self._respond(connection, recorded, error.status, body, headers)

    def _ended(self, connection: HttpConnection, recorded: Recorded, delivery: Delivery) -> None:
        self._active.pop(connection, None)
        self._parked.pop(delivery, None)
        recorded.frames_sent = delivery.frames_sent
        gone = recorded.outcome == "client_gone"
        self._finish(recorded, "client_gone" if gone else "finished")

    def _silence(self, delivery: Delivery, recorded: Recorded, seconds: float | None) -> None:
        if seconds is None:
            delivery.park()
            self._parked[delivery] = recorded
        else:
            delivery.wait(seconds)
        recorded.frames_sent = delivery.frames_sent
        self._watch.notify("held", recorded)

    def _add_gates(self, stops: dict[int, list[Action]], plan: Plan, recorded: Recorded) -> None:
        for gate in self._gates:
            if gate.model in (ANY_MODEL, recorded.model) and gate.take():
                at = _frame(plan, gate.frames or 0, gate.deltas)
                stops.setdefault(at, []).append(self._gate_action(gate, recorded))

    def _gate_action(self, gate: Gate, recorded: Recorded) -> Action:
        def action(delivery: Delivery) -> bool:
            if gate.is_open:
                return True
            self._silence(delivery, recorded, None)
            gate.arrive(delivery, recorded)
            return False

        return action

    def _add_fault(
        self, stops: dict[int, list[Action]], fault: Fault, plan: Plan, recorded: Recorded
    ) -> None:
        wire = WIRES[recorded.kind]
        request_id = f"req_fake_{recorded.number:08d}"

        def add(at: int, action: Action) -> None:
            stops.setdefault(at, []).append(action)

        match fault:
            case StreamError():
                at = _frame(plan, fault.after, fault.deltas)
                frame = wire.error_frame(fault, request_id, at)
                add(at, lambda delivery: _end_with(delivery, frame))
            case Cut():
                at = _frame(plan, fault.after, fault.deltas)
                add(at, lambda delivery: _cut(delivery, fault))
            case Eof():
                at = _frame(plan, fault.after, fault.deltas)
                add(at, _end_early)
            case Stall():
                at = _frame(plan, fault.after, fault.deltas)
                add(at, self._stall_action(fault, recorded))
            case Garbage():
                at = _frame(plan, fault.after, fault.deltas)
                add(at, _inserting(_GARBAGE[recorded.kind]))
            case Comments():
                for at in range(fault.every, len(plan.frames) + 1, fault.every):
                    add(at, _inserting(b": keep-alive\n\n"))
            case _:
                pass

    def _stall_action(self, fault: Stall, recorded: Recorded) -> Action:
        def action(delivery: Delivery) -> bool:
            self._silence(delivery, recorded, fault.seconds)
            return False

        return action


class _Answering(msgspec.Struct, frozen=True):
    call: Call
    turn: Turn
    request_id: str


def _frame(plan: Plan, after: int, deltas: int | None) -> int:
    """The number of frames before the point that a fault or a gate names."""
    if deltas is None:
        return min(after, len(plan.frames))
    return plan.deltas[deltas] if deltas < len(plan.deltas) else len(plan.frames)


def _end_with(delivery: Delivery, frame: bytes) -> bool:
    delivery.insert(frame)
    delivery.end_early()
    return False


def _cut(delivery: Delivery, fault: Cut) -> bool:
    if fault.mid_frame:
        delivery.insert_part_of_next()
    delivery.cut(reset=fault.reset)
    return False


def _end_early(delivery: Delivery) -> bool:
    delivery.end_early()
    return False


def _inserting(frame: bytes) -> Action:
    def action(delivery: Delivery) -> bool:
        delivery.insert(frame)
        return True

    return action


# Named like the event in whose place it stands: SDKs skip what has no name or an unknown one.
_GARBAGE: Final[Mapping[Kind, bytes]] = {
    "anthropic": b'event: content_block_delta\ndata: {"broken": \n\n',
    "responses": b'event: response.output_text.delta\ndata: {"broken": \n\n',
    "chat": b'data: {"broken": \n\n',
    "gemini": b'data: {"broken": \r\n\r\n',
    "bedrock": b"no frame of AWS",
    "vertex": b'event: content_block_delta\ndata: {"broken": \n\n',
}
_PATHS: Final[Mapping[str, Kind]] = {
    "/v1/messages": "anthropic",
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
}


class _Model(msgspec.Struct):
    model: str = ""


_MODEL: Final = msgspec.json.Decoder(_Model)


def _route(request: HttpRequest) -> tuple[Wire, str] | None:
    """Which format a request speaks, and which model it wants ("" if that cannot be read)."""
    if request.method != "POST":
        return None
    if kind := _PATHS.get(request.path):
        try:
            return WIRES[kind], _MODEL.decode(request.raw).model
        except (msgspec.DecodeError, UnicodeDecodeError):
            return WIRES[kind], ""
    if request.path.endswith(":streamGenerateContent"):
        model = request.path.rpartition("/")[2].removesuffix(":streamGenerateContent")
        return WIRES["gemini"], model
    if request.path.endswith(":streamRawPredict"):
        model = request.path.rpartition("/")[2].removesuffix(":streamRawPredict")
        return WIRES["vertex"], model
    if request.path.endswith("/invoke-with-response-stream"):
        return WIRES["bedrock"], request.path.split("/")[2]
    return None
