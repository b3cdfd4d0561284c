"""Chats go on, and nothing is lost, while the processes under them are killed.

`STEERSMAN_CHAOS_ROUNDS` kills for longer, `STEERSMAN_CHAOS_SEED` repeats the choices of a run (not
its timing), `STEERSMAN_CHAOS_LOG` names a file that gets the log of all processes.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from chaos.deploying import KINDS, LEASE_S, Deployment, until
from chaos.talking import Inside, Talk, at_rest, broken_talk, history, start_talk, talk_on
from chaos.watching import Watcher
from support.invariants import broken, broken_deltas, broken_log

ROUNDS = int(os.environ.get("STEERSMAN_CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("STEERSMAN_CHAOS_SEED", "0")) or secrets.randbits(32)
TALKS = 12
ROUND_S = 7.0
REST_S = 90.0


@pytest.mark.timeout(300 + 60 * ROUNDS)
async def test_whatever_is_killed_every_chat_rests_and_everybody_saw_what_is_stored(
    deployment: Deployment,
) -> None:
    print(f"STEERSMAN_CHAOS_SEED={SEED}")  # noqa: T201  # shown with a failure
    dice = random.Random(SEED)
    async with AsyncExitStack() as stack:
        talks = await _talks(deployment)
        watchers = [
            Watcher(deployment, talk.chat_id, random.Random(dice.random()) if cuts else None)
            for talk in talks
            for cuts in (True, False)
        ]
        tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
        stack.push_async_callback(_cancel, tasks)
        began = time.monotonic()
        for round_number in range(ROUNDS):
            people = [
                talk_on(
                    deployment,
                    talk,
                    random.Random(dice.random()),
                    messages=2,
                    within_s=ROUND_S,
                )
                for talk in talks
            ]
            await asyncio.gather(*people, _kill(deployment, dice, nats=round_number == 0))
        assert {name.split("-")[0] for name in deployment.killed} == {*KINDS, "nats"}
        await deployment.all_ready()
        client = await stack.enter_async_context(deployment.client())
        for talk in talks:
            await at_rest(client, talk.chat_id, REST_S)
        rested = time.monotonic()
        assert not [task for task in tasks if task.done()]
        inside = await Inside.open(deployment)
        stack.push_async_callback(inside.close)
        found: list[str] = []
        for talk in talks:
            ours = [watcher for watcher in watchers if watcher.chat_id == talk.chat_id]
            found += await _check(deployment, inside, talk, ours, whole=False)
        found += [*deployment.refusals(), *deployment.fell_over()]
        _print(deployment, watchers, rested - began)
        assert found == [], "\n".join(found)


async def _talks(deployment: Deployment) -> list[Talk]:
    models = [await deployment.add_model("chat", "tokens-100-at-20")] * 2
    models += [await deployment.add_model("anthropic", "tokens-60-at-20")] * 2
    models += [await deployment.add_model("google", "tokens-40-at-10")] * 2
    for provider in ("chat", "anthropic", "responses"):
        models += [await deployment.add_model(provider, "tool-files")] * 2
    assert len(models) == TALKS
    async with deployment.client() as client:
        return [
            await start_talk(client, model, interrupts=n % 2 == 0) for n, model in enumerate(models)
        ]


async def _kill(deployment: Deployment, dice: random.Random, *, nats: bool) -> None:
    """One after the other: one of each kind and, if wanted, NATS, in any order; then others."""
    end = time.monotonic() + ROUND_S
    first = [f"{kind}-{dice.randint(1, 2)}" for kind in KINDS] + ["nats"] * nats
    dice.shuffle(first)
    for victim in first:
        await asyncio.sleep(dice.uniform(0.5, 2.0))
        await until(functools.partial(deployment.is_up, victim), 60)
        deployment.kill(victim)
    while time.monotonic() < end:
        await asyncio.sleep(dice.uniform(0.5, 3.0))
        victim = f"{dice.choice(KINDS)}-{dice.randint(1, 2)}"
        if deployment.is_up(victim):
            deployment.kill(victim)


async def _check(
    deployment: Deployment,
    inside: Inside,
    talk: Talk,
    watchers: Sequence[Watcher],
    *,
    whole: bool = True,
) -> list[str]:
    """What is wrong with a chat that rests.

    Not `whole`: deltas may be missing. Those that NATS did not take are not sent again; the message
    that they add up to says it all.
    """
    rows = await inside.rows(talk.chat_id)
    log = await inside.log(talk.chat_id)
    async with deployment.client(1) as client:
        stored = await history(client, talk.chat_id)
    for watcher in watchers:
        await watcher.shows(stored, 60)
    found = broken_talk(talk, stored)
    for watcher in watchers:
        found += watcher.broken(log.epoch, log.seqs)
        if whole and watcher.lost_previews:
            found.append(f"{watcher.lost_previews} previews lost")
    inside_it = [
        *broken(rows),
        *broken_log(rows, log.events),
        *broken_deltas(log.events, whole=whole),
    ]
    return found + [f"{talk.chat_id}: {one}" for one in inside_it]


def _print(deployment: Deployment, watchers: Sequence[Watcher], took_s: float) -> None:
    killed = Counter(name.split("-")[0] for name in deployment.killed)
    rows = {
        "killed": ", ".join(f"{name} {count}" for name, count in sorted(killed.items())),
        "all at rest after": f"{took_s:.1f} s",
        "connections cut": sum(watcher.cuts for watcher in watchers),
        "connections lost": sum(watcher.losses for watcher in watchers),
        "events seen": sum(len(s.seqs) for watcher in watchers for s in watcher.segments),
        "previews lost": sum(watcher.lost_previews for watcher in watchers),
        "gaps": dict(Counter(gap for watcher in watchers for gap in watcher.gaps)),
        "deltas lost": sum(one["events"] for one in deployment.log("deltas.lost")),
        "turns lost": len(deployment.log("turn.lost")),
        "turns failed": len(deployment.log("turn.failed")),
    }
    for what, value in rows.items():
        print(f"{what:20} {value}")  # noqa: T201  # the table of a long run


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.timeout(300)
async def test_the_chats_of_a_killed_chatloop_are_finished_by_another(
    deployment: Deployment,
) -> None:
    await deployment.all_ready()
    # Long enough to be killed in the middle, also where the test is slow to notice the beginning.
    model = await deployment.add_model("chat", "tokens-160-at-20")
    async with deployment.client() as client, AsyncExitStack() as stack:
        inside = await Inside.open(deployment)
        stack.push_async_callback(inside.close)
        talk = await start_talk(client, model, interrupts=False)
        watcher = Watcher(deployment, talk.chat_id, None)
        task = asyncio.create_task(watcher.run())
        stack.push_async_callback(_cancel, [task])
        await _streams(watcher)
        owner = await inside.owner(talk.chat_id)
        assert owner is not None

        victim = deployment.kill(owner.rsplit("-", 1)[0])
        killed = time.monotonic()
        attempt = _attempt(watcher) + 1
        await until(lambda: _attempt(watcher) >= attempt, LEASE_S + 60)
        print(f"taken over after {time.monotonic() - killed:.1f} s")  # noqa: T201  # the table of a long run
        await at_rest(client, talk.chat_id, REST_S)

        assert await _check(deployment, inside, talk, [watcher]) == []
        await deployment.back(victim)


async def _streams(watcher: Watcher) -> None:
    """Wait until some of an answer is there, or all of it."""

    def some() -> bool:
        view = watcher.view
        return len(view.messages) > 1 or (view.preview is not None and view.preview.seq > 4)

    await until(some, 60)


def _attempt(watcher: Watcher) -> int:
    return 0 if watcher.view.preview is None else watcher.view.preview.attempt


@pytest.mark.timeout(300)
async def test_a_killed_postgres_pauses_the_chats_and_no_service_starts_again(
    deployment: Deployment,
) -> None:
    await deployment.all_ready()
    model = await deployment.add_model("chat", "tokens-100-at-20")
    async with deployment.client() as client, AsyncExitStack() as stack:
        inside = await Inside.open(deployment)
        talks = [await start_talk(client, model, interrupts=False) for _ in range(3)]
        watchers = [Watcher(deployment, talk.chat_id, None) for talk in talks]
        tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
        stack.push_async_callback(_cancel, tasks)
        for watcher in watchers:
            await _streams(watcher)
        await inside.close()

        # It cannot start again before the test lets it: alone it would be back at once.
        former = deployment.break_postgres()
        people = [
            asyncio.create_task(
                talk_on(deployment, talk, random.Random(SEED), messages=1, within_s=0.1)
            )
            for talk in talks
        ]
        for name in ("store-1", "store-2"):
            await until(functools.partial(_unready, deployment, name), 60)
        deployment.mend_postgres()
        await deployment.back(former)
        await asyncio.gather(*people)
        await deployment.all_ready()
        for talk in talks:
            await at_rest(client, talk.chat_id, REST_S)

        assert [one for one in deployment.fell_over() if not one.startswith("postgres")] == []
        inside = await Inside.open(deployment)
        stack.push_async_callback(inside.close)
        for talk, watcher in zip(talks, watchers, strict=True):
            assert await _check(deployment, inside, talk, [watcher]) == []


async def _unready(deployment: Deployment, name: str) -> bool:
    return not await deployment.ready(name)


@pytest.mark.timeout(300)
async def test_a_wiped_event_log_costs_a_gap_and_nothing_that_is_stored(
    deployment: Deployment,
) -> None:
    await deployment.all_ready()
    model = await deployment.add_model("chat", "tokens-100-at-20")
    tools = await deployment.add_model("chat", "tool-files")
    async with deployment.client() as client, AsyncExitStack() as stack:
        quiet = await start_talk(client, tools, interrupts=False)
        await at_rest(client, quiet.chat_id, REST_S)
        talks = [quiet, *[await start_talk(client, model, interrupts=False) for _ in range(2)]]
        watchers = [
            Watcher(deployment, talk.chat_id, random.Random(SEED) if cuts else None)
            for talk in talks
            for cuts in (True, False)
        ]
        tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
        stack.push_async_callback(_cancel, tasks)
        for watcher in watchers:
            await _streams(watcher)
        former = {talk.chat_id: await history(client, talk.chat_id) for talk in talks}

        former_nats = deployment.wipe_nats()
        people = [
            talk_on(deployment, talk, random.Random(SEED), messages=1, within_s=0.5)
            for talk in talks
        ]
        await asyncio.gather(*people)
        await deployment.back(former_nats)
        await deployment.all_ready()
        for talk in talks:
            await at_rest(client, talk.chat_id, REST_S)

        inside = await Inside.open(deployment)
        stack.push_async_callback(inside.close)
        for talk in talks:
            stored = await history(client, talk.chat_id)
            assert stored[: len(former[talk.chat_id])] == former[talk.chat_id]
            rows, log = await inside.rows(talk.chat_id), await inside.log(talk.chat_id)
            assert [*broken(rows), *broken_log(rows, log.events, whole=False)] == []
            assert broken_talk(talk, stored) == []
            for watcher in (one for one in watchers if one.chat_id == talk.chat_id):
                await watcher.shows(stored, 60)
                assert watcher.broken(log.epoch, log.seqs) == []
                assert watcher.gaps, "the cursor was of the former log"
