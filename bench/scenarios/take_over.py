"""A chatloop is killed in the middle of turns: how soon another one goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from typing import Final
from uuid import UUID

from bench.chats import ChatClient, Turn
from bench.context import FAKE, Bench, expect
from bench.deployment import Deployment
from bench.figures import Budget, Row, over_rounds, percentile
from bench.providers import words

_MODEL: Final = f"{FAKE}/tokens-60-at-20"
_TEXT: Final = words(60)
_CHATS: Final = 8
_LOOPS: Final = ("chatloop-1", "chatloop-2")
_UNDER_WAY_S: Final = 0.5
_TURN_S: Final = 60.0
_BACK_S: Final = 30.0
_LEASE_AND_SWEEP_S: Final = 20.0


async def measure(bench: Bench) -> list[Row]:
    """Two chatloops and eight chats; the one that owns more of them gets SIGKILL."""
    rounds: list[list[float]] = []
    for _ in bench.rounds(bench.size.kills, within_s=30):
        deployment = await bench.deployment("chatloop=2")
        rounds.append(await _kill_one(bench, deployment))
    every = [value for round_ in rounds for value in round_]
    return [
        Row(
            scenario="takeover",
            what="take-over after kill -9 of a chatloop, median",
            unit="s",
            measured=over_rounds([percentile(round_, 0.5) for round_ in rounds]),
            budget=Budget(2, "s"),
            samples=len(every),
            rounds=len(rounds),
            note="from the kill to the first new delta",
        ),
        Row(
            scenario="takeover",
            what="take-over after kill -9 of a chatloop, slowest",
            unit="s",
            measured=over_rounds([max(round_) for round_ in rounds]),
            budget=Budget(_LEASE_AND_SWEEP_S, "s"),
            samples=len(every),
            rounds=len(rounds),
        ),
    ]


async def _kill_one(bench: Bench, deployment: Deployment) -> list[float]:
    chats = [await ChatClient.create(deployment.facts.address, _MODEL) for _ in range(_CHATS)]
    turns = [asyncio.create_task(chat.turn("Go on.", _TEXT, timeout_s=_TURN_S)) for chat in chats]
    try:
        await _under_way(chats, turns)
        owners = await _owners(deployment, chats)
        victim, _ = Counter(owners.values()).most_common(1)[0]
        pid = deployment.facts.pid_of(victim)
        killed_at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        finished = [await turn for turn in turns]
        taken = [
            _resumed_s(turn, killed_at)
            for chat, turn in zip(chats, finished, strict=True)
            if owners[chat.chat_id] == victim
        ]
        await _back(deployment, victim, pid)
        return taken
    finally:
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        for chat in chats:
            chat.close()


async def _under_way(chats: list[ChatClient], turns: list[asyncio.Task[Turn]]) -> None:
    """Wait until every chat streams."""
    until = time.monotonic() + _TURN_S
    while not all(chat.streams for chat in chats):
        expect(not any(turn.done() for turn in turns), "a turn ended before the kill")
        expect(time.monotonic() < until, "not every chat streams")
        await asyncio.sleep(0.01)
    await asyncio.sleep(_UNDER_WAY_S)


async def _owners(deployment: Deployment, chats: list[ChatClient]) -> dict[str, str]:
    """Which process works on which chat; nothing public says that."""
    database = await deployment.database()
    try:
        rows = await database.fetch(
            "SELECT id::text AS id, runner_id FROM chats WHERE id = ANY ($1)",
            [UUID(chat.chat_id) for chat in chats],
        )
    finally:
        await database.close()
    owners: dict[str, str] = {}
    for row in rows:
        runner: str = row["runner_id"] or ""
        owners[row["id"]] = next((name for name in _LOOPS if runner.startswith(f"{name}-")), "")
    expect(all(owners.values()), "a chat that streams has no owner")
    return owners


def _resumed_s(turn: Turn, killed_at: float) -> float:
    later = [at for at in turn.attempts if at > killed_at]
    expect(later, "the turn of a killed chatloop went on without a new attempt")
    return later[0] - killed_at


async def _back(deployment: Deployment, name: str, old_pid: int) -> None:
    """The supervisor starts it again; the next round wants two."""
    until = time.monotonic() + _BACK_S
    while deployment.facts.pid_of(name) == old_pid:
        expect(time.monotonic() < until, f"{name} was not started again")
        await asyncio.sleep(0.1)
    await asyncio.sleep(_BACK_S / 10)
