"""What is too large to be stored is cut, and says so."""

from __future__ import annotations

from steersman_chatloop.oversize import fit
from steersman_contracts.chats import Role
from steersman_contracts.parts import TextPart, ToolResultPart
from steersman_contracts.rpc.worker import NewMessage


def test_the_kinds_of_parts_that_can_be_cut_are_cut_visibly() -> None:
    result = ToolResultPart("1", "t", (TextPart("y" * 50_000),))
    messages = (NewMessage(Role.TOOL, (result, TextPart("short"))),)

    (cut,) = fit(messages, 20_000)

    assert cut.parts[1] == TextPart("short")
    assert isinstance(cut.parts[0], ToolResultPart)
    assert cut.parts[0].content == (
        TextPart("y" * 10_000 + "\n[40000 characters were too many to store]"),
    )
