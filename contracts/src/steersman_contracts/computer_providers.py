"""Computer use in each provider's own form: how it is declared, and what its calls mean.

Plain functions over JSON. The generic tool in `computer_use` needs none of this; adapters may
declare the native form for models that are trained on it, and translate here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

from steersman_contracts import desktop
from steersman_contracts.computer_use import (
    modifiers,
    point,
    refused,
    seconds,
    to_action,
    whole,
    words,
)
from steersman_contracts.desktop import MAX_CLICKS, Action, Button, Direction, Point
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.parts import JsonObject

# -- Anthropic -----------------------------------------------------------------------------------

AnthropicForm: TypeAlias = Literal[
    "computer_toolset_20260801", "computer_20251124", "computer_20250124", "computer_20241022"
]
ANTHROPIC_BETAS: Final[Mapping[AnthropicForm, str]] = {
    "computer_20251124": "computer-use-2025-11-24",
    "computer_20250124": "computer-use-2025-01-24",
    "computer_20241022": "computer-use-2024-10-22",
}
"""The beta header that a form needs; the toolset needs none."""
NOT_EXECUTED: Final = "Not executed: an earlier computer action in this turn failed."
"""The result of every call of a turn after the first that failed."""

_SINCE_2025_01: Final = frozenset(
    {"scroll", "wait", "hold_key", "triple_click", "left_mouse_down", "left_mouse_up"}
)


def anthropic_tool(form: AnthropicForm, width: int, height: int) -> JsonObject:
    """Declare the tool; the sizes are declared pixels."""
    if form == "computer_toolset_20260801":
        return {"type": form}
    tool: JsonObject = {
        "type": form,
        "name": "computer",
        "display_width_px": width,
        "display_height_px": height,
    }
    return tool | ({"enable_zoom": True} if form == "computer_20251124" else {})


def from_anthropic(form: AnthropicForm, name: str, given: Mapping[str, Any]) -> Action:
    """Read the input of a `tool_use` block.

    Args:
        form: What was declared.
        name: Of the block: `computer`, or a member of the toolset.
        given: The block's input.

    Raises:
        InvalidRequest: The form has no such action, or a field is not acceptable.
    """
    fields = {**given, "action": name} if form == "computer_toolset_20260801" else given
    action: Any = fields.get("action")
    unknown = (form != "computer_toolset_20260801" and name != "computer") or (
        (form == "computer_20241022" and action in _SINCE_2025_01)
        or (form in {"computer_20241022", "computer_20250124"} and action == "zoom")
    )
    if unknown:
        raise refused("action", action, f"an action of {form}")
    return to_action(fields)


# -- OpenAI --------------------------------------------------------------------------------------

OPENAI_TOOL: Final[JsonObject] = {"type": "computer"}
PIXELS_PER_CLICK: Final = 120
OPENAI_WAIT_S: Final = 2.0
_OPENAI_BUTTONS: Final[Mapping[str, Button]] = {"left": "left", "right": "right", "wheel": "middle"}
_OPENAI_KEYS: Final = {
    "ARROWLEFT": "Left",
    "ARROWRIGHT": "Right",
    "ARROWUP": "Up",
    "ARROWDOWN": "Down",
    "+": "plus",
    " ": "space",
}


class SafetyCheck(msgspec.Struct, frozen=True):
    """What OpenAI wants a person to see before the actions are run."""

    id: str
    code: str | None = None
    message: str | None = None


class OpenAiCall(msgspec.Struct, frozen=True):
    """A `computer_call`: run all actions in order, answer once, with a screenshot."""

    call_id: str
    actions: tuple[Action, ...]
    checks: tuple[SafetyCheck, ...] = ()
    """Not empty: ask a person first, and send back those that were accepted."""


class _RawCall(msgspec.Struct):
    call_id: str
    actions: list[dict[str, Any]] | None = None
    action: dict[str, Any] | None = None
    pending_safety_checks: list[SafetyCheck] | None = None


def from_openai(item: Mapping[str, Any]) -> OpenAiCall:
    """Read a `computer_call` item, of today's form or of the one with a single action.

    Raises:
        InvalidRequest: It is none, or an action is not acceptable; then none is to be run.
    """
    try:
        raw = msgspec.convert(dict(item), _RawCall)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"computer_call: {error}", field="computer_call") from error
    given = raw.actions if raw.actions is not None else [raw.action] if raw.action else []
    actions = tuple(action for entry in given for action in openai_actions(entry))
    return OpenAiCall(raw.call_id, actions, tuple(raw.pending_safety_checks or ()))


def openai_actions(given: Mapping[str, Any]) -> tuple[Action, ...]:
    """Read one of OpenAI's actions; a scroll both ways is two of ours.

    Raises:
        InvalidRequest: It is not acceptable.
    """
    kind: Any = given.get("type")
    read = _OPENAI.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise refused("type", kind, f"one of {', '.join(_OPENAI)}")
    return read(given)


def openai_output(
    call: OpenAiCall, screenshot_url: str, accepted: tuple[SafetyCheck, ...] = ()
) -> JsonObject:
    """The answer to a call: the screenshot after its last action, as a data URL."""
    output: JsonObject = {
        "type": "computer_call_output",
        "call_id": call.call_id,
        "output": {"type": "computer_screenshot", "image_url": screenshot_url},
    }
    if accepted:
        output["acknowledged_safety_checks"] = [msgspec.to_builtins(check) for check in accepted]
    return output


def _xy(given: Mapping[str, Any]) -> Point:
    return point("x, y", [given.get("x"), given.get("y")])


def _held(given: Mapping[str, Any]) -> Any:
    return modifiers("+".join(map(str, given.get("keys") or ())))


def _openai_click(given: Mapping[str, Any]) -> tuple[Action, ...]:
    name: Any = given.get("button", "left")
    if name in {"back", "forward"}:
        return (desktop.PressKeys("alt+Left" if name == "back" else "alt+Right"),)
    button = _OPENAI_BUTTONS.get(name) if isinstance(name, str) else None
    if button is None:
        raise refused("button", name, "left, right, wheel, back or forward")
    return (desktop.Click(button, 1, _xy(given), _held(given)),)


def _openai_drag(given: Mapping[str, Any]) -> tuple[Action, ...]:
    path: Any = given.get("path")
    if not isinstance(path, list) or not 2 <= len(path) <= desktop.MAX_PATH:  # pyright: ignore[reportUnknownArgumentType]  # JSON
        raise refused("path", path, f"2 to {desktop.MAX_PATH} points")
    entries = cast("list[Any]", path)
    return (
        desktop.Drag(
            tuple(
                _xy(cast("JsonObject", entry)) if isinstance(entry, dict) else point("path", entry)
                for entry in entries
            ),
            _held(given),
        ),
    )


def _openai_scroll(given: Mapping[str, Any]) -> tuple[Action, ...]:
    at, held = _xy(given), _held(given)
    found: list[Action] = []
    for field, backward, forward in (
        ("scroll_x", "left", "right"),
        ("scroll_y", "up", "down"),
    ):
        pixels = whole(field, given.get(field, 0), -(10**6), 10**6)
        if pixels:
            direction: Direction = forward if pixels > 0 else backward  # pyright: ignore[reportAssignmentType]  # one of the four
            found.append(desktop.Scroll(direction, _clicks(field, abs(pixels)), at, held))
    return tuple(found) or (desktop.MouseMove(at),)


def _clicks(field: str, pixels: int) -> int:
    clicks = max(1, round(pixels / PIXELS_PER_CLICK))
    if clicks > MAX_CLICKS:
        raise refused(field, pixels, f"at most {MAX_CLICKS * PIXELS_PER_CLICK} pixels")
    return clicks


def _openai_keys(given: Mapping[str, Any]) -> tuple[Action, ...]:
    keys: Any = given.get("keys")
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) for key in keys):  # pyright: ignore[reportUnknownVariableType]  # JSON
        raise refused("keys", keys, "a list of key names")
    names = cast("list[str]", keys)
    text = "+".join(_OPENAI_KEYS.get(name.upper(), name) for name in names)
    return (desktop.PressKeys(words("keys", text, 1_000)),)


_OPENAI: Final[Mapping[str, Callable[[Mapping[str, Any]], tuple[Action, ...]]]] = {
    "click": _openai_click,
    "double_click": lambda g: (desktop.Click("left", 2, _xy(g), _held(g)),),
    "move": lambda g: (desktop.MouseMove(_xy(g)),),
    "drag": _openai_drag,
    "scroll": _openai_scroll,
    "keypress": _openai_keys,
    "type": lambda g: (desktop.TypeText(words("text", g.get("text"), desktop.MAX_TYPED)),),
    "wait": lambda _: (desktop.Wait(OPENAI_WAIT_S),),
    "screenshot": lambda _: (desktop.TakeScreenshot(),),
}

# -- Gemini --------------------------------------------------------------------------------------

GRID: Final = 1000
"""Gemini points with 0 to 999 on both axes, whatever the size of the screen."""
GEMINI_WAIT_S: Final = 5.0
GEMINI_LEFT_OUT: Final = ("key_down", "key_up")
"""Functions of the desktop that are not offered: a key that is held belongs to one action."""
_BROWSER_KEYS: Final = {"go_back": "alt+Left", "go_forward": "alt+Right", "search": "ctrl+k"}


def gemini_tool(
    environment: Literal["browser", "desktop"], functions: Collection[str] = ()
) -> JsonObject:
    """Declare the tool; newer models know a set of functions for desktops.

    Args:
        environment: Whose set of functions.
        functions: The names of other functions that are declared beside it.
    """
    tool: JsonObject = {"environment": f"ENVIRONMENT_{environment.upper()}"}
    left_out = [name for name in (*_GEMINI, *_BROWSER_KEYS) if name in functions]
    if environment == "desktop":
        left_out += GEMINI_LEFT_OUT
    if left_out:
        tool["excludedPredefinedFunctions"] = left_out
    return {"computerUse": tool}


def from_gemini(
    name: str, given: Mapping[str, Any], size: tuple[int, int]
) -> tuple[Action, ...] | None:
    """Read one of Gemini's predefined functions.

    Args:
        name: Of the function call.
        given: Its arguments; `safety_decision` is for the caller, see `gemini_asks`.
        size: Of the screen in declared pixels.

    Returns:
        The actions in order; None if the function is none of computer use.

    Raises:
        InvalidRequest: A field is not acceptable.
    """
    if name in _BROWSER_KEYS:
        return (desktop.PressKeys(_BROWSER_KEYS[name]),)
    read = _GEMINI.get(name)
    return None if read is None else read(given, size)


def gemini_asks(given: Mapping[str, Any]) -> str | None:
    """What a person must be asked before the call is run; None if nothing."""
    decision: Any = given.get("safety_decision")
    if not isinstance(decision, dict):
        return None
    found = cast("JsonObject", decision)
    if found.get("decision") != "require_confirmation":
        return None
    return str(found.get("explanation") or "the model asks for confirmation")


def from_grid(x: Any, y: Any, size: tuple[int, int], field: str = "x, y") -> Point:
    """The pixel in the middle of a cell of the grid.

    Raises:
        InvalidRequest: It is outside of 0 to 999.
    """
    cell_x, cell_y = point(field, [x, y])
    for value in (cell_x, cell_y):
        whole(field, value, 0, GRID - 1)
    return desktop.scaled((cell_x, cell_y), (GRID, GRID), size)


Size: TypeAlias = tuple[int, int]


def _at(given: Mapping[str, Any], size: Size) -> Point:
    return from_grid(given.get("x"), given.get("y"), size)


def _gemini_type(given: Mapping[str, Any], size: Size) -> tuple[Action, ...]:
    found: list[Action] = [desktop.Click("left", 1, _at(given, size))]
    if given.get("clear_before_typing", True):
        found += [desktop.PressKeys("ctrl+a"), desktop.PressKeys("BackSpace")]
    found.append(desktop.TypeText(words("text", given.get("text"), desktop.MAX_TYPED)))
    if given.get("press_enter", True):
        found.append(desktop.PressKeys("Return"))
    return tuple(found)


def _gemini_scroll(given: Mapping[str, Any], size: Size) -> tuple[Action, ...]:
    direction: Any = given.get("direction")
    if direction not in {"up", "down", "left", "right"}:
        raise refused("direction", direction, "up, down, left or right")
    share = whole("magnitude", given.get("magnitude", 800), 1, GRID)
    edge = size[1] if direction in {"up", "down"} else size[0]
    clicks = _clicks("magnitude", share * edge // GRID)
    middle = size[0] // 2, size[1] // 2
    at = _at(given, size) if "x" in given or "y" in given else middle
    return (desktop.Scroll(direction, clicks, at),)


def _gemini_drag(given: Mapping[str, Any], size: Size) -> tuple[Action, ...]:
    if "start_x" in given or "end_x" in given:  # the words of newer models
        start = from_grid(given.get("start_x"), given.get("start_y"), size, "start_x, start_y")
        stop = from_grid(given.get("end_x"), given.get("end_y"), size, "end_x, end_y")
        return (desktop.Drag((start, stop)),)
    end = from_grid(
        given.get("destination_x"), given.get("destination_y"), size, "destination_x, destination_y"
    )
    return (desktop.Drag((_at(given, size), end)),)


def _gemini_keys(given: Mapping[str, Any], _: Size) -> tuple[Action, ...]:
    return (desktop.PressKeys(words("keys", given.get("keys"), 1_000)),)


def _gemini_navigate(given: Mapping[str, Any], _: Size) -> tuple[Action, ...]:
    url = words("url", given.get("url"), desktop.MAX_TYPED)
    return desktop.PressKeys("ctrl+l"), desktop.TypeText(url), desktop.PressKeys("Return")


def _gemini_click(
    button: Button, count: int
) -> Callable[[Mapping[str, Any], Size], tuple[Action, ...]]:
    return lambda given, size: (desktop.Click(button, count, _at(given, size)),)


def _gemini_plain_type(given: Mapping[str, Any], _: Size) -> tuple[Action, ...]:
    typed = desktop.TypeText(words("text", given.get("text"), desktop.MAX_TYPED))
    return (typed, desktop.PressKeys("Return")) if given.get("press_enter") else (typed,)


def _gemini_hotkey(given: Mapping[str, Any], _: Size) -> tuple[Action, ...]:
    return _openai_keys(given)


def _gemini_pixels(given: Mapping[str, Any], size: Size) -> tuple[Action, ...]:
    direction: Any = given.get("direction")
    if direction not in {"up", "down", "left", "right"}:
        raise refused("direction", direction, "up, down, left or right")
    pixels = whole("magnitude_in_pixels", given.get("magnitude_in_pixels", 300), 1, 10_000)
    return (desktop.Scroll(direction, _clicks("magnitude_in_pixels", pixels), _at(given, size)),)


_GEMINI: Final[Mapping[str, Callable[[Mapping[str, Any], Size], tuple[Action, ...]]]] = {
    "click_at": lambda g, size: (desktop.Click("left", 1, _at(g, size)),),
    "hover_at": lambda g, size: (desktop.MouseMove(_at(g, size)),),
    "type_text_at": _gemini_type,
    "key_combination": _gemini_keys,
    "scroll_document": _gemini_scroll,
    "scroll_at": _gemini_scroll,
    "drag_and_drop": _gemini_drag,
    "navigate": _gemini_navigate,
    "wait_5_seconds": lambda _, __: (desktop.Wait(GEMINI_WAIT_S),),
    "open_web_browser": lambda _, __: (desktop.TakeScreenshot(),),
    "wait": lambda g, _: (desktop.Wait(seconds("seconds", g.get("seconds", 1))),),
    # The set of newer models.
    "click": _gemini_click("left", 1),
    "double_click": _gemini_click("left", 2),
    "triple_click": _gemini_click("left", 3),
    "middle_click": _gemini_click("middle", 1),
    "right_click": _gemini_click("right", 1),
    "mouse_down": lambda g, size: (desktop.MouseMove(_at(g, size)), desktop.MouseDown()),
    "mouse_up": lambda g, size: (desktop.MouseMove(_at(g, size)), desktop.MouseUp()),
    "move": lambda g, size: (desktop.MouseMove(_at(g, size)),),
    "type": _gemini_plain_type,
    "press_key": lambda g, _: (desktop.PressKeys(words("key", g.get("key"), 1_000)),),
    "hotkey": _gemini_hotkey,
    "take_screenshot": lambda _, __: (desktop.TakeScreenshot(),),
    "scroll": _gemini_pixels,
}
