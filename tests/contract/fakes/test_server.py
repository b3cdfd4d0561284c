"""Gates, recordings, keep-alive, listings, and the fakes in a process of their own."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anthropic
import fakes.server as server_module
import httpx2
import openai
import pytest
from fakes.drivers import AnthropicDriver, ChatDriver, Driver, GeminiDriver, Heard, drivers
from fakes.script import Kind, Pause, RequestView, Text, Turn
from fakes.server import FakeProviders
from google.genai import errors as google_errors

KINDS: Final[tuple[Kind, ...]] = ("anthropic", "responses", "chat", "gemini")
each_kind = pytest.mark.parametrize("kind", KINDS)

Sdks = Mapping[Kind, Driver]


@pytest.fixture
async def http() -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(verify=False)) as client:
        yield client


@each_kind
async def test_a_gate_stops_a_stream_until_it_is_released(
    fakes: FakeProviders, sdks: Sdks, kind: Kind
) -> None:
    fakes.script("m", Turn([Text("one two three")]))
    gate = fakes.hold("m", deltas=2)
    heard = Heard()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(sdks[kind].stream("m", sdks[kind].user("hi"), heard))
        recorded = await gate.reached()
        await heard.texts(2)
        assert heard.text == ["one", " two"]
        assert recorded.outcome is None
        gate.release()

    assert heard.text == ["one", " two", " three"]
    assert (await fakes.finished("m")).outcome == "finished"


async def test_a_gate_may_stand_before_the_first_frame(fakes: FakeProviders, sdks: Sdks) -> None:
    gate = fakes.hold("echo", frames=0, count=2)
    first, second, third = Heard(), Heard(), Heard()
    driver = sdks["anthropic"]

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for heard in (first, second):
            tasks.create_task(driver.stream("echo", driver.user("hi"), heard))
            await gate.reached()
        # It holds two streams, not a third one.
        await driver.stream("echo", driver.user("hi"), third)
        assert not first.events
        assert not second.events
        fakes.release("echo")

    assert first.text == second.text == third.text == ["hi"]


@each_kind
async def test_a_client_that_leaves_is_seen(fakes: FakeProviders, sdks: Sdks, kind: Kind) -> None:
    gate = fakes.hold("tokens-9", deltas=1)
    heard = Heard()
    async with asyncio.timeout(60):
        task = asyncio.create_task(sdks[kind].stream("tokens-9", sdks[kind].user("hi"), heard))
        await gate.reached()
        await heard.texts(1)
        task.cancel()
        recorded = await fakes.disconnected("tokens-9")
        with pytest.raises(asyncio.CancelledError):
            await task

    assert recorded.outcome == "client_gone"
    assert 0 < recorded.frames_sent < 9


async def test_a_paced_stream_notices_too(fakes: FakeProviders, sdks: Sdks) -> None:
    heard = Heard()
    driver = sdks["chat"]
    async with asyncio.timeout(60):
        task = asyncio.create_task(driver.stream("tokens-1000-at-50", driver.user("hi"), heard))
        await heard.texts(2)
        task.cancel()
        await fakes.disconnected("tokens-1000-at-50")
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_pacing_takes_its_time(fakes: FakeProviders, sdks: Sdks) -> None:
    loop = asyncio.get_running_loop()
    fakes.script("m", Turn([Text("a b c"), Pause(0.02), Text("d")], tokens_per_second=100))
    started = loop.time()
    heard = Heard()

    await sdks["chat"].stream("m", sdks["chat"].user("hi"), heard)

    # Three gaps of 10 ms and the pause; how much longer it takes is the machine's affair.
    assert loop.time() - started >= 0.049
    assert heard.text == ["a", " b", " c", "d"]


async def test_many_paced_streams_run_side_by_side(fakes: FakeProviders, sdks: Sdks) -> None:
    driver = sdks["chat"]
    everything = [Heard() for _ in range(16)]

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for heard in everything:
            tasks.create_task(driver.stream("tokens-10-at-200", driver.user("hi"), heard))

    expected = [f"{' ' if n > 1 else ''}w{n}" for n in range(1, 11)]
    assert all(heard.text == expected for heard in everything)


async def test_requests_are_recorded(fakes: FakeProviders, sdks: Sdks) -> None:
    for driver in sdks.values():
        await driver.stream("echo", driver.user("hi"), Heard())

    async with asyncio.timeout(60):
        recorded = [await fakes.next_request("echo") for _ in sdks]
    assert recorded == list(fakes.requests)
    assert [request.kind for request in recorded] == list(KINDS)
    assert recorded[0].headers["anthropic-version"] == "2026-10-21"
    assert recorded[0].body["messages"] == [{"role": "user", "content": "hi"}]
    assert [request.view.last_user_text for request in recorded] == ["hi"] * 4
    assert [request.status for request in recorded] == [200] * 4


async def test_a_request_can_be_waited_for(fakes: FakeProviders, sdks: Sdks) -> None:
    waiting = asyncio.create_task(fakes.next_request("echo"))
    other = asyncio.create_task(fakes.next_request("tokens-1"))

    async with asyncio.timeout(60):
        await sdks["chat"].stream("echo", sdks["chat"].user("hi"), Heard())
        assert (await waiting).model == "echo"
        assert not other.done()
        await sdks["chat"].stream("tokens-1", sdks["chat"].user("hi"), Heard())
        assert (await other).model == "tokens-1"


async def test_refused_requests_are_recorded_too(fakes: FakeProviders, sdks: Sdks) -> None:
    with pytest.raises(anthropic.BadRequestError, match="non-empty"):
        await sdks["anthropic"].stream("echo", [{"role": "user", "content": ""}], Heard())

    (refused,) = fakes.refused
    assert refused.status == 400
    assert refused.refused_field == "messages.0.content"
    with pytest.raises(ValueError, match="refused"):
        _ = refused.view


@each_kind
async def test_unknown_models_are_unknown(fakes: FakeProviders, sdks: Sdks, kind: Kind) -> None:
    with pytest.raises(
        (anthropic.NotFoundError, openai.NotFoundError, google_errors.ClientError), match="no-model"
    ):
        await sdks[kind].stream("no-model", sdks[kind].user("hi"), Heard())


@pytest.mark.parametrize(
    ("kind", "status"), [("anthropic", 401), ("responses", 401), ("chat", 401), ("gemini", 400)]
)
async def test_a_revoked_key_is_refused(fakes: FakeProviders, kind: Kind, status: int) -> None:
    async with drivers(fakes, key="invalid-key") as found:
        with pytest.raises(
            (anthropic.APIStatusError, openai.APIStatusError, google_errors.APIError)
        ):
            await found[kind].stream("echo", found[kind].user("hi"), Heard())

    assert fakes.requests[-1].status == status


async def test_a_function_that_fails_is_a_server_error(fakes: FakeProviders, sdks: Sdks) -> None:
    def fail(view: RequestView) -> Turn:
        raise LookupError(view.model)

    fakes.script("m", fail)

    with pytest.raises(openai.InternalServerError, match="LookupError"):
        await sdks["chat"].stream("m", sdks["chat"].user("hi"), Heard())


async def test_connections_are_kept_alive(fakes: FakeProviders, http: httpx2.AsyncClient) -> None:
    body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    ports: set[Any] = set()
    for _ in range(3):
        async with http.stream(
            "POST",
            f"{fakes.base_url('chat')}/chat/completions",
            json=body,
            headers={"authorization": "Bearer k"},
        ) as response:
            await response.aread()
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))

    assert len(ports) == 1


async def test_every_format_lists_its_models(fakes: FakeProviders, sdks: Sdks) -> None:
    fakes.script("mine", Turn([Text("hi")]))
    claude, gpt, google = sdks["anthropic"], sdks["chat"], sdks["gemini"]
    assert isinstance(claude, AnthropicDriver)
    assert isinstance(gpt, ChatDriver)
    assert isinstance(google, GeminiDriver)

    assert "mine" in [model.id async for model in claude.client.models.list()]
    assert (await claude.client.models.retrieve("mine")).max_input_tokens == 200_000
    assert "mine" in [model.id async for model in gpt.client.models.list()]
    assert (await gpt.client.models.retrieve("echo")).id == "echo"
    assert "models/mine" in [model.name async for model in await google.client.aio.models.list()]
    with pytest.raises(openai.NotFoundError):
        await gpt.client.models.retrieve("yours")


async def test_tokens_can_be_counted(fakes: FakeProviders, sdks: Sdks) -> None:
    claude, gpt = sdks["anthropic"], sdks["chat"]
    assert isinstance(claude, AnthropicDriver)
    assert isinstance(gpt, ChatDriver)

    counted = await claude.client.messages.count_tokens(
        model="echo", messages=[{"role": "user", "content": "hi"}]
    )
    also = await gpt.client.responses.input_tokens.count(model="echo", input="hi")

    assert counted.input_tokens > 0
    assert also.input_tokens > 0


async def test_unknown_paths_are_not_found(fakes: FakeProviders, http: httpx2.AsyncClient) -> None:
    root = fakes.base_url("anthropic")
    answers = [
        await http.get(f"{root}/v1/files", headers={"authorization": "Bearer k"}),
        await http.get(f"{root}/v1beta/files", headers={"x-goog-api-key": "k"}),
        await http.get(f"{root}/__fakes__/nothing"),
        await http.get(f"{root}/v1/models"),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 404, 401]


async def test_reset_forgets_everything(fakes: FakeProviders, sdks: Sdks) -> None:
    driver = sdks["chat"]
    fakes.script("m", Turn([Text("hi")]))
    fakes.fail("echo", 500)
    await driver.stream("m", driver.user("hi"), Heard())

    fakes.reset()

    await driver.stream("echo", driver.user("hi"), Heard())
    assert [request.model for request in fakes.requests] == ["echo"]
    with pytest.raises(openai.NotFoundError):
        await driver.stream("m", driver.user("hi"), Heard())


# In a process of its own


@asynccontextmanager
async def spawned(*arguments: str) -> AsyncGenerator[tuple[asyncio.subprocess.Process, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "fakes.serve",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(server_module.__file__).parent.parent,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            yield process, json.loads(await process.stdout.readline())
    finally:
        process.stdin.close()
        async with asyncio.timeout(60):
            assert await process.wait() == 0


async def test_a_process_is_steered_over_http(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    scripts = tmp_path / "scripts.json"
    scripts.write_text('{"given": {"turns": [{"items": [{"type": "text", "text": "Given."}]}]}}')
    async with spawned("--port", "0", "--scripts", str(scripts)) as (_, ready):
        control = f"http://127.0.0.1:{ready['port']}/__fakes__/control"
        script = {"turns": [{"items": [{"type": "text", "text": "one two"}]}], "repeat": True}
        done = await http.post(
            control,
            json=[
                {"op": "script", "model": "m", "script": script},
                {"op": "fault", "model": "m", "faults": [{"fault": "http-error", "status": 529}]},
                {"op": "hold", "model": "m", "deltas": 1},
            ],
        )
        assert done.json() == {"results": [None, None, None]}
        client = openai.AsyncOpenAI(
            api_key="k", base_url=ready["base_urls"]["chat"], max_retries=0, http_client=http
        )
        driver = ChatDriver(client)
        with pytest.raises(openai.InternalServerError):
            await driver.stream("m", driver.user("hi"), Heard())
        heard = Heard()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(driver.stream("m", driver.user("hi"), heard))
            held = await http.post(control, json={"op": "wait", "moment": "held", "model": "m"})
            assert held.json()["results"][0]["outcome"] is None
            await http.post(control, json={"op": "release", "model": "m"})
        given = Heard()
        await driver.stream("given", driver.user("hi"), given)
        listed = await http.get(control.replace("control", "requests"), params={"after": 1})
        refused = await http.post(control, json={"op": "unknown"})

    assert heard.text == ["one", " two"]
    assert given.text == ["Given."]
    requests = listed.json()["requests"]
    assert [(one["model"], one["status"]) for one in requests] == [("m", 200), ("given", 200)]
    assert requests[0]["body"]["messages"] == [{"role": "user", "content": "hi"}]
    assert requests[0]["headers"]["authorization"] == "…"
    assert refused.status_code == 400
