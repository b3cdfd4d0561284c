"""What happens to one chat, brought to the chats above and below it.

A chat and its agents are never changed in one transaction that goes up the tree: what follows from
a change is done right after its commit, here, and again by the sweep if this process dies between.
So a finished agent answers the calls that wait for it, and an interrupt reaches all agents.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
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
        self._start(self._resolve(chat_id=chat_id))

    def stopped(self, chat_id: ChatId) -> None:
        """A person has ended a turn, or put the chat away: its agents share that."""
        self._start(self._after_rest(chat_id))

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
        await self._cascade(None)
        await self._resolve()

    # -- up: calls that wait -----------------------------------------------------------------------

    async def _after_rest(self, chat_id: ChatId) -> None:
        await self._resolve(agent_id=chat_id)  # somebody waits for this one
        await self._cascade(chat_id)

    async def _resolve(
        self, *, chat_id: ChatId | None = None, agent_id: ChatId | None = None
    ) -> None:
        ripe = await self._database.rows(
            "SELECT * FROM ripe_waits($1, $2, $3)", chat_id, agent_id, _DONE
        )
        for wait in ripe:
            try:
                await self._answer(wait)
            except SteersmanError:
                raise
            except (
                Exception
            ) as error:  # what an agent said cannot be read: the action's end is left
                log.error("wait.not_answered", chat_id=wait["chat_id"], exc_info=error)  # noqa: TRY400  # it has the error

    async def _answer(self, wait: asyncpg.Record) -> None:
        rows = await self._database.rows(
            "SELECT * FROM agent_states($1, true)", list(wait["agent_ids"])
        )
        result = wait_result(
            wait["call_id"], wait["tool"], states_of(rows), timed_out=wait["timed_out"]
        )
        chat_id = ChatId(wait["chat_id"])
        row = await self._database.row(
            "SELECT * FROM resolve_wait($1, $2, $3)", wait["id"], chat_id, json_text(result)
        )
        if row is None or row["reply"] is None:
            return  # another replica was faster, or a person has ended the action
        RESOLVED.labels("timed_out" if wait["timed_out"] else "done").inc()
        announce(self._announcer, chat_id, announcement_of(row))

    # -- down: agents that share what happened -----------------------------------------------------

    async def _cascade(self, chat_id: ChatId | None) -> None:
        open_ = await self._database.rows("SELECT * FROM open_cascades($1)", chat_id)
        for cascade in open_:
            # One transaction for each agent: locks of many would wait for each other.
            for _ in range(_MOST_STEPS):
                row = await self._database.row(
                    "SELECT * FROM cascade_step($1, $2)", cascade["chat_id"], cascade["kind"]
                )
                if row is None or row["chat_id"] is None:
                    break
                REACHED.inc()
                reached = ChatId(row["chat_id"])
                what = Announcement(bool(row["hint"]), row["runner_id"], row["control"])
                announce(self._announcer, reached, what)
                await self._resolve(agent_id=reached)


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
