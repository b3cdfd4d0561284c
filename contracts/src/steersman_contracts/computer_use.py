"""The tool `computer` as models call it: flat arguments, read into one action.

The form is that of Anthropic's computer tools, which other models know as well; it works wherever
plain function calling does. What cannot be read is refused with field, value and bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias, cast, get_args

import msgspec

from steersman_contracts import desktop
from steersman_contracts.desktop import Action, Button, Direction, Modifier, Point
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.parts import JsonObject

TOOL: Final = "computer"
BATCH: Final = "batch"
MAX_BATCH: Final = 50
"""Actions in one call."""
REFUSED: Final = "refused"
"""In an entry of a batch: why a provider's own action cannot be done. Models never write it."""

ActionName: TypeAlias = Literal[
    "screenshot",
    "zoom",
    "mouse_move",
    "left_click",
    "right_click",
    "middle_click",
    "double_click",
    "triple_click",
    "left_click_drag",
    "left_mouse_down",
    "left_mouse_up",
    "scroll",
    "type",
    "key",
    "hold_key",
    "wait",
    "cursor_position",
    "batch",
]

_POINT: Final = "[x, y] in pixels of the newest screenshot; [0, 0] is the upper left pixel."


class ComputerArguments(msgspec.Struct, frozen=True, omit_defaults=True):
    """The arguments of the tool. Only `action` is always needed."""

    action: Annotated[ActionName, msgspec.Meta(description="What to do.")]
    coordinate: Annotated[
        list[int] | None,
        msgspec.Meta(
            description=f"{_POINT} Needed by mouse_move and left_click_drag (the end); "
            "clicks and scroll happen where the pointer is without it."
        ),
    ] = None
    start_coordinate: Annotated[
        list[int] | None, msgspec.Meta(description=f"Where left_click_drag begins. {_POINT}")
    ] = None
    region: Annotated[
        list[int] | None,
        msgspec.Meta(description="For zoom: [left, top, right, bottom] in the same pixels."),
    ] = None
    text: Annotated[
        str | None,
        msgspec.Meta(
            description="For type: the text. For key and hold_key: keys such as `ctrl+shift+t`, "
            "`Return`, `Page_Down`. For clicks, drag and scroll: modifiers to hold, as `ctrl`."
        ),
    ] = None
    scroll_direction: Annotated[Direction | None, msgspec.Meta(description="For scroll.")] = None
    scroll_amount: Annotated[
        int | None, msgspec.Meta(description="For scroll: wheel clicks, 1 to 100; 3 if left out.")
    ] = None
    duration: Annotated[
        float | None, msgspec.Meta(description="For wait and hold_key: seconds, 0 to 300.")
    ] = None
    repeat: Annotated[
        int | None, msgspec.Meta(description="For key: how often, 1 to 100; once if left out.")
    ] = None


_CLICKS: Final[Mapping[str, tuple[Button, int]]] = {
    "left_click": ("left", 1),
    "right_click": ("right", 1),
    "middle_click": ("middle", 1),
    "double_click": ("left", 2),
    "triple_click": ("left", 3),
}
_MODIFIERS: Final[Mapping[str, Modifier]] = {
    "shift": "shift",
    "ctrl": "ctrl",
    "control": "ctrl",
    "alt": "alt",
    "option": "alt",
    "super": "super",
    "cmd": "super",
    "command": "super",
    "meta": "super",
    "win": "super",
}
DEFAULT_SCROLL: Final = 3
_SINGLE: Final = tuple(name for name in get_args(ActionName) if name != BATCH)


def refused(field: str, value: Any, bound: str) -> InvalidRequest:
    """The error for a field: its name, what it was, and what would do."""
    shown = "missing" if value is None else f"{value!r:.100}"
    return InvalidRequest(f"{field} is {shown}; it must be {bound}", field=field, bound=bound)


def to_action(given: ComputerArguments | Mapping[str, Any]) -> Action:
    """Read arguments into an action. Whether points are on the screen is seen later.

    Raises:
        InvalidRequest: A field is missing or not acceptable.
    """
    fields: Mapping[str, Any] = (
        msgspec.structs.asdict(given) if isinstance(given, ComputerArguments) else given
    )
    given_name: Any = fields.get("action")
    name = given_name if isinstance(given_name, str) else ""
    if name in _CLICKS:
        button, count = _CLICKS[name]
        return desktop.Click(button, count, _optional_point(fields), modifiers(fields.get("text")))
    read = _READERS.get(name)
    if read is None:
        raise refused("action", given_name, f"one of {', '.join(_SINGLE)}")
    return read(fields)


