"""The public API as typed calls."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self
from urllib.parse import quote

from steersman.client.chat_calls import ChatCalls
from steersman.client.desktop_calls import DesktopCalls
from steersman.client.exchange import Exchange
from steersman.client.file_calls import FileCalls
from steersman.client.library_calls import LibraryCalls
from steersman.client.list_reducer import ChatsView
from steersman.client.mcp_calls import McpCalls
from steersman.client.problems import ApiProblem
from steersman.client.prompt_calls import PromptCalls
from steersman.client.rule_calls import RuleCalls
from steersman.client.stream import Interruption, Listed, Received, follow, follow_chats
from steersman.client.workspace_calls import WorkspaceCalls
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import JsonObject
from steersman_contracts.rest import (
    CreateUserBody,
    Me,
    Models,
    PatchModelBody,
    PatchProviderBody,
    PatchUserBody,
    PluginSettingsBody,
    Providers,
    PutModelBody,
    PutProviderBody,
    SecretBody,
    Users,
    Version,
)
from steersman_contracts.rpc.models import Model, Provider
from steersman_contracts.rpc.providers import ServedModels
from steersman_contracts.rpc.tools import Catalog, PluginList, PluginReport
from steersman_contracts.rpc.usage import UsageReport
from steersman_contracts.rpc.users import Account, SignIn


class Client(
    ChatCalls,
    LibraryCalls,
    RuleCalls,
    FileCalls,
    DesktopCalls,
    WorkspaceCalls,
    McpCalls,
    PromptCalls,
):
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
        super().__init__(Exchange(url, token, patience_s=patience_s, verify=verify))
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

    # -- models ----------------------------------------------------------------------------------

    async def list_models(self) -> tuple[Model, ...]:
        """All models, by name; `availability` says which can be used."""
        return (await self._exchange.get("/models", Models)).models

    async def put_model(self, body: PutModelBody) -> Model:
        """Add a model to a provider, or replace it. Admins only."""
        return await self._exchange.call("PUT", "/models", Model, body, repeatable=True)

    async def patch_model(self, name: str, body: PatchModelBody) -> Model:
        """Change what is named in a model. Admins only."""
        return await self._exchange.call("PATCH", f"/models/{_quoted(name)}", Model, body)

    async def delete_model(self, name: str) -> None:
        """Remove a model. Admins only."""
        await self._exchange.delete(f"/models/{_quoted(name)}")

    async def refresh_prices(self) -> tuple[Model, ...]:
        """Look up prices anew; the models whose prices have changed. Admins only."""
        return (await self._exchange.call("POST", "/prices", Models, repeatable=True)).models

    async def list_providers(self) -> tuple[Provider, ...]:
        """All providers, never with their keys."""
        return (await self._exchange.get("/providers", Providers)).providers

    async def put_provider(self, provider_id: str, body: PutProviderBody) -> Provider:
        """Add a provider, or replace it. Admins only."""
        path = f"/providers/{provider_id}"
        return await self._exchange.call("PUT", path, Provider, body, repeatable=True)

    async def patch_provider(self, provider_id: str, body: PatchProviderBody) -> Provider:
        """Change what is named in a provider. Admins only."""
        return await self._exchange.call("PATCH", f"/providers/{provider_id}", Provider, body)

    async def list_served(self, provider_id: str) -> ServedModels:
        """Which models a provider itself lists. Admins only."""
        return await self._exchange.get(f"/providers/{provider_id}/models", ServedModels)

    async def delete_provider(self, provider_id: str) -> None:
        """Remove a provider and its models. Admins only."""
        await self._exchange.delete(f"/providers/{provider_id}")

    # -- usage and people ------------------------------------------------------------------------

    async def usage(self, *, group_by: str = "day", **query: str | int | None) -> UsageReport:
        """What was used and what it cost; own chats, or everybody's for an admin."""
        return await self._exchange.get("/usage", UsageReport, group_by=group_by, **query)

    async def create_user(self, body: CreateUserBody) -> SignIn:
        """Add a person; the answer holds a sign-in code. Admins only."""
        return await self._exchange.call("POST", "/users", SignIn, body)

    async def list_users(self) -> tuple[Account, ...]:
        """Everybody. Admins only."""
        return (await self._exchange.get("/users", Users)).users

    async def patch_user(self, user_id: str, body: PatchUserBody) -> Account:
        """Disable a person or change the role. Admins only."""
        return await self._exchange.call("PATCH", f"/users/{user_id}", Account, body)

    async def new_sign_in(self, user_id: str) -> SignIn:
        """Make a new sign-in link for a person. Admins only."""
        return await self._exchange.call("POST", f"/users/{user_id}/sign-in", SignIn)

    # -- plugins ---------------------------------------------------------------------------------

    async def list_plugins(self) -> tuple[PluginReport, ...]:
        """Every plugin and tool host that was found. Admins only."""
        return (await self._exchange.get("/plugins", PluginList)).plugins

    async def put_plugin_settings(self, plugin: str, settings: JsonObject) -> None:
        """Replace the stored settings of a plugin; it reads them when it is loaded. Admins only."""
        await self._exchange.put(f"/plugins/{plugin}/settings", PluginSettingsBody(settings))

    async def put_plugin_secret(self, plugin: str, key: str, value: str) -> None:
        """Store a secret of a plugin; it is never shown again. Admins only."""
        await self._exchange.put(f"/plugins/{plugin}/secrets/{key}", SecretBody(value))

    async def delete_plugin_secret(self, plugin: str, key: str) -> None:
        """Forget a secret of a plugin. Admins only."""
        await self._exchange.delete(f"/plugins/{plugin}/secrets/{key}")

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

    def all_events(
        self,
        *,
        cursor: str | None = None,
        snapshot: bool = True,
        types: tuple[str, ...] | None = None,
        on_interruption: Callable[[Interruption], None] | None = None,
    ) -> AsyncGenerator[Listed]:
        """What changes the list of all chats, without end; close the generator to stop.

        Connects again by itself as `events` does.

        Args:
            cursor: The id of the last event that is known; the stream goes on after it. Without
                one it begins with the first page of chats.
            snapshot: False begins with the next event instead.
            types: Only events of these names.
            on_interruption: Told when the connection is lost, and how long until the next try.

        Raises:
            ApiProblem: The API refuses: no valid token any more.
        """
        query = {
            "snapshot": None if snapshot else "false",
            "types": None if types is None else ",".join(types),
        }
        request = self._exchange.request("GET", "/events", query)
        return follow_chats(
            self._exchange.http, request, cursor=cursor, on_interruption=on_interruption
        )

    async def watch_chats(
        self, *, on_interruption: Callable[[Interruption], None] | None = None
    ) -> AsyncGenerator[ChatsView]:
        """The list of all chats, each time that it has changed; always the same object.

        Chats that are not on the first page are read as soon as something happens to them.
        """
        view = ChatsView()
        async with aclosing(self.all_events(on_interruption=on_interruption)) as events:
            async for received in events:
                view.apply(received.event)
                for chat_id in sorted(view.unknown):
                    try:
                        view.put(await self.get_chat(chat_id))
                    except ApiProblem as error:
                        if error.code != "not_found":
                            raise
                        view.forget(chat_id)  # deleted meanwhile
                yield view


def _quoted(name: str) -> str:
    """A model name in an address: its slashes stay."""
    return quote(name, safe="/")
