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
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from support.chat_driver import StoreDriver, new_actor, summary, text
from support.chat_model import CLEARED, EXPIRED, INTERRUPTED, ChatModel, Entry, Pending
from support.connections import connected
from support.databases import drop_database, new_database
from support.invariants import (
    OWNED,
    ChatRows,
    broken,
    broken_change,
    broken_log,
    local_calls,
    read_rows,
    remaining,
)
from support.services import running_store

from steersman.client import View
from steersman.embedded.nats import NatsServer
from steersman.embedded.postgres import PostgresServer
from steersman_contracts import events as e
from steersman_contracts.chats import ChatError, Role, Status, Transition, Visibility
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
from steersman_contracts.ids import ChatId, MessageId, RunnerId
from steersman_contracts.parts import TextPart, ToolCallPart, ToolResultPart, decode_parts
from steersman_contracts.policies import PendingApproval, Scope
from steersman_contracts.rpc import agents
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import worker as work
from steersman_runtime.nats_client import close

LONG: Final = os.environ.get("STEERSMAN_MACHINE_EXAMPLES")
EXAMPLES: Final = int(LONG or 36)
STEPS: Final = 40
RUNNERS: Final = ("runner-1", "runner-2", "runner-3")
_REACHED: Final = """
WITH used AS (
    INSERT INTO spending AS s (chat_id, slot, steps, tokens, cost) VALUES ($1, 0, 1000, 0, 0)
        ON CONFLICT (chat_id, slot) DO UPDATE SET steps = s.steps + 1000)
UPDATE chats SET limits = '{"steps": 1}' WHERE id = $1
"""
"""Only a turn that has really reached a limit pauses."""

T = TypeVar("T")


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
        self._url = url = await new_database(self._postgres.dsn)
        self._stack.push_async_callback(drop_database, self._postgres.dsn, url)
        for name in ("store-1", "store-2"):
            await self._stack.enter_async_context(
                running_store(self._nats.url(), url, instance=name, sweep_s=0.1)
            )
        client = await connected(self._nats.url())
        self._stack.push_async_callback(close, client)
        self.store = StoreDriver(client, await new_actor(url))
        self.database = await asyncpg.connect(url)
        self._stack.push_async_callback(self.database.close)

    def new_person(self) -> None:
        """Whoever speaks from now on has never said or approved anything."""
        self.store.actor = self.do(new_actor(self._url, uuid.uuid4().hex))

    def close(self) -> None:
        try:
            self.do(self._stack.aclose())
        finally:
            self._runner.close()


