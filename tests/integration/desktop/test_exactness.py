"""What arrives in a browser on the desktop is what was asked for, to the letter and the pixel."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass

import pytest
import pytest_asyncio
from integration.desktop.harness import ANN, LOOK, Caller, RunningDesktop, needs_xvnc
from integration.desktop.page import Events, Sink, browsing, needs_chromium

from steersman_contracts import desktop as actions
from steersman_contracts.desktop import Action, scaled
from steersman_contracts.rpc.desktop import RESIZE_DESKTOP, Desktop, ResizeDesktop
from steersman_runtime.rpc import RpcClient

pytestmark = [needs_xvnc, needs_chromium, pytest.mark.timeout(180)]

CHARACTERS = int(os.environ.get("STEERSMAN_TEST_CHARACTERS", "2000"))
"""As many show the same as the 10,000 that are allowed, and take a fifth of the time."""
KEYS = ("keydown", "keyup")
SIZES = ((3840, 2160), (1920, 1080), (1280, 800))
"""The screen begins with the largest, which the window then always covers."""
ALPHABETS = (
    "абвгдежзийклмнопрстуфхцчшщъыьэюяЁЖЩ",
    "éèêëàâäôöûüçñßÀÉÖÜ¿¡£€",
    "漢字仮名交文日本語中国人大小上下左右山川",
    "한국어입니다가나다라마바사",
    "αβγδεζηθλμπσφψωΣΩ",
    "שלוםعربيहिन्दी",
    "😀🚀🎉👍🧪∑∞≠→☃",
)
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


def mixed(length: int) -> str:
    """Mostly what keyboards have, with words of every other alphabet between; always the same."""
    dice = random.Random(7)
    found = ""
    while len(found) < length:
        if dice.random() < 0.3:
            alphabet = dice.choice(ALPHABETS)
            found += "".join(dice.choices(alphabet, k=dice.randint(2, 9))) + " "
        else:
            found += "".join(dice.choices(PRINTABLE, k=dice.randint(3, 20)))
            found += dice.choice(" \n")
    return found[:length]


async def does(
    sink: Sink, caller: Caller, action: Action, kinds: Collection[str], count: int
) -> Events:
    """Do it, and give what the page reported of these kinds, of which so many are due."""
    reply = await caller.act(action, look=False)
    assert not reply.is_error, reply.text
    return await sink.seen(kinds, lambda found: len(found) >= count)


def units(text: str) -> int:
    """The length of a text as browsers count it."""
    return len(text.encode("utf-16-le")) // 2


@dataclass
class Stage:
    """A desktop with the page, whose size may change."""

    caller: Caller
    sink: Sink

    async def become(self, size: tuple[int, int]) -> Desktop:
        """Give the screen a size, and wait until the browser knows it."""
        before = await self.caller.get()
        if (before.width, before.height) == size:
            return before
        await self.caller.take(ANN)
        request = ResizeDesktop(ANN, self.caller.chat_id, *size)
        state = await self.caller.rpc.call(RESIZE_DESKTOP, request)
        await self.caller.give_back(ANN)
        await self.caller.act(LOOK)  # what has changed the agent has to see first
        # The window stays as it is, at the upper left: its pixels are those of the screen.
        await self.sink.until(lambda event: tuple(event.get("screen", ())) == size)
        return state


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(desktop: RunningDesktop, rpc: RpcClient) -> AsyncGenerator[Stage]:
    """One browser for all of them: its start costs more than what is proved with it."""
    caller = Caller(rpc)
    await caller.start(SIZES[0])
    async with browsing(desktop.service.sessions[caller.chat_id], caller) as sink:
        yield Stage(caller, sink)
    await caller.stop()


@pytest.mark.parametrize("size", SIZES)
async def test_clicks_land_on_the_pixel(stage: Stage, size: tuple[int, int]) -> None:
    state = await stage.become(size)
    shown = state.declared_width, state.declared_height
    corners = [(0, 0), (shown[0] - 1, 0), (0, shown[1] - 1), (shown[0] - 1, shown[1] - 1)]
    dice = random.Random(3)
    inside = (dice.randrange(shown[0]), dice.randrange(shown[1]))

    for point in (*corners, inside):
        click = actions.Click(coordinate=point)
        seen = await does(stage.sink, stage.caller, click, ("mousedown",), 1)
        found = [(event["x"], event["y"]) for event in seen]
        assert (point, found) == (point, [scaled(point, shown, size)])
        assert scaled(found[0], size, shown) == point


async def test_text_keys_and_buttons_arrive_as_they_were_asked_for(stage: Stage) -> None:
    await stage.become(SIZES[-1])
    sink, caller = stage.sink, stage.caller
    text = mixed(CHARACTERS)
    # A key before the first strange character must not decide how the browser reads that.
    assert len(await does(sink, caller, actions.PressKeys("Home"), KEYS, 2)) == 2
    reply = await caller.act(actions.TypeText(text), look=False)
    assert not reply.is_error, reply.text
    assert await sink.value(units(text)) == text

    await sink.ask("clear", "clear")
    await _keys(sink, caller)
    await _buttons(sink, caller)


async def _keys(sink: Sink, caller: Caller) -> None:
    names = {
        "Escape": "Escape",
        "Home": "Home",
        "Page_Down": "PageDown",
        "Delete": "Delete",
        "F7": "F7",
        "Up": "ArrowUp",
        "Insert": "Insert",
    }
    seen = await does(sink, caller, actions.PressKeys(" ".join(names)), KEYS, 2 * len(names))
    assert [(event["type"], event["key"]) for event in seen] == [
        (kind, key) for key in names.values() for kind in KEYS
    ]
    seen = await does(sink, caller, actions.PressKeys("ctrl+alt+x", 2), KEYS, 12)
    once = [
        ("keydown", "Control"),
        ("keydown", "Alt"),
        ("keydown", "x"),
        ("keyup", "x"),
        ("keyup", "Alt"),
        ("keyup", "Control"),
    ]
    assert [(event["type"], event["key"]) for event in seen] == 2 * once
    # Capitals leave no lock behind.
    await caller.act(actions.TypeText("AbC"), look=False)
    await caller.act(actions.PressKeys("D"), look=False)
    assert await sink.value(4) == "AbCD"


async def _buttons(sink: Sink, caller: Caller) -> None:
    for button, number in (("left", 0), ("middle", 1), ("right", 2)):
        click = actions.Click(button, 1, (300, 200), ("ctrl", "shift"))  # pyright: ignore[reportArgumentType]  # one of the three
        seen = await does(sink, caller, click, ("mousedown", "mouseup"), 2)
        assert [(e["type"], e["button"], e["x"], e["y"], e["held"]) for e in seen] == [
            ("mousedown", number, 300, 200, "ctrl+shift"),
            ("mouseup", number, 300, 200, "ctrl+shift"),
        ]
    seen = await does(sink, caller, actions.Click("left", 2, (310, 210)), ("dblclick",), 1)
    assert len(seen) == 1
    seen = await does(sink, caller, actions.Click("left", 3, (350, 250)), ("click",), 3)
    assert [event["count"] for event in seen] == [1, 2, 3]
    await _drag(sink, caller)
    for direction, dx, dy in (("down", 0, 360), ("up", 0, -360), ("right", 360, 0)):
        scroll = actions.Scroll(direction, 3, (200, 200))  # pyright: ignore[reportArgumentType]  # one of the three
        reply = await caller.act(scroll, look=False)
        assert not reply.is_error, reply.text
        # A browser that is late makes one event of several.
        seen = await sink.seen(
            ("wheel",), lambda found: sum(abs(e["dx"]) + abs(e["dy"]) for e in found) >= 360
        )
        assert (sum(e["dx"] for e in seen), sum(e["dy"] for e in seen)) == (dx, dy)


async def _drag(sink: Sink, caller: Caller) -> None:
    reply = await caller.act(actions.Drag(((100, 100), (400, 300))), look=False)
    assert not reply.is_error, reply.text
    seen = await sink.seen(
        ("mousedown", "mousemove", "mouseup"),
        lambda found: any(event["type"] == "mouseup" for event in found),
    )
    down = next(index for index, event in enumerate(seen) if event["type"] == "mousedown")
    up = next(index for index, event in enumerate(seen) if event["type"] == "mouseup")
    moves = seen[down + 1 : up]
    assert (seen[down]["x"], seen[down]["y"]) == (100, 100)
    # How many there are depends on how fast the browser is: it makes one of several, too.
    assert {(event["type"], event["buttons"]) for event in moves} == {("mousemove", 1)}
    assert (seen[up]["x"], seen[up]["y"]) == (400, 300)
