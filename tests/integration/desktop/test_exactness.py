"""What arrives in a browser on the desktop is what was asked for, to the letter and the pixel."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from typing import TypeAlias

import pytest
import pytest_asyncio
from integration.desktop.harness import ANN, LOOK, Caller, RunningDesktop, needs_xvnc
from integration.desktop.key_names import IN_A_PAGE, IN_A_TEXT, KEY_NAMES, UNHEARD, pieces
from integration.desktop.page import Events, Sink, browsing, needs_chromium

from steersman_contracts import desktop as actions
from steersman_contracts.desktop import Action, scaled
from steersman_contracts.rpc.desktop import RESIZE_DESKTOP, Desktop, ResizeDesktop
from steersman_runtime.rpc import RpcClient

pytestmark = [needs_xvnc, needs_chromium, pytest.mark.timeout(180)]

CHARACTERS = int(os.environ.get("STEERSMAN_TEST_CHARACTERS", "10000"))
"""All that one action may type."""
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
Held: TypeAlias = tuple[actions.Modifier, ...]
HELD: tuple[Held, ...] = (
    (),
    ("ctrl",),
    ("shift",),
    ("alt",),
    ("super",),
    ("ctrl", "shift", "alt", "super"),
)
_IN_EVENTS = {"ctrl": "ctrl", "shift": "shift", "alt": "alt", "super": "meta"}
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


async def test_text_arrives_to_the_letter(stage: Stage) -> None:
    await stage.become(SIZES[-1])
    sink, caller = stage.sink, stage.caller
    text = mixed(CHARACTERS)
    # A key before the first strange character must not decide how the browser reads that.
    assert len(await does(sink, caller, actions.PressKeys("Home"), KEYS, 2)) == 2
    reply = await caller.act(actions.TypeText(text), look=False)
    assert not reply.is_error, reply.text
    assert await sink.value(units(text)) == text

    await sink.ask("clear", "clear")
    # Capitals leave no lock behind.
    await caller.act(actions.TypeText("AbC"), look=False)
    await caller.act(actions.PressKeys("D"), look=False)
    assert await sink.value(4) == "AbCD"


async def test_keys_arrive_by_all_their_names(stage: Stage) -> None:
    await stage.become(SIZES[-1])
    sink, caller = stage.sink, stage.caller
    await sink.ask("clear", "clear")
    heard = dict(IN_A_PAGE)
    heard["num_lock num_lock"] = heard.pop("num_lock")  # and off again
    assert {*IN_A_PAGE, *IN_A_TEXT, *UNHEARD} == set(KEY_NAMES)

    due = [key for name, key in heard.items() for _ in name.split()]
    for names in pieces(heard):
        reply = await caller.act(actions.PressKeys(names), look=False)
        assert not reply.is_error, reply.text
    seen = await sink.seen(KEYS, lambda found: len(found) >= 2 * len(due))
    assert [(e["type"], e["key"]) for e in seen] == [(kind, key) for key in due for kind in KEYS]

    await sink.ask("clear", "clear")
    for names in pieces(IN_A_TEXT):
        reply = await caller.act(actions.PressKeys(names), look=False)
        assert not reply.is_error, reply.text
    written = "".join(IN_A_TEXT.values())
    assert await sink.value(len(written)) == written
    await sink.ask("clear", "clear")

    seen = await does(sink, caller, actions.PressKeys("ctrl+alt+x", 2), KEYS, 12)
    down, up = (("Control", "Alt", "x"), ("x", "Alt", "Control"))
    once = [*(("keydown", key) for key in down), *(("keyup", key) for key in up)]
    assert [(event["type"], event["key"]) for event in seen] == 2 * once
    seen = await does(sink, caller, actions.HoldKeys("ctrl+F8", 0.1), KEYS, 4)
    assert [(e["type"], e["key"], e["held"]) for e in seen] == [
        ("keydown", "Control", "ctrl"),
        ("keydown", "F8", "ctrl"),
        ("keyup", "F8", "ctrl"),
        ("keyup", "Control", ""),
    ]


async def test_buttons_modifiers_drags_and_scrolls_arrive(stage: Stage) -> None:
    await stage.become(SIZES[-1])
    sink, caller = stage.sink, stage.caller
    for number, button in enumerate(("left", "middle", "right")):
        for held in HELD:
            click = actions.Click(button, 1, (300, 200), held)
            seen = await does(sink, caller, click, ("mousedown", "mouseup"), 2)
            names = "+".join(_IN_EVENTS[name] for name in held)
            assert [(e["type"], e["button"], e["x"], e["y"], e["held"]) for e in seen] == [
                ("mousedown", number, 300, 200, names),
                ("mouseup", number, 300, 200, names),
            ]
    seen = await does(sink, caller, actions.Click("left", 2, (310, 210)), ("dblclick",), 1)
    assert len(seen) == 1
    seen = await does(sink, caller, actions.Click("left", 3, (350, 250)), ("click",), 3)
    assert [event["count"] for event in seen] == [1, 2, 3]
    await _by_hand(sink, caller)
    await _drag(sink, caller, ((100, 100), (400, 300)), ())
    await _drag(sink, caller, ((500, 90), (510, 400), (90, 410)), ("shift", "super"))
    for held in HELD:
        await _scroll(sink, caller, held)


async def _by_hand(sink: Sink, caller: Caller) -> None:
    """A button that one action presses is held until another lets it go."""
    kinds = ("mousedown", "mouseup")
    await caller.act(actions.MouseMove((210, 220)), look=False)
    seen = await does(sink, caller, actions.MouseDown(), kinds, 1)
    assert [(e["type"], e["x"], e["y"]) for e in seen] == [("mousedown", 210, 220)]
    seen = await does(sink, caller, actions.MouseMove((230, 240)), ("mousemove", *kinds), 1)
    assert {(e["type"], e["buttons"]) for e in seen} == {("mousemove", 1)}
    seen = await does(sink, caller, actions.MouseUp(), kinds, 1)
    assert [(e["type"], e["x"], e["y"]) for e in seen] == [("mouseup", 230, 240)]


async def _scroll(sink: Sink, caller: Caller, held: Held) -> None:
    for direction, axis, sign in (
        ("down", "dy", 1),
        ("up", "dy", -1),
        ("right", "dx", 1),
        ("left", "dx", -1),
    ):
        scroll = actions.Scroll(direction, 3, (200, 200), held)  # pyright: ignore[reportArgumentType]  # one of the four
        reply = await caller.act(scroll, look=False)
        assert not reply.is_error, reply.text
        # A browser that is late makes one event of several.
        seen = await sink.seen(
            ("wheel",), lambda found: sum(abs(e["dx"]) + abs(e["dy"]) for e in found) >= 360
        )
        assert {e["held"] for e in seen} == {"+".join(_IN_EVENTS[name] for name in held)}
        found = {of: sum(e[of] for e in seen) for of in ("dx", "dy")}
        assert found == {"dx": 0, "dy": 0} | {axis: sign * 360}


async def _drag(sink: Sink, caller: Caller, path: tuple[actions.Point, ...], held: Held) -> None:
    reply = await caller.act(actions.Drag(path, held), look=False)
    assert not reply.is_error, reply.text
    seen = await sink.seen(
        ("mousedown", "mousemove", "mouseup"),
        lambda found: any(event["type"] == "mouseup" for event in found),
    )
    down = next(index for index, event in enumerate(seen) if event["type"] == "mousedown")
    up = next(index for index, event in enumerate(seen) if event["type"] == "mouseup")
    moves = seen[down + 1 : up]
    assert (seen[down]["x"], seen[down]["y"]) == path[0]
    # How many there are depends on how fast the browser is: it makes one of several, too.
    assert {(event["type"], event["buttons"]) for event in moves} == {("mousemove", 1)}
    assert (seen[up]["x"], seen[up]["y"]) == path[-1]
    assert {e["held"] for e in seen[down : up + 1]} == {"+".join(_IN_EVENTS[n] for n in held)}
