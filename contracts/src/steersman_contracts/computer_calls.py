"""A provider's own computer calls as arguments of our tool, which is what a history holds.

A call that cannot be read becomes one that is refused when it is run, with field, value and bound:
every call of a history has arguments and a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from steersman_contracts.computer_providers import from_gemini, from_openai, gemini_asks
from steersman_contracts.computer_use import BATCH, MAX_BATCH, REFUSED, to_arguments
from steersman_contracts.desktop import Action
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.parts import JsonObject

TOOLSET: Final = "computer"
"""What blocks of Anthropic's toolset say in `toolset_name`."""
TOOLSET_MEMBERS: Final = frozenset(
    {
        "cursor_position",
        "double_click",
        "hold_key",
        "key",
        "left_click",
        "left_click_drag",
        "left_mouse_down",
        "left_mouse_up",
        "middle_click",
        "mouse_move",
        "right_click",
        "screenshot",
        "scroll",
        "triple_click",
        "type",
        "wait",
        "zoom",
    }
)


def of_openai(item: Mapping[str, Any]) -> JsonObject:
    """The arguments for a `computer_call`; its safety checks become a question to a person."""
    try:
        call = from_openai(item)
    except InvalidRequest as error:
        return _refused(error)
    said = (check.message or check.code or check.id for check in call.checks)
    question = " ".join(text for text in said if text) or "the provider asks for confirmation"
    return _arguments(call.actions) | ({"confirm": question} if call.checks else {})


def of_gemini(name: str, given: Mapping[str, Any], size: tuple[int, int]) -> JsonObject | None:
    """The arguments for a predefined function of Gemini; None if it is none.

    Args:
        name: Of the function.
        given: Its arguments.
        size: Of the newest screenshot that the model has seen.
    """
    try:
        actions = from_gemini(name, given, size)
    except InvalidRequest as error:
        return _refused(error)
    if actions is None:
        return None
    question = gemini_asks(given)
    return _arguments(actions) | ({"confirm": question} if question else {})


def _arguments(actions: Sequence[Action]) -> JsonObject:
    if len(actions) > MAX_BATCH:
        text = f"there are {len(actions)} actions; at most {MAX_BATCH} are done in one call"
        return {"action": BATCH, "actions": [{REFUSED: text}]}
    entries = [to_arguments(action) for action in actions]
    # One screenshot at the end is all that is wanted then.
    return {"action": BATCH, "actions": entries or [{"action": "screenshot"}]}


def _refused(error: InvalidRequest) -> JsonObject:
    return {"action": BATCH, "actions": [{REFUSED: str(error)}]}
