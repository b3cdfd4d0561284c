"""Providers and their models over REST."""

from __future__ import annotations

import re
from typing import Annotated

from litestar import Controller, delete, get, post, put
from litestar.params import JSONBody, PathParameter

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import SLUG_PATTERN
from steersman_contracts.rest import Models, Providers, PutModelBody, PutProviderBody
from steersman_contracts.rpc import models as rpc
from steersman_gateway.auth import CurrentActor, requires_admin
from steersman_gateway.backend import Services
from steersman_gateway.problems import invalid

ProviderIdText = Annotated[str, PathParameter(description="A short name, such as `anthropic`.")]


class ModelController(Controller):
    """What can answer."""

    path = "/models"
    tags = ("Models",)

    @get("/", operation_id="listModels", summary="List models")
    async def list_models(self, actor: CurrentActor, backend: Services) -> Models:
        """Enabled models of enabled providers, by name."""
        return Models((await backend.call(rpc.LIST_MODELS, rpc.ListModels(actor))).models)

    @post(
        "/",
        operation_id="putModel",
        summary="Add or replace a model",
        status_code=200,
        guards=[requires_admin],
    )
    async def put_model(
        self, data: JSONBody[PutModelBody], actor: CurrentActor, backend: Services
    ) -> rpc.Model:
        """Add a model to a provider, or replace the one of that id. Admins only."""
        request = rpc.PutModel(
            actor,
            provider_id=data.provider_id,
            model_id=data.model_id,
            display_name=data.display_name,
            context_limit=data.context_limit,
            max_output_tokens=data.max_output_tokens,
            enabled=data.enabled,
            tools=data.tools,
            make_default=data.make_default,
        )
        return (await backend.call(rpc.PUT_MODEL, request)).model


class ProviderController(Controller):
    """Where models are served."""

    path = "/providers"
    tags = ("Models",)

    @get("/", operation_id="listProviders", summary="List providers")
    async def list_providers(self, actor: CurrentActor, backend: Services) -> Providers:
        """All providers, never with their keys."""
        reply = await backend.call(rpc.LIST_PROVIDERS, rpc.ListProviders(actor))
        return Providers(reply.providers)

    @put(
        "/{provider_id:str}",
        operation_id="putProvider",
        summary="Add or replace a provider",
        guards=[requires_admin],
    )
    async def put_provider(
        self,
        provider_id: ProviderIdText,
        data: JSONBody[PutProviderBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.Provider:
        """Add a provider, or replace the one of that id. Without `api_key` the stored key stays."""
        if not re.fullmatch(SLUG_PATTERN, provider_id):
            raise invalid("provider_id", "1 to 63 of a-z, 0-9, `_` and `-`")
        request = rpc.PutProvider(
            actor,
            id=provider_id,
            type=data.type,
            display_name=data.display_name or provider_id,
            base_url=data.base_url,
            api_key=data.api_key,
            enabled=data.enabled,
        )
        return (await backend.call(rpc.PUT_PROVIDER, request)).provider

    @delete(
        "/{provider_id:str}",
        operation_id="deleteProvider",
        summary="Delete a provider",
        guards=[requires_admin],
    )
    async def delete_provider(
        self, provider_id: ProviderIdText, actor: CurrentActor, backend: Services
    ) -> None:
        """Remove a provider and its models. Chats keep their history. Admins only."""
        if not re.fullmatch(SLUG_PATTERN, provider_id):
            raise NotFound("there is no such provider")
        await backend.call(rpc.DELETE_PROVIDER, rpc.DeleteProvider(actor, provider_id))