def to_actions(given: ComputerArguments | Mapping[str, Any]) -> tuple[Action, ...]:
    """Read arguments into the actions that they stand for: several only in a batch.

    Raises:
        InvalidRequest: One of them is not acceptable; then none is to be done.
    """
    fields: Mapping[str, Any] = (
        msgspec.structs.asdict(given) if isinstance(given, ComputerArguments) else given
    )
    if fields.get("action") != BATCH:
        return (to_action(fields),)
    entries: Any = fields.get("actions")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_BATCH:  # pyright: ignore[reportUnknownArgumentType]  # JSON
        shown = f"{len(entries)} actions" if isinstance(entries, list) else entries  # pyright: ignore[reportUnknownArgumentType]  # JSON
        raise refused("actions", shown, f"a list of 1 to {MAX_BATCH} actions")
    found: list[Action] = []
    for number, entry in enumerate(cast("list[Any]", entries)):
        if not isinstance(entry, dict):
            raise refused(f"actions[{number}]", entry, "an object")
        each = cast("JsonObject", entry)
        if REFUSED in each:  # a provider's own call that could not be read
            raise InvalidRequest(str(each[REFUSED]), field=f"actions[{number}]")
        try:
            found.append(to_action(each))
        except InvalidRequest as error:
            raise InvalidRequest(f"actions[{number}]: {error}", **error.details) from error
    return tuple(found)


def to_arguments(action: Action) -> JsonObject:
    """The arguments that `to_action` reads as this action."""
    match action:
        case desktop.Click(button=button, count=count, coordinate=at, modifiers=held):
            name = next((n for n, made in _CLICKS.items() if made == (button, count)), "left_click")
            return {"action": name} | _place(at) | _held(held)
        case desktop.Drag(path=path, modifiers=held):
            ends = {"start_coordinate": list(path[0]), "coordinate": list(path[-1])}
            between = {"path": [list(at) for at in path]} if len(path) > 2 else {}
            return {"action": "left_click_drag"} | ends | between | _held(held)
        case desktop.Scroll(direction=direction, amount=amount, coordinate=at, modifiers=held):
            turned = {"scroll_direction": direction, "scroll_amount": amount}
            return {"action": "scroll"} | turned | _place(at) | _held(held)
        case desktop.MouseMove(coordinate=at):
            return {"action": "mouse_move"} | _place(at)
        case desktop.Zoom(region=region):
            return {"action": "zoom", "region": list(region)}
        case desktop.TypeText(text=text):
            return {"action": "type", "text": text}
        case desktop.PressKeys(text=text, repeat=repeat):
            return {"action": "key", "text": text} | ({"repeat": repeat} if repeat > 1 else {})
        case desktop.HoldKeys(text=text, duration_s=duration):
            return {"action": "hold_key", "text": text, "duration": duration}
        case desktop.Wait(duration_s=duration):
            return {"action": "wait", "duration": duration}
        case _:
            return {"action": action.__struct_config__.tag}


def question_of(tool: str, arguments: JsonObject) -> str | None:
    """What a person must be asked before a call is run; None for every other call."""
    question: Any = arguments.get("confirm") if tool == TOOL else None
    return question if isinstance(question, str) and question.strip() else None


def _place(at: Point | None) -> JsonObject:
    return {} if at is None else {"coordinate": list(at)}


def _held(held: tuple[Modifier, ...]) -> JsonObject:
    return {"text": "+".join(held)} if held else {}


def point(field: str, value: Any) -> Point:
    """Two whole numbers.

    Raises:
        InvalidRequest: Something else, also `True` and `1.0`: those are mistakes.
    """
    items = _numbers(value, 2)
    if items is None:
        raise refused(field, value, "[x, y], two whole numbers")
    return items[0], items[1]


def whole(field: str, value: object, low: int, high: int) -> int:
    """A whole number within bounds.

    Raises:
        InvalidRequest: It is not.
    """
    if isinstance(value, int) and _is_int(value) and low <= value <= high:
        return value
    raise refused(field, value, f"a whole number from {low} to {high}")


