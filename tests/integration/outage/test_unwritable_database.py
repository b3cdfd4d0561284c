"""A PostgreSQL that reads and does not write: clear refusals, nothing half done, no restart after.

Both causes are real. Read-only is a setting of the server, as a standby's. The disk is full for the
tables that grow: see `support.outages.full_disk` for how, and why so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import asyncpg
import httpx2
import pytest
from fakes import FakeProviders, Text, Turn
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup
from support.outages import full_disk, read_only
from support.waiting import until

from steersman.embedded.postgres import PostgresServer
from steersman_contracts import events
from steersman_contracts.chats import Status
from steersman_contracts.errors import Unavailable
from steersman_contracts.ids import ChatId
from steersman_runtime.service import Runtime

People = tuple[httpx2.AsyncClient, httpx2.AsyncClient]
Outage = Callable[[], AbstractAsyncContextManager[None]]

SAYS: Final = {
    "read-only": ("25006", "the database is read-only: an administrator must let it take writes"),
    "full": ("53100", "the disk of the database is full: an administrator must make room on it"),
}
WORDS: Final = " ".join(f"word{number}" for number in range(60))
_TABLES: Final = (
    "chats",
    "messages",
    "queued_messages",
    "client_keys",
    "chat_marks",
    "outbox",
    "purges",
    "write_probe",
)


@pytest.fixture(params=SAYS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def outage(kind: str, postgres: PostgresServer, database_url: str) -> Outage:
    if kind == "full":
        return lambda: full_disk(postgres, database_url)
    return lambda: read_only(postgres)


async def everything(url: str) -> dict[str, list[Any]]:
    """All rows that people's requests can change."""
    connection = await asyncpg.connect(url)
    try:
        return {t: await connection.fetch(f"SELECT * FROM {t} ORDER BY 1") for t in _TABLES}
    finally:
        await connection.close()


async def refused(request: Callable[[], Awaitable[httpx2.Response]], kind: str) -> None:
    """The request gets the problem that says what is wrong and who can mend it."""
    sqlstate, sentence = SAYS[kind]
    response = await request()
    problem = response.json()
    assert response.status_code == 503, problem
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "1"
    assert problem["code"] == "unavailable"
    assert problem["detail"].startswith(sentence), problem
    assert problem["details"] == {"sqlstate": sqlstate}


async def test_every_write_is_refused_whole_and_reading_goes_on(
    people: People, stores: tuple[Runtime, Runtime], outage: Outage, kind: str, database_url: str
) -> None:
    made = await people[0].post("/api/v1/chats", json={"text": "hello", "model": "demo/echo"})
    chat = made.json()["chat"]
    path = f"/api/v1/chats/{chat['id']}"
    message = made.json()["message"]["id"]

    def writes(person: httpx2.AsyncClient) -> list[Callable[[], Awaitable[httpx2.Response]]]:
        keyed = {"text": "more", "client_key": "key-1"}
        return [
            lambda: person.post("/api/v1/chats", json={"text": "another"}),
            lambda: person.post(f"{path}/messages", json=keyed),
            lambda: person.patch(f"{path}/messages/{message}", json={"text": "edited"}),
            lambda: person.post(f"{path}/interrupt"),
            lambda: person.patch(path, json={"title": "renamed"}),
            lambda: person.delete(path),
        ]

    await until(lambda: _is_empty(database_url))
    async with outage():
        before = await everything(database_url)
        for person in people:
            for write in writes(person):
                await refused(write, kind)
            assert (await person.get(path)).json() == (await people[0].get(path)).json()
            assert (await person.get(f"{path}/messages")).status_code == 200
        assert await everything(database_url) == before
        for store in stores:
            await until(lambda store=store: "database" in store.health.problems())
            assert store.health.problems()["database"].startswith(SAYS[kind][1])

    for store in stores:
        await until(lambda store=store: store.health.problems() == {})
    for person in people:
        body = {"text": "more", "client_key": "key-1"}
        response = await person.post(f"{path}/messages", json=body)
        assert response.status_code == 202, response.text
    history = await people[0].get(f"{path}/messages")
    assert [m["parts"][0]["text"] for m in history.json()["messages"]] == ["hello"]
    queue = (await people[0].get(path)).json()["queue_size"]
    assert queue == 1, "the same key twice"


async def _is_empty(url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval("SELECT NOT EXISTS (SELECT 1 FROM outbox)")
    finally:
        await connection.close()


@pytest.mark.usefixtures("chatloops")
async def test_a_turn_waits_for_the_database_and_goes_on_where_it_was(
    store: StoreDriver, fakes: FakeProviders, outage: Outage
) -> None:
    fakes.script("m", Turn([Text(WORDS)]))
    gate = fakes.hold("m", deltas=20)
    chat = await store.create("hello", model=await ModelSetup(store, fakes).add("chat", "m"))
    async with asyncio.timeout(45):
        await fakes.held("m")
    await store.log.until(chat.id, events.PartDelta)

    async with outage():
        gate.release()
        await _all_streamed(store, chat.id)
        with pytest.raises(Unavailable):
            await store.send(chat.id, "meanwhile")
        assert (await store.chat(chat.id)).status is Status.RUNNING
    rested = await store.at_rest(chat.id)

    assert (rested.status, rested.last_outcome) == (Status.WAITING, "completed")
    assert [words_of(m) for m in await store.messages(chat.id)] == ["hello", WORDS]
    assert len(fakes.requests) == 1, "the provider was asked once"


async def _all_streamed(store: StoreDriver, chat_id: ChatId) -> None:
    """Wait until the whole answer is in the log; what is left to do is to store it."""

    def words() -> str:
        deltas = [
            d for e in store.log.of(chat_id) if isinstance(e, events.PartDelta) for d in e.deltas
        ]
        return "".join(getattr(delta, "text", "") for delta in deltas)

    async with asyncio.timeout(45):
        while words() != WORDS:
            await store.log.more(len(store.log.seen))
