"""Actions as models write them: read exactly, refused with field, value and bound."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_contracts.chats import Message, Role
from steersman_contracts.computer_history import (
    DEFAULT_SIZE,
    LEFT_OUT,
    screen_size,
    screenshot_name,
    without_old_screenshots,
)
from steersman_contracts.computer_providers import (
    SafetyCheck,
    anthropic_tool,
    from_anthropic,
    from_gemini,
    from_openai,
    gemini_asks,
    openai_actions,
    openai_output,
)
from steersman_contracts.computer_use import MAX_BATCH, to_action, to_actions, to_arguments
from steersman_contracts.desktop import (
    MAX_EDGE,
    MAX_PIXELS,
    Action,
    Click,
    CursorPosition,
    Drag,
    HoldKeys,
    MouseDown,
    MouseMove,
    MouseUp,
    PressKeys,
    Scroll,
    TakeScreenshot,
    TypeText,
    Wait,
    Zoom,
    check_action,
    declared_size,
    scaled,
)
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.ids import MessageId
from steersman_contracts.parts import FilePart, TextPart, ToolResultPart

NOON = datetime(2026, 1, 1, tzinfo=UTC)

ACTIONS: list[tuple[dict[str, Any], Action]] = [
    ({"action": "screenshot"}, TakeScreenshot()),
    ({"action": "zoom", "region": [0, 0, 10, 20]}, Zoom((0, 0, 10, 20))),
    ({"action": "mouse_move", "coordinate": [0, 0]}, MouseMove((0, 0))),
    ({"action": "left_click"}, Click()),
    ({"action": "left_click", "coordinate": [0, 0]}, Click(coordinate=(0, 0))),
    (
        {"action": "right_click", "coordinate": [1, 2], "text": "Ctrl+shift"},
        Click("right", 1, (1, 2), ("ctrl", "shift")),
    ),
    ({"action": "middle_click", "coordinate": [1, 2]}, Click("middle", 1, (1, 2))),
    ({"action": "double_click", "coordinate": [1, 2]}, Click("left", 2, (1, 2))),
    ({"action": "triple_click", "coordinate": [1, 2]}, Click("left", 3, (1, 2))),
    (
        {"action": "left_click_drag", "start_coordinate": [1, 2], "coordinate": [3, 4]},
        Drag(((1, 2), (3, 4))),
    ),
    ({"action": "left_mouse_down"}, MouseDown()),
    ({"action": "left_mouse_up"}, MouseUp()),
    ({"action": "scroll", "scroll_direction": "down"}, Scroll("down", 3)),
    (
        {"action": "scroll", "scroll_direction": "left", "scroll_amount": 7, "coordinate": [5, 6]},
        Scroll("left", 7, (5, 6)),
    ),
    ({"action": "type", "text": " é\n"}, TypeText(" é\n")),
    ({"action": "key", "text": "ctrl+a", "repeat": 2}, PressKeys("ctrl+a", 2)),
    ({"action": "hold_key", "text": "shift", "duration": 1}, HoldKeys("shift", 1.0)),
    ({"action": "wait", "duration": 0}, Wait(0.0)),
    ({"action": "cursor_position"}, CursorPosition()),
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "action is missing; it must be one of screenshot"),
    ({"action": "fly"}, "action is 'fly'; it must be one of"),
    ({"action": ["key"]}, "action is ['key']; it must be one of"),
    ({"action": "mouse_move"}, "coordinate is missing; it must be [x, y], two whole numbers"),
    ({"action": "mouse_move", "coordinate": [1]}, "coordinate is [1]; it must be [x, y]"),
    ({"action": "mouse_move", "coordinate": [1.0, 2]}, "coordinate is [1.0, 2]; it must be"),
    ({"action": "left_click", "coordinate": [True, 2]}, "coordinate is [True, 2]; it must be"),
    ({"action": "left_click", "coordinate": "1,2"}, "coordinate is '1,2'; it must be"),
    ({"action": "left_click", "text": "q"}, "text is 'q'; it must be modifiers"),
    ({"action": "left_click_drag", "coordinate": [3, 4]}, "start_coordinate is missing"),
    ({"action": "scroll"}, "scroll_direction is missing; it must be up, down, left or right"),
    ({"action": "scroll", "scroll_direction": "up", "scroll_amount": 0}, "scroll_amount is 0; it"),
    (
        {"action": "scroll", "scroll_direction": "up", "scroll_amount": 101},
        "scroll_amount is 101; it must be a whole number from 1 to 100",
    ),
    ({"action": "type", "text": ""}, "text is ''; it must be text of 1 to 10000 characters"),
    ({"action": "type", "text": "x" * 10_001}, "text is '10001 characters'; it must be"),
    ({"action": "key", "text": "a", "repeat": 101}, "repeat is 101; it must be a whole number"),
    ({"action": "hold_key", "text": "a"}, "duration is missing; it must be seconds from 0 to 300"),
    ({"action": "wait", "duration": 301}, "duration is 301; it must be seconds from 0 to 300"),
    ({"action": "wait", "duration": float("nan")}, "duration is nan; it must be"),
    ({"action": "zoom", "region": [1, 2, 3]}, "region is [1, 2, 3]; it must be [left, top"),
]


@pytest.mark.parametrize(("given", "action"), ACTIONS, ids=lambda value: str(value)[:60])
def test_flat_arguments_are_one_action(given: dict[str, Any], action: Action) -> None:
    assert to_action(given) == action


@pytest.mark.parametrize(("given", "message"), BAD, ids=lambda value: str(value)[:60])
def test_what_cannot_be_read_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        to_action(given)

    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (MouseMove((1280, 0)), "coordinate: x is 1280, and the screen has x from 0 to 1279"),
        (Click(coordinate=(0, 800)), "coordinate: y is 800, and the screen has y from 0 to 799"),
        (Click(coordinate=(-1, 0)), "coordinate: x is -1, and the screen has x from 0 to 1279"),
        (Drag(((0, 0), (5, 900))), "coordinate: y is 900"),
        (Drag(((0, 900), (5, 5))), "start_coordinate: y is 900"),
        (Scroll("up", 1, (9999, 1)), "coordinate: x is 9999"),
        (Zoom((5, 5, 5, 9)), "region: x goes from 5 to 5, and must grow within 0 to 1280"),
        (Zoom((0, 0, 1281, 9)), "region: x goes from 0 to 1281"),
    ],
)
def test_nothing_is_clamped(action: Action, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_action(action, 1280, 800)

    assert str(refused.value).startswith(message)


def test_every_edge_of_the_screen_is_on_it() -> None:
    for point in ((0, 0), (1279, 0), (0, 799), (1279, 799)):
        check_action(MouseMove(point), 1280, 800)
    check_action(Zoom((0, 0, 1280, 800)), 1280, 800)


sides = st.integers(480, 4096)


@given(sides, sides)
def test_declared_sizes_keep_limits_and_aspect(width: int, height: int) -> None:
    shown = declared_size(width, height)

    assert max(shown) <= MAX_EDGE
    assert shown[0] * shown[1] <= MAX_PIXELS
    # Within one pixel of the aspect, on the shorter side's scale.
    assert abs(shown[0] * height - shown[1] * width) <= max(width, height)
    assert declared_size(*shown) == shown


@given(sides, sides, st.data())
def test_a_point_comes_back_from_the_native_screen(
    width: int, height: int, data: st.DataObject
) -> None:
    native, shown = (width, height), declared_size(width, height)
    point = (
        data.draw(st.integers(0, shown[0] - 1)),
        data.draw(st.integers(0, shown[1] - 1)),
    )

    there = scaled(point, shown, native)

    assert 0 <= there[0] < width
    assert 0 <= there[1] < height
    assert scaled(there, native, shown) == point


def test_known_screens() -> None:
    assert declared_size(1280, 800) == (1280, 800)
    assert declared_size(1920, 1080) == (1424, 801)
    assert declared_size(3840, 2160) == (1424, 801)


# -- providers -----------------------------------------------------------------------------------


def test_anthropic_is_declared_by_form() -> None:
    assert anthropic_tool("computer_toolset_20260801", 1, 1) == {
        "type": "computer_toolset_20260801"
    }
    assert anthropic_tool("computer_20251124", 1280, 800) == {
        "type": "computer_20251124",
        "name": "computer",
        "display_width_px": 1280,
        "display_height_px": 800,
        "enable_zoom": True,
    }


def test_members_of_the_toolset_are_the_same_actions() -> None:
    form = "computer_toolset_20260801"

    for arguments, action in ACTIONS:
        fields = {key: value for key, value in arguments.items() if key != "action"}
        assert from_anthropic(form, arguments["action"], fields) == action
        assert from_anthropic("computer_20251124", "computer", arguments) == action


def test_older_forms_have_fewer_actions() -> None:
    for form, action in (("computer_20250124", "zoom"), ("computer_20241022", "wait")):
        with pytest.raises(InvalidRequest, match=f"an action of {form}"):
            from_anthropic(form, "computer", {"action": action, "region": [0, 0, 1, 1]})  # pyright: ignore[reportArgumentType]  # of the table above


@pytest.mark.parametrize(
    ("given", "actions"),
    [
        ({"type": "click", "button": "left", "x": 0, "y": 0}, (Click(coordinate=(0, 0)),)),
        (
            {"type": "click", "button": "wheel", "x": 1, "y": 2, "keys": ["CTRL", "SHIFT"]},
            (Click("middle", 1, (1, 2), ("ctrl", "shift")),),
        ),
        ({"type": "click", "button": "back", "x": 1, "y": 2}, (PressKeys("alt+Left"),)),
        ({"type": "double_click", "x": 1, "y": 2}, (Click("left", 2, (1, 2)),)),
        ({"type": "move", "x": 1, "y": 2}, (MouseMove((1, 2)),)),
        (
            {"type": "drag", "path": [{"x": 1, "y": 2}, {"x": 3, "y": 4}, [5, 6]]},
            (Drag(((1, 2), (3, 4), (5, 6))),),
        ),
        (
            {"type": "scroll", "x": 1, "y": 2, "scroll_x": 0, "scroll_y": 360},
            (Scroll("down", 3, (1, 2)),),
        ),
        (
            {"type": "scroll", "x": 1, "y": 2, "scroll_x": -1, "scroll_y": -100},
            (Scroll("left", 1, (1, 2)), Scroll("up", 1, (1, 2))),
        ),
        ({"type": "keypress", "keys": ["CTRL", "ARROWLEFT"]}, (PressKeys("CTRL+Left"),)),
        ({"type": "keypress", "keys": ["CTRL", "+"]}, (PressKeys("CTRL+plus"),)),
        ({"type": "type", "text": "x"}, (TypeText("x"),)),
        ({"type": "wait"}, (Wait(2.0),)),
        ({"type": "screenshot"}, (TakeScreenshot(),)),
    ],
    ids=lambda value: str(value)[:60],
)
def test_openai_actions(given: dict[str, Any], actions: tuple[Action, ...]) -> None:
    assert openai_actions(given) == actions


def test_an_openai_call_is_read_whole_or_not_at_all() -> None:
    check = {"id": "c1", "code": "malicious_instructions", "message": "Look twice."}
    item = {
        "type": "computer_call",
        "id": "cu_1",
        "call_id": "call_1",
        "actions": [{"type": "move", "x": 1, "y": 2}, {"type": "type", "text": "a"}],
        "pending_safety_checks": [check],
        "status": "completed",
    }

    call = from_openai(item)

    assert call.actions == (MouseMove((1, 2)), TypeText("a"))
    assert call.checks == (SafetyCheck("c1", "malicious_instructions", "Look twice."),)
    assert openai_output(call, "data:image/png;base64,AA==", call.checks) == {
        "type": "computer_call_output",
        "call_id": "call_1",
        "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA=="},
        "acknowledged_safety_checks": [check],
    }
    single = {"call_id": "c", "action": {"type": "screenshot"}}
    assert from_openai(single).actions == (TakeScreenshot(),)
    with pytest.raises(InvalidRequest, match="type is 'fly'; it must be one of"):
        from_openai(item | {"actions": [{"type": "type", "text": "a"}, {"type": "fly"}]})


@pytest.mark.parametrize(
    ("name", "given", "actions"),
    [
        ("click_at", {"x": 0, "y": 0}, (Click(coordinate=(0, 0)),)),
        ("click_at", {"x": 999, "y": 999}, (Click(coordinate=(1279, 799)),)),
        ("hover_at", {"x": 500, "y": 500}, (MouseMove((640, 400)),)),
        (
            "type_text_at",
            {"x": 500, "y": 500, "text": "hi", "press_enter": False},
            (
                Click("left", 1, (640, 400)),
                PressKeys("ctrl+a"),
                PressKeys("BackSpace"),
                TypeText("hi"),
            ),
        ),
        ("key_combination", {"keys": "control+c"}, (PressKeys("control+c"),)),
        (
            "scroll_at",
            {"x": 0, "y": 0, "direction": "down", "magnitude": 450},
            (Scroll("down", 3, (0, 0)),),
        ),
        ("scroll_document", {"direction": "up"}, (Scroll("up", 5, (640, 400)),)),
        (
            "drag_and_drop",
            {"x": 0, "y": 0, "destination_x": 500, "destination_y": 999},
            (Drag(((0, 0), (640, 799))),),
        ),
        ("go_back", {}, (PressKeys("alt+Left"),)),
        (
            "navigate",
            {"url": "https://example.org"},
            (PressKeys("ctrl+l"), TypeText("https://example.org"), PressKeys("Return")),
        ),
        ("wait_5_seconds", {}, (Wait(5.0),)),
    ],
)
def test_gemini_functions(name: str, given: dict[str, Any], actions: tuple[Action, ...]) -> None:
    assert from_gemini(name, given, (1280, 800)) == actions


def test_gemini_points_must_be_on_the_grid_and_other_functions_are_not_ours() -> None:
    with pytest.raises(InvalidRequest, match="is 1000; it must be a whole number from 0 to 999"):
        from_gemini("click_at", {"x": 1000, "y": 0}, (1280, 800))
    assert from_gemini("get_weather", {}, (1280, 800)) is None
    decision = {"decision": "require_confirmation", "explanation": "It buys."}
    assert gemini_asks({"safety_decision": decision}) == "It buys."
    assert gemini_asks({"x": 1}) is None


# -- history -------------------------------------------------------------------------------------


def _history(count: int) -> list[Message]:
    return [
        Message(
            MessageId(number),
            Role.TOOL,
            (
                ToolResultPart(
                    f"c{number}",
                    "computer",
                    (TextPart("Clicked."), FilePart("image/png", data=b"%d" % number)),
                ),
            ),
            1,
            NOON,
        )
        for number in range(count)
    ]


@given(st.integers(0, 40), st.integers(0, 5), st.integers(1, 12))
def test_the_newest_screenshots_stay_and_the_prefix_is_stable(
    count: int, keep: int, batch: int
) -> None:
    history = _history(count)

    shown = without_old_screenshots(history, keep=keep, batch=batch)
    before = without_old_screenshots(history[:-1], keep=keep, batch=batch)

    kept = [a is b for a, b in zip(shown, history, strict=True)]
    assert kept == sorted(kept)
    assert min(count, keep) <= sum(kept) <= keep + batch - 1
    dropped, dropped_before = (
        kept.count(False),
        count - 1 - sum(a is b for a, b in zip(before, history[:-1], strict=True)),
    )
    assert not count or dropped - dropped_before in {0, batch}
    for message, stays in zip(shown, kept, strict=True):
        (part,) = message.parts
        assert isinstance(part, ToolResultPart)
        assert stays or part.content == (TextPart("Clicked."), TextPart(LEFT_OUT))


@pytest.mark.parametrize("action", [action for _, action in ACTIONS])
def test_every_action_has_arguments_that_are_read_as_it(action: Action) -> None:
    assert to_action(to_arguments(action)) == action


def test_a_drag_along_a_path_has_arguments_too() -> None:
    drag = Drag(((1, 2), (3, 4), (5, 6)), ("ctrl",))

    assert to_action(to_arguments(drag)) == drag


def test_a_batch_is_read_whole_or_not_at_all() -> None:
    click = {"action": "left_click", "coordinate": [1, 2]}
    batch = {"action": "batch", "actions": [click, {"action": "type", "text": "x"}]}
    wrong: dict[str, Any] = {
        "actions is missing": None,
        "actions is '0 actions'": [],
        "actions is '51 actions'": [click] * (MAX_BATCH + 1),
        "actions[0] is 'x'; it must be an object": ["x"],
        "actions[1]: text is missing": [click, {"action": "type"}],
        "actions[0]: action is 'batch'": [batch],
        "the grid ends at 999": [{"refused": "the grid ends at 999"}],
    }

    assert to_actions(batch) == (Click(coordinate=(1, 2)), TypeText("x"))
    assert to_actions(click) == (Click(coordinate=(1, 2)),)
    for text, actions in wrong.items():
        with pytest.raises(InvalidRequest) as refused:
            to_actions({"action": "batch", "actions": actions})
        assert text in str(refused.value)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("double_click", {"x": 0, "y": 0}, (Click("left", 2, (0, 0)),)),
        ("right_click", {"x": 0, "y": 0}, (Click("right", 1, (0, 0)),)),
        ("mouse_down", {"x": 0, "y": 0}, (MouseMove((0, 0)), MouseDown())),
        ("mouse_up", {"x": 0, "y": 0}, (MouseMove((0, 0)), MouseUp())),
        ("move", {"x": 999, "y": 999}, (MouseMove((1279, 799)),)),
        ("type", {"text": "x", "press_enter": True}, (TypeText("x"), PressKeys("Return"))),
        ("type", {"text": "x"}, (TypeText("x"),)),
        (
            "drag_and_drop",
            {"start_x": 0, "start_y": 0, "end_x": 999, "end_y": 999},
            (Drag(((0, 0), (1279, 799))),),
        ),
        ("press_key", {"key": "Enter"}, (PressKeys("Enter"),)),
        ("hotkey", {"keys": ["ctrl", "a"]}, (PressKeys("ctrl+a"),)),
        ("take_screenshot", {"intent": "to see"}, (TakeScreenshot(),)),
        ("scroll", {"x": 0, "y": 0, "direction": "up"}, (Scroll("up", 2, (0, 0)),)),
        ("wait", {}, (Wait(1.0),)),
    ],
)
def test_geminis_functions_for_desktops(
    name: str, given: dict[str, Any], expected: tuple[Action, ...]
) -> None:
    assert from_gemini(name, given, (1280, 800)) == expected


def test_the_size_of_the_screen_is_that_of_the_newest_screenshot() -> None:
    def seen(*names: str) -> Message:
        pictures = tuple(FilePart("image/png", name, "file") for name in names)
        result = ToolResultPart("1", "computer", pictures)
        return Message(MessageId(1), Role.TOOL, (result,), 1, NOON)

    old = screenshot_name(1000, 500, "0123456789", "image/png")
    new = screenshot_name(640, 480, "0123456789", "image/jpeg")

    assert screen_size([]) == DEFAULT_SIZE
    assert screen_size([seen(old), seen(new, "zoom-10x10-01234567.png")]) == (640, 480)
