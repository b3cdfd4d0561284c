"""Keyboard and pointer of one desktop: what is down is known, and always comes up again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final

from steersman_contracts.desktop import Button, Direction, Modifier, Point
from steersman_contracts.errors import InvalidRequest
from steersman_desktop.keys import (
    CAPS_LOCK,
    MODIFIERS,
    SHIFT,
    Combination,
    batches,
    character_keysym,
    needs_shift,
    on_keyboard,
)
from steersman_desktop.rfb import RfbClient, RfbError
from steersman_desktop.x11 import SLOTS, XClient

PAUSE_S: Final = 0.015
"""Between pointer events: without it double clicks are not seen, and modifiers come too late."""
_ANSWER_S: Final = 20.0
_NO_ANSWER_S: Final = 0.2
"""What windows that cannot be asked get to read a changed keyboard map, or what was typed."""
_FOREIGN_SYMBOLS: Final = 15
"""New characters that a foreign VNC server takes before it silently loses the next ones."""
_BURST: Final = 200

BUTTONS: Final[dict[Button, int]] = {"left": 1, "middle": 2, "right": 4}
_WHEEL: Final[dict[Direction, int]] = {"up": 8, "down": 16, "left": 32, "right": 64}


class Hands:
    """Sends input. Each press asks `guard` first, which raises when it is not allowed any more."""

    def __init__(self, rfb: RfbClient, x: XClient | None) -> None:
        self._rfb = rfb
        self._x = x
        self._down: list[int] = []
        self._buttons = 0
        self._at: Point = (0, 0)
        self._foreign: set[str] = set()
        self.guard: Callable[[], None] = lambda: None

    @property
    def left_is_down(self) -> bool:
        """Whether the left button is held."""
        return bool(self._buttons & BUTTONS["left"])

    async def position(self) -> Point:
        """Where the pointer is, in native pixels, whoever moved it."""
        if self._x is not None:
            self._at = await self._x.pointer()
        return self._at

    def release(self) -> None:
        """Let go of every key and button. Needs no permission; does nothing without a server."""
        with suppress(RfbError):
            while self._down:
                self._rfb.key(self._down.pop(), down=False)
            if self._buttons:
                self._buttons = 0
                self._rfb.pointer(*self._at, 0)
        self._down.clear()
        self._buttons = 0

    # -- pointer ---------------------------------------------------------------------------------

    async def move(self, point: Point) -> None:
        """Move the pointer; what is down stays down."""
        self.guard()
        self._at = point
        self._rfb.pointer(*point, self._buttons)
        await self._pause()

    async def press(self, button: int) -> None:
        """Press a button where the pointer is."""
        self.guard()
        self._buttons |= button
        self._rfb.pointer(*self._at, self._buttons)
        await self._pause()

    async def let_go(self, button: int) -> None:
        """Let a button go."""
        self._buttons &= ~button
        self._rfb.pointer(*self._at, self._buttons)
        await self._pause()

    async def click(self, button: int, count: int) -> None:
        """Click where the pointer is."""
        for _ in range(count):
            try:
                await self.press(button)
            finally:
                self._lift(button)
            await self._pause()

    async def scroll(self, direction: Direction, amount: int) -> None:
        """Turn the wheel where the pointer is."""
        await self.click(_WHEEL[direction], amount)

    async def drag(self, path: Iterable[Point]) -> None:
        """Press at the first point, pass the others, let go at the last."""
        first, *rest = path
        await self.move(first)
        try:
            await self.press(BUTTONS["left"])
            for point in rest:
                await self.move(point)
        finally:
            self._lift(BUTTONS["left"])
        await self._pause()

    def _lift(self, button: int) -> None:
        """Let a button go without waiting: also when cancelled."""
        self._buttons &= ~button
        with suppress(RfbError):
            self._rfb.pointer(*self._at, self._buttons)

    # -- keyboard --------------------------------------------------------------------------------

    @asynccontextmanager
    async def holding(self, keysyms: Iterable[int]) -> AsyncGenerator[None]:
        """Hold keys for as long as the block lasts; up in reverse order, whatever happens."""
        pressed: list[int] = []
        try:
            for keysym in keysyms:
                self._key_down(keysym)
                pressed.append(keysym)
                await self._pause()
            yield
        finally:
            for keysym in reversed(pressed):
                self._key_up(keysym)

    @asynccontextmanager
    async def modified(self, modifiers: Iterable[Modifier]) -> AsyncGenerator[None]:
        """Hold modifiers for as long as the block lasts."""
        async with self.holding(MODIFIERS[name] for name in modifiers):
            yield
            await self._pause()

    async def combination(self, keys: Combination, hold_s: float = 0.0) -> None:
        """Press keys together, hold them, let them go."""
        new = [] if self._x is None else [k for k in keys.keysyms if not self._x.has(k)]
        if new:
            await self._map(new)
        async with self.holding(keys.keysyms):
            await asyncio.sleep(hold_s)
        if new:
            # As in `write`: a program that is late would read this key by the map of the next one.
            await self._answered()
        await self._pause()

    async def write(self, text: str) -> None:
        """Type text, checked by `typeable`, exactly and as fast as programs take it."""
        await self._clear_caps_lock()
        if self._x is None:
            self._check_foreign(text)
            await self._strike(text)
            return
        mapped = False
        try:
            for piece in batches(text, len(SLOTS)):
                needed = list(dict.fromkeys(c for c in piece if not on_keyboard(c)))
                if needed:
                    await self._map(map(character_keysym, needed))
                    mapped = True
                await self._strike(piece)
                if mapped:
                    # The next change of the map must not overtake what is still being read.
                    await self._answered()
        finally:
            if mapped:
                with suppress(RfbError, OSError):
                    await asyncio.shield(self._x.map_slots({}))

    async def _map(self, keysyms: Iterable[int]) -> None:
        assert self._x is not None
        await self._x.map_slots(dict(zip(SLOTS, keysyms, strict=False)))
        # A busy program has heard of the new map long before it has read it.
        await self._answered()

    async def _answered(self) -> None:
        assert self._x is not None
        await self._rfb.drain()
        await self._x.sync()
        if not await self._x.ping_active_window(_ANSWER_S):
            await asyncio.sleep(_NO_ANSWER_S)

    async def _strike(self, text: str) -> None:
        shifted = False
        try:
            for index, character in enumerate(text):
                keysym = character_keysym(character)
                if character != " " and needs_shift(keysym) != shifted:
                    shifted = not shifted
                    (self._key_down if shifted else self._key_up)(SHIFT)
                self._key_down(keysym)
                self._key_up(keysym)
                if index % _BURST == _BURST - 1:
                    await self._rfb.drain()
                    await asyncio.sleep(0)
        finally:
            if shifted:
                self._key_up(SHIFT)
        await self._rfb.drain()

    async def _clear_caps_lock(self) -> None:
        if self._rfb.caps_lock:
            await self.combination(Combination((CAPS_LOCK,)))

    def _check_foreign(self, text: str) -> None:
        new = {c for c in text if not on_keyboard(c)} - self._foreign
        if len(self._foreign) + len(new) > _FOREIGN_SYMBOLS:
            raise InvalidRequest(
                "text: this VNC server cannot type so many different characters that are not on "
                "its keyboard",
                field="text",
                value="".join(sorted(new))[:50],
            )
        self._foreign |= new

    def _key_down(self, keysym: int) -> None:
        self.guard()
        self._rfb.key(keysym, down=True)
        self._down.append(keysym)

    def _key_up(self, keysym: int) -> None:
        if keysym in self._down:
            self._down.remove(keysym)
            with suppress(RfbError):
                self._rfb.key(keysym, down=False)

    async def _pause(self) -> None:
        await asyncio.sleep(PAUSE_S)
