"""Models, providers, usage and people over REST: what is asked of other services, and who may."""

from __future__ import annotations

from datetime import date
from typing import Any

import httpx2
import pytest
from integration.gateway.driver import RunningGateways
from integration.gateway.stand_in import StandInStore
from msgspec import UNSET

from steersman_contracts.errors import Conflict
from steersman_contracts.rpc import models, providers, usage, users

USER = "00000000-0000-4000-8000-000000000001"


async def test_a_patch_says_apart_what_is_left_out_and_what_is_taken_back(
    gateway: RunningGateways, store: StandInStore
) -> None:
    store.add_user("root", role="admin")
    settings = {"temperature": None, "options": {"store": False}}
    body = {"context_limit": None, "settings": settings, "version": 3}
    async with gateway.client("root") as root:
        model = await root.patch("/api/v1/models/lab/org/model:1", json=body)
        provider = await root.patch(
            "/api/v1/providers/lab", json={"api_key": None, "headers": {"X-A": None, "X-B": "b"}}
        )
        encoded = await root.delete("/api/v1/models/lab/org%2Fmodel")

    assert (model.status_code, provider.status_code, encoded.status_code) == (200, 200, 204)
    (asked,) = store.asked_for(models.PATCH_MODEL)
    assert (asked.name, asked.context_limit, asked.version) == ("lab/org/model:1", None, 3)
    assert (asked.display_name, asked.enabled, asked.settings) == (UNSET, UNSET, settings)
    (asked,) = store.asked_for(models.PATCH_PROVIDER)
    assert (asked.id, asked.api_key, asked.headers) == ("lab", None, {"X-A": None, "X-B": "b"})
    assert (asked.base_url, asked.type, asked.enabled) == (UNSET, UNSET, UNSET)
    assert [q.name for q in store.asked_for(models.DELETE_MODEL)] == ["lab/org/model"]


async def test_a_conflict_of_two_admins_is_a_409(
    gateway: RunningGateways, store: StandInStore
) -> None:
    store.add_user("root", role="admin")
    store.failures[models.PATCH_MODEL.name] = Conflict("changed", field="version", version=4)
    async with gateway.client("root") as root:
        reply = await root.patch("/api/v1/models/lab/m", json={"tools": False, "version": 3})

    problem = reply.json()
    assert (reply.status_code, problem["code"], problem["field"]) == (409, "conflict", "version")
    assert problem["details"] == {"version": 4}


async def test_usage_is_asked_for_by_everybody_within_bounds(
    client: httpx2.AsyncClient, store: StandInStore
) -> None:
    query = {"group_by": "model", "from": "2026-11-01", "to": "2026-11-30", "limit": "5"}
    reply = await client.get("/api/v1/usage", params=query)

    assert reply.json() == {"group_by": "model", "total": {"steps": 1}, "rows": []}
    (asked,) = store.asked_for(usage.GET_USAGE)
    assert (asked.group_by, asked.limit, asked.chat_id) == ("model", 5, None)
    assert (asked.first_day, asked.last_day) == (date(2026, 11, 1), date(2026, 11, 30))
    for wrong, field in (
        ({"group_by": "mood"}, "group_by"),
        ({"from": "yesterday"}, "from"),
        ({"limit": "0"}, "limit"),
    ):
        refused = await client.get("/api/v1/usage", params=wrong)
        assert (refused.status_code, refused.json().get("field")) == (400, field)
    assert (await client.get("/api/v1/usage", params={"chat_id": "x"})).status_code == 404


async def test_an_admin_adds_disables_and_lets_in_people(
    gateway: RunningGateways, store: StandInStore
) -> None:
    store.add_user("root", role="admin")
    async with gateway.client("root") as root:
        made = await root.post("/api/v1/users", json={"name": "Zoe"})
        listed = await root.get("/api/v1/users")
        changed = await root.patch(f"/api/v1/users/{USER}", json={"disabled": True})
        link = await root.post(f"/api/v1/users/{USER}/sign-in")
        unknown = await root.patch("/api/v1/users/zoe", json={"disabled": True})
        blank = await root.post("/api/v1/users", json={"name": " "})

    assert (made.status_code, made.json()["code"]) == (201, "a-code")
    assert made.headers["Location"] == f"/api/v1/users/{USER}"
    assert [user["name"] for user in listed.json()["users"]] == ["Zoe"]
    assert (changed.status_code, link.status_code, unknown.status_code) == (200, 200, 404)
    assert (blank.status_code, blank.json()["field"]) == (400, "name")
    (asked,) = store.asked_for(users.UPDATE_USER)
    assert (asked.user_id, asked.role, asked.disabled) == (USER, UNSET, True)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/models/lab/m", {"tools": False}),
        ("PUT", "/models", {"provider_id": "lab", "model_id": "m"}),
        ("DELETE", "/models/lab/m", None),
        ("POST", "/prices", None),
        ("PATCH", "/providers/lab", {"enabled": False}),
        ("GET", "/providers/lab/models", None),
        ("POST", "/users", {"name": "Zoe"}),
        ("GET", "/users", None),
        ("PATCH", f"/users/{USER}", {"disabled": True}),
        ("POST", f"/users/{USER}/sign-in", None),
    ],
)
async def test_members_administrate_nothing(
    client: httpx2.AsyncClient, store: StandInStore, method: str, path: str, body: Any
) -> None:
    reply = await client.request(method, f"/api/v1{path}", json=body)

    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    assert {name for name, _ in store.asked} <= {"identity.authenticate"}


async def test_what_a_provider_serves_is_asked_of_the_chatloop(
    gateway: RunningGateways, store: StandInStore
) -> None:
    store.add_user("root", role="admin")
    async with gateway.client("root") as root:
        reply = await root.get("/api/v1/providers/lab/models")
        unknown = await root.get("/api/v1/providers/No Such/models")

    assert reply.json() == {"availability": "fetch_failed", "reason": "It does not answer."}
    assert [q.provider_id for q in store.asked_for(providers.LIST_SERVED_MODELS)] == ["lab"]
    assert unknown.status_code == 404
