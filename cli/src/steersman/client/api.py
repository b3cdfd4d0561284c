"""The public API as typed calls."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Literal, Self

from steersman.client.exchange import Exchange
from steersman.client.stream import Interruption, Received, follow
from steersman_contracts.chats import Chat, Message
from steersman_contracts.ids import ChatId, MessageId
from steersman_contracts.rest import (
    ChatList,
    CreateChatBody,
    Me,
    MessageList,
    Models,
    Providers,
    PutModelBody,
    PutProviderBody,
    SendMessageBody,
    UpdateChatBody,
    Version,
)
from steersman_contracts.rpc.chats import SendReply
from steersman_contracts.rpc.desktop import Desktop
from steersman_contracts.rpc.models import Model, Provider
from steersman_contracts.rpc.tools import Catalog, PluginList, PluginReport


class Client:
    """One user's access to a Steersman.

    Use it as a context manager. Methods raise `ApiProblem` when the API refuses, `Unreachable` when
    nothing answers, and `UnexpectedAnswer` when something else than the API does.

    Args:
        url: Where the gateway is, such as `http://127.0.0.1:8700`.
        token: A bearer token.
        patience_s: How long requests that may be repeated safely are, when nothing answers or the
            server asks for a moment.
        verify: TLS settings where the system's own do not do.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience_s: float = 0.0,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._exchange = Exchange(url, token, patience_s=patience_s, verify=verify)
        self.url = self._exchange.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._exchange.aclose()

    @property
    def patience_s(self) -> float:
        """How long a request that may be repeated is, before it gives up."""
        return self._exchange.patience_s

    @patience_s.setter
    def patience_s(self, value: float) -> None:
        self._exchange.patience_s = value

    # -- about -----------------------------------------------------------------------------------

    async def version(self) -> Version:
        """What runs there. Needs no valid token."""
        return await self._exchange.get("/version", Version)

    async def me(self) -> Me:
        """Whose token this is."""
        return await self._exchange.get("/me", Me)

    async def tools(self) -> Catalog:
        """The tools that models may call."""
        return await self._exchange.get("/tools", Catalog)

    # -- chats -----------------------------------------------------------------------------------

    async def create_chat(self, body: CreateChatBody) -> SendReply:
        """Create a chat; with text its first turn starts. A `client_key` makes it repeatable."""
        return await self._exchange.call(
            "POST", "/chats", SendReply, body, repeatable=body.client_key is not None
        )

    async def list_chats(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        archived: Literal["false", "true", "any"] = "false",
    ) -> ChatList:
        """A page of chats, the most recently changed first."""
        return await self._exchange.get(
            "/chats", ChatList, limit=limit, cursor=cursor, archived=archived
        )

    async def get_chat(self, chat_id: ChatId) -> Chat:
        """One chat, without its messages."""
        return await self._exchange.get(f"/chats/{chat_id}", Chat)

    async def update_chat(self, chat_id: ChatId, body: UpdateChatBody) -> Chat:
        """Change title, model or system prompt."""
        return await self._exchange.call("PATCH", f"/chats/{chat_id}", Chat, body, repeatable=True)

    async def delete_chat(self, chat_id: ChatId) -> None:
        """Remove a chat for good."""
        await self._exchange.delete(f"/chats/{chat_id}")

    async def interrupt(self, chat_id: ChatId) -> Chat:
        """End the running turn early; what it produced stays."""
        return await self._exchange.call(
            "POST", f"/chats/{chat_id}/interrupt", Chat, repeatable=True
        )

    async def list_messages(
        self,
        chat_id: ChatId,
        *,
        limit: int = 50,
        before_id: int | None = None,
        after_id: int | None = None,
        after_revision: int | None = None,
    ) -> MessageList:
        """A page of the history, oldest first; the newest one unless a position is given."""
        return await self._exchange.get(
            f"/chats/{chat_id}/messages",
            MessageList,
            limit=limit,
            before_id=before_id,
            after_id=after_id,
            after_revision=after_revision,
        )

    async def get_message(self, chat_id: ChatId, message_id: MessageId) -> Message | None:
        """One message in full; events leave out parts that are too large for the log."""
        page = await self.list_messages(chat_id, limit=1, after_id=message_id - 1)
        return next((found for found in page.messages if found.id == message_id), None)

    async def send_message(self, chat_id: ChatId, body: SendMessageBody) -> SendReply:
        """Start a turn or join the queue. A `client_key` makes it repeatable."""
        path = f"/chats/{chat_id}/messages"
        return await self._exchange.call(
            "POST", path, SendReply, body, repeatable=body.client_key is not None
        )

    async def get_desktop(self, chat_id: ChatId) -> Desktop:
        """The chat's virtual desktop."""
        return await self._exchange.get(f"/chats/{chat_id}/desktop", Desktop)

    # -- models ----------------------------------------------------------------------------------

    async def list_models(self) -> tuple[Model, ...]:
        """Enabled models of enabled providers, by name."""
        return (await self._exchange.get("/models", Models)).models

    async def put_model(self, body: PutModelBody) -> Model:
        """Add a model to a provider, or replace it. Admins only."""
        return await self._exchange.call("POST", "/models", Model, body, repeatable=True)

    async def list_providers(self) -> tuple[Provider, ...]:
        """All providers, never with their keys."""
        return (await self._exchange.get("/providers", Providers)).providers

    async def put_provider(self, provider_id: str, body: PutProviderBody) -> Provider:
        """Add a provider, or replace it. Admins only."""
        path = f"/providers/{provider_id}"
        return await self._exchange.call("PUT", path, Provider, body, repeatable=True)

    async def delete_provider(self, provider_id: str) -> None:
        """Remove a provider and its models. Admins only."""
        await self._exchange.delete(f"/providers/{provider_id}")

    # -- plugins ---------------------------------------------------------------------------------

    async def list_plugins(self) -> tuple[PluginReport, ...]:
        """Every plugin and tool host that was found. Admins only."""
        return (await self._exchange.get("/plugins", PluginList)).plugins

    async def reload_plugins(self) -> tuple[PluginReport, ...]:
        """Load all plugins anew; running calls finish on the old code. Admins only."""
        reply = await self._exchange.call("POST", "/plugins/reload", PluginList, repeatable=True)
        return reply.plugins

    # -- events ----------------------------------------------------------------------------------

    def events(
        self,
        chat_id: ChatId,
        *,
        cursor: str | None = None,
        snapshot: bool = True,
        deltas: bool = True,
        types: tuple[str, ...] | None = None,
        on_interruption: Callable[[Interruption], None] | None = None,
    ) -> AsyncGenerator[Received]:
        """The events of a chat, for as long as it exists; close the generator to stop.

        Connects again by itself, without a gap or a repeat, and ends only when the chat is deleted.

        Args:
            chat_id: The chat.
            cursor: The id of the last event that is known; the stream goes on after it. Without
                one it begins with a snapshot.
            snapshot: False begins with the next event instead.
            deltas: False leaves out what streams before it is stored.
            types: Only events of these names.
            on_interruption: Told when the connection is lost, and how long until the next try.

        Raises:
            ApiProblem: The API refuses: no such chat, or no valid token any more.
        """
        query = {
            "snapshot": None if snapshot else "false",
            "deltas": None if deltas else "false",
            "types": None if types is None else ",".join(types),
        }
        request = self._exchange.request("GET", f"/chats/{chat_id}/events", query)
        return follow(self._exchange.http, request, cursor=cursor, on_interruption=on_interruption)
