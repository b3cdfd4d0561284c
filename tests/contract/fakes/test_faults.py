"""Every fault, as the real SDKs meet it."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

import anthropic
import httpx2
import openai
import pytest
from fakes.drivers import Driver, Heard, drivers
from fakes.faults import (
    Comments,
    ContentType,
    CrlfLines,
    Cut,
    Eof,
    Fault,
    Garbage,
    Hang,
    HttpError,
    HugeDelta,
    Stall,
    StreamError,
    TinyChunks,
)
from fakes.script import Kind, Text, Turn
from fakes.server import FakeProviders
from google.genai import errors as google_errors

KINDS: Final[tuple[Kind, ...]] = ("anthropic", "responses", "chat", "gemini")
each_kind = pytest.mark.parametrize("kind", KINDS)
TEXT: Final = "one two three four"

Sdks = Mapping[Kind, Driver]


async def caught(driver: Driver, heard: Heard) -> Exception:
    try:
        await driver.stream("m", driver.user("hi"), heard)
    except Exception as error:  # noqa: BLE001  # which one is what the tests are about
        return error
    raise AssertionError(f"no error, but {heard!r}")


@pytest.fixture(autouse=True)
def scripted(fakes: FakeProviders) -> None:
    fakes.script("m", Turn([Text(TEXT)]))


STATUSES: Final[dict[int, tuple[type[Exception], type[Exception], str, str, str]]] = {
    400: (
        anthropic.BadRequestError,
        openai.BadRequestError,
        "invalid_request_error",
        "invalid_value",
        "INVALID_ARGUMENT",
    ),
    401: (
        anthropic.AuthenticationError,
        openai.AuthenticationError,
        "authentication_error",
        "invalid_api_key",
        "UNAUTHENTICATED",
    ),
    404: (
        anthropic.NotFoundError,
        openai.NotFoundError,
        "not_found_error",
        "model_not_found",
        "NOT_FOUND",
    ),
    429: (
        anthropic.RateLimitError,
        openai.RateLimitError,
        "rate_limit_error",
        "rate_limit_exceeded",
        "RESOURCE_EXHAUSTED",
    ),
    500: (
        anthropic.InternalServerError,
        openai.InternalServerError,
        "api_error",
        "server_error",
        "INTERNAL",
    ),
    503: (
        anthropic.InternalServerError,
        openai.InternalServerError,
        "api_error",
        "server_error",
        "UNAVAILABLE",
    ),
    529: (
        anthropic.InternalServerError,
        openai.InternalServerError,
        "overloaded_error",
        "server_error",
        "UNKNOWN",
    ),
}


@pytest.mark.parametrize("status", STATUSES)
@each_kind
async def test_http_errors_have_the_providers_shape(
    fakes: FakeProviders, sdks: Sdks, kind: Kind, status: int
) -> None:
    claude, gpt, claude_type, gpt_code, google_status = STATUSES[status]
    fakes.fail("m", status, retry_after=7)

    error = await caught(sdks[kind], Heard())

    if kind == "anthropic":
        assert isinstance(error, anthropic.APIStatusError)
        assert isinstance(error, claude)
        assert (error.status_code, error.type) == (status, claude_type)
        assert error.request_id == "req_fake_00000001"
        assert error.response.headers["retry-after"] == "7"
    elif kind == "gemini":
        assert isinstance(error, google_errors.APIError)
        assert (error.code, error.status) == (status, google_status)
        # The SDK leaves the shape of the details open.
        untyped: Any = error
        assert '"retryDelay": "7s"' in json.dumps(untyped.details)
    else:
        assert isinstance(error, openai.APIStatusError)
        assert isinstance(error, gpt)
        assert (error.status_code, error.code) == (status, gpt_code)
        assert error.request_id == "req_fake_00000001"
        assert error.response.headers["retry-after"] == "7"


@each_kind
async def test_error_types_and_bodies_may_be_chosen(
    fakes: FakeProviders, sdks: Sdks, kind: Kind
) -> None:
    fakes.fail("m", 429, error_type="insufficient_quota")
    fakes.fail("m", 502, body="<html>Bad Gateway</html>")
    fakes.fault("m", HttpError(500, message="my words", headers={"x-should-retry": "false"}))

    typed = await caught(sdks[kind], Heard())
    html = await caught(sdks[kind], Heard())
    worded = await caught(sdks[kind], Heard())

    if isinstance(typed, openai.RateLimitError):
        assert typed.code == typed.type == "insufficient_quota"
    else:
        assert "insufficient_quota" in str(typed)
    if isinstance(html, openai.APIStatusError):
        assert html.response.text == "<html>Bad Gateway</html>"
    else:
        assert "Bad Gateway" in str(html)
    assert "my words" in str(worded)


@each_kind
async def test_a_fault_meets_so_many_requests_and_no_more(
    fakes: FakeProviders, sdks: Sdks, kind: Kind
) -> None:
    fakes.fail("m", 500, count=2)
    fakes.fail("another", 500)

    for _ in range(2):
        await caught(sdks[kind], Heard())
    heard = Heard()
    await sdks[kind].stream("m", sdks[kind].user("hi"), heard)

    assert "".join(heard.text) == TEXT
    assert [request.status for request in fakes.requests] == [500, 500, 200]


@each_kind
async def test_errors_come_in_the_middle_of_a_stream(
    fakes: FakeProviders, sdks: Sdks, kind: Kind
) -> None:
    fakes.fault("m", StreamError(deltas=2))
    heard = Heard()
    if kind == "responses":
        # The SDK hands it out like any other event.
        await sdks[kind].stream("m", sdks[kind].user("hi"), heard)
        assert heard.events[-1]["type"] == "error"
        assert heard.events[-1]["code"] == "server_error"
        assert heard.stop is None
        return

    error = await caught(sdks[kind], heard)

    assert heard.text == ["one", " two"]
    if kind == "anthropic":
        assert isinstance(error, anthropic.APIStatusError)
        assert (error.status_code, error.type) == (200, "overloaded_error")
    elif kind == "chat":
        assert type(error) is openai.APIError
        assert error.code == "server_error"
    else:
        assert isinstance(error, google_errors.ServerError)
        assert (error.code, error.status) == (503, "UNAVAILABLE")


async def test_responses_has_three_more_shapes_of_stream_errors(
    fakes: FakeProviders, sdks: Sdks
) -> None:
    driver = sdks["responses"]
    fakes.fault("m", StreamError(deltas=1, shape="nested", error_type="rate_limit_exceeded"))
    fakes.fault("m", StreamError(deltas=1, shape="failed", error_type="server_error"))
    fakes.fault("m", StreamError(deltas=1, shape="incomplete", error_type="content_filter"))

    nested = await caught(driver, Heard())
    failed, incomplete = Heard(), Heard()
    await driver.stream("m", driver.user("hi"), failed)
    await driver.stream("m", driver.user("hi"), incomplete)

    assert type(nested) is openai.APIError
    assert nested.code == "rate_limit_exceeded"
    assert failed.events[-1]["response"]["error"]["code"] == "server_error"
    assert failed.stop == "failed"
    assert incomplete.stop == "content_filter"


@pytest.mark.parametrize(
    "fault", [Cut(deltas=2), Cut(deltas=2, mid_frame=True), Cut(deltas=2, reset=True)]
)
@each_kind
async def test_a_cut_connection_is_a_transport_error(
    fakes: FakeProviders, sdks: Sdks, kind: Kind, fault: Cut
) -> None:
    fakes.fault("m", fault)
    heard = Heard()

    error = await caught(sdks[kind], heard)

    # A reset may overtake what was already sent.
    assert heard.text == ["one", " two"] or fault.reset
    if kind in ("responses", "chat"):
        assert isinstance(error, openai.APIConnectionError)
        error = error.__cause__
    assert isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError)


@each_kind
async def test_an_early_end_raises_nothing(fakes: FakeProviders, sdks: Sdks, kind: Kind) -> None:
    fakes.fault("m", Eof(deltas=2))
    heard = Heard()

    await sdks[kind].stream("m", sdks[kind].user("hi"), heard)

    assert heard.text == ["one", " two"]
    assert heard.stop is None


@pytest.mark.parametrize("fault", [Stall(deltas=2), Hang()])
async def test_silence_runs_into_the_read_timeout(fakes: FakeProviders, fault: Fault) -> None:
    fakes.fault("m", fault, count=len(KINDS))
    heard = {kind: Heard() for kind in KINDS}
    async with drivers(fakes, read_timeout_s=2.0) as impatient:  # all of them at once
        errors = await asyncio.gather(*(caught(impatient[kind], heard[kind]) for kind in KINDS))

    hung = isinstance(fault, Hang)
    for kind, error in zip(KINDS, errors, strict=True):
        if kind == "gemini" or (kind == "anthropic" and not hung):
            assert isinstance(error, httpx2.ReadTimeout), kind
        else:
            assert isinstance(error, anthropic.APITimeoutError | openai.APITimeoutError), kind
        assert heard[kind].text == ([] if hung else ["one", " two"])
        async with asyncio.timeout(60):
            assert (await fakes.disconnected("m")).outcome == "client_gone"


@pytest.mark.parametrize("fault", [Stall(deltas=1, seconds=0.01), Hang(seconds=0.01)])
@each_kind
async def test_silence_may_end(fakes: FakeProviders, sdks: Sdks, kind: Kind, fault: Fault) -> None:
    fakes.fault("m", fault)
    heard = Heard()

    await sdks[kind].stream("m", sdks[kind].user("hi"), heard)

    assert "".join(heard.text) == TEXT


@pytest.mark.parametrize("fault", [Stall(deltas=1), Hang()])
@each_kind
async def test_endless_silence_may_be_ended_by_the_test(
    fakes: FakeProviders, sdks: Sdks, kind: Kind, fault: Fault
) -> None:
    fakes.fault("m", fault)
    heard = Heard()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(sdks[kind].stream("m", sdks[kind].user("hi"), heard))
        await fakes.held("m")
        fakes.release("m")

    assert "".join(heard.text) == TEXT


@each_kind
async def test_comments_break_gemini_alone(fakes: FakeProviders, sdks: Sdks, kind: Kind) -> None:
    fakes.fault("m", Comments(every=1))
    heard = Heard()
    if kind == "gemini":
        error = await caught(sdks[kind], heard)
        assert isinstance(error, google_errors.UnknownApiResponseError)
        return

    await sdks[kind].stream("m", sdks[kind].user("hi"), heard)

    assert "".join(heard.text) == TEXT


@each_kind
async def test_garbage_is_a_decoding_error(fakes: FakeProviders, sdks: Sdks, kind: Kind) -> None:
    fakes.fault("m", Garbage(deltas=2))
    heard = Heard()

    error = await caught(sdks[kind], heard)

    assert heard.text == ["one", " two"]
    assert isinstance(error, ValueError | google_errors.UnknownApiResponseError)


@pytest.mark.parametrize("fault", [TinyChunks(), CrlfLines()])
@each_kind
async def test_framing_makes_no_difference(
    fakes: FakeProviders, sdks: Sdks, kind: Kind, fault: Fault
) -> None:
    fakes.fault("m", fault)
    heard = Heard()

    await sdks[kind].stream("m", sdks[kind].user("hi"), heard)

    assert heard.text == ["one", " two", " three", " four"]
    assert heard.stop is not None


@each_kind
async def test_a_delta_may_be_huge(fakes: FakeProviders, sdks: Sdks, kind: Kind) -> None:
    fakes.fault("m", HugeDelta())
    heard = Heard()

    await sdks[kind].stream("m", sdks[kind].user("hi"), heard)

    assert [len(text) for text in heard.text] == [1_000_000]


async def test_bodies_may_come_under_another_type_and_with_several_faults_at_once(
    fakes: FakeProviders,
) -> None:
    fakes.fault("m", ContentType("text/html"), CrlfLines(), Eof(deltas=1))
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(verify=False)) as client:
        response = await client.post(
            f"{fakes.base_url('chat')}/chat/completions",
            json=body,
            headers={"authorization": "Bearer k"},
        )

    assert response.headers["content-type"] == "text/html"
    assert response.text.endswith("\r\n\r\n")
    assert "[DONE]" not in response.text


async def test_faults_may_meet_any_model(fakes: FakeProviders, sdks: Sdks) -> None:
    fakes.fail("*", 500)

    error = await caught(sdks["chat"], Heard())

    assert isinstance(error, openai.InternalServerError)