async def _bounded(work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(60):
        return await work


@pytest.fixture
def world(postgres: PostgresServer, nats: NatsServer) -> Generator[World]:
    opened = World(postgres, nats)
    try:
        opened.open()
        yield opened
    finally:
        opened.close()


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
        self.model = ChatModel(Status.WAITING, [])
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
        stored = [
            (
                Role(row["role"]),
                decode_parts(row["content"]),
                Visibility(row["visibility"]),
                row["boundary"],
            )
            for row in rows.history
        ]
        assert stored == [entry[:4] for entry in model.history]
        queued = [(row["id"], decode_parts(row["content"])) for row in rows.queue]
        assert queued == [(queued_id, text(words)) for queued_id, words in model.queue]
        assert rows.chat["compaction_requested"] == model.wish
        assert {row["tool"] for row in rows.grants} == model.grants
        assert [row["action"] for row in rows.audit] == model.book

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
    def begin(self, words: bool) -> None:
        self._create(words)

    def _create(self, words: bool) -> None:
        self.world.new_person()
        self.fences.clear()
        self.keys.clear()
        self.gone.clear()
        key = uuid.uuid4().hex
        first = self.word() if words else None
        chat = self.world.do(self.store.create(first, client_key=key))
        again = self.world.do(self.store.create(first, client_key=key))
        assert again == chat
        self.chat_id = chat.id
        self.model = ChatModel(Status.WAITING, [])
        if first:
            self.model.say(first)
            self.model.run()
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
            model.run()
            model.release()
            return
        assert reply.queued is not None
        model.queue.append((reply.queued.id, words))
        if interrupt and model.status is Status.RUNNING:
            self._interrupting()
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
        if row["deleted_at"] is not None or row["visibility"] == "model":
            self.refused(request, NotFound)
        elif row["role"] != "user":
            self.refused(request, InvalidRequest)
        elif self.asked(Transition.EDIT_MESSAGE, request) is not None:
            kept = sum(1 for one in self.rows.history if one["id"] < row["id"])
            self.model.replaced(kept, words)
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
                model.run()
            case _:
                self._interrupting()
        self.settle()

    def _interrupting(self) -> None:
        self.model.status = Status.INTERRUPTING
        self.model.compacting = self.model.retrying = False

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
                self._interrupting()
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
            one
            for one in model.action
            if one.open and not one.asked and one.agent is None and self._waits_for_people
        ]
        results = {one.call.call_id: "answer" for one in pending}
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
            for one in pending:
                one.result = ToolResultPart(one.call.call_id, one.call.tool, (TextPart("answer"),))
            model.answered()
            self.settle()

    @property
    def _waits_for_people(self) -> bool:
        return self.model.status is Status.REQUIRES_ACTION

    @act(
        weight=6,
        when=lambda self: self.model.action or self.number % 7 == 0,
        position=positions,
        approved=st.booleans(),
        scope=st.sampled_from(["once", "once", "chat", "always"]),
        stranger=st.sampled_from([False, False, False, True]),
        times=st.sampled_from([1, 1, 1, 3]),
    )
    def resolve_approval(
        self, position: int, approved: bool, scope: Scope, stranger: bool, times: int
    ) -> None:
        """Any call of the action, also one that nobody asks about or that was decided before."""
        model = self.model
        one = None if stranger or not model.action else model.action[position % len(model.action)]
        call_id = one.call.call_id if one is not None else "stranger"
        requests = [
            self.store.resolve(self.chat_id, call_id, approved=approved, scope=scope, reason="no")
            for _ in range(times)
        ]
        if model.next(Transition.RESOLVE_APPROVAL) is None:
            for request in requests:
                self.asked(Transition.RESOLVE_APPROVAL, request)
        elif one is None or not one.asked:
            self._all_refused(requests, NotFound)
        elif not one.open:
            self._all_refused(requests, Conflict)
        else:
            self._landed(requests, 1, Conflict, TransitionRefused)
            if approved:
                one.approved = True
                if scope != "once":
                    model.grants.add(one.call.tool)
            else:
                one.result = one.error("a person refused this call: no")
            model.book.append("approval.approved" if approved else "approval.denied")
            model.answered()
            self.settle()

    def _landed(
        self,
        requests: Sequence[Coroutine[Any, Any, T]],
        count: int,
        *why: type[SteersmanError],
    ) -> list[T]:
        """Ask all at once: so many take effect, the others are refused."""
        replies = self.world.do(_all(requests, failures=True))
        refusals = [reply for reply in replies if isinstance(reply, BaseException)]
        assert all(isinstance(refusal, why) for refusal in refusals), refusals
        assert len(replies) - len(refusals) == count
        if not count:
            self._unchanged()
        return [reply for reply in replies if not isinstance(reply, BaseException)]

    @act(
        when=lambda self: self.model.summarisable or self.number % 5 == 0,
        times=st.sampled_from([1, 1, 3]),
    )
    def request_compaction(self, times: int) -> None:
        model = self.model
        requests = [self.store.compact(self.chat_id) for _ in range(times)]
        if model.next(Transition.REQUEST_COMPACTION) is None:
            for request in requests:
                self.asked(Transition.REQUEST_COMPACTION, request)
        elif not model.summarisable:
            self._all_refused(requests, Conflict)
        else:
            self._landed(requests, times)
            if model.idle:
                model.run()
            model.wish = True
            self.settle()

    @act(
        when=lambda self: self.model.last_boundary() >= 0 or self.number % 9 == 0,
        times=st.sampled_from([1, 1, 2]),
    )
    def undo_compaction(self, times: int) -> None:
        """Of two summaries in a row, two requests take back both."""
        requests = [self.store.undo_compaction(self.chat_id) for _ in range(times)]
        if self.model.next(Transition.UNDO_COMPACTION) is None:
            for request in requests:
                self.asked(Transition.UNDO_COMPACTION, request)
            return
        count = sum([self.model.take_back_summary() for _ in requests])
        self._landed(requests, count, Conflict)
        if count:
            self.settle()

    @act(weight=3, when=lambda self: self.rows.messages, position=positions)
    def fork(self, position: int) -> None:
        """Another chat with the same history up to a message; this one does not notice."""
        row = self.rows.messages[position % len(self.rows.messages)]
        request = people.ForkChat(self.store.actor, self.chat_id, row["id"])
        forking = self.store.rpc.call(people.FORK, request)
        if row["deleted_at"] is not None or row["visibility"] == "model":
            self.refused(forking, NotFound)
            return
        fork = self.unchanged(forking).chat
        kept = self.model.history[: [one["id"] for one in self.rows.history].index(row["id"]) + 1]
        if calls := ChatModel(Status.WAITING, kept).open_calls():
            follows = self.model.history[len(kept) :][:1]
            missing = [Pending(call).error(INTERRUPTED) for call in calls]
            kept += follows or [Entry(Role.TOOL, tuple(missing))]
        original = self.chat_id, self.model, self.rows
        self.chat_id, self.model = fork.id, ChatModel(Status.WAITING, kept)
        self.model.grants = {
            grant["tool"] for grant in self.rows.grants if grant["chat_id"] is None
        }
        self.rows = self.read()
        assert broken(self.rows) == []
        self.compare()
        undo = self.store.undo_compaction(self.chat_id)
        if self.model.take_back_summary():
            self.world.do(undo)
            self.settle()
        else:
            self.refused(undo, Conflict)
        self.world.do(self.store.delete(self.chat_id))
        self.chat_id, self.model, self.rows = original

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
        when=lambda self: self.model.last_boundary() < len(self.model.history) - 1,
    )
    def clear_context(self) -> None:
        if self.asked(Transition.CLEAR_CONTEXT, self.store.clear(self.chat_id)) is not None:
            self.model.history.append(Entry(Role.SYSTEM, text(CLEARED), boundary="clear"))
            self.settle()

    @act(weight=1, when=lambda self: len(self.model.history) > 3)
    def rename(self) -> None:
        request = people.UpdateChat(self.store.actor, self.chat_id, title=self.word())
        if self.asked(Transition.UPDATE, self.store.rpc.call(people.UPDATE, request)) is not None:
            self.settle()

    @act(weight=1, when=lambda self: self.number > 4, words=st.booleans())
    def delete(self, words: bool) -> None:
        """Nothing of it is left, nobody reaches it any more, and its key makes another chat."""
        gone = self.chat_id
        self.world.do(self.store.delete(gone))
        left = self.world.do(remaining(self.world.database, gone))
        assert left <= {"outbox", "purges", "audit", "usage_days"}, left
        for request in (
            self.store.chat(gone),
            self.store.send(gone, "late"),
            self.store.acquire(gone, "runner-1"),
            *(self.store.finish(fence) for fence in self.fences[-2:]),
        ):
            with pytest.raises(NotFound):
                self.world.do(request)
        self.world.do(self.store.log.until(gone, e.ChatDeleted))
        self._create(words)

    @act(
        weight=4,
        when=lambda self: self.model.at_limit or self.number % 6 == 0,
        steps=st.integers(1, 9),
    )
    def set_limits(self, steps: int) -> None:
        """Also in place of a resumption: what waits at a limit goes on, and looks again."""
        request = self.store.set_limits(self.chat_id, steps=steps)
        if self.asked(Transition.UPDATE, request) is not None:
            self.model.resume()
            self.settle()

    # -- agents ------------------------------------------------------------------------------------

    @act(
        weight=8,
        when=lambda self: any(one.open and one.agent for one in self.model.action),
        position=positions,
        how=st.sampled_from(["done", "done", "failed", "deleted", "too late"]),
    )
    def agent_ends(self, position: int, how: str) -> None:
        """Whoever has waited for it is answered, by whichever store hears of it."""
        waiting = [one for one in self.model.action if one.open and one.agent is not None]
        one = waiting[position % len(waiting)]
        self.world.do(self._until_moved(self._end_agent(one, how)))
        one.result = self._answer_to(one.call.call_id)
        assert (one.result.tool, one.result.is_error) == (one.call.tool, False)
        self.model.answered()
        self.settle()

    async def _end_agent(self, one: Pending, how: str) -> None:
        assert one.agent is not None
        if how == "too late":
            await self.world.database.execute(
                "UPDATE waits SET deadline = now() - interval '1 second' "
                "WHERE chat_id = $1 AND call_id = $2",
                *(self.chat_id, one.call.call_id),
            )
        elif how == "deleted":
            await self.store.delete(one.agent)
        else:
            await self.store.acquire(one.agent, "runner-of-agents")
            fence = await self.store.fence(one.agent, "runner-of-agents")
            await (self.store.finish(fence) if how == "done" else self.store.finish_error(fence))

    def _answer_to(self, call_id: str) -> ToolResultPart:
        rows = self.read()
        found: list[Any] = rows.chat["action_results"] or []
        parts = [msgspec.convert(one, ToolResultPart) for one in found if one is not None]
        if rows.history[-1]["role"] == Role.TOOL:
            last = decode_parts(rows.history[-1]["content"])
            parts += [part for part in last if isinstance(part, ToolResultPart)]
        return next(part for part in parts if part.call_id == call_id)

    def _spawn(self, fence: work.Fence, call: ToolCallPart) -> ChatId | None:
        """An agent for a call of the last step; none for a worker that is not the owner."""
        caller = agents.Caller(self.chat_id, fence.runner_id)
        last = MessageId(self.rows.history[-1]["id"])
        request = agents.SpawnAgent(caller, agents.AgentCall(last, call.call_id), "look")
        try:
            return self.world.do(self.store.rpc.call(agents.SPAWN_AGENT, request)).agent_id
        except StaleFence:
            return None

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
        undecided = [one for one in self.model.action if one.asked and one.open]
        self.model.book += ["approval.expired" for _ in undecided]
        self.model.end_action(EXPIRED)
        self.settle()

    async def _expire_action(self) -> None:
        query = "UPDATE chats SET action_expires_at = now() - interval '1 second' WHERE id = $1"
        await self._until_moved(self.world.database.execute(query, self.chat_id))

    async def _until_moved(self, work: Awaitable[object]) -> None:
        """Do something that the clock follows up, and wait until it has changed the chat."""
        version = self.rows.chat["snapshot_version"]
        seen = len(self.store.log.seen)
        await work
        while (await self.store.chat(self.chat_id)).snapshot_version == version:
            await self.store.log.more(seen)
            seen = len(self.store.log.seen)

    # -- workers -----------------------------------------------------------------------------------

    @act(
        weight=3, runner=runners, times=st.sampled_from([1, 1, 2]), begin=st.sampled_from([0, 0, 1])
    )
    def acquire(self, runner: str, times: int, begin: int = 0) -> None:
        """The same request twice makes the same owner; other runners are refused meanwhile."""
        model = self.model
        requests = [
            self.store.acquire(self.chat_id, runner, begin=bool(begin)) for _ in range(times)
        ]
        if model.next(Transition.ACQUIRE) is None:
            self._all_refused(requests, TransitionRefused)
            return
        if model.leased and model.runner != runner:
            self._all_refused(requests, AlreadyOwned)
            return
        contexts = self.world.do(_all(requests))
        model.runner, model.leased = runner, True
        begun = bool(begin) and self._model_is_next
        if begun:
            model.compacting = model.retrying = False
        assert all(context.chat.begun == begun for context in contexts)
        self.learn(runner, contexts[0].chat)
        self.settle()
        history = [
            (message.role, message.parts, message.visibility, message.boundary)
            for message in contexts[0].messages
        ]
        assert history == [entry[:4] for entry in model.history]
        others = [one for one in RUNNERS if one != runner][: times - 1]
        self._all_refused([self.store.acquire(self.chat_id, one) for one in others], AlreadyOwned)

    @property
    def _model_is_next(self) -> bool:
        model = self.model
        return model.status is Status.RUNNING and not model.wish and model.awaits_model

    def _all_refused(
        self, requests: Sequence[Coroutine[Any, Any, object]], why: type[SteersmanError]
    ) -> None:
        for request in requests:
            self.refused(request, why)

    def learn(self, runner: str, chat: work.OwnedChat) -> None:
        """A worker believes this from now on; workers of the past keep what they believed."""
        action = self.model.action if self.model.status in OWNED else []
        assert chat.approved == tuple(one.call.call_id for one in action if one.approved)
        assert chat.results == tuple(one.result for one in action if one.result is not None)
        assert set(chat.grants) == self.model.grants
        assert chat.compaction_requested == self.model.wish
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

    @act(weight=2, when=lambda self: self.model.runner is not None, runner=runners)
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
            self.model.compacting = self.model.retrying = False
            self.settle()

    @act(
        weight=4,
        when=lambda self: self.fences and self.rows.chat["generation_attempt"],
        back=stale,
    )
    def record_retry(self, back: int) -> None:
        fence = self.fence(back)
        if self.fenced(Transition.RECORD_RETRY, fence, self._retry(fence)) is not None:
            self.model.retrying = True
            self.settle()

    async def _retry(self, fence: work.Fence) -> bool:
        """As the attempt that is under way."""
        error = ChatError("overloaded", "busy", retryable=True)
        attempt = self.rows.chat["generation_attempt"]
        await self.store.rpc.call(work.RECORD_RETRY, work.RecordRetry(fence, attempt, 1000, error))
        return True

    def step(self, answer: str) -> tuple[work.NewMessage, ...]:
        """What the owner's next step is: a word of the model, or the results of its tools."""
        if calls := self.model.open_calls():
            return (self.results(calls),)
        words = self.word()
        parts: list[Any] = [TextPart(words)] if answer != "calls" else []
        if "calls" in answer:
            parts += [ToolCallPart(f"{words}-{n}", f"tool-{n}", {"n": n}) for n in range(3)]
        if answer == "provider-call":
            parts.append(ToolCallPart(f"{words}-p", "search", {}, provider_executed=True))
            parts.append(ToolResultPart(f"{words}-p", "search", provider_executed=True))
        return (work.NewMessage(Role.ASSISTANT, tuple(parts), stop="end"),)

    def results(self, calls: Sequence[ToolCallPart]) -> work.NewMessage:
        """With what people have decided and answered already."""
        known = self.model.known_results()
        return work.NewMessage(
            Role.TOOL,
            tuple(
                known.get(call.call_id)
                or ToolResultPart(call.call_id, call.tool, (TextPart("done"),))
                for call in calls
            ),
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
        if messages:
            self.model.retrying = False
        self.model.history += [Entry(message.role, message.parts) for message in messages]

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
            self.model.action = []
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
        landed = self._landed(requests, int(may), StaleFence, TransitionRefused)
        return landed[0] if landed else None

    # A worker writes no summary while calls are open: their results come first.
    @act(when=lambda self: self.fences and not self.model.open_calls(), back=stale)
    def begin_compaction(self, back: int) -> None:
        fence = self.fence(back)
        request = self.store.begin_compaction(fence)
        if self.fenced(Transition.BEGIN_COMPACTION, fence, request) is not None:
            self.model.compacting, self.model.retrying = True, False
            self.settle()

    @act(
        when=lambda self: self.fences and not self.model.open_calls(),
        back=stale,
        at_rest=st.booleans(),
        begin=st.booleans(),
        shown=st.sampled_from([True, True, False]),
        times=st.sampled_from([1, 1, 3]),
    )
    def commit_compaction(
        self, back: int, at_rest: bool, begin: bool, shown: bool, times: int
    ) -> None:
        """What people said last is carried over; what they see of a summary is a call."""
        fence, model = self.fence(back), self.model
        shown = shown or model.retrying  # clients hear of the new history by what they see
        messages = [summary(self.word())]
        if model.awaits_model and model.history[-1].role is Role.USER:
            messages.append(summary("carried over"))
        if shown:
            call = ToolCallPart(self.word(), "summarised", {})
            messages += [
                work.NewMessage(Role.ASSISTANT, (call,), Visibility.USER),
                work.NewMessage(
                    Role.TOOL,
                    (ToolResultPart(call.call_id, call.tool, (TextPart("so far"),)),),
                    Visibility.USER,
                ),
            ]
        requests = [
            self.store.commit_compaction(fence, *messages, at_rest=at_rest, begin=begin)
            for _ in range(times)
        ]
        reply = self._once(fence, requests)
        if reply is None:
            return
        boundary = "summary-at-rest" if at_rest else "summary"
        model.history += [
            Entry(one.role, one.parts, one.visibility, None if n else boundary, by_summary=True)
            for n, one in enumerate(messages)
        ]
        model.wish = model.compacting = model.retrying = False
        assert reply.chat.begun == begin
        self.committed(fence, reply)

    @act(when=lambda self: self.fences, back=stale)
    def fail_compaction(self, back: int) -> None:
        fence = self.fence(back)
        reply = self.fenced(Transition.FAIL_COMPACTION, fence, self.store.fail_compaction(fence))
        if reply is not None:
            self.model.wish = self.model.compacting = False
            self.committed(fence, reply)

    @act(when=lambda self: self.fences, back=stale, answer=answers)
    def finish_turn(self, back: int, answer: str) -> None:
        fence, messages = self.fence(back), self.last_step(answer)
        reply = self.fenced(Transition.FINISH_TURN, fence, self.store.finish(fence, *messages))
        if reply is not None:
            self.append(messages)
            self._end_turn(fence, reply)

    def _end_turn(self, fence: work.Fence, reply: work.Committed) -> None:
        if self.model.wish:  # it is written before anything else begins
            self.model.action = []
            self.model.compacting = self.model.retrying = False
        else:
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
            self.model.fail()
            self.committed(fence, reply)

    @act(
        when=lambda self: self.fences and len(self.model.open_calls()) > 1,
        back=stale,
        done=st.integers(0, 2),
        asks=st.integers(0, 7),
        waits=st.sampled_from([0, 0, 1, 2, 4, 7]),
    )
    def enter_requires_action(self, back: int, done: int, asks: int, waits: int) -> None:
        """`done` calls were run before; of which a person is asked, or an agent, as bits."""
        fence = self.fence(back)
        known = self.model.known_results()
        action = [
            Pending(call, known.get(call.call_id), asked=bool(asks >> n & 1))
            for n, call in enumerate(self.model.open_calls())
        ]
        for one in action[: min(done, sum(one.open for one in action) - 1)]:
            one.result = one.result or ToolResultPart(
                one.call.call_id, one.call.tool, (TextPart("here"),)
            )
        for n, one in enumerate(action):
            if waits >> n & 1 and one.open and not one.asked:
                one.agent = self._spawn(fence, one.call)
        reply = self.fenced(
            Transition.ENTER_REQUIRES_ACTION,
            fence,
            self.store.require_action(
                fence,
                *(one.call for one in action),
                results=tuple(one.result for one in action if one.result is not None),
                approvals=tuple(
                    PendingApproval(one.call.call_id, one.call.tool, one.call.arguments)
                    for one in action
                    if one.asked and one.open
                ),
                waits=tuple(
                    work.AgentWait(one.call.call_id, (one.agent,), 600)
                    for one in action
                    if one.agent is not None
                ),
            ),
        )
        if reply is not None:
            for one in action:
                one.asked = one.asked and one.open
            self.model.require_action(action)
            self.committed(fence, reply)

    @act(
        when=lambda self: self.fences and not self.model.open_calls(),
        back=stale,
    )
    def pause_turn(self, back: int) -> None:
        """A limit of the turn is reached, between two steps."""
        fence = self.fence(back)
        self.world.do(self.world.database.execute(_REACHED, self.chat_id))
        self.rows = self.read()
        reply = self.fenced(Transition.ENTER_REQUIRES_ACTION, fence, self.store.pause(fence))
        if reply is not None:
            self.model.require_action([])
            self.committed(fence, reply)

    works: Final = st.lists(
        st.sampled_from(
            [
                *("begin", "retry", "step", "step", "action", "limit"),
                *("summary", "no summary", "end", "error"),
            ]
        ),
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
        what=st.sampled_from(["action", "action", "limit", "end", "error"]),
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
        weight=8,
        when=lambda self: not self.model.archived,
        runner=runners,
        done=st.integers(0, 2),
        asks=st.integers(0, 7),
        waits=st.sampled_from([0, 0, 1, 2, 4, 7]),
        what=st.lists(
            st.sampled_from(
                [
                    *("allow", "allow", "always", "refuse", "submit", "submit"),
                    *("agent", "agent", "expire", "interrupt"),
                ]
            ),
            max_size=5,
        ),
    )
    def an_action(self, runner: str, done: int, asks: int, waits: int, what: list[str]) -> None:
        """A step whose calls people and their client answer, in any order, or leave."""
        if self.model.idle:
            self.send(interrupt=False, keyed=False, times=1)
        if self.model.status is Status.RUNNING:
            if not self.model.open_calls():
                self._go_on(runner, "calls", ["step"])
            self._go_on(runner, "calls", [])
            if len(self.model.open_calls()) > 1:
                self.enter_requires_action(0, done, asks, waits)
        for position, one in enumerate(what):
            self._somebody(one, position)
        if self.model.status in OWNED and self.model.action:
            self._go_on(runner, "text", ["step"])

    def _somebody(self, what: str, position: int) -> None:
        """A person, their client, an agent or the clock does something about the action."""
        match what:
            case "allow" | "always" | "refuse":
                scope = "always" if what == "always" else "once"
                self.resolve_approval(position, what != "refuse", scope, False, 1)
            case "submit":
                self.submit_tool_results("")
            case "agent":
                if any(one.open and one.agent for one in self.model.action):
                    self.agent_ends(position, ("done", "too late")[position % 2])
            case "expire" if self._waits_for_people:
                self.action_expires()
            case _ if self._waits_for_people:
                self.interrupt()
            case _:
                pass

    @act(
        weight=3,
        when=lambda self: self.model.summarisable and not self.model.archived,
        runner=runners,
        what=st.sampled_from(["summary", "summary", "no summary", "interrupt", "error"]),
        stays=st.booleans(),
    )
    def a_summary(self, runner: str, what: str, stays: bool) -> None:
        """Asked for while the chat rests or runs, written or not, and perhaps taken back."""
        self.request_compaction(1)
        if self.model.status is not Status.RUNNING or self.model.open_calls():
            return
        if what == "interrupt":
            self._go_on(runner, "text", ["summary begins"])
            self.interrupt()
            self._go_on(runner, "text", ["end"])
            return
        self._go_on(runner, "text", [what, "end with nothing"])
        if not stays:
            self.undo_compaction(1)

    @act(
        when=lambda self: self.model.runner is not None and self.fences,
        runner=runners,
        late=st.sampled_from(
            [
                *("begin", "retry", "step", "end", "error"),
                *("summary", "no summary", "action", "limit"),
            ]
        ),
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
        self._do(late, back, answer="text")

    def _go_on(self, runner: str, answer: str, what: list[str]) -> None:
        if self.model.leased:
            runner = self.model.runner or runner
        self.acquire(runner, 1)
        for one in what:
            if self.model.runner != runner:
                return
            self._do(one, 0, answer)

    def _do(self, what: str, back: int, answer: str) -> None:
        """One request of a worker, as far as it would make it of the chat as it is."""
        answering = bool(self.model.open_calls())
        match what:
            case "begin":
                self.begin_attempt(back)
            case "retry" if self.rows.chat["generation_attempt"]:
                self.record_retry(back)
            case "action" if len(self.model.open_calls()) > 1:
                bits = self.number % 8
                self.enter_requires_action(back, self.number % 3, bits, self.number // 8 % 8)
            case "limit" if not answering:
                self.pause_turn(back)
            case "summary begins" | "summary" | "no summary" if not answering:
                self._summarise(what, back)
            case "end with nothing" if not answering:
                self._end_with_nothing()
            case "error":
                self.finish_error(back, answer, empty=False)
            case "end" if self.model.status is Status.INTERRUPTING:
                self.finish_interruption(back, answer, empty=False)
            case "end":
                self.finish_turn(back, answer)
            case _:
                self.commit_step(back, answer, 1)

    def _summarise(self, what: str, back: int) -> None:
        self.begin_compaction(back)
        if what == "summary":
            begin = self.model.awaits_model
            self.commit_compaction(back, not begin, begin, shown=True, times=1)
        elif what == "no summary":
            self.fail_compaction(back)

    def _end_with_nothing(self) -> None:
        fence = self.fence(0)
        reply = self.fenced(Transition.FINISH_TURN, fence, self.store.finish(fence))
        if reply is not None:
            self._end_turn(fence, reply)

    # -- the end -----------------------------------------------------------------------------------

    def teardown(self) -> None:
        if self.chat_id:
            self.world.do(self._compare_log())
            # With its agents: the clock would look after them in all examples that follow.
            self.world.do(self.store.delete(self.chat_id))

    async def _compare_log(self) -> None:
        log = await self._whole_log()
        assert broken_log(self.rows, log) == []
        snapshot = (await self.store.snapshot(self.chat_id)).snapshot
        view = View().apply_all(log)
        assert view.messages == await self.store.messages(self.chat_id)
        assert view.queue == snapshot.queue
        assert view.chat is not None
        names = ("status", "archived", "title", "last_error", "last_outcome", "action")
        if view.chat.history_version == snapshot.chat.history_version:
            names = (*names, "generation_attempt")
        for name in names:
            shown, stored = getattr(view.chat, name), getattr(snapshot.chat, name)
            assert shown == stored, f"{name}: clients see {shown!r}, stored is {stored!r}"
        assert view.chat.queue_size == len(snapshot.queue)
        assert view.retry == snapshot.retry
        assert (snapshot.retry is not None) == self.model.retrying
        assert view.compacting == self.model.compacting

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
