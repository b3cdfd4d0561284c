"""Tokens, cookies and sign-in links."""

from __future__ import annotations

import re
import uuid

import httpx2
import pytest
from integration.gateway.driver import RunningGateway, RunningGateways, running_gateway
from integration.gateway.stand_in import StandInStore

from steersman.embedded.nats import NatsServer
from steersman_contracts.errors import Unavailable
from steersman_contracts.rpc.identity import AUTHENTICATE, REDEEM_SIGN_IN
from steersman_gateway.auth import COOKIE, digest


@pytest.fixture
def code(store: StandInStore) -> str:
    store.add_user("fresh-token")
    store.codes[digest("one-time")] = "fresh-token"
    return "one-time"


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Basic YTpi", "Bearer two words", "Bearer wrong", f"Bearer {'x' * 600}"],
)
async def test_no_token_or_a_wrong_one_is_refused(
    gateway: RunningGateways, store: StandInStore, header: str
) -> None:
    store.add_user("right")
    async with gateway.client() as client:
        reply = await client.get("/api/v1/me", headers={"Authorization": header})

    assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated")
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_wrong_token_is_not_asked_about_twice_in_a_row_nor_is_a_right_one(
    nats: NatsServer, store: StandInStore
) -> None:
    right, wrong = f"right-{uuid.uuid4()}", f"wrong-{uuid.uuid4()}"
    store.add_user(right)
    async with running_gateway(nats.url()) as gateway:
        authenticator = gateway.service.authenticator
        authenticator.known_s = authenticator.unknown_s = 600  # not only when five come in a row
        for token, status in ((right, 200), (wrong, 401)):
            async with gateway.client(token) as client:
                for _ in range(5):
                    assert (await client.get("/api/v1/me")).status_code == status
    digests = [request.token_digest for request in store.asked_for(AUTHENTICATE)]
    assert digests == [digest(right), digest(wrong)]


async def test_a_token_is_checked_before_the_body_is_looked_at(
    gateway: RunningGateways, store: StandInStore
) -> None:
    del store
    async with gateway.client("wrong") as client:
        reply = await client.post("/api/v1/chats", content=b"{" * 10_000)

    assert reply.status_code == 401


async def test_looking_at_a_sign_in_link_uses_nothing_up(
    gateway: RunningGateways, store: StandInStore, code: str
) -> None:
    async with gateway.client() as client:
        for _ in range(2):
            page = await client.get(f"/sign-in/{code}")
            assert page.status_code == 200
            assert '<form method="post">' in page.text

    assert store.asked_for(REDEEM_SIGN_IN) == []


async def test_a_sign_in_link_signs_a_browser_in_once(
    gateway: RunningGateways, store: StandInStore, code: str
) -> None:
    async with gateway.client() as client:
        done = await client.post(f"/sign-in/{code}", headers={"Sec-Fetch-Site": "same-origin"})

        assert (done.status_code, done.headers["Location"]) == (303, "/")
        cookie = done.headers["Set-Cookie"]
        assert cookie.startswith(f"{COOKIE}=fresh-token;")
        for attribute in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age="):
            assert attribute.lower() in cookie.lower()
        assert "secure" not in cookie.lower()  # plain http here
        assert (await client.get("/api/v1/me")).json()["name"] == "fresh-token"

        again = await client.post(f"/sign-in/{code}")
        assert again.status_code == 410
        assert "does not work any more" in again.text

    assert code not in str(store.asked)


async def test_a_foreign_page_cannot_sign_a_browser_in(
    gateway: RunningGateways, store: StandInStore, code: str
) -> None:
    async with gateway.client() as client:
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            reply = await client.post(f"/sign-in/{code}", headers=headers)
            assert reply.status_code == 403
            assert "Set-Cookie" not in reply.headers

    assert store.asked_for(REDEEM_SIGN_IN) == []


async def test_a_store_that_is_away_does_not_look_like_a_used_link(
    gateway: RunningGateways, store: StandInStore, code: str
) -> None:
    store.failures[REDEEM_SIGN_IN.name] = Unavailable("restarting")
    async with gateway.client() as client:
        reply = await client.post(f"/sign-in/{code}")

    assert reply.status_code == 503
    assert "still good" in reply.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Origin": "{own}"}, 201),
        ({"Sec-Fetch-Site": "same-site", "Origin": "{own}"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
async def test_a_cookie_changes_things_only_from_our_own_pages(
    gateway: RunningGateways, store: StandInStore, headers: dict[str, str], status: int
) -> None:
    store.add_user("of-a-browser")
    sent = {name: value.format(own=gateway.address) for name, value in headers.items()}
    async with gateway.client(Cookie=f"{COOKIE}=of-a-browser") as browser:
        assert (await browser.get("/api/v1/chats")).status_code == 200
        reply = await browser.post("/api/v1/chats", json={}, headers=sent)

    assert reply.status_code == status
    assert len(store.chats) == (status == 201)


async def test_pages_are_complete_in_themselves(
    gateway: RunningGateways, client: httpx2.AsyncClient
) -> None:
    for path in ("/", "/sign-in/anything", "/api/v1/docs"):
        page = await client.get(path)

        assert page.status_code == 200
        assert page.headers["Content-Type"].startswith("text/html")
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page.text)
        assert "@import" not in page.text
    landing = await client.get("/")
    assert 'href="/api/v1/docs"' in landing.text
    assert gateway.address in landing.text


async def test_one_line_is_logged_per_request_and_no_secret(
    replica: RunningGateway, store: StandInStore, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store.add_user("a-very-secret-token")
    async with replica.client("a-very-secret-token") as client:
        await client.post("/api/v1/chats", json={"text": "private words"})
        await client.post(f"/sign-in/{code}")
        await client.get("/livez")

    # Colours and padding depend on who configured logging in this process.
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    lines = [line + " " for line in printed.splitlines() if "request.finished" in line]
    assert len(lines) == 2
    assert "method=POST" in lines[0]
    assert "path=/api/v1/chats " in lines[0]
    assert "status=201" in lines[0]
    assert "duration_ms=" in lines[0]
    assert "path=/sign-in/{code} " in lines[1]
    for secret in ("a-very-secret-token", "private words", code, "fresh-token"):
        assert not any(secret in line for line in lines)
