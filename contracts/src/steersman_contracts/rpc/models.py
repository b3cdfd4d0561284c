"""Providers and models: where answers come from."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.ids import ModelName, ProviderId, Slug
from steersman_contracts.rpc import Actor, Method, Nothing

ProviderType: TypeAlias = Literal["anthropic", "openai-responses", "openai-chat", "google", "demo"]
"""The wire format: `openai-chat` is any compatible server by its base URL."""

ModelId = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f]+$")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class Provider(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place that serves models, as clients see it: never with its key."""

    id: ProviderId
    type: ProviderType
    display_name: str
    base_url: str | None
    has_key: bool
    enabled: bool
    preset: bool = False
    """Made from the environment at start, and gone when the environment no longer names it."""


class Model(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model of a provider."""

    name: ModelName
    provider_id: ProviderId
    model_id: str
    display_name: str
    enabled: bool
    is_default: bool = False
    context_limit: int | None = None
    """Tokens that fit, prompt and answer together; None when unknown."""
    max_output_tokens: int = 32_000
    tools: bool = True
    """Whether tools are offered to it; very small models only stumble over them."""


class ListModels(msgspec.Struct, frozen=True):
    """All enabled models of enabled providers."""

    actor: Actor


class ModelList(msgspec.Struct, frozen=True):
    """Ordered by name."""

    models: tuple[Model, ...]


class ListProviders(msgspec.Struct, frozen=True):
    """All providers."""

    actor: Actor


class ProviderList(msgspec.Struct, frozen=True):
    """Ordered by id."""

    providers: tuple[Provider, ...]


class PutProvider(msgspec.Struct, frozen=True):
    """Create a provider, or replace the one of that id. Admins only."""

    actor: Actor
    id: Slug
    type: ProviderType
    display_name: Name
    base_url: str | None = None
    api_key: str | None = None
    """None keeps the stored key."""
    enabled: bool = True


class DeleteProvider(msgspec.Struct, frozen=True):
    """Remove a provider and its models. Chats keep their history. Admins only."""

    actor: Actor
    id: Slug


class PutModel(msgspec.Struct, frozen=True):
    """Create a model of a provider, or replace the one of that id. Admins only."""

    actor: Actor
    provider_id: Slug
    model_id: ModelId
    display_name: str = ""
    context_limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 32_000
    enabled: bool = True
    tools: bool = True
    make_default: bool = False


class ProviderReply(msgspec.Struct, frozen=True):
    """The provider after the change."""

    provider: Provider


class ModelReply(msgspec.Struct, frozen=True):
    """The model after the change."""

    model: Model


LIST_MODELS: Final = Method("store", "models.list", ListModels, ModelList, safe=True)
LIST_PROVIDERS: Final = Method(
    "store", "models.list_providers", ListProviders, ProviderList, safe=True
)
PUT_PROVIDER: Final = Method("store", "models.put_provider", PutProvider, ProviderReply, safe=True)
DELETE_PROVIDER: Final = Method("store", "models.delete_provider", DeleteProvider, Nothing)
PUT_MODEL: Final = Method("store", "models.put_model", PutModel, ModelReply, safe=True)
