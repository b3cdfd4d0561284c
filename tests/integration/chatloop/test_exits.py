"""The probe for stuck chats: from every situation, an owner, a timer or a person leads on.

That no status lacks a way out is read from the table of transitions in
`tests/unit/store/test_exits.py`. Here each situation that a status can be in is made, and left to
whoever is to move it on: alone, among all the others, with nobody to help.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pytest
from fakes import FakeProviders, Text, Turn
from support.chat_driver import StoreDriver, assistant
from support.chatloop import ModelSetup, ToolHost, said
from support.services import running_chatloops

from steersman.embedded.nats import NatsServer
from steersman_contracts import events, subjects
from steersman_contracts.chats import Status
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import ToolCallPart
from steersman_contracts.policies import PendingApproval
from steersman_contracts.rpc.tools import CallResult, CallTool
from steersman_runtime.jetstream import purge_subject
from steersman_runtime.nats_client import NatsClient

Mover: TypeAlias = Literal["owner", "lease", "sweep", "deadline", "person"]
CALL = ToolCallPart("call-1", "ask", {})
SHORT_S = 1.0
"""A lease that nobody renews: it only ever ends."""


@dataclass(frozen=True)
class Probe:
    """What a situation is made with."""

    store: StoreDriver
    client: NatsClient
    models: ModelSetup
    fakes: FakeProviders

    async def lose_hint(self, chat_id: ChatId) -> None:
        """What a wiped NATS does to it."""
        await purge_subject(self.client, subjects.WORK_STREAM, subjects.chat_work(chat_id))

    async def dead(self, *queued: str) -> ChatId:
        """A running chat whose owner will not be heard of again."""
        chat = await self.store.create("first")
        await self.store.acquire(chat.id, "dead", lease_s=SHORT_S)
        for words in queued:
            await self.store.send(chat.id, words)
        return chat.id

    async def errored(self, *queued: str) -> ChatId:
        chat = await self.store.create("first")
        await self.store.acquire(chat.id)
        for words in queued:
            await self.store.send(chat.id, words)
        await self.store.finish_error(await self.store.fence(chat.id))
        return chat.id

    async def asking(self, *queued: str, expires_s: float = 3600) -> ChatId:
        """It waits for its client."""
        chat = await self.store.create("first")
        await self.store.acquire(chat.id)
        for words in queued:
            await self.store.send(chat.id, words)
        await self.store.commit(await self.store.fence(chat.id), assistant(CALL))
        await self.store.require_action(await self.store.fence(chat.id), CALL, expires_s=expires_s)
        return chat.id

    async def deciding(self, *, expires_s: float = 3600) -> ChatId:
        """It waits for a person to allow a call."""
        chat = await self.store.create("first")
        await self.store.acquire(chat.id, "dead", lease_s=SHORT_S)
        await self.store.commit(await self.store.fence(chat.id, "dead"), assistant(CALL))
        approval = PendingApproval(CALL.call_id, CALL.tool, {})
        await self.store.require_action(
            await self.store.fence(chat.id, "dead"),
            CALL,
            approvals=(approval,),
            expires_s=expires_s,
        )
        return chat.id

    async def summarising(self) -> ChatId:
        """Its owner died while it wrote a summary that somebody had asked for."""
        chat = await self.store.create("first")
        await self.store.acquire(chat.id)
        await self.store.finish(await self.store.fence(chat.id), assistant("answer"))
        await self.store.compact(chat.id)
        await self.store.acquire(chat.id, "dead", lease_s=SHORT_S)
        await self.store.begin_compaction(await self.store.fence(chat.id, "dead"))
        return chat.id

    async def streaming(self) -> ChatId:
        """A live owner is in the middle of an answer; before it goes on it must be released."""
        self.fakes.script("held", Turn([Text("some words of an answer")]))
        gate = self.fakes.hold("held", deltas=2)
        chat = await self.store.create("first", model=await self.models.add("chat", "held"))
        async with asyncio.timeout(60):
            await self.fakes.held("held")
        gate.release()
        return chat.id


async def yes(_: CallTool) -> CallResult:
    return said("yes")


async def waiting(probe: Probe) -> ChatId:
    return (await probe.store.create(None)).id


async def hinted(probe: Probe) -> ChatId:
    return (await probe.store.create("first")).id


async def unhinted(probe: Probe) -> ChatId:
    chat_id = await hinted(probe)
    await probe.lose_hint(chat_id)
    return chat_id


async def orphaned(probe: Probe) -> ChatId:
    return await probe.dead()


async def orphaned_with_backlog(probe: Probe) -> ChatId:
    return await probe.dead("second", "third")


async def orphaned_while_retrying(probe: Probe) -> ChatId:
    chat_id = await probe.dead()
    await probe.store.begin(await probe.store.fence(chat_id, "dead"))
    await probe.store.retry(await probe.store.fence(chat_id, "dead"))
    return chat_id


async def handed_over(probe: Probe) -> ChatId:
    chat_id = await probe.dead()
    await probe.store.abandon(chat_id, "dead")
    return chat_id


async def interrupted_before_it_began(probe: Probe) -> ChatId:
    chat_id = await hinted(probe)
    await probe.store.interrupt(chat_id)
    await probe.lose_hint(chat_id)
    return chat_id


async def interrupted_orphan(probe: Probe) -> ChatId:
    chat_id = await probe.dead()
    await probe.store.interrupt(chat_id)
    return chat_id


async def interrupted_orphan_with_backlog(probe: Probe) -> ChatId:
    chat_id = await probe.dead()
    await probe.store.send(chat_id, "rather this", busy_behavior="interrupt")
    return chat_id


async def errored(probe: Probe) -> ChatId:
    return await probe.errored()


async def errored_with_backlog(probe: Probe) -> ChatId:
    return await probe.errored("second")


async def asking(probe: Probe) -> ChatId:
    return await probe.asking()


async def asking_with_backlog(probe: Probe) -> ChatId:
    return await probe.asking("second")


async def asking_too_long(probe: Probe) -> ChatId:
    return await probe.asking(expires_s=0.1)


async def asking_too_long_with_backlog(probe: Probe) -> ChatId:
    return await probe.asking("second", expires_s=0.1)


async def deciding(probe: Probe) -> ChatId:
    return await probe.deciding()


async def deciding_too_long(probe: Probe) -> ChatId:
    return await probe.deciding(expires_s=0.1)


async def allowed_and_orphaned(probe: Probe) -> ChatId:
    chat_id = await probe.deciding()
    await probe.store.resolve(chat_id, CALL.call_id)
    await probe.store.acquire(chat_id, "dead", lease_s=SHORT_S)
    return chat_id


async def summarising_orphan(probe: Probe) -> ChatId:
    return await probe.summarising()


async def interrupted_summary(probe: Probe) -> ChatId:
    chat_id = await probe.summarising()
    await probe.store.interrupt(chat_id)
    return chat_id


async def archived(probe: Probe) -> ChatId:
    chat_id = await waiting(probe)
    await probe.store.archive(chat_id)
    return chat_id


async def archived_error_with_backlog(probe: Probe) -> ChatId:
    chat_id = await errored_with_backlog(probe)
    await probe.store.archive(chat_id)
    return chat_id


async def streaming(probe: Probe) -> ChatId:
    return await probe.streaming()


async def send(probe: Probe, chat_id: ChatId) -> None:
    await probe.store.send(chat_id, "go on")


async def promote(probe: Probe, chat_id: ChatId) -> None:
    await probe.store.promote_queued(chat_id, (await probe.store.queued_ids(chat_id))[0])


async def answer(probe: Probe, chat_id: ChatId) -> None:
    await probe.store.submit(chat_id, {CALL.call_id: "yes"})


async def allow(probe: Probe, chat_id: ChatId) -> None:
    await probe.store.resolve(chat_id, CALL.call_id)


async def refuse(probe: Probe, chat_id: ChatId) -> None:
    await probe.store.resolve(chat_id, CALL.call_id, approved=False)


async def interrupt(probe: Probe, chat_id: ChatId) -> None:
    await probe.store.interrupt(chat_id)


async def edit(probe: Probe, chat_id: ChatId) -> None:
    await probe.store.edit(chat_id, (await probe.store.messages(chat_id))[0].id, "edited")


async def unarchive_and_send(probe: Probe, chat_id: ChatId) -> None:
    await probe.store.archive(chat_id, archived=False)
    await probe.store.send(chat_id, "go on")


@dataclass(frozen=True)
class Situation:
    """One row of the table.

    Attributes:
        status: Where the chat is.
        moved_by: Who is to lead it on.
        made: Makes it. Before any worker is there, unless `owned`.
        acts: What the person does, if it is one.
        owned: A live worker has it.
    """

    status: Status
    moved_by: Mover
    made: Callable[[Probe], Awaitable[ChatId]]
    acts: Callable[[Probe, ChatId], Awaitable[None]] | None = None
    owned: bool = False

    def __str__(self) -> str:
        acts = f", {self.acts.__name__}" if self.acts else ""
        return f"{self.made.__name__}{acts} ({self.status}, moved by its {self.moved_by})"


SITUATIONS = (
    Situation(Status.WAITING, "person", waiting, send),
    Situation(Status.WAITING, "person", archived, unarchive_and_send),
    Situation(Status.RUNNING, "owner", hinted),
    Situation(Status.RUNNING, "owner", handed_over),
    Situation(Status.RUNNING, "owner", streaming, owned=True),
    Situation(Status.RUNNING, "sweep", unhinted),
    Situation(Status.RUNNING, "lease", orphaned),
    Situation(Status.RUNNING, "lease", orphaned_with_backlog),
    Situation(Status.RUNNING, "lease", orphaned_while_retrying),
    Situation(Status.INTERRUPTING, "sweep", interrupted_before_it_began),
    Situation(Status.INTERRUPTING, "lease", interrupted_orphan),
    Situation(Status.INTERRUPTING, "lease", interrupted_orphan_with_backlog),
    Situation(Status.REQUIRES_ACTION, "deadline", asking_too_long),
    Situation(Status.REQUIRES_ACTION, "deadline", asking_too_long_with_backlog),
    Situation(Status.REQUIRES_ACTION, "person", asking, answer),
    Situation(Status.REQUIRES_ACTION, "person", asking, interrupt),
    Situation(Status.REQUIRES_ACTION, "person", asking, edit),
    Situation(Status.REQUIRES_ACTION, "person", asking_with_backlog, promote),
    Situation(Status.RUNNING, "lease", allowed_and_orphaned),
    Situation(Status.RUNNING, "lease", summarising_orphan),
    Situation(Status.INTERRUPTING, "lease", interrupted_summary),
    Situation(Status.REQUIRES_ACTION, "deadline", deciding_too_long),
    Situation(Status.REQUIRES_ACTION, "person", deciding, allow),
    Situation(Status.REQUIRES_ACTION, "person", deciding, refuse),
    Situation(Status.ERROR, "person", errored, send),
    Situation(Status.ERROR, "person", errored, edit),
    Situation(Status.ERROR, "person", errored_with_backlog, send),
    Situation(Status.ERROR, "person", errored_with_backlog, promote),
    Situation(Status.ERROR, "person", archived_error_with_backlog, unarchive_and_send),
)


def test_every_status_is_probed() -> None:
    assert {situation.status for situation in SITUATIONS} == set(Status)


@pytest.mark.timeout(300)  # many chats at once
async def test_every_chat_is_led_on_by_whoever_is_to_do_it(
    store: StoreDriver,
    client: NatsClient,
    models: ModelSetup,
    fakes: FakeProviders,
    tool_host: ToolHost,
    nats: NatsServer,
) -> None:
    tool_host.tools["ask"] = yes
    probe = Probe(store, client, models, fakes)
    made: dict[Situation, ChatId] = {}
    for situation in SITUATIONS:
        if not situation.owned:
            made[situation] = await situation.made(probe)

    async with running_chatloops(nats.url()):
        for situation in SITUATIONS:
            if situation.owned:
                made[situation] = await situation.made(probe)
            if situation.acts is not None:
                await situation.acts(probe, made[situation])
        results = await asyncio.gather(
            *(_finished(store, chat_id) for chat_id in made.values()), return_exceptions=True
        )

    stuck = [
        f"{situation}: {result!r}"
        for situation, result in zip(made, results, strict=True)
        if isinstance(result, BaseException)
    ]
    assert stuck == []


async def _finished(store: StoreDriver, chat_id: ChatId) -> None:
    """The chat waits for a person, nothing is left in its queue, and the log says so."""
    rested = await store.at_rest(chat_id, 90)
    assert (rested.status, rested.queue_size) == (Status.WAITING, 0), rested
    await store.log.until(chat_id, events.ChatStatusChanged, status=Status.WAITING)
