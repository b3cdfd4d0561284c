"""Providers and their models over REST."""

from __future__ import annotations

import re
from typing import Annotated

from litestar import Controller, delete, get, patch, post, put
from litestar.params import JSONBody, PathParameter

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import SLUG_PATTERN, ModelName
from steersman_contracts.rest import (
    Models,
    PatchModelBody,
    PatchProviderBody,
    Providers,
    PutModelBody,
    PutProviderBody,
)
from steersman_contracts.rpc import models as rpc
from steersman_contracts.rpc.providers import LIST_SERVED_MODELS, ListServedModels, ServedModels
from steersman_gateway.auth import CurrentActor, requires_admin
from steersman_gateway.backend import Services
from steersman_gateway.problems import invalid

ProviderIdText = Annotated[str, PathParameter(description="A short name, such as `anthropic`.")]
ModelIdText = Annotated[
    str, PathParameter(description="The model id at the provider; it may hold slashes.")
]


def _model_name(provider_id: str, model_id: str) -> ModelName:
    # A parameter of the type `path` comes with the slash before it.
    model_id = model_id.removeprefix("/")
    if not re.fullmatch(SLUG_PATTERN, provider_id) or not 0 < len(model_id) <= 200:
        raise NotFound("there is no such model")
    return ModelName(f"{provider_id}/{model_id}")


class ModelController(Controller):
    """What can answer."""

    path = "/models"
    tags = ("Models",)

    @get("/", operation_id="listModels", summary="List models")
    async def list_models(self, actor: CurrentActor, backend: Services) -> Models:
        """All models, by name. `availability` says which can be used, `reason` why not."""
        return Models((await backend.call(rpc.LIST_MODELS, rpc.ListModels(actor))).models)

    @put(
        "/",
        operation_id="putModel",
        summary="Add or replace a model",
        guards=[requires_admin],
    )
    async def put_model(
        self, data: JSONBody[PutModelBody], actor: CurrentActor, backend: Services
    ) -> rpc.Model:
        """Add a model to a provider, or replace it with all that is not named. Admins only."""
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
            settings=data.settings,
            version=data.version,
        )
        return (await backend.call(rpc.PUT_MODEL, request)).model

    @patch(
        "/{provider_id:str}/{model_id:path}",
        operation_id="updateModel",
        summary="Change a model",
        guards=[requires_admin],
    )
    async def update_model(
        self,
        provider_id: ProviderIdText,
        model_id: ModelIdText,
        data: JSONBody[PatchModelBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.Model:
        """Change what is named and leave the rest; `settings` are merged. Admins only."""
        request = rpc.PatchModel(
            actor,
            _model_name(provider_id, model_id),
            display_name=data.display_name,
            context_limit=data.context_limit,
            max_output_tokens=data.max_output_tokens,
            enabled=data.enabled,
            tools=data.tools,
            make_default=data.make_default,
            settings=data.settings,
            version=data.version,
        )
        return (await backend.call(rpc.PATCH_MODEL, request)).model

    @delete(
        "/{provider_id:str}/{model_id:path}",
        operation_id="deleteModel",
        summary="Delete a model",
        guards=[requires_admin],
    )
    async def delete_model(
        self,
        provider_id: ProviderIdText,
        model_id: ModelIdText,
        actor: CurrentActor,
        backend: Services,
    ) -> None:
        """Remove a model. Its chats go on with the default at their next turn. Admins only."""
        name = _model_name(provider_id, model_id)
        await backend.call(rpc.DELETE_MODEL, rpc.DeleteModel(actor, name))


@post(
    "/prices",
    operation_id="refreshPrices",
    summary="Look up prices anew",
    status_code=200,
    tags=["Models"],
    guards=[requires_admin],
)
async def refresh_prices(actor: CurrentActor, backend: Services) -> Models:
    """Look up the prices of all models but those that an admin has set; answers what changed."""
    return Models((await backend.call(rpc.REFRESH_PRICES, rpc.RefreshPrices(actor))).models)


class ProviderController(Controller):
    """Where models are served."""

    path = "/providers"
    tags = ("Models",)

    @get("/", operation_id="listProviders", summary="List providers")
    async def list_providers(self, actor: CurrentActor, backend: Services) -> Providers:
        """All providers, never with their keys and the values of their headers."""
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
            headers=data.headers,
            version=data.version,
            region=data.region,
            project=data.project,
        )
        return (await backend.call(rpc.PUT_PROVIDER, request)).provider

    @patch(
        "/{provider_id:str}",
        operation_id="updateProvider",
        summary="Change a provider",
        guards=[requires_admin],
    )
    async def update_provider(
        self,
        provider_id: ProviderIdText,
        data: JSONBody[PatchProviderBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.Provider:
        """Change what is named and leave the rest. Admins only."""
        request = rpc.PatchProvider(
            actor,
            _known(provider_id),
            type=data.type,
            display_name=data.display_name,
            base_url=data.base_url,
            api_key=data.api_key,
            enabled=data.enabled,
            headers=data.headers,
            version=data.version,
            region=data.region,
            project=data.project,
        )
        return (await backend.call(rpc.PATCH_PROVIDER, request)).provider

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
        await backend.call(rpc.DELETE_PROVIDER, rpc.DeleteProvider(actor, _known(provider_id)))

    @get(
        "/{provider_id:str}/models",
        operation_id="listServedModels",
        summary="Ask a provider for its models",
        guards=[requires_admin],
    )
    async def list_served(
        self, provider_id: ProviderIdText, actor: CurrentActor, backend: Services
    ) -> ServedModels:
        """What the provider itself lists, with its limits where it says them. Admins only."""
        request = ListServedModels(actor, _known(provider_id))
        return await backend.call(LIST_SERVED_MODELS, request)


def _known(provider_id: str) -> str:
    if not re.fullmatch(SLUG_PATTERN, provider_id):
        raise NotFound("there is no such provider")
    return provider_id
