"""MCP servers that people add: who may use which, and what a tools service needs to reach them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from steersman_contracts.ids import ChatId, UserId, Uuid
from steersman_contracts.rpc import Actor, Method, Nothing

McpTransport: TypeAlias = Literal["http", "sse", "stdio"]
"""Streamable HTTP, HTTP with server-sent events as before 2025, or a process."""
McpAuth: TypeAlias = Literal["none", "api_key", "headers", "oauth"]
McpAvailability: TypeAlias = Literal["force_on", "default_on", "default_off"]
"""In every chat; in chats that choose nothing, and those that choose it; only in the latter."""
McpLogin: TypeAlias = Literal["not_needed", "needed", "done", "expired"]

# Without "__" and an underscore at the end, no two servers can come to the same tool name.
McpSlug = Annotated[
    str, msgspec.Meta(pattern=r"^(?!.*__)[a-z0-9](?:[a-z0-9_-]{0,19}[a-z0-9-])?$(?!\n)")
]
McpUrl = Annotated[str, msgspec.Meta(max_length=2_000, pattern=r"^https?://[^\s]+$(?!\n)")]
McpName = Annotated[str, msgspec.Meta(max_length=100)]
HeaderName = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
McpSecret = Annotated[str, msgspec.Meta(min_length=1, max_length=8_192)]
McpValues: TypeAlias = Annotated[dict[str, str], msgspec.Meta(max_length=32)]
Patterns = Annotated[
    tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=256)], ...],
    msgspec.Meta(max_length=200),
]
Words = Annotated[
    tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)], ...],
    msgspec.Meta(max_length=200),
]
CallTimeout = Annotated[float, msgspec.Meta(ge=1, le=3_600)]
Version = Annotated[int, msgspec.Meta(ge=1)]

MAX_CHOSEN: Final = 50
"""Servers that one chat can choose."""
Chosen: TypeAlias = Annotated[tuple[Uuid, ...], msgspec.Meta(max_length=MAX_CHOSEN)]


class McpServer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A server as those see it who may use it: never with a secret."""

    id: Uuid
    slug: McpSlug
    """The tools are `slug__tool`."""
    name: str
    transport: McpTransport
    shared: bool
    """An administrator has added it for everybody; otherwise it is yours alone."""
    created_at: datetime
    version: int
    url: str | None = None
    command: tuple[str, ...] = ()
    """Of a process; shown to administrators."""
    auth: McpAuth = "none"
    header: str = "Authorization"
    """Which header carries the key; `Authorization` gets `Bearer ` before it."""
    header_names: tuple[str, ...] = ()
    env_names: tuple[str, ...] = ()
    has_secret: bool = False
    oauth_client_id: str | None = None
    oauth_scope: str | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    availability: McpAvailability = "default_on"
    needs_approval: bool = False
    call_timeout_s: float = 120.0
    enabled: bool = True
    read_only: tuple[str, ...] = ()
    """Patterns of its tools that change nothing anywhere, as whoever added it says."""
    login: McpLogin = "not_needed"
    """Whether you have to sign in there; `expired` means again."""
    problem: str | None = None
    """Why its tools were missing when it was last tried."""


