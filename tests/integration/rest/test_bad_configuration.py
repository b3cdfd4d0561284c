"""What admins get wrong ends a turn at once and says why; what they mend works with the next one.

Seen from REST and SSE alone, with strict fake providers. "At once" is a claim about the order of
events: nothing is scheduled to be tried again before the error.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from typing import Any, Final

import httpx2
import msgspec
import pytest
import pytest_asyncio
from fakes import FakeProviders, HttpError, Script, Text, Turn
from fakes.script import Kind
from integration.gateway.driver import EventStream, Received, watching
from support.chatloop import KINDS, serving_tools
from support.services import running_chatloop

from steersman.embedded.nats import NatsServer
from steersman_runtime.nats_client import NatsClient

pytestmark = pytest.mark.one_stack

CHATS: Final = "/api/v1/chats"
PROVIDERS: Final = "/api/v1/providers"
MODELS: Final = "/api/v1/models"
KEY: Final = "a-good-key"


class Mistake(msgspec.Struct, frozen=True):
    """A provider, its one model, and what is wrong with them."""

    kind: str
    error: tuple[str, int | None]
    """The kind of the error, and the status that the provider has answered."""
    listing: str
    """What asking the provider for its models finds."""
    provider: dict[str, Any] = {}
    """In place of what would be right; None leaves a field out."""
    mended: dict[str, Any] = {}
    """What is patched in the end, of the provider or, with settings, of the model."""
    settings: dict[str, Any] = {}
    model_id: str = "m"


NOWHERE: Final = "http://nowhere.invalid/v1"
MISTAKES: Final = {
    "wrong-key": Mistake(
        "anthropic",
        ("auth", 401),
        "fetch_failed",
        provider={"api_key": "invalid-key"},
        mended={"api_key": KEY},
    ),
    "no-key": Mistake(
        "google",
        ("missing_key", None),
        "missing_api_key",
        provider={"api_key": None, "base_url": None},
        mended={"api_key": KEY, "base_url": "{base_url}"},
    ),
    "wrong-path": Mistake(
        "responses",
        ("config", 404),
        "fetch_failed",
        provider={"base_url": "{base_url}/v7"},
        mended={"base_url": "{base_url}"},
    ),
    "wrong-port": Mistake(
        "chat",
        ("config", None),
        "fetch_failed",
        provider={"base_url": "{closed}"},
        mended={"base_url": "{base_url}", "api_key": KEY},
    ),
    "wrong-host": Mistake(
        "anthropic",
        ("config", None),
        "fetch_failed",
        provider={"base_url": NOWHERE},
        mended={"base_url": "{base_url}", "api_key": KEY},
    ),
    "wrong-scheme": Mistake(
        "responses",
        ("config", None),
        "fetch_failed",
        provider={"base_url": "{tls}"},
        mended={"base_url": "{base_url}"},
    ),
    "no-http": Mistake(
        "anthropic",
        ("config", None),
        "fetch_failed",
        provider={"base_url": "{mail}"},
        mended={"base_url": "{base_url}", "api_key": KEY},
    ),
    "unknown-model": Mistake("google", ("config", 404), "available", model_id="nobody"),
    "bad-option": Mistake(
        "chat",
        ("config", 400),
        "available",
        settings={"options": {"extra_body": {"no_such_field": True}}},
        mended={"settings": {"options": {"extra_body": None}}},
    ),
}


@pytest_asyncio.fixture(loop_scope="module")
async def fakes() -> AsyncGenerator[FakeProviders]:
    async with FakeProviders() as providers:
        for name in ("m", "busy"):
            providers.script(name, Script([Turn([Text("I am here")])], repeat=True))
        yield providers


def deaf(port: int = 0) -> socket.socket:
    """A port that is taken, so that nobody else gets it, and that refuses every connection."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", port))
    return taken


@pytest.fixture
def closed() -> Generator[str]:
    """The address of a server that is not there."""
    with deaf() as taken:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@pytest_asyncio.fixture(loop_scope="module")
