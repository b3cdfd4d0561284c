"""Model configurations over HTTP: their bounds, the one default, and what shows of secrets."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
import httpx2
import pytest

MODELS: Final = "/api/v1/models"
LAB: Final = "/api/v1/providers/lab"
CHATS: Final = "/api/v1/chats"
NONE: Final = {"provider_id": "lab", "model_id": "none"}
# Whatever is wrong is named, and nothing of it is stored.
BAD_MODELS: Final[list[tuple[dict[str, Any], str]]] = [
    ({"context_limit": 0}, "context_limit"),
    ({"context_limit": -5}, "context_limit"),
    ({"context_limit": "8000"}, "context_limit"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": 2_000_000}, "max_output_tokens"),
    ({"contextlimit": 8000}, "contextlimit"),
    ({"settings": {"temperature": 2.5}}, "settings.temperature"),
    ({"settings": {"compaction_threshold": 101}}, "settings.compaction_threshold"),
    ({"settings": {"reasoning_effort": "huge"}}, "settings.reasoning_effort"),
    ({"settings": {"prices": {"inputs": 3}}}, "settings.prices.inputs"),
    ({"settings": {"options": {"store": True}}}, "settings.options.store"),
    ({"enabled": False, "make_default": True}, "make_default"),
]
BAD_PROVIDERS: Final[list[tuple[dict[str, Any], str]]] = [
    ({"base_url": "ftp://models.example"}, "base_url"),
    ({"api_key": ""}, "api_key"),
    ({"apikey": "k"}, "apikey"),
    ({"headers": {"Host": "x"}}, "headers"),
]


def refused(reply: httpx2.Response, field: str) -> None:
    problem = reply.json()
    assert (reply.status_code, problem["code"], problem["field"]) == (
        400,
        "invalid_request",
        field,
    ), problem


async def listed(client: httpx2.AsyncClient) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in (await client.get(MODELS)).json()["models"]}


@pytest.mark.usefixtures("alice_is_admin")
async def test_a_model_has_bounds_and_there_is_one_default(alice: httpx2.AsyncClient) -> None:
    lab = {"type": "anthropic", "api_key": "a-secret", "headers": {"X-Team": "another-secret"}}
    shown = [await alice.put(LAB, json=lab), await alice.get("/api/v1/providers")]
    shown.append(await alice.patch(LAB, json={"display_name": "The lab"}))
    before = await listed(alice)

    for body, field in BAD_MODELS:
        refused(await alice.put(MODELS, json=NONE | body), field)
    for body, field in BAD_PROVIDERS:
        refused(await alice.patch(LAB, json=body), field)
    assert await listed(alice) == before

    made = (await alice.put(MODELS, json=NONE | {"model_id": "m"})).json()
    assert made["max_output_tokens"] == 32_000
    assert "reason" not in made, "it can be used"
    for body, field in BAD_MODELS[:-1]:
        refused(await alice.patch(f"{MODELS}/lab/m", json=body), field)
    assert (await listed(alice))["lab/m"] == made

    defaults: list[list[str]] = []
    for name in ("one", "two"):
        body = NONE | {"model_id": name, "make_default": True}
        assert (await alice.put(MODELS, json=body)).is_success
        defaults.append([n for n, one in (await listed(alice)).items() if one.get("is_default")])
    chat = (await alice.post(CHATS, json={"text": "hello"})).json()["chat"]
    assert (await alice.delete(f"{MODELS}/lab/two")).status_code == 204
    models = await listed(alice)
    defaults.append([name for name, one in models.items() if one.get("is_default")])
    assert defaults[:2] == [["lab/one"], ["lab/two"]]
    assert len(defaults[2]) == 1, "somebody else takes its place"
    assert chat["model"] == "lab/two"
    assert "lab/two" not in models
    now = (await alice.get(f"{CHATS}/{chat['id']}")).json()
    assert now["model"] == "lab/two", "until its next turn"
    gone = await alice.post(CHATS, json={"text": "hello", "model": "lab/two"})
    assert gone.json()["code"] == "unknown_model"

    for reply in shown:
        assert b"secret" not in reply.content
    patched = shown[-1].json()
    assert (patched["has_key"], patched["header_names"]) == (True, ["X-Team"])


async def test_the_database_itself_keeps_to_the_rules(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO providers (id, type, display_name) VALUES ('lab', 'demo', 'Lab')"
        )
        insert = (
            "INSERT INTO models (name, provider_id, model_id, display_name, context_limit, "
            "max_output_tokens, is_default, deleted_at) "
            "VALUES ($1, 'lab', $1, $1, $2, $3, $4, $5::timestamptz)"
        )
        await connection.execute(insert, "a", 1, 1, True, None)
        for context, output, default, deleted in (
            (1, 1, True, None),  # a second default
            (0, 1, False, None),
            (1, 0, False, None),
        ):
            with pytest.raises(asyncpg.IntegrityConstraintViolationError):
                await connection.execute(insert, "b", context, output, default, deleted)
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("UPDATE models SET deleted_at = now()")  # the default
    finally:
        await connection.close()