class McpSettings(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What describes a server, on creation."""

    slug: McpSlug
    name: McpName = ""
    transport: McpTransport = "http"
    url: McpUrl | None = None
    """Of `http` and `sse`."""
    command: Words = ()
    """Of `stdio`: a process on the machine of the tools service. Admins only."""
    env: McpValues | None = None
    """Of `stdio`; stored encrypted."""
    auth: McpAuth = "none"
    api_key: McpSecret | None = None
    header: HeaderName = "Authorization"
    headers: McpValues | None = None
    """With `auth` `headers`; stored encrypted."""
    oauth_client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)] | None = None
    """For sign-in servers that register nobody by themselves."""
    oauth_client_secret: McpSecret | None = None
    oauth_scope: Annotated[str, msgspec.Meta(max_length=1_000)] | None = None
    allow: Patterns = ()
    """Patterns of the server's own tool names; none is all of them."""
    deny: Patterns = ()
    """Wins over `allow`."""
    availability: McpAvailability = "default_on"
    needs_approval: bool = False
    """A person is asked before each call of each of its tools."""
    call_timeout_s: CallTimeout = 120.0
    enabled: bool = True
    read_only: Patterns = ()
    """Patterns of tools that change nothing anywhere: they may run in plan mode, and twice."""


class McpChanges(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What changes; the rest stays. The transport and whose it is never change."""

    slug: McpSlug | UnsetType = UNSET
    name: McpName | UnsetType = UNSET
    url: McpUrl | UnsetType = UNSET
    command: Words | UnsetType = UNSET
    env: McpValues | UnsetType | None = UNSET
    auth: McpAuth | UnsetType = UNSET
    api_key: McpSecret | UnsetType | None = UNSET
    header: HeaderName | UnsetType = UNSET
    headers: McpValues | UnsetType | None = UNSET
    oauth_client_id: Annotated[str, msgspec.Meta(max_length=512)] | UnsetType | None = UNSET
    oauth_client_secret: McpSecret | UnsetType | None = UNSET
    oauth_scope: Annotated[str, msgspec.Meta(max_length=1_000)] | UnsetType | None = UNSET
    allow: Patterns | UnsetType = UNSET
    deny: Patterns | UnsetType = UNSET
    availability: McpAvailability | UnsetType = UNSET
    needs_approval: bool | UnsetType = UNSET
    call_timeout_s: CallTimeout | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    read_only: Patterns | UnsetType = UNSET


class ListMcpServers(msgspec.Struct, frozen=True):
    """The actor's own and those of the deployment."""

    actor: Actor


class McpServerList(msgspec.Struct, frozen=True):
    """Those of the deployment first, then by slug."""

    servers: tuple[McpServer, ...]


class CreateMcpServer(msgspec.Struct, frozen=True):
    """Add a server: for the actor, or for everybody (admins only)."""

    actor: Actor
    settings: McpSettings
    shared: bool = False


class ChangeMcpServer(msgspec.Struct, frozen=True):
    """Change one; another host needs its secrets anew."""

    actor: Actor
    server_id: Uuid
    changes: McpChanges
    version: int | None = None
    """Refuse with a conflict if it is no longer at this version."""


class DeleteMcpServer(msgspec.Struct, frozen=True):
    """Remove one, with everything that was stored for it."""

    actor: Actor
    server_id: Uuid


class ServersOfChat(msgspec.Struct, frozen=True):
    """Which servers a chat may use now; asked by the tools service."""

    chat_id: ChatId


class ChatServer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A server that a chat may use."""

    id: Uuid
    version: int
    slug: str
    account: UserId | None = None
    """Whose sign-in is used; None where everybody is the same to the server."""
    login: McpLogin = "not_needed"
    """With `needed` and `expired` it cannot be used before the owner has signed in."""
    shared: bool = False
    """It is one of the deployment."""


class ChatServers(msgspec.Struct, frozen=True):
    """In the order in which they are offered: those of the deployment first."""

    servers: tuple[ChatServer, ...]


class OpenMcpServer(msgspec.Struct, frozen=True):
    """How to reach a server, with its secrets; asked by the tools service alone."""

    server_id: Uuid
    actor: Actor | None = None
    """Only if this person may use it."""


class OpenedServer(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is needed to connect."""

    id: Uuid
    version: int
    slug: str
    transport: McpTransport
    trusted: bool
    """An administrator has added it: it may be anywhere, also inside of the network."""
    url: str | None = None
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    headers: dict[str, str] = {}
    """Sent with every request: the key, or the headers that were given."""
    oauth: bool = False
    oauth_client_id: str | None = None
    oauth_client_secret: str | None = None
    oauth_scope: str | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    needs_approval: bool = False
    call_timeout_s: float = 120.0
    read_only: tuple[str, ...] = ()


class ReportMcpServer(msgspec.Struct, frozen=True):
    """How it went when a server was tried."""

    server_id: Uuid
    version: int
    problem: Annotated[str, msgspec.Meta(max_length=500)] | None
    """None when it answers."""
    account: UserId | None = None
    """Whose sign-in was used: what is wrong with it is nobody else's business."""


class PendingLogin(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sign-in that was begun: what is needed to finish it."""

    verifier: str
    redirect_uri: str
    client_id: str
    token_endpoint: str
    client_secret: str | None = None
    auth_method: str | None = None
    resource: str | None = None
    scope: str | None = None
    issuer: str | None = None
    issuer_is_told: bool = False
    """The answer has to name the issuer (RFC 9207)."""


class BeginLogin(msgspec.Struct, frozen=True):
    """Keep a sign-in until the person comes back from the server."""

    server_id: Uuid
    user_id: UserId
    state: str
    """Hex SHA-256 of the state; good once."""
    pending: PendingLogin
    valid_s: float


class TakeLogin(msgspec.Struct, frozen=True):
    """The person is back. Nobody else can finish it, and nobody can do so twice."""

    user_id: UserId
    state: str


class TakenLogin(msgspec.Struct, frozen=True):
    """What was kept."""

    server: OpenedServer
    pending: PendingLogin


class Tokens(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one person holds at one server, and how to renew it."""

    access_token: str
    client_id: str
    token_endpoint: str
    refresh_token: str | None = None
    client_secret: str | None = None
    auth_method: str | None = None
    resource: str | None = None
    scope: str | None = None


class PutTokens(msgspec.Struct, frozen=True, omit_defaults=True):
    """Store what a server has given; ends a renewal."""

    server_id: Uuid
    user_id: UserId
    tokens: Tokens
    expires_in_s: float | None = None
    generation: int | None = None
    """Of the token that was renewed: without it this is a new sign-in."""


class GetTokens(msgspec.Struct, frozen=True, omit_defaults=True):
    """Read a token; or ask for the right to renew it, which one process at a time gets."""

    server_id: Uuid
    user_id: UserId
    renew: int | None = None
    """The generation that does not do any more."""


class HeldTokens(msgspec.Struct, frozen=True, omit_defaults=True):
    """The token as it is now."""

    tokens: Tokens | None
    """None: there is no sign-in, or it has expired."""
    generation: int = 0
    left_s: float | None = None
    """Until the access token expires; None: nobody said."""
    renew: bool = False
    """The caller has to renew it, within half a minute; else somebody else does."""


class EndTokens(msgspec.Struct, frozen=True):
    """A renewal has failed: for good, or for now."""

    server_id: Uuid
    user_id: UserId
    generation: int
    expired: bool
    """The server does not want this sign-in any more: the person has to come again."""


class SignOut(msgspec.Struct, frozen=True):
    """Forget what the actor holds at a server."""

    actor: Actor
    server_id: Uuid


class GetMcpServer(msgspec.Struct, frozen=True):
    """One server, if the actor may use it."""

    actor: Actor
    server_id: Uuid


LIST_MCP_SERVERS: Final = Method("store", "mcp.list", ListMcpServers, McpServerList, safe=True)
CREATE_MCP_SERVER: Final = Method("store", "mcp.create", CreateMcpServer, McpServer)
CHANGE_MCP_SERVER: Final = Method("store", "mcp.change", ChangeMcpServer, McpServer)
DELETE_MCP_SERVER: Final = Method("store", "mcp.delete", DeleteMcpServer, Nothing)
SERVERS_OF_CHAT: Final = Method("store", "mcp_book.of_chat", ServersOfChat, ChatServers, safe=True)
OPEN_MCP_SERVER: Final = Method("store", "mcp_book.open", OpenMcpServer, OpenedServer, safe=True)
REPORT_MCP_SERVER: Final = Method("store", "mcp_book.report", ReportMcpServer, Nothing, safe=True)
GET_MCP_SERVER: Final = Method("store", "mcp.get", GetMcpServer, McpServer, safe=True)
SIGN_OUT: Final = Method("store", "mcp.sign_out", SignOut, McpServer, safe=True)
BEGIN_LOGIN: Final = Method("store", "mcp_book.begin_login", BeginLogin, Nothing)
TAKE_LOGIN: Final = Method("store", "mcp_book.take_login", TakeLogin, TakenLogin)
GET_TOKENS: Final = Method("store", "mcp_book.get_tokens", GetTokens, HeldTokens)
PUT_TOKENS: Final = Method("store", "mcp_book.put_tokens", PutTokens, Nothing)
END_TOKENS: Final = Method("store", "mcp_book.end_tokens", EndTokens, Nothing, safe=True)
