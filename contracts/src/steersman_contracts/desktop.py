"""What can be done on a virtual desktop: one action type for every provider and for people.

Coordinates are declared pixels: those of the screenshots that the model has seen. Nothing is ever
clamped into range: a clamped click hits what nobody aimed at.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.errors import InvalidRequest

Point: TypeAlias = tuple[int, int]
"""x and y in declared pixels, (0, 0) being the upper left one."""
Button: TypeAlias = Literal["left", "middle", "right"]
Modifier: TypeAlias = Literal["shift", "ctrl", "alt", "super"]
Direction: TypeAlias = Literal["up", "down", "left", "right"]

MAX_TYPED: Final = 10_000
"""Characters in one `type` action."""
MAX_REPEAT: Final = 100
MAX_CLICKS: Final = 100
"""Wheel clicks in one `scroll` action."""
MAX_DURATION_S: Final = 300.0
MAX_PATH: Final = 1_000
"""Points of one drag."""


class _Action(msgspec.Struct, frozen=True, tag_field="action", omit_defaults=True):
    """Base of every action."""


class TakeScreenshot(_Action, frozen=True, tag="screenshot"):
    """Look at the whole screen."""


class Zoom(_Action, frozen=True, tag="zoom"):
    """Look at a part of the screen in its native pixels; changes no coordinates."""

    region: tuple[int, int, int, int]
    """Left, top, right, bottom; the last two are just outside."""


class MouseMove(_Action, frozen=True, tag="mouse_move"):
    """Move the pointer."""

    coordinate: Point


class Click(_Action, frozen=True, tag="click", omit_defaults=True):
    """Click once or more, where the pointer is unless told otherwise."""

    button: Button = "left"
    count: Annotated[int, msgspec.Meta(ge=1, le=3)] = 1
    coordinate: Point | None = None
    modifiers: tuple[Modifier, ...] = ()


class MouseDown(_Action, frozen=True, tag="left_mouse_down"):
    """Press the left button and keep it down."""


class MouseUp(_Action, frozen=True, tag="left_mouse_up"):
    """Let the left button go."""


class Drag(_Action, frozen=True, tag="drag", omit_defaults=True):
    """Press at the first point, pass every other one, let go at the last."""

    path: Annotated[tuple[Point, ...], msgspec.Meta(min_length=2, max_length=MAX_PATH)]
    modifiers: tuple[Modifier, ...] = ()


class Scroll(_Action, frozen=True, tag="scroll", omit_defaults=True):
    """Turn the wheel, where the pointer is unless told otherwise."""

    direction: Direction
    amount: Annotated[int, msgspec.Meta(ge=1, le=MAX_CLICKS)] = 3
    coordinate: Point | None = None
    modifiers: tuple[Modifier, ...] = ()


class TypeText(_Action, frozen=True, tag="type"):
    """Type text as it is; a line break is Return."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TYPED)]


class PressKeys(_Action, frozen=True, tag="key", omit_defaults=True):
    """Press a combination such as `ctrl+shift+t`, or several separated by spaces."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
    repeat: Annotated[int, msgspec.Meta(ge=1, le=MAX_REPEAT)] = 1


class HoldKeys(_Action, frozen=True, tag="hold_key"):
    """Hold a combination for some seconds."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
    duration_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_DURATION_S)]


class Wait(_Action, frozen=True, tag="wait"):
    """Do nothing for some seconds, then look."""

    duration_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_DURATION_S)]


class CursorPosition(_Action, frozen=True, tag="cursor_position"):
    """Say where the pointer is."""


Action: TypeAlias = (
    TakeScreenshot
    | Zoom
    | MouseMove
    | Click
    | MouseDown
    | MouseUp
    | Drag
    | Scroll
    | TypeText
    | PressKeys
    | HoldKeys
    | Wait
    | CursorPosition
)
Looking: Final = (TakeScreenshot, Zoom, CursorPosition, Wait)
"""Actions that press nothing: allowed while a person has control."""


def check_action(action: Action, width: int, height: int) -> None:
    """Hold an action against the declared size of the screen.

    Raises:
        InvalidRequest: A point lies outside; the message names field, value and bound.
    """
    match action:
        case Zoom(region=region):
            _check_region(region, width, height)
        case MouseMove(coordinate=point):
            check_point("coordinate", point, width, height)
        case Click(coordinate=point) | Scroll(coordinate=point) if point is not None:
            check_point("coordinate", point, width, height)
        case Drag(path=path):
            for index, point in enumerate(path):
                # Two points are what a model calls start and end.
                name = ("start_coordinate", "coordinate")[index] if len(path) == 2 else "path"
                check_point(name, point, width, height)
        case _:
            pass


def check_point(field: str, point: Point, width: int, height: int) -> None:
    """Refuse a point that is not on the screen.

    Raises:
        InvalidRequest: With `field`, and the bounds in the message.
    """
    x, y = point
    for axis, value, size in (("x", x, width), ("y", y, height)):
        if not 0 <= value < size:
            raise InvalidRequest(
                f"{field}: {axis} is {value}, and the screen has {axis} from 0 to {size - 1}",
                field=field,
                value=list(point),
                bound=[0, size - 1],
            )


def _check_region(region: tuple[int, int, int, int], width: int, height: int) -> None:
    left, top, right, bottom = region
    for axis, low, high, size in (("x", left, right, width), ("y", top, bottom, height)):
        if not 0 <= low < high <= size:
            raise InvalidRequest(
                f"region: {axis} goes from {low} to {high}, and must grow within 0 to {size}",
                field="region",
                value=list(region),
                bound=[0, size],
            )


def declared_size(width: int, height: int) -> tuple[int, int]:
    """The size in which a screen is shown to models.

    The native size if its long edge is at most 1568 and it has at most 1.15 megapixels; otherwise
    the largest one within these limits that keeps the aspect exactly where whole numbers can.
    """
    if max(width, height) <= MAX_EDGE and width * height <= MAX_PIXELS:
        return width, height
    divisor = _gcd(width, height)
    step_x, step_y = width // divisor, height // divisor
    steps = min(MAX_EDGE // max(step_x, step_y), int((MAX_PIXELS / (step_x * step_y)) ** 0.5))
    # A ratio of large numbers has few exact sizes; a tenth too small is worse than half a pixel.
    scale = min(MAX_EDGE / max(width, height), (MAX_PIXELS / (width * height)) ** 0.5)
    if steps * step_x >= 0.9 * scale * width:
        return steps * step_x, steps * step_y
    return int(width * scale), int(height * scale)


MAX_EDGE: Final = 1568
MAX_PIXELS: Final = 1_150_000


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


def scaled(point: Point, source: tuple[int, int], target: tuple[int, int]) -> Point:
    """The pixel of `target` under the centre of a pixel of `source`, both being sizes.

    Of a point on the one screen it makes a point on the other.
    """
    (x, y), (from_x, from_y), (to_x, to_y) = point, source, target
    # floor((x + 1/2) * to / from), in whole numbers
    return (2 * x + 1) * to_x // (2 * from_x), (2 * y + 1) * to_y // (2 * from_y)
