"""An MCP server behind a strict OAuth 2.1 server: what is not as the specification says fails."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit


@dataclass
class Answer:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


class SignInServer:
    """State that a test looks at, and changes."""

    def __init__(self) -> None:
        self.url = ""
        self.clients: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.access: set[str] = set()
        self.refresh: set[str] = set()
        self.wrong: list[str] = []
        """What was asked of it that it should never have been."""
        self.renewals = 0
        self.renewing = asyncio.Event()
        self.renewing.set()
        self.expires_in = 3600

    def over(self) -> None:
        """All access tokens are over."""
        self.access.clear()

    def forget(self) -> None:
        """Nobody is signed in any more."""
        self.access.clear()
        self.refresh.clear()

    async def answer(self, request: Request) -> Answer:
        match request.method, request.path:
            case "POST", "/mcp":
                return self._mcp(request)
            case "GET", "/.well-known/oauth-protected-resource/mcp":
                return Answer(
                    200, {"resource": f"{self.url}/mcp", "authorization_servers": [self.url]}
                )
            case "GET", "/.well-known/oauth-authorization-server":
                return Answer(200, self._metadata())
            case "POST", "/register":
                return self._register(json.loads(request.body))
            case "GET", "/authorize":
                return self._authorize(request.query)
            case "POST", "/token":
                return await self._token(request)
            case _:
                return Answer(405 if request.path == "/mcp" else 404)

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "registration_endpoint": f"{self.url}/register",
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def _register(self, asked: dict[str, Any]) -> Answer:
        if set(asked["grant_types"]) != {"authorization_code", "refresh_token"}:
            return self._no("registration")
        client_id, secret = secrets.token_hex(8), secrets.token_urlsafe(16)
        how = {"client_secret": secret, "token_endpoint_auth_method": "client_secret_basic"}
        self.clients[client_id] = {**asked, **how}
        return Answer(201, {**asked, **how, "client_id": client_id})

    def _authorize(self, query: dict[str, str]) -> Answer:
        client = self.clients.get(query.get("client_id", ""))
        if (
            client is None
            or [query.get("redirect_uri")] != client["redirect_uris"]
            or query.get("response_type") != "code"
            or query.get("code_challenge_method") != "S256"
            or query.get("resource") != f"{self.url}/mcp"
            or query.get("scope") != "tools"
            or len(query.get("state", "")) < 32
        ):
            return self._no("authorize")
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        back = urlencode({"code": code, "state": query["state"], "iss": self.url})
        return Answer(302, headers={"location": f"{query['redirect_uri']}?{back}"})

    async def _token(self, request: Request) -> Answer:
        form = request.form
        client_id = form.get("client_id", "")
        client = self.clients.get(client_id)
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        name, _, secret = base64.b64decode(given).decode().partition(":")
        if client is None or (kind, unquote(name)) != ("Basic", client_id):
            return self._no("client")
        if unquote(secret) != client["client_secret"] or form.get("resource") != f"{self.url}/mcp":
            return self._no("secret or resource")
        if form.get("grant_type") == "refresh_token":
            self.renewals += 1
            await self.renewing.wait()
            if form.get("refresh_token") not in self.refresh:
                return Answer(400, {"error": "invalid_grant"})
            self.refresh.discard(form["refresh_token"])
            return self._tokens()
        asked = self.codes.pop(form.get("code", ""), None)
        proof = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(proof).decode().rstrip("=")
        if (
            asked is None
            or asked["client_id"] != client_id
            or asked["code_challenge"] != challenge
            or asked["redirect_uri"] != form.get("redirect_uri")
        ):
            return self._no("code")
        return self._tokens()

    def _tokens(self) -> Answer:
        access, refresh = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        self.access.add(access)
        self.refresh.add(refresh)
        body = {"access_token": access, "token_type": "Bearer", "refresh_token": refresh}
        return Answer(200, {**body, "expires_in": self.expires_in})

    def _no(self, what: str) -> Answer:
        self.wrong.append(what)
        return Answer(400, {"error": "invalid_request"})

    def _mcp(self, request: Request) -> Answer:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.access:
            hint = f"{self.url}/.well-known/oauth-protected-resource/mcp"
            challenge = f'Bearer resource_metadata="{hint}", scope="tools"'
            return Answer(401, headers={"www-authenticate": challenge})
        message = json.loads(request.body)
        if "id" not in message:
            return Answer(202)
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        result = _RESULTS.get(message["method"])
        if result is None:
            reply["error"] = {"code": -32601, "message": "unknown"}
        else:
            reply["result"] = result
        return Answer(200, reply)


_RESULTS: dict[str, Any] = {
    "initialize": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "behind", "version": "1"},
    },
    "tools/list": {
        "tools": [{"name": "who", "description": "Who.", "inputSchema": {"type": "object"}}]
    },
    "tools/call": {"content": [{"type": "text", "text": "alice"}]},
}


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return Request(method, parts.path, query, headers, body)


@asynccontextmanager
async def sign_in_server() -> AsyncGenerator[SignInServer]:
    """Run one on a loopback port; nothing wrong may have been asked of it in the end."""
    server = SignInServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await server.answer(await _read(reader))
            body = b"" if answer.body is None else json.dumps(answer.body).encode()
            head = [f"HTTP/1.1 {answer.status} X", f"content-length: {len(body)}"]
            head += ["content-type: application/json", "connection: close"]
            head += [f"{name}: {value}" for name, value in answer.headers.items()]
            writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
    assert server.wrong == []
