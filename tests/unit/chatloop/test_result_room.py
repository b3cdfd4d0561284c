from __future__ import annotations

import pytest

from steersman_chatloop.step_calls import result_room


@pytest.mark.parametrize(
    ("context_limit", "room"),
    [(None, None), (4_096, 16_384), (16_384, 16_384), (131_072, 131_070), (200_000, 199_998)],
)
def test_a_result_has_a_third_of_the_window_and_16_kib_at_least(
    context_limit: int | None, room: int | None
) -> None:
    assert result_room(context_limit) == room
