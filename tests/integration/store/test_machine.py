"""Random people and workers against one real store, beside a model of a chat in plain Python.

Every step asks the store for one thing (or for the same thing several times at once). What the
model says must be refused leaves every row as it was; what it allows lands where `TRANSITIONS`
says. After each step the model's history and queue are the stored ones, and the invariants hold; at
the end the event log, folded by the clients' reducer, shows the same chat.

`STEERSMAN_MACHINE_EXAMPLES` makes it try more chats, and take its time to find a short failure. A
failure prints the steps that lead to it and a blob for `@reproduce_failure`.
"""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from support.chat_driver import StoreDriver, new_actor, text
from support.databases import drop_database, new_database
from support.invariants import (
    OWNED,
    ChatRows,
    broken,
    broken_change,
    broken_log,
    local_calls,
    open_calls,
    read_rows,
)
from support.services import running_store

from steersman.client import View
from steersman.embedded.nats import NatsServer
from steersman.embedded.postgres import PostgresServer
from steersman_contracts import events as e
from steersman_contracts.chats import Role, Status, Transition, Visibility
from steersman_contracts.errors import (
    AlreadyOwned,
    Conflict,
    InvalidRequest,
    NotFound,
    QueueFull,
    StaleFence,
    SteersmanError,
    TransitionRefused,
)
from steersman_contracts.ids import ChatId, RunnerId
from steersman_contracts.parts import Parts, TextPart, ToolCallPart, ToolResultPart, decode_parts
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import worker as work
from steersman_runtime.nats_client import close, connect
from steersman_store.transitions import ARCHIVED, TRANSITIONS

LONG: Final = os.environ.get("STEERSMAN_MACHINE_EXAMPLES")
EXAMPLES: Final = int(LONG or 60)
STEPS: Final = 40
RUNNERS: Final = ("runner-1", "runner-2", "runner-3")

T = TypeVar("T")
Entry = tuple[Role, Parts]


class World:
    """Two stores on real NATS and PostgreSQL, on a loop that runs only while it is asked to."""

    def __init__(self, postgres: PostgresServer, nats: NatsServer) -> None:
        self._postgres = postgres
        self._nats = nats
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.store: StoreDriver
        self.database: asyncpg.Connection

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(_bounded(work))

    def open(self) -> None:
        self.do(self._open())

    async def _open(self) -> None:
        url = await new_database(self._postgres.dsn)
        self._stack.push_async_callback(drop_database, self._postgres.dsn, url)
        for name in ("store-1", "store-2"):
            await self._stack.enter_async_context(
                running_store(self._nats.url(), url, instance=name, sweep_s=0.1)
            )
        client = await connect(
            self._nats.url(), name="test", inbox_prefix="_INBOX_test", on_closed=lambda: None
        )
        self._stack.push_async_callback(close, client)
        self.store = StoreDriver(client, await new_actor(url))
        self.database = await asyncpg.connect(url)
        self._stack.push_async_callback(self.database.close)

    def close(self) -> None:
        try:
            self.do(self._stack.aclose())
        finally:
            self._runner.close()


