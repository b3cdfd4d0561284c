"""What the tools service asks of its deputy in a container, beside the calls of `rpc.tools`.

A deputy serves one workspace: every method has an address of its own, see `subjects.deputy`.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.rpc import Method


class SetUp(msgspec.Struct, frozen=True):
    """Run the set-up of the template in the workspace. Answered by a stream of `CallProgress`."""

    script: Annotated[str, msgspec.Meta(max_length=100_000)]
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)]


class SetUpEnded(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of it."""

    reason: str = ""
    """Why the workspace cannot be used, with the end of what was printed; empty: it can."""


SET_UP: Final = Method("tools", "deputy.set_up", SetUp, SetUpEnded, deadline_s=3600.0)