def seconds(field: str, value: object) -> float:
    """A duration.

    Raises:
        InvalidRequest: It is none, or out of bounds.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and 0 <= number <= desktop.MAX_DURATION_S:
            return number
    raise refused(field, value, f"seconds from 0 to {desktop.MAX_DURATION_S:g}")


def words(field: str, value: object, limit: int) -> str:
    """Text that is not empty.

    Raises:
        InvalidRequest: It is empty, too long, or no text.
    """
    if isinstance(value, str) and 1 <= len(value) <= limit:
        return value
    shown = f"{len(value)} characters" if isinstance(value, str) and len(value) > limit else value
    raise refused(field, shown, f"text of 1 to {limit} characters")


def modifiers(value: object) -> tuple[Modifier, ...]:
    """Modifiers such as `ctrl+shift`; none for None and empty text.

    Raises:
        InvalidRequest: A word is no modifier.
    """
    if value is None or value == "":
        return ()
    names = value.lower().split("+") if isinstance(value, str) else [""]
    found: list[Modifier] = []
    for name in names:
        modifier = _MODIFIERS.get(name.strip())
        if modifier is None:
            raise refused("text", value, "modifiers: shift, ctrl, alt, super, joined by +")
        if modifier not in found:
            found.append(modifier)
    return tuple(found)


def _numbers(value: Any, count: int) -> list[int] | None:
    """Exactly `count` whole numbers; None for everything else."""
    if not isinstance(value, list | tuple) or len(value) != count:  # pyright: ignore[reportUnknownArgumentType]  # JSON
        return None
    items: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]  # JSON
    return items if all(map(_is_int, items)) else None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def _optional_point(fields: Mapping[str, Any]) -> Point | None:
    value = fields.get("coordinate")
    return None if value is None else point("coordinate", value)


def _zoom(fields: JsonObject) -> Action:
    value = fields.get("region")
    items = _numbers(value, 4)
    if items is None:
        raise refused("region", value, "[left, top, right, bottom], four whole numbers")
    return desktop.Zoom((items[0], items[1], items[2], items[3]))


def _drag(fields: JsonObject) -> Action:
    path: Any = fields.get("path")
    if path is not None:
        if not isinstance(path, list) or not 2 <= len(path) <= desktop.MAX_PATH:  # pyright: ignore[reportUnknownArgumentType]  # JSON
            raise refused("path", path, f"2 to {desktop.MAX_PATH} points")
        points = tuple(point("path", at) for at in cast("list[Any]", path))
        return desktop.Drag(points, modifiers(fields.get("text")))
    start = point("start_coordinate", fields.get("start_coordinate"))
    end = point("coordinate", fields.get("coordinate"))
    return desktop.Drag((start, end), modifiers(fields.get("text")))


def _scroll(fields: JsonObject) -> Action:
    direction: Any = fields.get("scroll_direction")
    if direction not in get_args(Direction):
        raise refused("scroll_direction", direction, "up, down, left or right")
    amount = fields.get("scroll_amount")
    clicks = (
        DEFAULT_SCROLL if amount is None else whole("scroll_amount", amount, 1, desktop.MAX_CLICKS)
    )
    return desktop.Scroll(direction, clicks, _optional_point(fields), modifiers(fields.get("text")))


def _key(fields: JsonObject) -> Action:
    repeat = fields.get("repeat")
    return desktop.PressKeys(
        words("text", fields.get("text"), 1_000),
        1 if repeat is None else whole("repeat", repeat, 1, desktop.MAX_REPEAT),
    )


def _hold(fields: JsonObject) -> Action:
    text = words("text", fields.get("text"), 1_000)
    return desktop.HoldKeys(text, seconds("duration", fields.get("duration")))


_READERS: Final[Mapping[str, Callable[[Any], Action]]] = {
    "screenshot": lambda _: desktop.TakeScreenshot(),
    "zoom": _zoom,
    "mouse_move": lambda f: desktop.MouseMove(point("coordinate", f.get("coordinate"))),
    "left_click_drag": _drag,
    "left_mouse_down": lambda _: desktop.MouseDown(),
    "left_mouse_up": lambda _: desktop.MouseUp(),
    "scroll": _scroll,
    "type": lambda f: desktop.TypeText(words("text", f.get("text"), desktop.MAX_TYPED)),
    "key": _key,
    "hold_key": _hold,
    "wait": lambda f: desktop.Wait(seconds("duration", f.get("duration"))),
    "cursor_position": lambda _: desktop.CursorPosition(),
}