async def _bounded(work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(30):
        return await work


@pytest.fixture
def world(postgres: PostgresServer, nats: NatsServer) -> Generator[World]:
    opened = World(postgres, nats)
    try:
        opened.open()
        yield opened
    finally:
        opened.close()


@dataclass
class Model:
    """What the chat must be."""

    status: Status
    history: list[Entry]
    queue: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    archived: bool = False
    runner: str | None = None
    leased: bool = False
    pending: tuple[ToolResultPart | None, ...] = ()
    """In `requires_action`: the result of each open call, None where the client is to answer."""

    def next(self, transition: Transition) -> Status | None:
        """Where a transition leads; None when it is refused."""
        table = ARCHIVED if self.archived else TRANSITIONS
        after = table.get((self.status, transition))
        return None if after is None else after.with_backlog if self.queue else after.status

    @property
    def idle(self) -> bool:
        return self.status in (Status.WAITING, Status.ERROR)

    def open_calls(self) -> list[ToolCallPart]:
        return open_calls(self.history)

    def say(self, words: str) -> None:
        self.history.append((Role.USER, text(words)))

    def promote(self) -> None:
        self.say(self.queue.pop(0)[1])

    def rest(self) -> None:
        """The turn is over: nobody owns the chat, unless the next turn has begun."""
        if self.queue:
            self.promote()
            self.status = Status.RUNNING
        else:
            self.status = Status.WAITING
            self.release()

    def release(self) -> None:
        self.runner, self.leased = None, False

    def end_action(self, missing: str) -> None:
        """What is pending is answered with errors, and the turn is over."""
        results = tuple(
            done or ToolResultPart(call.call_id, call.tool, (TextPart(missing),), is_error=True)
            for call, done in zip(self.open_calls(), self.pending, strict=True)
        )
        self.history.append((Role.TOOL, results))
        self.pending = ()
        self.rest()


INTERRUPTED: Final = "interrupted before it produced a result"
EXPIRED: Final = "nobody answered this call in time"
CLEARED: Final = "The context was cleared."

positions = st.integers(0, 30)
runners = st.sampled_from(RUNNERS)
answers = st.sampled_from(["text", "calls", "provider-call", "text-and-calls"])


class Act(NamedTuple):
    """Something that can be done in a step: how often, when, and with which arguments."""

    weight: int
    when: Callable[[Machine], object]
    arguments: dict[str, st.SearchStrategy[Any]]


ACTS: Final[dict[str, Act]] = {}

Method = TypeVar("Method", bound=Callable[..., None])


def act(
    weight: int = 2,
    when: Callable[[Machine], object] = lambda _: True,
    **arguments: st.SearchStrategy[Any],
) -> Callable[[Method], Method]:
    """Not a rule of its own: Hypothesis leaves most rules out of each example, and so a chat that
    is sent to, worked on, edited and taken over in one example would be rare.
    """

    def mark(method: Method) -> Method:
        ACTS[method.__name__] = Act(weight, when, arguments)
        return method

    return mark


class Machine(RuleBasedStateMachine):
    """One chat."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.store = self.world.store
        self.chat_id = ChatId("")
        self.model = Model(Status.WAITING, [])
        self.rows: ChatRows
        self.fences: list[work.Fence] = []
        self.keys: list[str] = []
        self.gone: list[int] = []
        self.number = 0

    # -- how a step is made ------------------------------------------------------------------------

    def word(self) -> str:
        """Words that nobody has said before."""
        self.number += 1
        return f"word-{self.number}"

    def refused(
        self, request: Coroutine[Any, Any, object], *why: type[SteersmanError]
    ) -> SteersmanError:
        """Ask for what must be refused; nothing may change."""
        try:
            reply = self.world.do(request)
        except why as error:
            self._unchanged()
            return error
        raise AssertionError(f"{self.model} allowed it: {reply}")

    def unchanged(self, request: Coroutine[Any, Any, T]) -> T:
        """Ask for what changes nothing."""
        reply = self.world.do(request)
        self._unchanged()
        return reply

    def _unchanged(self) -> None:
        before, self.rows = self.rows, self.read()
        assert self.rows == before

    def read(self) -> ChatRows:
        return self.world.do(read_rows(self.world.database, self.chat_id))

    def asked(self, transition: Transition, request: Coroutine[Any, Any, T]) -> T | None:
        """Ask for a transition of a person: None, and nothing changed, when the table refuses."""
        if self.model.next(transition) is None:
            error = self.refused(request, TransitionRefused)
            assert error.details == {
                "status": self.model.status,
                "transition": transition,
                "archived": self.model.archived,
            }
            return None
        return self.world.do(request)

    def settle(self) -> None:
        """After a step that was allowed: the rows are what the model says, and whole."""
        before, self.rows = self.rows, self.read()
        assert broken(self.rows) == []
        assert broken_change(before, self.rows) == []
        self.compare()

    def compare(self) -> None:
        model, rows = self.model, self.rows
        assert (rows.status, rows.chat["archived"]) == (model.status, model.archived)
        assert rows.chat["runner_id"] == model.runner
        assert bool(rows.live_leases()) == model.leased
        stored = [(Role(row["role"]), decode_parts(row["content"])) for row in rows.history]
        assert stored == model.history
        queued = [(row["id"], decode_parts(row["content"])) for row in rows.queue]
        assert queued == [(queued_id, text(words)) for queued_id, words in model.queue]

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        possible = [name for name, one in ACTS.items() if one.when(self) for _ in range(one.weight)]
        name = data.draw(st.sampled_from(possible), label="step")
        arguments = {
            key: data.draw(strategy, label=key) for key, strategy in ACTS[name].arguments.items()
        }
        getattr(self, name)(**arguments)

    # -- people ------------------------------------------------------------------------------------

    @initialize(words=st.booleans())
    def create(self, words: bool) -> None:
        key = uuid.uuid4().hex
        first = self.word() if words else None
        chat = self.world.do(self.store.create(first, client_key=key))
        again = self.world.do(self.store.create(first, client_key=key))
        assert again == chat
        self.chat_id = chat.id
        self.model = Model(
            Status.RUNNING if words else Status.WAITING,
            [(Role.USER, text(first))] if first else [],
        )
        self.rows = self.read()
        assert broken(self.rows) == []
        self.compare()

    @act(
        weight=4, interrupt=st.booleans(), keyed=st.booleans(), times=st.sampled_from([1, 1, 1, 3])
    )
    def send(self, interrupt: bool, keyed: bool, times: int) -> None:
        """Several times at once only with a key: then it counts once."""
        words = self.word()
        key = f"key-{self.number}" if keyed else None
        request = people.SendMessage(
            self.store.actor,
            self.chat_id,
            text(words),
            "interrupt" if interrupt else "queue",
            client_key=key,
        )
        full = len(self.model.queue) >= people.MAX_QUEUED
        joins = not self.model.idle or bool(self.model.queue)
        if full and joins and self.model.next(Transition.SEND_MESSAGE) is not None:
            self.refused(self.store.rpc.call(people.SEND_MESSAGE, request), QueueFull)
            return
        if keyed and self.model.next(Transition.SEND_MESSAGE) is not None:
            replies = self.world.do(
                _all([self.store.rpc.call(people.SEND_MESSAGE, request) for _ in range(times)])
            )
            assert all(reply == replies[0] for reply in replies)
            reply = replies[0]
            self.keys.append(key or "")
        else:
            found = self.asked(
                Transition.SEND_MESSAGE, self.store.rpc.call(people.SEND_MESSAGE, request)
            )
            if found is None:
                return
            reply = found
        assert reply.delivery == ("queued" if joins else "started")
        self._sent(words, reply, interrupt=interrupt)
        self.settle()

    def _sent(self, words: str, reply: people.SendReply, *, interrupt: bool) -> None:
        model = self.model
        if model.idle:
            if reply.queued is None:
                model.say(words)
            else:
                model.queue.append((reply.queued.id, words))
                model.promote()
            model.status = Status.RUNNING
            model.release()
            return
        assert reply.queued is not None
        model.queue.append((reply.queued.id, words))
        if interrupt and model.status is Status.RUNNING:
            model.status = Status.INTERRUPTING
        elif interrupt and model.status is Status.REQUIRES_ACTION:
            model.end_action(INTERRUPTED)

    @act(
        when=lambda self: not self.model.idle and len(self.model.queue) < 2,
        count=st.integers(1, people.MAX_QUEUED + 2),
    )
    def send_many(self, count: int) -> None:
        """Up to the bound of the queue, in one step."""
        for _ in range(min(count, people.MAX_QUEUED - len(self.model.queue))):
            words = self.word()
            reply = self.world.do(self.store.send(self.chat_id, words))
            assert reply.queued is not None
            self.model.queue.append((reply.queued.id, words))
        self.settle()

    @act(weight=1, when=lambda self: self.keys, position=positions)
    def send_again(self, position: int) -> None:
        """A key that was used: whatever the request says, it changes nothing any more."""
        key = self.keys[position % len(self.keys)]
        self.unchanged(self.store.send(self.chat_id, "other words", client_key=key))

    @act(weight=3, when=lambda self: self.rows.messages, position=positions)
    def edit_message(self, position: int) -> None:
        row = self.rows.messages[position % len(self.rows.messages)]
        words = self.word()
        request = self.store.edit(self.chat_id, row["id"], words)
        if row["deleted_at"] is not None:
            self.refused(request, NotFound)
        elif row["role"] != "user":
            self.refused(request, InvalidRequest)
        elif self.asked(Transition.EDIT_MESSAGE, request) is not None:
            kept = sum(1 for one in self.rows.history if one["id"] < row["id"])
            model = self.model
            del model.history[kept:]
            model.say(words)
            model.queue.clear()
            model.pending = ()
            model.status = Status.RUNNING
            model.release()
            self.settle()

    @act(weight=1, when=lambda self: self.model.queue or self.gone, position=positions)
    def edit_queued(self, position: int) -> None:
        words = self.word()
        place = self._queued(position)
        request = self.store.edit_queued(self.chat_id, self._queued_id(place), words)
        if self._asked_of_queue(Transition.EDIT_QUEUED, request, place):
            self.model.queue[place] = (self.model.queue[place][0], words)
            self.settle()

    @act(when=lambda self: self.model.queue or self.gone, position=positions)
    def delete_queued(self, position: int) -> None:
        place = self._queued(position)
        request = self.store.delete_queued(self.chat_id, self._queued_id(place))
        if self._asked_of_queue(Transition.DELETE_QUEUED, request, place):
            self.gone.append(self.model.queue.pop(place)[0])
            self.settle()

    @act(when=lambda self: self.model.queue or self.gone, position=positions)
    def promote_queued(self, position: int) -> None:
        place = self._queued(position)
        request = self.store.promote_queued(self.chat_id, self._queued_id(place))
        if not self._asked_of_queue(Transition.PROMOTE_QUEUED, request, place):
            return
        model = self.model
        model.queue.insert(0, model.queue.pop(place))
        match model.status:
            case Status.REQUIRES_ACTION:
                model.end_action(INTERRUPTED)
            case Status.ERROR:
                model.promote()
                model.status = Status.RUNNING
            case _:
                model.status = Status.INTERRUPTING
        self.settle()

    def _queued(self, position: int) -> int:
        """A place in the queue; one that is not there now and then."""
        return position % (len(self.model.queue) + 1)

    def _queued_id(self, place: int) -> int:
        if place < len(self.model.queue):
            return self.model.queue[place][0]
        return self.gone[-1] if self.gone else 10**15

    def _asked_of_queue(
        self, transition: Transition, request: Coroutine[Any, Any, object], place: int
    ) -> bool:
        if self.model.next(transition) is not None and place >= len(self.model.queue):
            self.refused(request, NotFound)
            return False
        return self.asked(transition, request) is not None

    @act(
        when=lambda self: self.model.queue or self.model.archived,
        shuffle=st.integers(0, 10**6),
        wrong=st.sampled_from(["", "", "one less", "one twice", "a stranger"]),
    )
    def reorder_queue(self, shuffle: int, wrong: str) -> None:
        model = self.model
        order = list(model.queue)
        random.Random(shuffle).shuffle(order)
        ids = [queued_id for queued_id, _ in order]
        match wrong:
            case "one less" if ids:
                ids.pop()
            case "one twice" if len(ids) > 1:
                ids[-1] = ids[0]
            case "a stranger" if ids:
                ids[-1] = 10**15
            case _:
                wrong = ""
        request = self.store.reorder(self.chat_id, ids)
        if wrong and model.next(Transition.REORDER_QUEUE) is not None:
            self.refused(request, Conflict)
        elif self.asked(Transition.REORDER_QUEUE, request) is not None:
            model.queue = order
            self.settle()

    @act(weight=2, when=lambda self: not self.model.idle or self.model.archived)
    def interrupt(self) -> None:
        request = self.store.interrupt(self.chat_id)
        if self.model.next(Transition.INTERRUPT) is None:
            self.asked(Transition.INTERRUPT, request)
            return
        match self.model.status:
            case Status.RUNNING:
                self.world.do(request)
                self.model.status = Status.INTERRUPTING
            case Status.REQUIRES_ACTION:
                self.world.do(request)
                self.model.end_action(INTERRUPTED)
            case _:
                self.unchanged(request)
                return
        self.settle()

    @act(
        when=lambda self: self.model.status is Status.REQUIRES_ACTION or self.number % 6 == 0,
        wrong=st.sampled_from(["", "", "", "none", "one more", "another"]),
    )
    def submit_tool_results(self, wrong: str) -> None:
        model = self.model
        pending = [
            call.call_id
            for call, done in zip(model.open_calls(), model.pending, strict=False)
            if done is None
        ]
        results = dict.fromkeys(pending, "answer")
        match wrong:
            case "none":
                results = {}
            case "one more":
                results["stranger"] = "answer"
            case "another":
                results = {"stranger": "answer"}
            case _:
                pass
        request = self.store.submit(self.chat_id, results)
        if not results:  # refused for being empty, in whatever status
            self.refused(request, InvalidRequest, TransitionRefused)
        elif wrong and model.next(Transition.SUBMIT_TOOL_RESULTS) is not None:
            self.refused(request, InvalidRequest)
        elif self.asked(Transition.SUBMIT_TOOL_RESULTS, request) is not None:
            message = tuple(
                done or ToolResultPart(call.call_id, call.tool, (TextPart("answer"),))
                for call, done in zip(model.open_calls(), model.pending, strict=True)
            )
            model.history.append((Role.TOOL, message))
            model.pending = ()
            model.status = Status.RUNNING
            self.settle()

    @act(
        weight=1,
        when=lambda self: self.model.idle or self.number % 8 == 0,
        archived=st.sampled_from([True, False, False]),
    )
    def archive(self, archived: bool) -> None:
        request = self.store.archive(self.chat_id, archived=archived)
        if archived == self.model.archived:
            self.unchanged(request)
            return
        wanted = Transition.ARCHIVE if archived else Transition.UNARCHIVE
        if self.asked(wanted, request) is not None:
            self.model.archived = archived
            self.settle()

    @act(
        weight=1,
        when=lambda self: self.model.history[-1:] != [(Role.SYSTEM, text(CLEARED))],
    )
    def clear_context(self) -> None:
        if self.asked(Transition.CLEAR_CONTEXT, self.store.clear(self.chat_id)) is not None:
            self.model.history.append((Role.SYSTEM, text(CLEARED)))
            self.settle()

    @act(weight=1, when=lambda self: len(self.model.history) > 3)
    def rename(self) -> None:
        request = people.UpdateChat(self.store.actor, self.chat_id, title=self.word())
        if self.asked(Transition.UPDATE, self.store.rpc.call(people.UPDATE, request)) is not None:
            self.settle()

    # -- the clock ---------------------------------------------------------------------------------

    @act(weight=1, when=lambda self: self.model.leased)
    def lease_expires(self) -> None:
        query = "UPDATE leases SET expires_at = now() - interval '1 second' WHERE chat_id = $1"
        self.world.do(self.world.database.execute(query, self.chat_id))
        self.model.leased = False
        self.settle()

    @act(when=lambda self: self.model.status is Status.REQUIRES_ACTION)
    def action_expires(self) -> None:
        self.world.do(self._expire_action())
        self.model.end_action(EXPIRED)
        self.settle()

    async def _expire_action(self) -> None:
        query = "UPDATE chats SET action_expires_at = now() - interval '1 second' WHERE id = $1"
        version = self.rows.chat["snapshot_version"]
        seen = len(self.store.log.seen)
        await self.world.database.execute(query, self.chat_id)
        while (await self.store.chat(self.chat_id)).snapshot_version == version:
            await self.store.log.more(seen)
            seen = len(self.store.log.seen)

    # -- workers -----------------------------------------------------------------------------------

    @act(weight=3, runner=runners, times=st.sampled_from([1, 1, 2]))
    def acquire(self, runner: str, times: int) -> None:
        """The same request twice makes the same owner; other runners are refused meanwhile."""
        model = self.model
        requests = [self.store.acquire(self.chat_id, runner) for _ in range(times)]
        if model.next(Transition.ACQUIRE) is None:
            self._all_refused(requests, TransitionRefused)
            return
        if model.leased and model.runner != runner:
            self._all_refused(requests, AlreadyOwned)
            return
        contexts = self.world.do(_all(requests))
        model.runner, model.leased = runner, True
        self.learn(runner, contexts[0].chat)
        self.settle()
        history = [(message.role, message.parts) for message in contexts[0].messages]
        assert history == model.history
        others = [one for one in RUNNERS if one != runner][: times - 1]
        self._all_refused([self.store.acquire(self.chat_id, one) for one in others], AlreadyOwned)

    def _all_refused(
        self, requests: Sequence[Coroutine[Any, Any, object]], why: type[SteersmanError]
    ) -> None:
        for request in requests:
            self.refused(request, why)

    def learn(self, runner: str, chat: work.OwnedChat) -> None:
        """A worker believes this from now on; workers of the past keep what they believed."""
        fence = work.Fence(self.chat_id, RunnerId(runner), chat.history_version, chat.status)
        if fence not in self.fences:
            self.fences.append(fence)

    @act(weight=1, runner=runners)
    def renew(self, runner: str) -> None:
        request = work.Renew(RunnerId(runner), (self.chat_id,), 60)
        renewal = self.store.rpc.call(work.RENEW, request)
        if self.model.runner != runner:
            assert self.unchanged(renewal).held == ()
            return
        (held,) = self.world.do(renewal).held
        assert held.status is self.model.status
        self.model.leased = True
        fence = work.Fence(self.chat_id, RunnerId(runner), held.history_version, held.status)
        if fence not in self.fences:
            self.fences.append(fence)
        self.settle()

    @act(weight=1, runner=runners)
    def abandon(self, runner: str) -> None:
        request = self.store.abandon(self.chat_id, runner)
        if self.model.runner != runner:
            self.unchanged(request)
            return
        self.world.do(request)
        self.model.release()
        self.settle()

    def fence(self, back: int) -> work.Fence:
        """A belief of some worker; most of the time the newest."""
        return self.fences[-1 - back % len(self.fences)]

    def fenced(
        self,
        transition: Transition,
        fence: work.Fence,
        request: Coroutine[Any, Any, T],
    ) -> T | None:
        """Ask as a worker: None, and nothing changed, when it is stale or the table refuses."""
        model = self.model
        true = (
            fence.runner_id == model.runner
            and fence.history_version == self.rows.chat["history_version"]
            and fence.status is model.status
        )
        if not true:
            error = self.refused(request, StaleFence)
            assert error.details["owned"] == (fence.runner_id == model.runner)
            return None
        if model.next(transition) is None:
            self.refused(request, TransitionRefused)
            return None
        return self.world.do(request)

    stale: Final = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 5, 8, 13])

    @act(when=lambda self: self.fences, back=stale)
    def begin_attempt(self, back: int) -> None:
        fence = self.fence(back)
        if self.fenced(Transition.BEGIN_ATTEMPT, fence, self.store.begin(fence)) is not None:
            self.settle()

    @act(when=lambda self: self.fences, back=stale)
    def record_retry(self, back: int) -> None:
        fence = self.fence(back)
        allowed = self.model.next(Transition.RECORD_RETRY)
        before = self.rows
        self.fenced(Transition.RECORD_RETRY, fence, self._retry(fence))
        if allowed is not None and self.read() != before:
            self.settle()

    async def _retry(self, fence: work.Fence) -> bool:
        await self.store.retry(fence)
        return True

    def step(self, answer: str) -> tuple[work.NewMessage, ...]:
        """What the owner's next step is: a word of the model, or the results of its tools."""
        if calls := self.model.open_calls():
            return (self.results(calls),)
        words = self.word()
        parts: list[Any] = [TextPart(words)] if answer != "calls" else []
        if "calls" in answer:
            parts += [ToolCallPart(f"{words}-{n}", "tool", {"n": n}) for n in range(2)]
        if answer == "provider-call":
            parts.append(ToolCallPart(f"{words}-p", "search", {}, provider_executed=True))
            parts.append(ToolResultPart(f"{words}-p", "search", provider_executed=True))
        return (work.NewMessage(Role.ASSISTANT, tuple(parts), stop="end"),)

    def results(self, calls: Sequence[ToolCallPart]) -> work.NewMessage:
        return work.NewMessage(
            Role.TOOL,
            tuple(ToolResultPart(call.call_id, call.tool, (TextPart("done"),)) for call in calls),
        )

    def last_step(self, answer: str) -> tuple[work.NewMessage, ...]:
        """A step after which nothing is open."""
        messages = self.step(answer)
        if calls := local_calls(messages[-1].parts):
            return (*messages, self.results(calls))
        return messages

    def committed(self, fence: work.Fence, reply: work.Committed) -> None:
        assert reply.released == (self.model.runner is None)
        if not reply.released:
            self.learn(fence.runner_id, reply.chat)
        self.settle()

    def append(self, messages: Sequence[work.NewMessage]) -> None:
        assert all(message.visibility is Visibility.BOTH for message in messages)
        self.model.history += [(message.role, message.parts) for message in messages]

    @act(
        weight=3,
        when=lambda self: self.fences,
        back=stale,
        answer=answers,
        times=st.sampled_from([1, 1, 3]),
    )
    def commit_step(self, back: int, answer: str, times: int) -> None:
        """The same request several times at once: one of them lands."""
        fence, messages = self.fence(back), self.step(answer)
        if times == 1:
            reply = self.fenced(Transition.COMMIT_STEP, fence, self.store.commit(fence, *messages))
        else:
            reply = self._once(fence, [self.store.commit(fence, *messages) for _ in range(times)])
        if reply is not None:
            self.append(messages)
            self.committed(fence, reply)

    def _once(
        self, fence: work.Fence, requests: Sequence[Coroutine[Any, Any, work.Committed]]
    ) -> work.Committed | None:
        model = self.model
        may = (
            fence.runner_id == model.runner
            and fence.history_version == self.rows.chat["history_version"]
            and fence.status is model.status is Status.RUNNING
        )
        results = self.world.do(_all(requests, failures=True))
        landed = [result for result in results if isinstance(result, work.Committed)]
        refusals = [result for result in results if not isinstance(result, work.Committed)]
        assert all(isinstance(r, StaleFence | TransitionRefused) for r in refusals), refusals
        assert len(landed) == may
        if not landed:
            self._unchanged()
            return None
        return landed[0]

    @act(when=lambda self: self.fences, back=stale, answer=answers)
    def finish_turn(self, back: int, answer: str) -> None:
        fence, messages = self.fence(back), self.last_step(answer)
        reply = self.fenced(Transition.FINISH_TURN, fence, self.store.finish(fence, *messages))
        if reply is not None:
            self.append(messages)
            self.model.rest()
            self.committed(fence, reply)

    @act(when=lambda self: self.fences, back=stale, answer=answers, empty=st.booleans())
    def finish_interruption(self, back: int, answer: str, empty: bool) -> None:
        fence = self.fence(back)
        messages = () if empty and not self.model.open_calls() else self.last_step(answer)
        reply = self.fenced(
            Transition.FINISH_INTERRUPTION,
            fence,
            self.store.finish_interruption(fence, *messages),
        )
        if reply is not None:
            self.append(messages)
            self.model.rest()
            self.committed(fence, reply)

    @act(when=lambda self: self.fences, back=stale, answer=answers, empty=st.booleans())
    def finish_error(self, back: int, answer: str, empty: bool) -> None:
        fence = self.fence(back)
        messages = () if empty and not self.model.open_calls() else self.last_step(answer)
        reply = self.fenced(
            Transition.FINISH_ERROR, fence, self.store.finish_error(fence, *messages)
        )
        if reply is not None:
            self.append(messages)
            self.model.status = Status.ERROR
            self.model.release()
            self.committed(fence, reply)

    @act(
        when=lambda self: self.fences and len(self.model.open_calls()) > 1,
        back=stale,
        done=st.integers(0, 1),
    )
    def enter_requires_action(self, back: int, done: int) -> None:
        fence, calls = self.fence(back), self.model.open_calls()
        results = tuple(
            ToolResultPart(call.call_id, call.tool, (TextPart("here"),)) for call in calls[:done]
        )
        reply = self.fenced(
            Transition.ENTER_REQUIRES_ACTION,
            fence,
            self.store.require_action(fence, *calls, results=results),
        )
        if reply is not None:
            self.model.pending = (*results, *(None for _ in calls[done:]))
            self.model.status = Status.REQUIRES_ACTION
            self.model.release()
            self.committed(fence, reply)

    works: Final = st.lists(
        st.sampled_from(["begin", "retry", "step", "step", "action", "end", "error"]),
        min_size=1,
        max_size=4,
    )

    @act(
        weight=8,
        when=lambda self: self.model.status in OWNED,
        runner=runners,
        answer=answers,
        what=works,
    )
    def go_on(self, runner: str, answer: str, what: list[str]) -> None:
        """What a chatloop does all day; left to chance alone it would be rare."""
        self._go_on(runner, answer, what)

    @act(
        weight=4,
        when=lambda self: self.model.status in OWNED,
        runner=runners,
        what=st.sampled_from(["action", "end", "error"]),
        begins=st.booleans(),
    )
    def a_turn(self, runner: str, what: str, begins: bool) -> None:
        """A step with tools, and then the way in which it goes on."""
        if self.model.status is Status.RUNNING and not self.model.open_calls():
            self._go_on(runner, "calls", ["begin"] * begins + ["step"])
        self._go_on(runner, "text", [what])

    @act(
        weight=3,
        when=lambda self: self.model.status in OWNED,
        runner=runners,
        interrupted=st.booleans(),
    )
    def one_more_turn(self, runner: str, interrupted: bool) -> None:
        if interrupted and self.model.status is Status.RUNNING:
            self.interrupt()
        self._go_on(runner, "text", ["end"])

    @act(
        when=lambda self: self.model.runner is not None and self.fences,
        runner=runners,
        late=st.sampled_from(["begin", "retry", "step", "end", "interrupted", "error"]),
    )
    def taken_over(self, runner: str, late: str) -> None:
        """The owner was only slow: it goes on as if nothing had happened."""
        if self.model.leased:
            self.lease_expires()
        self.acquire(runner, 1)
        stale = [fence.runner_id != runner for fence in reversed(self.fences)]
        if not any(stale):
            return
        back = stale.index(True)
        match late:
            case "begin":
                self.begin_attempt(back)
            case "retry":
                self.record_retry(back)
            case "step":
                self.commit_step(back, "text", 1)
            case "end":
                self.finish_turn(back, "text")
            case "interrupted":
                self.finish_interruption(back, "text", empty=False)
            case _:
                self.finish_error(back, "text", empty=False)

    def _go_on(self, runner: str, answer: str, what: list[str]) -> None:
        if self.model.leased:
            runner = self.model.runner or runner
        self.acquire(runner, 1)
        for one in what:
            if self.model.runner != runner:
                return
            match one:
                case "begin":
                    self.begin_attempt(0)
                case "retry":
                    self.record_retry(0)
                case "step":
                    self.commit_step(0, answer, 1)
                case "action" if len(self.model.open_calls()) > 1:
                    self.enter_requires_action(0, 1)
                case "error":
                    self.finish_error(0, answer, empty=False)
                case _ if self.model.status is Status.INTERRUPTING:
                    self.finish_interruption(0, answer, empty=False)
                case _:
                    self.finish_turn(0, answer)

    # -- the end -----------------------------------------------------------------------------------

    def teardown(self) -> None:
        if self.chat_id:
            self.world.do(self._compare_log())

    async def _compare_log(self) -> None:
        log = await self._whole_log()
        assert broken_log(self.rows, log) == []
        snapshot = (await self.store.snapshot(self.chat_id)).snapshot
        view = View().apply_all(log)
        assert view.messages == await self.store.messages(self.chat_id)
        assert view.queue == snapshot.queue
        assert view.chat is not None
        for name in ("status", "archived", "title", "last_error", "last_outcome", "action"):
            shown, stored = getattr(view.chat, name), getattr(snapshot.chat, name)
            assert shown == stored, f"{name}: clients see {shown!r}, stored is {stored!r}"
        assert view.chat.queue_size == len(snapshot.queue)

    async def _whole_log(self) -> list[e.Event]:
        """All events so far: they are in order, so they are there when a last one is."""
        if self.model.archived:
            await self.store.archive(self.chat_id, archived=False)
        request = people.UpdateChat(self.store.actor, self.chat_id, title="the end")
        last = (await self.store.rpc.call(people.UPDATE, request)).chat.snapshot_version
        await self.store.log.until(self.chat_id, e.ChatUpdated, snapshot_version=last)
        self.rows = await read_rows(self.world.database, self.chat_id)
        return self.store.log.of(self.chat_id)


async def _all(requests: Sequence[Coroutine[Any, Any, T]], *, failures: bool = False) -> list[Any]:
    return await asyncio.gather(*requests, return_exceptions=failures)


@pytest.mark.timeout(3600 if LONG else 300)
def test_no_order_of_requests_breaks_a_chat(world: World) -> None:
    class OfThisWorld(Machine):
        pass

    OfThisWorld.world = world
    run_state_machine_as_test(
        OfThisWorld,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=True,
            phases=(Phase.generate, Phase.shrink) if LONG else (Phase.generate,),
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
