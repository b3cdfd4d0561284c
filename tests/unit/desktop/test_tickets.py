from __future__ import annotations

from datetime import UTC, datetime, timedelta

from steersman_desktop.tickets import MAX_EACH, MAX_OPEN, OneTime, digest

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def test_a_secret_is_good_once() -> None:
    tickets = OneTime[str](30, clock=Clock())

    secret, expires = tickets.make("chat")

    assert expires == NOON + timedelta(seconds=30)
    assert tickets.take(secret) is None  # the digest is the key, not the secret
    assert tickets.take(digest(secret)) == "chat"
    assert tickets.take(digest(secret)) is None


def test_an_old_one_is_worth_nothing() -> None:
    clock = Clock()
    tickets = OneTime[str](30, clock=clock)
    late, _ = tickets.make("late")
    clock.now += timedelta(seconds=15)
    early, _ = tickets.make("early")
    clock.now += timedelta(seconds=15)

    assert tickets.take(digest(late)) is None
    assert tickets.take(digest(early)) == "early"


def test_there_are_never_too_many() -> None:
    tickets = OneTime[int](30, clock=Clock())

    secrets = [tickets.make(number)[0] for number in range(MAX_OPEN + 1)]

    assert tickets.take(digest(secrets[0])) is None
    assert tickets.take(digest(secrets[1])) == 1
    assert tickets.take(digest(secrets[-1])) == MAX_OPEN


def test_who_asks_for_ever_more_makes_only_their_own_worthless() -> None:
    tickets = OneTime[int](30, clock=Clock())
    theirs, _ = tickets.make(0, "ben")

    secrets = [tickets.make(number, "ann")[0] for number in range(MAX_EACH + 1)]

    assert tickets.take(digest(secrets[0])) is None
    assert tickets.take(digest(secrets[1])) == 1
    assert tickets.take(digest(secrets[-1])) == MAX_EACH
    assert tickets.take(digest(theirs)) == 0
