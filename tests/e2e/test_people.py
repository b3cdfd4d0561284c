"""A second person in a whole deployment: gets in by a link, and sees nothing of the first's."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
from support.deployment import Deployment


def client(deployment: Deployment, **headers: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=deployment.url, headers=headers, timeout=30)


async def at_rest(http: httpx2.AsyncClient, chat_id: str) -> Any:
    """Watch the chat until its turn has ended; the chat as it is then."""
    async with asyncio.timeout(60), http.stream("GET", f"/api/v1/chats/{chat_id}/events") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data:") and '"status":"waiting"' in line.replace(" ", ""):
                break
    return (await http.get(f"/api/v1/chats/{chat_id}")).json()


async def test_a_second_user_cannot_see_the_chats_of_the_first(deployment: Deployment) -> None:
    async with (
        client(deployment, Authorization=f"Bearer {deployment.token}") as admin,
        client(deployment, **{"Sec-Fetch-Site": "same-origin"}) as zoe,
    ):
        started = await admin.post("/api/v1/chats", json={"text": "mine", "model": "demo/echo"})
        chat_id = started.json()["chat"]["id"]
        done = await at_rest(admin, chat_id)
        assert (done.get("cost_micros", 0), done.get("cost_unknown_steps", 0)) == (0, 0)

        made = await admin.post("/api/v1/users", json={"name": "Zoe"})
        assert made.status_code == 201, made.text
        assert (await zoe.get("/api/v1/me")).status_code == 401
        signed_in = await zoe.post(f"/sign-in/{made.json()['code']}")
        assert signed_in.status_code == 303, signed_in.text
        assert (await zoe.get("/api/v1/me")).json()["name"] == "Zoe"

        for method, path in (
            ("GET", ""),
            ("GET", "/messages"),
            ("GET", "/events"),
            ("DELETE", ""),
            ("POST", "/interrupt"),
        ):
            answer = await zoe.request(method, f"/api/v1/chats/{chat_id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        assert (await zoe.get("/api/v1/chats")).json()["chats"] == []
        query = {"group_by": "chat", "chat_id": chat_id}
        assert (await zoe.get("/api/v1/usage", params=query)).json()["rows"] == []
        (row,) = (await admin.get("/api/v1/usage", params=query)).json()["rows"]
        assert (row["key"], row["steps"]) == (chat_id, 1)
        for address in ("/api/v1/users", "/api/v1/providers/demo/models"):
            assert (await zoe.get(address)).status_code == 403

        own = await zoe.post("/api/v1/chats", json={"text": "hers", "model": "demo/echo"})
        assert own.status_code == 201, own.text
        assert (await admin.get(f"/api/v1/chats/{own.json()['chat']['id']}")).status_code == 404


async def test_a_model_is_changed_in_part_and_only_on_what_was_read(
    deployment: Deployment,
) -> None:
    async with client(deployment, Authorization=f"Bearer {deployment.token}") as admin:
        body = {"type": "openai-chat", "base_url": "http://127.0.0.1:9/v1"}
        assert (await admin.put("/api/v1/providers/shelf", json=body)).status_code == 200
        model = {"provider_id": "shelf", "model_id": "org/model"}
        made = await admin.put("/api/v1/models", json=model)
        version = made.json().get("version", 1)
        address = "/api/v1/models/shelf/org/model"
        wrong = await admin.patch(address, json={"settings": {"temperature": 9}})
        right = await admin.patch(
            address, json={"settings": {"temperature": 1}, "version": version}
        )
        late = await admin.patch(address, json={"tools": False, "version": version})
        served = await admin.get("/api/v1/providers/shelf/models")
        gone = await admin.delete(address)
        assert (await admin.delete("/api/v1/providers/shelf")).status_code == 204

    assert (wrong.status_code, wrong.json()["field"]) == (400, "settings.temperature")
    assert right.json()["settings"] == {"temperature": 1.0}
    assert (late.status_code, late.json()["code"]) == (409, "conflict")
    assert served.json()["availability"] == "fetch_failed"
    assert gone.status_code == 204
