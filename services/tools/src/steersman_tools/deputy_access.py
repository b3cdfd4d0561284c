"""What a deputy in a container may do on NATS: answer for its own workspace, and nothing else.

The server asks this service about each connection that is none of the services' (authorization
callout). A deputy shows a token that only its workspace has; the answer is a signed list of its own
subjects. Nothing is stored, so any replica answers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from steersman_contracts import subjects
from steersman_contracts.errors import SteersmanError, Unavailable
from steersman_contracts.nkeys import account_key, is_user_key, signing_seed, token_key
from steersman_contracts.workspaces import WorkspaceId
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

_USER: Final = re.compile(r"deputy-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_QUEUE: Final = "tools"
_RESPONSES: Final = 100_000
_RESPOND_S: Final = 5 * 3600
"""As for services: frames and time of the longest call."""


class _Connecting(msgspec.Struct):
    user: str = ""
    password: str = msgspec.field(default="", name="pass")


class _Server(msgspec.Struct):
    id: str


class _Asked(msgspec.Struct):
    server: _Server = msgspec.field(name="server_id")
    user_key: str = msgspec.field(name="user_nkey")
    connecting: _Connecting = msgspec.field(name="connect_opts")


class _Request(msgspec.Struct):
    asked: _Asked = msgspec.field(name="nats")


_decode_request = msgspec.json.Decoder(_Request).decode


class Keys:
    """The issuer of rights, and the tokens of deputies. Both come from one secret."""

    def __init__(self, secret: str) -> None:
        """Derive them.

        Raises:
            ValueError: The secret is too short.
        """
        self._signing = Ed25519PrivateKey.from_private_bytes(signing_seed(secret))
        self._token_key = token_key(secret)
        self.issuer = account_key(self._signing.public_key().public_bytes_raw())

    def token(self, workspace_id: str) -> str:
        """What the deputy of a workspace shows."""
        return hmac.new(self._token_key, workspace_id.encode(), hashlib.sha256).hexdigest()

    def workspace_of(self, user: str, token: str) -> WorkspaceId | None:
        """Whose deputy somebody is; None: nobody's."""
        found = _USER.fullmatch(user)
        if found is None or not hmac.compare_digest(self.token(found[1]).encode(), token.encode()):
            return None
        return WorkspaceId(found[1])

    def signed(self, claims: Mapping[str, Any]) -> str:
        """A JWT as NATS writes them."""
        head = _segment({"typ": "JWT", "alg": "ed25519-nkey"})
        body = f"{head}.{_segment(claims)}"
        return f"{body}.{_base64(self._signing.sign(body.encode()))}"


def user_of(workspace_id: str) -> str:
    """The name under which a deputy connects."""
    return f"deputy-{workspace_id}"


def deputy_url(url: str, workspace_id: str, keys: Keys | None) -> str:
    """How a deputy reaches NATS: the servers of `url`, with its own credentials or none."""
    known = "" if keys is None else f"{user_of(workspace_id)}:{keys.token(workspace_id)}@"
    parts = [urlsplit(one.strip()) for one in url.split(",")]
    return ",".join(f"{one.scheme}://{known}{one.netloc.rpartition('@')[2]}" for one in parts)


def rights(workspace_id: str) -> dict[str, Any]:
    """What a deputy may do, as NATS writes it: answer on its own subjects, ask nobody."""
    return {
        "pub": {"deny": [">"]},
        "sub": {"allow": [subjects.deputy_methods(workspace_id)]},
        "resp": {"max": _RESPONSES, "ttl": _RESPOND_S * 1_000_000_000},
        "subs": 16,
        "data": -1,
        "payload": -1,
        "type": "user",
        "version": 2,
    }


def answer(keys: Keys, asked: _Asked, workspace_id: str | None, *, account: str, now: int) -> bytes:
    """What the server is told about a connection: rights, or that it has none."""
    said: dict[str, Any] = {"type": "authorization_response", "version": 2}
    if workspace_id is None:
        said["error"] = "not a deputy of a workspace that runs"
    else:
        said["jwt"] = keys.signed(
            {
                "jti": secrets.token_hex(16),
                "iat": now,
                "iss": keys.issuer,
                "sub": asked.user_key,
                "aud": account,
                "name": user_of(workspace_id),
                "nats": rights(workspace_id),
            }
        )
    claims = {
        "jti": secrets.token_hex(16),
        "iat": now,
        "iss": keys.issuer,
        "sub": asked.user_key,
        "aud": asked.server.id,
        "nats": said,
    }
    return keys.signed(claims).encode()


def read_request(payload: bytes) -> _Asked:
    """What the server asks. It is the server that asks: only it can publish there.

    Raises:
        ValueError: It is no such request.
    """
    try:
        body = payload.split(b".")[1]
        asked = _decode_request(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4))).asked
    except (IndexError, msgspec.DecodeError, ValueError) as error:
        raise ValueError("not a request for authorization") from error
    if not is_user_key(asked.user_key):
        raise ValueError("not the key of a user")
    return asked


class DeputyAccess:
    """Answers the server's questions about connections of deputies."""

    def __init__(
        self,
        client: NatsClient,
        keys: Keys,
        *,
        account: str,
        runs: Callable[[WorkspaceId], Awaitable[bool]],
    ) -> None:
        """Prepare to answer.

        Args:
            client: A connection of the account that the server asks.
            keys: Of this deployment.
            account: Its name, in which deputies end up.
            runs: Whether a workspace is one that has a container.
        """
        self._client = client
        self._keys = keys
        self._account = account
        self._runs = runs
        self._answers = TaskGroup("deputy-access")

    def open(self) -> int:
        """Begin to answer; `close` takes the number."""
        return self._client.listen(subjects.CONNECTIONS, self._on_request, queue=_QUEUE)

    async def close(self, number: int) -> None:
        """Answer no more."""
        self._client.unlisten(number)
        await self._answers.cancel()

    def _on_request(self, _: bytes, reply: bytes, __: bytes, payload: bytes) -> None:
        self._answers.start(self._answer(reply.decode(), payload))

    async def _answer(self, reply: str, payload: bytes) -> None:
        try:
            asked = read_request(payload)
        except ValueError as error:
            log.warning("deputy.unreadable_request", error=str(error))
            return
        connecting = asked.connecting
        workspace_id = self._keys.workspace_of(connecting.user, connecting.password)
        try:
            if workspace_id is not None and not await self._runs(workspace_id):
                workspace_id = None
        except SteersmanError as error:
            # No answer: the server refuses after a while, and the deputy tries again.
            log.warning("deputy.not_checked", error_code=error.code)
            return
        if workspace_id is None:
            log.warning("deputy.refused", user=connecting.user[:100])
        told = answer(self._keys, asked, workspace_id, account=self._account, now=int(time.time()))
        try:
            self._client.send(reply, told)
        except Unavailable as error:
            log.info("deputy.answer_lost", error_code=error.code)


def _segment(value: Mapping[str, Any]) -> str:
    return _base64(msgspec.json.encode(value))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