async def mail() -> AsyncGenerator[str]:
    """The address of a server that speaks something else than HTTP."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest_asyncio.fixture(loop_scope="module")
async def admin(
    nats: NatsServer, client: NatsClient, alice_is_admin: None, alice: httpx2.AsyncClient
) -> AsyncGenerator[httpx2.AsyncClient]:
    del alice_is_admin
    async with serving_tools(client), running_chatloop(nats.url()):
        yield alice


async def put(
    admin: httpx2.AsyncClient, name: str, kind: str, fields: dict[str, Any], **model: Any
) -> str:
    """Store a provider with one model.

    Returns:
        The model's name.
    """
    given = {"type": KINDS[kind][0], "api_key": KEY, **fields}
    given = {field: value for field, value in given.items() if value is not None}
    reply = await admin.put(f"{PROVIDERS}/{name}", json=given)
    assert reply.is_success, reply.text
    assert "api_key" not in reply.json()
    model = {"model_id": "m", **model, "provider_id": name}
    stored = await admin.put(MODELS, json=model)
    assert stored.is_success, stored.text
    return stored.json()["name"]


def base_url(fakes: FakeProviders, kind: str) -> str:
    fake: Kind = KINDS[kind][1]  # pyright: ignore[reportAssignmentType]  # a Kind
    return fakes.base_url(fake)


async def to_rest(live: EventStream) -> list[Received]:
    """What is seen until a turn has ended."""
    seen = await live.until("chat.status")
    while seen[-1].body.get("outcome") is None:
        seen += await live.until("chat.status")
    return seen


async def asked(
    admin: httpx2.AsyncClient, chat: str, **message: Any
) -> tuple[list[Received], dict[str, Any]]:
    """Send a message and watch what comes of it.

    Returns:
        What was seen, and the chat then.
    """
    async with watching(admin, chat) as live:
        await live.next()  # the snapshot
        reply = await admin.post(f"{CHATS}/{chat}/messages", json={"text": "hello", **message})
        assert reply.json()["delivery"] == "started", reply.text
        seen = await to_rest(live)
    return seen, (await admin.get(f"{CHATS}/{chat}")).json()


async def new_chat(admin: httpx2.AsyncClient, model: str) -> str:
    reply = await admin.post(CHATS, json={"model": model})
    return reply.json()["chat"]["id"]


async def test_whatever_is_wrong_ends_the_turn_at_once_and_works_when_it_is_mended(
    admin: httpx2.AsyncClient, fakes: FakeProviders, closed: str, mail: str
) -> None:
    async def walk(name: str, mistake: Mistake) -> None:
        right = base_url(fakes, mistake.kind)
        places = {
            "base_url": right,
            "tls": right.replace("http:", "https:"),
            "closed": closed,
            "mail": mail,
        }

        def filled(fields: dict[str, Any]) -> dict[str, Any]:
            return {
                field: value.format_map(places) if isinstance(value, str) else value
                for field, value in fields.items()
            }

        fields = filled({"base_url": "{base_url}", **mistake.provider})
        settings = mistake.settings
        model = await put(
            admin, name, mistake.kind, fields, model_id=mistake.model_id, settings=settings
        )
        listed = (await admin.get(f"{PROVIDERS}/{name}/models")).json()
        assert listed["availability"] == mistake.listing, (name, listed)
        assert (listed["availability"] == "available") is not bool(listed.get("reason")), name

        chat = await new_chat(admin, model)
        seen, after = await asked(admin, chat)

        names = [event.name for event in seen]
        assert "retry.scheduled" not in names, name
        assert names.count("chat.error") == 1
        error = next(event for event in seen if event.name == "chat.error").body["error"]
        assert (error["kind"], error.get("status_code")) == mistake.error, (name, error)
        assert error["provider"] == name
        assert not error.get("retryable"), name
        assert (after["status"], after["last_error"]) == ("error", error)
        assert "invalid-key" not in str(error)

        if mistake.mended:
            mended = filled(mistake.mended)
            where = f"{MODELS}/{model}" if "settings" in mended else f"{PROVIDERS}/{name}"
            patched = await admin.patch(where, json=mended)
            assert patched.is_success, (name, patched.text)
        else:
            model = await put(admin, name, mistake.kind, fields)
        _, rested = await asked(admin, chat, model=model)
        assert (rested["status"], rested["last_outcome"]) == ("waiting", "completed"), name
        assert "last_error" not in rested
        messages = (await admin.get(f"{CHATS}/{chat}/messages")).json()["messages"]
        assert messages[-1]["parts"] == [{"type": "text", "text": "I am here"}]
        assert messages[-1]["model"] == model

    await asyncio.gather(*(walk(name, mistake) for name, mistake in MISTAKES.items()))


async def test_a_fallback_takes_over_from_an_address_that_never_answered_and_says_so(
    admin: httpx2.AsyncClient, fakes: FakeProviders, closed: str
) -> None:
    good = await put(admin, "good", "anthropic", {"base_url": base_url(fakes, "anthropic")})
    settings = {"fallbacks": [good]}
    bad = await put(admin, "bad", "responses", {"base_url": closed}, settings=settings)
    chat = await new_chat(admin, bad)

    seen, rested = await asked(admin, chat)

    retry = next(event for event in seen if event.name == "retry.scheduled").body
    assert (retry["kind"], retry["delay_ms"], retry["attempt"]) == ("config", 0, 1)
    assert (rested["model"], rested["last_outcome"]) == (bad, "completed")
    messages = (await admin.get(f"{CHATS}/{chat}/messages")).json()["messages"]
    assert messages[-1]["model"] == good


async def outage(admin: httpx2.AsyncClient, fakes: FakeProviders, chat: str) -> None:
    """A turn that fails until the address of its provider is changed."""
    async with watching(admin, chat) as live:
        await live.next()
        await admin.post(f"{CHATS}/{chat}/messages", json={"text": "still there?"})
        retry = (await live.until("retry.scheduled"))[-1].body
        assert (retry["kind"], retry["delay_ms"]) == ("timeout", 1000)
        elsewhere = {"base_url": base_url(fakes, "chat"), "api_key": KEY}
        assert (await admin.patch(f"{PROVIDERS}/p", json=elsewhere)).is_success
        assert (await to_rest(live))[-1].body["outcome"] == "completed"


async def test_an_address_that_has_answered_is_waited_for_and_may_be_changed_meanwhile(
    admin: httpx2.AsyncClient, fakes: FakeProviders, closed: str
) -> None:
    async with FakeProviders() as before:
        before.script("m", Turn([Text("I was here")]))
        model = await put(admin, "p", "chat", {"base_url": base_url(before, "chat")})
        chat = await new_chat(admin, model)
        await asked(admin, chat)
    with deaf(before.port):
        await outage(admin, fakes, chat)
    messages = (await admin.get(f"{CHATS}/{chat}/messages")).json()["messages"]
    answers = [m["parts"][0]["text"] for m in messages if m["role"] == "assistant"]
    assert answers == ["I was here", "I am here"]

    # Another address has to answer first: what the one before did says nothing about it.
    wrong = {"base_url": closed, "api_key": KEY}
    assert (await admin.patch(f"{PROVIDERS}/p", json=wrong)).is_success
    seen, after = await asked(admin, chat)
    assert "retry.scheduled" not in [event.name for event in seen]
    assert after["last_error"]["kind"] == "config"


async def test_a_wait_for_another_attempt_ends_with_an_interrupt_and_with_the_provider(
    admin: httpx2.AsyncClient, fakes: FakeProviders
) -> None:
    model = await put(admin, "p", "anthropic", {"base_url": base_url(fakes, "anthropic")})
    fakes.fault("m", HttpError(429, retry_after=600))
    chat = await new_chat(admin, model)
    async with watching(admin, chat) as live:
        await live.next()
        await admin.post(f"{CHATS}/{chat}/messages", json={"text": "hello"})
        retry = (await live.until("retry.scheduled"))[-1].body
        assert (retry["kind"], retry["delay_ms"]) == ("rate_limit", 600_000)
        assert (await admin.get(f"{CHATS}/{chat}")).json()["status"] == "running"

        assert (await admin.post(f"{CHATS}/{chat}/interrupt", json={})).is_success

        ended = await to_rest(live)
    assert ended[-1].body["outcome"] == "interrupted"
    assert {"chat.error", "attempt.started"}.isdisjoint(event.name for event in ended)
    rested = (await admin.get(f"{CHATS}/{chat}")).json()
    assert (rested["status"], rested["last_outcome"]) == ("waiting", "interrupted")
    assert "last_error" not in rested
    assert len(fakes.requests) == 1
    _, answered = await asked(admin, chat)
    assert answered["last_outcome"] == "completed"

    model = await put(
        admin, "other", "google", {"base_url": base_url(fakes, "google")}, model_id="busy"
    )
    fakes.fault("busy", HttpError(503), count=30)
    chat = await new_chat(admin, model)
    async with watching(admin, chat) as live:
        await live.next()
        await admin.post(f"{CHATS}/{chat}/messages", json={"text": "hello"})
        await live.until("retry.scheduled")

        assert (await admin.patch(f"{PROVIDERS}/other", json={"enabled": False})).is_success

        error = (await live.until("chat.error"))[-1].body["error"]
    assert (error["kind"], error["provider"]) == ("provider_disabled", "other")
