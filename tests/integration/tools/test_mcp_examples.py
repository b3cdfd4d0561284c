"""The example servers of the SDK, which others wrote: what they show is what arrives."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from integration.tools.conftest import StartTools
from integration.tools.host import Caller, text_of
from integration.tools.mcp_host import configured, free_port, listening, until_offered
from support.sdk_examples import unpack_examples

from steersman_contracts.parts import FilePart, JsonPart, TextPart
from steersman_contracts.rpc.tools import CallResult

# What the SDK's command `mcp run` does with a module.
RUN = "import runpy, sys; runpy.run_path(sys.argv[1])['mcp'].run()"
PNG, RIFF = b"\x89PNG\r\n\x1a\n", b"RIFF"


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_examples(tmp_path_factory.mktemp("examples"))


def package(examples: Path, name: str) -> tuple[Path, str]:
    """Where an example that is a package lies, and the name of its module."""
    folder = examples / "servers" / name
    return folder, next(found.name for found in folder.glob("mcp_*"))


def over_pipes(examples: Path, slug: str, name: str) -> dict[str, Any]:
    if name.endswith(".py"):
        command, env = [sys.executable, "-c", RUN, str(examples / "mcpserver" / name)], {}
    else:
        folder, module = package(examples, name)
        command, env = [sys.executable, "-m", module], {"PYTHONPATH": str(folder)}
    return {"slug": slug, "transport": "stdio", "command": command, "env": env}


@asynccontextmanager
async def behind_urls(
    examples: Path, wanted: Mapping[str, Sequence[str]]
) -> AsyncGenerator[list[dict[str, Any]]]:
    """By slug: the example and its options. All of them listen, and are described for us."""
    described: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for slug, (name, *options) in wanted.items():
            folder, module = package(examples, name)
            port = free_port()
            command = [sys.executable, "-m", module, "--port", str(port), *options]
            server = listening(port, *command, path=folder)
            group.create_task(stack.enter_async_context(server))
            url = f"http://127.0.0.1:{port}/mcp"
            described.append({"slug": slug, "transport": "http", "url": url})
        yield described


async def all_of(
    caller: Caller, calls: Sequence[tuple[str, dict[str, Any]]]
) -> dict[str, CallResult]:
    results = await asyncio.gather(*(caller.call(name, given) for name, given in calls))
    return dict(zip((name for name, _ in calls), results, strict=True))


def error_of(result: CallResult) -> str:
    assert result.is_error
    return text_of(result)


def file_of(result: CallResult, media_type: str, begins: bytes) -> FilePart:
    (file,) = result.content
    assert isinstance(file, FilePart)
    assert file.media_type == media_type
    assert file.data is not None
    assert file.data.startswith(begins)
    return file


async def test_the_examples_over_pipes(
    examples: Path, start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    servers = {
        "site": "simple-tool",
        "pages": "simple-pagination",
        "low": "structured-output-lowlevel",
        "tank": "complex_inputs.py",
        "told": "logging_and_progress.py",
        "world": "unicode_example.py",
        "sky": "weather_structured.py",
    }
    described = [over_pipes(examples, slug, name) for slug, name in servers.items()]
    await start_tools(configured(tmp_path, *described))
    catalog = await until_offered(
        *(caller, "site__fetch", "pages__tool_25", "low__get_weather", "tank__name_shrimp"),
        *("told__echo", "world__hello_unicode", "sky__get_weather"),
    )
    shrimp = {"tank": {"shrimp": [{"name": "Ann"}, {"name": "Bob"}]}, "extra_names": ["Cid"]}
    results = await all_of(
        caller,
        [
            ("pages__tool_25", {"input": "x"}),
            ("low__get_weather", {"city": "Rome"}),
            ("tank__name_shrimp", shrimp),
            ("told__echo", {"text": "hello"}),
            ("world__hello_unicode", {}),
            ("world__list_emoji_categories", {}),
            ("sky__get_weather_metrics", {"cities": ["Rome", "Oslo"]}),
            ("site__fetch", {"url": "http://127.0.0.1:1/"}),
        ],
    )
    long_name: dict[str, Any] = {"tank": {"shrimp": [{"name": "x" * 20}]}, "extra_names": []}
    refused = await caller.call("tank__name_shrimp", long_name)

    described_by_name = {spec.name: spec for spec in catalog.tools}
    pages = [name for name in described_by_name if name.startswith("pages__")]
    assert sorted(pages) == sorted(f"pages__tool_{n}" for n in range(1, 26))  # five at a time
    assert described_by_name["world__hello_unicode"].description.endswith("漢字 🎉")
    (text,) = results["pages__tool_25"].content
    assert text == TextPart("Called tool 'tool_25' with arguments: {'input': 'x'}")
    (weather,) = results["low__get_weather"].content
    assert isinstance(weather, JsonPart)
    assert weather.value.keys() == {
        *("temperature", "conditions", "humidity", "wind_speed", "timestamp"),
    }
    assert results["tank__name_shrimp"].content == (JsonPart({"result": ["Ann", "Bob", "Cid"]}),)
    assert "at most 10 characters" in error_of(refused)
    assert text_of(results["told__echo"]) == "hello"
    assert text_of(results["world__hello_unicode"]) == "¡Hola, 世界! 👋"
    (categories,) = results["world__list_emoji_categories"].content
    assert isinstance(categories, JsonPart)
    assert categories.value["result"][0] == "😀 Smileys & Emotion"
    (metrics,) = results["sky__get_weather_metrics"].content
    assert metrics == JsonPart(
        {
            "Rome": {"temperature": 20.0, "humidity": 60.0, "pressure": 1013.0},
            "Oslo": {"temperature": 22.0, "humidity": 65.0, "pressure": 1013.5},
        }
    )
    assert "site" in error_of(results["site__fetch"])


NOBODY_TO_ASK = {
    "capabilities": "it has asked for more 10 times",
    "elicitation": "Elicitation not supported",
    "list_roots": "List roots not supported",
    "multi_round": "Elicitation not supported",
    "request_state": "Elicitation not supported",
    "sampling": "Sampling not supported",
    "tampered_state": "Elicitation not supported",
}
"""What a tool answers that first wants to ask a person or a model: it must not hang."""


async def test_the_example_that_has_everything(
    examples: Path, start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    async with behind_urls(examples, {"all": ["everything-server"]}) as described:
        await start_tools(configured(tmp_path, *described))
        catalog = await until_offered(caller, "all__test_simple_text")
        told: list[str] = []
        progress = await caller.call(
            "all__test_tool_with_progress", on_progress=lambda frame: told.append(frame.text)
        )
        names = [spec.name for spec in catalog.tools if spec.name != "all__test_tool_with_progress"]
        given = {
            "all__test_sampling": {"prompt": "hello"},
            "all__test_elicitation": {"message": "hello"},
            "all__test_x_mcp_header": {"region": "eu"},
        }
        results = await all_of(caller, [(name, given.get(name, {})) for name in names])

    assert not progress.is_error
    steps = [f"Completed step {step} of 100" for step in (0, 50, 100)]
    assert told[0] == steps[0]
    assert told == [step for step in steps if step in told]  # not faster than people read
    of = {name.removeprefix("all__").removeprefix("test_"): r for name, r in results.items()}
    schema = next(
        s for s in catalog.tools if s.name == "all__json_schema_2020_12_tool"
    ).input_schema
    assert schema["properties"]["address"] == {"$ref": "#/$defs/address"}
    assert schema["then"] == {"required": ["phone"]}
    assert "$schema" not in schema
    assert text_of(of["simple_text"]) == "This is a simple text response for testing."
    image = file_of(of["image_content"], "image/png", PNG)
    file_of(of["audio_content"], "audio/wav", RIFF)
    assert of["embedded_resource"].content == (
        TextPart("[resource test://embedded-resource]\nThis is an embedded resource content."),
    )
    assert of["multiple_content_types"].content == (
        TextPart("Multiple content types test:"),
        image,
        TextPart('[resource test://mixed-content-resource]\n{"test": "data", "value": 123}'),
    )
    assert "This tool intentionally returns an error" in error_of(of["error_handling"])
    assert text_of(of["reconnection"]) == "Reconnection test completed"
    assert text_of(of["tool_with_logging"]) == "Tool with logging executed successfully"
    assert text_of(of["trigger_tool_change"]) == "tool list changed"
    assert text_of(of["x_mcp_header"]) == "region=eu"
    assert "requires the client 'sampling' capability" in error_of(of["missing_capability"])
    for what in ("sampling", "elicitation"):
        assert "not supported or error" in text_of(of[what])
    for what, reason in NOBODY_TO_ASK.items():
        assert reason in error_of(of[f"input_required_result_{what}"]), what


async def test_the_examples_of_each_way_to_speak_http(
    examples: Path, start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    """Events, plain JSON, no memory of who asked, and a stream that ends and is asked for again."""
    wanted = {
        "events": ["simple-streamablehttp"],
        "plain": ["simple-streamablehttp", "--json-response"],
        "forgetful": ["simple-streamablehttp-stateless"],
        "polled": ["sse-polling-demo"],
    }
    notify = {"interval": 0.01, "count": 3, "caller": "me"}
    async with behind_urls(examples, wanted) as described:
        await start_tools(configured(tmp_path, *described))
        streams = [f"{slug}__start-notification-stream" for slug in wanted if slug != "polled"]
        await until_offered(caller, *streams, "polled__process_batch")
        calls = [(name, notify) for name in streams]
        batch = {"items": 2, "checkpoint_every": 1}
        results = await all_of(caller, [*calls, ("polled__process_batch", batch)])

    assert not any(result.is_error for result in results.values())
    assert [text_of(results[name]) for name in streams] == [
        "Sent 3 notifications with 0.01s interval for caller: me"
    ] * 3
    assert text_of(results["polled__process_batch"]) == (
        "Successfully processed 2 items with checkpoints every 1 items"
    )
