"""What happens to one chat, brought to the chats above and below it.

A chat and its agents are never changed in one transaction that goes up the tree: what follows from
a change is done right after its commit, here, and again by the sweep if this process dies between.
So a finished agent answers the calls that wait for it, and an interrupt reaches all agents.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from prometheus_client import Counter

from steersman_contracts.agents import DONE, AgentState, wait_result
from steersman_contracts.chats import ChatError, Status
from steersman_contracts.errors import SteersmanError
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import FilePart, Parts, TextPart, ToolResultPart, decode_parts
from steersman_runtime.tasks import TaskGroup
from steersman_store.announce import Announcement, Announcer, announce
from steersman_store.database import Database, json_text

log = structlog.stdlib.get_logger()

_DONE: Final = sorted(status.value for status in DONE)
_MOST_STEPS: Final = 10_000

RESOLVED: Final = Counter("steersman_agent_waits", "Waits for agents that ended", ["how"])
REACHED: Final = Counter("steersman_agents_reached", "Agents that shared the fate of their parent")


class _Limited(msgspec.Struct):
    limits: dict[str, int] | None = None


class _Begun(msgspec.Struct):
    chat: _Limited = msgspec.field(default_factory=_Limited)


_decode_begun = msgspec.json.Decoder(_Begun).decode


class Families:
    """Follows changes up and down the trees of chats."""

    def __init__(self, database: Database, announcer: Announcer) -> None:
        self._database = database
        self._announcer = announcer
        self._tasks = TaskGroup("families")

    async def aclose(self) -> None:
        """Leave what is under way to the sweep of another process."""
        await self._tasks.cancel()

    # -- what others say, right after their commit ------------------------------------------------

    def rested(self, agent_id: ChatId) -> None:
        """An agent may have come to its end: somebody may wait for it, or want it put away."""
        self._start(self._after_rest(agent_id))

    def waiting(self, chat_id: ChatId) -> None:
        """A chat began to wait; whom it waits for may have been faster."""
        self._start(self._after_wait(chat_id))

    def stopped(self, chat_id: ChatId) -> None:
        """A person has ended a turn, or put the chat away: its agents share that."""
        self._start(self._after_rest(chat_id))

    def limited_anew(self, chat_id: ChatId) -> None:
        """The limits of a chat were changed, or are whole: agents that wait at them may go on."""
        self._start(self._after_new_limits(chat_id))

    def begun(self, chat_id: ChatId, reply: str) -> None:
        """A turn may have begun: its limits are whole again, also for agents that wait at them.

        Args:
            chat_id: The chat.
            reply: What was answered, with the chat as it is now.
        """
        if _decode_begun(reply).chat.limits is not None:  # hardly any chat has some
            self.limited_anew(chat_id)

    def gone(self) -> None:
        """A chat was deleted: whoever waited for it need not wait any longer."""
        self._start(self._resolve())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.start(_quietly(work))

    async def sweep(self) -> None:
        """Do whatever is left to do, and end the waits whose time is up.

        Raises:
            SteersmanError: The database does not answer.
        """
        await self._do_chores(None)
        await self._resolve()
        await self._after_new_limits(None)

    # -- up: calls that wait -----------------------------------------------------------------------

    async def _after_rest(self, chat_id: ChatId) -> None:
        await self._resolve(agent_id=chat_id)  # somebody waits for this one
        await self._do_chores(chat_id)

    async def _after_wait(self, chat_id: ChatId) -> None:
        await self._resolve(chat_id=chat_id)
        await self._do_chores(chat_id)

    async def _resolve(
        self, *, chat_id: ChatId | None = None, agent_id: ChatId | None = None
    ) -> None:
        rows = await self._database.rows(
            "SELECT * FROM ripe_reports($1, $2, $3)", chat_id, agent_id, _DONE
        )
        for _, wait in groupby(rows, key=itemgetter("wait")):
            reports = list(wait)
            try:
                await self._answer(reports)
            except SteersmanError:
                raise
            except (
                Exception
            ) as error:  # what an agent said cannot be read: the action's end is left
                chat = reports[0]["chat_id"]
                log.error("wait.not_answered", chat_id=chat, exc_info=error)  # noqa: TRY400  # it has the error

    async def _answer(self, reports: Sequence[asyncpg.Record]) -> None:
        wait = reports[0]
        result = wait_result(
            wait["call_id"], wait["tool"], states_of(reports), timed_out=wait["timed_out"]
        )
        chat_id = ChatId(wait["chat_id"])
        row = await self._database.row(
            "SELECT * FROM resolve_wait($1, $2, $3)", wait["wait"], chat_id, json_text(result)
        )
        if row is None or row["reply"] is None:
            return  # another replica was faster, or a person has ended the action
        RESOLVED.labels("timed_out" if wait["timed_out"] else "done").inc()
        announce(self._announcer, chat_id, announcement_of(row))

    # -- down: agents that share what happened -----------------------------------------------------

    async def _do_chores(self, chat_id: ChatId | None) -> None:
        for chore in await self._database.rows("SELECT * FROM family_chores($1)", chat_id):
            of = ChatId(chore["chat_id"])
            if chore["kind"] == "limit":
                await self._tell_of_limit(of)
            else:
                await self._cascade(of, chore["kind"])

    async def _cascade(self, chat_id: ChatId, kind: str) -> None:
        # One transaction for each agent: locks of many would wait for each other.
        for _ in range(_MOST_STEPS):
            row = await self._database.row("SELECT * FROM cascade_step($1, $2)", chat_id, kind)
            if row is None or row["chat_id"] is None:
                break
            REACHED.inc()
            reached = ChatId(row["chat_id"])
            what = Announcement(bool(row["hint"]), row["runner_id"], row["control"])
            announce(self._announcer, reached, what)
            await self._resolve(agent_id=reached)

    async def _tell_of_limit(self, chat_id: ChatId) -> None:
        """It waits for agents that wait at its own limit: whoever watches it has to know."""
        if await self._database.value("SELECT tell_of_limit($1)", chat_id):
            self._announcer.changed(chat_id)

    async def _after_new_limits(self, chat_id: ChatId | None) -> None:
        for _ in range(_MOST_STEPS):  # one transaction for each, as above
            agent = await self._database.value("SELECT resume_agent($1)", chat_id)
            if agent is None:
                break
            announce(self._announcer, ChatId(agent), Announcement(True, None, None))
        if chat_id is not None:  # perhaps not raised by enough
            await self._do_chores(chat_id)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except SteersmanError as error:
        log.warning("family.left_to_the_sweep", error_code=error.code)


def announcement_of(row: asyncpg.Record) -> Announcement:
    """What a row of `transition_result` wants others to be told."""
    return Announcement(bool(row["hint"]), row["runner_id"], row["control"], row["others"])


def state_of(row: asyncpg.Record) -> AgentState:
    """A row of `agent_states`."""
    agent_id = ChatId(row["agent_id"])
    if row["status"] is None:
        return AgentState(agent_id)
    status = Status(row["status"])
    error: str | None = row["error"]
    report: str | None = row["report"]
    screen: str | None = row["screen"]
    return AgentState(
        agent_id,
        status,
        kind=row["kind"] or "general",
        title=row["title"],
        outcome=row["outcome"],
        error=None if error is None else msgspec.json.decode(error, type=ChatError),
        queue_size=row["queue_size"],
        archived=row["archived"],
        cost_micros=row["cost"],
        report="" if report is None or status not in DONE else text_of(decode_parts(report)),
        screen=None if screen is None or status not in DONE else screen_of(decode_parts(screen)),
        recordings=tuple(row["recordings"]),
    )


def text_of(parts: Parts) -> str:
    """What a message says, without what the model thought and did."""
    return "\n\n".join(part.text for part in parts if isinstance(part, TextPart) and part.text)


def screen_of(parts: Parts) -> FilePart | None:
    """The last picture among results of tools."""
    pictures = (
        item
        for part in reversed(parts)
        if isinstance(part, ToolResultPart)
        for item in reversed(part.content)
        if isinstance(item, FilePart) and item.media_type.startswith("image/")
    )
    return next(pictures, None)


def states_of(rows: Sequence[asyncpg.Record]) -> tuple[AgentState, ...]:
    """Rows of `agent_states`, in their order."""
    return tuple(state_of(row) for row in rows)
