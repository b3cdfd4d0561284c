"""MCP servers over REST, and the page to which a person comes back from signing in at one."""

from __future__ import annotations

import httpx2
import pytest
from integration.gateway.driver import RunningGateway
from integration.gateway.stand_in import MCP_ID, StandInStore

from steersman_contracts.errors import Conflict, NotFound
from steersman_contracts.rpc.mcp import CHANGE_MCP_SERVER, CREATE_MCP_SERVER
from steersman_contracts.rpc.tools import ASK_PLUGIN
from steersman_gateway.auth import COOKIE

PAGE = "/mcp-login?state=s-1&code=c-1&iss=https://there.example"
OURS = {"Sec-Fetch-Site": "same-origin"}


async def test_servers_are_added_and_changed_by_name(
    client: httpx2.AsyncClient, store: StandInStore
) -> None:
    made = await client.post(
        "/api/v1/mcp-servers", json={"slug": "wiki", "url": "https://w.example", "deny": ["x*"]}
    )
    changed = await client.patch(
        f"/api/v1/mcp-servers/{MCP_ID}", json={"enabled": False, "read_only": ["get_*"]}
    )
    unknown = await client.post("/api/v1/mcp-servers", json={"slug": "wiki", "key": "k"})
    bad = await client.post("/api/v1/mcp-servers", json={"slug": "a__b"})
    nowhere = await client.delete("/api/v1/mcp-servers/no-uuid")

    assert (made.status_code, made.json()["slug"]) == (201, "wiki")
    assert changed.status_code == 200
    assert (unknown.status_code, unknown.json()["field"]) == (400, "key")
    assert (bad.status_code, bad.json()["field"]) == (400, "slug")
    assert nowhere.status_code == 404
    (created,) = store.asked_for(CREATE_MCP_SERVER)
    assert (created.settings.deny, created.shared) == (("x*",), False)
    (change,) = store.asked_for(CHANGE_MCP_SERVER)
    assert (change.changes.enabled, change.changes.read_only) == (False, ("get_*",))


async def test_a_sign_in_comes_back_to_where_it_was_asked_for(client: httpx2.AsyncClient) -> None:
    begun = await client.post(f"/api/v1/mcp-servers/{MCP_ID}/login")

    assert begun.status_code == 200
    assert begun.json()["url"] == f"https://there.example?back={client.base_url}/mcp-login"


async def test_opening_the_page_finishes_nothing_and_its_button_does(
    gateway: RunningGateway, store: StandInStore
) -> None:
    actor = store.add_user("here")
    async with gateway.client() as browser:
        browser.cookies.set(COOKIE, "here")
        looked = await browser.get(PAGE)
        nothing = list(store.asked_for(ASK_PLUGIN))
        done = await browser.post(PAGE, headers=OURS)

    assert (looked.status_code, nothing) == (200, [])
    assert '<form method="post">' in looked.text
    assert "c-1" not in looked.text
    assert (done.status_code, "You are signed in" in done.text) == (200, True)
    (asked,) = store.asked_for(ASK_PLUGIN)
    assert asked.actor == actor
    assert asked.body == {"state": "s-1", "code": "c-1", "issuer": "https://there.example"}


@pytest.mark.parametrize(
    ("cookie", "site", "status"),
    [("", "same-origin", 401), ("here", "cross-site", 401), ("wrong", "same-origin", 401)],
)
async def test_a_browser_that_is_nobody_here_finishes_nothing(
    gateway: RunningGateway, store: StandInStore, cookie: str, site: str, status: int
) -> None:
    store.add_user("here")
    async with gateway.client() as browser:
        if cookie:
            browser.cookies.set(COOKIE, cookie)
        reply = await browser.post(PAGE, headers={"Sec-Fetch-Site": site})

    assert reply.status_code == status
    assert "steersman mcp login" in reply.text
    assert store.asked_for(ASK_PLUGIN) == []


async def test_a_sign_in_that_failed_says_so(gateway: RunningGateway, store: StandInStore) -> None:
    store.add_user("here")
    async with gateway.client() as browser:
        browser.cookies.set(COOKIE, "here")
        refused = await browser.get("/mcp-login?error=access_denied&state=s-1")
        store.failures[ASK_PLUGIN.name] = NotFound("not yours")
        gone = await browser.post(PAGE, headers=OURS)
        store.failures[ASK_PLUGIN.name] = Conflict("it says no")
        no = await browser.post(PAGE, headers=OURS)

    assert (refused.status_code, gone.status_code, no.status_code) == (400, 410, 409)
    assert "<form" not in refused.text
