"""What the fakes saw, and how tests wait for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Final, Literal, TypeAlias

import msgspec

from fakes.delivery import Delivery
from fakes.faults import Fault
from fakes.script import Kind, RequestView
from fakes.wire import HttpRequest

Outcome: TypeAlias = Literal["finished", "client_gone"]
Moment: TypeAlias = Literal["arrived", "held", "finished", "client_gone"]


class Recorded:
    """One request to a model, accepted or not."""

    def __init__(self, number: int, kind: Kind, model: str, request: HttpRequest) -> None:
        self.number: Final = number
        self.kind: Final[Kind] = kind
        self.model: Final = model
        self.path: Final = request.path
        self.query: Final = request.query
        # Names in lower case.
        self.headers: Final = request.headers
        self.target: Final = request.target
        self.raw: Final = request.raw
        self.status = 0
        # Why it was refused, and the field that the refusal names.
        self.refusal: str | None = None
        self.refused_field: str | None = None
        self.faults: tuple[Fault, ...] = ()
        # As of the last stop, or of the end.
        self.frames_sent = 0
        self.outcome: Outcome | None = None
        self._view: RequestView | None = None

    @cached_property
    def body(self) -> dict[str, object]:
        return msgspec.json.decode(self.raw, type=dict[str, object])

    @property
    def view(self) -> RequestView:
        """The request in neutral words; only what was accepted has one."""
        if self._view is None:
            raise ValueError(f"request {self.number} was refused: {self.refusal!r}")
        return self._view

    def attach(self, view: RequestView) -> None:
        self._view = view

    def __repr__(self) -> str:
        state = self.refusal or self.outcome or "running"
        return f"<Recorded {self.number} {self.kind} {self.model} {self.status} {state}>"


class Gate:
    """Where streams wait for the test."""

    def __init__(
        self,
        model: str,
        *,
        frames: int | None,
        deltas: int | None,
        count: int,
        release: Callable[[Gate], None],
    ) -> None:
        self.model: Final = model
        self.frames: Final = frames
        self.deltas: Final = deltas
        self.is_open = False
        self._left = count
        self._release = release
        self._parked: list[Delivery] = []
        self._arrived: asyncio.Queue[Recorded] = asyncio.Queue()

    async def reached(self) -> Recorded:
        """The next request whose stream came to the gate."""
        return await self._arrived.get()

    def release(self) -> None:
        """Let every stream on, those to come included."""
        self.is_open = True
        self._release(self)

    def take(self) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        return True

    def arrive(self, delivery: Delivery, recorded: Recorded) -> None:
        self._parked.append(delivery)
        self._arrived.put_nowait(recorded)

    def parked(self) -> list[Delivery]:
        return self._parked


class Watch:
    """Hands each moment of each request to one waiter, in order."""

    def __init__(self, keep: int) -> None:
        self._seen: dict[Moment, deque[Recorded]] = {
            moment: deque(maxlen=keep) for moment in ("arrived", "held", "finished", "client_gone")
        }
        self._waiting: list[tuple[Moment, str, asyncio.Future[Recorded]]] = []

    def notify(self, moment: Moment, recorded: Recorded) -> None:
        for number, (wanted, model, future) in enumerate(self._waiting):
            if wanted == moment and model in ("*", recorded.model) and not future.done():
                del self._waiting[number]
                future.set_result(recorded)
                return
        self._seen[moment].append(recorded)

    async def next(self, moment: Moment, model: str) -> Recorded:
        seen = self._seen[moment]
        for recorded in seen:
            if model in ("*", recorded.model):
                seen.remove(recorded)
                return recorded
        future: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        entry = (moment, model, future)
        self._waiting.append(entry)
        try:
            return await future
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def forget(self) -> None:
        for seen in self._seen.values():
            seen.clear()

    def close(self) -> None:
        for _, _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
