"""What ends running work, and who goes on with it."""

from __future__ import annotations

import asyncio

import pytest

from steersman_chatloop.attempt import MOST, Attempt
from steersman_chatloop.failures import classify
from steersman_chatloop.providers.base import ProviderFailed
from steersman_chatloop.settings import Settings
from steersman_chatloop.steering import Steering
from steersman_contracts.deltas import TextDelta, ToolArgumentsDelta
from steersman_contracts.errors import DeadlineExceeded
from steersman_contracts.parts import TextPart
from steersman_gateway.settings import Settings as GatewaySettings
from steersman_runtime.settings import Secret


async def forever() -> None:
    await asyncio.Event().wait()


async def test_work_ends_when_somebody_wants_it_and_goes_on_otherwise() -> None:
    steering = Steering()
    running = asyncio.create_task(steering.run(forever()))
    await asyncio.sleep(0)
    steering.drain(at_once=False)
    await asyncio.sleep(0)
    assert not running.done()

    steering.interrupt()

    assert await running is False
    assert await Steering().run(asyncio.sleep(0)) is True


async def test_work_that_nobody_ended_and_that_was_cancelled_all_the_same_is_a_failure() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="by nobody"):
        await Steering().run(cancelled())


def test_running_calls_are_left_alone_where_somebody_else_asks_for_them() -> None:
    steering = [Steering() for _ in range(5)]
    steering[0].drain(at_once=True)
    steering[1].lose(elsewhere=True)
    steering[2].lose()  # deleted, or edited
    steering[3].interrupt()
    steering[4].interrupt()
    steering[4].drain(at_once=True)

    assert [one.hands_on for one in steering] == [True, True, False, False, False]


def test_an_error_of_ours_is_classified_and_says_nothing_of_what_people_wrote() -> None:
    group = ExceptionGroup("tasks", [ValueError("a secret"), DeadlineExceeded("slow")])

    broken, slow = classify(group), classify(DeadlineExceeded("a secret"))

    assert (broken.kind, broken.detail, broken.retryable) == ("generic", "ValueError", False)
    assert (slow.kind, slow.detail, slow.retryable) == ("timeout", "DeadlineExceeded", True)
    assert "secret" not in f"{broken}{slow}"


def test_an_answer_without_an_end_is_cut_off_before_it_fills_the_memory() -> None:
    attempt = Attempt()
    text = "x" * (MOST // 8)
    for _ in range(7):
        attempt.take(TextDelta(0, text))

    with pytest.raises(ProviderFailed) as failed:
        attempt.take(TextDelta(0, text))

    assert (failed.value.error.kind, failed.value.error.retryable) == ("generic", False)
    assert len(attempt.builder.parts()) == 1, "what arrived is kept"


def test_an_answer_that_contradicts_itself_is_a_failure_of_its_provider() -> None:
    attempt = Attempt()
    attempt.take(TextDelta(0, "words"))

    with pytest.raises(ProviderFailed) as failed:
        attempt.take(ToolArgumentsDelta(0, "{}"))

    assert failed.value.error.kind == "generic"
    assert attempt.builder.parts() == (TextPart("words"),)


def test_the_limits_that_were_promised_are_the_defaults() -> None:
    settings = Settings(nats_url=Secret("nats://127.0.0.1"))
    gateway = GatewaySettings(nats_url=Secret("nats://127.0.0.1"))

    assert settings.max_steps == 1200, "model calls in a turn"
    assert settings.action_timeout_s == 300, "seconds for a client's own tools"
    assert settings.max_attempts == 25, "attempts at a model call"
    assert gateway.ping_interval_s == 15, "seconds between keep-alive comments"
