"""Which models get the computer tool in their provider's own form, and its calls both ways.

The tool itself is the same for everybody; a plain function is what every other model gets. History
holds the arguments of that function; a call goes back in the provider's own form only to a request
that declares it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from steersman_chatloop.providers import neutral
from steersman_chatloop.providers.base import StepRequest
from steersman_contracts.chats import Message
from steersman_contracts.computer_calls import TOOLSET, TOOLSET_MEMBERS
from steersman_contracts.computer_providers import ANTHROPIC_BETAS, AnthropicForm
from steersman_contracts.computer_use import TOOL
from steersman_contracts.model_options import ComputerForm
from steersman_contracts.parts import JsonObject, ToolCallPart, ToolResultPart
from steersman_contracts.rpc.tools import ToolSpec

PLUGIN: Final = "computer"
OPENAI_ITEM: Final = "computer_call"

Environment = Literal["browser", "desktop"]

_OPENAI: Final = re.compile(
    r"(?:.*/)?gpt-(?:5\.([4-9]|\d\d)|([6-9]|\d\d))(?!.*(?:nano|chat|codex))"
)
_GEMINI: Final = re.compile(r"(?:models/)?gemini-(\d+)(?:\.(\d+))?-flash(?!-lite|.*image|.*tts)")


def spec_of(tools: Iterable[ToolSpec]) -> ToolSpec | None:
    """Our computer tool, if it is offered; another tool may have its name."""
    return next((tool for tool in tools if tool.name == TOOL and tool.plugin == PLUGIN), None)


def _is_native(request: StepRequest, wanted: ComputerForm | None, *, known: bool) -> bool:
    if spec_of(request.tools) is None or wanted == "function":
        return False
    return known or wanted == "native"


def anthropic_form(
    request: StepRequest,
    wanted: ComputerForm | None,
    version: tuple[int, int] | None,
    *,
    itself: bool,
) -> AnthropicForm | None:
    """The newest form that the model takes; None: a plain function.

    Args:
        request: The step.
        wanted: What the administrator says.
        version: Of the model; None if its name does not tell.
        itself: Anthropic's own service, where new forms are known first.
    """
    form: AnthropicForm | None = "computer_toolset_20260801"
    if version is not None and version < (4, 8):
        form = "computer_20251124" if version >= (4, 6) else "computer_20250124"
        if version == (4, 5) and "opus" in request.model.model_id:
            form = "computer_20251124"
        if version < (3, 7):
            form = "computer_20241022" if version == (3, 5) else None
    known = itself and version is not None and form is not None
    return form if _is_native(request, wanted, known=known) else None


def anthropic_beta(form: AnthropicForm | None) -> str:
    """The feature that a form asks for by header; empty for none."""
    return "" if form is None else ANTHROPIC_BETAS.get(form, "")


def toolset_block(part: ToolCallPart) -> JsonObject | None:
    """The fields of a call as a member of Anthropic's toolset; None if it is none."""
    name = part.arguments.get("action")
    if part.tool != TOOL or name not in TOOLSET_MEMBERS:
        return None
    given = {key: value for key, value in part.arguments.items() if key != "action"}
    return {"name": name, "input": given, "toolset_name": TOOLSET}


def openai_native(request: StepRequest, wanted: ComputerForm | None, *, itself: bool) -> bool:
    """Whether OpenAI's own tool is declared."""
    known = itself and _OPENAI.match(request.model.model_id) is not None
    return _is_native(request, wanted, known=known)


def gemini_environment(request: StepRequest, wanted: ComputerForm | None) -> Environment | None:
    """The set of functions of Gemini's own tool; None: a plain function."""
    model = request.model.model_id
    version = _GEMINI.match(model)
    legacy = "computer-use" in model or (
        version is not None and (int(version[1]), int(version[2] or 0)) < (3, 5)
    )
    known = "computer-use" in model or (version is not None and int(version[1]) >= 3)
    if not _is_native(request, wanted, known=known):
        return None
    return "browser" if legacy else "desktop"


def pictured(messages: Sequence[Message]) -> frozenset[str]:
    """The calls whose results have a picture of the screen."""
    return frozenset(
        part.call_id
        for message in messages
        for part in message.parts
        if isinstance(part, ToolResultPart)
        and part.tool == TOOL
        and any(media.is_image for media in neutral.result_media(part))
    )


def safety_decision(arguments: Mapping[str, object]) -> bool:
    """Whether Gemini wanted a person to confirm the call."""
    return isinstance(arguments.get("safety_decision"), dict)
