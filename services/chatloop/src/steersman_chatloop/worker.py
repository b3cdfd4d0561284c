"""The worker: takes runnable chats, as many as it has room for, and keeps its leases alive."""

from __future__ import annotations

import asyncio

import msgspec
import structlog
from prometheus_client import Gauge

from steersman_chatloop.asking import ask
from steersman_chatloop.failures import close
from steersman_chatloop.history import Histories, History
from steersman_chatloop.surroundings import Surroundings, load
from steersman_chatloop.turn import ChatRun
from steersman_contracts import subjects
from steersman_contracts.chats import Status
from steersman_contracts.errors import (
    AlreadyOwned,
    DeadlineExceeded,
    NotFound,
    StaleFence,
    SteersmanError,
    TransitionRefused,
    Unavailable,
)
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import worker as rpc
from steersman_runtime.jetstream import PullConsumer
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

OWNED = Gauge("steersman_chats_owned", "Chats that this process works on")

_decode_control = msgspec.json.Decoder(rpc.Control).decode


class Worker:
    """Everything that this process works on."""

    def __init__(self, client: NatsClient, around: Surroundings) -> None:
        self._client = client
        self._around = around
        self._histories = Histories(around.settings.cached_histories)
        self._runs: dict[ChatId, ChatRun] = {}
        self._starting: set[ChatId] = set()
        self._loading: dict[ChatId, rpc.Control | None] = {}
        """Chats that are ours and not worked on yet, with what people asked of them meanwhile."""
        self._again: set[ChatId] = set()
        self._draining = False
        self._tasks = TaskGroup("turn")
        self._pull = PullConsumer(
            client,
            subjects.WORK_STREAM,
            subjects.WORK_CONSUMER,
            on_message=self._on_hint,
            free=self._free,
        )

    def _free(self) -> int:
        if self._draining:
            return 0
        busy = len(self._runs) + len(self._starting)
        return self._around.settings.max_concurrent_turns - busy

    async def pull(self) -> None:
        """Take work until cancelled."""
        await self._pull.run()

    async def heed(self) -> None:
        """Pass on what people ask of the chats that are worked on, until cancelled."""
        sid = self._client.listen(subjects.control(self._around.runner_id), self._on_control)
        try:
            await asyncio.Event().wait()
        finally:
            self._client.unlisten(sid)

    async def _on_hint(self, subject: str) -> None:
        chat_id = subjects.chat_of(subject)
        if chat_id in self._runs or chat_id in self._starting:
            # Perhaps the run is just ending; then this hint is the only one there will be.
            self._again.add(chat_id)
            return
        self._starting.add(chat_id)
        self._tasks.start(self._work(chat_id))

    def _on_control(self, _: bytes, __: bytes, ___: bytes, payload: bytes) -> None:
        control = _decode_control(payload)
        run = self._runs.get(control.chat_id)
        if run is None:
            if control.chat_id in self._loading and not control.lost:
                self._loading[control.chat_id] = control
            return
        if control.lost:
            run.steering.lose()
        elif _is_interrupt(control.status, control.history_version, run):
            run.steering.interrupt()

    async def _work(self, chat_id: ChatId) -> None:
        try:
            while True:
                self._again.discard(chat_id)
                await self._own(chat_id)
                if self._draining or chat_id not in self._again:
                    return
        finally:
            self._starting.discard(chat_id)
            self._pull.capacity_changed()

    async def _own(self, chat_id: ChatId) -> None:
        structlog.contextvars.bind_contextvars(chat_id=chat_id)
        history = self._histories.take(chat_id)
        whole = True
        run: ChatRun | None = None
        self._loading[chat_id] = None
        # Its workspace is read while the store is asked: most turns want to know what it says.
        self._around.contexts.foresee(chat_id)
        try:
            context = await self._acquire(chat_id, history.revision)
            if context is None:
                return
            whole = False  # half a history must not be taken for one later
            run = await self._begin(context, history)
            if run is None:
                return
            self._starting.discard(chat_id)
            OWNED.inc()
            await run.run()
            whole = run.whole
        finally:
            self._starting.add(chat_id)
            self._loading.pop(chat_id, None)
            self._around.contexts.forget(chat_id)
            if run is not None:
                del self._runs[chat_id]
                OWNED.dec()
            if whole:
                self._histories.give_back(chat_id, history)

    async def _acquire(self, chat_id: ChatId, known_revision: int) -> rpc.WorkContext | None:
        around = self._around
        lease_s = around.settings.lease_s
        request = rpc.Acquire(chat_id, around.runner_id, lease_s, known_revision, begin=True)
        try:
            # Again while it may be ours already, and nobody else would be called to it.
            return await ask(
                around.rpc,
                rpc.ACQUIRE,
                request,
                within_s=lease_s,
                gives_up=lambda: self._draining,
            )
        except (AlreadyOwned, TransitionRefused, NotFound) as error:
            log.debug("chat.not_acquired", error_code=error.code)  # losing this race is normal
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("chat.not_acquired", error_code=error.code)  # the sweep calls again
        except Exception as error:  # what is stored of it cannot be read, and never will be
            log.error("chat.not_readable", exc_info=error)  # noqa: TRY400  # it has the error
            await self._close_unread(chat_id, error)
        return None

    async def _close_unread(self, chat_id: ChatId, error: Exception) -> None:
        """It may be ours all the same; the renewal of its lease tells, and under which fence."""
        around = self._around
        request = rpc.Renew(around.runner_id, (chat_id,), around.settings.lease_s)
        try:
            renewed = await ask(around.rpc, rpc.RENEW, request, within_s=around.settings.lease_s)
        except SteersmanError as again:
            log.error("chat.not_closed", error_code=again.code)  # noqa: TRY400  # the code says it all
            return
        for lease in renewed.held:
            fence = rpc.Fence(chat_id, around.runner_id, lease.history_version, lease.status)
            await close(around, fence, error)

    async def _begin(self, context: rpc.WorkContext, history: History) -> ChatRun | None:
        """Load a chat that is ours and make its run; one that this breaks ends with an error."""
        around, chat = self._around, context.chat
        try:
            await load(around, history, context)
            run = ChatRun(around, chat, history, crowded=lambda: self._free() <= 0)
        except (StaleFence, NotFound) as error:
            log.info("chat.not_loaded", error_code=error.code)  # not ours any more
            return None
        except Exception as error:  # whatever it was, it would break the next worker as well
            log.error("chat.not_loaded", exc_info=error)  # noqa: TRY400  # it has the error
            fence = rpc.Fence(chat.chat_id, around.runner_id, chat.history_version, chat.status)
            await close(around, fence, error)
            return None
        self._runs[chat.chat_id] = run
        control = self._loading.pop(chat.chat_id, None)
        if control is not None and _is_interrupt(control.status, control.history_version, run):
            run.steering.interrupt()
        if self._draining:
            run.steering.drain(at_once=False)
        return run

    async def renew(self) -> None:
        """Renew all leases, again and again, until cancelled."""
        settings = self._around.settings
        while True:
            await asyncio.sleep(settings.lease_s / 3)
            runs = dict(self._runs)
            chat_ids = [*runs, *self._loading]
            for start in range(0, len(chat_ids), 1000):
                await self._renew(tuple(chat_ids[start : start + 1000]), runs)

    async def _renew(self, chat_ids: tuple[ChatId, ...], runs: dict[ChatId, ChatRun]) -> None:
        settings = self._around.settings
        request = rpc.Renew(self._around.runner_id, chat_ids, settings.lease_s)
        try:
            renewed = await self._around.rpc.call(
                rpc.RENEW, request, deadline_s=settings.lease_s / 3
            )
        except SteersmanError as error:
            log.warning("leases.not_renewed", error_code=error.code)
            return
        held = {lease.chat_id: lease for lease in renewed.held}
        for chat_id in chat_ids:
            run = runs.get(chat_id)
            if run is None or self._runs.get(chat_id) is not run:
                continue  # it was still loaded, or has ended meanwhile
            lease = held.get(chat_id)
            if lease is None:
                run.steering.lose(elsewhere=True)
            elif _is_interrupt(lease.status, lease.history_version, run):
                run.steering.interrupt()  # the control message was lost

    def begin_drain(self) -> None:
        """Hand everything over at step boundaries; `pull` must have been told to end before."""
        self._draining = True
        for run in self._runs.values():
            run.steering.drain(at_once=False)

    async def drain(self, timeout_s: float) -> None:
        """Hand everything over: at step boundaries, and after most of `timeout_s` at once."""
        self.begin_drain()
        if not await self._tasks.finish(max(0.1, timeout_s - 3)):
            for run in self._runs.values():
                run.steering.drain(at_once=True)
            await self._tasks.finish(3)
        await self._tasks.cancel()


def _is_interrupt(status: Status, history_version: int, run: ChatRun) -> bool:
    # An older version speaks of a turn that has ended meanwhile; a newer one of a commit of ours
    # whose reply is still on its way.
    return status is Status.INTERRUPTING and history_version >= run.chat.history_version
