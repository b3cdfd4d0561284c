"""Control in time: who leaves loses it, and who comes back soon enough does not."""

from __future__ import annotations

from dataclasses import dataclass

from steersman_contracts.ids import UserId
from steersman_contracts.rpc.desktop import DesktopControl
from steersman_desktop.holding import Holding

ANN = UserId("ann")
ABSENT_S = 15.0


@dataclass
class Watching:
    """Whether the person watches now, and ever has."""

    now: bool
    ever: bool = True

    def has(self, user: UserId) -> bool:
        return self.now and user == ANN

    def had(self, user: UserId) -> bool:
        return self.ever and user == ANN


def held() -> tuple[Holding, list[DesktopControl]]:
    """Control that a person has just taken, and every change of it from then on."""
    changes: list[DesktopControl] = []
    holding = Holding(
        lambda _, control: changes.append(control),
        idle_s=3600.0,
        absent_s=ABSENT_S,
        agent_idle_s=15.0,
    )
    holding.take(ANN, private=False)
    changes.clear()
    return holding, changes


def test_who_has_gone_for_too_long_loses_control_once() -> None:
    holding, changes = held()

    holding.check(Watching(True), 100.0)
    for now in (200.0, 200.0 + ABSENT_S):
        holding.check(Watching(False), now)
        assert holding.person == ANN
    holding.check(Watching(False), 200.1 + ABSENT_S)
    holding.check(Watching(False), 300.0 + ABSENT_S)

    assert [(change.holder, change.reason) for change in changes] == [(None, "disconnected")]


def test_who_comes_back_in_time_has_all_of_it_again() -> None:
    holding, changes = held()

    holding.check(Watching(False), 100.0)
    holding.check(Watching(True), 100.0 + ABSENT_S)
    holding.check(Watching(False), 101.0 + ABSENT_S)
    holding.check(Watching(False), 101.0 + 2 * ABSENT_S)

    assert (holding.person, changes) == (ANN, [])


def test_control_over_rest_alone_needs_no_view() -> None:
    holding, changes = held()

    for now in (100.0, 1000.0):
        holding.check(Watching(False, ever=False), now)

    assert (holding.person, changes) == (ANN, [])
