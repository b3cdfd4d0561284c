"""Does actions on a desktop, one at a time, and looks at what came of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from steersman_contracts import desktop as actions
from steersman_contracts.desktop import Action, Point, check_action, declared_size, scaled
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.rpc.desktop import Picture
from steersman_desktop import screens
from steersman_desktop.hands import BUTTONS, Hands
from steersman_desktop.keys import combinations, typeable
from steersman_desktop.rfb import RfbClient
from steersman_desktop.x11 import XClient

SETTLE_AT_LEAST_S: Final = 0.1
SETTLE_QUIET_S: Final = 0.12
SETTLE_AT_MOST_S: Final = 2.0
_DRAG_STEPS: Final = 10


class Outcome(msgspec.Struct, frozen=True):
    """What an action gave."""

    text: str
    picture: Picture | None = None
    looks: bool = True
    """A screenshot belongs to it; False if it has its own picture, or needs none."""


class Operator:
    """Hands and eyes of one desktop."""

    def __init__(self, rfb: RfbClient, x: XClient | None) -> None:
        self._rfb = rfb
        self.hands = Hands(rfb, x)

    @property
    def native(self) -> tuple[int, int]:
        """The size of the screen."""
        return self._rfb.width, self._rfb.height

    @property
    def declared(self) -> tuple[int, int]:
        """The size that models are shown, and in which they point."""
        return declared_size(*self.native)

    async def look(self, unlike: str = "") -> Picture:
        """The screen as it is now; without bytes if it is as in the picture with that digest."""
        await self._rfb.refresh()
        pixels, size = bytes(self._rfb.pixels), self.native
        return await asyncio.to_thread(screens.whole, pixels, size, self.declared, unlike)

    async def settle(self) -> None:
        """Wait until the screen has been still for a moment; not for ever."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        quiet = start + max(SETTLE_AT_LEAST_S, SETTLE_QUIET_S)
        while (now := loop.time()) < min(quiet, start + SETTLE_AT_MOST_S):
            self._rfb.ask()
            try:
                async with asyncio.timeout(min(quiet, start + SETTLE_AT_MOST_S) - now):
                    await self._rfb.next_update()
            except TimeoutError:
                return
            quiet = loop.time() + SETTLE_QUIET_S

    def prepare(self, action: Action) -> None:
        """Refuse what cannot be done, before anything is pressed.

        Raises:
            InvalidRequest: The message names field, value and bound.
        """
        check_action(action, *self.declared)
        match action:
            case actions.PressKeys(text=text) | actions.HoldKeys(text=text):
                combinations(text)
            case actions.TypeText(text=text):
                typeable(text)
            case actions.MouseDown() if self.hands.left_is_down:
                raise InvalidRequest("the left button is down already", field="action")
            case actions.MouseUp() if not self.hands.left_is_down:
                raise InvalidRequest("the left button is not down", field="action")
            case _:
                pass

    async def perform(self, action: Action, guard: Callable[[], None]) -> Outcome:
        """Do it. Whatever it holds comes up again when it is cancelled.

        Args:
            action: Prepared.
            guard: Called before each press; raises when this input is not allowed any more.
        """
        self.hands.guard = guard
        try:
            return await self._perform(action)
        except BaseException:
            self.hands.release()
            raise
        finally:
            self.hands.guard = _nobody_may

    async def _perform(self, action: Action) -> Outcome:
        match action:
            case actions.TakeScreenshot():
                return Outcome("This is the screen.")
            case actions.Zoom(region=region):
                return await self._zoom(region)
            case actions.CursorPosition():
                x, y = scaled(await self.hands.position(), self.native, self.declared)
                return Outcome(f"X={x},Y={y}", looks=False)
            case actions.Wait(duration_s=duration):  # it has been waited, see `acting.py`
                return Outcome(f"Waited {duration:g} s.")
            case actions.TypeText() | actions.PressKeys() | actions.HoldKeys():
                return await self._keyboard(action)
            case _:
                return await self._pointer(action)

    async def _keyboard(
        self, action: actions.TypeText | actions.PressKeys | actions.HoldKeys
    ) -> Outcome:
        match action:
            case actions.TypeText(text=text):
                await self.hands.write(typeable(text))
                return Outcome(f"Typed {len(text)} characters.")
            case actions.PressKeys(text=text, repeat=repeat):
                for _ in range(repeat):
                    for keys in combinations(text):
                        await self.hands.combination(keys)
                return Outcome(f"Pressed {text}{f' {repeat} times' if repeat > 1 else ''}.")
            case actions.HoldKeys(text=text, duration_s=duration):
                for keys in combinations(text):
                    await self.hands.combination(keys, duration)
                return Outcome(f"Held {text} for {duration:g} s.")

    async def _pointer(
        self,
        action: actions.MouseMove
        | actions.Click
        | actions.MouseDown
        | actions.MouseUp
        | actions.Drag
        | actions.Scroll,
    ) -> Outcome:
        hands = self.hands
        match action:
            case actions.MouseMove(coordinate=point):
                await hands.move(self._native(point))
                return Outcome(f"Moved the pointer to {_shown(point)}.")
            case actions.Click(button=button, count=count, coordinate=point):
                await self._go(point)
                async with hands.modified(action.modifiers):
                    await hands.click(BUTTONS[button], count)
                times = ("", "", " twice", " three times")[count]
                return Outcome(f"Clicked {button}{times}{_where(point)}.")
            case actions.MouseDown():
                await self._go(None)
                await hands.press(BUTTONS["left"])
                return Outcome("The left button is down.")
            case actions.MouseUp():
                await self._go(None)
                await hands.let_go(BUTTONS["left"])
                return Outcome("The left button is up.")
            case actions.Drag(path=path):
                async with hands.modified(action.modifiers):
                    await hands.drag(stroke([self._native(point) for point in path]))
                return Outcome(f"Dragged from {_shown(path[0])} to {_shown(path[-1])}.")
            case actions.Scroll(direction=direction, amount=amount, coordinate=point):
                await self._go(point)
                async with hands.modified(action.modifiers):
                    await hands.scroll(direction, amount)
                return Outcome(f"Scrolled {direction} by {amount}{_where(point)}.")

    async def _go(self, point: Point | None) -> None:
        """Move there; without a point make sure that we know where the pointer is."""
        if point is None:
            await self.hands.position()
        else:
            await self.hands.move(self._native(point))

    async def _zoom(self, region: tuple[int, int, int, int]) -> Outcome:
        await self._rfb.refresh()
        (width, height), (shown_x, shown_y) = self.native, self.declared
        left, top, right, bottom = region
        native = (
            left * width // shown_x,
            top * height // shown_y,
            -(-right * width // shown_x),
            -(-bottom * height // shown_y),
        )
        picture = await asyncio.to_thread(
            screens.part, bytes(self._rfb.pixels), self.native, native, self.declared
        )
        return Outcome("This is a part of the screen.", picture, looks=False)

    def _native(self, point: Point) -> Point:
        return scaled(point, self.declared, self.native)


def stroke(points: Sequence[Point]) -> Iterable[Point]:
    """The points of a drag, with steps between two that are all there is: programs want motion."""
    if len(points) > _DRAG_STEPS:
        return points
    steps = -(-_DRAG_STEPS // (len(points) - 1))
    between = (
        (a[0] + (b[0] - a[0]) * step // steps, a[1] + (b[1] - a[1]) * step // steps)
        for a, b in itertools.pairwise(points)
        for step in range(1, steps + 1)
    )
    return (points[0], *between)


def _nobody_may() -> None:
    raise RuntimeError("input outside of an action")


def _shown(point: Point) -> str:
    return f"{point[0]},{point[1]}"


def _where(point: Point | None) -> str:
    return "" if point is None else f" at {_shown(point)}"
