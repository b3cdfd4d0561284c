"""What arrives in a browser on the desktop is what was asked for, to the letter and the pixel."""

from __future__ import annotations

import random
from typing import Any

import pytest
from integration.desktop.harness import Caller, RunningDesktop, needs_xvnc
from integration.desktop.page import Sink, browsing, needs_chromium

from steersman_contracts import desktop as actions
from steersman_contracts.desktop import Action, scaled

pytestmark = [needs_xvnc, needs_chromium, pytest.mark.timeout(180)]

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


async def does(sink: Sink, caller: Caller, action: Action, *kinds: str) -> list[dict[str, Any]]:
    """Do it, and give what the page reported of these kinds."""
    reply = await caller.act(action)
    assert not reply.is_error, reply.text
    seen = await sink.ask("value", "value")
    return [event for event in seen if event["type"] in kinds]


async def test_ten_thousand_characters_arrive_in_order(
    desktop: RunningDesktop, caller: Caller
) -> None:
    await caller.start()
    text = mixed(10_000)
    async with browsing(desktop.service.sessions[caller.chat_id]) as sink:
        reply = await caller.act(actions.TypeText(text))
        assert not reply.is_error, reply.text
        assert await sink.value() == text

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
    for text, key in names.items():
        seen = await does(sink, caller, actions.PressKeys(text), "keydown", "keyup")
        assert [(event["type"], event["key"]) for event in seen] == [
            ("keydown", key),
            ("keyup", key),
        ]
    seen = await does(sink, caller, actions.PressKeys("ctrl+alt+x", 2), "keydown", "keyup")
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
    await sink.ask("clear", "clear")
    await does(sink, caller, actions.TypeText("AbC"))
    await does(sink, caller, actions.PressKeys("D"))
    assert await sink.value() == "AbCD"


async def _buttons(sink: Sink, caller: Caller) -> None:
    for button, number in (("left", 0), ("middle", 1), ("right", 2)):
        click = actions.Click(button, 1, (300, 200), ("ctrl", "shift"))  # pyright: ignore[reportArgumentType]  # one of the three
        seen = await does(sink, caller, click, "mousedown", "mouseup")
        assert [(e["type"], e["button"], e["x"], e["y"], e["held"]) for e in seen] == [
            ("mousedown", number, 300, 200, "ctrl+shift"),
            ("mouseup", number, 300, 200, "ctrl+shift"),
        ]
    seen = await does(sink, caller, actions.Click("left", 2, (310, 210)), "dblclick")
    assert len(seen) == 1
    seen = await does(sink, caller, actions.Click("left", 3, (350, 250)), "click")
    assert [event["count"] for event in seen] == [1, 2, 3]
    seen = await does(
        sink, caller, actions.Drag(((100, 100), (400, 300))), "mousedown", "mousemove", "mouseup"
    )
    down = next(index for index, event in enumerate(seen) if event["type"] == "mousedown")
    moves = [event for event in seen[down:] if event["type"] == "mousemove"]
    assert (seen[down]["x"], seen[down]["y"]) == (100, 100)
    assert len(moves) >= 5
    assert {event["buttons"] for event in moves} == {1}
    assert (seen[-1]["type"], seen[-1]["x"], seen[-1]["y"]) == ("mouseup", 400, 300)
    for direction, dx, dy in (("down", 0, 360), ("up", 0, -360), ("right", 360, 0)):
        scroll = actions.Scroll(direction, 3, (200, 200))  # pyright: ignore[reportArgumentType]  # one of the three
        seen = await does(sink, caller, scroll, "wheel")
        total = sum(event["dx"] for event in seen), sum(event["dy"] for event in seen)
        assert total == (dx, dy)


@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080), (3840, 2160)])
async def test_clicks_land_on_the_pixel(
    desktop: RunningDesktop, caller: Caller, size: tuple[int, int]
) -> None:
    state = await caller.start(size)
    shown = state.declared_width, state.declared_height
    edges = [(x, y) for x in (0, shown[0] - 1) for y in (0, shown[1] - 1)]
    dice = random.Random(3)
    inside = [(dice.randrange(shown[0]), dice.randrange(shown[1])) for _ in range(4)]

    async with browsing(desktop.service.sessions[caller.chat_id]) as sink:
        for point in edges + inside:
            click = actions.Click(coordinate=point)
            seen = await does(sink, caller, click, "mousedown")
            found = [(event["x"], event["y"]) for event in seen]
            assert (point, found) == (point, [scaled(point, shown, size)])
            assert scaled(found[0], size, shown) == point
