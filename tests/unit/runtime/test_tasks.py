from __future__ import annotations

import asyncio

from steersman_runtime.tasks import TaskGroup, running


async def fail() -> None:
    raise RuntimeError("on purpose")


async def test_one_task_that_fails_takes_no_other_with_it() -> None:
    group, opened = TaskGroup("test"), asyncio.Event()

    failing = group.start(fail())
    waiting = group.start(opened.wait())
    await asyncio.wait({failing})
    assert len(group) == 1
    opened.set()

    assert await waiting is True
    assert await group.finish(10)
    assert len(group) == 0


async def test_finish_says_whether_all_ended_and_leaves_the_rest_running() -> None:
    group, opened = TaskGroup("test"), asyncio.Event()
    task = group.start(opened.wait())

    assert await group.finish(0.01) is False
    assert not task.done()
    opened.set()
    assert await group.finish(10) is True
    assert await TaskGroup("empty").finish(0) is True


async def test_cancel_waits_until_the_tasks_have_cleaned_up() -> None:
    group, entered = TaskGroup("test"), asyncio.Event()
    cleaned: list[str] = []

    async def work() -> None:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    group.start(work())
    await entered.wait()
    await group.cancel()

    assert cleaned == ["up"]
    assert len(group) == 0


async def test_running_ends_with_its_block() -> None:
    ended = asyncio.Event()
    failures: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with running(work, name="w", on_failure=lambda: failures.append("w")) as task:
        await asyncio.sleep(0)
        assert not task.done()

    assert ended.is_set()
    assert failures == []


async def test_running_tells_of_an_early_end_whatever_its_cause() -> None:
    failed = asyncio.Event()

    async def stop() -> None:
        """Work that ends although it should go on."""

    for work in (fail, stop):
        failed.clear()
        async with running(work, name="w", on_failure=failed.set):
            async with asyncio.timeout(30):
                await failed.wait()
